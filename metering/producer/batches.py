"""Batches of a key: which records go together, what the batch is called, and how it travels.

Ids and the split follow from name, key and records alone. **They never change**: a key that was sent before an upgrade
and is sent again after it must give the same batches, or its records would be counted twice.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstandard

from metering.intake.work import MAX_RECORDS
from metering.stores.bucket import INGEST_PREFIX
from metering.units import MIB
from metering.version import CONTRACT_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zstandard import ZstdCompressionObj

# Bytes of the lines of a batch, with their line feeds. 50,000 usual records have 15 MB.
BATCH_BYTES = 32 * MIB
# Bytes that a body has beside its records, at most: 128 characters of the source, each of which JSON may write in 12,
# 128 of the batch id, two numbers of 19 digits, and the names.
_HEAD_BYTES = 2_048
# Above that, records go into an object, and the message points to it (the claim check).
INLINE_BYTES = MIB - _HEAD_BYTES
_SCHEMA = f"metering.batch/{CONTRACT_VERSION}"
_ID_DIGITS = 40
_LEVEL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch of a key.

    Attributes:
        batch_id: `<name>/<40 hex digits of name and key>-<part>`.
        sequence: Its number among the batches of its source.
        records: Number of records.
        inline: Whether `payload` is the JSON array of the records; else it is NDJSON, compressed with zstd.
    """

    batch_id: str
    sequence: int
    records: int
    inline: bool
    payload: bytes

    def body(self, *, source_id: str | None, bucket: str) -> str:
        """The message: of docs/contract.md, at most 1 MiB. Without a source it has no number."""
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
        """Key of the object with the records. Other bytes have another key, so an object is never replaced."""
        return f"{INGEST_PREFIX}{self.batch_id}-{self._sha256()[:16]}.ndjson.zst"

    def _sha256(self) -> str:
        return hashlib.sha256(self.payload).hexdigest()


def batch_id(name: str, key: str, part: int) -> str:
    """Id of part number `part`, from 0, of what a producer sends under a key."""
    digest = hashlib.sha256(f"metering.producer/1\n{name}\n{key}".encode()).hexdigest()
    return f"{name}/{digest[:_ID_DIGITS]}-{part}"


def split(lines: Iterable[bytes]) -> Iterator[Packed]:
    """Put lines into batches of at most 50,000 records and `BATCH_BYTES`, in their order."""
    packing = _Packing()
    for line in lines:
        if packing.is_full_for(line):
            yield packing.packed()
            packing = _Packing()
        packing.add(line)
    if packing.records:
        yield packing.packed()


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Records of one batch that has no id and no number yet. Fields are those of `Batch`."""

    records: int
    inline: bool
    payload: bytes


class _Packing:
    """Lines of one batch. What is too large for a message is compressed as it comes, so that memory stays small."""

    def __init__(self) -> None:
        self.records = 0
        self._size_bytes = 0
        self._lines: list[bytes] = []
        self._compressor: ZstdCompressionObj | None = None
        self._compressed: list[bytes] = []

    def is_full_for(self, line: bytes) -> bool:
        """Whether the line belongs to the next batch."""
        return self.records == MAX_RECORDS or (self.records > 0 and self._size_bytes + len(line) + 1 > BATCH_BYTES)

    def add(self, line: bytes) -> None:
        self.records += 1
        self._size_bytes += len(line) + 1
        self._lines.append(line)
        # An array has a comma where lines have a line feed, and one bracket more.
        if self._compressor is None and self._size_bytes + 1 > INLINE_BYTES:
            self._compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
        if self._compressor is not None:
            self._compressed.append(self._compressor.compress(b"".join(each + b"\n" for each in self._lines)))
            self._lines.clear()

    def packed(self) -> Packed:
        """The batch."""
        if self._compressor is None:
            return Packed(records=self.records, inline=True, payload=b"[" + b",".join(self._lines) + b"]")
        payload = b"".join((*self._compressed, self._compressor.flush()))
        return Packed(records=self.records, inline=False, payload=payload)


def _compact(value: dict[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"))
