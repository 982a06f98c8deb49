"""Monthly usage for billing, read from the most suitable store of each region."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, Self

from metering.adapters import folders
from metering.adapters.aws import log_buckets, runtime, session
from metering.adapters.aws.objects import S3ObjectStore
from metering.billing.budgets.open_months import KeptPositions, read_positions
from metering.billing.invoices import composing, issuing
from metering.billing.invoices.credits import Crediting, Verification
from metering.billing.invoices.document import InvoiceStore
from metering.billing.invoices.inputs import RateShelf, UsageSource
from metering.billing.invoices.planning import Planner
from metering.billing.organization import OrganizationStore
from metering.billing.owners import OwnerStore
from metering.billing.prices.store import AllBooks, OverrideStore, PriceStore
from metering.billing.usage import months
from metering.errors import UnavailableError
from metering.hours import month_bounds_s
from metering.ledger.periods import read_frozen_month
from metering.ledger.usage.region import complete_since_s
from metering.reports.exports.destination import Destination
from metering.reports.source import naming
from metering.rollup.as_of_now import RegionIncompleteError, TooMuchWaitsError
from metering.stores.clock import Retrier
from metering.wiring.reports import few_accounts, usage_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from metering.billing.payers import Organization
    from metering.billing.usage.stored_months import LakeMonth
    from metering.stores.objects import ObjectStore
    from metering.wiring.region import RegionPorts
    from metering.wiring.reports import UsageStores


_ATTEMPTS = 5


class StageUsage:
    """Usage of a stage, by month. A month is read once and cached. Close it. Mutable.

    Args:
        regions: Every region that holds data of the stage.
        accounts: Accounts to which reads of open months are limited; empty for all accounts.
        left_out: Regions that cannot be read now, each with the reason.
        on_hour: Called with the region, the number of hours read of an open month, and their total.
    """

    def __init__(
        self,
        regions: Sequence[UsageStores],
        *,
        accounts: frozenset[str] = frozenset(),
        left_out: Mapping[str, str] | None = None,
        on_hour: months.HoursDone = lambda _region, _done, _of: None,
    ) -> None:
        self.left_out: Mapping[str, str] = left_out or {}
        self._stores = regions
        self._accounts = accounts
        self._on_hour = on_hour
        self._read: dict[str, tuple[months.RegionMonth, ...]] = {}
        self._stack = ExitStack()

    @property
    def regions(self) -> tuple[str, ...]:
        """Every region that holds data of the stage, in sorted order."""
        return tuple(sorted({*(each.region for each in self._stores), *self.left_out}))

    def month(self, month: str) -> Sequence[months.RegionMonth]:
        """The given month of each region that can be read.

        Raises:
            UnavailableError: A region does not respond; the error names the region.
        """
        if month not in self._read:
            read: list[months.RegionMonth] = []
            for region in self._stores:
                with naming(region.region):
                    read.append(self._region_month(region, month))
            self._read[month] = tuple(read)
        return self._read[month]

    def damages(self, month: str) -> Iterator[str]:
        """Differences between a closed month and its frozen state, by object. Reads all objects of the month."""
        from metering.billing.freezing import frozen_damages
        from metering.lake.parquet.frozen_months import ParquetFrozenFiles

        for region in self._stores:
            with naming(region.region):
                frozen = read_frozen_month(region.items, region.objects, month)
                if frozen is not None:
                    for problem in frozen_damages(ParquetFrozenFiles(region.objects), frozen):
                        yield f"{region.region}: {problem}"

    def close(self) -> None:
        """Remove temporary files of open months."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _region_month(self, region: UsageStores, month: str) -> months.RegionMonth:
        # Importing pyarrow is slow, and a report about one account in an open month does not need it.
        frozen = read_frozen_month(region.items, region.objects, month)
        if frozen is not None:
            from metering.billing.usage.stored_months import ClosedMonth
            from metering.lake.parquet.frozen_months import ParquetFrozenFiles

            return ClosedMonth(region=region.region, frozen=frozen, reader=ParquetFrozenFiles(region.objects))
        accounts = self._accounts
        if 0 < len(accounts) <= months.FEW_ACCOUNTS:
            return months.TableMonth.read(region.items, region=region.region, month=month, accounts=accounts)
        from metering.billing.usage.stored_months import LakeMonth
        from metering.lake.parquet.reader import ParquetTotals

        name = region.region
        if not accounts and (found := _of_all_accounts(region, month)) is not None:
            return self._stack.enter_context(closing(found))
        read = LakeMonth.read(
            region.view, region=name, month=month, accounts=accounts,
            totals=ParquetTotals(region.objects, region.view.reader),
            on_hour=lambda done, of: self._on_hour(name, done, of),
        )  # fmt: skip
        return self._stack.enter_context(closing(read))


def _of_all_accounts(region: UsageStores, month: str) -> LakeMonth | None:
    """An open month from the usage items of all accounts, as of now; None if rows have to be read (P53)."""
    from metering.billing.usage.stored_months import LakeMonth

    first_s, after_s = month_bounds_s(month)
    if complete_since_s(region.items, region.view.shards) > first_s:
        return None
    if not few_accounts(region.items):
        return None
    now = replace(usage_now(region), attempts=_ATTEMPTS)
    try:
        usage = now.entries(None, [month], from_s=first_s, to_s=after_s)
    except (RegionIncompleteError, TooMuchWaitsError, UnavailableError):
        # A release that knows no directory is at work, the roll-up is behind, or it was at work during every look.
        return None
    return LakeMonth.of_usage(usage, region=region.region, month=month)


@contextmanager
def month_usage(
    regions: Sequence[UsageStores], month: str, organization: Organization, *, accounts: frozenset[str] = frozenset()
) -> Iterator[months.MonthUsage]:
    """Usage of one month (`2026-11`) in all regions of a stage: current usage or, for a closed month, frozen usage.

    Only usage of `accounts` is included; if empty, of all accounts.

    Raises:
        UnavailableError: A region does not respond; the error names the region.
    """
    with StageUsage(regions, accounts=accounts) as usage:
        yield months.MonthUsage(regions=usage.month(month), month=month, organization=organization)


class WithObjects(Protocol):
    """A region whose bucket can be read."""

    @property
    def objects(self) -> ObjectStore: ...


def build_prices(home: WithObjects) -> PriceStore:
    """Build the store of the home region's price books."""
    return PriceStore(home.objects)


def build_overrides(home: WithObjects) -> OverrideStore:
    """Build the store of the home region's overrides."""
    return OverrideStore(home.objects)


def build_organization(home: WithObjects) -> OrganizationStore:
    """Build the store of the home region's payers and accounts."""
    return OrganizationStore(home.objects)


def build_owners(home: WithObjects) -> OwnerStore:
    """Build the store of the home region's books of owners."""
    return OwnerStore(home.objects)


def build_shelf(home: WithObjects) -> RateShelf:
    """Build the shelf of the home region's price books, overrides and payers."""
    return RateShelf(
        books=AllBooks(imported=build_prices(home)),
        overrides=build_overrides(home),
        organizations=build_organization(home),
    )


def build_planner(home: WithObjects, usage: UsageSource, shelf: RateShelf) -> Planner:
    """Build the planner that finds the rates for a month."""
    return Planner(store=InvoiceStore(home.objects), composer=composing.Composer(usage=usage, shelf=shelf))


def kept_positions(objects: ObjectStore) -> Callable[[str, str], KeptPositions | None]:
    """Build a function that reads the positions stored by the biller in the home region, by month and payer."""
    return lambda month, payer_id: read_positions(objects, month, payer_id)


def build_issuer(home: RegionPorts, usage: UsageSource) -> issuing.Issuer:
    """Build the issuer, which makes drafts and issues invoices."""
    clock = runtime.SystemClock()
    composer, store = composing.Composer(usage=usage, shelf=build_shelf(home)), InvoiceStore(home.objects)
    return issuing.Issuer(
        store=store,
        items=home.items,
        composer=composer,
        planner=Planner(store=store, composer=composer),
        clock=clock,
        retrier=Retrier(clock=clock, entropy=runtime.SystemEntropy(), attempts=_ATTEMPTS),
    )


def build_verification(issuer: issuing.Issuer) -> Verification:
    """Build the verification, which rebuilds documents to verify them."""
    return Verification(issuer=issuer, crediting=Crediting(issuer=issuer))


def folder_destination(folder: Path) -> Destination:
    """Use a folder as an export's target; create it if absent.

    Raises:
        OSError: The folder cannot be created, or is a file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return Destination(objects=folders.FolderLogStore(folder), prefix="", name=str(folder))


def bucket_destination(
    bucket: str, prefix: str, environ: Mapping[str, str], *, region: str, endpoint: str | None
) -> Destination:
    """Use a bucket's prefix as an export's target, with the environment's credentials; `/` is appended to the prefix.

    A call to S3 in `region` finds the bucket's region.

    Raises:
        OperationFailedError: The bucket does not exist, or the caller may not list it.
    """
    folder = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    client = session.Clients.from_env(environ, region=region, endpoint_url=endpoint).s3
    # The errors of a log store explain in words what is wrong with a bucket, whoever owns it.
    next(iter(log_buckets.S3LogStore(client, bucket).list(folder)), None)
    return Destination(objects=S3ObjectStore(client, bucket), prefix=folder, name=f"s3://{bucket}/{folder}")
