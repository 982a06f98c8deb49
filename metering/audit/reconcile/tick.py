"""One tick of the reconciler: a scan of everything where time allows, otherwise a quick pass.

Both tables are scanned once in `scan_every_s`, if half the time of the tick is enough. A ledger that has outgrown this
is reconciled by quick passes alone; people scan it whole (`metering reconcile`).
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
    from metering.audit.reconcile.reconciler import Reconciler, ReconciliationResult
    from metering.audit.reconcile.state import ReconcilerState
    from metering.ledger.notes.reconciliation import WorkList
    from metering.stores.clock import Clock, Deadline
    from metering.stores.telemetry import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class TickResult:
    """Result of one tick.

    Attributes:
        scanned: Whether both tables were scanned.
        hours: Number of compared hours.
        different: Number of different hours, of derived sums that differ, and of different files of a quick pass.
        left: Number of unstable hours after a scan; of entries left on the work list after a quick pass.
    """

    scanned: bool
    hours: int
    different: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileTick:
    """Chooses a scan or a quick pass, does it, and stores its summary.

    Attributes:
        window_s: No batch can change older hours; a deep reconciliation by hand covers them.
        scan_every_s: Time between two scans; 0 for one in each tick.
    """

    reconciler: Reconciler
    checker: IncrementalCheck
    state: ReconcilerState
    clock: Clock
    metrics: Metrics
    window_s: int
    scan_every_s: int

    def run(self, deadline: Deadline) -> TickResult:
        """Do one tick.

        Raises:
            UnavailableError: A read failed.
            LedgerCorruptError: An item cannot be decoded. All hours that do not depend on it were compared.
        """
        now_s = self.clock.now_ms() // 1000
        work = self.checker.work_list()
        if now_s - work.scanned_s >= self.scan_every_s:
            # Recorded even if the scan is abandoned, so that it is retried on schedule, not on the next tick.
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
        # The list is stored first: if the process dies here, the quick passes still have the rest of the work.
        self.checker.keep(work)
        self.state.keep(result, backlog=work.backlog(different=frozenset(c.hour_s for c in result.different)))
        result.markers.contradictions.tell()
        return TickResult(
            scanned=True,
            hours=len(result.checks),
            different=len(result.different) + len(result.derived),
            left=len(result.unstable),
        )

    def _renewed(self, result: ReconciliationResult, runs: Mapping[int, int]) -> WorkList:
        """Work list with the different and unstable hours. It raises an alarm until a quick pass finds them equal."""
        work, now_s = self.checker.work_list(), self.clock.now_ms() // 1000
        hours = {check.hour_s for check in (*result.different, *result.unstable)}
        return replace(work, runs=runs, hours={hour_s: work.hours.get(hour_s, now_s) for hour_s in hours}, files={})


def _half_of(deadline: Deadline) -> Callable[[], None]:
    keep_ms = deadline.remaining_ms() // 2

    def limit() -> None:
        if deadline.remaining_ms() < keep_ms:
            raise ScanTooLongError

    return limit
