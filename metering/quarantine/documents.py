"""Quarantine objects: refused content with the reasons of its refusal.

| what | key | content |
|---|---|---|
| refused records of an accepted batch | `quarantine/<date>/<commit_id>.ndjson` | one line a record |
| a whole refused batch | `quarantine/batches/<sha256 of batch id and hash>.json` | one document |
| a batch in conflict | `quarantine/batches/<sha256 of batch id, hash and "conflict">.json` | one document |

Objects of the first kind belong to their commit, and are deleted with an orphan commit. Objects of the second kind are
named by identity alone. A second delivery writes the same object, and id and hash suffice to find it. A batch that its
sender may not send is named by sender, claimed id and body. Objects are ASCII JSON: refused content can hold any text.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple

from metering.errors import OperationFailedError
from metering.intake import senders
from metering.intake.batches import Claim, RefusedRecord
from metering.stores import objects
from metering.stores.codec import Added, AnyText, DecimalText, Fields, Form, StoredDocument, WholeOrNull
from metering.usage.totals import sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.ledger.markers import Marker

Kind = Literal["refused", "conflict"]
# Problem of content that meets a marker without hash. Its kind is `conflict`, because older releases know no other one.
UNVERIFIED = "unverified"


Problems = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRecord:
    """A refused record of an accepted batch."""

    batch_id: str
    record: RefusedRecord


def encode_records(refused: Mapping[str, tuple[RefusedRecord, ...]]) -> bytes:
    """Encode refused records, grouped by batch id, as NDJSON in the given order."""
    lines = [
        json.dumps(
            {"batch_id": batch_id, "position": each.position, "reasons": each.reasons, "raw": each.raw},
            separators=(",", ":"),
        )
        for batch_id, records in refused.items()
        for each in records
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def decode_records(body: bytes, key: str = "quarantine object") -> Iterator[QuarantinedRecord]:
    """Decode, line by line, what `encode_records` encoded.

    Raises:
        LedgerCorruptError: The object has a different format.
    """
    for number, line in enumerate(body.splitlines(), start=1):
        document = Fields.of_json(line, f"{key}, line {number}")
        record = RefusedRecord(
            position=document.whole("position"), reasons=_problems(document, "reasons"), raw=document.any_text("raw")
        )
        yield QuarantinedRecord(batch_id=document.any_text("batch_id"), record=record)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedBatch(StoredDocument):
    """A whole batch that is not metered.

    Attributes:
        kind: `refused`; or `conflict` if an accepted batch with other content has the same id.
        problems: Every problem found, as `(reason, detail)`; a conflict has the one problem `conflict` or
            `unverified`.
        hash_version: Version of the content hash; 0 means the SHA-256 of the message body.
        records: Number of records that arrived, 0 if unknown.
        first_sender_id: For a conflict, the sender of the accepted content; otherwise empty.
        body: The message as received. A retry sends this message again.
        evidence: Evidence that the reader stored, as text; empty if the body itself is the evidence.
        claim: Set if the sender may not send the batch; in this case `batch_id` is empty.
    """

    SCHEMA: ClassVar[str] = "metering.quarantine/1"
    kind: Kind
    batch_id: AnyText
    content_hash: Annotated[str, "hash"]
    hash_version: int
    problems: Annotated[Problems, "reasons", Form(_problems)]
    source_id: AnyText
    sequence: WholeOrNull
    sender_id: Annotated[AnyText, "sender"]
    first_sender_id: Annotated[AnyText, "first_sender"]
    records: int
    body: AnyText
    evidence: AnyText
    claim: Annotated[Claim | None, "claims", Added(None), Form(_claim, _claimed)] = None

    @property
    def key(self) -> str:
        if self.claim is not None:
            return objects.disallowed_batch_key(senders.role_of(self.sender_id), self.claim.batch_id, self.content_hash)
        key = objects.conflicting_batch_key if self.kind == "conflict" else objects.quarantined_batch_key
        return key(self.batch_id, self.content_hash)

    @property
    def reason(self) -> str:
        return self.problems[0][0]


def _claimed(claim: Claim) -> list[str | int]:
    return [claim.batch_id, claim.content_hash, claim.hash_version]


def _claim(document: Fields, name: str) -> Claim:
    row = document.row(name, ("batch_id", "hash", "hash_version"))
    return Claim(
        batch_id=row.any_text("batch_id"), content_hash=row.text("hash"), hash_version=row.whole("hash_version")
    )


def _problems(document: Fields, name: str) -> Problems:
    problems = document.rows(name, ("reason", "detail"))
    if not problems:
        document.fail(name, "one reason at least")
    return tuple((problem.text("reason"), problem.any_text("detail")) for problem in problems)


# Quarantine objects of log files: refused lines, and files that were refused as a whole.
#
# | what | key |
# |---|---|
# | refused lines of a log file | `quarantine/logs/lines/<sha256 of its identity>.json` |
# | a whole log file, by reference | `quarantine/logs/file/<sha256 of place>-<of version, ETag and reason>.json` |
#
# The file itself is not copied; it remains in its owner's bucket. Keys are derived from the refused content, so a
# repeated file writes the same objects. The objects are ASCII JSON, because a line can contain any bytes.


LogEntryKind = Literal["lines", "file"]


class KeptLine(NamedTuple):
    """A refused line, truncated to 4 KB. Line numbers start at 1; 0 means a sum of refused lines."""

    number: int
    reason: str
    detail: AnyText
    text: AnyText
    bytes: DecimalText


_Refusals = tuple[tuple[str, int, int], ...]


def _refusals(document: Fields, name: str) -> _Refusals:
    refusals = document.rows(name, ("reason", "lines", "bytes"))
    if not refusals:
        document.fail(name, "one reason at least")
    return tuple((row.text("reason"), row.whole("lines"), row.decimal("bytes")) for row in refusals)


def _written(refusals: _Refusals) -> list[list[str | int]]:
    return [[reason, lines, str(size)] for reason, lines, size in refusals]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedLog(StoredDocument):
    """Refused lines of one log file, or the whole file.

    Attributes:
        kind: `lines` if the rest of the file is metered, or `file` if the whole file is refused.
        place: Location of the file, such as `s3://acme-logs/AWSLogs/…`.
        version_id, etag: Version and ETag of the file at refusal; empty if unknown.
        identity: Identity of the file; empty if it could not be determined.
        log_kind: Kind of log; empty if unknown.
        source: Id of the resource that writes the file, such as a flow-log id; empty if unknown.
        content_sha256: SHA-256 of the file's content; empty if the file was not read to its end.
        refusals: All refusals, as `(reason, lines, bytes)`; for a whole file, a single refusal with 0 lines.
        detail: Explanation for operators if the whole file is refused.
    """

    SCHEMA: ClassVar[str] = "metering.quarantine/1"
    kind: LogEntryKind
    place: AnyText
    version_id: str = ""
    etag: str = ""
    identity: str = ""
    log_kind: str = ""
    source: str = ""
    content_sha256: str = ""
    refusals: Annotated[_Refusals, Form(_refusals, _written)]
    detail: str = ""
    lines: tuple[KeptLine, ...] = ()

    @property
    def key(self) -> str:
        if self.kind == "lines":
            return objects.quarantined_lines_key(self.identity)
        return objects.quarantined_file_key(self.place, self.version_id, self.etag, self.refusals[0][0])

    @property
    def name(self) -> str:
        """Name for operators: the identity of a file with refused lines, or the location of a refused file."""
        return self.identity if self.kind == "lines" else self.place


def log_not_retried(log: QuarantinedLog) -> OperationFailedError:
    """Error that says why refused lines or files of a log cannot be retried, and what to do instead."""
    if log.kind == "file":
        return OperationFailedError(
            f"{log.name} is of a log file, which is read again where it lies.",
            "When its cause is mended: metering ingest " + shlex.quote(log.place),
        )
    kind = "--map MAPPING" if log.log_kind == "mapped" else f"--kind {log.log_kind}"
    return OperationFailedError(
        f"{log.name} is metered without these lines, and stays so: its plan holds whenever it comes again.",
        "To meter them all the same, put them right, below the header of the log, into a file of another name, and "
        f"take that one: metering ingest FILE {kind}",
    )


# A message with records nests 4 levels.
_DEEPEST = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """One fact that differs between a conflict and the metered batch with the same id.

    Attributes:
        what: Name of the fact, such as `bytes`.
    """

    what: str
    metered: str
    this: str


def readable(body: str) -> dict[str, object] | None:
    """The message in a body as plain JSON values, or None if the body is not a JSON object.

    A number that a float cannot represent exactly stays text. If the body is a CloudEvent, the message is its data. The
    result is None for a body that is nested deeper than any message.
    """
    try:
        found = json.loads(body, parse_float=_exact, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and "specversion" in found and isinstance(found.get("data"), dict):
        found = found["data"]
    return found if isinstance(found, dict) and not _is_deep(found) else None


def records_in(message: dict[str, object]) -> list[object] | None:
    """Records of a message; None if the message has no list of records."""
    records = message.get("records")
    return records if isinstance(records, list) else None


def contrasts(marker: Marker, batch: QuarantinedBatch) -> tuple[Contrast, ...]:
    """Differences between an accepted batch, as its marker states it, and other content with the same id.

    A fact that is unknown for one of the contents is omitted. The marker's bytes cover only metered records, so bytes
    are compared only if all records of the batch are metered.
    """
    pairs = [
        ("sender", marker.sender_id, batch.sender_id),
        ("source_id", marker.source_id, batch.source_id),
        ("sequence", _text(marker.sequence), _text(batch.sequence)),
        ("records", _text(marker.records or None), _text(batch.records or None)),
        ("bytes", str(sum_totals(marker.hours.values()).bytes) if not marker.refused else "", _bytes(batch.body)),
        ("content hash", marker.content_hash or "", batch.content_hash),
    ]
    return tuple(
        Contrast(what=what, metered=one, this=other) for what, one, other in pairs if one and other and one != other
    )


def _bytes(body: str) -> str:
    """Sum of the bytes of the records in a body; empty if it cannot be computed."""
    message = readable(body)
    records = None if message is None else records_in(message)
    sizes = None if records is None else list(_sizes(records))
    return "" if not sizes or None in sizes else str(sum(size for size in sizes if size is not None))


def _sizes(records: list[object]) -> Iterator[int | None]:
    for record in records:
        size = record.get("bytes") if isinstance(record, dict) else None
        yield size if type(size) is int and size >= 0 else None


def _is_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return True


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _exact(digits: str) -> float | str:
    number = float(digits)
    return number if repr(number) == digits else digits
