"""A region in memory with one aggregator, calls that can be made to fail, and sums from every side."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from metering.adapters.memory.alerts import MemoryAlerts
from metering.adapters.memory.clock import DeadlineAt, ManualClock
from metering.adapters.memory.entropy import SeededEntropy
from metering.adapters.memory.items import MemoryItemStore
from metering.adapters.memory.metrics import MemoryMetrics
from metering.adapters.memory.objects import MemoryObjectStore
from metering.adapters.memory.rows import PlainBatch, PlainBatchReader, PlainRow, PlainRowCodec, plain_body
from metering.commit.aggregator import Aggregator
from metering.hours import parse_hour
from metering.ledger.booked_hours import Pending, Pointer
from metering.ledger.commits import CommitRecord
from metering.ledger.conflicts import Conflict, conflict_key
from metering.ledger.markers import Marker, marker_key
from metering.ledger.usage_items import usage_entries
from metering.stores.deliveries import Delivery
from metering.stores.writes import Table
from metering.usage.totals import ZERO, Total, UsageKey, add_totals
from tests.support.stage import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.commit.aggregator import InvocationResult
    from metering.intake.ports import BatchReader
    from metering.settings import Settings
    from metering.stores.writes import Item

NOW_S = parse_hour("2026-11-24T13") + 1_800
SETTINGS = settings(usage_shards=1)


class KilledError(BaseException):
    """The process is gone."""


class Calls:
    """Numbers the calls to the stores, from 0, and lets some of them fail.

    Attributes:
        before: Number of a call -> what it raises instead of being carried out.
        after: Number of a call -> what it raises after it was applied (a lost reply).
        refuse: Name of a call -> what each of its calls raises instead of being carried out.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.before: dict[int, BaseException] = {}
        self.after: dict[int, BaseException] = {}
        self.refuse: dict[str, BaseException] = {}

    def on_call(self, name: str) -> None:
        number = len(self.names)
        self.names.append(name)
        if number in self.before:
            raise self.before[number]
        if name in self.refuse:
            raise self.refuse[name]

    def on_reply(self, _name: str) -> None:
        number = len(self.names) - 1
        if number in self.after:
            raise self.after[number]

    def whole(self) -> list[str]:
        """Calls without the single reads that some consist of."""
        return [name for name in self.names if not name.endswith(".next")]


class SmallWorld:
    """One region."""

    def __init__(
        self, *, settings: Settings = SETTINGS, wrap: Callable[[BatchReader], BatchReader] | None = None
    ) -> None:
        self.calls = Calls()
        self.clock = ManualClock(NOW_S * 1000)
        self.items = MemoryItemStore(on_call=self.calls.on_call, on_reply=self.calls.on_reply)
        self.objects = MemoryObjectStore(self.clock, on_call=self.calls.on_call, on_reply=self.calls.on_reply)
        self.metrics = MemoryMetrics()
        self.alerts = MemoryAlerts()
        self.entropy = SeededEntropy(1)
        self.settings = settings
        reader: BatchReader = PlainBatchReader(self.objects)
        self._reader = wrap(reader) if wrap is not None else reader
        self.aggregator = self.worker()

    def worker(self) -> Aggregator:
        """Another aggregator process."""
        return Aggregator(
            items=self.items,
            objects=self.objects,
            reader=self._reader,
            codec=PlainRowCodec(),
            clock=self.clock,
            entropy=self.entropy,
            metrics=self.metrics,
            settings=self.settings,
            alerts=self.alerts,
        )

    def handle(self, *deliveries: Delivery, left_ms: int = 50_000) -> InvocationResult:
        """One invocation."""
        deadline = DeadlineAt(clock=self.clock, at_ms=self.clock.now_ms() + left_ms)
        return self.aggregator.handle(deliveries, deadline)

    def stored(self, prefix: str) -> list[Item]:
        return [item for item in self.items.everything(Table.LEDGER) if str(item["pk"]).startswith(prefix)]

    def marker(self, batch_id: str) -> Marker | None:
        item = self.items.peek(Table.LEDGER, marker_key(batch_id))
        return None if item is None else Marker.from_item(item)

    def conflict(self, batch_id: str, content_hash: str) -> Conflict | None:
        item = self.items.peek(Table.LEDGER, conflict_key(batch_id, content_hash))
        return None if item is None else Conflict.from_item(item)

    def accepted(self) -> dict[str, Marker]:
        markers = (Marker.from_item(item) for item in self.stored("B#") if item["sk"] == "M")
        return {marker.batch_id: marker for marker in markers if marker.verdict == "accepted"}

    def commits(self) -> list[CommitRecord]:
        return [CommitRecord.from_item(item) for item in self.stored("C#")]

    def pending(self) -> list[Pending]:
        return [Pending.from_item(item) for item in self.stored("P#")]

    def usage(self) -> dict[UsageKey, Total]:
        """What the usage table says, suffixes summed."""
        totals: dict[UsageKey, Total] = {}
        for item in self.items.everything(Table.USAGE):
            add_totals(totals, {entry.key: entry.total for entry in usage_entries(item)})
        return totals

    def seen_rows(self) -> Counter[tuple[int, str, PlainRow]]:
        """What a reader finds by the pointers: rows by booked hour and batch."""
        rows: Counter[tuple[int, str, PlainRow]] = Counter()
        for item in self.stored("H#"):
            pointer = Pointer.from_item(item)
            body = self.objects.peek(pointer.staging_key)
            assert body is not None, f"{pointer.staging_key} is missing"
            here = [row for row in PlainRowCodec().decode(body) if row.booked_hour_s == pointer.hour_s]
            assert (len(here), sum(row.row.bytes for row in here)) == (pointer.rows, pointer.bytes)
            rows.update((row.booked_hour_s, row.batch_id, row.row) for row in here)
        return rows

    def assert_exact(self) -> None:
        """I2: markers, usage, commits, pending items and visible rows agree, and each row is seen once."""
        rows = self.seen_rows()
        by_usage: dict[UsageKey, Total] = {}
        by_batch: dict[str, dict[int, Total]] = {}
        for (hour_s, batch_id, row), count in rows.items():
            own = row.usage_key
            key = own if own.hour_s == hour_s else own._replace(hour_s=hour_s, corrects_s=own.hour_s)
            total = Total(row.bytes * count, count)
            by_usage[key] = by_usage.get(key, ZERO).plus(total)
            hours = by_batch.setdefault(batch_id, {})
            hours[hour_s] = hours.get(hour_s, ZERO).plus(total)
        assert self.usage() == by_usage
        assert {batch_id: dict(marker.hours) for batch_id, marker in self.accepted().items()} == by_batch
        assert all(commit.state == "applied" for commit in self.commits())
        assert sum(commit.rows for commit in self.commits()) == rows.total()
        assert {each.commit_id: each.hours for each in self.pending()} == {
            each.commit_id: frozenset(each.hours) for each in self.commits()
        }


def rows_of(number: int, *, keys: int = 1, start_s: int = NOW_S, size: int = 100) -> list[PlainRow]:
    """`keys` records of distinct usage keys; account and bytes tell batches apart."""
    return [
        PlainRow(f"{number:012d}", f"type-{key}", "us-east-1", "internet", size + key, start_s) for key in range(keys)
    ]


def batch(number: int, *, keys: int = 1, start_s: int = NOW_S, size: int = 100) -> PlainBatch:
    """Batch `b<number>`."""
    return {"batch_id": f"b{number}", "rows": rows_of(number, keys=keys, start_s=start_s, size=size)}


def delivery(
    *batches: PlainBatch, message: str = "", sender: str = "alice", receive_count: int = 1, body: str = ""
) -> Delivery:
    """A message with these batches, named after the first."""
    return Delivery(
        message_id=message or str(batches[0]["batch_id"] if batches else "m"),
        body=body or plain_body(*batches),
        sent_at_ms=NOW_S * 1000,
        receive_count=receive_count,
        sender_id=sender,
    )


def deliveries(count: int, *, keys: int = 1) -> Sequence[Delivery]:
    return [delivery(batch(number, keys=keys)) for number in range(count)]
