"""Compaction: a chain of runs in each shard, `L<shard>`, each with an immutable plan (P19 to P24).

Any number of processes may compact concurrently, and each may crash at any call. The run item with its plan claims the
work; the next process follows the same plan. The protocol prescribes the order of calls, which must not change.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import NoReturn

from metering import metric_names
from metering.errors import ConditionFailedError, LedgerCorruptError, ObjectDamagedError, ObjectMissingError
from metering.hours import hour_label, month_bounds_s, month_of
from metering.lake import ports
from metering.lake.plan import Backlog, CompactionPolicy, Plan, PlanFile, PlanHour, make_plan
from metering.ledger import booked_hours, periods
from metering.ledger.commits import shards_of, waiting_commit_of, waiting_in
from metering.ledger.notes.lake import LakeFigures
from metering.ledger.runs import Chain, Contradictions, OutOfTimeError, Run, RunOverError, lake_chain, run_name
from metering.stores import writes
from metering.stores.clock import Alerts, Clock, Deadline, Entropy, Metrics, Retrier, do_all, side_by_side
from metering.stores.objects import ObjectStore, lake_file_key, markers_key, summary_key

# One run of the compactor, from its plan to `done` (P24, steps 1 to 5).
#
# The plan fixes the content of every file, so several processes can work on one run at once, and every step may be
# repeated. Two rules apply: the steps are in this order, and no step starts before the outcome of the previous step is
# known.


_THERE = writes.Exists()
_NOT_THERE = writes.Absent()
_NO_HOURS = writes.Absent(attribute="hours")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionResult:
    """Result of one call of `Compactor.run`.

    Attributes:
        runs: Runs that this call set to `done`.
        hours, files, rows: Hours published by this call; hours that another process published are not counted.
        finished: Whether all due work is done; False if time ran out.
    """

    runs: int
    hours: int
    files: int
    rows: int
    finished: bool


@dataclass(slots=True)
class WorkTally:
    """Counts of finished work in one call of the compactor."""

    runs: int = 0
    hours: int = 0
    files: int = 0
    rows: int = 0

    def result(self, *, finished: bool) -> CompactionResult:
        return CompactionResult(**asdict(self), finished=finished)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marked:
    """A pointer after marking, or the contradiction found in the pointer."""

    pointer: booked_hours.Pointer | None = None
    wrong: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWork:
    """The work that one process does on one planned run."""

    chain: Chain
    run: Run
    items: writes.ItemStore
    objects: ObjectStore
    writer: ports.LakeWriter
    retrier: Retrier
    alerts: Alerts
    deadline: Deadline
    reserve_ms: int
    threads: int
    tally: WorkTally

    def finish(self) -> None:
        """Write and publish every hour of the plan, remove the plan's pairs from pending, and mark the run as done.

        Raises:
            RunOverError: Another process has finished the run.
            OutOfTimeError: Too little time is left for the next step.
            LedgerCorruptError: The ledger contradicts the plan; an alert was sent.
            UnavailableError: The outcome of a request is unknown.
        """
        plan = self._plan()
        ends = plan.ends()
        for hour in plan.hours:
            self._check_time()
            self._hour(hour, ends.get(hour.hour_s, frozenset()))
        self._check_time()
        do_all(self._take_from_pending, plan.commits().items(), threads=self.threads)
        self.chain.finish(self.run)
        self.tally.runs += 1

    def _plan(self) -> Plan:
        try:
            return Plan.from_json(self.chain.plan_of(self.run), self.run.plan_key)
        except LedgerCorruptError as error:
            self._page({"run": self._name, "plan": self.run.plan_key, "what": str(error)})
            raise

    def _check_time(self) -> None:
        if self.deadline.remaining_ms() < self.reserve_ms:
            raise OutOfTimeError

    def _hour(self, hour: PlanHour, ending: Collection[str]) -> None:
        key = booked_hours.published_key(hour.hour_s, self.run.shard, self.run.number)
        if self.retrier.call(lambda: self.items.get(writes.Table.LEDGER, key)) is not None:
            # The hour is published only after every pointer was marked and every file was put.
            return
        pointers = self._mark_all(hour)
        files = tuple(
            self._file(hour.hour_s, index, file, [pointers[commit_id] for commit_id in file.commits], ending)
            for index, file in enumerate(hour.files)
        )
        published = booked_hours.Published(hour_s=hour.hour_s, shard=self.run.shard, run=self.run.number, files=files)
        put = writes.Put(table=writes.Table.LEDGER, item=published.to_item(), condition=_NOT_THERE)
        try:
            self.retrier.call(lambda: self.items.put(put))
        except ConditionFailedError:
            # Another process or an earlier attempt published the same content, because the plan fixes it.
            return
        self.tally.hours += 1
        self.tally.files += len(files)
        self.tally.rows += published.rows

    def _mark_all(self, hour: PlanHour) -> dict[str, booked_hours.Pointer]:
        """Mark the pointers of an hour, in any order; returns the pointers by commit id."""
        commits = tuple(hour.commits)
        mark = partial(self._mark, hour.hour_s, self._free_or_ours())
        pointers: dict[str, booked_hours.Pointer] = {}
        for commit_id, marked in zip(commits, side_by_side(mark, commits, threads=self.threads), strict=True):
            if marked.pointer is None:
                self._late_or_corrupt(hour.hour_s, marked.wrong)
            pointers[commit_id] = marked.pointer
        return pointers

    @property
    def _name(self) -> str:
        return run_name(self.run.shard, self.run.number)

    def _free_or_ours(self) -> writes.Condition:
        """Condition that the pointer exists and no other run has marked it."""
        ours = writes.Equals(attribute="run", value=self._name)
        return writes.AllOf((_THERE, writes.AnyOf((writes.Absent(attribute="run"), ours))))

    def _mark(self, hour_s: int, condition: writes.Condition, commit_id: str) -> _Marked:
        mark = writes.Update(
            table=writes.Table.LEDGER,
            key=booked_hours.pointer_key(hour_s, commit_id),
            set={"run": self._name},
            condition=condition,
        )
        try:
            return _Marked(pointer=booked_hours.Pointer.from_item(self.retrier.call(lambda: self.items.update(mark))))
        except ConditionFailedError as error:
            found = "gone" if error.existing is None else f"of run {error.existing.get('run')}"
            return _Marked(wrong=f"the pointer to commit {commit_id} is {found}")

    def _file(
        self,
        hour_s: int,
        index: int,
        file: PlanFile,
        pointers: list[booked_hours.Pointer],
        ending: Collection[str],
    ) -> booked_hours.LakeFile:
        key = lake_file_key(hour_s, self.run.shard, self.run.number, index)
        planned = booked_hours.LakeFile(key=key, rows=file.rows, bytes=file.bytes)
        if self.retrier.call(lambda: self.objects.head(key)) is not None:
            return planned
        # Writing a file is the largest step, and an hour may have many files.
        self._check_time()
        try:
            self.retrier.call(lambda: self._write(hour_s, planned, pointers, ending))
        except (ObjectMissingError, ObjectDamagedError) as error:
            self._late_or_corrupt(hour_s, str(error))
        return planned

    def _write(
        self,
        hour_s: int,
        planned: booked_hours.LakeFile,
        pointers: list[booked_hours.Pointer],
        ending: Collection[str],
    ) -> None:
        staging_keys = [pointer.staging_key for pointer in pointers]
        few = frozenset(pointer.staging_key for pointer in pointers if pointer.rows <= ports.FEW_ROWS)
        last = frozenset(pointer.staging_key for pointer in pointers if pointer.commit_id in ending)
        with self.writer.merge(
            hour_s, staging_keys, plan_key=self.run.plan_key, in_part=few, markers_of=last
        ) as merged:
            if (merged.rows, merged.bytes) != (planned.rows, planned.bytes):
                self._corrupt(
                    hour_s,
                    f"{planned.key} should hold {planned.rows} rows and {planned.bytes} bytes, "
                    f"staging has {merged.rows} and {merged.bytes}",
                )
            # The totals and markers are put before the file, so that every existing file has them.
            self.objects.put(summary_key(planned.key), merged.summary, if_absent=True)
            if merged.markers:
                self.objects.put(markers_key(planned.key), merged.markers, if_absent=True)
            self.objects.put(planned.key, merged.content, if_absent=True)

    def _take_from_pending(self, taken: tuple[str, list[int]]) -> None:
        commit_id, hours = taken
        key = booked_hours.pending_key(self.run.shard, commit_id)
        # Without the condition, a late call would create an empty item that is never deleted.
        take = writes.Update(
            table=writes.Table.LEDGER, key=key, discard={"hours": frozenset(map(hour_label, hours))}, condition=_THERE
        )
        try:
            left = self.retrier.call(lambda: self.items.update(take))
        except ConditionFailedError:
            return
        if "hours" in left:
            return
        emptied = writes.Delete(table=writes.Table.LEDGER, key=key, condition=_NO_HOURS)
        try:
            self.retrier.call(lambda: self.items.delete(emptied))
        except ConditionFailedError:
            return

    def _late_or_corrupt(self, hour_s: int, what: str) -> NoReturn:
        self.chain.stop_if_over(self.run)
        self._corrupt(hour_s, what)

    def _corrupt(self, hour_s: int, what: str) -> NoReturn:
        hour = hour_label(hour_s)
        self._page({"run": self._name, "hour": hour, "plan": self.run.plan_key, "what": what})
        raise LedgerCorruptError(f"run {self._name}, hour {hour}: {what}")

    def _page(self, fields: dict[str, str]) -> None:
        self.alerts.send("page", "Compaction stopped", fields)


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
        threads: Maximum number of pointers and pending entries of one run that are written concurrently.
        reserve_ms: Minimum remaining time for which a further step is started.
    """

    items: writes.ItemStore
    objects: ObjectStore
    writer: ports.LakeWriter
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
        """Resume unfinished runs, then plan and execute runs until nothing is due or time runs short.

        Args:
            deadline: End of the process.
            closing: Months whose hours are all due, regardless of the policy. Hours of months that are closing or
                closed in the ledger are always due.
            shard: Shard of this invocation (`shards_of`); None for all shards that may have commits.

        Raises:
            LedgerCorruptError: The ledger contradicts the protocol. All other work was done.
            UnavailableError: The outcome of a call is unknown; the next process resumes the run.
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
        self.metrics.count(metric_names.COMPACTED_ROWS, turn.tally.rows)
        self.metrics.count(metric_names.COMPACTED_FILES, turn.tally.files)
        turn.contradictions.tell()
        return turn.tally.result(finished=finished)

    def _shards(self, shard: int | None) -> Iterable[int]:
        return self.retrier.call(lambda: shards_of(self.items, self.shards, shard))

    def _step(self, shard: int, turn: _Turn) -> bool:
        """Take one step of the chain: work on the newest run, or plan the next run. Returns False if nothing is due."""
        if turn.deadline.remaining_ms() < self.reserve_ms:
            raise OutOfTimeError
        chain = self._chain(shard)
        # The newest run is read before the pending list, because that list is exact only after the run is done.
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
        # After both outcomes, the chain is read again before any work.
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

        # Waiting is listed after pending: a commit placed in between is in both lists, or only in pending (P24).
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

    def _pending(self, shard: int, turn: _Turn) -> Iterator[booked_hours.Pending]:
        """Pending commits. An unreadable commit is omitted, like a waiting commit, so its rows stay in staging."""
        for item in booked_hours.pending_in(self.items, shard):
            with turn.contradictions.noted():
                yield booked_hours.Pending.from_item(item)

    def _closing(self, hours: Iterable[int], now_s: int) -> frozenset[str]:
        months = {month_of(hour_s) for hour_s in hours}
        ended = {periods.period_key(month): month for month in sorted(months) if month_bounds_s(month)[1] <= now_s}
        if not ended:
            return frozenset()
        return frozenset(ended[key] for key in self.items.get_many(writes.Table.LEDGER, list(ended)))
