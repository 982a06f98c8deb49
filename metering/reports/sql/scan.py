"""The dataset that DuckDB scans: rows of lake files and staging objects, decoded by threads of our own.

Arrow's scanner and DuckDB open no file here. A Python file system below them can hang for ever: the scanner holds a
lock while it waits for the interpreter, and the thread that has the interpreter waits for that lock. So `Scannable`
only looks like a dataset: each scan gets a reader of its own, made of batches that our threads have read before.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from metering.errors import LedgerCorruptError, ObjectDamagedError, ObjectMissingError
from metering.lake.parquet.hour_rows import (
    HOUR_SCHEMA,
    TEXT_COLUMNS,
    RowGroups,
    decoding,
    instant,
    row_groups_of,
    taken,
)
from metering.lake.parquet.reader import Sums, halves_of, usage_of_sums
from metering.lake.parquet.usage_files import NAMES, USAGE_SCHEMA, total_of, usage_parquet
from metering.lake.ports import USAGE_QUERY, TimeSlice
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.reports.source import naming
from metering.reports.sql.ahead import Ahead, Stop
from metering.stores.objects import LAKE_PREFIX, ObjectStore, summary_key
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


_HOUR = pa.timestamp("us", tz="UTC")
_OF_PART = frozenset({"hour", "region"})
# Names keep the dictionary encoding of the files: decoding it took most of the time of a scan. Then come columns that
# no file has, whose values are constant within a part.
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
# A smaller row group counts as this many rows, so that not too many groups are read ahead.
_LEAST_ROWS = _ROWS_AHEAD // 32
_FORMAT = ds.ParquetFileFormat()
_ACCOUNT = "account_id"
_NOT_CANARY = pc.field(_ACCOUNT) != CANARY_ACCOUNT_ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Rows of one booked hour in one object, all or those of some times; a staging object was fetched to a local file.

    `rows` and `bytes` are those that the ledger has for all of its rows of the hour.
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
    """State that the scans of one query share, with the first error of a scan, of which DuckDB only quotes the text."""

    stop: Stop
    error: BaseException | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None and not isinstance(error, GeneratorExit) and self.error is None:
            self.error = error


class Scannable(ds.Dataset):  # type: ignore[misc]  # pyarrow has no types
    """What DuckDB takes for a dataset of Arrow's. Nothing of Arrow's is used but the name of its class.

    DuckDB calls `scanner` for each scan of a query, with the columns and the filter that it pushes down.
    """

    SCAN: ClassVar[type[_Scan]]

    # Arrow's constructor refuses direct calls and is not needed, because none of its dataset code is used.
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
    """One scan: some of the columns, and the rows that pass its filter."""

    SCHEMA: ClassVar[pa.Schema]

    parts: Sequence[Part]
    state: ScanState
    readers: int
    columns: Sequence[str]
    where: pc.Expression | None
    with_canary: bool

    def to_reader(self) -> pa.RecordBatchReader:
        """A reader of its own over the rows, which are read while DuckDB takes them."""
        schema = pa.schema([self.SCHEMA.field(name) for name in self.columns])
        return pa.RecordBatchReader.from_batches(schema, self._batches())

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with self.state, Ahead(self.readers, self.state.stop) as ahead:
            for table in self.tables(ahead):
                yield from table.to_batches(max_chunksize=_BATCH_ROWS)

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
        """Whether a row may be the canary's. Its account sorts before all others, so most groups say no."""
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
        """Rows of a group that pass the times and the filter."""
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

    def _looked_at(self) -> list[str]:
        """Columns of the result and of the filter. The filter's text names its columns; one too many does no harm."""
        words = set() if self.where is None else set(re.findall(r"\w+", str(self.where)))
        return [name for name in QUERY_SCHEMA.names if name in self.columns or name in words]

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
    """Row groups that may hold a row that passes the filter, judged by Arrow from the footer's statistics."""
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
    """The totals beside a lake file whose rows are all asked for, if they add up to the file's rows and bytes."""
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
    sums = Sums(USAGE_QUERY)
    for batch in LakeRows([part], state, readers=1, with_canary=True).scanner(_COUNTED).to_reader():
        rows = Sums(USAGE_QUERY)
        rows.add(halves_of(pa.Table.from_batches([batch]), USAGE_QUERY))
        sums.add(rows.table())
    return usage_of_sums(sums.table(), part.hour_s)
