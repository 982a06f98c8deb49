"""The public contract as a state machine: whatever people and producers do, in whatever order, each byte counts once.

Production code all the way down to Parquet, over the in-memory ports. The model knows the messages that were sent and
what their records add up to; it has code of its own for both.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, precondition, rule

from metering.adapters.lake.jobs import LakeJobs
from metering.adapters.memory.alerts import MemoryAlerts
from metering.adapters.memory.clock import DeadlineAt, ManualClock
from metering.adapters.memory.entropy import SeededEntropy
from metering.adapters.memory.items import MemoryItemStore
from metering.adapters.memory.metrics import MemoryMetrics
from metering.adapters.memory.objects import MemoryObjectStore
from metering.adapters.memory.queues import MemoryQueue
from metering.adapters.records.codec import ParquetRowCodec
from metering.adapters.records.reader import ReadLimits, RecordBatchReader
from metering.domain.items import Key, Table
from metering.domain.ledger import Marker, marker_key, usage_entries
from metering.settings import Settings
from metering.usecases.aggregate import Aggregator
from metering.usecases.period import PeriodNotClosableError
from metering.usecases.quarantine_entries import QuarantineEntries
from metering.usecases.report import UsageQuery, UsageTable, grouped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.ports import Deadline

_HOUR_S, _DAY_S = 3_600, 86_400
_BEGIN_S = int(datetime(2026, 11, 29, 22, 10, tzinfo=UTC).timestamp())
_WINDOW_S = 35 * _DAY_S
_YEAR_S = 366 * _DAY_S
_SETTINGS = Settings(
    ledger_table="ledger", usage_table="usage", data_bucket="data", usage_shards=2, reserve_ms=0, attempts=1
)
# Age of a record in hours when it is sent: of this hour, yesterday, last month, too late.
_AGES_H = st.sampled_from((0, 0, 1, 26, 24 * 20, 24 * 36))
_SIZES = st.one_of(st.integers(0, 10**6), st.just(2**63 - 1))


@dataclass(frozen=True)
class Sent:
    """One content of a batch id."""

    batch_id: str
    body: str
    records: tuple[tuple[int, int], ...]  # start, bytes


class Contract(RuleBasedStateMachine):
    sent: Bundle[Sent] = Bundle("sent")

    @initialize()
    def begin(self) -> None:
        self.clock = ManualClock(_BEGIN_S * 1000)
        self.items = MemoryItemStore()
        self.objects = MemoryObjectStore(self.clock)
        self.dead = MemoryQueue(self.clock, name="dead")
        self.queue = MemoryQueue(self.clock, dead=self.dead, visibility_s=60)
        self.metrics, self.alerts = MemoryMetrics(), MemoryAlerts()
        self.messages: list[tuple[Sent, int]] = []  # content, SentTimestamp in seconds
        self.count = 0
        self.broken = False
        self.closed: dict[str, dict[str, int]] = {}
        self.jobs = LakeJobs(
            items=self.items,
            objects=self.objects,
            clock=self.clock,
            entropy=SeededEntropy(1),
            metrics=self.metrics,
            alerts=self.alerts,
            settings=_SETTINGS,
        )
        self.aggregator = Aggregator(
            store=self.items,
            objects=self.objects,
            reader=RecordBatchReader(self.objects, bucket="data", limits=ReadLimits()),
            codec=ParquetRowCodec(),
            clock=self.clock,
            entropy=SeededEntropy(2),
            metrics=self.metrics,
            alerts=self.alerts,
            settings=_SETTINGS,
        )

    @rule(target=sent, records=st.lists(st.tuples(_AGES_H, _SIZES), min_size=1, max_size=3))
    def send(self, records: list[tuple[int, int]]) -> Sent:
        self.count += 1
        return self._send(self._content(f"b-{self.count}", records))

    @rule(before=sent)
    def duplicate(self, before: Sent) -> None:
        self._send(before)

    @rule(target=sent, before=sent, records=st.lists(st.tuples(_AGES_H, _SIZES), min_size=1, max_size=2))
    def mutate(self, before: Sent, records: list[tuple[int, int]]) -> object:
        other = self._content(before.batch_id, records)
        return self._send(other) if other.records != before.records else multiple()

    @rule(hours=st.sampled_from((1, 5, 30, 24 * 4, 24 * 12)))
    def time_passes(self, hours: int) -> None:
        if hours > 24:
            # Messages older than the queue keeps them would be lost: an alarm tells people long before.
            self.work()
        self.clock.advance_s(hours * _HOUR_S)

    @rule()
    def work(self) -> None:
        while received := self.queue.receive(10):
            result = self.aggregator.handle([each.delivery for each in received], self._deadline())
            assert result.retry == ()
            self.queue.delete_many([each.receipt for each in received])

    @rule()
    def nobody_works(self) -> None:
        """Received and never answered, until all of it is among the dead letters."""
        for _ in range(6):
            while self.queue.receive(10):
                pass
            self.clock.advance_s(61)

    @rule()
    def redrive(self) -> None:
        while received := self.dead.receive(10):
            now_s = self.clock.now_ms() // 1000
            bodies = [each.delivery.body for each in received]
            self.queue.send_many(bodies)
            self.messages += [(content, now_s) for content, _ in list(self.messages) if content.body in bodies]
            self.dead.delete_many([each.receipt for each in received])

    @rule()
    def retry(self) -> None:
        entries = QuarantineEntries(
            store=self.items,
            objects=self.objects,
            queue=self.queue,
            clock=self.clock,
            bucket="data",
            marker_life_s=_SETTINGS.marker_life_s,
        )
        for entry in list(entries.entries()):
            if entry.kind == "records":
                # Too late they were, too late they are: whatever comes of it is refused again.
                entries.retry(entry)
            elif entry.kind == "refused":
                entries.retry(entry)
                now_s = self.clock.now_ms() // 1000
                self.messages += [(c, now_s) for c, _ in list(self.messages) if c.batch_id == entry.batch_id]

    @rule()
    def compact(self) -> None:
        self.jobs.compactor.run(self._deadline())

    @rule()
    def clean(self) -> None:
        self.jobs.cleaner.run(self._deadline())
        self.jobs.orphans.run(self._deadline())

    @rule()
    def reconcile(self) -> None:
        result = self.jobs.reconciler.check(from_s=0, to_s=_BEGIN_S + _YEAR_S, deep=True)
        if not self.broken:
            assert result.different == ()
        assert result.unsettled == ()

    @rule()
    def close(self) -> None:
        if self.broken:
            self.rebuild()
        for month in ("2026-10", "2026-11"):
            try:
                self.jobs.closer.close(month, self._deadline())
            except PeriodNotClosableError as error:
                assert "can be closed from" in str(error)  # noqa: PT017 - too early is no failure
                continue
            frozen = self._month_usage(month)
            assert self.closed.setdefault(month, frozen) == frozen
            assert self.jobs.closer.verify(month) == []

    @precondition(lambda self: not self.broken)
    @rule()
    def lose_usage(self) -> None:
        for item in list(self.items.everything(Table.USAGE)):
            if str(item["pk"])[-7:] not in ("2026-10", "2026-11") or not self.closed:
                self.items.remove(Table.USAGE, Key(str(item["pk"]), str(item["sk"])))
                self.broken = True

    @precondition(lambda self: self.broken)
    @rule()
    def rebuild(self) -> None:
        result = self.jobs.rebuilder.usage(to_s=_BEGIN_S + _YEAR_S)
        assert result.unsettled == ()
        self.broken = False

    @rule()
    def query(self) -> None:
        expected = self._expected()
        rows = Counter[int]()
        hours = self.jobs.view.hours()
        for hour_s in hours:
            for key, total in self.jobs.view.hour_usage(hour_s).items():
                own_s = key.hour_s if key.corrects_s is None else key.corrects_s
                rows[own_s] += total.bytes
        assert +rows == +expected
        if not self.broken:
            query = UsageQuery(from_s=0, to_s=_BEGIN_S + _YEAR_S, group_by=())
            usage = UsageTable(items=self.items).usage(query, now_s=self.clock.now_ms() // 1000)
            assert sum(row.total.bytes for row in grouped(usage, query)) == expected.total()
        for month, frozen in self.closed.items():
            assert self._month_usage(month) == frozen

    def teardown(self) -> None:
        if not hasattr(self, "queue"):
            return
        self.redrive()
        self.work()
        if self.broken:
            self.rebuild()
        self.compact()
        self.query()
        for content, _ in self.messages:
            assert self._has_verdict(content), content

    def _expected(self) -> Counter[int]:
        """Bytes by own hour of all batches that the ledger calls accepted, from what was sent."""
        expected = Counter[int]()
        for batch_id in {content.batch_id for content, _ in self.messages}:
            item = self.items.peek(Table.LEDGER, marker_key(batch_id))
            if item is None or item["verdict"] != "accepted":
                continue
            marker = Marker.from_item(item)
            assert marker.records == marker.metered + marker.refused
            candidates = [
                admitted
                for content, sent_s in self.messages
                if content.batch_id == batch_id
                for admitted in [_admitted(content, sent_s)]
                if sum(admitted.values()) == sum(total.bytes for total in marker.hours.values())
                and len(content.records) == marker.records
            ]
            assert candidates, marker
            expected.update(candidates[0])
        return expected

    def _has_verdict(self, content: Sent) -> bool:
        pk = marker_key(content.batch_id).pk
        return any(True for _ in self.items.query(Table.LEDGER, pk))

    def _content(self, batch_id: str, records: list[tuple[int, int]]) -> Sent:
        now_s = self.clock.now_ms() // 1000
        rows = tuple((now_s - age_h * _HOUR_S, size) for age_h, size in records)
        return Sent(batch_id, json.dumps(_message(batch_id, rows)), rows)

    def _send(self, content: Sent) -> Sent:
        self.queue.send_many([content.body])
        self.messages.append((content, self.clock.now_ms() // 1000))
        return content

    def _deadline(self) -> Deadline:
        return DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + 10 * _DAY_S * 1000)

    def _month_usage(self, month: str) -> dict[str, int]:
        return {
            f"{entry.key} {entry.suffix}": entry.total.bytes
            for item in self.items.everything(Table.USAGE)
            if str(item["pk"]).endswith(month)
            for entry in usage_entries(item)
        }


def _admitted(content: Sent, sent_s: int) -> Counter[int]:
    hours = Counter[int]()
    for start_s, size in content.records:
        if start_s >= sent_s - _WINDOW_S:
            hours[start_s - start_s % _HOUR_S] += size
    return hours


def _message(batch_id: str, rows: tuple[tuple[int, int], ...]) -> dict[str, object]:
    return {
        "schema": "metering.batch/1",
        "batch_id": batch_id,
        "record_count": len(rows),
        "records": list(_records(rows)),
    }


def _records(rows: tuple[tuple[int, int], ...]) -> Iterator[dict[str, object]]:
    for position, (start_s, size) in enumerate(rows):
        yield {
            "account_id": "123456789012",
            "service": "AmazonEC2",
            "resource_id": f"i-{position}",
            "direction": "out",
            "from": "us-west-2",
            "to": "internet",
            "bytes": size,
            "start": start_s,
            "end": start_s,
        }


TestContract = Contract.TestCase
TestContract.settings = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
