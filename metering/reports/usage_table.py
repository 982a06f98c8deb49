"""Usage reports: exact totals by the columns asked for.

Reports on named accounts read the usage table: a partition a month, and of it exactly the hours asked for. Reports over
all accounts read the lake and staging; or the usage table as a whole, which is a scan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from metering.hours import date_of, hour_label, month_bounds_s, month_of
from metering.ledger.notes.canary_batches import CANARY_ACCOUNT_ID
from metering.ledger.usage_items import usage_day, usage_entries, usage_partition
from metering.stores.writes import Item, Table
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from metering.stores.items import ItemStore
    from metering.usage.totals import Total, UsageKey

GroupColumn = Literal["account_id", "usage_type", "service", "from", "to", "month", "day", "hour", "corrects"]
GROUP_COLUMNS: tuple[GroupColumn, ...] = get_args(GroupColumn)

_COLUMN_OF: dict[str, Callable[[UsageKey], str]] = {
    "account_id": lambda key: key.account_id,
    "usage_type": lambda key: key.usage_type,
    "service": lambda key: key.service,
    "from": lambda key: key.from_location,
    "to": lambda key: key.to_location,
    "month": lambda key: month_of(key.hour_s),
    "day": lambda key: hour_label(key.hour_s)[:10],
    "hour": lambda key: f"{hour_label(key.hour_s)}:00:00Z",
    "corrects": lambda key: "" if key.corrects_s is None else f"{hour_label(key.corrects_s)}:00:00Z",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """What a report is about.

    Attributes:
        from_s, to_s: Hours that begin in this half-open range count, by the hour that they are booked in.
        group_by: Columns of the answer, in order; none gives one total.
        accounts, services, usage_types: Only these; empty for all. Without `accounts` the canary's is left out.
        with_corrections: Also rows booked later that correct hours of the range; each names its hour in `corrects`.
    """

    from_s: int
    to_s: int
    group_by: tuple[GroupColumn, ...] = ("usage_type",)
    accounts: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    usage_types: frozenset[str] = frozenset()
    with_corrections: bool = False

    def wants(self, key: UsageKey) -> bool:
        """Whether a total counts in this report."""
        if self.accounts:
            if key.account_id not in self.accounts:
                return False
        elif key.account_id == CANARY_ACCOUNT_ID:
            return False
        if self.services and key.service not in self.services:
            return False
        if self.usage_types and key.usage_type not in self.usage_types:
            return False
        return self.covers(key)

    def covers(self, key: UsageKey) -> bool:
        """Whether it is booked in the range, or corrects it where that is asked for."""
        if self.from_s <= key.hour_s < self.to_s:
            return True
        return self.with_corrections and key.corrects_s is not None and self.from_s <= key.corrects_s < self.to_s

    def splits_day(self, first_s: int) -> bool:
        """Whether it tells hours of the day that begins then apart, as columns or because the range begins or ends."""
        return "hour" in self.group_by or any(0 < end_s - first_s < DAY_S for end_s in (self.from_s, self.to_s))

    def end_s(self, *, now_s: int) -> int:
        """Nothing that it wants is booked then or later: what corrects an hour is booked up to now."""
        return max(self.to_s, now_s + 1) if self.with_corrections else self.to_s

    def months(self, *, now_s: int) -> Iterator[str]:
        """Months in which something that it wants may be booked, in order."""
        return months_between(self.from_s, self.end_s(now_s=now_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """One line of a report: values of the columns grouped by, and their total."""

    values: tuple[str, ...]
    total: Total


def usage_values(key: UsageKey, query: UsageQuery) -> tuple[str, ...]:
    """Values of the columns that the query groups by."""
    return tuple(_COLUMN_OF[name](key) for name in query.group_by)


def grouped(usage: Iterable[tuple[UsageKey, Total]], query: UsageQuery) -> list[UsageRow]:
    """Sums by the columns of the query, sorted by them. Groups whose sums cancel out (repairs) stay, with 0 bytes."""
    sums: dict[tuple[str, ...], Total] = {}
    columns = [_COLUMN_OF[name] for name in query.group_by]
    for key, total in usage:
        if query.wants(key):
            values = tuple([column(key) for column in columns])
            before = sums.get(values)
            sums[values] = total if before is None else before.plus(total)
    return [UsageRow(values=values, total=sums[values]) for values in sorted(sums)]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageTable:
    """The usage table as a source of reports."""

    items: ItemStore

    def usage(
        self, query: UsageQuery, *, now_s: int, without: Container[str] = (), months: Sequence[str] | None = None
    ) -> Iterator[tuple[UsageKey, Total]]:
        """Totals that the query may want, unsummed; some months may be left out, or only some be looked at."""
        if not query.accounts:
            scan = _counted(self.items.scan(Table.USAGE), query)
            yield from (entry for entry in scan if _month(entry) not in without)
            return
        for account_id in sorted(query.accounts):
            for month in query.months(now_s=now_s) if months is None else months:
                if month not in without:
                    yield from _counted(self._account_items(account_id, month, query, now_s), query)

    def _account_items(self, account_id: str, month: str, query: UsageQuery, now_s: int) -> Iterator[Item]:
        (first_s, after_s), end_s = month_bounds_s(month), query.end_s(now_s=now_s)
        pk = usage_partition(account_id, month)
        if query.from_s <= first_s and after_s <= end_s:
            # The whole partition: nothing to compare item by item.
            return self.items.query(Table.USAGE, pk)
        # Whole days: `wants` leaves out the hours that are not asked for.
        sk_from, sk_to = date_of(max(query.from_s, first_s)), date_of(min(end_s, after_s) - 1 + DAY_S)
        return self.items.query(Table.USAGE, pk, sk_from=sk_from, sk_to=sk_to)


def months_between(from_s: int, to_s: int) -> Iterator[str]:
    """Months that any second of `[from_s, to_s)` lies in, in order."""
    moment_s = from_s
    while moment_s < to_s:
        month = month_of(moment_s)
        yield month
        moment_s = month_bounds_s(month)[1]


def _month(entry: tuple[UsageKey, Total]) -> str:
    return month_of(entry[0].hour_s)


def _counted(items: Iterable[Item], query: UsageQuery) -> Iterator[tuple[UsageKey, Total]]:
    """Hour by hour, or a day at once where the query tells its hours not apart."""
    for item in items:
        key, total = usage_day(item)
        if query.splits_day(key.hour_s):
            yield from ((entry.key, entry.total) for entry in usage_entries(item))
        else:
            yield key, total
