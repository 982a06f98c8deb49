"""Rows of one hour as Arrow tables. All strings are dictionary-encoded, as in the Parquet files."""

import io
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metering.errors import ObjectDamagedError
from metering.intake.admission import SECOND_US
from metering.lake.ports import LAKE_COLUMNS, TimeSlice
from metering.units import HOUR_S, KIB

# Arrow schemas of staging objects and lake files.
#
# A lake file has the eleven columns of docs/contract.md. A staging object also has the booked hour, because a late
# record of a closed month is booked in an hour other than that of its start (docs/protocol.md, period close).


_NAME = pa.dictionary(pa.int32(), pa.string())
INSTANT = pa.timestamp("us", tz="UTC")
"""Type of the lake's times."""

# Types of some columns. All other columns contain repeated names, so they are dictionary-encoded.
_TYPES: dict[str, pa.DataType] = {
    "resource_id": pa.string(),
    "bytes": pa.int64(),
    "start_time": INSTANT,
    "end_time": INSTANT,
}

BOOKED_HOUR = "booked_hour"
"""Hour in which a row counts: epoch seconds, int64."""

LAKE_SCHEMA = pa.schema([pa.field(name, _TYPES.get(name, _NAME), nullable=False) for name in LAKE_COLUMNS])
"""The lake's columns; those whose values repeat are dictionary-encoded."""

STAGING_SCHEMA = LAKE_SCHEMA.append(pa.field(BOOKED_HOUR, pa.int64(), nullable=False))
"""`LAKE_SCHEMA` and the booked hour. Rows are sorted by booked hour; a row group has rows of one hour only."""


# Parquet files. The calling thread itself reads the row groups, in a small number of reads.
#
# Arrow's own read-ahead would run in Arrow's threads. A thread of Arrow may hold the Python stream after its read ends;
# if the process exits at that moment, it aborts with "terminate called without an active exception" (apache/arrow,
# issues 33975 and 34314). So no thread of Arrow ever gets a Python stream here.


# Columns closer than this are read in one request, as Arrow's read-ahead would do: a request costs more than the gap.
_GAP_BYTES = 8 * 1024
# No read is longer than this, so that memory contains at most one row group in addition to its table.
_SPAN_BYTES = 32 * 1024 * 1024


class RowGroups:
    """A Parquet file that is read by row groups.

    Args:
        encoded: Columns that stay dictionary-encoded when read.
        metadata: The footer, if it was already read.
    """

    def __init__(
        self, source: BinaryIO | bytes, encoded: Sequence[str] = (), *, metadata: pq.FileMetaData | None = None
    ) -> None:
        self._spans = _Spans(io.BytesIO(source) if isinstance(source, bytes) else source)
        self._file = pq.ParquetFile(self._spans, metadata=metadata, read_dictionary=list(encoded), pre_buffer=False)

    @property
    def metadata(self) -> pq.FileMetaData:
        return self._file.metadata

    @property
    def schema(self) -> pa.Schema:
        return self._file.schema_arrow

    def read(self, number: int, columns: Sequence[str]) -> pa.Table:
        """Some columns of a row group, in the file's order."""
        self._spans.fetch(list(_ranges(self.metadata.row_group(number), frozenset(columns))))
        return self._file.read_row_group(number, columns=list(columns), use_threads=False)

    def read_some(self, numbers: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Some columns of some row groups, concatenated."""
        return self._file.read_row_groups(list(numbers), columns=list(columns), use_threads=False)

    def read_all(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Some columns of the whole file; all columns, if `columns` is None."""
        return self._file.read(columns=None if columns is None else list(columns), use_threads=False)


def _ranges(group: pq.RowGroupMetaData, columns: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Start and end of each byte range that must be read for the columns."""
    chunks = (group.column(number) for number in range(group.num_columns))
    places = sorted(_place(chunk) for chunk in chunks if chunk.path_in_schema in columns)
    if not places:
        return
    first, last = places[0]
    for start, end in places[1:]:
        if start - last > _GAP_BYTES or end - first > _SPAN_BYTES:
            yield first, last
            first = start
        last = end
    yield first, last


def _place(chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    # If a column chunk has a dictionary page, the chunk begins with it.
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    return start, start + chunk.total_compressed_size


class _Spans(io.RawIOBase):
    """A stream that serves reads from prefetched byte ranges, and fetches other bytes on demand."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._spans: list[tuple[int, bytes]] = []
        self._place = 0

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Fetch byte ranges, each with one read, and discard ranges fetched before."""
        self._spans = []
        for first, end in ranges:
            self._stream.seek(first)
            self._spans.append((first, self._stream.read(end - first)))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            self._place = self._stream.seek(offset, io.SEEK_END)
        else:
            self._place = offset + (self._place if whence == io.SEEK_CUR else 0)
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1, /) -> Any:
        """Bytes from the current position on."""
        data = self._found(size)
        if data is None:
            self._stream.seek(self._place)
            data = self._stream.read(size)
        self._place += len(data)
        return data

    def _found(self, size: int) -> bytes | None:
        for first, span in self._spans:
            if size >= 0 and first <= self._place and self._place + size <= first + len(span):
                return span[self._place - first : self._place - first + size]
        return None


# If only part of a staging object is needed, the first read fetches this many bytes from its end. Most objects are not
# larger than this. In a larger object, the last part contains the footer, and a second request reads the hour's rows.
STAGED_END_BYTES = 256 * KIB

# Columns of the lake, with dictionary encoding for every string column.
HOUR_SCHEMA = pa.schema([each.with_type(_NAME) if pa.types.is_string(each.type) else each for each in LAKE_SCHEMA])
TEXT_COLUMNS = tuple(field.name for field in HOUR_SCHEMA if pa.types.is_dictionary(field.type))


@contextmanager
def decoding(key: str) -> Iterator[None]:
    """Turn Arrow's decoding errors into an error that names the object.

    Raises:
        ObjectDamagedError: The object cannot be decoded.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise ObjectDamagedError(key, str(error)) from error


def row_groups_of(file: RowGroups, hour_s: int) -> list[int]:
    """Numbers of a staging object's row groups for one booked hour; each group has rows of only one hour."""
    metadata = file.metadata
    column = file.schema.get_field_index(BOOKED_HOUR)
    groups = []
    for number in range(metadata.num_row_groups):
        statistics = metadata.row_group(number).column(column).statistics
        if statistics.min == hour_s == statistics.max:
            groups.append(number)
    return groups


def staged_hour(file: RowGroups, hour_s: int, *, whole: bool) -> pa.Table:
    """Rows of a staging object that are booked in an hour, in `HOUR_SCHEMA`.

    Args:
        file: The object, opened with `TEXT_COLUMNS`.
        hour_s: The booked hour.
        whole: Whether the whole object is in memory; if not, only the rows of the hour are read.
    """
    groups = row_groups_of(file, hour_s)
    if whole or not groups:
        table = file.read_some(groups, HOUR_SCHEMA.names)
    else:
        table = pa.concat_tables([file.read(number, HOUR_SCHEMA.names) for number in groups])
    # The file's metadata, such as its markers, is not part of the rows.
    return table.replace_schema_metadata()


# Metadata that staging objects and lake files carry beside their rows (P50). Values are text, as Parquet prescribes.

_MARKERS = b"metering.markers"
_PLAN = "metering.plan"


def markers_metadata(markers: bytes) -> dict[bytes, bytes]:
    """Metadata of a staging object with the markers of its batches."""
    return {_MARKERS: b64encode(markers)}


def staged_markers(file: RowGroups) -> bytes:
    """Markers of the batches in a staging object; empty if an earlier release wrote the object."""
    return b64decode((file.metadata.metadata or {}).get(_MARKERS, b""))


def plan_metadata(plan_key: str) -> dict[str, str]:
    """Metadata of a lake file that names the plan by which the file was made."""
    return {_PLAN: plan_key}


def plan_of(file: RowGroups) -> str:
    """Key of the plan by which a lake file was made; empty if an earlier release wrote the file."""
    found: bytes = (file.metadata.metadata or {}).get(_PLAN.encode(), b"")
    return found.decode()


def instant(epoch_s: int) -> pa.Scalar:
    """A time as a value of the lake's time columns."""
    return pa.scalar(epoch_s * SECOND_US, INSTANT)


def taken(times: TimeSlice, hour_s: int) -> pc.Expression:
    """`TimeSlice.takes` as an Arrow expression over a table of rows booked in one hour."""
    start = pc.field("start_time")
    own = (start >= instant(hour_s)) & (start < instant(hour_s + HOUR_S))
    inside = own & (start >= instant(times.from_s)) & (start < instant(times.to_s))
    return inside | ~own if times.takes_corrections(hour_s) else inside


# Rows of the lake are sorted by account, and then within a row group by resource and start.
#
# Readers select accounts, so an account's rows are adjacent in the whole file. The order within a row group is best for
# compression. Sort keys are integers made of ranks in sorted dictionaries: many times as fast as strings.


# A record's start takes 24 bits, as seconds from the booked hour, which covers 97 days in both directions. Farther
# starts are clamped.
_START_BITS = 24
_START_MIDDLE = 1 << (_START_BITS - 1)
# Larger dictionaries are reduced to the values in use.
_SMALL_DICTIONARY = 4_096


def one_chunk(tables: list[pa.Table]) -> pa.Table:
    """Concatenate tables; the result has one chunk and one dictionary for each column."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def by_account(table: pa.Table, hour_s: int) -> pa.Table:
    """Sort a one-chunk table by account and start: the order in which sorted runs are merged."""
    accounts, _ = _ranks(table, "account_id")
    key = pc.add(pc.shift_left(accounts, _START_BITS), start_offsets(table.column("start_time"), hour_s))
    return _in_order(table, key)


def by_resource(table: pa.Table, hour_s: int) -> pa.Table:
    """Sort a one-chunk table by account, resource and start: the order within a row group."""
    accounts, _ = _ranks(table, "account_id")
    resources, distinct = _ranks(table, "resource_id")
    place = pc.add(pc.multiply(accounts, distinct), resources)
    key = pc.add(pc.shift_left(place, _START_BITS), start_offsets(table.column("start_time"), hour_s))
    return _in_order(table, key)


def start_offsets(starts: pa.ChunkedArray | pa.Array, hour_s: int) -> pa.Array:
    """Seconds from the booked hour, shifted and clamped to 0 to 2^24 - 1."""
    array = starts.combine_chunks() if isinstance(starts, pa.ChunkedArray) else starts
    seconds = pc.divide(array.cast(pa.int64()), SECOND_US)
    moved = pc.subtract(seconds, hour_s - _START_MIDDLE)
    return pc.min_element_wise(pc.max_element_wise(moved, 0), 2 * _START_MIDDLE - 1)


def _ranks(table: pa.Table, name: str) -> tuple[pa.Array, int]:
    """Rank of each row's value among the sorted values of the column's dictionary, and the number of values."""
    column = table.column(name).chunk(0)
    order = pc.sort_indices(column.dictionary)
    rank = pc.sort_indices(order).cast(pa.int64())
    return rank.take(column.indices), len(rank)


def _in_order(table: pa.Table, key: pa.Array) -> pa.Table:
    indices = pc.sort_indices(key)
    columns = [_used(table.column(name).chunk(0).take(indices)) for name in HOUR_SCHEMA.names]
    return pa.table(columns, schema=HOUR_SCHEMA)


def _used(column: pa.Array) -> pa.Array:
    """Return the column without unused values, if its dictionary is large."""
    if not pa.types.is_dictionary(column.type) or len(column.dictionary) <= _SMALL_DICTIONARY:
        return column
    used = pc.unique(column.indices)
    if len(used) == len(column.dictionary):
        return column
    used = used.take(pc.sort_indices(used))
    indices = pc.index_in(column.indices, value_set=used)
    return pa.DictionaryArray.from_arrays(indices, column.dictionary.take(used))
