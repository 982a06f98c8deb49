"""A region's reports, from whichever store can answer.

| report                     | read from                                                            |
|----------------------------|----------------------------------------------------------------------|
| on named accounts          | the usage table                                                      |
| over all accounts          | the lake and staging                                                 |
| with detail columns        | the lake and staging, row by row                                     |
| on a closed month, any way | the frozen month, even if its items in the ledger have changed since |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.hours import hour_of, month_of
from metering.lake.rows import USAGE_COLUMNS, RowQuery, TimeSlice, usage_of
from metering.ledger.frozen_months import read_frozen_month
from metering.reports.usage_rows import UsageRow, matching, summed
from metering.reports.usage_table import UsageTable
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.lake.rows import Group
    from metering.lake.view import LakeView
    from metering.ledger.frozen_months import FrozenMonth
    from metering.reports.query import UsageQuery
    from metering.reports.usage_rows import Values
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import Total, UsageKey

# No earlier month can be closed, and a report on all times begins in 1970.
_FIRST_MONTH = "2020-01"
# Of more months than these, it pays to look up the first that has rows.
_FEW_MONTHS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSource:
    """Reads a region's reports."""

    items: ItemStore
    objects: ObjectStore
    view: LakeView

    def entries(self, query: UsageQuery, *, now_s: int) -> Iterator[tuple[Values, Total]]:
        """Totals by the query's columns, unsummed.

        Raises:
            UnavailableError: An hour could not be read.
        """
        months = self._months(query, now_s)
        frozen = self._frozen(months)
        if query.details:
            return self._detailed(query, frozen, now_s)
        return matching(self._usage(query, months, frozen, now_s), query)

    def _usage(
        self, query: UsageQuery, months: list[str], frozen: Mapping[str, FrozenMonth], now_s: int
    ) -> Iterator[tuple[UsageKey, Total]]:
        if query.accounts:
            yield from UsageTable(items=self.items).usage(query, now_s=now_s, without=frozen, months=months)
        else:
            rows = RowQuery(columns=USAGE_COLUMNS, where=_where(query))
            for hour_s in self._live_hours(query, frozen, now_s):
                yield from usage_of(hour_s, self.view.hour_totals(hour_s, rows)).items()
        for closed in frozen.values():
            yield from closed.usage()

    def _detailed(
        self, query: UsageQuery, frozen: Mapping[str, FrozenMonth], now_s: int
    ) -> Iterator[tuple[Values, Total]]:
        """Totals of rows by their start, hour by hour."""
        times = TimeSlice(from_s=query.from_s, to_s=query.to_s)
        rows = RowQuery(columns=(*USAGE_COLUMNS, *query.details), where=_where(query), times=times)
        # Hours that the range cuts are read too, and give the rows that start in it.
        query = replace(query, from_s=hour_of(query.from_s), to_s=hour_of(query.to_s + HOUR_S - 1))
        for hour_s, groups in self._groups(rows, query, frozen, now_s):
            for group, total in groups.items():
                usage = usage_of(hour_s, {group[: len(USAGE_COLUMNS)]: total})
                details = tuple(str(value) for value in group[len(USAGE_COLUMNS) :])
                for values, matched in matching(usage.items(), query):
                    yield (*values, *details), matched

    def _groups(
        self, rows: RowQuery, query: UsageQuery, frozen: Mapping[str, FrozenMonth], now_s: int
    ) -> Iterator[tuple[int, Mapping[Group, Total]]]:
        """Totals hour by hour; those of closed months from the frozen files, whatever the ledger says now."""
        for closed in frozen.values():
            for hour in closed.hours:
                yield hour.hour_s, self.view.reader.totals(hour.sources, rows)
        for hour_s in self._live_hours(query, frozen, now_s):
            yield hour_s, self.view.hour_totals(hour_s, rows)

    def _live_hours(self, query: UsageQuery, frozen: Mapping[str, FrozenMonth], now_s: int) -> Iterator[int]:
        hours = self.view.hours(from_s=query.from_s, to_s=query.booked_before_s(now_s=now_s))
        return (hour_s for hour_s in hours if month_of(hour_s) not in frozen)

    def _frozen(self, months: Iterable[str]) -> dict[str, FrozenMonth]:
        known = {month: read_frozen_month(self.items, self.objects, month) for month in months if month >= _FIRST_MONTH}
        return {month: closed for month, closed in known.items() if closed is not None}

    def _months(self, query: UsageQuery, now_s: int) -> list[str]:
        """Months in which the query can match something: not before the lake's first hour, not in the future."""
        months = [month for month in query.months(now_s=now_s) if month <= month_of(now_s + DAY_S)]
        if len(months) <= _FEW_MONTHS:
            return months
        first_s = self.view.first_hour_s()
        return [] if first_s is None else [month for month in months if month >= month_of(first_s)]


def report_rows(sources: Iterable[ReportSource], query: UsageQuery, *, now_s: int) -> list[UsageRow]:
    """The rows of a report over one region or several, sorted.

    Raises:
        UnavailableError: An hour could not be read.
    """
    return summed(entry for source in sources for entry in source.entries(query, now_s=now_s))


def _where(query: UsageQuery) -> tuple[tuple[str, frozenset[str]], ...]:
    filters = (("account_id", query.accounts), ("service", query.services), ("usage_type", query.usage_types))
    return tuple((column, values) for column, values in filters if values)
