"""Order of rows in the lake: by account, then within a row group by resource and start.

Readers look for accounts, so the rows of an account are adjacent in the whole file. Within a row group the order is the
one that compresses best. Sort keys are integers made of ranks in sorted dictionaries: many times as fast as strings.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from metering.intake.instants import SECOND_US
from metering.lake.parquet.hour_rows import HOUR_SCHEMA

# A record's start takes 24 bits, as seconds from the booked hour: 97 days to both sides. Farther starts are clamped.
_START_BITS = 24
_START_MIDDLE = 1 << (_START_BITS - 1)
# Larger dictionaries are reduced to the values that are used.
_SMALL_DICTIONARY = 4_096


def one_chunk(tables: list[pa.Table]) -> pa.Table:
    """Concatenate tables; the result has one chunk and one dictionary for each column."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def by_account(table: pa.Table, hour_s: int) -> pa.Table:
    """Sort a one-chunk table by account and start: the order in which sorted runs are merged."""
    accounts, _ = _ranks(table, "account_id")
    key = pc.add(pc.shift_left(accounts, _START_BITS), start_offsets(table.column("start_time"), hour_s))
    return _in_order(table, key)


def by_resource(table: pa.Table, hour_s: int) -> pa.Table:
    """Sort a one-chunk table by account, resource and start: the order within a row group."""
    accounts, _ = _ranks(table, "account_id")
    resources, distinct = _ranks(table, "resource_id")
    place = pc.add(pc.multiply(accounts, distinct), resources)
    key = pc.add(pc.shift_left(place, _START_BITS), start_offsets(table.column("start_time"), hour_s))
    return _in_order(table, key)


def start_offsets(starts: pa.ChunkedArray | pa.Array, hour_s: int) -> pa.Array:
    """Seconds from the booked hour, shifted and clamped to 0 to 2^24 - 1."""
    array = starts.combine_chunks() if isinstance(starts, pa.ChunkedArray) else starts
    seconds = pc.divide(array.cast(pa.int64()), SECOND_US)
    moved = pc.subtract(seconds, hour_s - _START_MIDDLE)
    return pc.min_element_wise(pc.max_element_wise(moved, 0), 2 * _START_MIDDLE - 1)


def _ranks(table: pa.Table, name: str) -> tuple[pa.Array, int]:
    """Rank of each row's value among the sorted values of its dictionary, and the number of values."""
    column = table.column(name).chunk(0)
    order = pc.sort_indices(column.dictionary)
    rank = pc.sort_indices(order).cast(pa.int64())
    return rank.take(column.indices), len(rank)


def _in_order(table: pa.Table, key: pa.Array) -> pa.Table:
    indices = pc.sort_indices(key)
    columns = [_used(table.column(name).chunk(0).take(indices)) for name in HOUR_SCHEMA.names]
    return pa.table(columns, schema=HOUR_SCHEMA)


def _used(column: pa.Array) -> pa.Array:
    """The same column; a large dictionary keeps only the values that rows use."""
    if not pa.types.is_dictionary(column.type) or len(column.dictionary) <= _SMALL_DICTIONARY:
        return column
    used = pc.unique(column.indices)
    if len(used) == len(column.dictionary):
        return column
    used = used.take(pc.sort_indices(used))
    indices = pc.index_in(column.indices, value_set=used)
    return pa.DictionaryArray.from_arrays(indices, column.dictionary.take(used))
