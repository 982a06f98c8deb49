"""Usage of months as money needs it: each region's from where it can be read best."""

from __future__ import annotations

from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Protocol, Self

from metering.billing.usage.months import MonthUsage
from metering.billing.usage.table_month import TableMonth
from metering.ledger.frozen_months import read_frozen_month
from metering.reports.source import naming

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from metering.billing.organization.payers import Organization
    from metering.billing.usage.ports import HoursDone, RegionMonth
    from metering.lake.view import LakeView
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore

# Of so few accounts, one partition each of the usage table is read; of more, the lake.
FEW_ACCOUNTS = 200


class UsageStores(Protocol):
    """Where a region's usage is: a connection, a report's source, a function's parts."""

    @property
    def region(self) -> str: ...
    @property
    def items(self) -> ItemStore: ...
    @property
    def objects(self) -> ObjectStore: ...
    @property
    def view(self) -> LakeView: ...


class StageUsage:
    """Usage of every month of a stage. A month is read once: asked again, it is what it was. Close it. Mutable.

    Args:
        regions: Every region that holds data of the stage.
        accounts: Read only these accounts of open months, which is much less; none: all.
        left_out: Regions that cannot be read now, and why.
        on_hour: Told the region, how many hours of an open month are read, and how many there are.
    """

    def __init__(
        self,
        regions: Sequence[UsageStores],
        *,
        accounts: frozenset[str] = frozenset(),
        left_out: Mapping[str, str] | None = None,
        on_hour: HoursDone = lambda _region, _done, _of: None,
    ) -> None:
        self.left_out: Mapping[str, str] = left_out or {}
        self._stores = regions
        self._accounts = accounts
        self._on_hour = on_hour
        self._read: dict[str, tuple[RegionMonth, ...]] = {}
        self._stack = ExitStack()

    @property
    def regions(self) -> tuple[str, ...]:
        """Every region that holds data of the stage, sorted."""
        return tuple(sorted({*(each.region for each in self._stores), *self.left_out}))

    def month(self, month: str) -> Sequence[RegionMonth]:
        """One month of each region that can be read.

        Raises:
            UnavailableError: A region gives no answer; the error names it.
        """
        if month not in self._read:
            read: list[RegionMonth] = []
            for region in self._stores:
                with naming(region.region):
                    read.append(self._region_month(region, month))
            self._read[month] = tuple(read)
        return self._read[month]

    def damages(self, month: str) -> Iterator[str]:
        """What of a closed month is not as its regions froze it, with the object's name. Reads all of its objects."""
        from metering.billing.closing.verification import frozen_damages
        from metering.lake.parquet.frozen_months.files import ParquetFrozenFiles

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

    def _region_month(self, region: UsageStores, month: str) -> RegionMonth:
        # pyarrow is slow to import, and an answer about one account of an open month has no need of it.
        frozen = read_frozen_month(region.items, region.objects, month)
        if frozen is not None:
            from metering.billing.usage.frozen_month import ClosedMonth
            from metering.lake.parquet.frozen_months.files import ParquetFrozenFiles

            return ClosedMonth(region=region.region, frozen=frozen, reader=ParquetFrozenFiles(region.objects))
        accounts = self._accounts
        if 0 < len(accounts) <= FEW_ACCOUNTS:
            return TableMonth.read(region.items, region=region.region, month=month, accounts=accounts)
        from metering.billing.usage.lake_month import LakeMonth
        from metering.lake.parquet.summaries import ParquetTotals

        name = region.region
        read = LakeMonth.read(
            region.view, region=name, month=month, accounts=accounts,
            totals=ParquetTotals(region.objects, region.view.reader),
            on_hour=lambda done, of: self._on_hour(name, done, of),
        )  # fmt: skip
        return self._stack.enter_context(closing(read))


@contextmanager
def month_usage(
    regions: Sequence[UsageStores],
    month: str,
    organization: Organization,
    *,
    accounts: frozenset[str] = frozenset(),
) -> Iterator[MonthUsage]:
    """The usage of one month over regions, as of now; of a closed month, as it was frozen.

    Args:
        regions: Every region that holds data of the stage.
        month: `2026-11`.
        organization: Who pays for whom.
        accounts: Only of these accounts; none: of all.

    Raises:
        UnavailableError: A region gives no answer; the error names it.
    """
    with StageUsage(regions, accounts=accounts) as usage:
        yield MonthUsage(regions=usage.month(month), month=month, organization=organization)
