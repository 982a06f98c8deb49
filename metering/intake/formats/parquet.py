"""Reads Parquet records column by column. Checks first that footer and page headers bound the decoded size."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import IO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metering.errors import BatchRefusedError
from metering.hours import rfc3339
from metering.intake.admission import MAX_EPOCH_S, MIN_EPOCH_S, SECOND_US
from metering.intake.formats.assembly import RAW_CHARS, BatchAssembly, Columns, ExceptionEntry, HeadTable
from metering.intake.formats.columns import is_plain
from metering.intake.formats.parquet_footer import Chunk, pages, read_footer
from metering.intake.json_values import ascii_json, canonical_number
from metering.intake.records import (
    BYTES,
    END,
    LONG_START_CHARS,
    MAX_HEAD_CHARS,
    RESOURCE_ID,
    START,
    Head,
    HeadText,
    Integer,
    LongText,
    Undecodable,
    field_problems,
    value_bytes,
    value_start,
)
from metering.intake.work import Problem, ReadLimits, Reason, Work, problem, refusal
from metering.units import INT64_MAX, MIB

_WINDOW_ROWS = 256
DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
"""Decimals of a second in each of Arrow's units."""


class RowTexts:
    """Converts rows of a table to JSON. Refused rows are often adjacent, so a window of rows is converted at once."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._first = 0
        self._columns: dict[str, list[str | int | None]] = {}
        self._texts: dict[str, pa.Array] = {}

    def at(self, position: int) -> str:
        """JSON text of the row at a position."""
        if not self._columns or not 0 <= position - self._first < _WINDOW_ROWS:
            self._first = position
            window = self._table.slice(position, _WINDOW_ROWS)
            self._columns = {name: self._window(name, window.column(name)) for name in window.column_names}
        values = {name: column[position - self._first] for name, column in self._columns.items()}
        return ascii_json(json.dumps({name: value for name, value in values.items() if value is not None}))

    def _window(self, name: str, column: pa.ChunkedArray) -> list[str | int | None]:
        if pa.types.is_dictionary(column.type):
            if name not in self._texts:
                # Texts are cut to the length of evidence before the dictionary is decoded.
                whole = self._table.column(name).unify_dictionaries().combine_chunks()
                texts = pc.utf8_slice_codeunits(whole.dictionary, 0, RAW_CHARS)
                self._texts[name] = pa.DictionaryArray.from_arrays(whole.indices, texts)
            column = self._texts[name].slice(self._first, _WINDOW_ROWS)
        elif pa.types.is_string(column.type) and (pc.max(pc.binary_length(column)).as_py() or 0) > RAW_CHARS:
            column = pc.utf8_slice_codeunits(column, 0, RAW_CHARS)
        return _plain(column)


def _plain(column: pa.ChunkedArray | pa.Array) -> list[str | int | None]:
    if not pa.types.is_timestamp(column.type):
        values: list[str | int | None] = column.to_pylist()
        return values
    digits = DIGITS[column.type.unit]
    return [None if count is None else _moment(count, digits) for count in column.cast(pa.int64()).to_pylist()]


def _moment(count: int, digits: int) -> str:
    seconds, rest = divmod(count, 10**digits)
    if not MIN_EPOCH_S <= seconds <= MAX_EPOCH_S:
        return f"{count}e-{digits} s"
    fraction = f".{rest:0{digits}d}" if rest else ""
    return rfc3339(seconds).removesuffix("Z") + fraction + "Z"


_HEAD = ("account_id", "service", "direction", "from", "to", "usage_type")
# Resource ids are decoded in pieces of this many bytes, or of one row, so that long ids are freed between pieces.
_PIECE_BYTES = 4 * MIB


class TableIntake:
    """Passes the rows of tables to an assembly, with their problems and JSON texts."""

    def __init__(self, assembly: BatchAssembly) -> None:
        self._assembly = assembly
        self._text_bytes = 0

    def add(self, table: pa.Table, *, limit_bytes: int) -> None:
        """Add all rows of a table with the columns of a record; `usage_type` may be missing.

        Raises:
            BatchRefusedError: The expanded resource ids of this and earlier tables exceed `limit_bytes`, or the heads
                exceed the byte limit of a batch.
            OutOfTimeError: It takes too long.
        """
        ids = _Ids(table.column("resource_id"))
        self._text_bytes += ids.folded_bytes
        if self._text_bytes > limit_bytes:
            raise refusal(Reason.OBJECT_TOO_LARGE, f"more than {limit_bytes} bytes of text")
        head_index = _head_index(table, self._assembly.heads)
        for first, rows in ids.pieces():
            piece = table.slice(first, rows)
            self._add(_columns_of(piece, head_index[first : first + rows], ids.unfolded(first, rows)), piece)

    def _add(self, columns: Columns, table: pa.Table) -> None:
        exceptions = {(position, column): value for position, column, value in columns.exceptions}

        def problems_at(position: int) -> tuple[Problem, ...]:
            def integer(column: int, values: array[int]) -> Integer:
                value = exceptions.get((position, column), values[position])
                return None if isinstance(value, bytes) else value

            head = self._assembly.heads.heads[columns.head_index[position]]
            resource_id = None if (position, RESOURCE_ID) in exceptions else str(columns.resource_ids[position])
            return field_problems(
                head,
                resource_id,
                integer(BYTES, columns.sizes),
                (integer(START, columns.starts), integer(END, columns.ends)),
                admission=self._assembly.admission,
                sent_at_ms=self._assembly.sent_at_ms,
            )

        self._assembly.add(columns, problems_at=problems_at, raw_at=RowTexts(table).at)


class _Ids:
    """Resource ids of a table, expanded in pieces, because a dictionary can repeat one long string a million times.

    Attributes:
        folded_bytes: UTF-8 bytes of all ids of a dictionary column after expansion; 0 for a plain column.
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        if pa.types.is_dictionary(column.type):
            encoded = column.unify_dictionaries().combine_chunks()
            self._values, self._indices = encoded.dictionary.cast(pa.string()), encoded.indices
            self._lengths = pc.binary_length(self._values).take(self._indices)
            self.folded_bytes: int = pc.sum(self._lengths).as_py() or 0
        else:
            self._values, self._indices = column.cast(pa.string()).combine_chunks(), None
            self._lengths = pc.binary_length(self._values)
            self.folded_bytes = 0

    def pieces(self) -> Iterable[tuple[int, int]]:
        """First row and number of rows of each piece."""
        if (pc.sum(self._lengths).as_py() or 0) <= _PIECE_BYTES:
            return [(0, len(self._lengths))]
        pieces, first, size = [], 0, 0
        for position, length in enumerate(pc.fill_null(self._lengths, 0).to_pylist()):
            if size and size + length > _PIECE_BYTES:
                pieces.append((first, position - first))
                first, size = position, 0
            size += length
        return [*pieces, (first, len(self._lengths) - first)]

    def unfolded(self, first: int, rows: int) -> pa.Array:
        """Ids of some rows, expanded."""
        if self._indices is None:
            return self._values.slice(first, rows)
        return self._values.take(self._indices.slice(first, rows))


def _columns_of(table: pa.Table, head_index: array[int], resource_ids: pa.Array) -> Columns:
    exceptions: list[ExceptionEntry] = [(position, RESOURCE_ID, None) for position in _nulls(resource_ids)]
    resource_ids = pc.fill_null(resource_ids, "")
    resource_bytes = _data(resource_ids)
    sizes = _sizes(table.column("bytes"), exceptions)
    starts = _instants(table.column("start"), START, exceptions)
    ends = _instants(table.column("end"), END, exceptions)
    return Columns(
        head_index=head_index,
        resource_ids=resource_ids,
        lengths=_array("I", pc.binary_length(resource_ids)),
        resource_bytes=resource_bytes,
        doubtful_ids=_doubtful_ids(resource_ids, resource_bytes),
        sizes=sizes,
        starts=starts,
        ends=ends,
        exceptions=sorted(exceptions, key=lambda entry: entry[:2]),
    )


def _head_index(table: pa.Table, heads: HeadTable) -> array[int]:
    """Head number of each row. New heads get their numbers in the order of first appearance, as in `HeadTable`."""
    codes = pa.repeat(pa.scalar(0, pa.int64()), table.num_rows)
    distinct: list[tuple[HeadText, ...]] = [()]
    written: dict[LongText, tuple[bytes, memoryview]] = {}
    for name in _HEAD:
        if name not in table.column_names:
            distinct = [(*head, None) for head in distinct]
            continue
        indices, values = _indices(table.column(name), written)
        # This sum cannot overflow: there are no more codes than rows, and no more values than bytes in the file.
        encoded = pc.add(pc.multiply(codes, len(values)), indices).dictionary_encode()
        codes = encoded.indices.cast(pa.int64())
        distinct = [
            (*distinct[code // len(values)], values[code % len(values)]) for code in encoded.dictionary.to_pylist()
        ]
    numbers = pa.array([_number(cast("Head", head), heads, written) for head in distinct], pa.uint32())
    return _array("I", numbers.take(codes))


def _number(head: Head, heads: HeadTable, written: Mapping[LongText, tuple[bytes, memoryview]]) -> int:
    if not any(isinstance(text, LongText) for text in head):
        return heads.number(head)
    return heads.number_long(
        head,
        lambda: [
            part for text in head for part in (written[text] if isinstance(text, LongText) else (value_bytes(text),))
        ],
    )


def _indices(
    column: pa.ChunkedArray, written: dict[LongText, tuple[bytes, memoryview]]
) -> tuple[pa.Array, list[HeadText]]:
    """Each row's index in the distinct values (int64), and the distinct values; the last value is None, for nulls.

    A string longer than any valid string never becomes a Python string: `written` refers to Arrow's memory.
    """
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    whole = encoded.unify_dictionaries().combine_chunks()
    texts = whole.dictionary
    long = pc.fill_null(pc.greater(pc.utf8_length(texts), MAX_HEAD_CHARS), False)
    values: list[HeadText] = pc.if_else(long, "", texts).to_pylist()
    for place in _positions(long):
        text = memoryview(texts[place].as_buffer())
        begin = value_start(1, len(text))
        digest = sha256(begin)
        digest.update(text)
        # A character has at most 4 bytes, and the text may be cut within the last character.
        start = str(text[: 4 * LONG_START_CHARS], "utf-8", "ignore")[:LONG_START_CHARS]
        values[place] = value = LongText(start=start, digest=digest.digest(), decoded=True)
        written[value] = (begin, text)
    indices = pc.fill_null(whole.indices.cast(pa.int64()), len(values))
    return indices, [*values, None]


def _nulls(values: pa.Array) -> list[int]:
    return _positions(pc.is_null(values)) if values.null_count else []


def _positions(mask: pa.Array) -> list[int]:
    positions: list[int] = pc.indices_nonzero(mask).to_pylist()
    return positions


def _data(strings: pa.Array) -> memoryview:
    """UTF-8 bytes of all strings, concatenated."""
    _, offsets, data = strings.buffers()
    bounds = memoryview(offsets).cast("i")
    first, last = bounds[strings.offset], bounds[strings.offset + len(strings)]
    return memoryview(b"" if data is None else data)[first:last]


def _doubtful_ids(resource_ids: pa.Array, data: memoryview) -> Iterable[int]:
    if is_plain(data) or str(data, "utf-8").isprintable():
        return ()
    return [position for position, value in enumerate(resource_ids.to_pylist()) if not value.isprintable()]


def _sizes(column: pa.ChunkedArray, exceptions: list[ExceptionEntry]) -> array[int]:
    values = column.combine_chunks()
    if pa.types.is_uint64(values.type):
        over = pc.fill_null(pc.greater(values, pa.scalar(INT64_MAX, pa.uint64())), False)
        values = _except(values, over, BYTES, 0, exceptions)
    return _int64(values, BYTES, exceptions)


def _instants(column: pa.ChunkedArray, number: int, exceptions: list[ExceptionEntry]) -> array[int]:
    """Epoch microseconds of a column of timestamps, or of a column of integers (epoch seconds)."""
    values = column.combine_chunks()
    unit = values.type.unit if pa.types.is_timestamp(values.type) else "s"
    integer = values.type if pa.types.is_integer(values.type) else pa.int64()
    values = values.cast(integer)
    per_second = 10 ** DIGITS[unit]
    if not pa.types.is_uint64(integer):
        values = values.cast(pa.int64())
    limits = (MIN_EPOCH_S * per_second, (MAX_EPOCH_S + 1) * per_second - 1)
    outside = _outside(values, *limits)
    values = _except(values, outside, number, DIGITS[unit], exceptions).cast(pa.int64())
    values = _floor_divide(values, 1_000) if unit == "ns" else pc.multiply(values, SECOND_US // per_second)
    return _int64(values, number, exceptions)


def _outside(values: pa.Array, low: int, high: int) -> pa.Array:
    if pa.types.is_uint64(values.type):
        return pc.fill_null(pc.greater(values, pa.scalar(high, pa.uint64())), False)
    low, high = max(low, -INT64_MAX - 1), min(high, INT64_MAX)
    mask = pc.or_(pc.less(values, pa.scalar(low, pa.int64())), pc.greater(values, pa.scalar(high, pa.int64())))
    return pc.fill_null(mask, False)


def _except(values: pa.Array, mask: pa.Array, column: int, digits: int, exceptions: list[ExceptionEntry]) -> pa.Array:
    """`values` with 0 where `mask` is true; the JSON values at these rows become exceptions."""
    for position in _positions(mask):
        text = canonical_number(f"{values[position].as_py()}e-{digits}")
        exceptions.append((position, column, Undecodable(text)))
    return pc.if_else(mask, pa.scalar(0, values.type), values) if exceptions else values


def _floor_divide(values: pa.Array, divisor: int) -> pa.Array:
    quotient = pc.divide(values, divisor)
    behind = pc.less(values, pc.multiply(quotient, divisor))
    return pc.subtract(quotient, behind.cast(pa.int64()))


def _int64(values: pa.Array, column: int, exceptions: list[ExceptionEntry]) -> array[int]:
    exceptions += [(position, column, None) for position in _nulls(values)]
    return _array("q", pc.fill_null(values.cast(pa.int64()), 0))


def _array(typecode: str, values: pa.Array) -> array[int]:
    numbers: array[int] = array(typecode)
    width = numbers.itemsize
    data = values.buffers()[1]
    if data is not None:
        numbers.frombytes(memoryview(data)[values.offset * width : (values.offset + len(values)) * width])
    return numbers


TEXT_COLUMNS = ("account_id", "service", "resource_id", "direction", "from", "to", "usage_type")
TIME_COLUMNS = ("start", "end")
_ALL_COLUMNS = (*TEXT_COLUMNS, "bytes", *TIME_COLUMNS)
_OPTIONAL = frozenset(("usage_type",))
_MEMORY_BYTES = 64 * MIB
# Small row groups are read together, because each read has a fixed cost; larger ones are read one after another.
_TOGETHER_BYTES = 32 * MIB
_BUFFER_BYTES = MIB

# Values of the `Encoding` enum in parquet.thrift. Arrow can keep a column dictionary-encoded only if all its pages are
# dictionary or plain pages.
_DICTIONARIES = frozenset((2, 8))
_FOLDED = _DICTIONARIES | {0}
# A value may repeat the previous value, so a page of this encoding can expand without limit.
_DELTA_BYTE_ARRAY = 7


@contextmanager
def _spooled(pieces: Iterable[bytes]) -> Iterator[IO[bytes]]:
    with SpooledTemporaryFile(max_size=_MEMORY_BYTES) as file:
        for piece in pieces:
            file.write(piece)
        file.seek(0)
        yield file


def read_parquet(pieces: Iterable[bytes], assembly: BatchAssembly, limits: ReadLimits) -> int:
    """Read all records (`ObjectReader`). The whole file is loaded first, because Parquet is read from its end."""
    with _spooled(pieces) as file:
        return _read_file(file, assembly, limits)


def _read_file(file: IO[bytes], assembly: BatchAssembly, limits: ReadLimits) -> int:
    intake, work, limit_bytes = TableIntake(assembly), assembly.work, limits.object_bytes
    rows, chunks = read_footer(file)
    work.look()
    with _refusals():
        schema = pq.ParquetFile(pa.PythonFile(file, mode="r")).schema_arrow
        columns = _check(schema, rows, chunks, limits)
    if not rows:
        return 0
    chunks = [chunk for chunk in chunks if chunk.path in columns]
    encodings, group_bytes = _check_pages(file, chunks, limit_bytes, work)
    # Repeated texts stay folded.
    folded = [name for name in columns if _is_text(schema.field(name).type) and encodings[name] <= _FOLDED]
    size_bytes = 0
    with _refusals():
        parquet = pq.ParquetFile(pa.PythonFile(file, mode="r"), read_dictionary=folded, buffer_size=_BUFFER_BYTES)
    for groups in _together(group_bytes):
        work.look()
        with _refusals():
            table = _plain_texts(parquet.read_row_groups(groups, columns=columns, use_threads=False))
            table.validate(full=True)
        if table.num_rows:
            intake.add(table, limit_bytes=limit_bytes)
        size_bytes += int(table.nbytes)
    return size_bytes


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except pa.ArrowMemoryError:
        # The file is not refused, because a machine with more memory may be able to read it.
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise refusal(Reason.PARQUET_UNREADABLE, str(error)) from error


def _together(group_bytes: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of the row groups in order, grouped into lists that are read together."""
    groups: list[int] = []
    total = 0
    for number, size_bytes in enumerate(group_bytes):
        if groups and total + size_bytes > _TOGETHER_BYTES:
            yield groups
            groups, total = [], 0
        groups.append(number)
        total += size_bytes
    if groups:
        yield groups


def _check(schema: pa.Schema, rows: int, chunks: Sequence[Chunk], limits: ReadLimits) -> list[str]:
    """Columns to read.

    Raises:
        BatchRefusedError: The footer has problems; the error has all of them.
    """
    problems: list[Problem] = []
    if rows > limits.batch_records:
        problems.append(problem(Reason.TOO_MANY_RECORDS, f"{rows} rows, more than {limits.batch_records}"))
    columns = _check_columns(schema, problems)
    size = sum(max(chunk.unpacked_bytes, chunk.stored_bytes) for chunk in chunks if chunk.path in columns)
    if size > limits.object_bytes:
        detail = f"{size} bytes after decompression, more than {limits.object_bytes}"
        problems.append(problem(Reason.OBJECT_TOO_LARGE, detail))
    if problems:
        raise BatchRefusedError(problems)
    return columns


def _check_columns(schema: pa.Schema, problems: list[Problem]) -> list[str]:
    columns = []
    for name in _ALL_COLUMNS:
        found = schema.get_all_field_indices(name)
        if len(found) == 1:
            columns.append(name)
            kind = schema.field(found[0]).type
            if not _fits(name, kind):
                problems.append(problem(Reason.PARQUET_WRONG_TYPE, f"{name} is {kind}"))
        elif found:
            problems.append(problem(Reason.PARQUET_WRONG_TYPE, f"{name} comes {len(found)} times"))
        elif name not in _OPTIONAL:
            problems.append(problem(Reason.PARQUET_MISSING_COLUMN, name))
    return columns


def _check_pages(
    file: IO[bytes], chunks: Sequence[Chunk], limit_bytes: int, work: Work
) -> tuple[dict[str, set[int]], list[int]]:
    """Encodings of each column, and size of each row group.

    Raises:
        BatchRefusedError: A page's size is not bounded, or the pages exceed the byte limit.
        OutOfTimeError: It takes too long.
    """
    total = 0
    encodings: dict[str, set[int]] = {chunk.path: set() for chunk in chunks}
    group_bytes = [0] * (1 + max(chunk.group for chunk in chunks))
    for chunk in chunks:
        for page in pages(file, chunk, work):
            total += page.unpacked_bytes
            group_bytes[chunk.group] += max(page.unpacked_bytes, page.stored_bytes)
            if total > limit_bytes:
                raise refusal(Reason.OBJECT_TOO_LARGE, f"pages of more than {limit_bytes} bytes after decompression")
            if group_bytes[chunk.group] > work.limits.group_bytes:
                detail = f"a row group of more than {work.limits.group_bytes} bytes after decompression"
                raise refusal(Reason.OBJECT_TOO_LARGE, detail)
            if page.encoding is not None:
                encodings[chunk.path].add(page.encoding)
    for name, found in encodings.items():
        if name in TEXT_COLUMNS and (_DELTA_BYTE_ARRAY in found or (found & _DICTIONARIES and not found <= _FOLDED)):
            detail = f"{name}: encodings {sorted(found)}, use plain or dictionary pages"
            raise refusal(Reason.PARQUET_UNSUPPORTED, detail)
    return encodings, group_bytes


def _fits(name: str, kind: pa.DataType) -> bool:
    if name in TEXT_COLUMNS:
        # If an optional column has no values, writers give it the null type.
        return _is_text(kind) or (name in _OPTIONAL and bool(pa.types.is_null(kind)))
    return bool(pa.types.is_integer(kind) or (name in TIME_COLUMNS and pa.types.is_timestamp(kind)))


def _is_text(kind: pa.DataType) -> bool:
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(values) or pa.types.is_large_string(values) or pa.types.is_string_view(values))


def _plain_texts(table: pa.Table) -> pa.Table:
    for place, field in enumerate(table.schema):
        if field.name not in TEXT_COLUMNS or pa.types.is_string(field.type):
            continue
        kind = pa.string()
        if pa.types.is_dictionary(field.type):
            kind = pa.dictionary(pa.int32(), pa.string())
        if kind != field.type:
            table = table.set_column(place, field.name, table.column(place).cast(kind))
    return table
