"""Work on one run of the compactor, from its plan to `done` (docs/protocol.md, Compactor, steps 4 and 5).

The plan fixes the content of every file, so several processes can work on one run at once, and each step may be
repeated. Two rules must hold: the order of the steps, and that no step starts while the previous outcome is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from metering.errors import (
    ConditionFailedError,
    EarlyEndError,
    LedgerCorruptError,
    ObjectDamagedError,
    ObjectMissingError,
)
from metering.hours import hour_label
from metering.lake.plan import Plan
from metering.ledger.booked_hours import LakeFile, Published, pending_key, pointed_to, pointer_key, published_key
from metering.ledger.runs import Run, run_name
from metering.stores.bucket import lake_file_key, summary_key
from metering.stores.writes import Absent, AllOf, AnyOf, Delete, Equals, Exists, Put, Table, Update

if TYPE_CHECKING:
    from metering.lake.plan import PlanFile, PlanHour
    from metering.lake.ports import LakeWriter
    from metering.stores.clock import Clock, Deadline
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.stores.retrying import Retrier
    from metering.stores.telemetry import Alerts
    from metering.stores.writes import Condition

_THERE = Exists()
_NOT_THERE = Absent()
_NO_HOURS = Absent(attribute="hours")


class RunAlreadyDoneError(EarlyEndError):
    """Another process has finished the run."""


class RunOutOfTimeError(EarlyEndError):
    """The process has no time for the next step; the next process resumes here."""


@dataclass(slots=True)
class WorkTally:
    """Counts of finished work in one call of the compactor."""

    runs: int = 0
    hours: int = 0
    files: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWork:
    """Work of one process on one planned run.

    Attributes:
        reserve_ms: With less time left, no further step is begun.
        tally: Counts the published work.
    """

    run: Run
    items: ItemStore
    objects: ObjectStore
    writer: LakeWriter
    clock: Clock
    retrier: Retrier
    alerts: Alerts
    deadline: Deadline
    reserve_ms: int
    tally: WorkTally

    def finish(self) -> None:
        """Write and publish every hour of the plan, remove its pairs from pending, and mark the run done.

        Raises:
            RunAlreadyDoneError: Another process has finished the run.
            RunOutOfTimeError: There is no time for the next step.
            LedgerCorruptError: The ledger contradicts the plan; an alert was sent.
            UnavailableError: The outcome of a call is unknown.
        """
        plan = Plan.from_json(self.retrier.call(lambda: self.objects.get(self.run.plan_key)), self.run.plan_key)
        for hour in plan.hours:
            self._check_time()
            self._hour(hour)
        for commit_id, hours in plan.commits().items():
            self._take_from_pending(commit_id, hours)
        done = Update(
            table=Table.LEDGER,
            key=self.run.key,
            set={"state": "done", "done_at_ms": self.clock.now_ms()},
            condition=Equals(attribute="state", value="planned"),
        )
        try:
            self.retrier.call(lambda: self.items.update(done))
        except ConditionFailedError:
            raise RunAlreadyDoneError from None
        self.tally.runs += 1

    def _check_time(self) -> None:
        if self.deadline.remaining_ms() < self.reserve_ms:
            raise RunOutOfTimeError

    def _hour(self, hour: PlanHour) -> None:
        key = published_key(hour.hour_s, self.run.shard, self.run.run)
        if self.retrier.call(lambda: self.items.get(Table.LEDGER, key)) is not None:
            # A process publishes an hour after it has marked every pointer and put every file.
            return
        free_or_ours = self._free_or_ours()
        staging = {commit_id: self._mark(hour.hour_s, commit_id, free_or_ours) for commit_id in hour.commits}
        files = tuple(
            self._file(hour.hour_s, index, file, [staging[commit_id] for commit_id in file.commits])
            for index, file in enumerate(hour.files)
        )
        published = Published(hour_s=hour.hour_s, shard=self.run.shard, run=self.run.run, files=files)
        put = Put(table=Table.LEDGER, item=published.to_item(), condition=_NOT_THERE)
        try:
            self.retrier.call(lambda: self.items.put(put))
        except ConditionFailedError:
            # Another process published it, or our own earlier attempt: the plan fixes the content, so it is the same.
            return
        self.tally.hours += 1
        self.tally.files += len(files)
        self.tally.rows += published.rows

    def _free_or_ours(self) -> Condition:
        """Condition that the pointer exists and that no other run has marked it."""
        ours = Equals(attribute="run", value=run_name(self.run.shard, self.run.run))
        return AllOf((_THERE, AnyOf((Absent(attribute="run"), ours))))

    def _mark(self, hour_s: int, commit_id: str, condition: Condition) -> str:
        """Mark a pointer for this run; returns the staging key that it names."""
        mark = Update(
            table=Table.LEDGER,
            key=pointer_key(hour_s, commit_id),
            set={"run": run_name(self.run.shard, self.run.run)},
            condition=condition,
        )
        try:
            return pointed_to(self.retrier.call(lambda: self.items.update(mark)))
        except ConditionFailedError as error:
            found = "gone" if error.existing is None else f"of run {error.existing.get('run')}"
            self._late_or_corrupt(hour_s, f"the pointer to commit {commit_id} is {found}")

    def _file(self, hour_s: int, index: int, file: PlanFile, staging_keys: list[str]) -> LakeFile:
        key = lake_file_key(hour_s, self.run.shard, self.run.run, index)
        planned = LakeFile(key=key, rows=file.rows, bytes=file.bytes)
        if self.retrier.call(lambda: self.objects.head(key)) is not None:
            return planned
        # A file is the largest step, and an hour may have many files.
        self._check_time()
        try:
            self.retrier.call(lambda: self._write(hour_s, planned, staging_keys))
        except (ObjectMissingError, ObjectDamagedError) as error:
            self._late_or_corrupt(hour_s, str(error))
        return planned

    def _write(self, hour_s: int, planned: LakeFile, staging_keys: list[str]) -> None:
        with self.writer.merge(hour_s, staging_keys) as merged:
            if (merged.rows, merged.bytes) != (planned.rows, planned.bytes):
                self._corrupt(
                    hour_s,
                    f"{planned.key} should hold {planned.rows} rows and {planned.bytes} bytes, "
                    f"staging has {merged.rows} and {merged.bytes}",
                )
            # Before the file: a file that is there is one whose totals are, too.
            self.objects.put(summary_key(planned.key), merged.summary, if_absent=True)
            self.objects.put(planned.key, merged.content, if_absent=True)

    def _take_from_pending(self, commit_id: str, hours: list[int]) -> None:
        key = pending_key(self.run.shard, commit_id)
        # Without the condition, a late call would create an empty item that nothing ever deletes.
        taken = Update(
            table=Table.LEDGER,
            key=key,
            discard={"hours": frozenset(map(hour_label, hours))},
            condition=_THERE,
        )
        try:
            left = self.retrier.call(lambda: self.items.update(taken))
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
        item = self.retrier.call(lambda: self.items.get(Table.LEDGER, self.run.key))
        if item is not None and Run.from_item(item).state == "done":
            raise RunAlreadyDoneError
        self._corrupt(hour_s, what)

    def _corrupt(self, hour_s: int, what: str) -> NoReturn:
        name = run_name(self.run.shard, self.run.run)
        self.alerts.send(
            "page",
            "Compaction stopped",
            {"run": name, "hour": hour_label(hour_s), "plan": self.run.plan_key, "what": what},
        )
        raise LedgerCorruptError(f"run {name}, hour {hour_label(hour_s)}: {what}")
