r"""Content identity: a versioned hash over all records of a batch, in order, as decoded values.

The hash covers decoded values only, so inline, NDJSON and Parquet forms of the same records have one hash. It does not
depend on clock, settings or rules, so a copy that comes weeks later has the same hash. Version 1, all integers
little-endian:

    hash    = SHA-256( "metering.content/1\n" . u64 number of records . SHA-256 of each stream below, in order )
    value   = u8 kind . u32 length . text     kind 0: none (missing or null, no text), 1: decoded (its UTF-8),
                                              2: undecodable (canonical JSON: ASCII, keys sorted, no white space,
                                              numbers by value)
    head    = value of account_id, service, direction, from, to, usage_type

    heads        each distinct head, in the order of first appearance
    head index   u32 for each record: the number of its head, from 0
    resource_id  u32 length for each record, in UTF-8 bytes
                 the UTF-8 of all of them together
    bytes        i64 for each record
    start        i64 for each record: microseconds since 1970, finer digits cut off
    end          the same
    exceptions   for each value that is not decoded, in record order, then in the order resource_id, bytes,
                 start, end: u32 position of the record . u8 column from 0 . value; its place in the streams above is 0
                 or empty. A record that is not a JSON object has no fields, and an entry with column 4 before those
                 of its fields: the canonical JSON, or the line's bytes if it is not JSON, as kind 2.

The streams are columns, because hashing them costs a tenth of hashing record by record.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from metering.intake.records import LONG_START_CHARS, MAX_HEAD_CHARS, LongText, Undecodable, is_short

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Sequence

    from metering.intake.records import Head, HeadText, Text

HASH_VERSION = 1
BODY_HASH_VERSION = 0
"""Version of a hash that is the SHA-256 of the message body, because the records could not be read."""

RESOURCE_ID, BYTES, START, END, RECORD = range(5)
"""Columns of `exceptions`."""

_MAGIC = b"metering.content/1\n"


class ContentHasher:
    """Hashes a batch piece by piece; the hash does not depend on how the batch is cut into pieces.

    A head whose texts are not kept in full is added by `add_written_head`, every other one by `add_heads`.
    """

    __slots__ = ("_records", "_streams")

    def __init__(self) -> None:
        self._records = 0
        self._streams = tuple(sha256() for _ in range(8))

    def add_heads(self, heads: Iterable[Head]) -> None:
        """Add heads that were not seen before, in order."""
        self._streams[0].update(b"".join(map(_head_bytes, heads)))

    def add_written_head(self, values: Iterable[bytes | memoryview]) -> None:
        """Add the next head that was not seen before, as the `value` of each of its fields."""
        for value in values:
            self._streams[0].update(value)

    def add_columns(
        self,
        head_index: bytes | memoryview,
        lengths: bytes | memoryview,
        resource_ids: bytes | memoryview,
        sizes: bytes | memoryview,
        starts: bytes | memoryview,
        ends: bytes | memoryview,
    ) -> None:
        """Add the columns of some records: u32, u32, UTF-8, i64, i64, i64, little-endian."""
        self._records += len(head_index) // 4
        columns = (head_index, lengths, resource_ids, sizes, starts, ends)
        for stream, column in zip(self._streams[1:], columns, strict=False):
            stream.update(column)

    def add_exception(self, position: int, column: int, value: Undecodable | bytes | None) -> None:
        """Add a value that is not decoded; in record order, then in the order of the columns (`RECORD` first)."""
        entry = _tagged(2, value) if isinstance(value, bytes) else value_bytes(value)
        self._streams[7].update(position.to_bytes(4, "little") + bytes([column]) + entry)

    def hexdigest(self) -> str:
        """Content hash of all records that were added."""
        whole = sha256(_MAGIC + self._records.to_bytes(8, "little"))
        for stream in self._streams:
            whole.update(stream.digest())
        return whole.hexdigest()


def value_bytes(value: Text) -> bytes:
    """The bytes of a `value` of the specification above."""
    if value is None:
        return b"\0\0\0\0\0"
    if isinstance(value, Undecodable):
        return _tagged(2, value.json.encode("ascii"))
    return _tagged(1, value.encode())


def value_start(kind: int, size_bytes: int) -> bytes:
    """The bytes of a `value` before its text."""
    return bytes([kind]) + size_bytes.to_bytes(4, "little")


def kept_head(head: Head) -> Head:
    """The head as it may be kept: a `LongText` replaces each text that is longer than any valid one."""
    if max([len(text) for text in head if text], default=0) <= MAX_HEAD_CHARS:
        return head
    account_id, service, direction, from_text, to_text, usage_type = map(_kept, head)
    return account_id, service, direction, from_text, to_text, usage_type


def _kept(text: HeadText) -> HeadText:
    if text is None or isinstance(text, LongText) or len(text) <= MAX_HEAD_CHARS:
        return text
    digest = sha256(value_bytes(text)).digest()
    if isinstance(text, Undecodable):
        return LongText(start=text.json[:LONG_START_CHARS], digest=digest, decoded=False)
    return LongText(start=text[:LONG_START_CHARS], digest=digest, decoded=True)


def written_head(head: Head) -> Sequence[bytes]:
    """The `value` of each field of a head that has all its texts."""
    return [value_bytes(text) for text in head if not isinstance(text, LongText)]


def _head_bytes(head: Head) -> bytes:
    return _cached_head_bytes(head) if is_short(head) else _encode_head(head)


def _encode_head(head: Head) -> bytes:
    return b"".join(written_head(head))


# The same size as the cache of verdicts in `record_rules`.
_cached_head_bytes = lru_cache(maxsize=16_384)(_encode_head)


def little_endian(column: array[int]) -> array[int]:
    """The column in the byte order of the hash."""
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column


def _tagged(kind: int, text: bytes) -> bytes:
    return value_start(kind, len(text)) + text


def body_hash(body: str) -> str:
    """SHA-256 of any message body (`BODY_HASH_VERSION`)."""
    return sha256(body.encode("utf-8", errors="surrogatepass")).hexdigest()
