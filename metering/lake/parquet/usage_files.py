"""Parquet files of usage: one row per usage key, sorted by account. Lake totals and closed months use this form.

Query engines can read them: plain strings and timestamps, and whole decimals that are exact for any number of bytes.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metering.intake.admission import SECOND_US
from metering.lake.parquet.hour_rows import INSTANT, RowGroups
from metering.lake.ports import SEPARATOR
from metering.usage.totals import Total, UsageKey

if TYPE_CHECKING:
    import io
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from hashlib import _Hash
    from pathlib import Path


# Index of a usage file by account: a reader needs to learn only of the row groups with its accounts' rows.
#
# For a month of 10,000 accounts, the footer has megabytes about thousands of row groups, and a report needs one or two
# of them. The index has the footer's entry for each row group, compressed, with its range of accounts. The index is at
# the very end of the file. From the index, a reader makes a footer with only the wanted row groups.
#
# The index is a Parquet extension (apache/parquet-format, BinaryProtocolExtensions.md): a field at the end of the
# footer that other readers skip. If a file has no index, its footer is read.


_MAGIC = b"PAR1"
# Header of an extension field, as the format defines it, and the end of the enclosing struct.
_FIELD = b"\x08\xff\xff\x01"
_STOP = b"\x00"
# UUID of this extension, at the end of its field, because readers search from the end of the file.
_MARK = bytes.fromhex("6d65746572696e67a1dc0a7b3b4e4d2f")
_LENGTH = struct.Struct("<I")
# Tail of a file with an index: length of the index, mark, end of the footer, length of the footer, magic number.
_TAIL_BYTES = _LENGTH.size + len(_MARK) + len(_STOP) + _LENGTH.size + len(_MAGIC)
_SCHEMA = pa.schema([("first", pa.string()), ("last", pa.string()), ("group", pa.binary())])
_LEVEL = 9

# Field of `FileMetaData` that holds the row groups.
_ROW_GROUPS = 4
# Types of Thrift's compact protocol.
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_LONG_LIST = 15


def add_account_index(path: Path) -> None:
    """Add an index to a file that is sorted by its first column, the account, and has that column's statistics.

    Raises:
        ValueError: A row group has no range of accounts, or the footer is invalid.
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
    """A footer with only the row groups that may have rows of some accounts; None if the file has no index.

    The number of rows in the footer is that of the whole file.

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
    """The footer's extension: bytes before and after the list of row groups, row groups by account, length and mark."""
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
    # Threads would cost more than the decompression itself.
    return pa.ipc.open_stream(content, options=pa.ipc.IpcReadOptions(use_threads=False)).read_all().combine_chunks()


def _holding(firsts: Sequence[str], lasts: Sequence[str], accounts: Collection[str]) -> list[int]:
    """Numbers of the row groups that may have rows of some accounts. First and last accounts never decrease."""
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
    """Position where the list of row groups begins."""
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
    """End position of the value that begins at `at`."""
    if kind in {_TRUE, _FALSE}:
        return at
    if kind == _STRUCT:
        while header := data[at]:
            # If a field's id is not given as a delta, the full id follows.
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
    """Length of a list, type of its elements, and position of the first element."""
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


_NAME = pa.dictionary(pa.int32(), pa.string())
NUMBER = pa.decimal128(38, 0)
NAMES = ("account_id", "usage_type", "service", "from_location", "to_location")
# Rows are sorted by these columns. In a column, null sorts first.
ORDER = (*NAMES, "corrects", "hour")
USAGE_SCHEMA = pa.schema(
    [
        *(pa.field(name, _NAME, nullable=False) for name in NAMES),
        pa.field("hour", INSTANT, nullable=False),
        pa.field("corrects", INSTANT),
        pa.field("bytes", NUMBER, nullable=False),
        pa.field("records", NUMBER, nullable=False),
    ]
)
_NUMBER_BYTES = 16
# Rows are converted to Python objects in slices of this size.
_SLICE_ROWS = 16 * 1024


def usage_table(rows: Sequence[tuple[UsageKey, Total]]) -> pa.Table:
    """Rows as a table of `USAGE_SCHEMA`, in the given order."""
    keys = [key for key, _ in rows]
    columns = [pa.array([key[place] for key in keys], pa.string()).dictionary_encode() for place in range(1, 6)]
    columns += [_instants([key.hour_s for key in keys]), _instants([key.corrects_s for key in keys])]
    columns += [_numbers([total.bytes for _, total in rows]), _numbers([total.records for _, total in rows])]
    return pa.table(columns, schema=USAGE_SCHEMA)


def rows_of(table: pa.Table) -> Iterator[tuple[UsageKey, Total]]:
    """The rows of a table of `USAGE_SCHEMA`."""
    for batch in table.to_batches():
        names = [texts_of(batch.column(name)) for name in NAMES]
        keys = map(UsageKey, seconds_of(batch.column("hour")), *names, seconds_of(batch.column("corrects")))
        totals = map(Total, integers_of(batch.column("bytes")), integers_of(batch.column("records")))
        yield from zip(keys, totals, strict=True)


class TableRows:
    """`UsageRows` of a table of `USAGE_SCHEMA`, in its order."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        rows: int = self._table.num_rows
        return rows

    def __iter__(self) -> Iterator[tuple[UsageKey, Total]]:
        for first in range(0, len(self), _SLICE_ROWS):
            yield from rows_of(self._table.slice(first, _SLICE_ROWS))


def texts_of(column: pa.DictionaryArray) -> list[str]:
    """Values of a dictionary column. Rows with the same value share one string object."""
    names: list[str] = column.dictionary.to_pylist()
    return [names[place] for place in column.indices.to_pylist()]


def seconds_of(column: pa.Array) -> list[int | None]:
    """Epoch seconds of a column of times."""
    seconds: list[int | None] = pc.divide(column.cast(pa.int64()), SECOND_US).to_pylist()
    return seconds


def integers_of(column: pa.Array) -> list[int]:
    """Values of a `NUMBER` column, decoded from two's complement, which is many times as fast as `decimal.Decimal`."""
    if not len(column):
        return []
    first = column.offset * _NUMBER_BYTES
    halves = array("Q", memoryview(column.buffers()[1])[first : first + len(column) * _NUMBER_BYTES].tobytes())
    low, high = halves[0::2], halves[1::2]
    if not any(high):
        return low.tolist()
    return [
        below | (above << 64) if above < 1 << 63 else (below | (above << 64)) - (1 << 128)
        for below, above in zip(low, high, strict=True)
    ]


def total_of(table: pa.Table) -> Total:
    """Exact sum of the rows of a table."""
    # The sums have 38 digits, so that adding lines of 2^63 bytes cannot overflow.
    sums = [pc.sum(table.column(name)).as_py() for name in ("bytes", "records")]
    return Total(*(int(found or 0) for found in sums))


def add_to_digest(digest: _Hash, table: pa.Table) -> None:
    """Add the rows of a table to a digest, with the same result as `usage_digest` row by row."""
    for batch in table.to_batches(max_chunksize=64 * 1024):
        parts = [_text_seconds(batch.column("hour"))]
        parts += [batch.column(name).cast(pa.string()) for name in NAMES]
        parts += [_text_seconds(batch.column("corrects")).fill_null("")]
        parts += [
            batch.column("bytes").cast(pa.string()),
            pc.binary_join_element_wise(batch.column("records").cast(pa.string()), "", "\n"),
        ]
        lines = pc.binary_join_element_wise(*parts, SEPARATOR)
        first, last = _bounds(lines)
        digest.update(memoryview(lines.buffers()[2])[first:last])


def usage_writer(sink: io.BytesIO | Path) -> pq.ParquetWriter:
    """Writer of a file: zstd, names and times as dictionaries, statistics by which readers skip row groups."""
    return pq.ParquetWriter(
        sink,
        USAGE_SCHEMA,
        compression="zstd",
        use_dictionary=[*NAMES, "hour", "corrects"],
        write_statistics=["account_id", "usage_type", "hour"],
        sorting_columns=[pq.SortingColumn(USAGE_SCHEMA.get_field_index(name), nulls_first=True) for name in ORDER],
        # Every reader sees plain strings, not Arrow's dictionaries.
        store_schema=False,
    )


def usage_parquet(source: BinaryIO | bytes, accounts: Collection[str] | None = None) -> RowGroups:
    """Open a file so that its name columns stay dictionary-encoded when they are read.

    Args:
        source: The open file, or its content.
        accounts: Accounts to read; if the file has an index by account, row groups of other accounts are skipped.
    """
    if accounts is None or isinstance(source, bytes):
        return RowGroups(source, NAMES)
    return RowGroups(source, NAMES, metadata=metadata_of_accounts(source, accounts))


def row_groups(file: RowGroups, accounts: Collection[str] | None) -> Iterator[int]:
    """Numbers of the row groups that may have rows of some accounts; all numbers if `accounts` is None."""
    metadata = file.metadata
    for number in range(metadata.num_row_groups):
        known = None if accounts is None else metadata.row_group(number).column(0).statistics
        if accounts is None or known is None or _may_hold(known, accounts):
            yield number


def _may_hold(known: pq.Statistics, accounts: Collection[str]) -> bool:
    return not known.has_min_max or any(known.min <= account_id <= known.max for account_id in accounts)


def tables_of(
    file: RowGroups, accounts: Collection[str] | None, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Yield the rows of some accounts, one table per row group, in the file's order.

    Args:
        file: A file of `USAGE_SCHEMA`.
        accounts: None for all.
        columns: Read only these columns, including `account_id`; None for all.
    """
    schema = USAGE_SCHEMA if columns is None else pa.schema([USAGE_SCHEMA.field(name) for name in columns])
    wanted = None if accounts is None else pa.array(sorted(accounts), pa.string())
    for number in row_groups(file, accounts):
        table = file.read(number, schema.names).select(schema.names).cast(schema)
        if wanted is not None:
            table = table.filter(_is_any_of(table.column("account_id"), wanted))
        yield table


def _is_any_of(column: pa.ChunkedArray, names: pa.Array) -> pa.ChunkedArray:
    """Mask of the rows whose value in a dictionary column is in `names`. Each distinct name is compared only once."""
    found = [pc.is_in(chunk.dictionary, value_set=names).take(chunk.indices) for chunk in column.chunks]
    return pa.chunked_array(found, pa.bool_())


def sorted_usage(table: pa.Table) -> pa.Table:
    """Sort a table in the order of files and digests. Sort keys are ranks in sorted dictionaries, not strings."""
    one = table.unify_dictionaries().combine_chunks()
    if not one.num_rows:
        return one
    keys = {name: _ranks(one.column(name).chunk(0)) for name in NAMES}
    keys["corrects"] = one.column("corrects").cast(pa.int64()).fill_null(-1)
    keys["hour"] = one.column("hour").cast(pa.int64())
    order = pc.sort_indices(pa.table(keys), sort_keys=[(name, "ascending") for name in ORDER])
    return one.take(order)


def _ranks(column: pa.DictionaryArray) -> pa.Array:
    order = pc.sort_indices(column.dictionary)
    return pc.sort_indices(order).cast(pa.int32()).take(column.indices)


def _instants(times_s: Sequence[int | None]) -> pa.Array:
    return pa.array([None if time_s is None else time_s * SECOND_US for time_s in times_s], pa.int64()).cast(INSTANT)


def _numbers(values: Sequence[int]) -> pa.Array:
    body = b"".join([value.to_bytes(_NUMBER_BYTES, "little", signed=True) for value in values])
    return pa.Array.from_buffers(NUMBER, len(values), [None, pa.py_buffer(body)])


def _text_seconds(column: pa.Array) -> pa.Array:
    return pc.divide(column.cast(pa.int64()), SECOND_US).cast(pa.string())


def _bounds(lines: pa.StringArray) -> tuple[int, int]:
    """First and last byte of an Arrow array of lines in its buffer."""
    offsets = memoryview(lines.buffers()[1]).cast("i")
    return offsets[lines.offset], offsets[lines.offset + len(lines)]
