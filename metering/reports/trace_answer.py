"""The answer about one line: its hours, batches and files, and the three sums."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from metering.hours import rfc3339
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
from metering.reports.trace import Trace, TracedBatch, TracedHour, Vouching, file_documents
from metering.reports.usage_answer import title_of
from metering.units import counted, exact_and_size
from metering.usage.totals import Total, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    _Of = tuple[str, TracedBatch]


# Differences that an answer lists; all are counted.
DIFFERENCES_LISTED = 100

_BATCHES, _NEXT = "batches", "next"
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
    """Put the traces of a line in some regions into the form of `metering trace`. The rows are the batches.

    With `everywhere`, each row names its region. Who may see only its own accounts is told no objects (`with_files`).
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
        title=title_of(_named(query), query, as_of_s),
        empty="Nothing is booked on this line.",
        footer=(*lines(traces), *_next_step(query, traces)),
    )


def of_page(answer: Answer, rows: Sequence[Mapping[str, Cell]], following: str | None) -> Answer:
    """A page of a trace: some of its batches, and the sums of the whole line. `following` names the next page."""
    batches = [json_row(answer.columns, row) for row in rows]
    return replace(answer, rows=rows, document={**(answer.document or {}), _BATCHES: batches, _NEXT: following})


def key_columns(*, everywhere: bool) -> tuple[str, ...]:
    """The columns that name a row of a trace, by which its rows are sorted."""
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
    """The sum of the markers over all regions; None if some have expired."""
    known = [trace.markers for trace in traces]
    if any(each is None for each in known):
        return None
    return sum_totals(each for each in known if each is not None)


def lines(traces: Sequence[Trace]) -> Iterator[str]:
    """What the table says below its rows: the sums, and where they differ."""
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
    """What keeps the sums from being equal: keys of usage, batches, and hours that batches come into."""
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
