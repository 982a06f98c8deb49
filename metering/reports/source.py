"""A region's reports, each read from the store that has the requested figures.

| report                       | read from, in this order if complete (P53)                             | source     |
|------------------------------|------------------------------------------------------------------------|------------|
| on a closed month            | the frozen month, even if its items in the ledger have changed since   | `closed`   |
| on named accounts            | their usage items; as of now, with what is not rolled up yet (P28)     | `accounts` |
| over all accounts, together  | the region's totals, as of now: one partition a month                  | `region`   |
| over all accounts, each      | their usage items, by the directory: one partition an account and month | `accounts` |
| over all accounts, otherwise | totals beside lake files, and staging: one hour after the other        | `hours`    |
| with detail columns          | the lake and staging, row by row                                       | `rows`     |
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice, product
from typing import TYPE_CHECKING, TypeVar

from metering.errors import UnavailableError
from metering.hours import hour_of, month_bounds_s, month_of
from metering.lake.ports import USAGE_COLUMNS, FrozenReader, Group, RowQuery, TimeSlice, rows_of_days, usage_of
from metering.ledger.periods import FrozenMonth, closed_month, first_closed_month, periods_of, read_frozen_month
from metering.ledger.usage.kinds import all_accounts
from metering.ledger.usage.reading import Fold, UsageReading
from metering.ledger.usage.region import ANY, complete_since_s, is_any
from metering.reports.query import UNCOUNTED, Meter, UsageQuery
from metering.reports.usage_rows import NotRolledUp, Seen, UsageRow, Values, in_order, matching, summed
from metering.rollup.as_of_now import RegionIncompleteError, TooMuchWaitsError
from metering.stores.clock import side_by_side
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence

    from metering.lake.view import LakeView
    from metering.ledger.booked_hours import RowSource
    from metering.ledger.usage import kinds
    from metering.rollup.as_of_now import UsageNow
    from metering.stores import writes
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import Total, UsageKey

# The usage table as a source of reports: one partition per account and month, of which only the requested hours are
# read.


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageTable:
    """Reads the usage table for reports. The table holds rolled-up usage (P27).

    Attributes:
        names: Cache, between reports, of the kinds that numbers in the table's items stand for.
        as_of_now: Reads usage that is not rolled up yet too, if a query asks for such usage. None: no query may.
    """

    items: writes.ItemStore
    names: kinds.KindNames | None = None
    as_of_now: UsageNow | None = None
    meter: Meter = UNCOUNTED

    def usage(
        self,
        query: UsageQuery,
        *,
        now_s: int,
        without: Container[str] = (),
        months: Sequence[str] | None = None,
        lacks: NotRolledUp | None = None,
        listed: bool = False,
    ) -> Iterator[tuple[UsageKey, Total]]:
        """Totals that include all usage that the query matches. Hours may be summed unless the query groups by hour.

        Without accounts, those of the directory are read (`listed`), or the whole table is scanned. Corrections can be
        booked until now. `lacks` learns what waits.

        Raises:
            LedgerCorruptError: An item cannot be read, or a number in the item is missing in the account's dictionary.
            RegionIncompleteError: The region's totals, or the directory, lack usage of these hours.
            TooMuchWaitsError: The query asks for usage not rolled up yet, and too much usage waits.
            UnavailableError: A table does not answer.
        """
        reading = UsageReading(self.items, self.names)
        if not query.accounts and not listed:
            fold = Fold(
                query.grain,
                lambda hour_s, corrects_s: month_of(hour_s) not in without and query.takes_hour(hour_s, corrects_s),
            )
            fold.add(reading.scanned())
            yield from _named(reading, fold)
            return
        end_s = query.booked_before_s(now_s=now_s)
        read = [month for month in (query.months(now_s=now_s) if months is None else months) if month not in without]
        accounts = None if listed else query.accounts
        if query.now:
            yield from self._now(query, accounts, read, end_s)
            return
        if lacks is not None and self.as_of_now is not None and read:
            apart = self.as_of_now.apart(
                accounts, read, from_s=query.from_s, to_s=end_s, grain=query.grain, counts=query.takes_hour
            )
            lacks.add(apart)
            if apart.booked is not None:
                self.meter.partitions(len(query.accounts) * len(read))
                yield from apart.booked
                return

        def folded(place: tuple[str, str]) -> list[tuple[UsageKey, Total]]:
            fold = Fold(query.grain, query.takes_hour)
            fold.add(reading.stored(*place, from_s=query.from_s, to_s=end_s))
            return list(_named(reading, fold))

        threads = 1 if self.as_of_now is None else self.as_of_now.threads
        named = all_accounts(self.items) if accounts is None else sorted(accounts)
        for found in side_by_side(folded, product(named, read), threads=threads):
            self.meter.partitions(not listed)
            yield from found

    def _now(
        self, query: UsageQuery, accounts: Collection[str] | None, months: Sequence[str], end_s: int
    ) -> Iterator[tuple[UsageKey, Total]]:
        if self.as_of_now is None:
            raise TypeError("usage as of now is asked of a table that does not know what waits")
        self.meter.partitions(len(query.accounts) * len(months))
        return self.as_of_now.entries(
            accounts, months, from_s=query.from_s, to_s=end_s, grain=query.grain, counts=query.takes_hour
        )


def _named(reading: UsageReading, fold: Fold) -> Iterator[tuple[UsageKey, Total]]:
    for item in fold.items():
        yield from reading.totals(item)


T = TypeVar("T")

# Earlier months have no usage, and a report on all time begins in 1970.
_FIRST_MONTH = "2020-01"
# If the range has more months than this, a look-up of the first month with rows saves time.
_FEW_MONTHS = 12
_STATES = ("open", "closing", "closed")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportSource:
    """Reads a region's reports; `names` and `as_of_now` have the meaning of `UsageTable`.

    Attributes:
        most_partitions: A report over each account reads at most this many partitions of the usage table.
    """

    region: str
    items: writes.ItemStore
    objects: ObjectStore
    view: LakeView
    frozen: FrozenReader
    names: kinds.KindNames | None = None
    as_of_now: UsageNow | None = None
    meter: Meter = UNCOUNTED
    most_partitions: int = 20_000

    def entries(
        self, query: UsageQuery, *, now_s: int, seen: Seen | None = None, lacks: NotRolledUp | None = None
    ) -> Iterator[tuple[Values, Total]]:
        """Totals by the query's columns, before they are summed.

        `seen` records which of the query's names the totals have, and the sources; `lacks`, the usage that waits for
        the roll-up.

        Raises:
            UnavailableError: An hour could not be read.
        """
        months, seen = self._months(query, now_s), Seen(query) if seen is None else seen
        # For named accounts, a closed month's objects are sufficient: the month's manifest is large, and is not read.
        frozen = self._frozen(months, manifest=bool(query.details) or not query.accounts)
        if query.details:
            seen.sources.add("rows")
            return self._detailed(query, frozen, now_s, seen)
        usage = self._usage(query, months, frozen, now_s, lacks, seen.sources)
        return matching(usage, query, region=self.region, seen=seen)

    def each_hour(self, query: UsageQuery, work: Callable[[int, Sequence[RowSource]], T], *, now_s: int) -> Iterator[T]:
        """Call `work` with each booked hour of the query that has rows, and with all of the hour's row sources.

        If a staging object disappears during a call, `work` is called again for the hour, and must return the same
        result. An hour of a closed month has the files that the month's manifest names.

        Raises:
            UnavailableError: An hour could not be read.
            LedgerCorruptError: A file that an hour needs is missing.
        """
        months = self._months(query, now_s)
        yield from self._each_hour(query, work, self._frozen(months), now_s)

    def in_hours(self, hours: Iterable[int], work: Callable[[int, Sequence[RowSource]], T]) -> Iterator[T]:
        """Call `work` with each of these booked hours and its row sources; see `each_hour`."""
        named = list(hours)
        frozen = self._frozen(dict.fromkeys(map(month_of, named)))
        for hour_s in named:
            self.meter.hours()
            if (closed := frozen.get(month_of(hour_s))) is None:
                yield self.view.read(hour_s, lambda state: work(state.hour_s, state.sources))
            else:
                yield work(hour_s, tuple(s for hour in closed.hours if hour.hour_s == hour_s for s in hour.sources))

    def booked_range_s(self, *, now_s: int) -> tuple[int, int] | None:
        """Range of the hours that have rows, from the first hour's start to the last hour's end; None without rows.

        Only the beginning of the lake and the newest days are listed.
        """
        first_s = self.view.first_hour_s()
        if first_s is None:
            return None
        for since_s in (now_s - DAY_S, now_s - 35 * DAY_S, first_s):
            hours = self.view.hours(from_s=max(since_s, first_s))
            if hours:
                return first_s, hours[-1] + HOUR_S
        return None

    def periods(self, query: UsageQuery, *, now_s: int) -> dict[str, str]:
        """State of each month of the query's range that can have rows: `open`, `closing` or `closed`."""
        own = replace(query, with_corrections=False)
        months = [month for month in self._months(own, now_s) if month >= _FIRST_MONTH]
        known = periods_of(self.items, months)
        return {month: known[month].state if month in known else "open" for month in months}

    def _usage(
        self,
        query: UsageQuery,
        months: list[str],
        frozen: Mapping[str, FrozenMonth],
        now_s: int,
        lacks: NotRolledUp | None,
        sources: set[str],
    ) -> Iterator[tuple[UsageKey, Total]]:
        found = self._totals(query, [month for month in months if month not in frozen], now_s, lacks, sources)
        if found is not None:
            yield from found
        else:
            sources.add("hours")
            rows = RowQuery(columns=USAGE_COLUMNS, where=_where(query))
            for hour_s in self._live_hours(query, frozen, now_s):
                self.meter.hours()
                yield from usage_of(hour_s, self.view.hour_totals(hour_s, rows)).items()
        for closed in frozen.values():
            sources.add("closed")
            self.meter.partitions(len(query.accounts))
            yield from self._frozen_usage(query, closed, now_s)

    def reads_rows(self, query: UsageQuery, *, now_s: int) -> bool:
        """Whether a report reads the rows of hours, or the totals beside lake files, hour by hour."""
        if query.details or query.accounts:
            return bool(query.details)
        months = self._months(query, now_s)
        live = [month for month in months if month not in self._frozen(months, manifest=False)]
        return bool(live) and (not self._has_totals(query, live) or (_by_account(query) and not self._partitions(live)))

    def _has_totals(self, query: UsageQuery, months: Sequence[str]) -> bool:
        """Whether the region's totals, and the directory, have all usage of a report in open months."""
        since_s = complete_since_s(self.items, self.view.shards)
        return self.as_of_now is not None and max(query.from_s, month_bounds_s(months[0])[0]) >= since_s

    def _partitions(self, months: Sequence[str]) -> int:
        """Number of partitions of the directory's accounts; 0 if one report may not read so many."""
        most = self.most_partitions // len(months)
        accounts = sum(1 for _ in islice(all_accounts(self.items), most + 1))
        return accounts * len(months) if accounts <= most else 0

    def _totals(
        self, query: UsageQuery, months: Sequence[str], now_s: int, lacks: NotRolledUp | None, sources: set[str]
    ) -> Iterable[tuple[UsageKey, Total]] | None:
        """Usage of open months from usage items; None if only rows have all of it."""
        months = [month for month in months if month >= _FIRST_MONTH]
        if not months:
            return ()
        table = UsageTable(items=self.items, names=self.names, as_of_now=self.as_of_now, meter=self.meter)
        if query.accounts:
            sources.add("accounts")
            return table.usage(query, now_s=now_s, months=months, lacks=lacks)
        if not self._has_totals(query, months):
            return None
        try:
            if not _by_account(query) and (found := self._of_region(table, query, months, now_s, lacks)) is not None:
                sources.add("region")
                return found
            if partitions := self._partitions(months):
                self.meter.partitions(partitions)
                # The first total shows that the directory is complete.
                each = table.usage(query, now_s=now_s, months=months, lacks=lacks, listed=True)
                first = list(islice(each, 1))
                sources.add("accounts")
                return chain(first, each)
        except RegionIncompleteError:
            pass
        return None

    def _of_region(
        self, table: UsageTable, query: UsageQuery, months: Sequence[str], now_s: int, lacks: NotRolledUp | None
    ) -> Sequence[tuple[UsageKey, Total]] | None:
        """Usage of the region's totals, as of now; None if these do not have what the report asks for."""
        asked = replace(query, accounts=frozenset([REGION]), now=True)
        try:
            found = list(table.usage(asked, now_s=now_s, months=months))
        except TooMuchWaitsError:
            if query.now:
                raise
            found = list(table.usage(replace(asked, now=False), now_s=now_s, months=months, lacks=lacks))
        return None if any(_merges(key, query) for key, _ in found) else found

    def _frozen_usage(self, query: UsageQuery, closed: FrozenMonth, now_s: int) -> Iterator[tuple[UsageKey, Total]]:
        """Totals of a closed month: by day if the query splits no day, otherwise by account or hour by hour."""
        first_s, after_s = month_bounds_s(closed.month)
        if not any(query.splits_day(day_s) for day_s in range(first_s, after_s, DAY_S)):
            yield from rows_of_days(self.frozen.days(closed, query.accounts or None))
        elif query.accounts:
            yield from self.frozen.account_rows(closed, query.accounts)
        else:
            before_s = query.booked_before_s(now_s=now_s)
            for hour in closed.hours:
                if query.from_s <= hour.hour_s < before_s:
                    yield from self.frozen.hour(closed, hour.hour_s)

    def _detailed(
        self, query: UsageQuery, frozen: Mapping[str, FrozenMonth], now_s: int, seen: Seen | None
    ) -> Iterator[tuple[Values, Total]]:
        """Totals of rows selected by the rows' start, hour by hour."""
        times = TimeSlice(from_s=query.from_s, to_s=query.to_s)
        rows = RowQuery(columns=(*USAGE_COLUMNS, *query.details), where=_where(query), times=times)
        # Partly covered hours are also read, and yield the rows that start in the range.
        query = replace(query, from_s=hour_of(query.from_s), to_s=hour_of(query.to_s + HOUR_S - 1))

        def totals(hour_s: int, sources: Sequence[RowSource]) -> tuple[int, Mapping[Group, Total]]:
            return hour_s, self.view.reader.totals(sources, rows)

        for hour_s, groups in self._each_hour(query, totals, frozen, now_s):
            for group, total in groups.items():
                usage = usage_of(hour_s, {group[: len(USAGE_COLUMNS)]: total})
                details = tuple(str(value) for value in group[len(USAGE_COLUMNS) :])
                for values, matched in matching(usage.items(), query, region=self.region, seen=seen):
                    yield (*values, *details), matched

    def _each_hour(
        self,
        query: UsageQuery,
        work: Callable[[int, Sequence[RowSource]], T],
        frozen: Mapping[str, FrozenMonth],
        now_s: int,
    ) -> Iterator[T]:
        """Results hour by hour; closed months are read from frozen files, regardless of the ledger's current state."""
        before_s = query.booked_before_s(now_s=now_s)
        for closed in frozen.values():
            for hour in closed.hours:
                if query.from_s <= hour.hour_s < before_s:
                    self.meter.hours()
                    # The month's totals are frozen, but its rows may be deleted.
                    self.view.kept(hour.hour_s)
                    yield work(hour.hour_s, hour.sources)
        for hour_s in self._live_hours(query, frozen, now_s):
            self.meter.hours()
            yield self.view.read(hour_s, lambda state: work(state.hour_s, state.sources))

    def _live_hours(self, query: UsageQuery, frozen: Mapping[str, FrozenMonth], now_s: int) -> Iterator[int]:
        # Rows of closed months are not needed here, so the range begins after those that it begins with.
        from_s, to_s = query.from_s, query.booked_before_s(now_s=now_s)
        while from_s < to_s and month_of(from_s) in frozen:
            from_s = month_bounds_s(month_of(from_s))[1]
        # From 0 on, the view would leave out hours whose rows are gone.
        hours = self.view.hours(from_s=max(from_s, 1), to_s=to_s) if from_s < to_s else []
        return (hour_s for hour_s in hours if month_of(hour_s) not in frozen)

    def _frozen(self, months: Iterable[str], *, manifest: bool = True) -> dict[str, FrozenMonth]:
        found: dict[str, FrozenMonth] = {}
        for month in months:
            if month >= _FIRST_MONTH:
                read = (
                    read_frozen_month(self.items, self.objects, month) if manifest else closed_month(self.items, month)
                )
                found |= {} if read is None else {month: read}
        return found

    def _months(self, query: UsageQuery, now_s: int) -> list[str]:
        """Months in which the query can match usage: none before the lake's first hour, and none in the future."""
        months = [month for month in query.months(now_s=now_s) if month <= month_of(now_s + DAY_S)]
        # If rows are gone, no row tells where usage begins.
        if len(months) <= _FEW_MONTHS or self.view.kept(0):
            return months
        first_s, first = self.view.first_hour_s(), first_closed_month(self.objects)
        known = [*([] if first_s is None else [month_of(first_s)]), *([first] if first else [])]
        return [month for month in months if known and month >= min(known)]


def report_rows(
    sources: Iterable[ReportSource],
    query: UsageQuery,
    *,
    now_s: int,
    seen: Seen | None = None,
    lacks: NotRolledUp | None = None,
    most: int | None = None,
) -> list[UsageRow]:
    """All rows of a report over one or more regions, sorted. `seen` and `lacks` are filled as by `entries`.

    Raises:
        InvalidParametersError: There are more rows than `most`.
        UnavailableError: An hour could not be read.
    """
    entries = report_entries(sources, query.of_usage_types, now_s=now_s, seen=seen, lacks=lacks)
    return in_order(summed(entries, query, most=most), query)


def report_entries(
    sources: Iterable[ReportSource],
    query: UsageQuery,
    *,
    now_s: int,
    seen: Seen | None = None,
    lacks: NotRolledUp | None = None,
) -> Iterator[tuple[Values, Total]]:
    """Totals of a report over one or several regions, region by region, before they are summed.

    Raises:
        UnavailableError: An hour could not be read; the error names the region.
    """
    for source in sources:
        with naming(source.region):
            yield from source.entries(query, now_s=now_s, seen=seen, lacks=lacks)


@contextmanager
def naming(region: str) -> Iterator[None]:
    """Name the region in errors of reads from this region.

    Raises:
        UnavailableError: It gives no answer.
    """
    try:
        yield
    except UnavailableError as error:
        detail = f"{error.detail} (region {region})"
        raise UnavailableError(error.operation, detail, may_have_applied=error.may_have_applied) from error


def _of_each(sources: Iterable[ReportSource], read: Callable[[ReportSource], T | None]) -> Iterator[T]:
    for source in sources:
        with naming(source.region):
            known = read(source)
        if known is not None:
            yield known


def begins_before_all(sources: Iterable[ReportSource], query: UsageQuery) -> bool:
    """Whether the range begins before the first hour with rows in any of the regions."""
    first = list(_of_each(sources, lambda source: source.view.first_hour_s()))
    return bool(first) and query.from_s < min(first)


def booked_range_s(sources: Iterable[ReportSource], *, now_s: int) -> tuple[int, int] | None:
    """Range of the hours that have rows in any of the regions; None without rows."""
    ranges = list(_of_each(sources, lambda source: source.booked_range_s(now_s=now_s)))
    return (min(first for first, _ in ranges), max(after for _, after in ranges)) if ranges else None


def report_periods(sources: Iterable[ReportSource], query: UsageQuery, *, now_s: int) -> dict[str, str]:
    """State of each month of a report over one or several regions: the state of the region furthest behind."""
    states: dict[str, str] = {}
    for known in _of_each(sources, lambda source: source.periods(query, now_s=now_s)):
        for month, state in known.items():
            states[month] = min(states.get(month, state), state, key=_STATES.index)
    return dict(sorted(states.items()))


def _by_account(query: UsageQuery) -> bool:
    return "account_id" in query.group_by


def _merges(key: UsageKey, query: UsageQuery) -> bool:
    """Whether a total of the region stands for several kinds of usage that a report distinguishes.

    Such totals have no places, and some of them no usage type and service either.
    """
    if not is_any(key):
        return False
    columns = {each.group for each, _ in query.given} | {*query.group_by}
    return not columns.isdisjoint({"from", "to"} if key.usage_type != ANY else {"usage_type", "service", "from", "to"})


def _where(query: UsageQuery) -> tuple[tuple[str, frozenset[str]], ...]:
    return tuple((each.column, values) for each, values in query.given if each.read is str)
