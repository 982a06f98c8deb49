"""The usage table as a source of reports.

A report on named accounts reads one partition for each account and month, and of it exactly the hours asked for. A
report over all accounts would scan the table; `ReportSource` reads the lake and staging instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import date_of, month_bounds_s, month_of
from metering.ledger.usage_items import usage_day, usage_entries, usage_partition
from metering.stores.writes import Item, Table
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from metering.reports.query import UsageQuery
    from metering.stores.items import ItemStore
    from metering.usage.totals import Total, UsageKey


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageTable:
    """Reads the usage table for reports."""

    items: ItemStore

    def usage(
        self, query: UsageQuery, *, now_s: int, without: Container[str] = (), months: Sequence[str] | None = None
    ) -> Iterator[tuple[UsageKey, Total]]:
        """Totals among which are all that the query matches, unsummed.

        Args:
            query: The query; without accounts, the whole table is scanned.
            now_s: The time now: corrections can be booked until then.
            without: Months to leave out.
            months: Months to read, in order; by default, all in which the query can match something.
        """
        if not query.accounts:
            scan = _counted(self.items.scan(Table.USAGE), query)
            yield from (entry for entry in scan if _month(entry) not in without)
            return
        for account_id in sorted(query.accounts):
            for month in query.months(now_s=now_s) if months is None else months:
                if month not in without:
                    yield from _counted(self._account_items(account_id, month, query, now_s), query)

    def _account_items(self, account_id: str, month: str, query: UsageQuery, now_s: int) -> Iterator[Item]:
        (first_s, after_s), end_s = month_bounds_s(month), query.booked_before_s(now_s=now_s)
        pk = usage_partition(account_id, month)
        if query.from_s <= first_s and after_s <= end_s:
            # The whole partition: nothing to compare item by item.
            return self.items.query(Table.USAGE, pk)
        # Whole days: `UsageQuery.matches` drops the hours that are not asked for.
        sk_from, sk_to = date_of(max(query.from_s, first_s)), date_of(min(end_s, after_s) - 1 + DAY_S)
        return self.items.query(Table.USAGE, pk, sk_from=sk_from, sk_to=sk_to)


def _month(entry: tuple[UsageKey, Total]) -> str:
    return month_of(entry[0].hour_s)


def _counted(items: Iterable[Item], query: UsageQuery) -> Iterator[tuple[UsageKey, Total]]:
    """Totals hour by hour, or a day at once when the query does not split the day by hour."""
    for item in items:
        key, total = usage_day(item)
        if query.splits_day(key.hour_s):
            yield from ((entry.key, entry.total) for entry in usage_entries(item))
        else:
            yield key, total
