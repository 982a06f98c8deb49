"""The answer about producers that number their batches: gaps, silence, and how far the reconciler is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.reports.answer import KEEP, ROOMY, Answer, Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.ledger.notes.reconciliation import Reconciliation
    from metering.ledger.notes.sources import SourceFigures, SourceState
    from metering.reports.answer import Json

_COLUMNS = (
    Column(name="source_id", text="copied", priority=KEEP),
    Column(name="last_sequence", kind="integer", text="copied", about="the highest number that came"),
    Column(name="last_seen", kind="time", about="when its last batch came"),
    Column(name="silent", kind="flag", about="nothing came for long"),
    Column(name="missing", kind="integer", priority=KEEP, about="numbers that never came"),
    Column(name="gaps", text="prose", priority=KEEP, about="those numbers"),
    Column(name="unlisted_gaps", kind="integer", priority=ROOMY, about="more gaps than are kept"),
    Column(name="incredible", kind="integer", priority=ROOMY, about="numbers too high to be true"),
    Column(name="incredible_first", kind="integer", text="copied", priority=ROOMY + 1, about="the first of those"),
)


def sources_answer(
    states: Sequence[SourceState], figures: SourceFigures, reconciliation: Reconciliation | None, *, silent_s: int
) -> Answer:
    """Put the states of sources into the form of `metering sources`.

    Args:
        states: The sources to show.
        figures: Figures of the last full scan, which the states are as old as.
        reconciliation: State of the reconciler; None if it never ran.
        silent_s: A source whose last batch came before this time is silent.
    """
    scanned_s = figures.scanned_ms // 1000
    document: dict[str, Json] = {
        "as_of": rfc3339(scanned_s) if scanned_s else None,
        "unkept": figures.unkept,
        "unkept_names": list(figures.names),
        "reconciliation": None if reconciliation is None else _reconciliation(reconciliation),
        "rows": [_json(state, silent_s) for state in states],
    }
    return Answer(
        columns=_COLUMNS,
        rows=[_row(state, silent_s) for state in states],
        document=document,
        empty="No source to show.",
    )


def intervals(ranges: Iterable[tuple[int, int]]) -> str:
    """`3-4, 7`: ranges of numbers as text."""
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _reconciliation(known: Reconciliation) -> dict[str, Json]:
    since_s = known.backlog.since_s
    return {
        "finished": rfc3339(known.finished_s) if known.finished_s else None,
        "waiting": known.backlog.waiting,
        "waiting_since": None if since_s is None else rfc3339(since_s),
    }


def _row(state: SourceState, silent_s: int) -> dict[str, str | int | bool | None]:
    return {
        "source_id": state.source_id,
        "last_sequence": state.last_sequence,
        "last_seen": rfc3339(state.last_seen_s),
        "silent": state.last_seen_s < silent_s,
        "missing": state.missing,
        "gaps": intervals(state.gaps),
        "unlisted_gaps": state.unlisted_gaps,
        "incredible": state.incredible,
        "incredible_first": state.incredible_first,
    }


def _json(state: SourceState, silent_s: int) -> dict[str, Json]:
    return {**_row(state, silent_s), "gaps": [[first, last] for first, last in state.gaps]}
