"""Reports that the usage table cannot give: over all accounts, by resource, and of closed months.

Reports over all accounts and by resource read the lake and staging. A closed month answers with its frozen figures,
whatever somebody may have done to its items since.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.hours import hour_of, month_of
from metering.lake.rows import USAGE_COLUMNS, RowQuery, TimeSlice, usage_of
from metering.ledger.frozen_months import read_frozen_month
from metering.reports.usage_table import UsageRow, UsageTable, usage_values
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import ZERO, Total

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from metering.lake.rows import Group
    from metering.lake.view import LakeView
    from metering.ledger.frozen_months import FrozenMonth
    from metering.reports.usage_table import UsageQuery
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import UsageKey

# Columns of the lake that the usage table does not have.
DETAIL_COLUMNS = ("resource_id", "direction", "batch_id")
# No month before it can be closed. A report on all times begins in 1970.
_FIRST_MONTH = "2020-01"
# For more than these it is worth while to ask when the first of them was.
_FEW_MONTHS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSource:
    """A region's reports: of named accounts from the usage table, else from the lake; closed months as frozen."""

    items: ItemStore
    objects: ObjectStore
    view: LakeView

    def usage(self, query: UsageQuery, *, now_s: int) -> Iterator[tuple[UsageKey, Total]]:
        """Totals that the query may want; those of one key may come apart.

        Raises:
            UnavailableError: An hour could not be read.
        """
        frozen = self._frozen(query, now_s)
        if query.accounts:
            months = self._months(query, now_s)
            yield from UsageTable(items=self.items).usage(query, now_s=now_s, without=frozen, months=months)
        else:
            yield from self._lake(query, now_s, without=frozen)
        for closed in frozen.values():
            yield from closed.usage()

    def detailed(self, query: UsageQuery, details: tuple[str, ...], *, now_s: int) -> Iterator[UsageRow]:
        """Totals by the query's columns and by `details`, hour by hour, unsummed; rows count by their start.

        Raises:
            UnavailableError: An hour could not be read.
        """
        times = TimeSlice(from_s=query.from_s, to_s=query.to_s)
        rows = RowQuery(columns=(*USAGE_COLUMNS, *details), where=_where(query), times=times)
        # Hours that the range cuts are read too, and give the rows that start in it.
        query = replace(query, from_s=hour_of(query.from_s), to_s=hour_of(query.to_s + HOUR_S - 1))
        for hour_s, groups in self._groups(rows, query, now_s):
            for group, total in groups.items():
                [key] = usage_of(hour_s, {group[: len(USAGE_COLUMNS)]: total})
                if query.wants(key):
                    more = tuple(str(value) for value in group[len(USAGE_COLUMNS) :])
                    yield UsageRow(values=(*usage_values(key, query), *more), total=total)

    def _groups(self, rows: RowQuery, query: UsageQuery, now_s: int) -> Iterator[tuple[int, Mapping[Group, Total]]]:
        """Hour by hour; those of closed months from the files that were frozen, whatever the ledger says now."""
        frozen = self._frozen(query, now_s)
        for closed in frozen.values():
            for hour in closed.hours:
                yield hour.hour_s, self.view.reader.totals(hour.sources, rows)
        for hour_s in self._live_hours(query, now_s, without=frozen):
            yield hour_s, self.view.hour_totals(hour_s, rows)

    def _lake(self, query: UsageQuery, now_s: int, *, without: Container[str]) -> Iterator[tuple[UsageKey, Total]]:
        rows = RowQuery(columns=USAGE_COLUMNS, where=_where(query))
        for hour_s in self._live_hours(query, now_s, without=without):
            yield from usage_of(hour_s, self.view.hour_totals(hour_s, rows)).items()

    def _live_hours(self, query: UsageQuery, now_s: int, *, without: Container[str]) -> Iterator[int]:
        hours = self.view.hours(from_s=query.from_s, to_s=query.end_s(now_s=now_s))
        return (hour_s for hour_s in hours if month_of(hour_s) not in without)

    def _frozen(self, query: UsageQuery, now_s: int) -> dict[str, FrozenMonth]:
        """Closed months in which anything that the query wants may be booked: corrections, too, are frozen one day."""
        months = [month for month in self._months(query, now_s) if month >= _FIRST_MONTH]
        known = {month: read_frozen_month(self.items, self.objects, month) for month in months}
        return {month: closed for month, closed in known.items() if closed is not None}

    def _months(self, query: UsageQuery, now_s: int) -> list[str]:
        """Months of the query in which anything can be booked: none before the lake's first hour, none to come."""
        months = [month for month in query.months(now_s=now_s) if month <= month_of(now_s + DAY_S)]
        if len(months) <= _FEW_MONTHS:
            return months
        first_s = self.view.first_hour_s()
        return [] if first_s is None else [month for month in months if month >= month_of(first_s)]


def summed(rows: Iterable[UsageRow]) -> list[UsageRow]:
    """Rows of equal values as one, sorted."""
    sums: dict[tuple[str, ...], Total] = {}
    for row in rows:
        sums[row.values] = sums.get(row.values, ZERO).plus(row.total)
    return [UsageRow(values=values, total=sums[values]) for values in sorted(sums)]


def _where(query: UsageQuery) -> tuple[tuple[str, frozenset[str]], ...]:
    wanted = (("account_id", query.accounts), ("service", query.services), ("usage_type", query.usage_types))
    return tuple((column, values) for column, values in wanted if values)
