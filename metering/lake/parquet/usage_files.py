"""Parquet files of usage: a row a usage key, sorted by account. Totals of lake files and closed months are kept so.

Engines read them as they are: plain strings and timestamps, exact decimals without a fraction, for any number of bytes.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metering.intake.instants import SECOND_US
from metering.lake.parquet.frozen_months.account_index import metadata_of_accounts
from metering.lake.parquet.row_groups import RowGroups
from metering.lake.parquet.schema import INSTANT
from metering.lake.usage_digest import SEPARATOR
from metering.usage.totals import Total, UsageKey

if TYPE_CHECKING:
    import io
    from collections.abc import Collection, Iterator, Sequence
    from hashlib import _Hash
    from pathlib import Path
    from typing import BinaryIO

_NAME = pa.dictionary(pa.int32(), pa.string())
NUMBER = pa.decimal128(38, 0)
NAMES = ("account_id", "usage_type", "service", "from_location", "to_location")
# Columns by which rows are sorted. A column without a value comes first.
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
# Rows that are Python's at a time.
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
    """Values of a dictionary column. Rows of one value share the text."""
    names: list[str] = column.dictionary.to_pylist()
    return [names[place] for place in column.indices.to_pylist()]


def seconds_of(column: pa.Array) -> list[int | None]:
    """Epoch seconds of a column of times."""
    seconds: list[int | None] = pc.divide(column.cast(pa.int64()), SECOND_US).to_pylist()
    return seconds


def integers_of(column: pa.Array) -> list[int]:
    """Values of a column of `NUMBER`: from its two's complement, many times as fast as over `decimal.Decimal`."""
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
    # Of 38 digits, so that no sum of lines of 2^63 bytes overflows.
    sums = [pc.sum(table.column(name)).as_py() for name in ("bytes", "records")]
    return Total(*(int(found or 0) for found in sums))


def add_to_digest(digest: _Hash, table: pa.Table) -> None:
    """Add the rows of a table to a digest, as `usage_digest` does row by row."""
    for batch in table.to_batches(max_chunksize=64 * 1024):
        parts = [_text_seconds(batch.column("hour"))]
        parts += [batch.column(name).cast(pa.string()) for name in NAMES]
        parts += [_text_seconds(batch.column("corrects")).fill_null("")]
        parts += [batch.column("bytes").cast(pa.string()), _with_line_end(batch.column("records").cast(pa.string()))]
        lines = pc.binary_join_element_wise(*parts, SEPARATOR)
        first, last = _bounds(lines)
        digest.update(memoryview(lines.buffers()[2])[first:last])


def usage_writer(sink: io.BytesIO | Path) -> pq.ParquetWriter:
    """Writer of a file: zstd, names and times as dictionaries, statistics that readers skip row groups by."""
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
    """Open a file so that its names stay dictionaries when they are read.

    Args:
        source: The open file, or its content.
        accounts: Only their rows are asked for, so of a file with an index by account other row groups are left out.
    """
    if accounts is None or isinstance(source, bytes):
        return RowGroups(source, NAMES)
    return RowGroups(source, NAMES, metadata=metadata_of_accounts(source, accounts))


def row_groups(file: RowGroups, accounts: Collection[str] | None) -> Iterator[int]:
    """Numbers of the row groups that can hold rows of some accounts; of all, if `accounts` is None."""
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
    """Rows of some accounts, a table a row group, in the file's order.

    Args:
        file: A file of `USAGE_SCHEMA`.
        accounts: None for all.
        columns: Read these columns alone, `account_id` among them; None for all.
    """
    schema = USAGE_SCHEMA if columns is None else pa.schema([USAGE_SCHEMA.field(name) for name in columns])
    wanted = None if accounts is None else pa.array(sorted(accounts), pa.string())
    for number in row_groups(file, accounts):
        table = file.read(number, schema.names).select(schema.names).cast(schema)
        if wanted is not None:
            table = table.filter(_is_any_of(table.column("account_id"), wanted))
        yield table


def _is_any_of(column: pa.ChunkedArray, names: pa.Array) -> pa.ChunkedArray:
    """Which rows of a dictionary column have one of some names. Each name is compared once, not in every row."""
    found = [pc.is_in(chunk.dictionary, value_set=names).take(chunk.indices) for chunk in column.chunks]
    return pa.chunked_array(found, pa.bool_())


def sorted_usage(table: pa.Table) -> pa.Table:
    """Sort a table as files and digests have it. Sort keys are ranks in sorted dictionaries, not strings."""
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


def _with_line_end(column: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise(column, "", "\n")


def _bounds(lines: pa.StringArray) -> tuple[int, int]:
    """First and last byte of the lines in their buffer."""
    offsets = memoryview(lines.buffers()[1]).cast("i")
    return offsets[lines.offset], offsets[lines.offset + len(lines)]
