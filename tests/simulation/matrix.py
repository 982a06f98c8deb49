"""Every call of every job, with every fault: a run is recorded, then repeated with one fault at one call at a time.

Kill matrix: the process dies before or after a call, and is started again. Lost-reply matrix: the call is lost, its
reply is lost, it is applied later, or the SDK sends it twice. In the end everything must be as if nothing had been.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from metering.adapters.memory.rows import PlainRow
from metering.billing.months import PeriodNotClosableError
from metering.errors import UnavailableError
from metering.hours import hour_of
from metering.metric_names import BATCHES_DUPLICATE
from metering.stores.writes import ActionLimits, Key, Table
from metering.units import DAY_S, HOUR_S
from tests.simulation.checks.checker import check, lake_rows
from tests.simulation.checks.watch import ViolationError
from tests.simulation.region import jobs
from tests.simulation.region.faults import HOUR_MS, MINUTE_MS, Fault, ScriptedFaults
from tests.simulation.region.ports import Process, ProcessItems
from tests.simulation.region.scheduler import KilledError
from tests.simulation.region.sqs import VISIBILITY_MS
from tests.simulation.region.world import World
from tests.simulation.sent.contents import SentContent, retry_of
from tests.simulation.sent.traffic import DAY_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from metering.stores.writes import Action

NOW_MS = 1_796_083_200_000 + 5 * HOUR_MS  # 2026-12-01T05:00Z: what is late by a day is of a month that has ended
JOBS = (
    "worker",
    "finisher",
    "redrive",
    "retry",
    "rebuild",
    "markers",
    "reader",
    "compactor",
    "reconciler",
    "quick pass",
    "cleaner",
    "orphans",
    "closer",
)
_MONTH = "2026-11"
# Fewer actions than DynamoDB's 100, so that small batches make wide commits and chunks.
FEW_ACTIONS = ActionLimits(transaction=14, chunk=3)
_SUBJECT = "subject"
_ATTEMPTS = 8
# Other content of b2, under an id of its own.
_RETRY = "retry:b2.1"
# Batches whose markers get lost: of one hour, with other content in conflict, of many hours, refused in part, wide.
_MARKERS_LOST = ("b0", "b2", "chunks", "partly", "wide")


def calls_of(job: str) -> list[tuple[str, tuple[Fault, ...]]]:
    """The calls that a job makes when nothing goes wrong, each with the faults that can hit it."""
    faults = ScriptedFaults(_SUBJECT, {})
    Scenario(job, faults).run()
    return faults.calls


def cells(job: str) -> Iterator[tuple[int, str, Fault]]:
    """Every call of a job with every fault."""
    for number, (call, choices) in enumerate(calls_of(job)):
        for fault in dict.fromkeys(choices):
            yield number, call, fault


def run_cell(job: str, number: int, fault: Fault) -> None:
    """One fault at one call.

    Raises:
        ViolationError: Something is lost, doubled or unexpected afterwards.
    """
    faults = ScriptedFaults(_SUBJECT, {number: fault})
    Scenario(job, faults).run()
    if not faults.histogram[fault]:
        raise ViolationError(f"{job}: call {number} was not made, so {fault} did not happen")


def failure(job: str, number: int, call: str, fault: Fault) -> str:
    """What is wrong after one fault at one call, in a sentence; empty if nothing is."""
    try:
        run_cell(job, number, fault)
    except ViolationError as error:
        return f"{job}, call {number} ({call}), {fault}: {error}"
    return ""


def main() -> int:
    """Run every cell of every job; 0 if none fails."""
    failures = 0
    for job in JOBS:
        found = [failure(job, *cell) for cell in cells(job)]
        failures += sum(map(bool, found))
        sys.stdout.write(
            "\n".join([f"{job}: {len(found)} cells, {sum(map(bool, found))} fail", *filter(None, found), ""])
        )
        sys.stdout.flush()
    return 1 if failures else 0


class Scenario:
    """A small region in which each job has something of everything to do.

    Args:
        job: Which of the jobs the faults are for.
        faults: Hit the calls of the subject.
    """

    def __init__(self, job: str, faults: ScriptedFaults) -> None:
        self._job = job
        self.world = World(7, faults, now_ms=NOW_MS, limits=FEW_ACTIONS)
        self.world.queue.odd = False
        self.world.contents = {content.name: content for content in _contents()}
        self._settings = jobs.settings(1, 2, 200)
        self._policy = jobs.policy(4, 6, 0)
        self._names: Counter[str] = Counter()

    def run(self) -> None:
        world = self.world
        world.queue.send("dead.0", "S1")
        world.queue.dead, world.queue.messages = world.queue.messages, {}
        for content in world.contents.values():
            if content.name not in ("dead.0", "b0.1"):
                world.queue.send(content.name, content.sender_id)
        # A copy in the same invocation, and one that comes when its twin has its verdict.
        world.queue.send("b0.0", "S1")
        self._until_worked_off("worker")
        world.queue.send("b1.0", "S1")
        world.queue.send(_RETRY, "operator")
        self._until_worked_off("worker again")
        self._until_done("finisher", self._finish, lambda: True)
        self._put_back()
        self._lose_usage()
        self._until_done("rebuild", self._rebuild, lambda: True)
        self._lose_markers()
        self._until_done("markers", self._rebuild_markers, lambda: not world.watch.markers_lost)
        self._send_copies()
        self._until_done("reader", self._read, lambda: True)
        self._until_done("compactor", self._compact, lambda: not self._pending())
        self._until_done("reconciler", self._reconcile, lambda: True)
        if self._job == "quick pass":
            # It changes nothing but its own list, which nobody else reads.
            self._until_done("quick pass", self._check_runs, lambda: True)
        self._orphan()
        world.scheduler.run_until(world.scheduler.now_ms + 25 * HOUR_MS)
        self._until_done("cleaner", self._clean, lambda: True)
        self._until_done("orphans", self._orphans, lambda: True)
        # What was to be applied later is so by now; whatever it left behind, the next turn of each job takes away.
        world.scheduler.run_until(world.scheduler.now_ms + DAY_MS)
        self._until_worked_off("w")
        for name, run in (("f", self._finish), ("c", self._compact)):
            self._until_done(name, run, lambda: True)
        world.scheduler.run_until(world.scheduler.now_ms + 25 * HOUR_MS)
        self._until_done("l", self._clean, lambda: True)
        self._until_done("o", self._orphans, lambda: True)
        world.scheduler.run_until(world.scheduler.now_ms + 3 * DAY_MS)
        self._until_done("closer", self._close, lambda: True)
        self._check()

    def _until_worked_off(self, job: str) -> None:
        self._until_done(job, self._work, lambda: not self.world.queue.messages, pause_ms=VISIBILITY_MS + 1)

    def _until_done(
        self, job: str, run: Callable[[Process], object], done: Callable[[], bool], *, pause_ms: int = MINUTE_MS
    ) -> None:
        """Start a job until it has come to its end once; the first process of the subject has the faults."""
        ended = False
        for attempt in range(_ATTEMPTS):
            name = _SUBJECT if job == self._job and attempt == 0 else f"{job} {attempt}"
            ended = self._start(name, run)
            if ended and done():
                return
            self.world.scheduler.run_until(self.world.scheduler.now_ms + pause_ms)
        raise ViolationError(f"{job} does not come to an end")

    def _start(self, name: str, run: Callable[[Process], object]) -> bool:
        process = self.world.process(name)
        result: list[bool] = []

        def body() -> None:
            try:
                run(process)
            except (KilledError, UnavailableError, PeriodNotClosableError):
                result.append(False)
            else:
                result.append(True)

        self.world.scheduler.spawn(body)
        self.world.scheduler.run_while(lambda: not result, limit_ms=DAY_MS)
        return result == [True]

    def _work(self, process: Process) -> None:
        """One invocation after the other until nothing can be received."""
        world = self.world
        if self._job == "finisher":
            process.items = NoChunks(process, world.items)
        function = jobs.aggregator(process, self._settings)
        while deliveries := world.queue.receive(10):
            result = function.handle(deliveries, jobs.deadline(process, MINUTE_MS))
            done = [each.message_id for each in deliveries if each.message_id not in result.retry]
            for name in world.queue.acknowledge(done):
                world.watch.acknowledged(world.contents.get(name))

    def _finish(self, process: Process) -> None:
        result = jobs.sweeper(process, self._settings).sweep(jobs.deadline(process, HOUR_MS))
        if result.left:
            raise UnavailableError("sweep", f"left {result.left}")

    def _put_back(self) -> None:
        """Dead letters are redriven; a refused batch, whose object is there now, is sent again."""
        world = self.world
        self._until_done("redrive", self._redrive, lambda: not world.queue.dead)
        self._until_worked_off("redriven")
        world.objects.put("ingest/gone", b"", if_absent=True)
        self._until_done("retry", self._retry, lambda: True)
        self._until_worked_off("retried")
        left = {"dead", "gone", _RETRY} - world.watch.accepted.keys()
        if left:
            raise ViolationError(f"{sorted(left)} was put back and is not accepted")

    def _redrive(self, process: Process) -> None:
        jobs.dead_letters(process).redrive(by_hand=True)

    def _retry(self, process: Process) -> None:
        entries = jobs.quarantine_entries(process)
        for entry in entries.entries():
            # The simulated messages of the others cannot be written anew.
            if entry.kind == "refused":
                entries.retry(entry)

    def _compact(self, process: Process) -> None:
        jobs.compactor(process, self._policy, shards=1).run(jobs.deadline(process, HOUR_MS))

    def _lose_usage(self) -> None:
        """Every second usage item is gone, as after a restore of the table."""
        for item in list(self.world.items.everything(Table.USAGE))[::2]:
            self.world.items.remove(Table.USAGE, Key(str(item["pk"]), str(item["sk"])))

    def _rebuild(self, process: Process) -> None:
        jobs.rebuilder(process, shards=1).usage()

    def _lose_markers(self) -> None:
        """Some markers are gone, as after a restore of the ledger."""
        for batch_id in _MARKERS_LOST:
            self.world.watch.lose_marker(batch_id)

    def _rebuild_markers(self, process: Process) -> None:
        jobs.rebuilder(process, shards=1).markers()

    def _send_copies(self) -> None:
        """Of each batch whose marker was rebuilt, and other content under such an id: nobody can tell it any more."""
        world = self.world
        copies = [*(f"{batch_id}.0" for batch_id in _MARKERS_LOST), "b0.1", _RETRY]
        for name in copies:
            world.queue.send(name, "S1")
        duplicates = world.metrics.counts[BATCHES_DUPLICATE]
        self._until_worked_off("copies")
        if world.metrics.counts[BATCHES_DUPLICATE] - duplicates != len(copies):
            raise ViolationError("a copy of a batch whose marker was rebuilt is no duplicate")

    def _reconcile(self, process: Process) -> None:
        to_s = self.world.scheduler.now_ms // 1000 + DAY_S
        result = jobs.reconciler(process, shards=1).check(from_s=0, to_s=to_s, deep=True)
        if result.different:
            raise ViolationError(f"the reconciler found {result.different[0]}")

    def _check_runs(self, process: Process) -> None:
        result = jobs.run_checker(process, shards=1).run(jobs.deadline(process, HOUR_MS))
        if result.different or result.left:
            raise ViolationError(f"the quick pass found {result.different}, and left {result.left}")

    def _close(self, process: Process) -> None:
        closer = jobs.period_closer(process, self._policy, shards=1)
        closer.close(_MONTH, jobs.deadline(process, HOUR_MS))
        problems = closer.verify(_MONTH)
        if problems:
            raise ViolationError(problems[0])

    def _clean(self, process: Process) -> None:
        jobs.cleaner(process, shards=1).run(jobs.deadline(process, HOUR_MS))

    def _orphans(self, process: Process) -> None:
        jobs.orphan_cleaner(process, age_s=HOUR_S).run(jobs.deadline(process, HOUR_MS))

    def _read(self, process: Process) -> None:
        view = jobs.lake_view(process, shards=1)
        for hour_s in view.hours():
            seen = view.hour_totals(hour_s, jobs.BY_ROW)
            expected = self.world.watch.visible_since[hour_s]
            if {str(group[1]) for group in seen} != set(expected) or any(t.records != 1 for t in seen.values()):
                raise ViolationError(f"a reader saw {sorted(map(str, seen))}, not {sorted(expected)}")

    def _orphan(self) -> None:
        """Objects of a commit whose transaction never came."""
        for suffix in ("parquet", "wal"):
            self.world.objects.put(f"staging/2026-12-01/{'f' * 32}.{suffix}", b"", if_absent=True)

    def _pending(self) -> bool:
        return any(str(item["pk"]).startswith("P#") for item in self.world.items.everything(Table.LEDGER))

    def _check(self) -> None:
        findings = check(self.world, lake_rows(self.world))
        if findings:
            raise ViolationError(str(findings))
        left = self.world.objects.keys("staging/")
        if left or self._pending():
            raise ViolationError(f"left over: {left}")
        if self.world.alerts.sent and self.world.alerts.sent[0].severity == "page":
            raise ViolationError(f"paged: {self.world.alerts.sent[0]}")


class NoChunks(ProcessItems):
    """The worker's stores when its chunks never get through: wide commits stay open, for the finisher to do."""

    def transact(self, actions: Sequence[Action]) -> None:
        if actions[0].key.pk.startswith("C#") and "next" in getattr(actions[0], "set", {}):
            raise UnavailableError("items.transact", "no chunk gets through", may_have_applied=False)
        super().transact(actions)


def _contents() -> Iterator[SentContent]:
    own_s = hour_of(NOW_MS // 1000)
    for number in range(6):
        yield content_of(f"b{number}", 0, [own_s, own_s - HOUR_S * (number % 2)])
    yield content_of("b0", 1, [own_s])
    other = content_of("b2", 1, [own_s])
    yield other
    yield retry_of(other)
    yield content_of("dead", 0, [own_s])
    yield content_of("wide", 0, [own_s - HOUR_S * n for n in range(5)] * 2)
    yield content_of("chunks", 0, [own_s - HOUR_S * n for n in range(15)])
    yield content_of("partly", 0, [own_s, own_s - 40 * DAY_S])
    yield content_of("late", 0, [own_s - 40 * DAY_S])
    yield replace(content_of("refused", 0, [own_s]), refused="count_mismatch")
    yield replace(content_of("gone", 0, [own_s]), location="ingest/gone")


def content_of(batch_id: str, version: int, starts: Sequence[int]) -> SentContent:
    """A content whose records start at `starts`; three usage types take turns."""
    name = f"{batch_id}.{version}"
    rows = tuple(
        PlainRow(
            hour_of(start_s),
            batch_id,
            f"{name}/{position}",
            "111111111111",
            "AmazonEC2",
            "out",
            "us-west-2",
            "internet",
            f"USW2-DataTransfer-Out-Bytes-{position % 3}",
            2**62 + position,
            start_s,
        )
        for position, start_s in enumerate(starts)
    )
    return SentContent(name=name, batch_id=batch_id, content_hash=f"h-{name}", sender_id="S1", rows=rows)


if __name__ == "__main__":
    sys.exit(main())
