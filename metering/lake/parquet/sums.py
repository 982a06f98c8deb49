"""Exact sums of rows by the columns of a query, while they are read or written."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.intake.formats.exact_sums import halves, joined
from metering.intake.instants import HOUR_US
from metering.lake.rows import OWN_HOUR
from metering.units import HOUR_S
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.lake.rows import Group, RowQuery

_NUMBERS = ("low", "high", "records")
# Column of a number that stands for the values of all key columns: grouping by it is several times as fast.
_CODE = "code"
_MOST_CODES = 2**62
# Rows of partial sums that are kept before they are summed again.
_PARTIAL_ROWS = 500_000
# Rows that are Python's at a time.
_SLICE_ROWS = 16 * 1024


class Sums:
    """Partial sums by group, of the two halves of each number (`exact_sums`). Mutable."""

    def __init__(self, query: RowQuery) -> None:
        self._keys = _key_names(query)
        self._parts: list[pa.Table] = []
        self._rows = 0

    def add(self, part: pa.Table) -> None:
        """Add a table of the group columns, `low`, `high` and `records`."""
        self._parts.append(part)
        self._rows += part.num_rows
        if self._rows > _PARTIAL_ROWS and len(self._parts) > 1:
            self._parts = [self.table()]
            self._rows = self._parts[0].num_rows

    def table(self) -> pa.Table:
        """The sums so far, one row for each group."""
        if not self._parts:
            return pa.table({name: pa.array([], pa.int64()) for name in _NUMBERS})
        table = pa.concat_tables(self._parts).unify_dictionaries().combine_chunks()
        if not table.num_rows:
            return table
        keys = [_encoded(table.column(key).chunk(0)) for key in self._keys]
        code = _code(keys)
        if code is None:
            summed = _grouped(table, self._keys)
            return summed.select([*self._keys, *_NUMBERS])
        summed = _grouped(table.select(_NUMBERS).append_column(_CODE, code), [_CODE])
        columns = dict(zip(self._keys, _decoded(summed.column(_CODE).combine_chunks(), keys), strict=True))
        return pa.table({**columns, **{name: summed.column(name) for name in _NUMBERS}})

    def totals(self) -> dict[Group, Total]:
        """Exact totals by group."""
        return dict(self.groups())

    def groups(self) -> Iterator[tuple[Group, Total]]:
        """The same, each group once, of which few are Python's at a time."""
        self._parts = [part for part in self._parts if part.num_rows]
        if not self._parts:
            return
        table = self.table()
        self._parts = [table]
        for first in range(0, table.num_rows, _SLICE_ROWS):
            columns = table.slice(first, _SLICE_ROWS).to_pydict()
            keys = [columns[key] for key in self._keys]
            groups = zip(*keys, strict=True) if keys else iter([()])
            numbers = zip(*(columns[name] for name in _NUMBERS), strict=True)
            for group, (low, high, records) in zip(groups, numbers, strict=True):
                if records:
                    yield group, Total(joined(low, high), records)


def _grouped(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    summed = table.group_by(list(keys), use_threads=False).aggregate([(name, "sum") for name in _NUMBERS])
    return summed.rename_columns([name.removesuffix("_sum") for name in summed.column_names])


def _encoded(column: pa.Array) -> pa.DictionaryArray | None:
    """A key column by numbers; None for one of very many values, which would be no smaller."""
    if pa.types.is_dictionary(column.type):
        return column
    return column.dictionary_encode() if pa.types.is_integer(column.type) else None


def _code(keys: Sequence[pa.DictionaryArray | None]) -> pa.Array | None:
    """One number a row for all of its keys; None if there is none that holds them."""
    if len(keys) < 2 or any(key is None or key.null_count for key in keys):
        return None
    known = [key for key in keys if key is not None]
    if prod(len(key.dictionary) for key in known) >= _MOST_CODES:
        return None
    code = known[0].indices.cast(pa.int64())
    for key in known[1:]:
        if len(key.dictionary) > 1:
            code = pc.add(pc.multiply(code, len(key.dictionary)), key.indices.cast(pa.int64()))
    return code


def _decoded(code: pa.Array, keys: Sequence[pa.DictionaryArray | None]) -> list[pa.Array]:
    """The key columns that a code stands for: the inverse of `_code`."""
    columns: list[pa.Array] = []
    for key in reversed([key for key in keys if key is not None]):
        size = len(key.dictionary)
        rest = pc.divide(code, size)
        indices = pc.subtract(code, pc.multiply(rest, size)).cast(pa.int32())
        columns.append(pa.DictionaryArray.from_arrays(indices, key.dictionary))
        code = rest
    # A number that was encoded here is one again.
    return [
        column if pa.types.is_string(column.type.value_type) else column.cast(column.type.value_type)
        for column in reversed(columns)
    ]


def _key_names(query: RowQuery) -> list[str]:
    return [f"c{place}" for place in range(len(query.columns))]


def halves_of(table: pa.Table, query: RowQuery, low_high: tuple[pa.Array, pa.Array] | None = None) -> pa.Table:
    """The columns of a query, and the two halves of the bytes of each row, as `Sums.add` takes them.

    Args:
        table: The rows.
        query: Its columns are taken.
        low_high: The halves, where they are known.
    """
    arrays = {name: _column(table, column) for name, column in zip(_key_names(query), query.columns, strict=True)}
    arrays["low"], arrays["high"] = halves(table.column("bytes")) if low_high is None else low_high
    arrays["records"] = pa.repeat(pa.scalar(1, pa.int64()), table.num_rows)
    return pa.table(arrays)


def _column(table: pa.Table, column: str) -> pa.ChunkedArray:
    if column == OWN_HOUR:
        hours = pc.divide(table.column("start_time").cast(pa.int64()), HOUR_US)
        return pc.multiply(hours, HOUR_S)
    return table.column(column)
