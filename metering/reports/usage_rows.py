"""Rows of a usage report: totals grouped by the columns of the query."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from operator import attrgetter
from typing import TYPE_CHECKING, Generic, TypeVar

from metering.hours import hour_label, month_of
from metering.reports import time_range
from metering.reports.query import FILTERS, GroupColumn, UsageQuery
from metering.usage.totals import ZERO, Moved, Total, UsageKey, moved
from metering.usage.usage_types import is_processing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.rollup.as_of_now import Apart

Values = tuple[str, ...]

_VALUE_OF: dict[GroupColumn, Callable[[UsageKey], str]] = {
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


def value_functions(
    query: UsageQuery, region: str, more: Mapping[GroupColumn, Callable[[UsageKey], str]] | None = None
) -> list[Callable[[UsageKey], str]]:
    """A function for each group column. If the zone is not UTC, hours have the zone's labels.

    `more` contains functions for columns that a usage key lacks.
    """
    zone = {} if query.zone is UTC else _zone_values(query.zone)
    of: dict[GroupColumn, Callable[[UsageKey], str]] = {
        **_VALUE_OF, **zone, "region": lambda _key: region, **(more or {}),
    }  # fmt: skip
    return [of[name] for name in query.group_by]


def _zone_values(zone: tzinfo) -> dict[GroupColumn, Callable[[UsageKey], str]]:
    labels: dict[int, str] = {}

    def label(hour_s: int) -> str:
        # A report repeats the same hours for each account and usage type.
        return labels.get(hour_s) or labels.setdefault(hour_s, datetime.fromtimestamp(hour_s, zone).isoformat())

    return {
        "month": lambda key: label(key.hour_s)[:7],
        "day": lambda key: label(key.hour_s)[:10],
        "hour": lambda key: label(key.hour_s),
        "corrects": lambda key: "" if key.corrects_s is None else label(key.corrects_s),
    }


F = TypeVar("F")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow(Generic[F]):
    """One line of a report: values of the group columns, and their figures."""

    values: Values
    total: F


UsageRow = ReportRow[Moved]


class Seen:
    """Filter values that were requested, and those that were found. Mutable.

    Attributes:
        sources: What the totals were read from (P53): `closed`, `region`, `accounts`, `hours` or `rows`.
    """

    def __init__(self, query: UsageQuery) -> None:
        self.sources: set[str] = set()
        self._query = query
        self._missing = {parameter: set(names) for parameter, names in query.filters().items()}
        self._beside: set[tuple[str, str]] = set()

    def note(self, key: UsageKey) -> None:
        """Record that a total of this key counts in the report."""
        for parameter in [*self._missing]:
            self._missing[parameter].discard(FILTERS[parameter].value(key))
            if not self._missing[parameter]:
                # A found name is not searched for again, because a report has many keys.
                del self._missing[parameter]

    def note_beside(self, key: UsageKey) -> None:
        """Record that a total of this key was read, but is excluded by another filter or the range."""
        if self._query.covers(key) and (not self._query.accounts or key.account_id in self._query.accounts):
            for parameter, names in self._missing.items():
                if (name := FILTERS[parameter].value(key)) in names:
                    self._beside.add((parameter, name))

    def is_beside(self, parameter: str, name: str) -> bool:
        """Whether totals of the same accounts in the range have this value, but other filters exclude these totals."""
        return (parameter, name) in self._beside

    @property
    def complete(self) -> bool:
        """Whether every value was found."""
        return not self._missing

    def missing(self) -> dict[str, list[str]]:
        """Filter values that no total of the report has, grouped by parameter."""
        return {parameter: sorted(names) for parameter, names in self._missing.items()}


class NotRolledUp:
    """Usage that waits for the roll-up, and that a report on accounts therefore lacks. Mutable.

    Attributes:
        total: Waiting usage that the query matches, without processing; None if unknown.
        since_s: Lower bound of the sent time of the oldest waiting message, epoch seconds; None if nothing waits.
    """

    def __init__(self, query: UsageQuery, seen: Seen) -> None:
        self._query = query
        self._seen = seen
        self.total: Total | None = ZERO
        self.since_s: int | None = None

    def add(self, apart: Apart) -> None:
        """Add usage that waits in a region."""
        if apart.since_ms is None:
            return
        found = False
        for key, total in apart.waiting or ():
            if not self._query.matches(key):
                self._seen.note_beside(key)
                continue
            found = True
            self._seen.note(key)
            if self._query.processing_apart and is_processing(key.usage_type):
                continue
            self.total = None if self.total is None else self.total.plus(total)
        if apart.waiting is None:
            self.total = None
        if found or apart.waiting is None:
            since_s = apart.since_ms // 1_000
            self.since_s = since_s if self.since_s is None else min(self.since_s, since_s)


def values_of(key: UsageKey, columns: Sequence[GroupColumn]) -> Values:
    """Values of some columns of a usage key."""
    return tuple([_VALUE_OF[name](key) for name in columns])


def matching(
    usage: Iterable[tuple[UsageKey, Total]], query: UsageQuery, *, region: str = "", seen: Seen | None = None
) -> Iterator[tuple[Values, Total]]:
    """A region's totals that count in the report, not summed yet, each with its values of the group columns."""
    columns = value_functions(query, region)
    for key, total in usage:
        if query.matches(key):
            if seen is not None and not seen.complete:
                seen.note(key)
            yield tuple([column(key) for column in columns]), total
        elif seen is not None and not seen.complete:
            seen.note_beside(key)


def summed(
    entries: Iterable[tuple[Values, Total]], query: UsageQuery | None = None, *, most: int | None = None
) -> list[UsageRow]:
    """One row per distinct tuple of values, sorted by the tuple. Sums that cancel out (repairs) remain as 0.

    Entries of `query.of_usage_types` become rows of the query, with processing apart. Without a query, all counts.

    Raises:
        InvalidParametersError: There are more.
    """
    place = len(query.group_by) if query is not None and query.sums_usage_types else None
    sums: dict[Values, Moved] = {}
    for named, entry in entries:
        values = named if place is None else (*named[:place], *named[place + 1 :])
        total = moved(entry, processing=place is not None and is_processing(named[place]))
        before = sums.get(values)
        sums[values] = total if before is None else before.plus(total)
        if before is None:
            time_range.check_rows(len(sums), most)
    return [ReportRow(values=values, total=sums[values]) for values in sorted(sums)]


def sum_of_rows(rows: Iterable[UsageRow], query: UsageQuery) -> Moved:
    """Sum of rows. Rows of processing, which are grouped by usage type, are left out and stand beside it."""
    place = query.columns.index("usage_type") if query.processing_apart and "usage_type" in query.columns else None
    found = Moved(0, 0)
    for row in rows:
        processing = place is not None and is_processing(row.values[place])
        found = found.plus(moved(row.total.total, processing=True) if processing else row.total)
    return found


def grouped(usage: Iterable[tuple[UsageKey, Total]], query: UsageQuery) -> list[UsageRow]:
    """Sum totals by usage key into the rows of the report."""
    return summed(matching(usage, query.of_usage_types), query)


_HOURS = frozenset({"hour", "corrects"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked(Generic[F]):
    """The first rows of a report, and the sum of all other rows, if any."""

    rows: Sequence[ReportRow[F]]
    others: F | None
    rows_total: int


def in_order(rows: Sequence[UsageRow], query: UsageQuery) -> list[UsageRow]:
    """Rows in the order of the query. Ties, and rows without an order, are sorted by the identifying columns."""
    return ordered(rows, query, {"bytes": attrgetter("bytes"), "records": attrgetter("records")})


def ordered(
    rows: Sequence[ReportRow[F]], query: UsageQuery, figures: Mapping[str, Callable[[F], int]]
) -> list[ReportRow[F]]:
    """Like `in_order`, for rows of any type; for each column of figures, `figures` reads the number to sort by."""
    named = name_key(query)
    names = sorted(rows, key=lambda row: named(row.values))
    if query.order is None:
        return names
    figure = figures.get(query.order.column)
    if figure is not None:
        return sorted(names, key=lambda row: figure(row.total), reverse=query.order.descending)
    place = query.columns.index(query.order.column)
    return sorted(names, key=lambda row: named(row.values)[place], reverse=query.order.descending)


def ranked(rows: Sequence[ReportRow[F]], query: UsageQuery, sum_of: Callable[[Iterable[ReportRow[F]]], F]) -> Ranked[F]:
    """Cut sorted rows after the first `top` of the query."""
    rest = [] if query.top is None else rows[query.top :]
    others = sum_of(rest) if rest else None
    return Ranked(rows=rows[: query.top], others=others, rows_total=len(rows))


def name_key(query: UsageQuery) -> Callable[[Values], Values]:
    """Default sort key of rows: the columns that identify a row, with hours sorted by time.

    The function raises a `ValueError` for a label that is not an hour.
    """
    if query.zone is UTC:
        return lambda values: values
    # If a clock is set back, the text of an earlier hour sorts after the text of a later hour.
    hours = [name in _HOURS for name in query.columns]
    return lambda values: tuple(_utc(value) if is_hour else value for value, is_hour in zip(values, hours, strict=True))


def _utc(label: str) -> str:
    return datetime.fromisoformat(label).astimezone(UTC).isoformat() if label else ""


def cut_lines(shown: int, rows: int) -> tuple[str, ...]:
    """Text below a table that shows only some rows: their number, and the sum of the other rows."""
    return (f"{shown:,} of {rows:,} rows; the last line is the sum of the others.",) if shown < rows else ()
