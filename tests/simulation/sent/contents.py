"""Plain rows instead of Parquet, and messages that name their content instead of holding it.

The Parquet codec is behind a port, and its own suites test it. What the simulation needs of it is only that a row that
went in comes out once: so it keeps tuples.
"""

from __future__ import annotations

import marshal
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, cast

from metering.errors import ObjectMissingError
from metering.hours import hour_of
from metering.intake.batches import BatchReading, DecodedBatch, NoBatch, RefusedBatch, RefusedRecord
from metering.lake.ports import MergedFile
from metering.usage.totals import ZERO, Total, UsageKey

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.intake.admission import Admission
    from metering.intake.ports import Allowance
    from metering.lake.ports import StagedBatch
    from metering.lake.rows import Group, RowQuery
    from metering.ledger.row_sources import RowSource
    from metering.stores.deliveries import Delivery
    from metering.stores.objects import ObjectStore


class Row(NamedTuple):
    """One record on its way through the lake. Everything but the booked hour is as it was sent."""

    booked_s: int
    batch_id: str
    resource_id: str
    account_id: str
    service: str
    direction: str
    from_location: str
    to_location: str
    usage_type: str
    bytes: int
    start_s: int

    @property
    def usage_key(self) -> UsageKey:
        """Where it counts."""
        own_s = hour_of(self.start_s)
        return UsageKey(
            self.booked_s,
            self.account_id,
            self.usage_type,
            self.service,
            self.from_location,
            self.to_location,
            None if own_s == self.booked_s else own_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SentContent:
    """One content of a batch id, as a producer made it.

    Attributes:
        rows: Booked in their own hours. Their resource ids name batch, content and position: no two rows are equal.
        refused: Reason if the whole batch is refused, else empty.
        location: Key of the object that its message points to; empty if the records are in the message.
        retries: Of a retry under another id: the content that came first, whose records it has; else nothing.
    """

    name: str
    batch_id: str
    content_hash: str
    sender_id: str
    rows: tuple[Row, ...]
    refused: str = ""
    location: str = ""
    retries: SentContent | None = None

    @property
    def retry_of(self) -> str:
        return "" if self.retries is None else self.retries.batch_id


def retry_of(content: SentContent, way: str = "") -> SentContent:
    """The same content under an id of its own; the message says so. In another `way` it gets another id."""
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


class PlainReader:
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
        # Records that could not be read have no content hash: the body's stands in.
        content_hash=f"body-{content.name}" if missing else content.content_hash,
        hash_version=0 if missing else 1,
        problems=((reason, ""),),
        records=len(content.rows),
        missing_object=missing,
        evidence=b"",
        retry_of=content.retry_of,
    )


def _decoded(content: SentContent, delivery: Delivery, reasons: Sequence[str | None]) -> DecodedBatch:
    rows = tuple(row for row, reason in zip(content.rows, reasons, strict=True) if reason is None)
    usage: dict[UsageKey, Total] = {}
    for row in rows:
        key = row.usage_key
        size, count = usage.get(key, ZERO)
        usage[key] = Total(size + row.bytes, count + 1)
    return DecodedBatch(
        batch_id=content.batch_id,
        source_id="",
        sequence=None,
        sender_id=delivery.sender_id,
        content_hash=content.content_hash,
        hash_version=1,
        records=len(content.rows),
        rows=rows,
        usage=usage,
        refused=tuple(
            RefusedRecord(position=position, reasons=((reason, ""),), raw=content.rows[position].resource_id)
            for position, reason in enumerate(reasons)
            if reason is not None
        ),
        decoded_bytes=100 * len(content.rows),
        retry_of=content.retry_of,
    )


class PlainCodec:
    """A `RowCodec` of tuples."""

    def encode(self, batches: Sequence[StagedBatch]) -> bytes:
        rows = []
        for batch in batches:
            for row in cast("tuple[Row, ...]", batch.rows):
                booked_s = batch.rebooked.get(row.booked_s)
                rows.append(tuple(row) if booked_s is None else (booked_s, *row[1:]))
        rows.sort()
        return marshal.dumps(rows)


@lru_cache(maxsize=128)
def decode_rows(body: bytes) -> tuple[Row, ...]:
    """Inverse of the codec."""
    return tuple(map(Row._make, marshal.loads(body)))  # noqa: S302 - what this process wrote itself


class PlainLake:
    """`LakeWriter` and `LakeReader` of tuples."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    @contextmanager
    def merge(self, hour_s: int, staging_keys: Sequence[str]) -> Iterator[MergedFile]:
        rows = [row for key in staging_keys for row in decode_rows(self._objects.get(key)) if row.booked_s == hour_s]
        rows.sort()
        content = marshal.dumps(list(map(tuple, rows)))
        yield MergedFile(content=content, rows=len(rows), bytes=sum([row.bytes for row in rows]))

    def totals(self, sources: Sequence[RowSource], query: RowQuery) -> dict[Group, Total]:
        totals: dict[Group, Total] = {}
        for source in sources:
            for row in decode_rows(self._objects.get(source.key)):
                if row.booked_s == source.hour_s or not source.staged:
                    group = tuple([_value(row, column) for column in query.columns])
                    size, count = totals.get(group, ZERO)
                    totals[group] = Total(size + row.bytes, count + 1)
        return totals


def _value(row: Row, column: str) -> str | int:
    if column == "own_hour":
        return hour_of(row.start_s)
    return cast("str | int", getattr(row, column))
