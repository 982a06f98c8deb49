"""`LakeReader` and `StagedUsage` in production: exact totals of lake files and staging objects."""

from __future__ import annotations

from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.intake.formats.exact_sums import halves
from metering.lake.parquet.hour_rows import STAGED_END_BYTES, TEXT_COLUMNS, decoding, row_groups_of, taken
from metering.lake.parquet.reading_order import large_and_small, read_each
from metering.lake.parquet.row_groups import RowGroups
from metering.lake.parquet.schema import BOOKED_HOUR
from metering.lake.parquet.summaries import usage_of_sums
from metering.lake.parquet.sums import Sums, halves_of
from metering.lake.parquet.usage_files import TableRows
from metering.lake.rows import BATCH_QUERY, FEW_ROWS, OWN_HOUR, USAGE_COLUMNS, USAGE_QUERY, RowQuery
from metering.usage.totals import Service, UsageKey, UsageType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    import pyarrow.parquet as pq

    from metering.lake.ports import UsageRows
    from metering.lake.rows import Group
    from metering.ledger.row_sources import RowSource
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import Total


_STAGED_QUERY = RowQuery(columns=(BOOKED_HOUR, *USAGE_COLUMNS))
_STAGED_COLUMNS = (
    "account_id",
    "service",
    "from_location",
    "to_location",
    "usage_type",
    "bytes",
    "start_time",
    BOOKED_HOUR,
)
_STAGED_TEXTS = [column for column in _STAGED_COLUMNS if column in TEXT_COLUMNS]
# Values of a condition that are handed to Arrow as they are.
_FEW_VALUES = 100
# Rows that are read at once, about: most objects have fewer.
_ROWS_AT_ONCE = 1_000_000


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
        return dict(self.groups(sources, query))

    def groups(self, sources: Sequence[RowSource], query: RowQuery) -> Iterator[tuple[Group, Total]]:
        sums = Sums(query)
        for (part,) in self._read(sources, [query]):
            sums.add(part.table())
        yield from sums.groups()

    def parts(self, sources: Sequence[RowSource], query: RowQuery) -> Iterator[tuple[Group, Total]]:
        large, small = large_and_small(sources)
        for source in large:
            with decoding(source.key):
                for table in self._tables(source, [query]):
                    sums = Sums(query)
                    sums.add(halves_of(table, query))
                    yield from sums.groups()
        for (sums,) in self._read(small, [query]):
            yield from sums.groups()

    def hour_usage(
        self,
        hour_s: int,
        sources: Sequence[RowSource],
        *,
        batches: Callable[[Iterator[tuple[Group, Total]]], None] | None = None,
    ) -> UsageRows:
        sums = Sums(USAGE_QUERY)
        queries = (USAGE_QUERY,) if batches is None else (USAGE_QUERY, BATCH_QUERY)
        for usage, *by_batch in self._read(sources, queries):
            sums.add(usage.table())
            if batches is not None:
                # Of all batches of an hour only those of a source are held.
                batches(by_batch[0].groups())
        return TableRows(usage_of_sums(sums.table(), hour_s))

    def _read(self, sources: Sequence[RowSource], queries: Sequence[RowQuery]) -> Iterator[list[Sums]]:
        """Sums of each query over the rows of each source, in no order."""
        read = read_each(lambda source: self._source(source, queries), sources, threads=self._readers)
        return (sums for _, sums in read)

    def _source(self, source: RowSource, queries: Sequence[RowQuery]) -> list[Sums]:
        sums = [Sums(query) for query in queries]
        with decoding(source.key):
            for table in self._tables(source, queries):
                low_high = halves(table.column("bytes"))
                for one, query in zip(sums, queries, strict=True):
                    one.add(halves_of(table, query, low_high))
        return sums

    def _tables(self, source: RowSource, queries: Sequence[RowQuery]) -> Iterator[pa.Table]:
        """Matching rows of a source, one table for each row group."""
        query = queries[0]
        times = query.times if query.times is not None and query.times.parts(source.hour_s) else None
        cut = () if times is None else ("start_time",)
        grouped = {column for each in queries for column in each.columns}
        columns = _physical({*grouped, *(column for column, _ in query.where), *cut, "bytes"})
        encoded = [column for column in columns if column in TEXT_COLUMNS]
        with self._stream(source) as stream:
            file = RowGroups(stream, encoded)
            groups = row_groups_of(file, source.hour_s) if source.staged else range(file.metadata.num_row_groups)
            for number in groups:
                if not source.staged and not _may_match(file.metadata.row_group(number), query):
                    continue
                table = file.read(number, columns)
                yield _matching(table if times is None else table.filter(taken(times, source.hour_s)), query)

    def _stream(self, source: RowSource) -> BinaryIO:
        """Of a lake file, only the needed ranges are read. A staging object is small, and read whole by one GET."""
        if not source.staged:
            return self._objects.open(source.key)
        if source.rows <= FEW_ROWS:
            return self._objects.open_end(source.key, last_bytes=STAGED_END_BYTES)
        return BytesIO(self._objects.get(source.key))


class ParquetStagedUsage:
    """Sums staging objects, each read whole by one GET.

    Args:
        objects: Store of the staging objects.
        rows_at_once: Rows that are decoded at once, so that memory does not grow with the object's.
    """

    def __init__(self, objects: ObjectStore, *, rows_at_once: int = _ROWS_AT_ONCE) -> None:
        self._objects = objects
        self._rows_at_once = rows_at_once

    def usage(self, staging_key: str) -> dict[UsageKey, Total]:
        body = BytesIO(self._objects.get(staging_key))
        sums = Sums(_STAGED_QUERY)
        with decoding(staging_key):
            file = RowGroups(body, _STAGED_TEXTS)
            for groups in self._parts(file):
                sums.add(halves_of(file.read_some(groups, _STAGED_COLUMNS), _STAGED_QUERY))
            totals = sums.totals()
        return {
            UsageKey(
                int(booked_s),
                str(account_id),
                UsageType(str(usage_type)),
                Service(str(service)),
                str(from_location),
                str(to_location),
                None if own_s == booked_s else int(own_s),
            ): total
            for (booked_s, account_id, usage_type, service, from_location, to_location, own_s), total in totals.items()
        }

    def _parts(self, file: RowGroups) -> Iterator[list[int]]:
        """Numbers of the row groups that are read at once."""
        metadata = file.metadata
        if metadata.num_row_groups == 0:
            return
        a_group = max(1, metadata.num_rows // metadata.num_row_groups)
        numbers = iter(range(metadata.num_row_groups))
        while part := list(islice(numbers, max(1, self._rows_at_once // a_group))):
            yield part


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
        if len(allowed) > _FEW_VALUES:
            # A manifest names every batch of a region, and a staging object holds ten: what there is, is looked up
            # among what is wanted. Else each object would cost as much as the manifest is long.
            wanted = [value for value in pc.unique(values).to_pylist() if value in allowed]
        else:
            wanted = sorted(allowed)
        table = table.filter(pc.is_in(values, value_set=pa.array(wanted, pa.string())))
    return table
