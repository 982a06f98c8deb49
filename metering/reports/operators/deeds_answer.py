"""The answer of `metering audit`: deeds with who did them, and how they ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.ledger.notes.deeds import DeedState
from metering.reports.answer import KEEP, ROOMY, Answer, Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.ledger.notes.deeds import Deed
    from metering.reports.answer import Cell

_COLUMNS = (
    Column(name="at", kind="time", priority=KEEP),
    Column(name="what", text="copied", priority=KEEP),
    Column(name="subject", text="copied", priority=KEEP),
    Column(name="state", text="copied", priority=KEEP),
    Column(name="result", text="prose", priority=ROOMY),
    Column(name="who", text="copied"),
    Column(name="consent", title="agreed by", text="copied", priority=ROOMY + 1),
    Column(name="stage", text="copied", priority=ROOMY + 3),
    Column(name="region", text="copied", priority=ROOMY + 3),
    Column(name="version", text="copied", priority=ROOMY + 3),
    Column(name="ended", kind="time", priority=ROOMY + 2),
    Column(name="consequence", text="prose", priority=ROOMY + 4),
    Column(name="deed_id", text="copied", priority=ROOMY + 4),
)


def deeds_answer(deeds: Sequence[Deed]) -> Answer:
    """Put deeds into the form of `metering audit`, in the order in which they are given."""
    return Answer(
        columns=_COLUMNS,
        rows=[_row(deed) for deed in deeds],
        empty="Nothing was changed or deleted by command in this range.",
    )


def _row(deed: Deed) -> dict[str, Cell]:
    begun = deed.state is DeedState.BEGUN
    return {
        "at": rfc3339(deed.at_ms // 1000),
        "what": deed.what,
        "subject": deed.subject,
        "state": deed.state.value,
        # A deed that runs now looks the same; only its end tells them apart.
        "result": "begun, no end" if begun else deed.result,
        "who": deed.who,
        "consent": deed.consent.value,
        "stage": deed.stage,
        "region": deed.region,
        "version": deed.version,
        "ended": None if begun else rfc3339(deed.ended_ms // 1000),
        "consequence": deed.consequence,
        "deed_id": deed.deed_id,
    }
