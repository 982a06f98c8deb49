"""What the reconciler leaves in the ledger for people and alarms: the sources, and what its last pass came to.

It is the only writer of both, so they are written unconditionally.
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
    """The reconciler's memory."""

    items: ItemStore
    clock: Clock
    keeper: SourceKeeper

    def keep(self, result: ReconciliationResult, *, backlog: Backlog | None = None) -> None:
        """Write down what a pass over all hours found. `backlog`: what is left of the work list; None as it was."""
        gaps_since_ms = self.keeper.keep(result.markers)
        summary = Reconciliation(
            finished_s=self.clock.now_ms() // 1000,
            hours=len(result.checks),
            differences=len(result.different),
            gaps_since_s=None if gaps_since_ms is None else gaps_since_ms // 1000,
            backlog=self._last().backlog if backlog is None else backlog,
        )
        self.items.put(Put(table=Table.LEDGER, item=summary.to_item()))

    def keep_quick(self, check: IncrementalResult) -> None:
        """Write down what a quick pass found. Only a pass over everything can say what sources miss.

        It has finished if it came to everything on its list.
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
        )
        self.items.put(Put(table=Table.LEDGER, item=summary.to_item()))

    def sources(self) -> list[SourceState]:
        """Every numbered producer that was heard in its life, by name."""
        return self.keeper.states()

    def _last(self) -> Reconciliation:
        item = self.items.get(Table.LEDGER, RECONCILIATION_KEY)
        return Reconciliation(finished_s=0, hours=0, differences=0) if item is None else Reconciliation.from_item(item)
