"""The answer to a usage report, in the contract's form."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeVar

from metering.audit.freshness import Complete, HeldBack, sentences
from metering.hours import hour_of, rfc3339
from metering.lake import ports
from metering.ledger.notes.checks import of_canary
from metering.reports import time_range
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column, Fields, Json, RowType, integer, sized
from metering.reports.query import FILTERS, Filter, UsageQuery
from metering.reports.source import ReportSource, naming
from metering.reports.usage_rows import NotRolledUp, Ranked, Seen, UsageRow, cut_lines, ranked, sum_of_rows
from metering.units import HOUR_S, counted, exact_and_size
from metering.usage.usage_types import is_processing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.lake.view import LakeView
    from metering.ledger.booked_hours import HourState, RowSource
    from metering.usage.totals import Moved

# Names that a report asked for and did not find, with the nearest existing names in its range.
#
# The report itself shows exactly which of the requested names it lacks. The nearest names are searched for in the lake,
# newest hours first and only up to a limit: a mistyped digit must not cause a whole month to be read.


# A few seconds of reading: name columns are small, and each object costs a request.
_MOST_ROWS = 5_000_000
_MOST_OBJECTS = 200
_MOST_NAMES = 200_000
_NEAREST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingName:
    """A filter value that no counted row has, with the most similar values in the report's range.

    Attributes:
        elsewhere: Whether the value occurs in the range, but not together with the report's other filters.
        cut: Whether the search for values ended before the whole range was searched.
    """

    parameter: str
    value: str
    nearest: tuple[str, ...] = ()
    elsewhere: bool = False
    cut: bool = False


def missing_names(sources: Sequence[ReportSource], query: UsageQuery, seen: Seen) -> list[MissingName]:
    """The filter values that the report did not find, in the order of the report's parameters.

    Raises:
        UnavailableError: An hour could not be read.
    """
    if seen.complete:
        return []
    missing = seen.missing()
    search = _Search(columns=tuple(dict.fromkeys(FILTERS[parameter].column for parameter in missing)))
    for source in sources:
        with naming(source.region):
            search.read(source, from_s=hour_of(query.from_s), to_s=query.to_s)
    return [
        _missing(FILTERS[parameter], value, search.names[FILTERS[parameter].column], cut=search.cut)
        for parameter, values in missing.items()
        for value in values
    ]


def _missing(asked: Filter, value: str, names: Iterable[str], *, cut: bool) -> MissingName:
    parameter, by_small = asked.name, {name.lower(): name for name in map(asked.read, names)}
    if by_small.get(value.lower()) == value:
        return MissingName(parameter=parameter, value=value, elsewhere=True, cut=cut)
    near = get_close_matches(value.lower(), by_small, n=_NEAREST)
    return MissingName(parameter=parameter, value=value, nearest=tuple(by_small[name] for name in near), cut=cut)


@dataclass(slots=True, kw_only=True)
class _Search:
    """Collects names until a limit is reached. Mutable."""

    columns: tuple[str, ...]
    names: dict[str, set[str]] = field(init=False)
    rows: int = 0
    objects: int = 0
    cut: bool = False

    def __post_init__(self) -> None:
        self.names = {column: set() for column in self.columns}

    def read(self, source: ReportSource, *, from_s: int, to_s: int) -> None:
        view = source.view
        for hour_s in reversed(view.hours(from_s=from_s, to_s=to_s)):
            if self._is_over():
                self.cut = True
                return
            source.meter.hours()
            for column, names in view.read(hour_s, lambda state: self._names(view, state)).items():
                self.names[column] |= names

    def _names(self, view: LakeView, state: HourState) -> Mapping[str, set[str]]:
        sources: list[RowSource] = []
        for source in state.sources:
            if self._is_over():
                self.cut = True
                break
            sources.append(source)
            self.rows += source.rows
            self.objects += 1
        groups = view.reader.totals(sources, ports.RowQuery(columns=self.columns))
        return {
            column: {str(group[place]) for group in groups if not of_canary(str(group[place]))}
            for place, column in enumerate(self.columns)
        }

    def _is_over(self) -> bool:
        found = sum(map(len, self.names.values()))
        return self.rows >= _MOST_ROWS or self.objects >= _MOST_OBJECTS or found >= _MOST_NAMES


_MONTHS_NAMED = 3
FIGURES: RowType[Moved] = RowType(sized("bytes", priority=KEEP), integer("records"))
F = TypeVar("F")


def processed_column() -> Fields[F]:
    """The last column of sums over usage types."""
    return sized("processed_bytes", priority=ROOMY, title="processed", about="processing, a second count, in no sum")


SUMS: RowType[Moved] = RowType(FIGURES.fields, processed_column())


def usage_answer(
    query: UsageQuery,
    rows: Sequence[UsageRow],
    *,
    as_of_s: int,
    complete: Complete,
    periods: Mapping[str, str] | None = None,
    regions: Sequence[str] = (),
    left_out: Mapping[str, Sequence[str]] | None = None,
    missing: Sequence[MissingName] = (),
    booked_s: tuple[int, int] | None = None,
    lacks: NotRolledUp | None = None,
    sources: Iterable[str] = (),
) -> Answer:
    """Convert all rows of a report, already sorted, to the contract's form; the query's `top` is applied here.

    `regions`, if any, were merged; `left_out` lists parts of the service that these regions lack. `booked_s` is the
    range of hours with rows, if it is to be shown; `lacks` is usage that waits for the roll-up, outside the rows;
    `sources` says what was read (`Seen`).
    """
    left_out, periods = left_out or {}, periods or {}
    meta = head_document(query_document(query), periods, as_of_s=as_of_s, complete=complete)
    if regions:
        meta |= {"regions": list(regions), "left_out": {name: list(parts) for name, parts in left_out.items()}}
    unknown = [each for each in missing if not each.elsewhere]
    if unknown:
        meta["unknown"] = [
            {"parameter": each.parameter, "value": each.value, "nearest": list(each.nearest), "cut": each.cut}
            for each in unknown
        ]
    if booked_s is not None:
        meta["booked"] = {"from": rfc3339(booked_s[0]), "to": rfc3339(booked_s[1])}
    if named := sorted(sources):
        meta["sources"] = list(named)
    waiting = None if lacks is None else waiting_document(lacks)
    if waiting is not None:
        meta["waiting"] = waiting
    cut = ranked(rows, query, lambda some: sum_of_rows(some, query))
    total = sum_of_rows(rows, query)
    processing = processing_in(rows, query)
    if processing:
        meta["processing"] = [*processing]
    return rows_answer(
        query,
        cut,
        SUMS if query.sums_usage_types else FIGURES,
        of_others=SUMS if query.processing_apart else FIGURES,
        meta=meta,
        title=title_of("Usage", query, as_of_s),
        empty="No usage matches." if waiting is None else "No usage that is rolled up matches.",
        footer=(
            *cut_lines(len(cut.rows), len(rows)),
            f"Total: {exact_and_size(total.bytes)} in {counted(total.records, 'record')}.",
            *processed_lines(total),
            *waiting_lines(lacks),
            *completeness_lines(query, complete, as_of_s, periods, left_out),
        ),
    )


def processing_in(rows: Iterable[UsageRow], query: UsageQuery) -> list[str]:
    """Usage types of rows that are processing, and thus in no sum; sorted. Empty unless rows have usage types."""
    if not query.processing_apart or "usage_type" not in query.columns:
        return []
    place = query.columns.index("usage_type")
    return sorted({name for row in rows if is_processing(name := row.values[place])})


def processed_lines(total: Moved) -> tuple[str, ...]:
    """Text below a sum over usage types; empty if nothing was processed."""
    if not total.processed_bytes:
        return ()
    size = exact_and_size(total.processed_bytes)
    return (f"Processed by gateways and endpoints, a second count and not in the total: {size}.",)


def head_document(
    question: dict[str, Json], periods: Mapping[str, str], *, as_of_s: int, complete: Complete
) -> dict[str, Json]:
    """First fields of a report's document, about the completeness of the report's figures."""
    return {
        "query": question,
        "as_of": rfc3339(as_of_s),
        "complete_through": rfc3339(min(complete.through_s, as_of_s)),
        "held_back_by": held_back_document(complete.held_back_by),
        "periods": dict(periods),
    }


def rows_answer(
    query: UsageQuery,
    cut: Ranked[F],
    figures: RowType[F],
    *,
    of_others: RowType[F] | None = None,
    meta: Mapping[str, Json],
    title: str,
    empty: str,
    footer: tuple[str, ...],
) -> Answer:
    """Rows of a report: values of the group columns, and figures. If `top` is set, the other rows are one sum.

    `of_others` are the figures of this sum in JSON, if they are more than those of the rows.
    """
    names = tuple(
        Column(
            name=name,
            kind="time" if name == "hour" else "text",
            text="prose" if name == "tier" else "copied",
            priority=KEEP,
        )
        for name in query.columns
    )
    # A time column cannot hold a word.
    named = next((column.name for column in names if column.kind == "text"), None)
    label: dict[str, Cell] = {} if named is None else {named: "others"}
    others = None if cut.others is None else {**label, **figures.row(cut.others)}
    rows = [{**dict(zip(query.columns, row.values, strict=True)), **figures.row(row.total)} for row in cut.rows]
    if query.top is not None:
        sums = (
            None
            if cut.others is None
            else {"rows": cut.rows_total - len(rows), **(of_others or figures).document(cut.others)}
        )
        meta = {**meta, "rows_total": cut.rows_total, "others": sums}
    columns = (*names, *figures.columns)
    return Answer(columns=columns, rows=rows, others=others, meta=meta, title=title, empty=empty, footer=footer)


def held_back_document(held: Sequence[HeldBack]) -> list[Json]:
    """The reason for incompleteness, in the contract's form: `since` is null if it is unknown."""
    return [
        {"what": each.what, "since": None if each.since_s is None else rfc3339(each.since_s), "cure": each.cure}
        for each in held
    ]


def waiting_document(lacks: NotRolledUp) -> dict[str, Json] | None:
    """Waiting usage that is not in the rows, in the contract's form; None without such usage."""
    if lacks.since_s is None:
        return None
    total = lacks.total
    return {
        "bytes": None if total is None else str(total.bytes),
        "records": None if total is None else total.records,
        "since": rfc3339(lacks.since_s),
    }


def waiting_lines(lacks: NotRolledUp | None) -> tuple[str, ...]:
    """The same for people."""
    if lacks is None or lacks.since_s is None:
        return ()
    since, add = rfc3339(lacks.since_s), "To count it now, ask again with --now; without, it is in within a minute."
    if lacks.total is None:
        return (f"Not in it: what waits for the roll-up since {since}, which may be of these accounts. {add}",)
    size, records = exact_and_size(lacks.total.bytes), counted(lacks.total.records, "record")
    return (f"Not in it: {size} in {records}, accepted since {since}, which wait for the roll-up. {add}",)


def completeness_lines(
    query: UsageQuery,
    complete: Complete,
    as_of_s: int,
    periods: Mapping[str, str],
    left_out: Mapping[str, Sequence[str]],
) -> Iterator[str]:
    """Lines: the figures' completeness (final if all their months are closed), and parts that regions lack."""
    yield from _completeness(query, complete, as_of_s, periods)
    yield from (f"{region} runs without {', '.join(parts)}." for region, parts in left_out.items())


def _completeness(query: UsageQuery, complete: Complete, as_of_s: int, periods: Mapping[str, str]) -> list[str]:
    closed = [month for month, state in periods.items() if state == "closed"]
    final = _final_line(closed)
    if closed and len(closed) == len(periods) and not query.with_corrections:
        return [f"As of {rfc3339(as_of_s)}. {final}"]
    through_s, held = min(complete.through_s, as_of_s), complete.held_back_by
    known = f"complete through {rfc3339(through_s)}" if through_s > 0 else "and it is not known yet how complete"
    lines = [f"As of {rfc3339(as_of_s)}, {known}.", *(sentences(held[0]) if held else ())]
    if len(held) > 1:
        lines.append(f"Also by {'; '.join(each.what for each in held[1:])}. To see all: metering status")
    return [*lines, final] if closed else lines


def _final_line(closed: Sequence[str]) -> str:
    if len(closed) == 1:
        return f"{closed[0]} is closed: its figures are final. What comes late is a correction in a later month."
    named = ", ".join(closed) if len(closed) <= _MONTHS_NAMED else f"{closed[0]} to {closed[-1]}"
    return f"{named} are closed: their figures are final. What comes late is a correction in a later month."


def title_of(what: str, query: UsageQuery, as_of_s: int) -> str:
    """Heading of a report: the report's subject and range."""
    title = f"{what} from {time_range.shown(query.from_s, query.zone)} to {time_range.shown(query.to_s, query.zone)}"
    if query.zone is not UTC:
        title += f", by UTC hours in {query.zone}"
    if (query.from_s, query.to_s) == (time_range.month_start_s(as_of_s, query.zone), hour_of(as_of_s) + HOUR_S):
        title += ", this month so far"
    return f"{title} (not over yet)" if query.to_s > hour_of(as_of_s) + HOUR_S else title


def query_document(query: UsageQuery) -> dict[str, Json]:
    """The query, in the contract's form."""
    document: dict[str, Json] = {
        "from": rfc3339(query.from_s),
        "to": rfc3339(query.to_s),
        "group_by": list(query.group_by),
    }
    document |= {each.field: sorted(values) for each, values in query.given}
    if query.with_corrections:
        document["with_corrections"] = True
    if query.zone is not UTC:
        document["tz"] = str(query.zone)
    if query.order is not None:
        document["sort"] = str(query.order)
    if query.top is not None:
        document["top"] = query.top
    if query.now:
        document["now"] = True
    return document
