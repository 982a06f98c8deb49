"""`BatchSizer` in production: each batch as one JSON message, plain and compressed."""

from __future__ import annotations

import gzip
import zlib
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from metering.intake.messages import SCHEMA
from metering.lake.batch_sizes import BatchSizes
from metering.lake.parquet.hour_rows import HOUR_SCHEMA, TEXT_COLUMNS, decoding, staged_hour
from metering.lake.parquet.ordering import one_chunk
from metering.lake.parquet.row_groups import RowGroups

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.lake.view import LakeView
    from metering.ledger.row_sources import HourState
    from metering.stores.objects import ObjectStore

# Most rows in memory at once, about; all rows of a batch are in the same part.
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
    """Measures batches in parts, chosen by the hash of their ids, so that memory is bounded."""

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
                # Compression releases the interpreter's lock, so that threads run side by side.
                gzip_bytes += sum(pool.map(_compressed_bytes, (body for _, body in bodies)))
        return BatchSizes(batches=batches, records=records, json_bytes=json_bytes, gzip_bytes=gzip_bytes)

    def _hour(self, state: HourState, part: int, parts: int) -> pa.Table:
        tables = [HOUR_SCHEMA.empty_table()]
        for source in state.sources:
            body = self._objects.get(source.key)
            with decoding(source.key):
                if source.staged:
                    table = staged_hour(body, source.hour_s)
                else:
                    table = RowGroups(body, TEXT_COLUMNS).read_all(HOUR_SCHEMA.names)
            tables += _in_part(table, part, parts)
        return pa.concat_tables(tables)


def _in_part(table: pa.Table, part: int, parts: int) -> Iterator[pa.Table]:
    for batch in table.unify_dictionaries().combine_chunks().to_batches():
        ids = batch.column("batch_id")
        mine = pa.array([zlib.crc32(name.encode()) % parts == part for name in ids.dictionary.to_pylist()], pa.bool_())
        chosen = batch.filter(mine.take(ids.indices))
        yield pa.table(chosen.columns, schema=HOUR_SCHEMA)


def _batches(tables: list[pa.Table]) -> Iterator[tuple[int, _Batch]]:
    if not any(table.num_rows for table in tables):
        return
    table = one_chunk(tables)
    table = table.take(pc.sort_indices(table.column("batch_id").cast(pa.string())))
    columns = [table.column(name).to_pylist() for name in _FIELDS]
    columns += [pc.strftime(table.column(name).cast(pa.timestamp("s")), _TIME).to_pylist() for name in _TIMES]
    rows = zip(table.column("batch_id").to_pylist(), *columns, strict=True)
    for batch_id, group in groupby(rows, key=lambda row: row[0]):
        records = [_Record(*row[1:]) for row in group]
        yield len(records), _Batch(batch_id=batch_id, record_count=len(records), records=records)


def _compressed_bytes(body: bytes) -> int:
    return len(gzip.compress(body, _LEVEL))
