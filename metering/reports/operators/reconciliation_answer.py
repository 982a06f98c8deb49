"""The answer about the reconciler's last pass, as the ledger remembers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.reports.answer import KEEP, Answer, Column

if TYPE_CHECKING:
    from metering.ledger.notes.reconciliation import Reconciliation
    from metering.reports.answer import Cell, Json

_COLUMNS = (
    Column(name="finished", kind="time", priority=KEEP, about="when a pass had compared all on its list"),
    Column(name="hours", kind="integer", about="that the last pass compared"),
    Column(name="differences", kind="integer", priority=KEEP, about="hours that differed in two passes"),
    Column(name="waiting", kind="integer", about="hours and files that wait to be compared"),
    Column(name="waiting_since", kind="time", about="since when the oldest of them does"),
    Column(name="gaps_since", kind="time", about="when the earliest missing batch can have been made"),
)


def last_pass_answer(known: Reconciliation | None, *, as_of_s: int) -> Answer:
    """Put the last pass into one row; no row if the reconciler never ran."""
    rows: list[dict[str, Cell]] = [] if known is None else [_row(known)]
    meta: dict[str, Json] = {"as_of": rfc3339(as_of_s)}
    return Answer(
        columns=_COLUMNS,
        rows=rows,
        meta=meta,
        empty="The reconciler has not run yet. To compare now: metering reconcile",
    )


def _row(known: Reconciliation) -> dict[str, Cell]:
    return {
        "finished": _time(known.finished_s or None),
        "hours": known.hours,
        "differences": known.differences,
        "waiting": known.backlog.waiting,
        "waiting_since": _time(known.backlog.since_s),
        "gaps_since": _time(known.gaps_since_s),
    }


def _time(moment_s: int | None) -> str | None:
    return None if moment_s is None else rfc3339(moment_s)
