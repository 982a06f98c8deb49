"""The lake's jobs with real adapters on MiniStack: concurrent compactors are killed, and readers see exact totals."""

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count

import pytest

from metering.adapters.aws.runtime import SystemClock
from metering.commit.aggregator import InvocationResult
from metering.hours import hour_of, rfc3339
from metering.lake.ports import RowQuery
from metering.reports.sql.query import LakeQuery, RegionLake
from metering.units import DAY_S, MINUTE_S
from tests.integration.region import Region, body, delivery, record
from tests.support.emulated import Resources, clients_of, make_resources
from tests.support.memory.clock import DeadlineAt
from tests.support.wire import Killed, Trouble, Wire

pytestmark = pytest.mark.emulator

BATCHES = 24
# Each batch has one row of this hour, and late rows of the same hour of earlier days.
RECORDS = 5
# A process dies at one of this many store calls. A batch takes three calls, and a run with its cleaning takes hundreds.
WORKER_CALLS, COMPACTOR_CALLS = 15, 250


class Process(Region):
    """A simulated process, one per thread. The process is killed at the call that `trouble` names."""

    def __init__(self, endpoint: str, resources: Resources, *, trouble: tuple[int, Trouble] | None = None) -> None:
        clients = clients_of(endpoint)
        Wire(trouble=trouble).attach(clients.dynamodb, clients.s3)
        super().__init__(clients, resources=resources)
        self.clock = SystemClock()  # type: ignore[assignment]  # another `Clock`
        eager = {"compact_file_rows": 20, "compact_wait_today_s": 0, "compact_wait_older_s": 0, "clean_wait_s": 0}
        self.settings = self.settings.model_copy(update=eager)
        self.lake_jobs = self.jobs()

    def deadline(self) -> DeadlineAt:
        return DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + 900_000)

    def send(self, number: int, hour_s: int) -> InvocationResult:
        records = [record(1, 2**40 + number, start=rfc3339(hour_s - n * DAY_S)) for n in range(RECORDS)]
        sent = delivery(f"m{number}", body(f"b{number}", records))
        return self.handle([replace(sent, sent_at_ms=self.clock.now_ms())])

    def tidy_up(self) -> None:
        self.lake_jobs.rollup.run(self.deadline())
        self.lake_jobs.compactor.run(self.deadline())
        self.lake_jobs.cleaner.run(self.deadline())


class Race:
    """A worker, two compactors with cleaners and two readers, with separate clients; all but readers often die."""

    def __init__(self, endpoint: str, resources: Resources) -> None:
        self._parts = (endpoint, resources)
        self._chances = count(1)
        self._acknowledged = 0
        self._sent_all = threading.Event()
        self._over = threading.Event()
        self._compacted = threading.Barrier(2, action=self._over.set)
        self.hour_s = hour_of(SystemClock().now_ms() // 1000)
        self.failures: list[BaseException] = []
        self.reads = 0
        self.deaths = {"worker": 0, "compactor": 0}

    def run(self) -> None:
        """Run all processes concurrently, until everything is sent and compacted."""
        works = (self._send, self._compact, self._compact, self._read_today, self._read_late)
        threads = [threading.Thread(target=self._guarded, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            self.failures.append(error)
            self._sent_all.set()
            self._over.set()
            self._compacted.abort()

    def _lives(self, calls: int) -> Iterator[Process]:
        """Consecutive processes, each killed at a random call."""
        chance = random.Random(next(self._chances))
        while True:
            death = chance.choice([Trouble.KILLED_BEFORE, Trouble.KILLED_AFTER])
            yield Process(*self._parts, trouble=(chance.randrange(calls), death))

    def _send(self) -> None:
        for region in self._lives(WORKER_CALLS):
            try:
                while self._acknowledged < BATCHES:
                    # A killed worker runs again, just as its message would be delivered again.
                    assert not region.send(self._acknowledged, self.hour_s).retry
                    self._acknowledged += 1
            except Killed:
                self.deaths["worker"] += 1
            else:
                break
        self._sent_all.set()

    def _compact(self) -> None:
        for region in self._lives(COMPACTOR_CALLS):
            try:
                last = False
                while not last:
                    last = self._sent_all.is_set()
                    region.tidy_up()
            except Killed:
                self.deaths["compactor"] += 1
            else:
                break
        self._compacted.wait()

    def _read_today(self) -> None:
        self._read(self.hour_s)

    def _read_late(self) -> None:
        self._read(self.hour_s - 3 * DAY_S)

    def _read(self, hour_s: int) -> None:
        """Read repeatedly; because batches arrive in order, each result must be a prefix of them."""
        query = RowQuery(columns=("batch_id",))
        view = Process(*self._parts).lake_jobs.view
        while not self._over.is_set():
            before = self._acknowledged
            batches = view.hour_totals(hour_s, query)
            after = min(self._acknowledged + 1, BATCHES)
            numbers = sorted(int(str(batch)[1:]) for (batch,) in batches)
            assert numbers == list(range(len(numbers)))
            assert all(total.records == 1 for total in batches.values())
            assert before <= len(numbers) <= after
            self.reads += 1


@pytest.mark.long
def test_racing_compactors_that_die_never_show_readers_too_much_or_too_little(ministack: str) -> None:
    resources = make_resources(clients_of(ministack))
    race = Race(ministack, resources)
    race.run()
    assert not race.failures
    assert race.reads > BATCHES
    assert min(race.deaths.values()) >= 3, race.deaths
    region = Process(ministack, resources)
    region.tidy_up()
    # Cleans up objects that a worker put before it died.
    replace(region.lake_jobs.orphans, age_s=-MINUTE_S).run(region.deadline())
    assert not list(region.objects.list("staging/"))
    now_s = region.clock.now_ms() // 1000
    result = region.lake_jobs.reconciler.check(from_s=0, to_s=now_s + DAY_S, deep=True)
    assert all(check.agrees for check in result.checks)
    assert sum(check.rows.records for check in result.checks) == BATCHES * RECORDS
    answer = LakeQuery(lakes=[RegionLake(region="us-east-1", view=region.lake_jobs.view, objects=region.objects)]).run(
        "SELECT sum(bytes), count(*), count(DISTINCT batch_id) FROM transfers"
    )
    total = RECORDS * sum(2**40 + number for number in range(BATCHES))
    assert list(answer.rows) == [(total, BATCHES * RECORDS, BATCHES)]
