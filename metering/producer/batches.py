"""Batches of a key: their records, their ids, and their form in a message or an object.

The batch ids, and how records are split into batches, depend only on name, key and records. **Ids and split never
change.** A key sent both before and after an upgrade must give the same batches, or its records would be counted twice.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import msgspec
import zstandard

from metering.errors import OperationFailedError, UnavailableError
from metering.intake.work import FULL_RECORDS, MAX_RECORDS
from metering.stores.objects import INGEST_PREFIX
from metering.units import MIB
from metering.version import CONTRACT_VERSION

if TYPE_CHECKING:
    from zstandard import ZstdCompressionObj


# Bytes of a batch's lines, including line feeds. 50,000 typical records have 15 MB.
BATCH_BYTES = 32 * MIB
# Bytes of the lines of a batch that several keys share, which has at most `FULL_RECORDS`.
SHARED_BYTES = 200_000
# Upper bound for a body without records: 128 characters of the source, with up to 12 bytes each in JSON, 128 of the
# batch id, two numbers of 19 digits, and the field names.
_HEAD_BYTES = 2_048
# Larger batches become objects, and the message contains a reference to the object (claim check).
INLINE_BYTES = MIB - _HEAD_BYTES
_SCHEMA = f"metering.batch/{CONTRACT_VERSION}"
_ID_DIGITS = 40
_LEVEL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch of a key.

    Attributes:
        batch_id: `<name>/<40 hex digits of name and key>-<part>`.
        sequence: Sequence number of the batch among the batches of its source.
        inline: Whether `payload` is the JSON array of the records; otherwise it is NDJSON, compressed with zstd.
    """

    batch_id: str
    sequence: int
    records: int
    inline: bool
    payload: bytes

    def body(self, *, source_id: str | None, bucket: str) -> str:
        """The message (docs/contract.md), at most 1 MiB. Without a source, the message has no number."""
        head: dict[str, object] = {"schema": _SCHEMA, "batch_id": self.batch_id}
        if source_id is not None:
            head |= {"source_id": source_id, "sequence": self.sequence}
        head["record_count"] = self.records
        if self.inline:
            return f'{_compact(head)[:-1]},"records":{self.payload.decode()}}}'
        head["location"] = {"bucket": bucket, "key": self.object_key, "format": "ndjson", "compression": "zstd"}
        head["sha256"] = self._sha256()
        return _compact(head)

    @property
    def object_key(self) -> str:
        """Key of the object with the records. Keys differ if contents differ, so an object is never overwritten."""
        return f"{INGEST_PREFIX}{self.batch_id}-{self._sha256()[:16]}.ndjson.zst"

    def _sha256(self) -> str:
        return hashlib.sha256(self.payload).hexdigest()


def batch_id(name: str, key: str, part: int) -> str:
    """Id of batch number `part` (from 0) of the records that a producer sends under a key."""
    digest = hashlib.sha256(f"metering.producer/1\n{name}\n{key}".encode()).hexdigest()
    return f"{name}/{digest[:_ID_DIGITS]}-{part}"


def packed_batch_id(name: str, lines: Iterable[Line]) -> str:
    """Id of a batch that several keys share. Only the same lines of the same keys give the same id."""
    digest = hashlib.sha256(f"metering.producer/shared/1\n{name}\n".encode())
    for line in lines:
        digest.update(f"{len(line.key)} {line.key} {line.number}\n".encode() + line.text + b"\n")
    return f"{name}/{digest.hexdigest()[:_ID_DIGITS]}-0"


def split(lines: Iterable[bytes]) -> Iterator[Packed]:
    """Split lines, in their order, into batches of at most 50,000 records and `BATCH_BYTES`."""
    packing = _Packing()
    for line in lines:
        if packing.is_full_for(line):
            yield packing.packed()
            packing = _Packing()
        packing.add(line)
    if packing.records:
        yield packing.packed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A record that waits for a batch that several keys share.

    Attributes:
        number: Position of the record among those of its key, from 0.
        text: The record's line.
    """

    key: str
    number: int
    text: bytes


def filled(lines: Iterable[Line]) -> Iterator[tuple[list[Line], bool]]:
    """Group lines, in their order, into batches of at most `FULL_RECORDS` and `SHARED_BYTES`, or of one larger line.

    Yields:
        The lines of a batch, and whether it is full; only the last one may not be.
    """
    group: list[Line] = []
    size_bytes = 0
    for line in lines:
        if group and (len(group) == FULL_RECORDS or size_bytes + len(line.text) + 1 > SHARED_BYTES):
            yield group, True
            group, size_bytes = [], 0
        group.append(line)
        size_bytes += len(line.text) + 1
    if group:
        yield group, len(group) == FULL_RECORDS or size_bytes >= SHARED_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Records of one batch that has no id and no sequence yet. The fields have the same meaning as in `Batch`."""

    records: int
    inline: bool
    payload: bytes


class _Packing:
    """Lines of one batch. Records too large for a message are compressed as they arrive, to limit memory use."""

    def __init__(self) -> None:
        self.records = 0
        self._size_bytes = 0
        self._lines: list[bytes] = []
        self._compressor: ZstdCompressionObj | None = None
        self._compressed: list[bytes] = []

    def is_full_for(self, line: bytes) -> bool:
        return self.records == MAX_RECORDS or (self.records > 0 and self._size_bytes + len(line) + 1 > BATCH_BYTES)

    def add(self, line: bytes) -> None:
        self.records += 1
        self._size_bytes += len(line) + 1
        self._lines.append(line)
        # A JSON array has commas instead of line feeds, and one more bracket.
        if self._compressor is None and self._size_bytes + 1 > INLINE_BYTES:
            self._compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
        if self._compressor is not None:
            self._compressed.append(self._compressor.compress(b"".join(each + b"\n" for each in self._lines)))
            self._lines.clear()

    def packed(self) -> Packed:
        if self._compressor is None:
            return Packed(records=self.records, inline=True, payload=b"[" + b",".join(self._lines) + b"]")
        payload = b"".join((*self._compressed, self._compressor.flush()))
        return Packed(records=self.records, inline=False, payload=payload)


def _compact(value: dict[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"))


_PROBLEMS_TOLD = 20


class NotSentError(UnavailableError):
    """The queue or the bucket did not accept everything in time. No records are lost, and repeating the call is safe.

    With a journal the records are stored, and the next call sends them. Without a journal, send the key again.

    Attributes:
        unsent: Number of batches that were not confirmed as accepted. Unconfirmed batches may have arrived.
        journalled: Whether these batches are in the journal.
    """

    def __init__(self, operation: str, detail: str, *, unsent: int, journalled: bool) -> None:
        super().__init__(operation, detail)
        self.unsent = unsent
        self.journalled = journalled

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_not_sent, (self.operation, self.detail, self.unsent, self.journalled))

    def __str__(self) -> str:
        batches = "1 batch is" if self.unsent == 1 else f"{self.unsent} batches are"
        way = "They are in the journal, and the next call sends them" if self.journalled else "Send the same key again"
        return f"{batches} not known to be sent ({self.operation}: {self.detail}). {way}."


def _rebuild_not_sent(operation: str, detail: str, unsent: int, journalled: bool) -> NotSentError:
    return NotSentError(operation, detail, unsent=unsent, journalled=journalled)


class RecordsRefusedError(OperationFailedError):
    """Records that cannot be written in the contract's form. The call sent and numbered no batch.

    Attributes:
        problems: `(position from 0, problem)` of the first 20 such records.
        refused: Number of records with a problem.
    """

    def __init__(self, problems: Sequence[tuple[int, str]], refused: int) -> None:
        told = "; ".join(f"record {position}: {what}" for position, what in problems)
        more = f"; and {refused - len(problems)} more" if refused > len(problems) else ""
        super().__init__(
            f"Nothing was sent: {told}{more}.",
            "A record is a mapping of names to texts, whole numbers and times with their zone (docs/contract.md).",
        )
        self.problems = tuple(problems)
        self.refused = refused

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.problems, self.refused))


class KeyReusedError(OperationFailedError):
    """A key was reused with other records, or by `send` and `add`. A key always has the same records, in one order."""

    def __init__(self, key: str) -> None:
        super().__init__(
            f"The key {key!r} was used for other records before, or by another method, and nothing was sent.",
            "Give each piece of work a key of its own, such as file and offset. Sort what has no order of its own.",
        )
        self.key = key

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (self.key,))


class JournalError(OperationFailedError):
    """The journal cannot be opened, read or written. Records that were not journalled were not sent."""


class Problems:
    """Problems of records: descriptions of the first problems, and the total number of problems."""

    def __init__(self) -> None:
        self._told: list[tuple[int, str]] = []
        self._refused = 0

    def add(self, position: int, what: str) -> None:
        self._refused += 1
        if len(self._told) < _PROBLEMS_TOLD:
            self._told.append((position, what))

    @property
    def any(self) -> bool:
        return self._refused > 0

    def raise_any(self) -> None:
        """Raise what was noted.

        Raises:
            RecordsRefusedError: There is a problem.
        """
        if self._refused:
            raise RecordsRefusedError(self._told, self._refused)


# If a line is longer than this, the service refuses the whole object (docs/contract.md).
_MAX_LINE_BYTES = MIB - 64
# Characters that SQS does not accept, in UTF-8, and their JSON escapes. All other characters that SQS rejects are
# control characters, which JSON always escapes.
_ESCAPED = ((b"\xef\xbf\xbe", b"\\ufffe"), (b"\xef\xbf\xbf", b"\\uffff"))
_PLAIN = frozenset((str, int, bool, type(None)))
_encode = msgspec.json.Encoder(order="sorted").encode


class _RefusedValueError(ValueError):
    """A value that no record can have."""


def record_lines(records: Iterable[Mapping[str, object]]) -> Iterator[bytes]:
    """Each record as one line of JSON with sorted names, without the line feed.

    Values are strings, integers (also of numpy and Decimal) and times with a time zone, which are written as RFC 3339.
    The contract's rules are not checked here: the service checks them, and quarantines refused records.

    Raises:
        RecordsRefusedError: Records cannot be written as JSON, or are too long. The error is raised once all records
            are checked; lines before the first problem were yielded before.
    """
    problems = Problems()
    for position, record in enumerate(records):
        try:
            line = _line(record)
        except (ValueError, TypeError, OverflowError) as error:
            problems.add(position, str(error) if isinstance(error, _RefusedValueError) else f"no JSON ({error})")
            continue
        if not problems.any:
            yield line
    problems.raise_any()


def _line(record: Mapping[str, object]) -> bytes:
    if not isinstance(record, Mapping):
        raise _RefusedValueError(f"a {type(record).__name__} is no record")
    plain = {}
    for name, value in record.items():
        if type(name) is not str:
            raise _RefusedValueError(f"the name {name!r} is no text")
        plain[name] = value if type(value) in _PLAIN else _plain(name, value)
    line = _encode(plain)
    if b"\xef\xbf" in line:
        for character, escape in _ESCAPED:
            line = line.replace(character, escape)
    if len(line) > _MAX_LINE_BYTES:
        raise _RefusedValueError(f"{len(line)} bytes, and a record has {_MAX_LINE_BYTES} at most")
    return line


def _plain(name: str, value: object) -> str | int:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise _RefusedValueError(f"{name} is a time without a zone")
        return value.isoformat()
    try:
        return operator.index(value)  # type: ignore[arg-type]  # it says itself whether it is a whole number
    except TypeError:
        return _whole(name, value)


def _whole(name: str, value: object) -> int:
    """The integer value of a Decimal or a Fraction. A float is refused, because it may already have been rounded."""
    ratio = None if isinstance(value, float) else getattr(value, "as_integer_ratio", None)
    if ratio is None:
        raise _RefusedValueError(f"{name} is a {type(value).__name__}")
    numerator, denominator = ratio()
    if denominator != 1:
        raise _RefusedValueError(f"{name} is no whole number")
    return int(numerator)
