"""Compaction: a chain of runs in each shard, each with an immutable plan (docs/protocol.md, Compactor).

Any number of processes may compact at once, and any of them may die at any call: the run item with its plan is the
claim, and the next process works on the same plan. The protocol fixes the order of calls; it must not change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering import metric_names
from metering.errors import ConditionFailedError
from metering.hours import month_bounds_s, month_of
from metering.lake.plan import make_plan
from metering.lake.run_work import RunAlreadyDoneError, RunOutOfTimeError, RunWork, WorkTally
from metering.ledger.booked_hours import Pending, pending_in
from metering.ledger.commits import CommitRecord, commit_key
from metering.ledger.contradictions import Contradictions
from metering.ledger.periods import period_key
from metering.ledger.runs import Run, newest_first
from metering.ledger.shards import known_shards
from metering.stores.bucket import plan_key
from metering.stores.writes import Absent, Put, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from metering.lake.plan import CompactionPolicy, Plan
    from metering.lake.ports import LakeWriter
    from metering.stores.clock import Clock, Deadline, Entropy
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Alerts, Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionResult:
    """Result of one call of `Compactor.run`.

    Attributes:
        runs: Runs that this call brought to `done`.
        hours, files, rows: Published by this call; hours that another process published are not counted.
        finished: Whether nothing is due any more; False if time ran out.
    """

    runs: int
    hours: int
    files: int
    rows: int
    finished: bool


@dataclass(slots=True, kw_only=True)
class _Turn:
    """State of one call of `Compactor.run`."""

    deadline: Deadline
    closing: frozenset[str]
    tally: WorkTally = field(default_factory=WorkTally)
    contradictions: Contradictions = field(default_factory=Contradictions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compactor:
    """Turns staging objects into lake files.

    Attributes:
        finish: Finishes an open wide commit by its id (docs/protocol.md, Finisher).
        shards: Number of compaction shards of the region.
        reserve_ms: With less time left, no further step is begun.
    """

    items: ItemStore
    objects: ObjectStore
    writer: LakeWriter
    clock: Clock
    entropy: Entropy
    retrier: Retrier
    metrics: Metrics
    alerts: Alerts
    policy: CompactionPolicy
    finish: Callable[[str], object]
    shards: int
    reserve_ms: int = 60_000

    def run(self, deadline: Deadline, *, closing: frozenset[str] = frozenset()) -> CompactionResult:
        """Resume unfinished runs, then plan and work until nothing is due or time runs short.

        Args:
            deadline: End of the process.
            closing: Months whose hours are all due, whatever the policy says. Months that are closing or closed in the
                ledger are always treated so.

        Raises:
            LedgerCorruptError: The ledger contradicts the protocol. All work that does not depend on it was done.
            UnavailableError: The outcome of a call is unknown; the next process resumes.
        """
        turn = _Turn(deadline=deadline, closing=closing)
        finished = True
        for shard in self.retrier.call(lambda: known_shards(self.items, self.shards)):
            try:
                with turn.contradictions.noted():
                    while self._step(shard, turn):
                        pass
            except RunOutOfTimeError:
                finished = False
        tally = turn.tally
        self.metrics.count(metric_names.COMPACTED_ROWS, tally.rows)
        self.metrics.count(metric_names.COMPACTED_FILES, tally.files)
        turn.contradictions.tell()
        return CompactionResult(
            runs=tally.runs, hours=tally.hours, files=tally.files, rows=tally.rows, finished=finished
        )

    def _step(self, shard: int, turn: _Turn) -> bool:
        """Take one step of the chain: work on the newest run, or plan the next one. False if nothing is due."""
        if turn.deadline.remaining_ms() < self.reserve_ms:
            raise RunOutOfTimeError
        # The newest run is read before pending is listed, never after: pending is exact only when that run is done.
        latest = self.retrier.call(lambda: newest_run(self.items, shard))
        if latest is not None and latest.state == "planned":
            try:
                self._work(latest, turn).finish()
            except RunAlreadyDoneError:
                self.metrics.count(metric_names.COMPACTION_LATE)
            return True
        plan = self.retrier.call(lambda: self._plan(shard, turn))
        if plan is None:
            return False
        self._announce(plan, 1 if latest is None else latest.run + 1)
        return True

    def _work(self, run: Run, turn: _Turn) -> RunWork:
        return RunWork(
            run=run,
            items=self.items,
            objects=self.objects,
            writer=self.writer,
            clock=self.clock,
            retrier=self.retrier,
            alerts=self.alerts,
            deadline=turn.deadline,
            reserve_ms=self.reserve_ms,
            tally=turn.tally,
        )

    def _plan(self, shard: int, turn: _Turn) -> Plan | None:
        pending: list[Pending] = []
        for item in pending_in(self.items, shard):
            # An entry that cannot be read is left out, like an open commit: its rows stay in staging.
            with turn.contradictions.noted():
                pending.append(Pending.from_item(item))
        now_s = self.clock.now_ms() // 1000
        # Two steps: all entries are asked whether they are due, but only wide commits that a plan takes are read.
        closing = turn.closing | self._closing(pending, now_s)
        while True:
            plan = make_plan(shard, pending, now_s=now_s, policy=self.policy, closing=closing)
            if plan is None:
                return None
            taken = plan.commits()
            wide = [entry for entry in pending if entry.wide and entry.commit_id in taken]
            open_commits = self._still_open(wide, turn.contradictions)
            if not open_commits:
                return plan
            pending = [entry for entry in pending if entry.commit_id not in open_commits]

    def _still_open(self, wide: Iterable[Pending], contradictions: Contradictions) -> frozenset[str]:
        """Wide commits that are still open after an attempt to finish them; the plan leaves them out."""
        unfinished = self._unapplied([entry.commit_id for entry in wide], contradictions)
        for commit_id in unfinished:
            with contradictions.noted():
                self.finish(commit_id)
        return frozenset(self._unapplied(unfinished, contradictions))

    def _unapplied(self, commit_ids: list[str], contradictions: Contradictions) -> list[str]:
        """Commits that are not known to be applied."""
        items = self.items.get_many(Table.LEDGER, [commit_key(commit_id) for commit_id in commit_ids])
        applied: set[str] = set()
        for item in items.values():
            with contradictions.noted():
                commit = CommitRecord.from_item(item)
                if commit.state == "applied":
                    applied.add(commit.commit_id)
        return [commit_id for commit_id in commit_ids if commit_id not in applied]

    def _closing(self, pending: Iterable[Pending], now_s: int) -> frozenset[str]:
        months = {month_of(hour_s) for entry in pending for hour_s in entry.hours}
        ended = {period_key(month): month for month in sorted(months) if month_bounds_s(month)[1] <= now_s}
        if not ended:
            return frozenset()
        return frozenset(ended[key] for key in self.items.get_many(Table.LEDGER, list(ended)))

    def _announce(self, plan: Plan, number: int) -> None:
        """Announce a plan as a run. The outcome does not matter: the chain is read again before any work."""
        key = plan_key(plan.shard, self.entropy.token())
        body = plan.to_json()
        self.retrier.call(lambda: self.objects.put(key, body, if_absent=True))
        run = Run(shard=plan.shard, run=number, state="planned", plan_key=key, planned_at_ms=self.clock.now_ms())
        put = Put(table=Table.LEDGER, item=run.to_item(), condition=Absent())
        try:
            self.retrier.call(lambda: self.items.put(put))
        except ConditionFailedError:
            self.metrics.count(metric_names.COMPACTION_RACE_LOST)


def newest_run(items: ItemStore, shard: int) -> Run | None:
    """The last run of a shard's chain, or None if there is none yet."""
    return next(newest_first(items, shard), None)
