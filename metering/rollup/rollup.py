"""The roll-up: books the usage of waiting commits by runs, then places the commits for the compactor (P23).

Steps of a run, in this order, each durable before the next begins: **add** every sum of the plan to its usage item,
once; **place** every commit (pending entry and pointers, while its waiting entry is there), then delete the waiting
entry; set the run to `done`. Any number of processes may work on a run, and each may be killed at any call.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from metering import metric_names
from metering.errors import GenerationError, LedgerCorruptError
from metering.ledger.commits import Waiting, shards_of, waiting_in
from metering.ledger.runs import Chain, Contradictions, OutOfTimeError, Run, RunOverError, rollup_chain
from metering.ledger.usage.generation import check_chains, mark_run, remember_generation
from metering.rollup.adding import Adding, Placing, updates_of
from metering.rollup.plan import MOST_SUMS, NotWaitingError, Planner, RollupPlan
from metering.rollup.region import RegionBooking
from metering.stores.clock import Alerts, Clock, Deadline, Entropy, Metrics, Retrier, do_all, in_blocks, side_by_side
from metering.stores.writes import ActionLimits, ItemStore, Key, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.lake.ports import StagedUsage
    from metering.ledger.usage.kinds import KindNumbers
    from metering.settings import Policy
    from metering.stores.objects import ObjectStore

T = TypeVar("T")

# Number of updates and commits that each thread processes between two checks of the clock.
_BETWEEN_LOOKS = 8

# Number of waiting entries that one call reads.
_ASKED_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupPolicy:
    """Limits of one run, and how the run books usage. The correctness of the protocol does not depend on this policy.

    Attributes:
        commits: Maximum number of commits in a run.
        blocks: Whether every run books many usage items in one transaction, at two units each. A full run always does
            so, because the chain is behind.
        sums: Once a run's plan has this many sums, no commit is added to the run.
    """

    commits: int
    blocks: bool
    sums: int = MOST_SUMS

    @classmethod
    def of(cls, policy: Policy) -> RollupPolicy:
        """The part of a stage's policy that concerns the roll-up."""
        return cls(commits=policy.rollup_commits, blocks=bool(policy.rollup_blocks))


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupResult:
    """Result of one call of `Rollup.run`.

    Attributes:
        runs: Runs that this call set to `done`.
        items: Number of updates of accounts' usage items by this call.
        finished: Whether no commit waits any more or, with `only_waiting`, no commit that waited when the call began.
            False if time ran out, or the next run is not due yet.
        due_in_ms: Time until the next run is due; 0 if the call is not waiting for a run.
    """

    runs: int
    commits: int
    items: int
    finished: bool
    due_in_ms: int = 0


@dataclass(slots=True, kw_only=True)
class _Turn:
    """State of one call of `Rollup.run`.

    Attributes:
        only_waiting: Whether the call ends when the commits that waited at its start are rolled up.
        behind: Whether the last run of this call was full, so the next one is due at once.
    """

    deadline: Deadline
    every_ms: int
    only_waiting: bool = False
    contradictions: Contradictions = field(default_factory=Contradictions)
    runs: int = 0
    commits: int = 0
    items: int = 0
    behind: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollup:
    """Rolls up the usage of one region. Any number of processes may run concurrently.

    Attributes:
        generation: Generation number of the usage table to which the stage writes.
        reserve_ms: Minimum remaining time for which a further step is started.
        threads: Number of calls that are made concurrently.
    """

    items: ItemStore
    objects: ObjectStore
    staged: StagedUsage
    numbers: KindNumbers
    clock: Clock
    entropy: Entropy
    retrier: Retrier
    metrics: Metrics
    alerts: Alerts
    policy: RollupPolicy
    limits: ActionLimits
    shards: int
    generation: int
    reserve_ms: int = 10_000
    threads: int = 1

    def run(
        self, deadline: Deadline, *, shard: int | None = None, every_s: int = 0, only_waiting: bool = False
    ) -> RollupResult:
        """Resume planned runs, then plan and work on runs until no commit waits or time runs short.

        Args:
            deadline: End of the process.
            shard: Shard of this invocation (`shards_of`); None for all shards that may have commits.
            every_s: Minimum time between the starts of two runs of a chain. A chain that is behind does not wait.
            only_waiting: Whether to end once all commits that waited when the call began are in completed runs. Later
                commits do not prolong the call, because under traffic the list may never be empty.

        Raises:
            LedgerCorruptError: The ledger contradicts the protocol. The other shards were rolled up.
            GenerationError: The ledger and the usage table do not belong together. Nothing was written (P41).
            UnavailableError: The outcome of a call is unknown; the next process resumes the run.
        """
        turn = _Turn(deadline=deadline, every_ms=every_s * 1000, only_waiting=only_waiting)
        shards = self.retrier.call(lambda: shards_of(self.items, self.shards, shard))
        self._check_generation(shards)
        self.region.begin()
        finished = True
        due_in_ms: list[int] = []
        try:
            for each in shards:
                try:
                    with turn.contradictions.noted():
                        due_in_ms.append(self._until_done(each, turn))
                except OutOfTimeError:
                    finished = False
        finally:
            self.metrics.count(metric_names.ROLLED_UP_COMMITS, turn.commits)
            self.metrics.count(metric_names.ROLLED_UP_ITEMS, turn.items)
        turn.contradictions.tell()
        return RollupResult(
            runs=turn.runs,
            commits=turn.commits,
            items=turn.items,
            finished=finished and not any(due_in_ms),
            due_in_ms=min(filter(None, due_in_ms), default=0) if finished else 0,
        )

    @property
    def region(self) -> RegionBooking:
        """Adds this roll-up's runs to the region's totals."""
        return RegionBooking(
            items=self.items,
            numbers=self.numbers,
            retrier=self.retrier,
            alerts=self.alerts,
            shards=self.shards,
            threads=self.threads,
        )

    def _check_generation(self, shards: Iterable[int]) -> None:
        """Return normally if the usage table belongs to the stage and no chain is behind its mark in the table."""
        try:
            self.retrier.call(lambda: remember_generation(self.items, self.generation))
            self.retrier.call(lambda: check_chains(self.items, shards))
        except GenerationError as error:
            self.alerts.send("page", "Roll-up stopped", {"what": str(error)})
            raise

    def _until_done(self, shard: int, turn: _Turn) -> int:
        """Work on a chain until no commit waits, or its next run is not due. Return ms until the next run, or 0."""
        chain = Chain(
            name=rollup_chain(shard),
            items=self.items,
            objects=self.objects,
            clock=self.clock,
            entropy=self.entropy,
            retrier=self.retrier,
        )
        turn.behind = False
        try:
            awaited = self._awaited(shard, turn) if turn.only_waiting else None
            while True:
                self._check_time(turn)
                # The list is read before the newest run, so a commit that has left it is in that run or an earlier one.
                placed = awaited is not None and not self._still_waits(awaited)
                # The newest run is read before anything is listed for a plan (P19).
                newest = chain.newest()
                if placed and (newest is None or newest.state == "done"):
                    return 0
                due_in_ms = self._due_in_ms(newest, turn)
                if due_in_ms > 0:
                    return due_in_ms if self._something_waits(shard) else 0
                if not self._step(chain, shard, newest, turn) or placed:
                    return 0
        except LedgerCorruptError as error:
            self.alerts.send("page", "Roll-up stopped", {"chain": chain.name, "what": str(error)})
            self.metrics.count(metric_names.LEDGER_CORRUPT)
            raise

    def _awaited(self, shard: int, turn: _Turn) -> list[Key]:
        """Entries of the commits that wait now. An unreadable entry is noted, not awaited, and keeps waiting."""

        def listed() -> list[Key]:
            keys: list[Key] = []
            for item in waiting_in(self.items, shard):
                with turn.contradictions.noted():
                    keys.append(Waiting.from_item(item).key)
            return keys

        return self.retrier.call(listed)

    def _still_waits(self, awaited: list[Key]) -> bool:
        """Whether one of these entries still waits. Entries that no longer wait are removed from the argument."""
        while awaited:
            last = awaited[-_ASKED_AT_ONCE:]
            there = self.retrier.call(lambda: self.items.get_many(Table.LEDGER, last))  # noqa: B023 - called at once
            awaited[-_ASKED_AT_ONCE:] = there
            if there:
                return True
        return False

    def _due_in_ms(self, newest: Run | None, turn: _Turn) -> int:
        if newest is None or newest.state == "planned" or turn.behind:
            return 0
        left_ms = newest.planned_at_ms + turn.every_ms - self.clock.now_ms()
        # Clocks differ. If a plan is further in the future than the wait, one of the two clocks is wrong.
        return left_ms if 0 < left_ms <= 2 * turn.every_ms else 0

    def _something_waits(self, shard: int) -> bool:
        return self.retrier.call(lambda: next(waiting_in(self.items, shard), None)) is not None

    def _step(self, chain: Chain, shard: int, newest: Run | None, turn: _Turn) -> bool:
        """Take one step of a chain: work on the newest run, or plan the next run. False if nothing waits."""
        if newest is not None and newest.state == "planned":
            try:
                self._work(chain, newest, turn)
            except RunOverError:
                self.metrics.count(metric_names.ROLLUP_LATE)
            return True
        self.region.complete(chain, shard, 0 if newest is None else newest.number)
        try:
            plan = self._planner(shard).plan(turn.contradictions)
        except NotWaitingError:
            return True
        if plan is None:
            return False
        # Like the accounts' numbers, the region's are durable before the plan is put (P45, P51).
        self._check_time(turn)
        self.region.prepare(plan)
        # After a successful or failed announcement, the chain is read again before any work.
        if not chain.announce(replace(plan, region=True).to_json(), after=newest):
            self.metrics.count(metric_names.ROLLUP_RACE_LOST)
        return True

    def _planner(self, shard: int) -> Planner:
        return Planner(
            shard=shard,
            items=self.items,
            staged=self.staged,
            numbers=self.numbers,
            clock=self.clock,
            entropy=self.entropy,
            retrier=self.retrier,
            metrics=self.metrics,
            commits=self.policy.commits,
            threads=self.threads,
            most_sums=self.policy.sums,
        )

    def _work(self, chain: Chain, run: Run, turn: _Turn) -> None:
        """Work on a planned run until it is done.

        Raises:
            RunOverError: Another process has finished the run.
            OutOfTimeError: Too little time is left for the next step.
            LedgerCorruptError: The ledger contradicts the plan.
            UnavailableError: The outcome of a request is unknown.
        """
        plan = RollupPlan.from_json(chain.plan_of(run), run.plan_key)
        if plan.shard != run.shard:
            raise LedgerCorruptError(f"run {run.name} names the plan of shard {plan.shard}, {run.plan_key}")
        full = len(plan.commits) >= self.policy.commits
        self.region.complete(chain, run.shard, run.number - 1)
        self._add(chain, run, plan, turn, blocks=full or self.policy.blocks)
        # Commits may leave the list now, because every update of the run is certain.
        placing = Placing(shard=run.shard, items=self.items, retrier=self.retrier, actions=self.limits.transaction)
        for part in self._parts(plan.commits, turn):
            do_all(placing.place, part, threads=self.threads)
        chain.finish(run)
        turn.runs += 1
        turn.commits += len(plan.commits)
        turn.behind = full

    def _add(self, chain: Chain, run: Run, plan: RollupPlan, turn: _Turn, *, blocks: bool) -> None:
        # The mark precedes the run's bookings, so that a chain restored to before this run is recognised (P41).
        self.retrier.call(lambda: mark_run(self.items, run.shard, run.number))
        adding = Adding(run=run, chain=chain)
        size = self.limits.transaction if blocks else 1
        for part in self._parts(in_blocks(updates_of(plan.hours, run, self.numbers), size), turn):
            turn.items += sum(side_by_side(adding.land, part, threads=self.threads))
        # Every shard updates the region's items. In transactions, they would cancel each other.
        for update in self._parts(self.region.updates(plan, run), turn):
            do_all(lambda each: adding.land([each]), update, threads=self.threads)
        self.region.mark(run.shard, run.number)

    def _parts(self, things: Iterable[T], turn: _Turn) -> Iterator[list[T]]:
        """Yield the items in parts; the deadline is checked before each part.

        Raises:
            OutOfTimeError: Too little time is left for the next part.
        """
        for part in in_blocks(things, _BETWEEN_LOOKS * self.threads):
            self._check_time(turn)
            yield part

    def _check_time(self, turn: _Turn) -> None:
        if turn.deadline.remaining_ms() < self.reserve_ms:
            raise OutOfTimeError


@dataclass(frozen=True, slots=True, kw_only=True)
class _UntilNextTick:
    """Deadline of a tick: no new work begins after the next tick has started, which continues the work."""

    clock: Clock
    end_ms: int
    deadline: Deadline

    def remaining_ms(self) -> int:
        return min(self.deadline.remaining_ms(), self.end_ms - self.clock.now_ms())


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupTick:
    """Rolls up waiting commits for the duration of one tick.

    A function is billed while it sleeps. If the interval is as long as a tick or longer, a tick therefore never waits
    for a run: it makes the run that is due now, and ends.

    Attributes:
        every_s: Minimum time between the starts of two runs of a chain; from `tick_s` on, rounded up to whole ticks.
        tick_s: Time from one tick to the next.
    """

    rollup: Rollup
    clock: Clock
    every_s: int
    tick_s: int

    @property
    def _waits(self) -> bool:
        return self.every_s < self.tick_s

    @property
    def _least_s(self) -> int:
        """Time after which a run is due, a quarter of a tick early, because ticks come early and runs begin late."""
        return self.every_s if self._waits else -(-self.every_s // self.tick_s) * self.tick_s - self.tick_s // 4

    def run(self, deadline: Deadline, *, shard: int | None = None) -> RollupResult:
        """Run whenever a commit waits and the last run began long enough ago. Without a waiting commit, end early.

        Raises:
            LedgerCorruptError: The ledger contradicts the protocol. The other shards were rolled up.
            UnavailableError: The outcome of a call is unknown; the next tick resumes.
        """
        end_ms = self.clock.now_ms() + self.tick_s * 1000
        until = _UntilNextTick(clock=self.clock, end_ms=end_ms + self.rollup.reserve_ms, deadline=deadline)
        runs = commits = items = 0
        while True:
            result = self.rollup.run(until, shard=shard, every_s=self._least_s)
            runs += result.runs
            commits += result.commits
            items += result.items
            due_ms = self.clock.now_ms() + result.due_in_ms
            if not result.due_in_ms or due_ms >= end_ms or not self._waits:
                return RollupResult(
                    runs=runs, commits=commits, items=items, finished=result.finished, due_in_ms=result.due_in_ms
                )
            self.clock.sleep_ms(result.due_in_ms)
