"""Contents of producers, and messages that refer to a content by name.

The rows are those of `tests.support.memory.rows`: Parquet is behind a port, and has its own suites. The simulation only
needs that each row that was written is read once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import ObjectMissingError
from metering.intake.batches import Allowance, BatchReading, DecodedBatch, NoBatch, RefusedBatch, RefusedRecord
from tests.support.memory.rows import PlainRow, plain_usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.intake.admission import Admission
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class SentContent:
    """One content of a batch id, as a producer made it.

    Attributes:
        rows: Booked in their own hours. Resource ids contain batch, content and position: all rows differ.
        refused: Reason if the whole batch is refused, else empty.
        location: Key of the object that its message points to; empty if the records are in the message.
        retries: For a retry under another id, the original content, whose records it has; else None.
    """

    name: str
    batch_id: str
    content_hash: str
    sender_id: str
    rows: tuple[PlainRow, ...]
    refused: str = ""
    location: str = ""
    retries: SentContent | None = None

    @property
    def retry_of(self) -> str:
        return "" if self.retries is None else self.retries.batch_id


def retry_of(content: SentContent, way: str = "") -> SentContent:
    """The same content under its own id, which the message states. Another `way` gives another id."""
    batch_id = f"retry:{content.name}{way}"
    return SentContent(
        name=batch_id,
        batch_id=batch_id,
        content_hash=content.content_hash,
        sender_id="operator",
        rows=tuple(row._replace(batch_id=batch_id) for row in content.rows),
        refused=content.refused,
        location=content.location,
        retries=content,
    )


class ContentReader:
    """A `BatchReader` whose messages are names of contents."""

    def __init__(self, objects: ObjectStore, contents: dict[str, SentContent]) -> None:
        self._objects = objects
        self._contents = contents

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        content = self._contents.get(delivery.body)
        if content is None:
            return BatchReading(batches=(NoBatch(why="test event"),))
        if content.location:
            try:
                self._objects.get(content.location)
            except ObjectMissingError:
                return BatchReading(batches=(_refused(content, delivery, "object_missing", missing=True),))
        if content.refused:
            return BatchReading(batches=(_refused(content, delivery, content.refused),))
        reasons = [admission.refusal(row.start_s, delivery.sent_at_ms) for row in content.rows]
        if all(reasons):
            return BatchReading(batches=(_refused(content, delivery, str(reasons[0])),))
        return BatchReading(batches=(_decoded(content, delivery, reasons),))


def _refused(content: SentContent, delivery: Delivery, reason: str, *, missing: bool = False) -> RefusedBatch:
    return RefusedBatch(
        batch_id=content.batch_id,
        source_id="",
        sequence=None,
        sender_id=delivery.sender_id,
        # Unreadable records have no content hash, so the body's hash stands in.
        content_hash=f"body-{content.name}" if missing else content.content_hash,
        hash_version=0 if missing else 1,
        problems=((reason, ""),),
        records=len(content.rows),
        missing_object=missing,
        evidence=b"",
        retry_of=content.retry_of,
        object_key=content.location,
    )


def _decoded(content: SentContent, delivery: Delivery, reasons: Sequence[str | None]) -> DecodedBatch:
    rows = tuple(row for row, reason in zip(content.rows, reasons, strict=True) if reason is None)
    return DecodedBatch(
        batch_id=content.batch_id,
        source_id="",
        sequence=None,
        sender_id=delivery.sender_id,
        content_hash=content.content_hash,
        hash_version=1,
        records=len(content.rows),
        rows=rows,
        usage=plain_usage(rows),
        refused=tuple(
            RefusedRecord(position=position, reasons=((reason, ""),), raw=content.rows[position].resource_id)
            for position, reason in enumerate(reasons)
            if reason is not None
        ),
        decoded_bytes=100 * len(content.rows),
        retry_of=content.retry_of,
        object_key=content.location,
    )
