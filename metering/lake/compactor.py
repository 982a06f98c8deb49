"""Compaction: a chain of runs in each shard, `L<shard>`, each with an immutable plan (P19 to P24).

Any number of processes may compact at once, and any of them may die at any call: the run item with its plan is the
claim, and the next process works on the same plan. The protocol fixes the order of calls; it must not change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering import metric_names
from metering.hours import month_bounds_s, month_of
from metering.lake.plan import Backlog, make_plan
from metering.lake.run_work import RunWork, WorkTally
from metering.ledger.booked_hours import Pending, pending_in
from metering.ledger.chain import Chain, OutOfTimeError, RunOverError
from metering.ledger.contradictions import Contradictions
from metering.ledger.notes.lake.figures import LakeFigures
from metering.ledger.periods import period_key
from metering.ledger.runs import lake_chain
from metering.ledger.shards import shards_of
from metering.ledger.waiting import waiting_commit_of, waiting_in
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.lake.plan import CompactionPolicy, Plan
    from metering.lake.ports import LakeWriter
    from metering.ledger.runs import Run
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
        shards: The stage's number of shards.
        threads: Pointers and pending entries of one run that are written at once.
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
    shards: int
    threads: int = 1
    reserve_ms: int = 60_000

    def run(
        self, deadline: Deadline, *, closing: frozenset[str] = frozenset(), shard: int | None = None
    ) -> CompactionResult:
        """Resume unfinished runs, then plan and work until nothing is due or time runs short.

        Args:
            deadline: End of the process.
            closing: Months whose hours are all due, whatever the policy says. Months that are closing or closed in the
                ledger are always treated so.
            shard: Shard of this invocation (`shards_of`); None for all that a commit may be in.

        Raises:
            LedgerCorruptError: The ledger contradicts the protocol. All work that does not depend on it was done.
            UnavailableError: The outcome of a call is unknown; the next process resumes.
        """
        turn = _Turn(deadline=deadline, closing=closing)
        finished = True
        for each in self._shards(shard):
            try:
                with turn.contradictions.noted():
                    while self._step(each, turn):
                        pass
            except OutOfTimeError:
                finished = False
        tally = turn.tally
        self.metrics.count(metric_names.COMPACTED_ROWS, tally.rows)
        self.metrics.count(metric_names.COMPACTED_FILES, tally.files)
        turn.contradictions.tell()
        return CompactionResult(
            runs=tally.runs, hours=tally.hours, files=tally.files, rows=tally.rows, finished=finished
        )

    def resume(self, deadline: Deadline) -> CompactionResult:
        """Finish the runs that are planned, and plan none: after a restore, before the chains are lifted (P41).

        Raises:
            LedgerCorruptError: The ledger contradicts the protocol. The other shards were resumed.
            UnavailableError: The outcome of a call is unknown; the next process resumes.
            OutOfTimeError: There is no time for the next step.
        """
        turn = _Turn(deadline=deadline, closing=frozenset())
        for shard in self._shards(None):
            with turn.contradictions.noted():
                chain = self._chain(shard)
                newest = chain.newest()
                if newest is not None and newest.state == "planned":
                    self._work(chain, newest, turn).finish()
        turn.contradictions.tell()
        tally = turn.tally
        return CompactionResult(runs=tally.runs, hours=tally.hours, files=tally.files, rows=tally.rows, finished=True)

    def _shards(self, shard: int | None) -> Iterable[int]:
        return self.retrier.call(lambda: shards_of(self.items, self.shards, shard))

    def _step(self, shard: int, turn: _Turn) -> bool:
        """Take one step of the chain: work on the newest run, or plan the next one. False if nothing is due."""
        if turn.deadline.remaining_ms() < self.reserve_ms:
            raise OutOfTimeError
        chain = self._chain(shard)
        # The newest run is read before pending is listed, never after: pending is exact only when that run is done.
        newest = chain.newest()
        if newest is not None and newest.state == "planned":
            try:
                self._work(chain, newest, turn).finish()
            except RunOverError:
                self.metrics.count(metric_names.COMPACTION_LATE)
            return True
        plan = self.retrier.call(lambda: self._plan(shard, turn))
        if plan is None:
            return False
        # The outcome does not matter: the chain is read again before any work.
        if not chain.announce(plan.to_json(), after=newest):
            self.metrics.count(metric_names.COMPACTION_RACE_LOST)
        return True

    def _chain(self, shard: int) -> Chain:
        return Chain(
            name=lake_chain(shard),
            items=self.items,
            objects=self.objects,
            clock=self.clock,
            entropy=self.entropy,
            retrier=self.retrier,
        )

    def _work(self, chain: Chain, run: Run, turn: _Turn) -> RunWork:
        return RunWork(
            chain=chain,
            run=run,
            items=self.items,
            objects=self.objects,
            writer=self.writer,
            retrier=self.retrier,
            alerts=self.alerts,
            deadline=turn.deadline,
            reserve_ms=self.reserve_ms,
            threads=self.threads,
            tally=turn.tally,
        )

    def _plan(self, shard: int, turn: _Turn) -> Plan | None:
        def waiting() -> set[str]:
            return {waiting_commit_of(item) for item in waiting_in(self.items, shard)}

        # After pending, never before: a commit whose run places it just now is in both lists, or only in pending (P24).
        backlog = Backlog(self._pending(shard, turn), waiting)
        now_s = self.clock.now_ms() // 1000
        figures = LakeFigures(
            shard=shard,
            listed_s=now_s,
            commits=len(backlog.commits),
            hours=len(backlog.hours),
            oldest_ms=backlog.oldest_ms,
        )
        figures.keep(self.items)
        closing = turn.closing | self._closing(backlog.hours, now_s)
        return make_plan(shard, backlog, now_s=now_s, policy=self.policy, closing=closing)

    def _pending(self, shard: int, turn: _Turn) -> Iterator[Pending]:
        """Pending commits. One that cannot be read is left out, like one that waits: its rows stay in staging."""
        for item in pending_in(self.items, shard):
            with turn.contradictions.noted():
                yield Pending.from_item(item)

    def _closing(self, hours: Iterable[int], now_s: int) -> frozenset[str]:
        months = {month_of(hour_s) for hour_s in hours}
        ended = {period_key(month): month for month in sorted(months) if month_bounds_s(month)[1] <= now_s}
        if not ended:
            return frozenset()
        return frozenset(ended[key] for key in self.items.get_many(Table.LEDGER, list(ended)))
