"""`LakeReader` in production: exact totals of lake files and staging objects."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metering.intake.formats.exact_sums import halves, joined
from metering.intake.instants import HOUR_US
from metering.lake.parquet.hour_rows import TEXT_COLUMNS, decoding, row_groups_of, taken
from metering.lake.rows import OWN_HOUR
from metering.units import HOUR_S
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from metering.lake.rows import Group, RowQuery
    from metering.ledger.row_sources import RowSource
    from metering.stores.objects import ObjectStore

_NUMBERS = ("low", "high", "records")
# Rows of partial sums that are kept before they are summed again.
_PARTIAL_ROWS = 500_000


class ParquetLakeReader:
    """Reads totals. It fetches only the columns, row groups and byte ranges that a query needs.

    Args:
        objects: Store of the lake files and staging objects.
        readers: Threads that read sources in parallel.
    """

    def __init__(self, objects: ObjectStore, *, readers: int = 8) -> None:
        self._objects = objects
        self._readers = readers

    def totals(self, sources: Sequence[RowSource], query: RowQuery) -> dict[Group, Total]:
        sums = _Sums(query)
        for partial in self._partials(sources, query):
            sums.add(partial)
        return sums.totals()

    def _partials(self, sources: Sequence[RowSource], query: RowQuery) -> Iterator[pa.Table]:
        if len(sources) == 1:
            yield self._source(sources[0], query)
            return
        with ThreadPoolExecutor(self._readers) as pool:
            # The window bounds the results that wait in memory.
            window: deque[Future[pa.Table]] = deque()
            for source in sources:
                window.append(pool.submit(self._source, source, query))
                if len(window) > 2 * self._readers:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()

    def _source(self, source: RowSource, query: RowQuery) -> pa.Table:
        sums = _Sums(query)
        with decoding(source.key):
            for table in self._tables(source, query):
                sums.add(_halves(table, query))
        return sums.table()

    def _tables(self, source: RowSource, query: RowQuery) -> Iterator[pa.Table]:
        """Matching rows of a source, one table for each row group."""
        times = query.times if query.times is not None and query.times.parts(source.hour_s) else None
        cut = () if times is None else ("start_time",)
        columns = _physical({*query.columns, *(column for column, _ in query.where), *cut, "bytes"})
        encoded = [column for column in columns if column in TEXT_COLUMNS]
        # A staging object is small and read whole by one GET. Of a lake file, only the needed ranges are read.
        stream = BytesIO(self._objects.get(source.key)) if source.staged else self._objects.open(source.key)
        with stream:
            file = pq.ParquetFile(stream, read_dictionary=encoded, pre_buffer=True)
            groups = row_groups_of(file, source.hour_s) if source.staged else range(file.metadata.num_row_groups)
            for number in groups:
                if not source.staged and not _may_match(file.metadata.row_group(number), query):
                    continue
                table = file.read_row_group(number, columns=columns, use_threads=False)
                yield _matching(table if times is None else table.filter(taken(times, source.hour_s)), query)


def _physical(columns: Iterable[str]) -> list[str]:
    return sorted({"start_time" if column == OWN_HOUR else column for column in columns})


def _may_match(group: pq.RowGroupMetaData, query: RowQuery) -> bool:
    """Whether the statistics of a row group allow a matching row."""
    statistics = {group.column(i).path_in_schema: group.column(i).statistics for i in range(group.num_columns)}
    for column, allowed in query.where:
        known = statistics.get(column)
        if known is not None and known.has_min_max and not any(known.min <= value <= known.max for value in allowed):
            return False
    return True


def _matching(table: pa.Table, query: RowQuery) -> pa.Table:
    for column, allowed in query.where:
        values = table.column(column).cast(pa.string())
        table = table.filter(pc.is_in(values, value_set=pa.array(sorted(allowed), pa.string())))
    return table


class _Sums:
    """Partial sums by group, of the two halves of each number (`exact_sums`)."""

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
        parts = [part for part in self._parts if part.num_rows]
        if not parts:
            return {}
        self._parts = parts
        columns = self.table().to_pydict()
        keys = [columns[key] for key in self._keys]
        groups = zip(*keys, strict=True) if keys else iter([()])
        numbers = zip(*(columns[name] for name in _NUMBERS), strict=True)
        return {
            group: Total(joined(low, high), records)
            for group, (low, high, records) in zip(groups, numbers, strict=True)
            if records
        }


def _key_names(query: RowQuery) -> list[str]:
    return [f"c{place}" for place in range(len(query.columns))]


def _halves(table: pa.Table, query: RowQuery) -> pa.Table:
    arrays = {name: _column(table, column) for name, column in zip(_key_names(query), query.columns, strict=True)}
    arrays["low"], arrays["high"] = halves(table.column("bytes"))
    arrays["records"] = pa.repeat(pa.scalar(1, pa.int64()), table.num_rows)
    return pa.table(arrays)


def _column(table: pa.Table, column: str) -> pa.ChunkedArray:
    if column == OWN_HOUR:
        hours = pc.divide(table.column("start_time").cast(pa.int64()), HOUR_US)
        return pc.multiply(hours, HOUR_S)
    return table.column(column)
