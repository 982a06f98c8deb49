"""One tick of the reconciler: everything read, where that is affordable, else what compaction published.

Both tables are read whole once in `scan_every_s`, if half of the time of the tick is enough for it. A ledger that has
outgrown that is reconciled by its runs alone, and read whole by people (`metering reconcile`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering import metric_names
from metering.audit.reconcile.table_scan import ScanTooLongError
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.audit.reconcile.incremental import IncrementalCheck
    from metering.audit.reconcile.reconciler import Reconciler, Reconciliation
    from metering.audit.reconcile.state import ReconcilerState
    from metering.ledger.notes.reconciliation import WorkList
    from metering.stores.clock import Clock, Deadline
    from metering.stores.telemetry import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class TickResult:
    """What a tick compared.

    Attributes:
        scanned: Both tables were read whole.
        left: Hours that did not settle; if not `scanned`, what stays on the work list.
    """

    scanned: bool
    hours: int
    different: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileTick:
    """Decides, compares, and writes down what it came to.

    Attributes:
        window_s: Older hours cannot change by any batch: a deep reconciliation by hand covers them.
        scan_every_s: How often everything is read; 0 for every tick.
    """

    reconciler: Reconciler
    checker: IncrementalCheck
    state: ReconcilerState
    clock: Clock
    metrics: Metrics
    window_s: int
    scan_every_s: int

    def run(self, deadline: Deadline) -> TickResult:
        """One tick.

        Raises:
            UnavailableError: Something could not be read.
            LedgerCorruptError: Something is not what may be there. All that does not depend on it was compared.
        """
        now_s = self.clock.now_ms() // 1000
        work = self.checker.work_list()
        if now_s - work.scanned_s >= self.scan_every_s:
            # Also if it will be given up: the next one is tried when it is due, not at once.
            self.checker.keep(replace(work, scanned_s=now_s))
            try:
                return self._scan(now_s, _half_of(deadline))
            except ScanTooLongError:
                self.metrics.count(metric_names.SCANS_GIVEN_UP)
        checked = self.checker.run(deadline)
        self.state.keep_quick(checked)
        return TickResult(scanned=False, hours=checked.hours, different=len(checked.different), left=checked.left)

    def _scan(self, now_s: int, limit: Callable[[], None]) -> TickResult:
        runs = self.checker.newest_runs()
        result = self.reconciler.run(from_s=now_s - self.window_s - DAY_S, to_s=now_s + DAY_S, limit=limit)
        work = self._renewed(result, runs)
        # The list first: if this is the last that gets done, the quick passes go on with what is left.
        self.checker.keep(work)
        self.state.keep(result, backlog=work.backlog(different=frozenset(c.hour_s for c in result.different)))
        result.markers.contradictions.tell()
        return TickResult(
            scanned=True,
            hours=len(result.checks),
            different=len(result.different),
            left=len(result.unsettled),
        )

    def _renewed(self, result: Reconciliation, runs: Mapping[int, int]) -> WorkList:
        """Only what is not equal is left; it stays an alarm until a quick pass finds it equal."""
        work, now_s = self.checker.work_list(), self.clock.now_ms() // 1000
        hours = {check.hour_s for check in (*result.different, *result.unsettled)}
        return replace(work, runs=runs, hours={hour_s: work.hours.get(hour_s, now_s) for hour_s in hours}, files={})


def _half_of(deadline: Deadline) -> Callable[[], None]:
    keep_ms = deadline.remaining_ms() // 2

    def limit() -> None:
        if deadline.remaining_ms() < keep_ms:
            raise ScanTooLongError

    return limit
