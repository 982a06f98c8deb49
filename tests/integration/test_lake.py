"""The lake's jobs over the real adapters on MiniStack: two compactors race, a reader never stops, totals stay exact."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from metering.adapters.aws.items import DynamoDbItemStore
from metering.adapters.aws.objects import S3ObjectStore
from metering.adapters.aws.runtime import SystemClock, SystemEntropy
from metering.adapters.lake.jobs import LakeJobs
from metering.adapters.lake.query import LakeQuery
from metering.adapters.memory.alerts import MemoryAlerts
from metering.adapters.memory.clock import DeadlineAt
from metering.adapters.memory.metrics import MemoryMetrics
from metering.adapters.records.codec import ParquetRowCodec
from metering.adapters.records.reader import ReadLimits, RecordBatchReader
from metering.domain.batches import Delivery
from metering.domain.hours import hour_of, rfc3339
from metering.domain.items import Table
from metering.domain.lake import RowQuery
from metering.settings import Settings
from metering.units import DAY_S
from metering.usecases.aggregate import Aggregator
from tests.emulated import clients_of, make_resources

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.usecases.aggregate import InvocationResult

pytestmark = pytest.mark.emulator

BATCHES = 24
RECORDS = 5


class Region:
    """One process over the stores; each thread has its own."""

    def __init__(self, endpoint: str, ledger: str, usage: str, bucket: str) -> None:
        clients = clients_of(endpoint)
        settings = Settings(
            ledger_table=ledger,
            usage_table=usage,
            data_bucket=bucket,
            compact_file_rows=20,
            compact_wait_today_s=0,
            compact_wait_older_s=0,
            clean_wait_s=0,
        )
        self.clock = SystemClock()
        items = DynamoDbItemStore(clients.dynamodb, {Table.LEDGER: ledger, Table.USAGE: usage})
        self.jobs = LakeJobs(
            items=items,
            objects=S3ObjectStore(clients.s3, bucket),
            clock=self.clock,
            entropy=SystemEntropy(),
            metrics=MemoryMetrics(),
            alerts=MemoryAlerts(),
            settings=settings,
        )
        self.aggregator = Aggregator(
            store=items,
            objects=self.jobs.objects,
            reader=RecordBatchReader(self.jobs.objects, bucket=bucket, limits=ReadLimits()),
            codec=ParquetRowCodec(),
            clock=self.clock,
            entropy=SystemEntropy(),
            metrics=MemoryMetrics(),
            settings=settings,
            alerts=MemoryAlerts(),
        )

    def deadline(self) -> DeadlineAt:
        return DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + 900_000)

    def send(self, number: int) -> InvocationResult:
        now_s = self.clock.now_ms() // 1000
        records = [
            {
                "account_id": "123456789012",
                "service": "AmazonEC2",
                "resource_id": f"i-{n}",
                "direction": "out",
                "from": "us-east-1",
                "to": "internet",
                "bytes": 2**40 + number,
                "start": rfc3339(hour_of(now_s - n * DAY_S)),
                "end": rfc3339(hour_of(now_s - n * DAY_S)),
            }
            for n in range(RECORDS)
        ]
        body = {"schema": "metering.batch/1", "batch_id": f"b{number}", "record_count": RECORDS, "records": records}
        delivery = Delivery(
            message_id=f"m{number}",
            body=json.dumps(body),
            sent_at_ms=self.clock.now_ms(),
            receive_count=1,
            sender_id="s",
        )
        return self.aggregator.handle([delivery], self.deadline())


class Race:
    """A sender, compactors with cleaners, and a reader, each a thread with clients of its own."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts
        self._acknowledged = 0
        self._sent_all = threading.Event()
        self.failures: list[BaseException] = []
        self.reads = 0

    def run(self) -> None:
        """Everything at once, until all is sent and compacted."""
        works = (self._send, self._compact, self._compact, self._read)
        threads = [threading.Thread(target=self._guarded, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _guarded(self, work: Callable[[Region], None]) -> None:
        try:
            work(Region(*self._parts))
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            self.failures.append(error)

    def _send(self, region: Region) -> None:
        try:
            for number in range(BATCHES):
                assert not region.send(number).retry
                self._acknowledged = number + 1
        finally:
            self._sent_all.set()

    def _compact(self, region: Region) -> None:
        last = False
        while not last:
            last = self._sent_all.is_set()
            region.jobs.compactor.run(region.deadline())
            region.jobs.cleaner.run(region.deadline())

    def _read(self, region: Region) -> None:
        query = RowQuery(columns=("batch_id",))
        hour_s = hour_of(region.clock.now_ms() // 1000)
        while not self._sent_all.is_set():
            before = self._acknowledged
            batches = region.jobs.view.hour_totals(hour_s, query)
            after = min(self._acknowledged + 1, BATCHES)
            numbers = sorted(int(str(batch)[1:]) for (batch,) in batches)
            assert numbers == list(range(len(numbers)))
            assert all(total.records == 1 for total in batches.values())
            assert len(numbers) <= after
            if hour_of(region.clock.now_ms() // 1000) == hour_s:
                assert before <= len(numbers)
            self.reads += 1


def test_racing_compactors_and_cleaners_never_show_a_reader_too_much_or_too_little(ministack: str) -> None:
    names = make_resources(clients_of(ministack))
    parts = (ministack, names.ledger, names.usage, names.bucket)
    race = Race(*parts)
    race.run()
    assert not race.failures
    assert race.reads

    region = Region(*parts)
    region.jobs.compactor.run(region.deadline())
    region.jobs.cleaner.run(region.deadline())
    assert not list(region.jobs.objects.list("staging/"))
    now_s = region.clock.now_ms() // 1000
    result = region.jobs.reconciler.check(from_s=0, to_s=now_s + DAY_S, deep=True)
    assert all(check.agrees for check in result.checks)
    assert sum(check.rows.records for check in result.checks) == BATCHES * RECORDS
    answer = LakeQuery(view=region.jobs.view, objects=region.jobs.objects).run(
        "SELECT sum(bytes), count(*), count(DISTINCT batch_id) FROM transfers"
    )
    total = RECORDS * sum(2**40 + number for number in range(BATCHES))
    assert answer.rows == [(total, BATCHES * RECORDS, BATCHES)]
