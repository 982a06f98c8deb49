"""Exact sums of rows by the columns of a query, while they are read or written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.intake.formats.exact_sums import halves, joined
from metering.intake.instants import HOUR_US
from metering.lake.rows import OWN_HOUR
from metering.units import HOUR_S
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.lake.rows import Group, RowQuery

_NUMBERS = ("low", "high", "records")
# Rows of partial sums that are kept before they are summed again; with many groups, half as many again as there are
# groups: else each part would cost as much as all groups together.
_PARTIAL_ROWS = 500_000
_GROWTH = 1.5
# Rows that are Python's at a time.
_SLICE_ROWS = 16 * 1024


class Sums:
    """Partial sums by group, of the two halves of each number (`exact_sums`). Mutable."""

    def __init__(self, query: RowQuery) -> None:
        self._keys = _key_names(query)
        self._parts: list[pa.Table] = []
        self._rows = 0
        self._most_rows = _PARTIAL_ROWS

    def add(self, part: pa.Table) -> None:
        """Add a table of the group columns, `low`, `high` and `records`."""
        if not part.num_rows:
            return
        self._parts.append(part)
        self._rows += part.num_rows
        if self._rows > self._most_rows and len(self._parts) > 1:
            self._parts = [self.table()]
            self._rows = self._parts[0].num_rows
            self._most_rows = max(_PARTIAL_ROWS, int(self._rows * _GROWTH))

    def table(self) -> pa.Table:
        """The sums so far, one row for each group."""
        if not self._parts:
            return pa.table({name: pa.array([], pa.int64()) for name in _NUMBERS})
        table = pa.concat_tables(self._parts).unify_dictionaries().combine_chunks()
        dictionaries: dict[str, pa.Array] = {}
        for place, key in enumerate(self._keys):
            column = table.column(key).chunk(0) if table.num_rows else None
            if column is not None and pa.types.is_dictionary(column.type):
                # Grouping by numbers is several times as fast as by strings.
                dictionaries[key] = column.dictionary
                table = table.set_column(place, key, column.indices)
        summed = table.group_by(self._keys, use_threads=False).aggregate([(name, "sum") for name in _NUMBERS])
        columns = {name.removesuffix("_sum"): summed.column(name) for name in summed.column_names}
        for key, dictionary in dictionaries.items():
            indices = columns[key].combine_chunks()
            columns[key] = pa.chunked_array([pa.DictionaryArray.from_arrays(indices, dictionary)])
        return pa.table(columns)

    def totals(self) -> dict[Group, Total]:
        """Exact totals by group."""
        return dict(self.groups())

    def groups(self) -> Iterator[tuple[Group, Total]]:
        """The same, each group once, of which few are Python's at a time."""
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
