"""Batches as the reader hands them to the commit: decoded, refused, or no batch at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.intake.admission import Admission
    from metering.stores.clock import Deadline
    from metering.stores.queues import Delivery
    from metering.usage.totals import Total, UsageKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRecord:
    """A record that is not metered.

    Attributes:
        position: Its place in the batch, from 0.
        reasons: Every problem found, as `(reason, detail)`; never empty.
        raw: The record as it came, as JSON text (lone surrogates escaped), shortened to 4 KiB.
    """

    position: int
    reasons: tuple[tuple[str, str], ...]
    raw: str


class RecordRows(Protocol):
    """Accepted records of one batch, in order. Only their decoder and the `RowCodec` know their form."""

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBatch:
    """A batch that was read.

    Attributes:
        batch_id: Empty if it could not be read.
        content_hash: Hex digest over all records, the refused ones included (docs/contract.md, content identity); the
            SHA-256 of the message body if not all of them could be read.
        hash_version: Version of the content hash; 0 if `content_hash` is the SHA-256 of the message body.
        records: Number of records that arrived, 0 if unknown.
        retry_of: Id under which this content came first, by the message's word; empty if it is not a retry under
            another id.
        object_key: Key of the object that has its records, by the message's word; empty if the message has them.
        announced: The message is a notification of that object.
    """

    batch_id: str
    source_id: str
    sequence: int | None
    sender_id: str
    content_hash: str
    hash_version: int
    records: int
    retry_of: str = ""
    object_key: str = ""
    announced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedBatch(ReadBatch):
    """A batch that was read to its end and has at least one accepted record.

    Attributes:
        usage: Exact totals of the accepted records; keys carry the own hour of each record and no `corrects`.
        refused: The refused records, each with its reasons; `records = len(rows) + len(refused)`.
        decoded_bytes: Size of the records after decompression, as it counts against the decode budget.
        unknown_regions: Regions without a known billing prefix, whose names stand in for it; for a warning metric.
    """

    rows: RecordRows
    usage: Mapping[UsageKey, Total]
    refused: tuple[RefusedRecord, ...]
    decoded_bytes: int
    unknown_regions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Id and content that a batch claims although its sender may not send it.

    Attributes:
        batch_id: Empty if it could not be read.
        content_hash, hash_version: As they would be if the sender were allowed.
    """

    batch_id: str
    content_hash: str
    hash_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedBatch(ReadBatch):
    """A batch that is refused as a whole.

    Attributes:
        problems: Every problem found, as `(reason, detail)`; the first is the batch's reason.
        missing_object: Whether it is refused only because the object that it points to is gone. With an accepted
            marker under its id it is a duplicate instead.
        evidence: The message body for the quarantine, shortened to 1 MiB.
        claim: Id and content that it claims, if its sender may not send it. Such a batch has no id, and makes no
            marker.
    """

    problems: tuple[tuple[str, str], ...]
    missing_object: bool
    evidence: bytes
    claim: Claim | None = None

    @property
    def reason(self) -> str:
        return self.problems[0][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoBatch:
    """A message that announces no batch and is acknowledged without a verdict (`s3:TestEvent`)."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReading:
    """The batches of one delivery. An S3 notification can announce several objects, any other message has one batch."""

    batches: tuple[DecodedBatch | RefusedBatch | NoBatch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Time for reading one delivery.

    Attributes:
        final: Whether a batch that is not read by then is refused as `too_slow`; else it stays without a verdict.
    """

    until: Deadline
    final: bool


class BatchReader(Protocol):
    """Reads the batches of a delivery: envelope, location, records, hash, admission and totals."""

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        """Decode one delivery.

        A fault that a sender can cause raises nothing: it becomes a `RefusedBatch`.

        Raises:
            OutOfTimeError: The time is over, and the allowance is not final.
            UnavailableError: The object that the message points to cannot be read now.
        """
