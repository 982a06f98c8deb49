"""SQL over the exact view: DuckDB reads lake files in place, and staging for what is not published yet.

| view        | a row is                                                                                      |
|-------------|-----------------------------------------------------------------------------------------------|
| `transfers` | an accepted record: the lake's columns and `hour`, the hour that it is booked in                |
| `usage`     | a total: `hour, account_id, usage_type, service, from_location, to_location, corrects, bytes, records` |

Sums of `bytes` are HUGEINT in DuckDB: they hold 1.7e38 and cannot wrap.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as fs
import pyarrow.parquet as pq

from metering.adapters.lake.hour_rows import TEXT_COLUMNS, row_groups_of
from metering.adapters.lake.object_files import object_files
from metering.adapters.records.schema import LAKE_SCHEMA
from metering.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.domain.lake import HourState, Source
    from metering.ports import ObjectStore
    from metering.usecases.lake_view import LakeView

_HOUR = pa.timestamp("us", tz="UTC")
_PLAIN = [field.with_type(pa.string()) if field.name in TEXT_COLUMNS else field for field in LAKE_SCHEMA]
# Arrow reads strings as dictionaries where the file has them; DuckDB groups those faster.
QUERY_SCHEMA = pa.schema([*(pa.field(field.name, field.type) for field in _PLAIN), pa.field("hour", _HOUR)])

# Hours by microseconds: date_trunc of a time with a zone asks the calendar for each row, which took half of the time.
_USAGE = """
CREATE VIEW usage AS
SELECT hour, account_id, usage_type, service, from_location, to_location,
       CASE WHEN epoch_us(start_time) // 3600000000 <> epoch_us(hour) // 3600000000
            THEN make_timestamptz(epoch_us(start_time) // 3600000000 * 3600000000) END AS corrects,
       sum(bytes) AS bytes, count(*) AS records
FROM transfers GROUP BY ALL
"""


class QueryError(OperationFailedError):
    """DuckDB refused a query; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """What a query answered: names, DuckDB types, and values as Python has them (integers of any size)."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    rows: list[tuple[object, ...]]


class LakeQuery:
    """Runs queries of analysts.

    Args:
        view: Says what belongs to each hour.
        objects: Where the objects are.
        threads: Of DuckDB; its own choice by default.
    """

    def __init__(self, *, view: LakeView, objects: ObjectStore, threads: int | None = None) -> None:
        self._view = view
        self._objects = objects
        self._threads = threads

    def run(self, sql: str, *, from_s: int = 0, to_s: int | None = None) -> QueryResult:
        """One statement over the hours of `[from_s, to_s)`, each interval-exact.

        Raises:
            QueryError: The statement is wrong.
        """
        with self.connected(from_s=from_s, to_s=to_s) as connection:
            try:
                cursor = connection.execute(sql)
                rows = cast("list[tuple[object, ...]]", cursor.fetchall())
            except duckdb.Error as error:
                raise QueryError(str(error)) from error
            description = cursor.description or []
        return QueryResult(
            names=tuple(str(column[0]) for column in description),
            types=tuple(str(column[1]) for column in description),
            rows=rows,
        )

    @contextmanager
    def connected(self, *, from_s: int = 0, to_s: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that has the views and can reach nothing else."""
        with TemporaryDirectory(prefix="metering-query-") as name:
            scratch = Path(name)
            hours = self._view.hours(from_s=from_s, to_s=to_s)
            fragments = [
                part for hour_s in hours for part in self._view.read(hour_s, lambda s: self._fragments(s, scratch))
            ]
            connection = duckdb.connect(config={"threads": self._threads} if self._threads else {})
            try:
                connection.execute("SET TimeZone = 'UTC'")
                connection.register("transfers", _dataset(fragments))
                connection.execute(_USAGE)
                # SQL comes from people and from scripts: it reads these two views, no files, no network.
                connection.execute("SET enable_external_access = false")
                connection.execute("SET lock_configuration = true")
                yield connection
            finally:
                connection.close()

    def _fragments(self, state: HourState, scratch: Path) -> list[ds.Fragment]:
        hour = pa.scalar(datetime.fromtimestamp(state.hour_s, UTC), _HOUR)
        booked = ds.field("hour") == hour
        bucket = object_files(self._objects)
        local = fs.LocalFileSystem()
        form = _format()
        fragments = []
        for source in state.sources:
            if source.staged:
                path = self._fetched(source, scratch)
                groups = row_groups_of(pq.ParquetFile(path), source.hour_s)
                fragments.append(form.make_fragment(str(path), local, booked, row_groups=groups))
            else:
                fragments.append(form.make_fragment(source.key, bucket, booked))
        return fragments

    def _fetched(self, source: Source, scratch: Path) -> Path:
        """A staging object can go while the query runs, so it is fetched while the hour is read."""
        path = scratch / source.key.rpartition("/")[2]
        if not path.exists():
            path.write_bytes(self._objects.get(source.key))
        return path


def _format() -> ds.ParquetFileFormat:
    return ds.ParquetFileFormat(
        default_fragment_scan_options=ds.ParquetFragmentScanOptions(pre_buffer=True),
    )


def _dataset(fragments: Sequence[ds.Fragment]) -> ds.Dataset:
    return ds.FileSystemDataset(list(fragments), QUERY_SCHEMA, _format())
