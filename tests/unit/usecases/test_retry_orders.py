"""Retries by id and under new ids, with the message's copies, in every order: each content counts once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.adapters.memory.clock import DeadlineAt, ManualClock
from metering.adapters.memory.entropy import SeededEntropy
from metering.adapters.memory.items import MemoryItemStore
from metering.adapters.memory.metrics import MemoryMetrics
from metering.adapters.memory.objects import MemoryObjectStore
from metering.adapters.memory.queues import MemoryQueue
from metering.adapters.records.codec import ParquetRowCodec
from metering.adapters.records.reader import RecordBatchReader
from metering.domain.items import Table, Update
from metering.domain.ledger import Marker, marker_key
from metering.errors import OperationFailedError
from metering.usecases.aggregate import Aggregator
from metering.usecases.quarantine_entries import QuarantineEntries
from metering.usecases.verdicts import Verdict
from tests.property.sent import inline, pointing
from tests.stage import LIMITS, settings
from tests.usage_items import usage_of

NOW_S = 1_796_083_200
SETTINGS = settings(usage_shards=1)


class Region:
    """Worker, queue and the people's command over one store, down to JSON and Parquet."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW_S * 1000)
        self.items = MemoryItemStore()
        self.objects = MemoryObjectStore(self.clock)
        self.queue = MemoryQueue(self.clock)
        self.metrics = MemoryMetrics()
        self.entries = QuarantineEntries(
            store=self.items,
            objects=self.objects,
            queue=self.queue,
            clock=self.clock,
            bucket="data",
            marker_life_s=SETTINGS.marker_life_s,
        )
        self.aggregator = Aggregator(
            store=self.items,
            objects=self.objects,
            reader=RecordBatchReader(self.objects, bucket="data", limits=LIMITS),
            codec=ParquetRowCodec(),
            clock=self.clock,
            entropy=SeededEntropy(1),
            metrics=self.metrics,
            settings=SETTINGS,
        )

    def send(self, *bodies: str) -> None:
        self.queue.send_many(list(bodies))

    def work(self, *, at_once: int = 10) -> None:
        deadline = DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + 50_000)
        while received := self.queue.receive(at_once):
            result = self.aggregator.handle([each.delivery for each in received], deadline)
            assert result.retry == ()
            self.queue.delete_many([each.receipt for each in received])

    def counted(self) -> tuple[int, int]:
        totals = [entry.total for entry in usage_of(self.items)]
        return sum(total.bytes for total in totals), sum(total.records for total in totals)

    def markers(self) -> dict[str, Marker]:
        items = [item for item in self.items.everything(Table.LEDGER) if str(item["pk"])[:2] == "B#"]
        return {str(item["pk"])[2:]: Marker.from_item(item) for item in items if item["sk"] == "M"}


def test_a_batch_that_was_accepted_after_its_own_retry_is_not_counted_under_a_new_id_beside_it() -> None:
    region = Region()
    sent, lines = pointing("edge-1", "ingest/1.ndjson", ((NOW_S, 1_000),))
    region.send(sent.body)
    region.work()
    region.objects.put("ingest/1.ndjson", lines, if_absent=True)
    [refused] = region.entries.find("edge-1")
    region.entries.retry(refused)
    region.work()
    assert region.counted() == (1_000, 1)
    [again] = region.entries.find(refused.key)
    with pytest.raises(OperationFailedError, match="under its own id"):
        region.entries.retry(again, as_new_id=True)
    region.work()
    assert region.counted() == (1_000, 1)


def test_bytes_of_a_conflict_survive_its_retry_to_the_last_digit() -> None:
    region = Region()
    other = inline("edge-1", ((NOW_S, 1),)).body.replace('"bytes": 1', '"bytes": 9007199254740993.0')
    region.send(inline("edge-1", ((NOW_S, 7),)).body)
    region.work()
    region.send(other)
    region.work()
    [entry] = region.entries.find("edge-1")
    region.entries.retry(entry, as_new_id=True)
    region.work()
    assert region.counted() == (7 + 9_007_199_254_740_993, 2)


def test_a_retry_whose_original_cannot_be_read_goes_back_and_takes_nothing_with_it() -> None:
    region = Region()
    region.send(inline("edge-1", ((NOW_S, 7),)).body)
    region.work()
    region.send(inline("edge-1", ((NOW_S, 8),)).body)
    region.work()
    [entry] = region.entries.find("edge-1")
    region.entries.retry(entry, as_new_id=True)
    region.send(inline("edge-2", ((NOW_S, 5),)).body)
    damaged = Update(table=Table.LEDGER, key=marker_key("edge-1"), set={"verdict": "acepted"})
    region.items.update(damaged)
    received = region.queue.receive(10)
    deadline = DeadlineAt(clock=region.clock, at_ms=region.clock.now_ms() + 50_000)
    result = region.aggregator.handle([each.delivery for each in received], deadline)
    assert result.counts == {Verdict.PUT_BACK: 1, Verdict.ACCEPTED: 1}
    assert [each for each in result.contradictions if "B#edge-1 / M" in each]
    region.items.update(replace(damaged, set={"verdict": "accepted"}))
    region.aggregator.handle([each.delivery for each in received], deadline)
    assert region.counted() == (7 + 8 + 5, 3)
