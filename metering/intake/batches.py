"""What the aggregator works on: deliveries from the queue, and batches decoded from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.usage.totals import Total, UsageKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedRecord:
    """A record that is not metered.

    Attributes:
        position: Place in the batch, from 0.
        reasons: Every problem found, as `(reason, detail)`; never empty.
        raw: The record as it came, JSON text (lone surrogates escaped), shortened to 4 KiB.
    """

    position: int
    reasons: tuple[tuple[str, str], ...]
    raw: str


class RecordRows(Protocol):
    """Accepted records of one batch, in order, in whatever form their decoder and the `RowCodec` share."""

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedBatch:
    """A batch whose message could be read.

    Attributes:
        content_hash: Hex digest over all records, the refused ones included (docs/contract.md, content identity).
        records: Number of records that arrived.
        rows: The accepted ones.
        usage: Their exact totals; keys carry the own hour of each record and no `corrects`.
        refused: The others, each with its reasons; `records = len(rows) + len(refused)`.
        decoded_bytes: Size of the records after decompression, as the decode budget counts it.
        unknown_regions: Regions without a known billing prefix whose name stands in for it, for a warning metric.
        retry_of: Id under which this content is said to have come first; empty if it is no retry under another id.
    """

    batch_id: str
    source_id: str
    sequence: int | None
    sender_id: str
    content_hash: str
    hash_version: int
    records: int
    rows: RecordRows
    usage: Mapping[UsageKey, Total]
    refused: tuple[RefusedRecord, ...]
    decoded_bytes: int
    unknown_regions: frozenset[str] = frozenset()
    retry_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedBatch:
    """A delivery that is refused whole.

    Attributes:
        batch_id: Empty if none could be read.
        content_hash: Content hash where the records could be read, else the SHA-256 of the body (see `hash_version`).
        hash_version: Version of the content hash; 0 says that `content_hash` is the SHA-256 of the message body.
        problems: Every problem found, as `(reason, detail)`; the first is the batch's reason.
        records: Number of records that arrived, 0 if unknown.
        missing_object: It is refused only because the object that it points to is gone. With an accepted marker
            under its id it is a duplicate instead.
        evidence: What to keep in quarantine: the body, shortened to 1 MiB, or the refused records as NDJSON.
        retry_of: As of a decoded one.
    """

    batch_id: str
    source_id: str
    sequence: int | None
    sender_id: str
    content_hash: str
    hash_version: int
    problems: tuple[tuple[str, str], ...]
    records: int
    missing_object: bool
    evidence: bytes
    retry_of: str = ""

    @property
    def reason(self) -> str:
        return self.problems[0][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoBatch:
    """A delivery that is no batch and is acknowledged as it is (`s3:TestEvent`)."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReading:
    """What one delivery holds. Usually one; an S3 notification can announce several objects."""

    batches: tuple[DecodedBatch | RefusedBatch | NoBatch, ...]
