"""Cuts rows that are sorted by account into row groups, so that an account's rows are in as few as possible."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.lake.parquet.usage_files import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def account_groups(pieces: Iterable[pa.Table], group_rows: int) -> Iterator[pa.Table]:
    """The same rows in tables that are to be one row group each, with the names that they use and no others.

    A group ends where an account ends, unless one account has more rows than a group.

    Args:
        pieces: Tables of `USAGE_SCHEMA`, sorted by account.
        group_rows: Most rows of a group. Any two groups side by side have more.
    """
    held: list[pa.Table] = []
    rows = 0
    for piece in pieces:
        held.append(piece)
        rows += piece.num_rows
        if rows > group_rows:
            table = pa.concat_tables(held).unify_dictionaries().combine_chunks()
            start = 0
            for end in _ends(table, group_rows):
                yield _small(table.slice(start, end - start))
                start = end
            held, rows = [table.slice(start)], rows - start
    if rows:
        yield _small(pa.concat_tables(held).unify_dictionaries().combine_chunks())


def _ends(table: pa.Table, group_rows: int) -> Iterator[int]:
    """Ends of groups, as long as more rows than a group are left: an account's last row is known only then."""
    accounts = table.column("account_id").chunk(0).indices
    borders = pc.run_end_encode(accounts).run_ends.to_pylist()
    start = 0
    while table.num_rows - start > group_rows:
        border = bisect_right(borders, start + group_rows) - 1
        start = borders[border] if border >= 0 and borders[border] > start else start + group_rows
        yield start


def _small(table: pa.Table) -> pa.Table:
    """The same rows. Names that no row has would be written into every row group's dictionary."""
    for place, name in enumerate(table.column_names):
        if name in NAMES:
            column = table.column(place).combine_chunks()
            used = pc.unique(column.indices)
            if len(used) < len(column.dictionary):
                indices = pc.index_in(column.indices, value_set=used)
                column = pa.DictionaryArray.from_arrays(indices, column.dictionary.take(used))
                table = table.set_column(place, table.schema.field(place), column)
    return table
