"""Answers about producers that number their batches (gaps, silence), and about the reconciler's progress."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import month_bounds_s, rfc3339
from metering.lake.ports import FrozenReader, rows_of_days
from metering.reports import answer, source, usage_rows
from metering.reports.query import GroupColumn, UsageQuery
from metering.units import HOUR_S, counted, exact_and_size
from metering.usage.totals import ZERO, Total, UsageKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.audit import verification
    from metering.audit.hour_check import HourCheck, HourFigures
    from metering.billing import closer
    from metering.billing.checklist import Checklist, CloseCheck
    from metering.ledger.notes.reconciliation import Reconciliation, SourceFigures, SourceState
    from metering.ledger.periods import FrozenMonth


def _sources(silent_s: int) -> answer.RowType[SourceState]:
    return answer.RowType(
        answer.copied("source_id", priority=answer.KEEP),
        answer.ordinal("last_sequence", about="the highest number that came"),
        answer.timed("last_seen", of=lambda it: it.last_seen_s, about="when its last batch came"),
        answer.flag("silent", of=lambda it: it.last_seen_s < silent_s, about="nothing came for long"),
        answer.integer("missing", priority=answer.KEEP, about="numbers that never came"),
        answer.prose("gaps", of=lambda it: intervals(it.gaps), priority=answer.KEEP, about="those numbers"),
        answer.integer("unlisted_gaps", priority=answer.ROOMY, about="more gaps than are kept"),
        answer.integer("incredible", priority=answer.ROOMY, about="numbers too high to be true"),
        answer.ordinal("incredible_first", priority=answer.ROOMY + 1, about="the first of those"),
    )


def sources_answer(
    states: Sequence[SourceState], figures: SourceFigures, reconciliation: Reconciliation | None, *, silent_s: int
) -> answer.Answer:
    """Convert the states of sources, as of the last scan, to the answer of `metering sources`.

    A source whose last batch came before `silent_s` is silent.
    """
    table = _sources(silent_s)
    scanned_s = figures.scanned_ms // 1000
    document: dict[str, answer.Json] = {
        "as_of": rfc3339(scanned_s) if scanned_s else None,
        "unkept": figures.unkept,
        "unkept_names": list(figures.names),
        "reconciliation": None if reconciliation is None else _reconciliation(reconciliation),
        "rows": [{**table.document(state), "gaps": [list(each) for each in state.gaps]} for state in states],
    }
    return table.answer(states, document=document, empty="No source to show.")


def intervals(ranges: Iterable[tuple[int, int]]) -> str:
    """Ranges of sequence numbers as text: `3-4, 7`."""
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _reconciliation(known: Reconciliation) -> dict[str, answer.Json]:
    row = _PASS.document(known)
    return {name: row[name] for name in ("finished", "waiting", "waiting_since")}


_PASS: answer.RowType[Reconciliation] = answer.RowType(
    answer.timed(
        "finished",
        of=lambda it: it.finished_s or None,
        priority=answer.KEEP,
        about="when a pass had compared all on its list",
    ),
    answer.integer("hours", about="that the last pass compared"),
    answer.integer("differences", priority=answer.KEEP, about="hours that differed in two passes"),
    answer.integer("waiting", of=lambda it: it.backlog.waiting, about="hours and files that wait to be compared"),
    answer.timed("waiting_since", of=lambda it: it.backlog.since_s, about="since when the oldest of them does"),
    answer.timed(
        "gaps_since", of=lambda it: it.gaps_since_s, about="when the earliest missing batch can have been made"
    ),
)


def last_pass_answer(known: Reconciliation | None, *, as_of_s: int) -> answer.Answer:
    """The reconciler's last pass as one row; no row if the reconciler never ran."""
    return _PASS.answer(
        [] if known is None else [known],
        meta={"as_of": rfc3339(as_of_s)},
        empty="The reconciler has not run yet. To compare now: metering reconcile",
    )


# An answer lists at most this many differences; the count includes all differences.
LISTED = 100
_FIGURES = ("rows", "usage", "markers")


def _figure(name: str, part: str) -> Callable[[HourFigures], int | None]:
    return lambda it: (total := _totals(it)[name]) and getattr(total, part)


def _totals(figures: HourFigures) -> dict[str, Total | None]:
    check = figures.check
    if check is None:
        return {"rows": figures.state.total, "usage": None, "markers": None}
    return {"rows": check.rows, "usage": check.usage, "markers": check.markers}


def _hour(period: str) -> answer.RowType[HourFigures]:
    return answer.RowType(
        answer.timed("hour", of=lambda it: it.state.hour_s, priority=answer.KEEP),
        answer.copied("period", of=lambda _: period, about="state of its month"),
        answer.flag("published", of=lambda it: it.state.published, about="all of its rows are in lake files"),
        *(answer.exact(f"{name}_bytes", of=_figure(name, "bytes"), priority=answer.KEEP) for name in _FIGURES),
        *(answer.integer(f"{name}_records", of=_figure(name, "records")) for name in _FIGURES),
        answer.flag(
            "agrees",
            of=lambda it: it.check and it.check.agrees,
            priority=answer.KEEP,
            about="all figures were compared and are equal",
        ),
    )


def hour_answer(figures: HourFigures, *, period: str, as_of_s: int) -> answer.Answer:
    """The figures of an hour as one row; JSON also has the differences."""
    check, table = figures.check, _hour(period)
    row = table.document(figures)
    document: dict[str, answer.Json] = {
        "hour": row["hour"],
        "as_of": rfc3339(as_of_s),
        "period": period,
        "published": row["published"],
        "compared": check is not None,
        "stable": None if check is None else check.stable,
        **{
            name: None if total is None else {"bytes": str(total.bytes), "records": total.records}
            for name, total in _totals(figures).items()
        },
        "agrees": row["agrees"],
        "differences_total": 0 if check is None else len(check.differences),
        "differences": [] if check is None else [_difference(each) for each in check.differences[:LISTED]],
    }
    from_s = figures.state.hour_s
    return table.answer(
        [figures],
        document=document,
        meta={"as_of": rfc3339(as_of_s)},
        footer=_lines(check),
        commands=(f"metering reconcile --deep --from {rfc3339(from_s)} --to {rfc3339(from_s + HOUR_S)}",),
    )


def _difference(each: verification.Difference) -> dict[str, answer.Json]:
    key = each.key
    named: dict[str, answer.Json] = dict.fromkeys(("account_id", "usage_type", "service", "from", "to", "corrects"))
    if key is None:
        named["account_id"] = each.account_id or None
    else:
        corrects = None if key.corrects_s is None else rfc3339(key.corrects_s)
        named = dict(zip(named, (key.account_id, *key.kind, corrects), strict=True))
    return {
        "between": each.between,
        "odd": each.odd or None,
        "batch_id": each.batch_id or None,
        **named,
        "expected_bytes": str(each.expected.bytes),
        "expected_records": each.expected.records,
        "found_bytes": str(each.found.bytes),
        "found_records": each.found.records,
    }


def _lines(check: HourCheck | None) -> tuple[str, ...]:
    if check is None:
        return ("The hour is too large to be compared at once; its rows are those that the ledger counts.",)
    if not check.stable:
        return ("The hour kept changing while it was read: a run of the roll-up was booking in it.",)
    return ()


def frozen_answer(
    frozen: FrozenMonth | None, reader: FrozenReader, *, month: str, state: str, group_by: Sequence[GroupColumn]
) -> answer.Answer:
    """The frozen totals of a month, grouped by some columns; no rows until the month is closed."""
    corrections = ZERO

    def entries(closed: FrozenMonth) -> Iterator[tuple[usage_rows.Values, Total]]:
        nonlocal corrections
        for key, entry in _usage(closed, reader, by_hour="hour" in group_by):
            if key.corrects_s is not None:
                corrections = corrections.plus(entry)
            yield usage_rows.values_of(key, group_by), entry

    rows = [] if frozen is None else usage_rows.summed(entries(frozen))
    total = ZERO if frozen is None else frozen.total
    return answer.ListedRows(
        answer.copied(*group_by, priority=answer.KEEP), answer.sized("bytes", priority=answer.KEEP)
    ).answer(
        [(*row.values, row.total.bytes) for row in rows],
        meta={
            "month": month,
            "state": state,
            "records": total.records,
            "bytes": str(total.bytes),
            "hours": 0 if frozen is None else len(frozen.hours),
            "files": 0 if frozen is None else sum(len(hour.files) for hour in frozen.hours),
            "corrections": {"records": corrections.records, "bytes": str(corrections.bytes)},
        },
        title=f"{month} is {state}",
        empty="No frozen totals.",
        footer=(
            f"{exact_and_size(total.bytes)} in {counted(total.records, 'record')}.",
            *([f"{corrections.records:,} of them correct earlier months."] if corrections.records else []),
        ),
    )


def months_answer(
    months: Sequence[closer.MonthState], *, closed_by: Mapping[str, str], corrections: Mapping[str, Total] | None = None
) -> answer.Answer:
    """The list of months, newest first. `corrections` were booked later for closed months; None if not requested."""

    def later(it: closer.MonthState) -> Total | None:
        return it.total and (corrections or {}).get(it.month, ZERO)

    since: answer.Fields[closer.MonthState] = (
        *answer.sized(
            "corrections_bytes", of=lambda it: (total := later(it)) and total.bytes, title="corrections since"
        ),
        *answer.integer("corrections_records", of=lambda it: (total := later(it)) and total.records, title="records"),
    )
    table: answer.RowType[closer.MonthState] = answer.RowType(
        answer.copied("month", "state", priority=answer.KEEP),
        answer.sized("bytes", of=lambda it: it.total and it.total.bytes),
        answer.integer("records", of=lambda it: it.total and it.total.records),
        answer.timed("closed", of=lambda it: it.closed_s),
        answer.copied("closed_by", of=lambda it: closed_by.get(it.month), title="by", priority=answer.ROOMY),
        () if corrections is None else since,
    )
    return table.answer(
        months,
        title="Billing months",
        empty="No month has usage yet.",
        footer=("Totals of a month that is not closed: metering report usage --from MONTH",),
    )


def corrections_since(sources: Sequence[source.ReportSource], months: Sequence[str], *, now_s: int) -> dict[str, Total]:
    """For each month, the total of rows that were booked after the month for hours of the month.

    Raises:
        UnavailableError: An hour could not be read.
    """
    if not months:
        return {}
    first_s, after_s = month_bounds_s(min(months))[0], month_bounds_s(max(months))[1]
    query = UsageQuery(from_s=first_s, to_s=after_s, group_by=("corrects", "usage_type"), with_corrections=True)
    found: dict[str, Total] = {}
    for row in source.report_rows(sources, query, now_s=now_s):
        month = row.values[0][:7]
        if month in months:
            found[month] = found.get(month, ZERO).plus(row.total.total)
    return found


def checklist_answer(checklist: Checklist, *, accepted: frozenset[str] = frozenset()) -> answer.Answer:
    """The checklist before a close: blockers, warnings, and next steps."""
    closable = not checklist.blocking(accepted)
    table: answer.RowType[CloseCheck] = answer.RowType(
        answer.copied("check", of=lambda it: it.name, priority=answer.KEEP),
        answer.copied(
            "state",
            of=lambda it: "accepted" if it.state == "blocks" and it.name in accepted else it.state,
            priority=answer.KEEP,
        ),
        answer.prose("value", priority=answer.KEEP),
        answer.copied("todo", title="to do", priority=answer.KEEP),
    )
    return table.answer(
        checklist.checks,
        meta={"month": checklist.month, "closable": closable},
        title=f"{checklist.month} can be closed" if closable else f"{checklist.month} cannot be closed now",
    )


def _usage(closed: FrozenMonth, reader: FrozenReader, *, by_hour: bool) -> Iterator[tuple[UsageKey, Total]]:
    if not by_hour:
        yield from rows_of_days(reader.days(closed))
        return
    for hour in closed.hours:
        yield from reader.hour(closed, hour.hour_s)
