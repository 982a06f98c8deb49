"""Index of a usage file by account: a reader learns of the row groups with its accounts' rows, and of no others.

The footer of a month of 10,000 accounts has megabytes on thousands of row groups, of which a report needs one or two.
The index has what the footer says of each row group, compressed, with its range of accounts, and is the very end.
From it follows a footer of the wanted row groups alone.

It is an extension as Parquet's format has them (apache/parquet-format, BinaryProtocolExtensions.md): a field at the end
of the footer that other readers skip. Files without one are read by their footer.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_left
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

_MAGIC = b"PAR1"
# Header of the field of an extension, as the format has it, and the end of the struct around it.
_FIELD = b"\x08\xff\xff\x01"
_STOP = b"\x00"
# Names this extension, at its end: readers find it from the end of the file on.
_MARK = bytes.fromhex("6d65746572696e67a1dc0a7b3b4e4d2f")
_LENGTH = struct.Struct("<I")
# Of a file with an index: length of the index, mark, end of the footer, length of the footer, magic.
_TAIL_BYTES = _LENGTH.size + len(_MARK) + len(_STOP) + _LENGTH.size + len(_MAGIC)
_SCHEMA = pa.schema([("first", pa.string()), ("last", pa.string()), ("group", pa.binary())])
_LEVEL = 9

# Field of `FileMetaData` with the row groups.
_ROW_GROUPS = 4
# Types of Thrift's compact protocol.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_LONG_LIST = 15


def add_account_index(path: Path) -> None:
    """Add an index to a file that is sorted by its first column, accounts, and has statistics of it.

    Raises:
        ValueError: A row group has no range of accounts, or the footer is none.
    """
    with path.open("r+b") as file:
        file.seek(-_LENGTH.size - len(_MAGIC), os.SEEK_END)
        after = file.tell()
        (size,) = _LENGTH.unpack(file.read(_LENGTH.size))
        file.seek(after - size)
        footer = file.read(size)
        index = _index(footer, _ranges(_parsed(footer)))
        whole = footer[: -len(_STOP)] + _FIELD + _varint_of(len(index)) + index + _STOP
        file.seek(after - size)
        file.write(whole + _LENGTH.pack(len(whole)) + _MAGIC)


def metadata_of_accounts(stream: BinaryIO, accounts: Collection[str]) -> pq.FileMetaData | None:
    """A footer of the row groups that can hold rows of some accounts, by the file's index; None if it has none.

    The number of rows in it is that of the whole file.

    Raises:
        ArrowInvalid: The index is damaged.
    """
    size = stream.seek(0, os.SEEK_END)
    if size < _TAIL_BYTES:
        return None
    stream.seek(size - _TAIL_BYTES)
    tail = stream.read(_TAIL_BYTES)
    if not tail.startswith(_MARK, _LENGTH.size) or not tail.endswith(_MAGIC):
        return None
    (length,) = _LENGTH.unpack_from(tail)
    stream.seek(max(0, size - _TAIL_BYTES - length))
    try:
        return _parsed(_footer_of(stream.read(length), accounts))
    except struct.error as error:
        raise pa.ArrowInvalid(f"an index by account is damaged: {error}") from error


def _index(footer: bytes, ranges: Sequence[tuple[str, str]]) -> bytes:
    """The extension: what stands before and after the row groups, the row groups, and how to find it all."""
    at = _list_at(footer)
    before = footer[:at]
    count, _, at = _list_of(footer, at)
    groups: list[bytes] = []
    for _ in range(count):
        end = _after(footer, at, _STRUCT)
        groups.append(footer[at:end])
        at = end
    after = footer[at:]
    firsts, lasts = ([each[side] for each in ranges] for side in (0, 1))
    table = pa.table([firsts, lasts, groups], schema=_SCHEMA)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", _LEVEL))
    with pa.ipc.new_stream(sink, _SCHEMA, options=options) as writer:
        writer.write_table(table)
    content = b"".join((_LENGTH.pack(len(before)), before, _LENGTH.pack(len(after)), after, sink.getvalue()))
    return content + _LENGTH.pack(len(content)) + _MARK


def _footer_of(content: bytes, accounts: Collection[str]) -> bytes:
    (length,) = _LENGTH.unpack_from(content)
    at = _LENGTH.size + length
    before = content[_LENGTH.size : at]
    (length,) = _LENGTH.unpack_from(content, at)
    at += _LENGTH.size
    after = content[at : at + length]
    table = _table(pa.py_buffer(content)[at + length :])
    wanted = _holding(table.column("first").to_pylist(), table.column("last").to_pylist(), accounts)
    groups = table.column("group").take(pa.array(wanted, pa.int64())).to_pylist()
    return b"".join((before, _list_header(len(groups)), *groups, after))


def _table(content: pa.Buffer) -> pa.Table:
    # Threads would cost more than they decompress.
    return pa.ipc.open_stream(content, options=pa.ipc.IpcReadOptions(use_threads=False)).read_all().combine_chunks()


def _holding(firsts: Sequence[str], lasts: Sequence[str], accounts: Collection[str]) -> list[int]:
    """Numbers of the row groups that can hold some accounts. Both ends of the ranges never go down."""
    found: set[int] = set()
    for account_id in accounts:
        number = bisect_left(lasts, account_id)
        while number < len(firsts) and firsts[number] <= account_id:
            found.add(number)
            number += 1
    return sorted(found)


def _ranges(metadata: pq.FileMetaData) -> list[tuple[str, str]]:
    known = [metadata.row_group(number).column(0).statistics for number in range(metadata.num_row_groups)]
    if not all(each is not None and each.has_min_max for each in known):
        raise ValueError("a row group has no range of accounts")
    return [(each.min, each.max) for each in known]


def _parsed(footer: bytes) -> pq.FileMetaData:
    return pq.read_metadata(pa.BufferReader(_MAGIC + footer + _LENGTH.pack(len(footer)) + _MAGIC))


def _list_at(footer: bytes) -> int:
    """Where the list of row groups begins."""
    at = field = 0
    while header := footer[at]:
        if header < 1 << 4:
            raise ValueError("a footer has a field out of order")
        field += header >> 4
        at += 1
        if field == _ROW_GROUPS:
            return at
        at = _after(footer, at, header & 15)
    raise ValueError("a footer has no row groups")


def _after(data: bytes, at: int, kind: int) -> int:
    """Where a value that begins at `at` ends."""
    if kind in {_TRUE, _FALSE}:
        return at
    if kind == _STRUCT:
        while header := data[at]:
            # A field without a step from the one before it has its number in full.
            at = _after(data, at + 1 if header >> 4 else _after_varint(data, at + 1), header & 15)
        return at + 1
    if kind == _BINARY:
        size, at = _varint(data, at)
        return at + size
    if kind in {_LIST, _SET}:
        count, element, at = _list_of(data, at)
        return _after_all(data, at, [_BYTE if element in {_TRUE, _FALSE} else element] * count)
    if kind == _MAP:
        raise ValueError("a footer has a map")
    if kind in {_BYTE, _DOUBLE}:
        return at + (1 if kind == _BYTE else 8)
    return _after_varint(data, at)


def _after_all(data: bytes, at: int, kinds: Iterable[int]) -> int:
    for kind in kinds:
        at = _after(data, at, kind)
    return at


def _list_of(data: bytes, at: int) -> tuple[int, int, int]:
    """Length of a list, type of its elements, and where the first one begins."""
    header = data[at]
    count, at = (header >> 4, at + 1) if header >> 4 < _LONG_LIST else _varint(data, at + 1)
    return count, header & 15, at


def _list_header(count: int) -> bytes:
    if count < _LONG_LIST:
        return bytes([count << 4 | _STRUCT])
    return bytes([_LONG_LIST << 4 | _STRUCT]) + _varint_of(count)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    end = _after_varint(data, at)
    value = 0
    for byte in reversed(data[at:end]):
        value = value << 7 | byte & 127
    return value, end


def _after_varint(data: bytes, at: int) -> int:
    while data[at] & 128:
        at += 1
    return at + 1


def _varint_of(value: int) -> bytes:
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
