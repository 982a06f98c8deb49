"""Rows, codec and reader without Parquet and without JSON records: for simulations and fast tests.

A delivery's body is JSON: `{"batches": [<batch>, …]}`, made by `plain_body`. A batch is
`{"batch_id", "source_id", "sequence", "rows": [[account_id, usage_type, from, to, bytes, start_s], …]}`. A row with
negative bytes is refused, as is one outside the admission window. `{"refuse": <reason>}` in place of rows refuses the
batch whole, `{"object": <key>}` reads the rows from the object `key`, and `retry_of` is as in a real message.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypedDict, cast

from metering.errors import ObjectMissingError
from metering.hours import hour_of
from metering.intake.batches import BatchReading, DecodedBatch, NoBatch, RefusedBatch, RefusedRecord
from metering.usage.totals import ZERO, Total, UsageKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metering.intake.admission import Admission
    from metering.intake.ports import Allowance
    from metering.lake.ports import StagedBatch
    from metering.stores.deliveries import Delivery
    from metering.stores.objects import ObjectStore

PLAIN_SERVICE = "AmazonEC2"


class PlainRow(NamedTuple):
    """Record that starts and ends at `start_s`, always of the same service."""

    account_id: str
    usage_type: str
    from_location: str
    to_location: str
    bytes: int
    start_s: int

    @property
    def usage_key(self) -> UsageKey:
        """Usage key that its bytes count for, in its own hour."""
        return UsageKey(
            hour_of(self.start_s),
            self.account_id,
            self.usage_type,
            PLAIN_SERVICE,
            self.from_location,
            self.to_location,
        )


class PlainStagedRow(NamedTuple):
    """Row of a staging object."""

    booked_hour_s: int
    batch_id: str
    row: PlainRow


@dataclass(frozen=True, slots=True)
class PlainRows:
    """Accepted records of one batch."""

    rows: tuple[PlainRow, ...]

    def __len__(self) -> int:
        return len(self.rows)


class PlainBatch(TypedDict, total=False):
    """Batch in the body of a delivery."""

    batch_id: str
    source_id: str
    sequence: int
    retry_of: str
    rows: Sequence[PlainRow]
    object: str
    refuse: str


def plain_body(*batches: PlainBatch) -> str:
    """Body of a message with these batches; without arguments, of a message without a batch."""
    return json.dumps({"batches": batches}, separators=(",", ":"))


def plain_hash(rows: Iterable[PlainRow]) -> str:
    """Content hash of a plain batch."""
    text = json.dumps([list(row) for row in rows], separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class PlainRowCodec:
    """Staging objects as JSON."""

    def encode(self, batches: Sequence[StagedBatch]) -> bytes:
        staged = [
            (batch.rebooked.get(hour_of(row.start_s), hour_of(row.start_s)), batch.batch_id, row)
            for batch in batches
            for row in cast("PlainRows", batch.rows).rows
        ]
        staged.sort(key=lambda each: each[0])
        return json.dumps(staged, separators=(",", ":")).encode()

    def decode(self, body: bytes) -> list[PlainStagedRow]:
        """Decode rows in the order of their booked hours: the inverse of `encode`."""
        return [PlainStagedRow(hour_s, batch_id, PlainRow(*row)) for hour_s, batch_id, row in json.loads(body)]


class PlainBatchReader:
    """Reads deliveries whose bodies `plain_body` made.

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
    rows = [PlainRow(*cast("PlainRow", value)) for value in values]
    accepted: list[PlainRow] = []
    refused: list[RefusedRecord] = []
    usage: dict[UsageKey, Total] = {}
    for position, row in enumerate(rows):
        reason = "invalid_bytes" if row.bytes < 0 else admission.refusal(row.start_s, delivery.sent_at_ms)
        if reason is None:
            accepted.append(row)
            key = row.usage_key
            usage[key] = usage.get(key, ZERO).plus(Total(row.bytes, 1))
        else:
            raw = json.dumps(row)
            refused.append(RefusedRecord(position=position, reasons=((reason, ""),), raw=raw))
    content_hash = plain_hash(rows)
    if not accepted:
        reasons = {record.reasons[0][0] for record in refused}
        reason = reasons.pop() if len(reasons) == 1 else "no_record_admitted"
        return _refused(delivery, batch, reason, content_hash=content_hash, records=len(rows))
    return DecodedBatch(
        batch_id=batch["batch_id"],
        source_id=batch.get("source_id", ""),
        sequence=batch.get("sequence"),
        sender_id=delivery.sender_id,
        content_hash=content_hash,
        hash_version=1,
        records=len(rows),
        rows=PlainRows(tuple(accepted)),
        usage=usage,
        refused=tuple(refused),
        decoded_bytes=64 * len(rows),
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
