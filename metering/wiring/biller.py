"""Builds a region's biller and, for a biller in the home region, its reads of other regions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from metering.adapters.aws import objects, session
from metering.adapters.aws.errors import refusals_explained
from metering.billing import organization
from metering.billing.bill_export import BillCheck, decode_exports
from metering.billing.budgets import budget
from metering.billing.budgets.biller import Biller, Home
from metering.billing.budgets.open_months import OpenMonths, ReadRegion, Terms, read_regions
from metering.billing.causes.keeper import CauseKeeper
from metering.billing.day_sums.keeper import DaySumKeeper
from metering.billing.day_sums.now import sums_now
from metering.billing.owners import OwnerStore
from metering.billing.prices.store import OverrideStore, PriceStore
from metering.errors import SettingsError, UnavailableError
from metering.fleet.regions import LedgerRegionStates
from metering.lake.parquet.reader import ParquetLakeReader, ParquetTotals
from metering.ledger.format_version import generations_of
from metering.ledger.notes import watch
from metering.onramps.context.store import ContextStore
from metering.reports.source import naming
from metering.rollup.as_of_now import RegionIncompleteError, TooMuchWaitsError
from metering.settings import BillerSettings
from metering.stores.writes import read_note
from metering.wiring.answers.pages import report_maker
from metering.wiring.region import FunctionParts, JobParts, Stage
from metering.wiring.reports import MOST_ACCOUNTS, few_accounts, usage_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from metering.billing.day_sums.index import DayIndex
    from metering.reports.saved import ReportMaker
    from metering.stores.objects import ObjectStore
    from metering.stores.writes import ItemStore
    from metering.wiring import lake
    from metering.wiring.connection import RegionConnection


@dataclass(frozen=True)
class BillerParts(JobParts):
    """Ports and settings of the biller's function."""

    reads = BillerSettings
    names: BillerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class BillerWork:
    """Jobs of the biller's function: the biller itself, comparisons with AWS's own bill, reports of saved questions."""

    biller: Biller
    bills: Sequence[BillCheck] = ()
    reports: ReportMaker | None = None


PRICE_BOOK = "aws-list"
"""Name of the price book that budgets are judged by."""


@dataclass(frozen=True)
class BucketSums:
    """A `RegionSums` in a region's bucket; the bucket is looked up on first use.

    Attributes:
        items: The region's ledger; None in a function of another region, which may only read the bucket.
    """

    region: str
    reach: Callable[[], ObjectStore]
    items: Callable[[], ItemStore] | None = None

    def is_current(self, index: DayIndex) -> bool:
        return self.items is None or not index.number or index.is_of(generations_of(self.items()))

    @cached_property
    def objects(self) -> ObjectStore:
        """The bucket.

        Raises:
            UnavailableError: The region does not answer, or the stage is no longer deployed there.
        """
        try:
            return self.reach()
        except SettingsError as error:
            raise UnavailableError("cloudformation.DescribeStacks", str(error), may_have_applied=False) from error

    @property
    def totals(self) -> ParquetTotals:
        return ParquetTotals(self.objects, ParquetLakeReader(self.objects))


def build_work(parts: BillerParts) -> BillerWork:
    """Build the jobs of a function.

    Raises:
        SettingsError: The exports of the settings cannot be read.
    """
    try:
        exports = decode_exports(parts.names.bill_exports)
    except (TypeError, ValueError) as error:
        raise SettingsError([f"METERING_BILL_EXPORTS: {error}"]) from error
    bills = [
        BillCheck(
            export=export,
            bucket=objects.S3ObjectStore(session.in_region(parts.clients, export.region).s3, export.bucket),
            items=parts.items,
            regions=lambda: read_regions(_regions(parts)),
            explained=refusals_explained,
            clock=parts.clock,
        )
        for export in exports
    ]
    maker = report_maker(parts, parts.alerts, bucket=parts.names.data_bucket)
    return BillerWork(biller=build_biller(parts), bills=bills, reports=maker)


def build_biller(parts: FunctionParts) -> Biller:
    """Build the biller of a function.

    No setting states which region is the home region. Only the home region has budgets, prices and region states; a
    biller elsewhere checks no budgets.
    """
    return _biller(parts, lambda: _regions(parts))


def _biller(parts: FunctionParts | RegionConnection, regions: Callable[[], Iterable[BucketSums]] | None) -> Biller:
    home = None
    if regions is not None:
        terms = partial(read_terms, parts.objects)
        home = Home(objects=parts.objects, alerts=parts.alerts, regions=regions, terms=terms)
    return Biller(
        items=parts.items,
        keeper=build_keeper(parts),
        causes=build_cause_keeper(parts),
        clock=parts.clock,
        stage=parts.settings.stage,
        region=parts.region,
        home=home,
    )


def build_keeper(ports: lake.ServicePorts | lake.ReadableRegion) -> DaySumKeeper:
    """Build the keeper of a region's day sums."""
    return DaySumKeeper(
        items=ports.items,
        objects=ports.objects,
        totals=ParquetTotals(ports.objects, ParquetLakeReader(ports.objects)),
        clock=ports.clock,
        shards=ports.settings.shards,
    )


def build_cause_keeper(ports: FunctionParts | lake.ReadableRegion) -> CauseKeeper:
    """Build the keeper of a region's causes."""
    return CauseKeeper(
        sums=build_keeper(ports),
        objects=ports.objects,
        lake=ParquetLakeReader(ports.objects),
        contexts=ContextStore(ports.objects),
        owners=lambda: max(OwnerStore(ports.objects).versions(), default=0),
    )


def read_terms(home: ObjectStore) -> Terms:
    """Read the newest prices and payers.

    Raises:
        ObjectDamagedError: A document is malformed.
    """
    return Terms(
        book=PriceStore(home).newest(PRICE_BOOK),
        overrides=OverrideStore(home).newest(),
        organization=organization.OrganizationStore(home).newest(),
        owners=OwnerStore(home).newest(),
    )


def _regions(parts: FunctionParts) -> Iterable[BucketSums]:
    stage = Stage(
        home=parts.region,
        connect=lambda region: BucketSums(
            region, partial(parts.objects_in, region), (lambda: parts.items) if region == parts.region else None
        ),
        states=LedgerRegionStates(lambda: parts.items),
    )
    return map(stage.connect, stage.holding_data)


def connected_sums(region: lake.ReadableRegion) -> BucketSums:
    """Day sums of a region to which a command is connected."""
    return BucketSums(region.region, lambda: region.objects, lambda: region.items)


def connected_months(
    home: lake.ReadableRegion,
    regions: Sequence[lake.ReadableRegion],
    budgets: Sequence[budget.Budget],
    *,
    most_accounts: int = MOST_ACCOUNTS,
) -> OpenMonths:
    """Figures for a question about budgets: day sums as of now or, of a region with too much to read, of its biller.

    Args:
        home: The home region.
        regions: All regions of the stage.
        budgets: Budgets that the figures are for.
        most_accounts: A region with more accounts is answered from what its biller last stored.

    Raises:
        UnavailableError: A region does not respond.
    """
    found, left_out = read_regions(map(connected_sums, regions))
    if left_out:
        raise UnavailableError("s3.GetObject", f"no day sums of {', '.join(left_out)}", may_have_applied=False)
    now = [_as_of_now(region, read, most_accounts) for region, read in zip(regions, found, strict=True)]
    return OpenMonths(objects=home.objects, regions=now, terms=read_terms(home.objects), budgets=budgets)


def _as_of_now(region: lake.ReadableRegion, read: ReadRegion, most_accounts: int) -> ReadRegion:
    keeper = build_keeper(region)
    now_s = region.clock.now_ms() // 1_000
    through = read_note(region.items, watch.COMPLETENESS_KEY, watch.Completeness.from_item)
    with naming(region.region):
        index = read.index if read.index.number else keeper.begun()
        if (lacking := keeper.days_lacking(index)) is None or not few_accounts(region.items, most_accounts):
            return read
        try:
            now = sums_now(
                index,
                lacking,
                read.sums.totals,
                usage_now(region, region.kind_names),
                now_s=now_s,
                through_s=0 if through is None else through.through_s,
            )
        except (RegionIncompleteError, TooMuchWaitsError):
            return read
    return replace(read, index=now.index, now=now)


def connected_biller(region: RegionConnection, at_home: Sequence[RegionConnection]) -> Biller:
    """Build a region's biller for a command.

    For the home region, `at_home` has all regions of the stage; for any other region, `at_home` is empty.
    """
    return _biller(region, (lambda: map(connected_sums, at_home)) if at_home else None)


def build_budgets(home: lake.ReadableRegion) -> budget.BudgetStore:
    """Budgets of the stage."""
    return budget.BudgetStore(items=home.items, clock=home.clock)
