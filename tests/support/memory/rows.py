"""Rows, codec and reader without Parquet and without JSON records: for simulations and fast tests.

A delivery's body is JSON: `{"batches": [<batch>, …]}`, made by `plain_body`. A batch is `{"batch_id", "source_id",
"sequence", "rows": [[account_id, usage_type, from, to, bytes, start_s], …]}`. A row with negative bytes is refused, as
is one outside the admission window. `{"refuse": <reason>}` in place of rows refuses the whole batch, `{"object":
<key>}` reads the rows from the object `key`, and `retry_of` is as in a real message.
"""

from __future__ import annotations

import hashlib
import json
import marshal
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypedDict, cast

from metering.errors import ObjectMissingError
from metering.hours import hour_of
from metering.intake.batches import Allowance, BatchReading, DecodedBatch, NoBatch, RefusedBatch, RefusedRecord
from metering.usage.totals import ZERO, Service, Total, UsageKey, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metering.intake.admission import Admission
    from metering.lake.ports import StagedBatch
    from metering.stores.objects import ObjectStore
    from metering.stores.queues import Delivery


class PlainRow(NamedTuple):
    """Record on its way through the lake, which starts and ends at `start_s`."""

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
        """Usage key for which its bytes count, in its booked hour."""
        own_s = hour_of(self.start_s)
        return UsageKey(
            self.booked_s,
            self.account_id,
            UsageType(self.usage_type),
            Service(self.service),
            self.from_location,
            self.to_location,
            None if own_s == self.booked_s else own_s,
        )


class PlainRecord(NamedTuple):
    """Record in the form of a message."""

    account_id: str
    usage_type: str
    from_location: str
    to_location: str
    bytes: int
    start_s: int

    def row(self, batch_id: str, position: int) -> PlainRow:
        """Make a batch's row of it, booked in its own hour; no two rows of a region are equal."""
        return PlainRow(
            booked_s=hour_of(self.start_s),
            batch_id=batch_id,
            resource_id=f"{batch_id}/{position}",
            account_id=self.account_id,
            service="AmazonEC2",
            direction="out",
            from_location=self.from_location,
            to_location=self.to_location,
            usage_type=self.usage_type,
            bytes=self.bytes,
            start_s=self.start_s,
        )


class PlainBatch(TypedDict, total=False):
    """Batch in the body of a delivery."""

    batch_id: str
    source_id: str
    sequence: int
    retry_of: str
    rows: Sequence[PlainRecord]
    object: str
    refuse: str


def plain_body(*batches: PlainBatch) -> str:
    """Body of a message with these batches; without arguments, of a message without a batch."""
    return json.dumps({"batches": batches}, separators=(",", ":"))


def plain_hash(records: Iterable[PlainRecord]) -> str:
    """Content hash of a plain batch."""
    text = json.dumps([list(record) for record in records], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class PlainRowCodec:
    """A `RowCodec` of tuples. A batch's rows are a tuple of `PlainRow`, booked in their own hours."""

    def encode(self, batches: Sequence[StagedBatch]) -> bytes:
        rows: list[tuple[object, ...]] = []
        for batch in batches:
            for row in cast("tuple[PlainRow, ...]", batch.rows):
                booked_s = batch.rebooked.get(row.booked_s)
                rows.append(tuple(row) if booked_s is None else (booked_s, *row[1:]))
        return encode_rows(rows)


def encode_rows(rows: Iterable[tuple[object, ...]]) -> bytes:
    """Encode the rows of an object, sorting them by their booked hours."""
    return marshal.dumps(sorted(map(tuple, rows)))


@lru_cache(maxsize=128)
def decode_rows(body: bytes) -> tuple[PlainRow, ...]:
    """Decode the rows of a staging object or of a lake file."""
    return tuple(map(PlainRow._make, marshal.loads(body)))  # noqa: S302 - what this process wrote itself


def plain_usage(rows: Iterable[PlainRow]) -> dict[UsageKey, Total]:
    """Sum rows by usage key."""
    usage: dict[UsageKey, Total] = {}
    for row in rows:
        key = row.usage_key
        size, count = usage.get(key, ZERO)
        usage[key] = Total(size + row.bytes, count + 1)
    return usage


class PlainBatchReader:
    """Reads deliveries whose bodies come from `plain_body`.

    Args:
        objects: Store of the objects that batches point to.
    """

    def __init__(self, objects: ObjectStore | None = None) -> None:
        self._objects = objects

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        try:
            batches = cast("list[PlainBatch]", json.loads(delivery.body)["batches"])
        except (ValueError, KeyError, TypeError):
            return BatchReading(batches=(_refused(delivery, {}, "not_json"),))
        if not batches:
            return BatchReading(batches=(NoBatch(why="empty"),))
        return BatchReading(batches=tuple(self._read(delivery, batch, admission) for batch in batches))

    def _read(self, delivery: Delivery, batch: PlainBatch, admission: Admission) -> DecodedBatch | RefusedBatch:
        if "refuse" in batch:
            return _refused(delivery, batch, batch["refuse"])
        if "object" not in batch:
            return _decoded(delivery, batch, batch["rows"], admission)
        if self._objects is None:
            raise ValueError("this reader has no object store")
        try:
            return _decoded(delivery, batch, json.loads(self._objects.get(batch["object"])), admission)
        except ObjectMissingError:
            return _refused(delivery, batch, "object_missing", missing_object=True)


def _decoded(
    delivery: Delivery, batch: PlainBatch, values: Iterable[Sequence[object]], admission: Admission
) -> DecodedBatch | RefusedBatch:
    records = [PlainRecord(*cast("PlainRecord", value)) for value in values]
    accepted: list[PlainRow] = []
    refused: list[RefusedRecord] = []
    for position, record in enumerate(records):
        reason = "invalid_bytes" if record.bytes < 0 else admission.refusal(record.start_s, delivery.sent_at_ms)
        if reason is None:
            accepted.append(record.row(batch["batch_id"], position))
        else:
            refused.append(RefusedRecord(position=position, reasons=((reason, ""),), raw=json.dumps(record)))
    content_hash = plain_hash(records)
    if not accepted:
        reasons = {each.reasons[0][0] for each in refused}
        reason = reasons.pop() if len(reasons) == 1 else "no_record_admitted"
        return _refused(delivery, batch, reason, content_hash=content_hash, records=len(records))
    return DecodedBatch(
        batch_id=batch["batch_id"],
        source_id=batch.get("source_id", ""),
        sequence=batch.get("sequence"),
        sender_id=delivery.sender_id,
        content_hash=content_hash,
        hash_version=1,
        records=len(records),
        rows=tuple(accepted),
        usage=plain_usage(accepted),
        refused=tuple(refused),
        decoded_bytes=64 * len(records),
        retry_of=batch.get("retry_of", ""),
    )


def _refused(
    delivery: Delivery,
    batch: PlainBatch | Mapping[str, object],
    reason: str,
    *,
    content_hash: str = "",
    records: int = 0,
    missing_object: bool = False,
) -> RefusedBatch:
    sequence = batch.get("sequence")
    return RefusedBatch(
        batch_id=str(batch.get("batch_id", "")),
        source_id=str(batch.get("source_id", "")),
        sequence=sequence if isinstance(sequence, int) else None,
        sender_id=delivery.sender_id,
        content_hash=content_hash or hashlib.sha256(delivery.body.encode()).hexdigest(),
        hash_version=1 if content_hash else 0,
        problems=((reason, ""),),
        records=records,
        missing_object=missing_object,
        evidence=delivery.body.encode(),
        retry_of=str(batch.get("retry_of", "")),
    )
