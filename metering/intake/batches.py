"""Results that the reader passes to the commit: decoded batch, refused batch, or no batch at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.intake.admission import Admission
    from metering.stores import clock
    from metering.stores.queues import Delivery
    from metering.usage.totals import Total, UsageKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRecord:
    """A record that is not metered.

    Attributes:
        position: Position of the record in the batch, from 0.
        reasons: Every problem found, as `(reason, detail)`; never empty.
        raw: The record as received, as JSON text (lone surrogates escaped), shortened to 4 KiB.
    """

    position: int
    reasons: tuple[tuple[str, str], ...]
    raw: str


class RecordRows(Protocol):
    """Accepted records of one batch, in order. The representation is private to the decoder and the `RowCodec`."""

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadBatch:
    """A batch that was read.

    Attributes:
        batch_id: Empty if the id could not be read.
        content_hash: Hex digest over all records, including refused records (docs/contract.md, content identity); if
            some records are unreadable, the SHA-256 of the message body.
        hash_version: Version of the content hash; 0 if `content_hash` is the SHA-256 of the message body.
        records: Number of records that arrived, 0 if unknown.
        retry_of: Id under which the content was first sent, as the message states; empty unless the batch is a retry
            under another id.
        object_key: Key of the object with the records, as the message states; empty if the records are in the message.
        announced: Whether the message is an S3 notification about the object.
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
    """A batch that was read completely and has at least one accepted record.

    Attributes:
        usage: Exact totals of the accepted records; each key has the hour of its records' `start`, and no `corrects`.
        refused: The refused records, each with its reasons; `records = len(rows) + len(refused)`.
        decoded_bytes: Size of the records after decompression, as counted against the decode budget.
        unknown_regions: Regions without a known billing prefix (their names are used instead); for a warning metric.
    """

    rows: RecordRows
    usage: Mapping[UsageKey, Total]
    refused: tuple[RefusedRecord, ...]
    decoded_bytes: int
    unknown_regions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Id and content that a batch claims, although its sender may not send such a batch.

    Attributes:
        batch_id: Empty if the id could not be read.
        content_hash, hash_version: Content hash, and its version, of the batch if its sender were permitted.
    """

    batch_id: str
    content_hash: str
    hash_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedBatch(ReadBatch):
    """A batch that is refused as a whole.

    Attributes:
        problems: Every problem found, as `(reason, detail)`; the reason of the first problem is the batch's reason.
        missing_object: Whether the only reason is that the referenced object does not exist. If the id has an accepted
            marker, the batch is not refused, but a duplicate.
        evidence: The message body for the quarantine, shortened to 1 MiB.
        claim: Id and content claimed without permission; else None. A batch with a claim has no id and gets no marker.
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
    """The batches of one delivery. An S3 notification can announce several objects; any other message has one batch."""

    batches: tuple[DecodedBatch | RefusedBatch | NoBatch, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Time limit for reading one delivery.

    Attributes:
        final: Whether a batch not read in time is refused as `too_slow`; otherwise the batch stays without a verdict.
    """

    until: clock.Deadline
    final: bool


class BatchReader(Protocol):
    """Reads the batches of a delivery: envelope, location, records, hash, admission and totals."""

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        """Decode one delivery.

        A fault that a sender can cause raises no exception; the result is a `RefusedBatch`.

        Raises:
            OutOfTimeError: The time limit has expired; a later receive may have a longer limit.
            UnavailableError: The object to which the message refers cannot be read now.
        """
