"""Work on one run of the compactor, from its plan to `done` (P24, steps 1 to 5).

The plan fixes the content of every file, so several processes can work on one run at once, and each step may be
repeated. Two rules must hold: the order of the steps, and that no step starts while the previous outcome is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from metering.errors import ConditionFailedError, LedgerCorruptError, ObjectDamagedError, ObjectMissingError
from metering.hours import hour_label
from metering.lake.plan import Plan
from metering.lake.rows import FEW_ROWS
from metering.ledger.booked_hours import LakeFile, Pointer, Published, pending_key, pointer_key, published_key
from metering.ledger.chain import OutOfTimeError
from metering.ledger.runs import run_name
from metering.stores.bucket import lake_file_key, summary_key
from metering.stores.threads import do_all, side_by_side
from metering.stores.writes import Absent, AllOf, AnyOf, Delete, Equals, Exists, Put, Table, Update

if TYPE_CHECKING:
    from metering.lake.plan import PlanFile, PlanHour
    from metering.lake.ports import LakeWriter
    from metering.ledger.chain import Chain
    from metering.ledger.runs import Run
    from metering.stores.clock import Deadline
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Alerts
    from metering.stores.writes import Condition

_THERE = Exists()
_NOT_THERE = Absent()
_NO_HOURS = Absent(attribute="hours")


@dataclass(slots=True)
class WorkTally:
    """Counts of finished work in one call of the compactor."""

    runs: int = 0
    hours: int = 0
    files: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marked:
    """A pointer after it was marked, or what is wrong with it."""

    pointer: Pointer | None = None
    wrong: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWork:
    """Work of one process on one planned run.

    Attributes:
        threads: Pointers and pending entries that are written at once.
        reserve_ms: With less time left, no further step is begun.
        tally: Counts the published work.
    """

    chain: Chain
    run: Run
    items: ItemStore
    objects: ObjectStore
    writer: LakeWriter
    retrier: Retrier
    alerts: Alerts
    deadline: Deadline
    reserve_ms: int
    threads: int
    tally: WorkTally

    def finish(self) -> None:
        """Write and publish every hour of the plan, remove its pairs from pending, and mark the run done.

        Raises:
            RunOverError: Another process has finished the run.
            OutOfTimeError: There is no time for the next step.
            LedgerCorruptError: The ledger contradicts the plan; an alert was sent.
            UnavailableError: The outcome of a call is unknown.
        """
        plan = self._plan()
        for hour in plan.hours:
            self._check_time()
            self._hour(hour)
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

    def _hour(self, hour: PlanHour) -> None:
        key = published_key(hour.hour_s, self.run.shard, self.run.number)
        if self.retrier.call(lambda: self.items.get(Table.LEDGER, key)) is not None:
            # A process publishes an hour after it has marked every pointer and put every file.
            return
        pointers = self._mark_all(hour)
        files = tuple(
            self._file(hour.hour_s, index, file, [pointers[commit_id] for commit_id in file.commits])
            for index, file in enumerate(hour.files)
        )
        published = Published(hour_s=hour.hour_s, shard=self.run.shard, run=self.run.number, files=files)
        put = Put(table=Table.LEDGER, item=published.to_item(), condition=_NOT_THERE)
        try:
            self.retrier.call(lambda: self.items.put(put))
        except ConditionFailedError:
            # Another process published it, or our own earlier attempt: the plan fixes the content, so it is the same.
            return
        self.tally.hours += 1
        self.tally.files += len(files)
        self.tally.rows += published.rows

    def _mark_all(self, hour: PlanHour) -> dict[str, Pointer]:
        """Mark the pointers of an hour, in any order; returns them by commit id."""
        commits = tuple(hour.commits)
        mark = partial(self._mark, hour.hour_s, self._free_or_ours())
        pointers: dict[str, Pointer] = {}
        for commit_id, marked in zip(commits, side_by_side(mark, commits, threads=self.threads), strict=True):
            if marked.pointer is None:
                self._late_or_corrupt(hour.hour_s, marked.wrong)
            pointers[commit_id] = marked.pointer
        return pointers

    @property
    def _name(self) -> str:
        return run_name(self.run.shard, self.run.number)

    def _free_or_ours(self) -> Condition:
        """Condition that the pointer exists and that no other run has marked it."""
        ours = Equals(attribute="run", value=self._name)
        return AllOf((_THERE, AnyOf((Absent(attribute="run"), ours))))

    def _mark(self, hour_s: int, condition: Condition, commit_id: str) -> _Marked:
        mark = Update(
            table=Table.LEDGER,
            key=pointer_key(hour_s, commit_id),
            set={"run": self._name},
            condition=condition,
        )
        try:
            return _Marked(pointer=Pointer.from_item(self.retrier.call(lambda: self.items.update(mark))))
        except ConditionFailedError as error:
            found = "gone" if error.existing is None else f"of run {error.existing.get('run')}"
            return _Marked(wrong=f"the pointer to commit {commit_id} is {found}")

    def _file(self, hour_s: int, index: int, file: PlanFile, pointers: list[Pointer]) -> LakeFile:
        key = lake_file_key(hour_s, self.run.shard, self.run.number, index)
        planned = LakeFile(key=key, rows=file.rows, bytes=file.bytes)
        if self.retrier.call(lambda: self.objects.head(key)) is not None:
            return planned
        # A file is the largest step, and an hour may have many files.
        self._check_time()
        try:
            self.retrier.call(lambda: self._write(hour_s, planned, pointers))
        except (ObjectMissingError, ObjectDamagedError) as error:
            self._late_or_corrupt(hour_s, str(error))
        return planned

    def _write(self, hour_s: int, planned: LakeFile, pointers: list[Pointer]) -> None:
        staging_keys = [pointer.staging_key for pointer in pointers]
        few = frozenset(pointer.staging_key for pointer in pointers if pointer.rows <= FEW_ROWS)
        with self.writer.merge(hour_s, staging_keys, in_part=few) as merged:
            if (merged.rows, merged.bytes) != (planned.rows, planned.bytes):
                self._corrupt(
                    hour_s,
                    f"{planned.key} should hold {planned.rows} rows and {planned.bytes} bytes, "
                    f"staging has {merged.rows} and {merged.bytes}",
                )
            # Before the file: a file that is there is one whose totals are, too.
            self.objects.put(summary_key(planned.key), merged.summary, if_absent=True)
            self.objects.put(planned.key, merged.content, if_absent=True)

    def _take_from_pending(self, taken: tuple[str, list[int]]) -> None:
        commit_id, hours = taken
        key = pending_key(self.run.shard, commit_id)
        # Without the condition, a late call would create an empty item that nothing ever deletes.
        take = Update(
            table=Table.LEDGER,
            key=key,
            discard={"hours": frozenset(map(hour_label, hours))},
            condition=_THERE,
        )
        try:
            left = self.retrier.call(lambda: self.items.update(take))
        except ConditionFailedError:
            return
        if "hours" in left:
            return
        emptied = Delete(table=Table.LEDGER, key=key, condition=_NO_HOURS)
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
