"""The reconciler's state in the ledger, for people and alarms: the sources, and a summary of the last pass.

The reconciler is the only writer of both, so they are written unconditionally.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Backlog, Reconciliation
from metering.stores.writes import Put, Table

if TYPE_CHECKING:
    from metering.audit.reconcile.incremental import IncrementalResult
    from metering.audit.reconcile.reconciler import ReconciliationResult
    from metering.audit.source_keeping import SourceKeeper
    from metering.ledger.notes.sources import SourceState
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerState:
    """Writes the sources and the summary of each pass."""

    items: ItemStore
    clock: Clock
    keeper: SourceKeeper

    def keep(
        self, result: ReconciliationResult, *, backlog: Backlog | None = None, scan_due_s: int | None = None
    ) -> None:
        """Store the summary of a pass over all hours.

        Args:
            result: The pass.
            backlog: Rest of the work list; None keeps the stored one.
            scan_due_s: When the next such pass is due; None keeps the stored time.
        """
        gaps_since_ms, last = self.keeper.keep(result.markers), self._last()
        summary = Reconciliation(
            finished_s=self.clock.now_ms() // 1000,
            hours=len(result.checks),
            differences=len(result.different),
            gaps_since_s=None if gaps_since_ms is None else gaps_since_ms // 1000,
            backlog=last.backlog if backlog is None else backlog,
            scan_due_s=last.scan_due_s if scan_due_s is None else scan_due_s,
        )
        self.items.put(Put(table=Table.LEDGER, item=summary.to_item()))

    def keep_quick(self, check: IncrementalResult) -> None:
        """Store the summary of a quick pass. Only a pass over everything can find gaps of sources.

        The pass counts as finished if it skipped nothing on its list.
        """
        last = self._last()
        honoured = self.keeper.honour()
        if honoured is not None:
            [since_ms] = honoured
            last = replace(last, gaps_since_s=None if since_ms is None else since_ms // 1000)
        summary = Reconciliation(
            finished_s=last.finished_s if check.skipped else self.clock.now_ms() // 1000,
            hours=check.hours,
            differences=len(check.different),
            gaps_since_s=last.gaps_since_s,
            backlog=check.backlog,
            scan_due_s=last.scan_due_s,
        )
        self.items.put(Put(table=Table.LEDGER, item=summary.to_item()))

    def sources(self) -> list[SourceState]:
        """All live sources, by name."""
        return self.keeper.states()

    def _last(self) -> Reconciliation:
        item = self.items.get(Table.LEDGER, RECONCILIATION_KEY)
        return Reconciliation(finished_s=0, hours=0, differences=0) if item is None else Reconciliation.from_item(item)
