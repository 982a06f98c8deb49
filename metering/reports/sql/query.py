"""SQL on the exact view: DuckDB reads lake files in place, and unpublished rows from staging.

| view        | a row is                                                                                      |
|-------------|-----------------------------------------------------------------------------------------------|
| `transfers` | an accepted record: the lake's columns, `hour`, the hour that it is booked in, and `region`     |
| `usage`     | a total: `hour, account_id, usage_type, service, from_location, to_location, corrects, bytes, records` |
| `causes`    | a part of a total: also `resource_id, cause, workload, destination, path, direction, …`         |

The last column of all views is `region`, so that a statement for one region is also correct for several regions.

Sums of `bytes` are HUGEINT in DuckDB: they hold 1.7e38 and cannot wrap. As in reports, the canary's rows are left out
unless requested.
"""

from __future__ import annotations

import pickle
import re
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from concurrent.futures import TimeoutError as StillWaiting
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from functools import partial
from itertools import chain, count, islice
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import TIMEOUT_MAX
from typing import IO, TYPE_CHECKING, ClassVar, cast, overload

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from metering.billing.causes.index import CauseIndexes
from metering.errors import LedgerCorruptError, ObjectDamagedError, ObjectMissingError, OperationFailedError
from metering.hours import hour_of
from metering.intake.admission import SECOND_US
from metering.lake.parquet import reader
from metering.lake.parquet.hour_rows import (
    HOUR_SCHEMA,
    TEXT_COLUMNS,
    RowGroups,
    decoding,
    instant,
    row_groups_of,
    taken,
)
from metering.lake.parquet.usage_files import NAMES, USAGE_SCHEMA, total_of, usage_parquet
from metering.lake.ports import USAGE_QUERY, TimeSlice
from metering.ledger.format_version import generations_of
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.reports.answer import KEEP, USUAL, Answer, Cell, Column, MappedRows, TextForm
from metering.reports.source import naming
from metering.reports.sql.ahead import Ahead, Stop, in_thread
from metering.reports.who_sums import CauseSource
from metering.stores.objects import LAKE_PREFIX, ObjectStore, summary_key
from metering.units import DAY_S, MINUTE_S
from metering.usage.totals import Total

if TYPE_CHECKING:
    from metering.lake.view import LakeView
    from metering.ledger.booked_hours import HourState, RowSource

_HOUR = pa.timestamp("us", tz="UTC")
_OF_PART = frozenset({"hour", "region"})
# Names keep the dictionary encoding of the files: decoding it took most of the time of a scan. The last columns are
# those that no file has, which are constant in a part.
QUERY_SCHEMA = pa.schema(
    [
        *(pa.field(field.name, field.type) for field in HOUR_SCHEMA),
        pa.field("hour", _HOUR),
        pa.field("region", pa.string()),
    ]
)

_READERS = 8
# Rows per batch, as in Arrow's own scanner, because DuckDB's threads share the work batch by batch.
_BATCH_ROWS = 131_072
# Rows that may be decoded ahead of DuckDB: four full row groups.
_ROWS_AHEAD = 4 * 512 * 1024
# A smaller row group counts as this many rows, so that not too many row groups are read ahead.
_LEAST_ROWS = _ROWS_AHEAD // 32
_FORMAT = ds.ParquetFileFormat()
_ACCOUNT = "account_id"
_NOT_CANARY = pc.field(_ACCOUNT) != CANARY_ACCOUNT_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows of one booked hour in one object: all rows, or rows in a time range; a staging object is a local copy.

    `rows` and `bytes` are the ledger's figures for all rows of the hour in the object.
    """

    region: str
    objects: ObjectStore
    key: str
    hour_s: int
    local: Path | None = None
    times: TimeSlice | None = None
    rows: int = 0
    bytes: int = 0


@dataclass(slots=True, kw_only=True)
class ScanState:
    """State shared by a query's scans, and the first error of a scan, because DuckDB returns only the error's text."""

    stop: Stop
    error: BaseException | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None and not isinstance(error, GeneratorExit) and self.error is None:
            self.error = error


class Scannable(ds.Dataset):  # type: ignore[misc]  # pyarrow has no types
    """Object that DuckDB accepts as an Arrow dataset. Only the name of Arrow's class is used.

    DuckDB calls `scanner` for each scan of a query, with the columns and the filter that are pushed down.
    """

    SCAN: ClassVar[type[_Scan]]

    # Arrow's constructor refuses direct calls; it is not needed, because none of Arrow's dataset code is used.
    def __init__(
        self, parts: Sequence[Part], state: ScanState, *, readers: int = _READERS, with_canary: bool = False
    ) -> None:
        self._parts = parts
        self._scan = partial(self.SCAN, state=state, readers=readers, with_canary=with_canary)

    @property
    def schema(self) -> pa.Schema:
        return self.SCAN.SCHEMA

    def scanner(self, columns: Sequence[str] | None = None, filter: pc.Expression | None = None) -> _Scan:
        """One scan."""
        names = self.schema.names if columns is None else list(columns)
        return self._scan(parts=self._parts, columns=names, where=filter)


@dataclass(frozen=True, kw_only=True)
class _Scan(ABC):
    """One scan: reads some columns of the rows that pass the scan's filter."""

    SCHEMA: ClassVar[pa.Schema]

    parts: Sequence[Part]
    state: ScanState
    readers: int
    columns: Sequence[str]
    where: pc.Expression | None
    with_canary: bool

    def to_reader(self) -> pa.RecordBatchReader:
        """A new reader of the rows; rows are read while DuckDB consumes them."""
        schema = pa.schema([self.SCHEMA.field(name) for name in self.columns])
        return pa.RecordBatchReader.from_batches(schema, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with self.state, Ahead(self.readers, self.state.stop) as ahead:
            for table in self.tables(ahead):
                yield from table.to_batches(max_chunksize=_BATCH_ROWS)

    def _looked_at(self) -> list[str]:
        """Columns needed for result and filter. Columns are found in the filter's text; extra columns are harmless."""
        words = set() if self.where is None else set(re.findall(r"\w+", str(self.where)))
        return [name for name in self.SCHEMA.names if name in self.columns or name in words]

    @abstractmethod
    def tables(self, ahead: Ahead) -> Iterator[pa.Table]:
        """The rows of the parts, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    part: Part
    metadata: pq.FileMetaData
    number: int

    @property
    def rows(self) -> int:
        return int(self.metadata.row_group(self.number).num_rows)

    @property
    def may_have_canary(self) -> bool:
        """Whether a row may be the canary's. The canary sorts first, so statistics exclude most row groups."""
        group = self.metadata.row_group(self.number)
        for place in range(group.num_columns):
            column = group.column(place)
            if column.path_in_schema == _ACCOUNT:
                known = column.statistics
                return known is None or not known.has_min_max or known.min <= CANARY_ACCOUNT_ID
        return True


@dataclass(frozen=True, kw_only=True)
class _RowScan(_Scan):
    SCHEMA: ClassVar[pa.Schema] = QUERY_SCHEMA

    def tables(self, ahead: Ahead) -> Iterator[pa.Table]:
        names = self._looked_at()
        opened = ahead.results(((1, partial(self._groups, part)) for part in self.parts), self.readers)
        tasks = (
            (max(group.rows, _LEAST_ROWS), partial(self._table, group, names)) for found in opened for group in found
        )
        return ahead.results(tasks, _ROWS_AHEAD)

    def _groups(self, part: Part) -> list[_Group]:
        with self._opened(part) as file:
            metadata = file.metadata
            numbers = list(range(metadata.num_row_groups)) if part.local is None else row_groups_of(file, part.hour_s)
        if self.where is not None and numbers:
            numbers = _promising(metadata, numbers, part, self.where)
        return [_Group(part=part, metadata=metadata, number=number) for number in numbers]

    def _table(self, group: _Group, names: list[str]) -> pa.Table:
        """Rows of a row group in the time range that pass the filter."""
        part = group.part
        physical = [name for name in names if name not in _OF_PART] or ["bytes"]
        hides = not self.with_canary and group.may_have_canary
        if part.times is not None:
            physical = list(dict.fromkeys([*physical, "start_time"]))
        if hides:
            physical = list(dict.fromkeys([*physical, _ACCOUNT]))
        with self._opened(part, group.metadata) as file:
            table = file.read(group.number, physical)
        if part.times is not None:
            table = table.filter(taken(part.times, part.hour_s))
        if hides:
            table = table.filter(_NOT_CANARY)
        for name, value in (("hour", instant(part.hour_s)), ("region", pa.scalar(part.region))):
            table = table.append_column(name, pa.repeat(value, table.num_rows))
        table = table.select(names).cast(_schema(names))
        if self.where is not None:
            table = table.filter(self.where)
        return table.select(self.columns)

    @contextmanager
    def _opened(self, part: Part, metadata: pq.FileMetaData | None = None) -> Iterator[RowGroups]:
        try:
            with (
                naming(part.region),
                part.objects.open(part.key) if part.local is None else part.local.open("rb") as stream,
                decoding(part.key),
            ):
                yield RowGroups(stream, TEXT_COLUMNS, metadata=metadata)
        except ObjectMissingError as error:
            if part.key.startswith(LAKE_PREFIX):
                raise LedgerCorruptError(f"the published file {part.key} is gone") from error
            raise


class LakeRows(Scannable):
    """Rows of parts."""

    SCAN = _RowScan


def _schema(names: Sequence[str]) -> pa.Schema:
    return pa.schema([QUERY_SCHEMA.field(name) for name in names])


def _promising(metadata: pq.FileMetaData, numbers: list[int], part: Part, where: pc.Expression) -> list[int]:
    """Row groups that may contain a row that passes the filter, as Arrow judges by the statistics in the footer."""
    footer = pa.BufferOutputStream()
    metadata.write_metadata_file(footer)
    known = (ds.field("hour") == instant(part.hour_s)) & (ds.field("region") == part.region)
    fragment = _FORMAT.make_fragment(footer.getvalue(), partition_expression=known, row_groups=numbers)
    return [group.id for group in fragment.subset(where, schema=QUERY_SCHEMA).row_groups]


# The dataset below the view `usage`: the totals stored beside lake files, or totals counted from rows.


TOTALS_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in NAMES),
        *(pa.field(name, USAGE_SCHEMA.field(name).type) for name in ("hour", "corrects", "bytes", "records")),
        pa.field("region", pa.string()),
    ]
)
_COUNTED = [*NAMES, "start_time", "bytes"]
_TOTALS_NOT_CANARY = pc.field("account_id") != CANARY_ACCOUNT_ID


@dataclass(frozen=True, kw_only=True)
class _TotalsScan(_Scan):
    SCHEMA: ClassVar[pa.Schema] = TOTALS_SCHEMA

    def tables(self, ahead: Ahead) -> Iterator[pa.Table]:
        return ahead.results(((1, partial(self._table, part)) for part in self.parts), self.readers)

    def _table(self, part: Part) -> pa.Table:
        kept = _kept(part)
        table = _counted(part, self.state) if kept is None else kept
        table = table.append_column("region", pa.repeat(pa.scalar(part.region), table.num_rows)).cast(TOTALS_SCHEMA)
        if not self.with_canary:
            table = table.filter(_TOTALS_NOT_CANARY)
        if self.where is not None:
            table = table.filter(self.where)
        return table.select(self.columns)


class LakeTotals(Scannable):
    """Totals of parts by usage key."""

    SCAN = _TotalsScan


def _kept(part: Part) -> pa.Table | None:
    """The stored totals of a lake file, if all its rows are requested and the totals add up to its rows and bytes."""
    if part.local is not None or part.times is not None:
        return None
    key = summary_key(part.key)
    try:
        with naming(part.region), decoding(key):
            table = usage_parquet(part.objects.get(key)).read_all().cast(USAGE_SCHEMA)
    except (ObjectMissingError, ObjectDamagedError):
        return None
    return table if total_of(table) == Total(part.bytes, part.rows) else None


def _counted(part: Part, state: ScanState) -> pa.Table:
    sums = reader.Sums(USAGE_QUERY)
    for batch in LakeRows([part], state, readers=1, with_canary=True).scanner(_COUNTED).to_reader():
        rows = reader.Sums(USAGE_QUERY)
        rows.add(reader.halves_of(pa.Table.from_batches([batch]), USAGE_QUERY))
        sums.add(rows.table())
    return reader.usage_of_sums(sums.table(), part.hour_s)


_NAMED = pa.dictionary(pa.int32(), pa.string())
_RENAMED = {"from_location": "from", "to_location": "to", "corrects": "own_hour"}
_CAUSES = (
    "account_id", "usage_type", "service", "from_location", "to_location", "resource_id", "cause", "workload",
    "destination", "path", "direction", "basis", "reason",
)  # fmt: skip
CAUSES_SCHEMA = pa.schema(
    [
        pa.field("hour", _HOUR),
        *(pa.field(name, _NAMED) for name in _CAUSES),
        pa.field("corrects", _HOUR),
        pa.field("bytes", pa.int64()),
        pa.field("region", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class _CauseScan(_Scan):
    SCHEMA: ClassVar[pa.Schema] = CAUSES_SCHEMA

    lakes: Sequence[RegionLake]
    times: TimeSlice

    def tables(self, ahead: Ahead) -> Iterator[pa.Table]:
        del ahead
        for lake in self.lakes:
            with naming(lake.region):
                index = CauseIndexes(objects=lake.objects).newest()
                if not index.is_of(generations_of(lake.view.items)):
                    continue
                source = CauseSource(region=lake.region, objects=lake.objects, index=index)
                for day_s in sorted(index.days):
                    self.state.stop.check()
                    yield from self._day(source, day_s)

    def _day(self, source: CauseSource, day_s: int) -> Iterator[pa.Table]:
        times = self.times
        if day_s + DAY_S <= times.from_s or day_s >= times.to_s:
            return
        names = self._looked_at()
        stored = {_RENAMED.get(name, name) for name in names} - {"workload", "region"}
        more = ("cause", "own_hour") if "workload" in names else ("own_hour",) if "corrects" in names else ()
        for table in source.tables(day_s, tuple(dict.fromkeys((*stored, "hour", *more)))):
            hour = table.column("hour")
            within = table.filter(pc.and_(pc.greater_equal(hour, times.from_s), pc.less(hour, times.to_s)))
            columns = [self._column(name, within, source) for name in names]
            found = pa.table(columns, schema=pa.schema([CAUSES_SCHEMA.field(name) for name in names]))
            yield (found if self.where is None else found.filter(self.where)).select(self.columns)

    @staticmethod
    def _column(name: str, table: pa.Table, source: CauseSource) -> pa.ChunkedArray | pa.Array:
        if name == "region":
            return pa.repeat(pa.scalar(source.region), table.num_rows)
        if name == "workload":
            return source.workloads(table).cast(_NAMED)
        column = table.column(_RENAMED.get(name, name))
        if name == "corrects":
            corrected = pc.not_equal(column, table.column("hour"))
            column = pc.if_else(corrected, column, pa.scalar(None, pa.int64()))
        if name in {"hour", "corrects"}:
            column = pc.multiply(column, SECOND_US)
        return column.cast(CAUSES_SCHEMA.field(name).type)


class LakeCauses(Scannable):
    """Parts of usage by their causes, in regions. Nothing is read before the first scan."""

    SCAN = _CauseScan

    def __init__(self, lakes: Sequence[RegionLake], state: ScanState, times: TimeSlice) -> None:
        super().__init__((), state)
        self._scan = partial(self._scan, lakes=lakes, times=times)


# These exceptions quote the statement and the names of the views, but no data.
_OF_THE_STATEMENT = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
# Matches the end of a message: the line of the statement, and a caret below the position.
_PLACE = re.compile(r"\n\nLINE \d+: [^\n]*\n *\^+\s*\Z")
_UNKNOWN_NAME = re.compile(r"Referenced (column|table)|Table with name|does not have a column|No matching columns")
_NAMES = 'The views are transfers, usage and causes. To see the columns of one: metering query "DESCRIBE transfers".'


class QueryError(OperationFailedError):
    """DuckDB refuses a query. The message has the lines that DuckDB prints; line breaks in data are escaped."""


def refusal(error: duckdb.Error) -> QueryError:
    """Convert DuckDB's error to a `QueryError`, which suggests names only if a name is wrong."""
    text = str(error)
    if isinstance(error, _OF_THE_STATEMENT):
        return QueryError(text, _NAMES if _UNKNOWN_NAME.search(text.partition("LINE ")[0]) else "")
    place = _PLACE.search(text)
    head, end = (text, "") if place is None else (text[: place.start()], place[0])
    # A quoted value may contain line ends, and could look like another message.
    return QueryError(head.replace("\r", "\\r").replace("\n", "\\n") + end)


def expect_one_statement(sql: str) -> None:
    """Refuse several statements, because DuckDB would return only the last result.

    Raises:
        QueryError: The text is not exactly one statement, or DuckDB cannot parse it.
    """
    try:
        statements = len(duckdb.extract_statements(sql))
    except duckdb.Error as error:
        raise refusal(error) from error
    if statements != 1:
        raise QueryError(f"The query has {statements or 'no'} statement{'s' * (statements > 1)}.", "Write exactly one.")


Row = tuple[object, ...]

# Maximum number of rows in memory.
PART_ROWS = 10_000


class StoredRows(Sequence[Row]):
    """A result's rows, in order. Only part of the rows is in memory. Mutable until all rows are added.

    If there are many rows, they are written to an unnamed file below TMPDIR, so no file is left behind.
    """

    def __init__(self) -> None:
        self._memory: list[Row] = []
        self._places: list[int] = []
        self._stored = 0
        self._file: IO[bytes] | None = None

    def add(self, rows: list[Row]) -> None:
        """Add rows at the end.

        Raises:
            OSError: The disk is full, or a similar failure.
        """
        if self._memory:
            self._store(self._memory)
        self._memory = rows

    def __len__(self) -> int:
        return self._stored + len(self._memory)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return list(islice(self, *place.indices(len(self))))
        index = place + len(self) if place < 0 else place
        for value in islice(self, max(index, 0), None):
            if index >= 0:
                return value
        raise IndexError(place)

    def __iter__(self) -> Iterator[Row]:
        for place in self._places:
            yield from self._part(place)
        yield from self._memory

    def _part(self, place: int) -> list[Row]:
        if self._file is None:
            return []
        # Several readers may be active, so each reader seeks its own position again.
        self._file.seek(place)
        return cast("list[Row]", pickle.load(self._file))  # noqa: S301  # this process wrote it, to a file that has no name

    def _store(self, rows: list[Row]) -> None:
        if self._file is None:
            self._file = TemporaryFile(prefix="metering-result-")  # noqa: SIM115  # it lives as long as the rows
            weakref.finalize(self, self._file.close)
        self._places.append(self._file.seek(0, 2))
        pickle.dump(rows, self._file, pickle.HIGHEST_PROTOCOL)
        self._file.flush()
        self._stored += len(rows)


# Several files of an hour may have totals for the same key.
_TOTALS = "_totals"
_USAGE = """
CREATE VIEW usage AS
SELECT hour, account_id, usage_type, service, from_location, to_location, corrects,
       sum(bytes::HUGEINT) AS bytes, sum(records::HUGEINT)::BIGINT AS records, region
FROM _totals GROUP BY ALL
"""

DEFAULT_TIMEOUT_S = 10 * MINUTE_S
# A stopped query may take this many seconds to end. After that, its threads are abandoned until the process ends.
_GRACE_S = 1
# Errors that the statement did not cause: the machine has too little memory or disk space.
_MACHINE_ERRORS = (duckdb.IOException, duckdb.OutOfMemoryException)


class QueryStoppedError(OperationFailedError):
    """A query was aborted: it ran too long, or this machine has too little disk or memory for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """Column names, DuckDB types, and rows of Python values (integers of any size), most of which may be on disk.

    `parts` is the number of objects that have rows of the requested times; 0 if no row is booked at these times.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]
    rows: StoredRows
    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionLake:
    """The lake of a region."""

    region: str
    view: LakeView
    objects: ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeQuery:
    """Runs analysts' queries on one or several regions, with a given number of threads or one thread per core."""

    lakes: Sequence[RegionLake]
    threads: int | None = None

    def run(
        self,
        sql: str,
        *,
        from_s: int = 0,
        to_s: int | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        with_canary: bool = False,
        zone: tzinfo = UTC,
    ) -> QueryResult:
        """Run one statement on the rows of `[from_s, to_s)`; each hour is interval-exact.

        Even if a read or DuckDB blocks, the call ends after `timeout_s`, and immediately on Ctrl-C. `zone` applies to
        times without a zone in the statement, and to times in the result.

        Raises:
            QueryError: The statement is wrong.
            QueryStoppedError: The query took longer than `timeout_s`, or the machine lacks disk or memory.
            MeteringError: The ledger or an object could not be read.
        """
        times = TimeSlice(from_s=from_s, to_s=_END_S if to_s is None else to_s)
        try:
            with TemporaryDirectory(prefix="metering-query-", ignore_cleanup_errors=True) as name:
                run = _Run(query=self, sql=sql, scratch=Path(name), times=times, with_canary=with_canary, zone=zone)
                return run.within(timeout_s)
        except OSError as error:
            raise _too_little(f"{error.strerror or error}") from error


# The last hour with a label: 9999-12-31T23.
_END_S = 253_402_297_200


@dataclass(slots=True, kw_only=True)
class _Run:
    """A running statement. Mutable. The calling thread only waits, so a read that hangs cannot block it."""

    query: LakeQuery
    sql: str
    scratch: Path
    times: TimeSlice
    with_canary: bool
    zone: tzinfo
    stop: Stop = field(default_factory=Stop)
    connection: duckdb.DuckDBPyConnection | None = None

    def within(self, timeout_s: float) -> QueryResult:
        answer = in_thread(self._answer)
        try:
            return answer.result(timeout=min(timeout_s, TIMEOUT_MAX))
        except StillWaiting as error:
            if answer.done():
                raise
            raise QueryStoppedError(
                f"The query took longer than {timeout_s:g} s and was stopped.",
                "Ask for fewer hours with --from and --to, or give it longer: --timeout 1h.",
            ) from error
        finally:
            self._end(answer)

    def _end(self, answer: Future[QueryResult]) -> None:
        self.stop.set()
        if not answer.done():
            if self.connection is not None:
                self.connection.interrupt()
            wait([answer], timeout=_GRACE_S)

    def _answer(self) -> QueryResult:
        state = ScanState(stop=self.stop)
        parts = self._parts()
        lake = LakeRows(parts, state, with_canary=self.with_canary)
        totals = LakeTotals(parts, state, with_canary=self.with_canary)
        causes = LakeCauses(self.query.lakes, state, self.times)
        with self._connected(lake, totals, causes) as connection:
            try:
                # Contrary to DuckDB's type stubs, a text of only spaces and comments returns no cursor.
                cursor = cast("duckdb.DuckDBPyConnection | None", connection.execute(self.sql))
                if cursor is None:
                    raise QueryError("It has no statement.")
                rows = _taken(cursor)
            except duckdb.Error as error:
                if state.error is not None:
                    raise state.error from error
                if isinstance(error, _MACHINE_ERRORS):
                    raise _too_little(str(error)) from error
                raise refusal(error) from error
            description = cursor.description or []
        return QueryResult(
            names=tuple(str(column[0]) for column in description),
            types=tuple(str(column[1]) for column in description),
            rows=rows,
            parts=len(parts),
        )

    @contextmanager
    def _connected(self, rows: LakeRows, totals: LakeTotals, causes: LakeCauses) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that has the views and cannot access anything else."""
        config: dict[str, str | bool | int | float | list[str]] = {"temp_directory": str(self.scratch / "spill")}
        if self.query.threads:
            config["threads"] = self.query.threads
        connection = duckdb.connect(config=config)
        try:
            # In an interactive interpreter, DuckDB writes its own progress bar into the data after two seconds.
            connection.execute("SET enable_progress_bar = false")
            connection.execute(f"SET TimeZone = '{self.zone}'")
            connection.register("transfers", scannable(rows))
            connection.register(_TOTALS, scannable(totals))
            connection.register("causes", scannable(causes))
            connection.execute(_USAGE)
            # SQL comes from people and scripts: it may read these views, but no files and no network resources.
            connection.execute("SET enable_external_access = false")
            connection.execute("SET lock_configuration = true")
            self.connection = connection
            yield connection
        finally:
            self.connection = None
            connection.close()

    def _parts(self) -> list[Part]:
        parts: list[Part] = []
        for lake in self.query.lakes:
            with naming(lake.region):
                for hour_s in lake.view.hours(from_s=hour_of(self.times.from_s), to_s=self.times.to_s):
                    self.stop.check()
                    parts += lake.view.read(hour_s, partial(self._hour_parts, lake))
        return parts

    def _hour_parts(self, lake: RegionLake, state: HourState) -> list[Part]:
        times = self.times if self.times.parts(state.hour_s) else None
        return [
            Part(
                region=lake.region,
                objects=lake.objects,
                key=source.key,
                hour_s=source.hour_s,
                local=self._fetched(lake, source) if source.staged else None,
                times=times,
                rows=source.rows,
                bytes=source.bytes,
            )
            for source in state.sources
        ]

    def _fetched(self, lake: RegionLake, source: RowSource) -> Path:
        """Fetch a staging object while its hour is read, because it may be deleted during the query."""
        # Each region names its objects independently of other regions.
        path = self.scratch / f"{lake.region}-{source.key.rpartition('/')[2]}"
        if not path.exists():
            path.write_bytes(lake.objects.get(source.key))
        return path


def _taken(cursor: duckdb.DuckDBPyConnection) -> StoredRows:
    rows = StoredRows()
    while part := cast("list[tuple[object, ...]]", cursor.fetchmany(PART_ROWS)):
        rows.add(part)
    return rows


def scannable(rows: object) -> Scannable:
    """Check that DuckDB gets a dataset of this module, because a dataset that opens files itself can hang forever.

    Raises:
        TypeError: The dataset has another class.
    """
    if isinstance(rows, Scannable) and type(rows) in (LakeRows, LakeTotals, LakeCauses):
        return rows
    raise TypeError(f"DuckDB scans LakeRows, LakeTotals and LakeCauses and nothing else, not {type(rows).__name__}")


def _too_little(detail: str) -> QueryStoppedError:
    return QueryStoppedError(
        f"This machine has too little disk or memory for the query: {detail}",
        "Set TMPDIR to a folder with more room, or ask for fewer hours with --from and --to.",
    )


# If a query has at most this many columns, all are needed; otherwise, its numbers and the first of the other columns.
_MOST_NEEDED_COLUMNS = 6
# DuckDB's number types that JSON might not hold exactly, or that are not counts.
_NUMBERS = frozenset(
    {"UHUGEINT", "UBIGINT", "UINTEGER", "USMALLINT", "UTINYINT", "SMALLINT", "TINYINT", "DOUBLE", "FLOAT"}
)


def result_answer(result: QueryResult) -> Answer:
    """DuckDB's rows, with unique column names. Rows are converted when they are read."""
    columns = tuple(_column(name, kind) for name, kind in zip(_distinct(result.names), result.types, strict=True))
    if len(columns) <= _MOST_NEEDED_COLUMNS:
        columns = tuple(replace(column, priority=KEEP) for column in columns)

    def shape(row: Row) -> Mapping[str, Cell]:
        return {column.name: _cell(column, value) for column, value in zip(columns, row, strict=True)}

    return Answer(columns=columns, rows=MappedRows(result.rows, shape), empty="The query found no rows.")


def _distinct(names: Sequence[str]) -> Iterator[str]:
    """Unique names: the second `bytes` of a join becomes `bytes_2`."""
    taken: set[str] = set()
    for name in names:
        others = (f"{name}_{number}" for number in count(2))
        free = next(candidate for candidate in chain([name], others) if candidate not in taken)
        taken.add(free)
        yield free


def _column(name: str, kind: str) -> Column:
    if kind == "HUGEINT" or (kind == "BIGINT" and "bytes" in name.lower()):
        return Column(name=name, kind="whole", priority=KEEP, sized="bytes" in name.lower())
    if kind in {"BIGINT", "INTEGER"}:
        return Column(name=name, kind="integer", priority=KEEP)
    form = _text_form(kind)
    return Column(name=name, text=form, priority=KEEP if form == "number" else USUAL)


def _text_form(kind: str) -> TextForm:
    """Text form of a value that JSON has as text. The lake's texts are ids and codes, which users copy."""
    if kind.startswith("TIMESTAMP"):
        return "time"
    return "number" if kind in _NUMBERS or kind.startswith("DECIMAL") else "copied"


def _cell(column: Column, value: object) -> Cell:
    """The value, or its digits as text if JSON might not represent the value exactly."""
    if isinstance(value, int) and column.kind != "text":
        return value
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.isoformat().replace("+00:00", "Z")
    return None if value is None else str(value)
