"""What operators ask about producers and about the reconciler, as the ledger remembers it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.audit.source_keeping import SourceKeeper
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.ledger.notes.sources import SILENCE_S
from metering.reports.operators.reconciliation_answer import last_pass_answer
from metering.reports.operators.sources_answer import sources_answer
from metering.reports.source import naming
from metering.stores.writes import Table

if TYPE_CHECKING:
    from metering.ledger.notes.sources import SourceFigures
    from metering.reports.answer import Answer
    from metering.wiring.answers.ports import ReadableRegion


def source_keeper(region: ReadableRegion) -> SourceKeeper:
    """What the ledger remembers of a region's producers."""
    return SourceKeeper(
        items=region.items,
        clock=region.clock,
        largest_jump=region.settings.source_jump,
        life_s=region.settings.source_life_s,
    )


def sources_of(
    region: ReadableRegion, *, gaps: bool = False, silent: bool = False, silence_s: int = SILENCE_S
) -> tuple[Answer, SourceFigures]:
    """The producers of a region that number their batches, and the figures of the last scan.

    Args:
        region: The region.
        gaps: Only those with gaps, or with a number far beyond the one before.
        silent: Only those that went silent.
        silence_s: Time without a batch that counts as silence.

    Raises:
        UnavailableError: The ledger gives no answer; the error names the region.
        LedgerCorruptError: What it remembers cannot be read.
    """
    with naming(region.region):
        keeper = source_keeper(region)
        figures = keeper.figures()
        silent_s = figures.scanned_ms // 1000 - silence_s
        chosen = [
            state
            for state in keeper.states()
            if (not gaps or state.missing or state.incredible) and (not silent or state.last_seen_s < silent_s)
        ]
        return sources_answer(chosen, figures, _last_pass(region), silent_s=silent_s), figures


def reconciliation_of(region: ReadableRegion, *, now_s: int) -> Answer:
    """The result of the reconciler's last pass over a region.

    Raises:
        UnavailableError: The ledger gives no answer; the error names the region.
        LedgerCorruptError: What it remembers cannot be read.
    """
    with naming(region.region):
        return last_pass_answer(_last_pass(region), as_of_s=now_s)


def _last_pass(region: ReadableRegion) -> Reconciliation | None:
    item = region.items.get(Table.LEDGER, RECONCILIATION_KEY)
    return None if item is None else Reconciliation.from_item(item)
