"""A reader over an in-memory bucket, and valid messages to modify."""

from __future__ import annotations

import gzip
import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from metering.intake.batches import DecodedBatch, NoBatch, RefusedBatch
from metering.intake.reader import RecordBatchReader
from metering.stores.queues import Delivery
from tests.support.memory.clock import UNHURRIED, ManualClock
from tests.support.memory.objects import MemoryObjectStore
from tests.support.stage import ADMISSION, LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.intake.admission import Admission
    from metering.intake.work import ReadLimits

BUCKET = "metering-data"
SENT_AT_S = int(datetime(2026, 11, 24, 14, tzinfo=UTC).timestamp())
PACK: dict[str, Callable[[bytes], bytes]] = {"none": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}

Answer = DecodedBatch | RefusedBatch | NoBatch


def record(**changes: object) -> dict[str, Any]:
    """A valid record with changes; the value `...` removes a field."""
    good: dict[str, object] = {
        "account_id": "123456789012",
        "service": "AmazonEC2",
        "resource_id": "i-0abc",
        "direction": "out",
        "from": "us-east-1/use1-az2",
        "to": "internet",
        "bytes": 41943040,
        "start": "2026-11-24T13:00:00Z",
        "end": "2026-11-24T13:05:00Z",
    }
    changes = {name.rstrip("_"): value for name, value in changes.items()}
    return {name: value for name, value in (good | changes).items() if value is not ...}


def message(records: list[Any] | None = None, **changes: object) -> dict[str, Any]:
    """A valid batch message with `records`, or with a `location` in `changes`."""
    good: dict[str, object] = {"schema": "metering.batch/1", "batch_id": "edge-1", "source_id": "edge", "sequence": 1}
    if records is not None:
        good |= {"record_count": len(records), "records": records}
    changes = {name.rstrip("_"): value for name, value in changes.items()}
    return {name: value for name, value in (good | changes).items() if value is not ...}


def pointer(
    key: str, object_format: str, compression: str = "none", *, count: int = 1, **changes: object
) -> dict[str, Any]:
    """A valid batch message whose records are in an object."""
    location = {"bucket": BUCKET, "key": key, "format": object_format, "compression": compression}
    return message(None, **({"record_count": count, "location": location} | changes))


def ndjson(records: list[Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in records)


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


class Desk:
    """A bucket, and a reader of messages that refer to it."""

    def __init__(self, limits: ReadLimits | None = None, *, versioned: bool = False) -> None:
        self.objects = MemoryObjectStore(ManualClock(SENT_AT_S * 1000), versioned=versioned)
        self.reader = RecordBatchReader(
            objects=self.objects, bucket=BUCKET, limits=limits or LIMITS, drop_identity="etag"
        )

    sent_at_ms = SENT_AT_S * 1000

    @staticmethod
    def text(body: object) -> str:
        return body if isinstance(body, str) else json.dumps(body)

    def put(self, key: str, body: bytes) -> Self:
        self.objects.put(key, body, if_absent=False)
        return self

    def read_all(self, body: object, *, admission: Admission | None = None) -> tuple[Answer, ...]:
        delivery = Delivery(
            message_id="m-1", body=self.text(body), sent_at_ms=self.sent_at_ms, receive_count=1, sender_id="sender"
        )
        return self.reader.read(delivery, admission=admission or ADMISSION, allowance=UNHURRIED).batches

    def read(self, body: object, *, admission: Admission | None = None) -> Any:
        answers = self.read_all(body, admission=admission)
        assert len(answers) == 1
        return answers[0]

    def refused(self, body: object) -> RefusedBatch:
        answer = self.read(body)
        assert isinstance(answer, RefusedBatch), answer
        return answer

    def decoded(self, body: object) -> DecodedBatch:
        answer = self.read(body)
        assert isinstance(answer, DecodedBatch), answer
        return answer


def reasons(answer: RefusedBatch | DecodedBatch, position: int = 0) -> list[str]:
    """Reasons why a batch, or the batch's record at `position`, was refused."""
    if isinstance(answer, RefusedBatch):
        return [reason for reason, _ in answer.problems]
    return [reason for each in answer.refused if each.position == position for reason, _ in each.reasons]
