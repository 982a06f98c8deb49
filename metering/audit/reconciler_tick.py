"""One tick of the reconciler: a part of the full scan if a scan is due; otherwise a quick pass.

A full scan starts every `scan_every_s`, and a day after the end of each month, so that gaps of sources are known before
the month is closed. A scan that failed, or had no time for a difference, starts again a day later. The scan gets half
of a tick's time, plus the time that remains after a quick pass. The scan's state is saved, and the next tick resumes
the scan. A scan thus finishes for tables of any size.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.audit import settling
from metering.audit.census_state import CensusState, keep_census, kept_census
from metering.hours import month_bounds_s, month_of, rfc3339
from metering.ledger.notes import reconciliation
from metering.stores.writes import ItemStore, Put, Table, read_note
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.audit import hour_check, incremental, source_keeping
    from metering.audit.reconciler import Reconciler, ReconciliationResult
    from metering.stores.clock import Clock, Deadline


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcilerState:
    """Writes the sources' state and the summary of each pass, for people and alarms. Nothing else writes them."""

    items: ItemStore
    clock: Clock
    keeper: source_keeping.SourceKeeper

    def keep(
        self,
        result: ReconciliationResult,
        *,
        backlog: reconciliation.Backlog | None = None,
        scan_due_s: int | None = None,
    ) -> None:
        """Store the summary of a pass over all hours. None leaves the stored backlog or due time unchanged."""
        gaps_since_ms, last = self.keeper.keep(result.markers), self._last()
        summary = replace(
            last,
            finished_s=self.clock.now_ms() // 1000,
            hours=len(result.checks),
            differences=len(result.different),
            gaps_since_s=None if gaps_since_ms is None else gaps_since_ms // 1000,
            backlog=last.backlog if backlog is None else backlog,
            scan_due_s=last.scan_due_s if scan_due_s is None else scan_due_s,
        )
        self.items.put(Put(table=Table.LEDGER, item=summary.to_item()))

    def keep_quick(self, check: incremental.IncrementalResult) -> None:
        """Store the summary of a quick pass. Only a full pass finds gaps in sources' sequence numbers; both fill them.

        A pass that skipped nothing on the work list counts as finished.
        """
        last = self._last()
        followed = self.keeper.follow(check.survey)
        if followed is not None:
            [since_ms] = followed
            last = replace(last, gaps_since_s=None if since_ms is None else since_ms // 1000)
        summary = replace(
            last,
            finished_s=last.finished_s if check.skipped else self.clock.now_ms() // 1000,
            hours=check.hours,
            differences=len(check.different),
            backlog=check.backlog,
        ).counted(check.batches, check.records, now_s=self.clock.now_ms() // 1000)
        self.items.put(Put(table=Table.LEDGER, item=summary.to_item()))

    def scan_due_s(self) -> int | None:
        """Time by which the last whole pass promised the next one, epoch seconds; None before the first."""
        return self._last().scan_due_s

    def scanned_s(self) -> int:
        """Start of the last whole pass that came to its end, epoch seconds; 0 before the first."""
        return self.keeper.figures().scanned_ms // 1000

    def sources(self) -> list[reconciliation.SourceState]:
        """All live sources, ordered by name."""
        return self.keeper.states()

    def _last(self) -> reconciliation.Reconciliation:
        last = read_note(self.items, reconciliation.RECONCILIATION_KEY, reconciliation.Reconciliation.from_item)
        return last or reconciliation.Reconciliation(finished_s=0, hours=0, differences=0)


# Differences that a scan found are examined until this many attempts time out; then the quick passes continue.
_JUDGED = 2
# Batches of a month's end that are missing for a day are no batches in flight (`sequences.SURE_MS`).
_SETTLED_S = DAY_S + HOUR_S
# A scan is abandoned after this many attempts that failed before the scan was saved.
_TRIES = 3
# The work list is one item of at most 400 KB, and names at most this many accounts and batches.
_NAMES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class TickResult:
    """Result of one tick.

    Attributes:
        scanned: Whether both tables were scanned.
        hours: Number of compared hours.
        different: Number of differing hours, derived sums, and files of a quick pass.
        left: After a scan, number of unstable hours; after a quick pass, number of entries on the work list.
    """

    scanned: bool
    hours: int
    different: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileTick:
    """Runs a scan or a quick pass, and stores its summary.

    Attributes:
        window_s: Admission window: no batch can change older hours; a manual deep reconciliation compares older hours.
        scan_every_s: Time between the starts of two scans; 0 for a scan in each tick.
    """

    reconciler: Reconciler
    checker: incremental.IncrementalCheck
    state: ReconcilerState
    clock: Clock
    window_s: int
    scan_every_s: int

    def run(self, deadline: Deadline) -> TickResult:
        """Do one tick.

        Raises:
            UnavailableError: A read failed.
            LedgerCorruptError: An item cannot be decoded. All hours not affected by this item were compared.
        """
        now_s = self.clock.now_ms() // 1000
        work = self.checker.work_list()
        if work.scan_tries >= _TRIES:
            # The scan fails repeatedly before its progress can be saved. The next scan starts a day later.
            self.checker.keep(replace(work, scan_tries=0, scan_runs={}))
        elif work.scan_tries or self._is_due(work, now_s):
            scanned = self._scan(work, now_s, _until(deadline, deadline.remaining_ms() // 2))
            if scanned is not None:
                return scanned
        checked = self.checker.run(deadline)
        self.state.keep_quick(checked)
        self._count_on(deadline)
        return TickResult(scanned=False, hours=checked.hours, different=len(checked.different), left=checked.left)

    def _is_due(self, work: reconciliation.WorkList, now_s: int) -> bool:
        age_s = now_s - work.scanned_s
        if age_s < min(self.scan_every_s, DAY_S):
            return False
        month_end_s = month_bounds_s(month_of(now_s))[0]
        return (
            age_s >= self.scan_every_s
            or bool(work.unjudged)
            or now_s >= (self.state.scan_due_s() or 0)
            or self.state.scanned_s() < month_end_s + _SETTLED_S <= now_s
        )

    def _count_on(self, deadline: Deadline) -> None:
        """Resume a saved scan within the time limit. The next tick examines the differences, which may take minutes."""
        kept = self._kept(self.checker.work_list())
        if kept is None or kept.phase == "done":
            return
        begun = (kept.phase, kept.done)
        with suppress(settling.ScanTooLongError):
            self.reconciler.census.go_on(kept, limit=_until(deadline, self.checker.reserve_ms))
        if (kept.phase, kept.done) != begun:
            keep_census(self.checker.figures.view.objects, kept)

    def _kept(self, work: reconciliation.WorkList) -> CensusState | None:
        """Saved state of the scan that the work list refers to."""
        figures = self.checker.figures
        kept = kept_census(figures.view.objects, figures.items) if work.scan_tries else None
        return None if kept is None or kept.began_ms // 1_000 < work.scanned_s else kept

    def _scan(self, work: reconciliation.WorkList, now_s: int, limit: Callable[[], None]) -> TickResult | None:
        """Resume the saved scan, or begin one. Returns None if the scan needs more time; its state is then saved."""
        state = self._kept(work)
        if state is None:
            state = self.reconciler.begin(from_s=now_s - self.window_s - DAY_S, to_s=now_s + DAY_S)
            work = replace(work, scanned_s=now_s, scan_runs=self.checker.newest_runs())
        work = replace(work, scan_tries=work.scan_tries + 1)
        self.checker.keep(work)
        began = (state.phase, state.done)
        try:
            self.reconciler.census.go_on(state, limit=limit)
            result = self._judged(state, limit)
        except settling.ScanTooLongError:
            if began == (state.phase, state.done):
                state.in_smaller_parts()
            keep_census(self.checker.figures.view.objects, state)
            self.checker.keep(replace(work, scan_tries=1))
            return None
        return self._finished(result, state, work)

    def _judged(self, state: CensusState, limit: Callable[[], None]) -> ReconciliationResult:
        """Look at what differs. After two timeouts, the differing hours go to the quick passes' work list.

        Names are read part by part over several ticks; only attempts that read no new part count as such timeouts.
        """
        named = state.names.done
        try:
            result = self.reconciler.judge(state, settle=False, limit=limit)
        except settling.ScanTooLongError:
            state.judged += state.names.done == named
            if state.judged < _JUDGED:
                raise
            result = self.reconciler.unjudged(state)
        if result.unjudged:
            self.reconciler.alerts.send(
                "ticket",
                "Something differs that nobody looked at",
                {"hours": len(result.unjudged), "first_hour": rfc3339(min(result.unjudged))},
            )
        return self.reconciler.told(result, from_s=state.from_s, to_s=state.to_s, deep=state.deep)

    def _finished(self, result: ReconciliationResult, state: CensusState, work: reconciliation.WorkList) -> TickResult:
        work = self._renewed(result, work, state)
        # The list is stored first: if the process dies here, the quick passes find the remaining work in it.
        self.checker.keep(work)
        due_s = self.clock.now_ms() // 1_000 + self.scan_every_s
        backlog = work.backlog(different=frozenset(c.hour_s for c in result.different))
        self.state.keep(result, backlog=backlog, scan_due_s=due_s)
        result.markers.contradictions.tell()
        return TickResult(
            scanned=True,
            hours=len(result.checks),
            different=len(result.different) + len(result.derived),
            left=len(result.unstable),
        )

    def _renewed(
        self, result: ReconciliationResult, work: reconciliation.WorkList, state: CensusState
    ) -> reconciliation.WorkList:
        """Work list with the different and unstable hours. The list raises an alarm until quick passes clear it.

        The scan covers everything published before its start, so only newer entries remain. The list names differing
        accounts and batches, because a quick pass finds no usage or markers that lack rows. Hours that were not
        examined, or have too many names, remain listed until the next scan.
        """
        now_s, began_s = self.clock.now_ms() // 1000, state.began_ms // 1_000
        later = {hour_s: since_s for hour_s, since_s in work.hours.items() if since_s > began_s}
        hours = {check.hour_s for check in (*result.different, *result.unstable)} | later.keys()
        suspects, unnamed = _suspects(result)
        return replace(
            work,
            suspects=suspects,
            unjudged={hour_s: work.unjudged.get(hour_s, now_s) for hour_s in (*result.unjudged, *unnamed)},
            runs={**work.runs, **{s: max(number, work.runs.get(s, 0)) for s, number in work.scan_runs.items()}},
            hours={hour_s: work.hours.get(hour_s, now_s) for hour_s in hours},
            files={file: since_s for file, since_s in work.files.items() if since_s > began_s},
            scan_tries=0,
            scan_runs={},
        )


def _suspects(result: ReconciliationResult) -> tuple[dict[int, reconciliation.Suspects], list[int]]:
    """Accounts and batches that differ, by hour, up to the limit of the work list; and the hours that do not fit."""
    suspects: dict[int, reconciliation.Suspects] = {}
    unnamed: list[int] = []
    room = _NAMES
    for check in (*result.different, *result.unstable):
        named = _named(check)
        if len(named) > room:
            unnamed.append(check.hour_s)
        elif named:
            suspects[check.hour_s] = named
            room -= len(named)
    return suspects, unnamed


def _named(check: hour_check.HourCheck) -> reconciliation.Suspects:
    return reconciliation.Suspects(
        accounts=frozenset(
            each.key.account_id if each.key is not None else each.account_id
            for each in check.differences
            if each.key is not None or each.odd
        ),
        batches=frozenset(each.batch_id for each in check.differences if each.batch_id),
    )


def _until(deadline: Deadline, keep_ms: int) -> Callable[[], None]:
    def limit() -> None:
        if deadline.remaining_ms() < keep_ms:
            raise settling.ScanTooLongError

    return limit
