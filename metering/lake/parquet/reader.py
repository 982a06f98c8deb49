"""Production `LakeReader` and `StagedUsage`: exact totals of lake files and staging objects."""

from __future__ import annotations

from collections import OrderedDict
from io import BytesIO
from itertools import islice
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.intake.admission import HOUR_US, SECOND_US
from metering.intake.formats.columns import halves, joined
from metering.lake import ports
from metering.lake.parquet import hour_rows, usage_files
from metering.stores import clock
from metering.stores.objects import ObjectStore, hour_of_lake_key, summary_key
from metering.units import HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pyarrow.parquet as pq

    from metering.ledger.booked_hours import LakeFile, RowSource


_NUMBERS = ("low", "high", "records")
# Partial sums are summed again when they reach this many rows. With many groups, they are summed again at 1.5 times as
# many rows as groups, because otherwise each part would cost as much as all groups together.
_PARTIAL_ROWS = 500_000
_GROWTH = 1.5
_FEW_PARTIAL_ROWS = 10_000
# Rows are converted to Python objects in slices of this size.
_SLICE_ROWS = 16 * 1024


class Sums:
    """Partial sums by group, of the low and high half of each number (`exact_sums`). Mutable."""

    def __init__(self, query: ports.RowQuery) -> None:
        self._keys = _key_names(query)
        self._parts: list[pa.Table] = []
        self._rows = 0
        self._most_rows = _PARTIAL_ROWS

    def add(self, part: pa.Table) -> None:
        """Add a table with the group columns and the columns `low`, `high` and `records`."""
        if not part.num_rows:
            return
        self._parts.append(part)
        self._rows += part.num_rows
        if self._rows > self._most_rows and len(self._parts) > 1:
            self._parts = [self.table()]
            self._rows = self._parts[0].num_rows
            self._most_rows = max(_PARTIAL_ROWS, int(self._rows * _GROWTH))

    def take(self, other: Sums) -> None:
        """Add sums of the same query. Few rows are not grouped before: this costs more than to keep them."""
        for part in other._parts if other._rows <= _FEW_PARTIAL_ROWS else [other.table()]:
            self.add(part)

    def table(self) -> pa.Table:
        """The sums of all rows added so far, one row per group."""
        if not self._parts:
            return pa.table({name: pa.array([], pa.int64()) for name in _NUMBERS})
        table = pa.concat_tables(self._parts).unify_dictionaries().combine_chunks()
        dictionaries: dict[str, pa.Array] = {}
        for place, key in enumerate(self._keys):
            column = table.column(key).chunk(0) if table.num_rows else None
            if column is not None and pa.types.is_dictionary(column.type):
                # Grouping by dictionary index is several times as fast as grouping by strings.
                dictionaries[key] = column.dictionary
                table = table.set_column(place, key, column.indices)
        summed = table.group_by(self._keys, use_threads=False).aggregate([(name, "sum") for name in _NUMBERS])
        columns = {name.removesuffix("_sum"): summed.column(name) for name in summed.column_names}
        for key, dictionary in dictionaries.items():
            indices = columns[key].combine_chunks()
            columns[key] = pa.chunked_array([pa.DictionaryArray.from_arrays(indices, dictionary)])
        return pa.table(columns)

    def totals(self) -> dict[ports.Group, Total]:
        return dict(self.groups())

    def groups(self) -> Iterator[tuple[ports.Group, Total]]:
        """Like `table`, but yields Python objects: each group once, a few groups at a time."""
        if not self._parts:
            return
        table = self.table()
        self._parts = [table]
        for first in range(0, table.num_rows, _SLICE_ROWS):
            part = table.slice(first, _SLICE_ROWS)
            keys = [_plain(part.column(key)).to_pylist() for key in self._keys]
            groups = zip(*keys, strict=True) if keys else iter([()])
            numbers = zip(*(part.column(name).to_pylist() for name in _NUMBERS), strict=True)
            for group, (low, high, records) in zip(groups, numbers, strict=True):
                if records:
                    yield group, Total(joined(low, high), records)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values of a dictionary as plain ones, which become Python objects thirty times as fast."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _key_names(query: ports.RowQuery) -> list[str]:
    return [f"c{place}" for place in range(len(query.columns))]


def halves_of(table: pa.Table, query: ports.RowQuery, low_high: tuple[pa.Array, pa.Array] | None = None) -> pa.Table:
    """The columns of a query, and the low and high halves of each row's bytes, in the form for `Sums.add`."""
    arrays = {name: _column(table, column) for name, column in zip(_key_names(query), query.columns, strict=True)}
    arrays["low"], arrays["high"] = halves(table.column("bytes")) if low_high is None else low_high
    arrays["records"] = pa.repeat(pa.scalar(1, pa.int64()), table.num_rows)
    return pa.table(arrays)


def _column(table: pa.Table, column: str) -> pa.ChunkedArray:
    if column == ports.OWN_HOUR:
        hours = pc.divide(table.column("start_time").cast(pa.int64()), HOUR_US)
        return pc.multiply(hours, HOUR_S)
    return table.column(column)


# Maximum number of rows of a small file. A larger file keeps a core busy, and its result takes memory; with a small
# file, most of the time passes in waiting for the first byte.
_SMALL_ROWS = 1_000_000


class _Sized(Protocol):
    @property
    def rows(self) -> int: ...


F = TypeVar("F", bound=_Sized)
R = TypeVar("R")


def large_and_small(files: Sequence[F]) -> tuple[list[F], list[F]]:
    """Split files into those to read alone and those to read concurrently, each in the given order."""
    large = [file for file in files if file.rows > _SMALL_ROWS]
    return large, [file for file in files if file.rows <= _SMALL_ROWS]


def read_each(read: Callable[[F], R], files: Sequence[F], *, threads: int) -> Iterator[tuple[F, R]]:
    """Yield each file with the result of `read`, in any order.

    Args:
        read: Called in several threads, so it must be thread-safe.
        files: Files, each with its number of rows.
        threads: Maximum number of small files that are read at the same time.
    """
    large, small = large_and_small(files)
    for some, at_once in ((large, 1), (small, threads if len(small) > 1 else 1)):
        yield from zip(some, clock.side_by_side(read, some, threads=at_once), strict=True)


# Totals of lake files, in objects next to the files: the compactor counts them during the merge, and readers use them.
#
# The content depends only on the rows, so every writer writes the same content. The totals are optional: if they are
# missing or do not add up, the rows are counted.


_GROUP_ROWS = 64 * 1024
# Number of objects of one hour that are fetched in parallel; all but one are small.
_READERS = 8
# Precision that can represent every int64, and every int64 times 2^32.
_HALF = pa.decimal128(19, 0)
_HIGH_UNIT = pa.scalar(2**32, pa.int64()).cast(pa.decimal128(19, 0)).cast(pa.decimal128(11, 0))


def summary_of(sums: Sums, hour_s: int) -> bytes:
    """The object with the totals of an hour's lake file. `sums` are grouped by the columns of `USAGE_QUERY`."""
    body = BytesIO()
    with usage_files.usage_writer(body) as writer:
        table = usage_of_sums(sums.table(), hour_s)
        if table.num_rows:
            writer.write_table(table, row_group_size=_GROUP_ROWS)
    return body.getvalue()


def usage_of_sums(sums: pa.Table, hour_s: int) -> pa.Table:
    """Convert sums by the columns of `USAGE_QUERY` to a sorted table of `USAGE_SCHEMA`."""
    if not sums.num_rows:
        return usage_files.USAGE_SCHEMA.empty_table()
    *names, own_hour = (sums.column(f"c{place}") for place in range(len(ports.USAGE_COLUMNS)))
    corrects = pc.if_else(pc.equal(own_hour, hour_s), pa.scalar(None, pa.int64()), pc.multiply(own_hour, SECOND_US))
    high = pc.multiply(sums.column("high").cast(_HALF), _HIGH_UNIT)
    columns = [
        *names,
        pa.repeat(pa.scalar(hour_s * SECOND_US, pa.int64()).cast(hour_rows.INSTANT), sums.num_rows),
        corrects.cast(hour_rows.INSTANT),
        pc.add(high, sums.column("low").cast(_HALF)).cast(usage_files.NUMBER),
        sums.column("records").cast(_HALF).cast(usage_files.NUMBER),
    ]
    return usage_files.sorted_usage(pa.table(columns, schema=usage_files.USAGE_SCHEMA))


def _sums_of(table: pa.Table, hour_s: int) -> pa.Table:
    """Convert a table of `USAGE_SCHEMA` to the form that `Sums` adds by the columns of `USAGE_QUERY`."""
    own_hour = pc.divide(table.column("corrects").cast(pa.int64()), SECOND_US).fill_null(hour_s)
    try:
        low, high = halves(table.column("bytes").cast(pa.int64()))
    except pa.ArrowInvalid:
        # A line with more than 2^63 bytes fits into no integer type of Arrow.
        numbers = [number for chunk in table.column("bytes").chunks for number in usage_files.integers_of(chunk)]
        low = pa.array([number & 0xFFFF_FFFF for number in numbers], pa.int64())
        high = pa.array([number >> 32 for number in numbers], pa.int64())
    names = {f"c{place}": table.column(name) for place, name in enumerate(usage_files.NAMES)}
    columns = {
        f"c{len(usage_files.NAMES)}": own_hour,
        "low": low,
        "high": high,
        "records": table.column("records").cast(pa.int64()),
    }
    return pa.table({**names, **columns})


class ParquetTotals:
    """A `TotalsReader` of the totals objects stored beside lake files.

    Args:
        lake: Reads the rows of lake files whose totals object is missing or unusable.
    """

    def __init__(self, objects: ObjectStore, lake: ports.LakeReader) -> None:
        self._objects = objects
        self._lake = lake

    def of(self, file: LakeFile) -> Iterator[tuple[UsageKey, Total]]:
        table = self._kept(file)
        if table is not None:
            yield from usage_files.rows_of(table)
            return
        hour_s = hour_of_lake_key(file.key) or 0
        yield from self._lake.hour_usage(hour_s, [file.source(hour_s)])

    def summed(self, files: Sequence[LakeFile]) -> ports.UsageRows:
        sums, hour_s = Sums(ports.USAGE_QUERY), 0
        for file, table in read_each(self._kept, files, threads=_READERS):
            hour_s = hour_of_lake_key(file.key) or 0
            sums.add(_sums_of(usage_files.usage_table(list(self.of(file))) if table is None else table, hour_s))
        return usage_files.TableRows(usage_of_sums(sums.table(), hour_s))

    def _kept(self, file: LakeFile) -> pa.Table | None:
        """The totals stored beside a file, if these totals exist and match the file's rows and bytes."""
        key = summary_key(file.key)
        try:
            body = self._objects.get(key)
            with hour_rows.decoding(key):
                table = usage_files.usage_parquet(body).read_all().cast(usage_files.USAGE_SCHEMA)
        except (ObjectMissingError, ObjectDamagedError):
            return None
        return table if usage_files.total_of(table) == Total(file.bytes, file.rows) else None


_STAGED_QUERY = ports.RowQuery(columns=(hour_rows.BOOKED_HOUR, *ports.USAGE_COLUMNS))
_STAGED_COLUMNS = (
    "account_id",
    "service",
    "from_location",
    "to_location",
    "usage_type",
    "bytes",
    "start_time",
    hour_rows.BOOKED_HOUR,
)
_STAGED_TEXTS = [column for column in _STAGED_COLUMNS if column in hour_rows.TEXT_COLUMNS]
# Conditions of up to this many values are passed to Arrow unchanged.
_FEW_VALUES = 100
# About this many rows are read at once: most objects have fewer.
_ROWS_AT_ONCE = 1_000_000


class _Kept:
    """The objects that were read last, up to a size. Mutable; for several threads."""

    def __init__(self, objects: ObjectStore, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._objects = objects
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: str) -> bytes:
        with self._lock:
            if key in self._bodies:
                self._bodies.move_to_end(key)
                return self._bodies[key]
        body = self._objects.get(key)
        with self._lock:
            if key not in self._bodies:
                self._bodies[key] = body
                self._bytes += len(body)
            while self._bytes > self._most_bytes:
                self._bytes -= len(self._bodies.popitem(last=False)[1])
        return body


class ParquetLakeReader:
    """Reads totals. Only the columns, row groups and byte ranges that a query needs are fetched.

    Args:
        readers: Threads that read sources in parallel.
        kept_bytes: Staging objects that were read are kept up to this size: each has rows of several hours, and never
            changes.
    """

    def __init__(self, objects: ObjectStore, *, readers: int = 8, kept_bytes: int = 0) -> None:
        self._objects = objects
        self._readers = readers
        self._kept = _Kept(objects, kept_bytes) if kept_bytes else None

    def totals(self, sources: Sequence[RowSource], query: ports.RowQuery) -> dict[ports.Group, Total]:
        return dict(self.groups(sources, query))

    def groups(self, sources: Sequence[RowSource], query: ports.RowQuery) -> Iterator[tuple[ports.Group, Total]]:
        sums = Sums(query)
        for (part,) in self._read(sources, [query]):
            sums.take(part)
        yield from sums.groups()

    def parts(self, sources: Sequence[RowSource], query: ports.RowQuery) -> Iterator[tuple[ports.Group, Total]]:
        large, small = large_and_small(sources)
        for source in large:
            with hour_rows.decoding(source.key):
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
        batches: Callable[[Iterator[tuple[ports.Group, Total]]], None] | None = None,
    ) -> ports.UsageRows:
        sums = Sums(ports.USAGE_QUERY)
        queries = (ports.USAGE_QUERY,) if batches is None else (ports.USAGE_QUERY, ports.BATCH_QUERY)
        for usage, *by_batch in self._read(sources, queries):
            sums.take(usage)
            if batches is not None:
                # Memory holds only the batches of one source in an hour.
                batches(by_batch[0].groups())
        return usage_files.TableRows(usage_of_sums(sums.table(), hour_s))

    def _read(self, sources: Sequence[RowSource], queries: Sequence[ports.RowQuery]) -> Iterator[list[Sums]]:
        """Sums of each query over the rows of each source, in any order."""
        read = read_each(lambda source: self._source(source, queries), sources, threads=self._readers)
        return (sums for _, sums in read)

    def _source(self, source: RowSource, queries: Sequence[ports.RowQuery]) -> list[Sums]:
        sums = [Sums(query) for query in queries]
        with hour_rows.decoding(source.key):
            for table in self._tables(source, queries):
                low_high = halves(table.column("bytes"))
                for one, query in zip(sums, queries, strict=True):
                    one.add(halves_of(table, query, low_high))
        return sums

    def _tables(self, source: RowSource, queries: Sequence[ports.RowQuery]) -> Iterator[pa.Table]:
        """Matching rows of a source, one table for each row group."""
        query = queries[0]
        times = query.times if query.times is not None and query.times.parts(source.hour_s) else None
        cut = () if times is None else ("start_time",)
        grouped = {column for each in queries for column in each.columns}
        columns = _physical({*grouped, *(column for column, _ in query.where), *cut, "bytes"})
        encoded = [column for column in columns if column in hour_rows.TEXT_COLUMNS]
        with self._stream(source) as stream:
            file = hour_rows.RowGroups(stream, encoded)
            groups = (
                hour_rows.row_groups_of(file, source.hour_s) if source.staged else range(file.metadata.num_row_groups)
            )
            for number in groups:
                if not source.staged and not _may_match(file.metadata.row_group(number), query):
                    continue
                table = file.read(number, columns)
                yield _matching(table if times is None else table.filter(hour_rows.taken(times, source.hour_s)), query)

    def _stream(self, source: RowSource) -> BinaryIO:
        """Of a lake file, only necessary ranges are read. A staging object is small, so it is read by one GET."""
        if not source.staged:
            return self._objects.open(source.key)
        if self._kept is not None:
            return BytesIO(self._kept.get(source.key))
        if source.rows <= ports.FEW_ROWS:
            return self._objects.open_end(source.key, last_bytes=hour_rows.STAGED_END_BYTES)
        return BytesIO(self._objects.get(source.key))


class ParquetStagedUsage:
    """Sums the usage of staging objects, each read with one GET.

    Args:
        rows_at_once: Number of rows decoded at once, so that memory does not grow with the object's size.
    """

    def __init__(self, objects: ObjectStore, *, rows_at_once: int = _ROWS_AT_ONCE) -> None:
        self._objects = objects
        self._rows_at_once = rows_at_once

    def markers(self, staging_key: str) -> bytes:
        end = self._objects.open_end(staging_key, last_bytes=hour_rows.STAGED_END_BYTES)
        with end as stream, hour_rows.decoding(staging_key):
            return hour_rows.staged_markers(hour_rows.RowGroups(stream))

    def usage(self, staging_key: str) -> dict[UsageKey, Total]:
        body = BytesIO(self._objects.get(staging_key))
        sums = Sums(_STAGED_QUERY)
        with hour_rows.decoding(staging_key):
            file = hour_rows.RowGroups(body, _STAGED_TEXTS)
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

    def _parts(self, file: hour_rows.RowGroups) -> Iterator[list[int]]:
        """Numbers of the row groups, in lists that are read together."""
        metadata = file.metadata
        if metadata.num_row_groups == 0:
            return
        a_group = max(1, metadata.num_rows // metadata.num_row_groups)
        numbers = iter(range(metadata.num_row_groups))
        while part := list(islice(numbers, max(1, self._rows_at_once // a_group))):
            yield part


def _physical(columns: Iterable[str]) -> list[str]:
    return sorted({"start_time" if column == ports.OWN_HOUR else column for column in columns})


def _may_match(group: pq.RowGroupMetaData, query: ports.RowQuery) -> bool:
    """Whether a row group may have a matching row, according to its statistics."""
    statistics = {group.column(i).path_in_schema: group.column(i).statistics for i in range(group.num_columns)}
    for column, allowed in query.where:
        known = statistics.get(column)
        if known is not None and known.has_min_max and not any(known.min <= value <= known.max for value in allowed):
            return False
    return True


def _matching(table: pa.Table, query: ports.RowQuery) -> pa.Table:
    for column, allowed in query.where:
        values = table.column(column).cast(pa.string())
        if len(allowed) > _FEW_VALUES:
            # A manifest names every batch of a region, and a staging object holds ten batches, so each object's batch
            # ids are looked up in the manifest. The reverse look-up would read the manifest's whole length per object.
            wanted = [value for value in pc.unique(values).to_pylist() if value in allowed]
        else:
            wanted = sorted(allowed)
        table = table.filter(pc.is_in(values, value_set=pa.array(wanted, pa.string())))
    return table
