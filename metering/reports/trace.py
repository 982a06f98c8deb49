"""Traces one line down to its batches, with three sums: of the report, of the rows, and of the batches' markers.

| sum     | what it is                                                                                         |
|---------|----------------------------------------------------------------------------------------------------|
| usage   | the usage table as of now; of a closed month, the frozen totals. It is what people are given       |
| rows    | rows in lake and staging, counted one by one                                                       |
| markers | the markers of the batches that those rows name, less the rows of the same batches on other lines  |

A marker has its batch's total in an hour, but not by account. So a batch vouches for a line if the batch's marker
equals the sum of all rows of the batch in the hour. A marker expires after `marker_life_s`; then only two sums remain.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from metering.errors import OperationFailedError
from metering.hours import parse_hour, rfc3339
from metering.lake.ports import USAGE_COLUMNS, LakeReader, RowQuery, batches_of, usage_of
from metering.ledger import commits
from metering.ledger.markers import Marker, may_have_expired, read_batches
from metering.reports import usage_answer
from metering.reports.answer import (
    KEEP,
    ROOMY,
    Answer,
    Cell,
    Fields,
    Json,
    RowType,
    copied,
    integer,
    json_row,
    ordinal,
    sized,
    timed,
)
from metering.reports.query import KEY_COLUMNS, UsageQuery
from metering.reports.usage_rows import Values, matching
from metering.units import HOUR_S, counted, exact_and_size
from metering.usage.totals import ZERO, Total, add_totals, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.ledger.booked_hours import RowSource
    from metering.reports.source import ReportSource


# Number of threads that read files of an hour in parallel.
_READERS = 8
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileShare:
    """One object with rows of a line. If it is a staging object, its rows are not in a lake file yet."""

    key: str
    staged: bool
    total: Total


def file_documents(files: Iterable[FileShare]) -> list[Json]:
    """Convert objects that contain rows to the contract's form."""
    return [
        {"key": file.key, "staged": file.staged, "bytes": str(file.total.bytes), "records": file.total.records}
        for file in files
    ]


def read_side_by_side(sources: Sequence[RowSource], read: Callable[[RowSource], T]) -> list[tuple[RowSource, T]]:
    """Read row sources concurrently; yield each with the rows read from it."""
    with ThreadPoolExecutor(_READERS) as pool:
        return list(zip(sources, pool.map(read, sources), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class HourRows:
    """A line's rows in one booked hour, by `KEY_COLUMNS` and by batch; `whole` has all rows of these batches."""

    hour_s: int
    usage: Mapping[Values, Total] = field(default_factory=dict)
    batches: Mapping[str, Total] = field(default_factory=dict)
    whole: Mapping[str, Total] = field(default_factory=dict)
    files: tuple[FileShare, ...] = ()

    @property
    def total(self) -> Total:
        return sum_totals(self.batches.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class LineReader:
    """Reads the rows of a line."""

    reader: LakeReader
    query: UsageQuery

    def hour(self, hour_s: int, sources: Sequence[RowSource]) -> HourRows:
        """Rows of the line in one hour, read from the hour's row sources.

        Raises:
            ObjectMissingError: An object is gone.
            ObjectDamagedError: An object cannot be decoded.
        """
        usage: dict[Values, Total] = {}
        batches: dict[str, Total] = {}
        whole: dict[str, Total] = {}
        files: list[FileShare] = []
        for source, part in read_side_by_side(sources, lambda source: self._source(hour_s, source)):
            add_totals(usage, part.usage)
            add_totals(batches, part.batches)
            add_totals(whole, part.whole)
            if part.batches:
                files.append(FileShare(key=source.key, staged=source.staged, total=part.total))
        files.sort(key=lambda file: (file.staged, file.key))
        return HourRows(hour_s=hour_s, usage=usage, batches=batches, whole=whole, files=tuple(files))

    def _source(self, hour_s: int, source: RowSource) -> HourRows:
        # `matching` drops rows that the other filters exclude.
        where = (("account_id", self.query.accounts),)
        groups = self.reader.totals([source], RowQuery(columns=(*USAGE_COLUMNS, "batch_id"), where=where))
        usage: dict[Values, Total] = {}
        batches: dict[str, Total] = {}
        for group, total in groups.items():
            key = usage_of(hour_s, {group[: len(USAGE_COLUMNS)]: total})
            for values, matched in matching(key.items(), self.query):
                add_totals(usage, {values: matched})
                add_totals(batches, {str(group[-1]): matched})
        # In an hour, all rows of a batch are in one object, because they belong to one commit.
        return HourRows(hour_s=hour_s, usage=usage, batches=batches, whole=self._whole(source, frozenset(batches)))

    def _whole(self, source: RowSource, batch_ids: frozenset[str]) -> dict[str, Total]:
        if not batch_ids:
            return {}
        query = RowQuery(columns=("batch_id",), where=(("batch_id", batch_ids),))
        return batches_of(self.reader.totals([source], query))


def difference(expected: Mapping[Values, Total], found: Mapping[Values, Total]) -> dict[Values, tuple[Total, Total]]:
    """Both figures of each key whose figures differ; a key that is missing on one side counts as 0."""
    pairs = {key: (expected.get(key, ZERO), found.get(key, ZERO)) for key in sorted({*expected, *found})}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


_HOUR = KEY_COLUMNS.index("hour")
_MARKERS_AT_ONCE = 10_000


class Vouching(StrEnum):
    """Whether a batch's marker confirms the batch's rows on a line."""

    AGREES = "agrees"
    DIFFERS = "differs"
    EXPIRED = "expired"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedBatch:
    """A batch with rows on the line; `marked` is its share by its marker, or None if the marker has expired."""

    batch_id: str
    total: Total
    hours: tuple[int, ...]
    marked: Total | None
    vouching: Vouching
    source_id: str = ""
    sequence: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedHour:
    """A booked hour of the line; `differences` has the differing figures of usage and rows, by `KEY_COLUMNS`."""

    hour_s: int
    usage: Total
    rows: Total
    differences: Mapping[Values, tuple[Total, Total]]
    files: tuple[FileShare, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One line of one region, down to its batches; `unsettled` hours differ and still wait for the roll-up."""

    region: str
    hours: tuple[TracedHour, ...]
    batches: tuple[TracedBatch, ...]
    unsettled: tuple[int, ...] = ()

    @property
    def usage(self) -> Total:
        return sum_totals(hour.usage for hour in self.hours)

    @property
    def rows(self) -> Total:
        return sum_totals(hour.rows for hour in self.hours)

    @property
    def markers(self) -> Total | None:
        """The markers' sum; None if any batch's marker has expired."""
        if any(batch.marked is None for batch in self.batches):
            return None
        return sum_totals(batch.marked or ZERO for batch in self.batches)

    @property
    def equal(self) -> bool:
        """Whether all available sums agree, by hour and key, and by batch."""
        doubtful = {Vouching.DIFFERS, Vouching.MISSING}
        return not any(hour.differences for hour in self.hours) and not any(
            batch.vouching in doubtful for batch in self.batches
        )


@dataclass(slots=True)
class _Figures:
    """Data read for a line, by hour. Mutable."""

    usage: dict[int, dict[Values, Total]] = field(default_factory=dict)
    rows: dict[int, HourRows] = field(default_factory=dict)

    def differing(self) -> list[int]:
        return [hour_s for hour_s in self.hours() if self.differences(hour_s)]

    def differences(self, hour_s: int) -> dict[Values, tuple[Total, Total]]:
        return difference(self.usage.get(hour_s, {}), self.rows_of(hour_s).usage)

    def rows_of(self, hour_s: int) -> HourRows:
        return self.rows.get(hour_s) or HourRows(hour_s=hour_s)

    def hours(self) -> list[int]:
        booked = {hour_s for hour_s, usage in self.usage.items() if any(total != ZERO for total in usage.values())}
        return sorted(booked.union(hour_s for hour_s, rows in self.rows.items() if rows.batches))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracer:
    """Traces lines in one region.

    Attributes:
        marker_life_s: Lifetime of a marker; markers of older hours may have expired.
        attempts: Maximum number of reads of an hour whose sums differ, because the hour may change between reads.
        reread: Maximum number of hours that are read again, newest first. Old hours seldom change.
        most: Maximum number of batches of a line; a batch counts once for each hour.
    """

    source: ReportSource
    marker_life_s: int
    attempts: int = 20
    reread: int = 24
    most: int = 100_000

    def trace(self, query: UsageQuery, *, now_s: int) -> Trace:
        """Read the three sums of a line (`TraceParameters.query`).

        Raises:
            OperationFailedError: The line has more batches than `most`.
            UnavailableError: An hour could not be read.
            LedgerCorruptError: A file that an hour needs is missing, or a marker cannot be read.
        """
        figures = self._read(query, now_s)
        for hour_s in figures.differing()[-self.reread :]:
            self._again(figures, query, hour_s, now_s)
        differing = figures.differing()
        # While batches arrive, any two readings can differ. Only if sums differ, the list of waiting commits is read.
        waiting = commits.waiting_commits(self.source.items, self.source.view.shards) if differing else ()
        unsettled = {hour_s for commit in waiting for hour_s in commit.totals}
        return Trace(
            region=self.source.region,
            hours=tuple(_traced(figures, hour_s) for hour_s in figures.hours()),
            batches=tuple(self._batches(figures, now_s)),
            unsettled=tuple(hour_s for hour_s in differing if hour_s in unsettled),
        )

    def _read(self, query: UsageQuery, now_s: int) -> _Figures:
        figures = _Figures()
        # Rows are read as of now, so usage is read as of now, too.
        for values, total in self.source.entries(replace(query, now=True), now_s=now_s):
            add_totals(figures.usage.setdefault(parse_hour(values[_HOUR][:13]), {}), {values: total})
        lines = LineReader(reader=self.source.view.reader, query=query)
        batches = 0
        for rows in self.source.each_hour(query, lines.hour, now_s=now_s):
            figures.rows[rows.hour_s] = rows
            batches += len(rows.batches)
            if batches > self.most:
                raise OperationFailedError(
                    f"This line has more than {self.most:,} batches.",
                    "Trace less of it: one hour, one usage type, one service.",
                )
        return figures

    def _again(self, figures: _Figures, query: UsageQuery, hour_s: int, now_s: int) -> None:
        """Reread an hour until its two sums agree, because a batch accepted between their reads is in only one sum."""
        only = replace(query, from_s=hour_s, to_s=hour_s + HOUR_S)
        for _ in range(self.attempts):
            new = self._read(only, now_s)
            same = new.usage.get(hour_s) == figures.usage.get(hour_s) and new.rows.get(hour_s) == figures.rows.get(
                hour_s
            )
            figures.usage[hour_s], figures.rows[hour_s] = new.usage.get(hour_s, {}), new.rows_of(hour_s)
            if same or not figures.differences(hour_s):
                return

    def _batches(self, figures: _Figures, now_s: int) -> Iterator[TracedBatch]:
        hours: dict[str, list[HourRows]] = {}
        for hour_s in figures.hours():
            for batch_id in figures.rows_of(hour_s).batches:
                hours.setdefault(batch_id, []).append(figures.rows_of(hour_s))
        waiting = iter(sorted(hours))
        while part := list(islice(waiting, _MARKERS_AT_ONCE)):
            markers = read_batches(self.source.items, part).markers
            for batch_id in part:
                yield self._batch(batch_id, hours[batch_id], markers.get(batch_id), now_s)

    def _batch(self, batch_id: str, hours: Sequence[HourRows], marker: Marker | None, now_s: int) -> TracedBatch:
        total = sum_totals(rows.batches[batch_id] for rows in hours)
        names = tuple(rows.hour_s for rows in hours)
        marked, vouching = self._vouched(batch_id, hours, marker, now_s)
        if marked is not None:
            marked = marked.minus(sum_totals(rows.whole[batch_id] for rows in hours).minus(total))
        return TracedBatch(
            batch_id=batch_id,
            total=total,
            hours=names,
            marked=marked if vouching is not Vouching.MISSING else ZERO,
            vouching=vouching,
            source_id="" if marker is None or vouching is Vouching.EXPIRED else marker.source_id,
            sequence=None if marker is None or vouching is Vouching.EXPIRED else marker.sequence,
        )

    def _vouched(
        self, batch_id: str, hours: Sequence[HourRows], marker: Marker | None, now_s: int
    ) -> tuple[Total | None, Vouching]:
        """The marker's total for all rows of the batch in these hours; None if the batch's marker has expired.

        After expiry, a later copy or other content can get a marker under the same id. Such markers lack these hours.
        """
        marks = {} if marker is None else marker.hours
        unnamed = [rows.hour_s for rows in hours if rows.hour_s not in marks]
        named = [rows for rows in hours if rows.hour_s in marks]
        if any(marks[rows.hour_s] != rows.whole[batch_id] for rows in named):
            return sum_totals(marks[rows.hour_s] for rows in named), Vouching.DIFFERS
        if unnamed and may_have_expired(max(unnamed), self.marker_life_s, now_s):
            return None, Vouching.EXPIRED
        said = sum_totals(marks[rows.hour_s] for rows in named)
        if marker is None:
            return said, Vouching.MISSING
        return said, Vouching.DIFFERS if unnamed else Vouching.AGREES


def _traced(figures: _Figures, hour_s: int) -> TracedHour:
    rows = figures.rows_of(hour_s)
    return TracedHour(
        hour_s=hour_s,
        usage=sum_totals(figures.usage.get(hour_s, {}).values()),
        rows=rows.total,
        differences=figures.differences(hour_s),
        files=rows.files,
    )


# The answer about one line: its hours, batches and files, and three sums.

# An answer lists at most this many differences; the count includes all differences.
DIFFERENCES_LISTED = 100

_BATCHES, _NEXT = "batches", "next"
_Of = tuple[str, TracedBatch]
_REGION: Fields[_Of] = copied("region", of=lambda it: it[0], priority=KEEP)
_BATCH: Fields[_Of] = (
    *copied("batch_id", of=lambda it: it[1].batch_id, priority=KEEP),
    *copied("source_id", of=lambda it: it[1].source_id, priority=ROOMY, about="who sent it, if it said so"),
    *ordinal("sequence", of=lambda it: it[1].sequence, priority=ROOMY + 1, about="its number at that source"),
    *sized("bytes", of=lambda it: it[1].total.bytes, priority=KEEP, about="of the batch on this line"),
    *integer("records", of=lambda it: it[1].total.records),
    *timed("first_hour", of=lambda it: it[1].hours[0], about="the first hour that it counts in here"),
    *timed("last_hour", of=lambda it: it[1].hours[-1], priority=ROOMY + 1, about="the last one"),
    *copied("marker", of=lambda it: it[1].vouching, about="whether its marker says what its rows say"),
)
_MARKERS = {
    Vouching.DIFFERS: "another total than their rows",
    Vouching.MISSING: "no marker, though it cannot have expired",
}


def trace_answer(
    query: UsageQuery,
    traces: Sequence[Trace],
    *,
    as_of_s: int,
    periods: Mapping[str, str],
    everywhere: bool = False,
    with_files: bool = True,
) -> Answer:
    """Convert a line's traces in some regions to the answer of `metering trace`. The rows are the batches.

    If `everywhere`, each row names its region. Callers limited to own accounts see no objects (`with_files`).
    """
    batches = RowType(_REGION if everywhere else (), _BATCH)
    ordered = sorted(traces, key=lambda each: each.region)
    rows = [batches.row((trace.region, batch)) for trace in ordered for batch in trace.batches]
    columns = batches.columns
    document: dict[str, Json] = {
        "line": _line(query, sum_totals(trace.usage for trace in traces)),
        "as_of": rfc3339(as_of_s),
        "periods": dict(periods),
        **({"regions": [trace.region for trace in traces]} if everywhere else {}),
        "hours": [
            _hour(trace, hour, everywhere=everywhere, with_files=with_files) for trace in traces for hour in trace.hours
        ],
        _BATCHES: [json_row(columns, row) for row in rows],
        **_sums(traces),
        "equal": all(trace.equal for trace in traces),
        **_doubts(traces, everywhere=everywhere),
        _NEXT: None,
    }
    return Answer(
        columns=columns,
        rows=rows,
        document=document,
        meta={"as_of": rfc3339(as_of_s)},
        title=usage_answer.title_of(_named(query), query, as_of_s),
        empty="Nothing is booked on this line.",
        footer=(*lines(traces), *_next_step(query, traces)),
    )


def of_page(answer: Answer, rows: Sequence[Mapping[str, Cell]], following: str | None) -> Answer:
    """A page of a trace: some of the batches, and the sums of the whole line. `following` names the next page."""
    batches = [json_row(answer.columns, row) for row in rows]
    return replace(answer, rows=rows, document={**(answer.document or {}), _BATCHES: batches, _NEXT: following})


def key_columns(*, everywhere: bool) -> tuple[str, ...]:
    """The columns that identify a trace's rows, and by which rows are sorted."""
    return ("region", "batch_id") if everywhere else ("batch_id",)


def _line(query: UsageQuery, total: Total) -> dict[str, Json]:
    [account_id] = query.accounts
    return {
        "account_id": account_id,
        **{name: ",".join(sorted(values)) for name, values in query.filters().items() if name != "account"},
        "from": rfc3339(query.from_s),
        "to": rfc3339(query.to_s),
        "bytes": str(total.bytes),
        "records": total.records,
    }


def markers_of(traces: Sequence[Trace]) -> Total | None:
    """The sum of the markers over all regions; None if any marker has expired."""
    known = [trace.markers for trace in traces]
    if any(each is None for each in known):
        return None
    return sum_totals(each for each in known if each is not None)


def lines(traces: Sequence[Trace]) -> Iterator[str]:
    """Text below the rows: the sums, and their differences."""
    usage, rows = (sum_totals(trace.usage for trace in traces), sum_totals(trace.rows for trace in traces))
    markers = markers_of(traces)
    batches = sum(len(trace.batches) for trace in traces)
    files = sum(len(hour.files) for trace in traces for hour in trace.hours)
    hours = sum(len(trace.hours) for trace in traces)
    if not hours:
        return
    made_of = f"{counted(hours, 'hour')}, {counted(batches, 'batch', 'batches')}, {counted(files, 'file')}"
    yield f"{exact_and_size(usage.bytes)} in {counted(usage.records, 'record')}: {made_of}."
    expired = sum(batch.vouching is Vouching.EXPIRED for trace in traces for batch in trace.batches)
    if all(trace.equal for trace in traces):
        also = "and markers " if markers is not None else ""
        yield f"The report, the rows {also}say the same, to the byte."
        if expired:
            yield f"The markers of {counted(expired, 'batch', 'batches')} have expired; their rows remain."
        return
    yield "The sums are NOT equal:"
    yield f"  the report says {usage.bytes:,} bytes in {counted(usage.records, 'record')}"
    yield f"  the rows say {rows.bytes:,} bytes in {counted(rows.records, 'record')}"
    if markers is not None:
        yield f"  the markers say {markers.bytes:,} bytes in {counted(markers.records, 'record')}"
    yield from _where_different(traces)


def _where_different(traces: Sequence[Trace]) -> Iterator[str]:
    for trace in traces:
        for hour in trace.hours:
            if hour.differences:
                open_ = ", and batches of this hour are coming in" if hour.hour_s in trace.unsettled else ""
                yield (
                    f"{trace.region}, {rfc3339(hour.hour_s)}: the report has {hour.usage.bytes:,} bytes and the rows "
                    f"{hour.rows.bytes:,}{open_}."
                )
        for vouching, words in _MARKERS.items():
            ids = [batch.batch_id for batch in trace.batches if batch.vouching is vouching]
            if ids:
                yield f"{trace.region}: {counted(len(ids), 'batch', 'batches')} with {words}, such as {ids[0]}."


def _next_step(query: UsageQuery, traces: Sequence[Trace]) -> Iterator[str]:
    doubtful = [batch.batch_id for trace in traces for batch in trace.batches if batch.vouching in _MARKERS]
    batches = [batch.batch_id for trace in traces for batch in trace.batches]
    if any(hour.differences for trace in traces for hour in trace.hours):
        range_ = f"--from {rfc3339(query.from_s)} --to {rfc3339(query.to_s)}"
        yield f"To see everything that differs in this time: metering reconcile --deep {range_}"
    elif doubtful:
        yield f"To see such a batch: metering batch show {doubtful[0]}"
    elif batches:
        yield f"To see all of one batch: metering batch show {batches[0]}"


def _hour(trace: Trace, hour: TracedHour, *, everywhere: bool, with_files: bool) -> dict[str, Json]:
    document: dict[str, Json] = {
        **({"region": trace.region} if everywhere else {}),
        "hour": rfc3339(hour.hour_s),
        "bytes": str(hour.usage.bytes),
        "records": hour.usage.records,
        "rows_bytes": str(hour.rows.bytes),
        "rows_records": hour.rows.records,
        "equal": not hour.differences,
    }
    if with_files:
        document["files"] = file_documents(hour.files)
    return document


def _sums(traces: Sequence[Trace]) -> dict[str, Json]:
    markers = markers_of(traces)
    sums = {
        "usage": sum_totals(trace.usage for trace in traces),
        "rows": sum_totals(trace.rows for trace in traces),
        "markers": markers,
    }
    return {
        "sums": {name: None if total is None else str(total.bytes) for name, total in sums.items()},
        "sums_records": {name: None if total is None else total.records for name, total in sums.items()},
    }


def _doubts(traces: Sequence[Trace], *, everywhere: bool) -> dict[str, Json]:
    """Where the sums differ, and possible reasons: usage keys, batches, and hours that still receive batches."""
    found: list[Json] = [
        {
            **({"region": trace.region} if everywhere else {}),
            **dict(zip(KEY_COLUMNS, values, strict=True)),
            "usage_bytes": str(usage.bytes),
            "usage_records": usage.records,
            "rows_bytes": str(rows.bytes),
            "rows_records": rows.records,
        }
        for trace in traces
        for hour in trace.hours
        for values, (usage, rows) in hour.differences.items()
    ]
    return {
        "differences_total": len(found),
        "differences": found[:DIFFERENCES_LISTED],
        "unsettled": sorted({rfc3339(hour_s) for trace in traces for hour_s in trace.unsettled}),
        "markers_expired": sum(batch.vouching is Vouching.EXPIRED for trace in traces for batch in trace.batches),
    }


def _named(query: UsageQuery) -> str:
    [account_id] = query.accounts
    others = (value for name, values in query.filters().items() if name != "account" for value in sorted(values))
    return " ".join(["Trace of", account_id, *others])
