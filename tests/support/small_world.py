"""An in-memory region with one aggregator, calls that a test can make fail, and sums from all stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import parse_hour
from metering.ledger.booked_hours import Pending, Pointer
from metering.ledger.commits import CommitRecord, Waiting
from metering.ledger.markers import Conflict, Marker, conflict_key
from metering.stores.queues import Delivery
from metering.stores.writes import Item, Table
from metering.usage.totals import Total, UsageKey, add_totals
from tests.support.memory.rows import (
    PlainBatch,
    PlainBatchReader,
    PlainRecord,
    PlainRow,
    PlainRowCodec,
    decode_rows,
    plain_body,
    plain_usage,
)
from tests.support.region import MemoryRegion
from tests.support.stage import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from metering.commit.aggregator import Aggregator, InvocationResult
    from metering.intake.batches import BatchReader
    from metering.settings import Settings

NOW_S = parse_hour("2026-11-24T13") + 1_800
SETTINGS = settings()


class KilledError(BaseException):
    """The process is gone."""


class Calls:
    """Numbers store calls from 0, and can make some of them fail.

    Attributes:
        before: Number of a call -> error that the call raises without being applied.
        after: Number of a call -> error that the call raises after it was applied (a lost reply).
        refuse: Name of a call -> error that each such call raises without being applied.
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
        """Names of calls, without the single reads within a call (`….next`)."""
        return [name for name in self.names if not name.endswith(".next")]


class SmallWorld(MemoryRegion):
    def __init__(
        self, *, settings: Settings = SETTINGS, wrap: Callable[[BatchReader], BatchReader] | None = None
    ) -> None:
        super().__init__(now_s=NOW_S, settings=settings)
        self.calls = Calls()
        self.items.on_call = self.objects.on_call = self.calls.on_call
        self.items.on_reply = self.objects.on_reply = self.calls.on_reply
        reader: BatchReader = PlainBatchReader(self.objects)
        self._reader = wrap(reader) if wrap is not None else reader
        self.aggregator = self.worker()

    def worker(self) -> Aggregator:
        return self.parts().worker_of(self._reader, PlainRowCodec())

    def handle(self, *deliveries: Delivery, left_ms: int = 50_000) -> InvocationResult:
        return self.aggregator.handle(deliveries, self.parts().deadline(left_ms))

    def stored(self, prefix: str) -> list[Item]:
        return [item for item in self.items.everything(Table.LEDGER) if str(item["pk"]).startswith(prefix)]

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

    def waiting(self) -> list[Waiting]:
        return [Waiting.from_item(item) for item in self.stored("U#")]

    def usage(self) -> dict[UsageKey, Total]:
        """Contents of the usage table after a full roll-up."""
        self._roll_up()
        return super().usage()

    def seen_rows(self) -> list[PlainRow]:
        """Rows that a reader finds through the waiting entries and the pointers."""
        rows: list[PlainRow] = []
        for (hour_s, staging_key), total in dict(self._places()).items():
            body = self.objects.peek(staging_key)
            assert body is not None, f"{staging_key} is missing"
            here = [row for row in decode_rows(body) if row.booked_s == hour_s]
            assert total == Total(sum(row.bytes for row in here), len(here))
            rows += here
        return rows

    def _places(self) -> Iterator[tuple[tuple[int, str], Total]]:
        for waiting in self.waiting():
            for hour_s, total in waiting.totals.items():
                yield (hour_s, waiting.staging_key), total
        for pointer in map(Pointer.from_item, self.stored("H#")):
            yield (pointer.hour_s, pointer.staging_key), Total(pointer.bytes, pointer.rows)

    def _roll_up(self) -> None:
        """Run the later roll-up. Unlike the worker's calls, calls of the roll-up are not counted and never fail."""
        calls = self.items.on_call, self.items.on_reply, self.objects.on_call, self.objects.on_reply
        self.items.on_call = self.items.on_reply = self.objects.on_call = self.objects.on_reply = lambda _: None
        try:
            self.roll_up(plain=True)
        finally:
            self.items.on_call, self.items.on_reply, self.objects.on_call, self.objects.on_reply = calls

    def assert_exact(self) -> None:
        """I2: markers, usage, commits and visible rows agree, with each row once, before and after a roll-up."""
        self._assert_rows_exact()
        self._roll_up()
        assert not self.waiting()
        self._assert_rows_exact()
        assert self.usage() == plain_usage(self.seen_rows())
        assert {each.commit_id: each.hours for each in self.pending()} == {
            each.commit_id: frozenset(each.hours) for each in self.commits()
        }

    def _assert_rows_exact(self) -> None:
        rows = self.seen_rows()
        assert len(rows) == len(set(rows))
        by_batch: dict[str, dict[int, Total]] = {}
        for row in rows:
            add_totals(by_batch.setdefault(row.batch_id, {}), {row.booked_s: Total(row.bytes, 1)})
        assert {batch_id: dict(marker.hours) for batch_id, marker in self.accepted().items()} == by_batch
        assert all(commit.state == "committed" for commit in self.commits())
        assert sum(commit.rows for commit in self.commits()) == len(rows)


def rows_of(number: int, *, keys: int = 1, start_s: int = NOW_S, size: int = 100) -> list[PlainRecord]:
    """`keys` records of distinct usage keys; account and bytes distinguish batches."""
    return [
        PlainRecord(f"{number:012d}", f"type-{key}", "us-east-1", "internet", size + key, start_s)
        for key in range(keys)
    ]


def batch(number: int, *, keys: int = 1, start_s: int = NOW_S, size: int = 100) -> PlainBatch:
    return {"batch_id": f"b{number}", "rows": rows_of(number, keys=keys, start_s=start_s, size=size)}


def delivery(
    *batches: PlainBatch, message: str = "", sender: str = "alice", receive_count: int = 1, body: str = ""
) -> Delivery:
    """A message with `batches`; its message id is the id of the first batch."""
    return Delivery(
        message_id=message or str(batches[0]["batch_id"] if batches else "m"),
        body=body or plain_body(*batches),
        sent_at_ms=NOW_S * 1000,
        receive_count=receive_count,
        sender_id=sender,
    )


def deliveries(count: int, *, keys: int = 1) -> Sequence[Delivery]:
    return [delivery(batch(number, keys=keys)) for number in range(count)]
