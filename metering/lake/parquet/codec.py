"""Production `RowCodec` and `BatchSizer`: rows of a commit as one Parquet object, batches as JSON messages."""

from __future__ import annotations

import gzip
import zlib
from array import array
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metering.errors import ObjectMissingError
from metering.intake import admission
from metering.intake.formats.columns import BatchRows, arrow
from metering.intake.messages import SCHEMA
from metering.lake.parquet import hour_rows
from metering.lake.view import BatchSizes, LakeView

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from metering.lake import ports
    from metering.ledger.booked_hours import HourState
    from metering.stores.objects import ObjectStore


_GROUP_ROWS = 128 * 1024
_NAMES = ("account_id", "service", "direction", "from_location", "to_location", "usage_type")


class ParquetRowCodec:
    """Encodes staging objects: `STAGING_SCHEMA`, zstd, sorted by booked hour; each row group has rows of one hour."""

    def encode(self, batches: Sequence[ports.StagedBatch], markers: bytes = b"") -> bytes:
        """See `RowCodec.encode`; the markers are in the file's metadata."""
        return _staged(staged_table(batches), markers)


class ParquetAdoptableRows:
    """`AdoptableRows` of the lake."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def plan_of(self, lake_key: str) -> str | None:
        try:
            end = self._objects.open_end(lake_key, last_bytes=hour_rows.STAGED_END_BYTES)
        except ObjectMissingError:
            return None
        with end as stream, hour_rows.decoding(lake_key):
            return hour_rows.plan_of(hour_rows.RowGroups(stream))

    def copied(
        self, staging_key: str, batch_ids: Collection[str], *, rebooked: Mapping[int, int], markers: bytes
    ) -> bytes:
        body = self._objects.get(staging_key)
        with hour_rows.decoding(staging_key):
            table = hour_rows.RowGroups(body, hour_rows.TEXT_COLUMNS).read_all().replace_schema_metadata()
        ours = pc.is_in(table.column("batch_id").cast(pa.string()), pa.array(sorted(batch_ids), pa.string()))
        table = table.filter(ours)
        if rebooked:
            place = table.schema.get_field_index(hour_rows.BOOKED_HOUR)
            booked = [rebooked.get(hour_s, hour_s) for hour_s in table.column(place).to_pylist()]
            table = table.set_column(place, hour_rows.STAGING_SCHEMA.field(place), pa.array(booked, pa.int64()))
        return _staged(_by_hour(table.cast(hour_rows.STAGING_SCHEMA)), markers)


def _staged(table: pa.Table, markers: bytes) -> bytes:
    """A staging object with the rows, which are sorted by booked hour."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        hour_rows.STAGING_SCHEMA,
        compression="zstd",
        use_dictionary=[field.name for field in hour_rows.STAGING_SCHEMA if pa.types.is_dictionary(field.type)],
        write_statistics=[hour_rows.BOOKED_HOUR],
        store_schema=False,
    ) as writer:
        for first, rows in _hours(table.column(hour_rows.BOOKED_HOUR)):
            writer.write_table(table.slice(first, rows), row_group_size=_GROUP_ROWS)
        writer.add_key_value_metadata(hour_rows.markers_metadata(markers))
    body: bytes = sink.getvalue().to_pybytes()
    return body


def staged_table(batches: Sequence[ports.StagedBatch]) -> pa.Table:
    """Rows of a staging object, in the object's order."""
    columns = _Columns()
    for batch in batches:
        columns.add(batch)
    return _by_hour(columns.table())


def _by_hour(table: pa.Table) -> pa.Table:
    hours = table.column(hour_rows.BOOKED_HOUR)
    if pc.all(pc.less_equal(hours[:-1], hours[1:])).as_py() in (True, None):
        return table
    return table.take(pc.array_sort_indices(hours.combine_chunks()))


class _Columns:
    """Columns of several batches. Each distinct head is stored once."""

    def __init__(self) -> None:
        self._heads: dict[tuple[str, ...], int] = {}
        self._head_index: array[int] = array("I")
        self._batch_ids: list[str] = []
        self._batch_rows: list[int] = []
        self._resource_ids: list[pa.Array] = []
        self._strings: list[str] = []
        self._sizes: array[int] = array("q")
        self._starts: array[int] = array("q")
        self._ends: array[int] = array("q")
        self._rebooked: list[tuple[int, int, Mapping[int, int]]] = []

    def add(self, batch: ports.StagedBatch) -> None:
        rows = batch.rows
        if not isinstance(rows, BatchRows):
            raise TypeError(f"rows of another codec: {type(rows).__name__}")
        first = len(self._sizes)
        numbers = [self._number(rows, number) for number in range(len(rows.heads))]
        for block in rows.blocks:
            self._head_index.extend(map(numbers.__getitem__, block.head_index))
            self._add_resource_ids(block.resource_ids)
            self._sizes.extend(block.sizes)
            self._starts.extend(block.starts)
            self._ends.extend(block.ends)
        self._batch_ids.append(batch.batch_id)
        self._batch_rows.append(len(self._sizes) - first)
        if batch.rebooked:
            self._rebooked.append((first, len(self._sizes), batch.rebooked))

    def table(self) -> pa.Table:
        head_index = pa.array(self._head_index, pa.int32())
        columns = {
            name: _dictionary([head[place] for head in self._heads], head_index) for place, name in enumerate(_NAMES)
        }
        self._flush_strings()
        columns["resource_id"] = pa.chunked_array(self._resource_ids, pa.string())
        columns["bytes"] = arrow(self._sizes)
        columns["start_time"] = arrow(self._starts).cast(hour_rows.INSTANT)
        columns["end_time"] = arrow(self._ends).cast(hour_rows.INSTANT)
        batch_index = array("i")
        for number, rows in enumerate(self._batch_rows):
            batch_index.extend(array("i", [number]) * rows)
        columns["batch_id"] = _dictionary(self._batch_ids, pa.array(batch_index, pa.int32()))
        columns[hour_rows.BOOKED_HOUR] = self._booked_hours()
        return pa.table([columns[field.name] for field in hour_rows.STAGING_SCHEMA], schema=hour_rows.STAGING_SCHEMA)

    def _number(self, rows: BatchRows, number: int) -> int:
        if rows.traffic[number].problems:
            # Only refused records have this head, so no row refers to this head.
            return -1
        account_id, service, direction, from_location, to_location, _ = map(str, rows.heads[number])
        head = (account_id, service, direction, from_location, to_location, rows.traffic[number].usage_type)
        return self._heads.setdefault(head, len(self._heads))

    def _add_resource_ids(self, resource_ids: list[str] | pa.Array) -> None:
        if isinstance(resource_ids, list):
            self._strings += resource_ids
        else:
            self._flush_strings()
            self._resource_ids.append(resource_ids)

    def _flush_strings(self) -> None:
        if self._strings:
            self._resource_ids.append(pa.array(self._strings, pa.string()))
            self._strings = []

    def _booked_hours(self) -> pa.Array:
        hours = pc.multiply(pc.divide(arrow(self._starts), admission.HOUR_US), admission.HOUR_US // admission.SECOND_US)
        if not self._rebooked:
            return hours
        booked: list[int] = hours.to_pylist()
        for first, last, rebooked in self._rebooked:
            booked[first:last] = [rebooked.get(hour_s, hour_s) for hour_s in booked[first:last]]
        return pa.array(booked, pa.int64())


def _dictionary(values: list[str], indices: pa.Array) -> pa.DictionaryArray:
    """Dictionary array of the values at the indices; each distinct value is stored once."""
    numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
    places = pa.array([numbers[value] for value in values], pa.int32())
    return pa.DictionaryArray.from_arrays(places.take(indices), pa.array(list(numbers), pa.string()))


def _hours(booked: pa.ChunkedArray) -> Iterator[tuple[int, int]]:
    """First row and number of rows of each booked hour; `booked` must be sorted."""
    first = 0
    for run in pc.run_end_encode(booked.combine_chunks()).run_ends.to_pylist():
        yield first, run - first
        first = run


# About this many rows are in memory at once; all rows of a batch are in the same part.
_PART_ROWS = 2_000_000
_LEVEL = 6
_FIELDS = ("account_id", "service", "resource_id", "direction", "from_location", "to_location", "bytes")
_TIMES = ("start_time", "end_time")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class _Record(msgspec.Struct):
    account_id: str
    service: str
    resource_id: str
    direction: str
    from_location: str = msgspec.field(name="from")
    to_location: str = msgspec.field(name="to")
    bytes: int
    start: str
    end: str


class _Batch(msgspec.Struct):
    batch_id: str
    record_count: int
    records: list[_Record]
    schema: str = SCHEMA


class JsonBatchSizer:
    """Measures batches in partitions by the hash of the batch id, so that memory use is bounded."""

    def __init__(self, objects: ObjectStore, *, part_rows: int = _PART_ROWS) -> None:
        self._objects = objects
        self._part_rows = part_rows
        self._encode = msgspec.json.Encoder().encode

    def measure(self, view: LakeView, *, from_s: int) -> BatchSizes:
        hours = view.hours(from_s=from_s)
        rows = sum(view.hour_between(hour_s).total.records for hour_s in hours)
        parts = 1 + rows // self._part_rows
        batches = records = json_bytes = gzip_bytes = 0
        with ThreadPoolExecutor(2) as pool:
            for part in range(parts):
                tables = [view.read(hour_s, lambda state: self._hour(state, part, parts)) for hour_s in hours]  # noqa: B023 - called at once
                bodies = [(count, self._encode(batch)) for count, batch in _batches(tables)]
                batches += len(bodies)
                records += sum(count for count, _ in bodies)
                json_bytes += sum(len(body) for _, body in bodies)
                # Compression releases the GIL, so that threads run in parallel.
                gzip_bytes += sum(pool.map(_compressed_bytes, (body for _, body in bodies)))
        return BatchSizes(batches=batches, records=records, json_bytes=json_bytes, gzip_bytes=gzip_bytes)

    def _hour(self, state: HourState, part: int, parts: int) -> pa.Table:
        tables = [hour_rows.HOUR_SCHEMA.empty_table()]
        for source in state.sources:
            body = self._objects.get(source.key)
            with hour_rows.decoding(source.key):
                file = hour_rows.RowGroups(body, hour_rows.TEXT_COLUMNS)
                if source.staged:
                    table = hour_rows.staged_hour(file, source.hour_s, whole=True)
                else:
                    table = file.read_all(hour_rows.HOUR_SCHEMA.names)
            tables += _in_part(table, part, parts)
        return pa.concat_tables(tables)


def _in_part(table: pa.Table, part: int, parts: int) -> Iterator[pa.Table]:
    for batch in table.unify_dictionaries().combine_chunks().to_batches():
        ids = batch.column("batch_id")
        mine = pa.array([zlib.crc32(name.encode()) % parts == part for name in ids.dictionary.to_pylist()], pa.bool_())
        chosen = batch.filter(mine.take(ids.indices))
        yield pa.table(chosen.columns, schema=hour_rows.HOUR_SCHEMA)


def _batches(tables: list[pa.Table]) -> Iterator[tuple[int, _Batch]]:
    if not any(table.num_rows for table in tables):
        return
    table = hour_rows.one_chunk(tables)
    table = table.take(pc.sort_indices(table.column("batch_id").cast(pa.string())))
    columns = [table.column(name).to_pylist() for name in _FIELDS]
    columns += [pc.strftime(table.column(name).cast(pa.timestamp("s")), _TIME).to_pylist() for name in _TIMES]
    rows = zip(table.column("batch_id").to_pylist(), *columns, strict=True)
    for batch_id, group in groupby(rows, key=lambda row: row[0]):
        records = [_Record(*row[1:]) for row in group]
        yield len(records), _Batch(batch_id=batch_id, record_count=len(records), records=records)


def _compressed_bytes(body: bytes) -> int:
    return len(gzip.compress(body, _LEVEL))
