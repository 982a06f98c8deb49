"""The order of rows in the lake: by account, then within a row group by resource and start.

Readers look for accounts, so accounts stand together in the whole file. Within a row group the order is the one that
compresses best. Orders are integers made of ranks in the sorted dictionaries: many times as fast as sorting strings.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from metering.intake.instants import SECOND_US
from metering.lake.parquet.hour_rows import HOUR_SCHEMA

# A record's start, as seconds from the booked hour, takes 24 bits: 97 days to both sides. What is farther is cut off.
_START_BITS = 24
_START_MIDDLE = 1 << (_START_BITS - 1)
# Dictionaries larger than this are cut down to the values that are used.
_SMALL_DICTIONARY = 4_096


def one_chunk(tables: list[pa.Table]) -> pa.Table:
    """The tables as one, with one chunk and one dictionary a column."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def by_account(table: pa.Table, hour_s: int) -> pa.Table:
    """Rows of a one-chunk table sorted by account and start: the order that sorted runs are merged in."""
    accounts, _ = _ranks(table, "account_id")
    key = pc.add(pc.shift_left(accounts, _START_BITS), start_offsets(table.column("start_time"), hour_s))
    return _in_order(table, key)


def by_resource(table: pa.Table, hour_s: int) -> pa.Table:
    """Rows of a one-chunk table sorted by account, resource and start: the order within a row group."""
    accounts, _ = _ranks(table, "account_id")
    resources, distinct = _ranks(table, "resource_id")
    place = pc.add(pc.multiply(accounts, distinct), resources)
    key = pc.add(pc.shift_left(place, _START_BITS), start_offsets(table.column("start_time"), hour_s))
    return _in_order(table, key)


def start_offsets(starts: pa.ChunkedArray | pa.Array, hour_s: int) -> pa.Array:
    """Seconds from the booked hour, moved and cut so that they are 0 to 2^24 - 1."""
    array = starts.combine_chunks() if isinstance(starts, pa.ChunkedArray) else starts
    seconds = pc.divide(array.cast(pa.int64()), SECOND_US)
    moved = pc.subtract(seconds, hour_s - _START_MIDDLE)
    return pc.min_element_wise(pc.max_element_wise(moved, 0), 2 * _START_MIDDLE - 1)


def _ranks(table: pa.Table, name: str) -> tuple[pa.Array, int]:
    """For each row the place of its value among the sorted values of its dictionary, and their number."""
    column = table.column(name).chunk(0)
    order = pc.sort_indices(column.dictionary)
    rank = pc.sort_indices(order).cast(pa.int64())
    return rank.take(column.indices), len(rank)


def _in_order(table: pa.Table, key: pa.Array) -> pa.Table:
    indices = pc.sort_indices(key)
    columns = [_used(table.column(name).chunk(0).take(indices)) for name in HOUR_SCHEMA.names]
    return pa.table(columns, schema=HOUR_SCHEMA)


def _used(column: pa.Array) -> pa.Array:
    """The column with a dictionary of only the values that it uses."""
    if not pa.types.is_dictionary(column.type) or len(column.dictionary) <= _SMALL_DICTIONARY:
        return column
    used = pc.unique(column.indices)
    if len(used) == len(column.dictionary):
        return column
    used = used.take(pc.sort_indices(used))
    indices = pc.index_in(column.indices, value_set=used)
    return pa.DictionaryArray.from_arrays(indices, column.dictionary.take(used))
