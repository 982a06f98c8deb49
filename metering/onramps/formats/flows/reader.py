"""The reader of VPC flow logs, text or Parquet."""

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from metering.errors import LogFileRefusedError
from metering.onramps.formats import pieces
from metering.onramps.formats.flows.columns import (
    NUMBERS,
    WORDS,
    Layout,
    Rows,
    header_names,
    layout_of,
    numbers_of,
    parsed,
    unreadable,
)
from metering.onramps.formats.flows.judging import BlockMaker
from metering.onramps.formats.lines import MAX_TEXT_CHARS, BadLines, LineBlock, TakenLine, line_blocks, shown
from metering.onramps.formats.rows import (
    PARQUET_MAGIC,
    checked_batches,
    checked_footer,
    checked_pages,
    refusals,
    seekable,
)
from metering.onramps.reading import Block, FileName, FlowHop, ReadSettings, RefusedLine
from metering.onramps.reasons import FileReason, LineReason
from metering.units import INT64_MAX, MIB

# Every header contains this field name. The letter `y` is rare in all other lines.
_SIGN, _SIGN_LETTER = b"bytes", b"y"
_HEADER = TakenLine("", "", "")


class _Header(NamedTuple):
    """Header line of a block: its index, its first byte, and the byte after its last byte."""

    place: int
    start: int
    end: int
    names: tuple[str, ...]


class _Lines:
    """Lines of a block, beside the rows of the block. The text is split into lines only on request.

    `misfits` holds lines that did not become rows: index -> number of fields.
    """

    def __init__(self, block: LineBlock, misfits: Mapping[int, int], fields: int) -> None:
        self._block = block
        self._misfits = misfits
        self._fields = fields
        self._places = sorted(misfits)
        # The number of rows before each misfit, computed on first use.
        self._rows_before: list[int] = []
        self._texts: list[bytes] = []

    def of_row(self, row: int) -> tuple[int, str]:
        """Line number of a row in the file, and the text of the line."""
        if not self._rows_before:
            self._rows_before = [place - count for count, place in enumerate(self._places)]
        place = row + bisect_right(self._rows_before, row)
        return self._block.number(place), self._text(place)

    def counts(self) -> dict[str, int]:
        """Number of lines that did not become rows, by reason, including empty lines that are not in the data."""
        taken = Counter(line.reason for line in self._block.taken.values())
        misfits = len(self._places) - taken.total() + self._block.empty
        return {
            reason: lines for reason, lines in {**taken, LineReason.FIELD_COUNT: misfits}.items() if reason and lines
        }

    def refused(self) -> Iterator[RefusedLine]:
        """Refused lines that did not become rows, in order, without lines that are not in the data."""
        for place in self._places:
            number, taken = self._block.number(place), self._block.taken.get(place)
            if taken is None:
                detail = f"{self._misfits[place]} fields, and the header names {self._fields}"
                yield RefusedLine(number, LineReason.FIELD_COUNT, detail, self._text(place), 0)
            elif taken.reason:
                yield RefusedLine(number, taken.reason, taken.detail, taken.text, 0)

    def _text(self, place: int) -> str:
        if not self._texts:
            self._texts = self._block.data.split(b"\n")
        return shown(self._texts[place])


class FlowText:
    """Reads one file of text. `read` yields its blocks, once."""

    def __init__(
        self, stream: BinaryIO, name: FileName, settings: ReadSettings, digest: Callable[[bytes], object]
    ) -> None:
        self._name = name
        self._settings = settings
        self._pieces = pieces.Pieces(stream, settings, digest)
        self._maker = BlockMaker(name, settings)
        self._bad = BadLines(settings.max_bad_lines)
        self._layout: Layout | None = None
        if settings.fields:
            self._layout = layout_of(settings.fields, account_id=name.account_id)

    def read(self) -> Iterator[Block[FlowHop]]:
        settings = self._settings
        for block in line_blocks(
            self._pieces, block_bytes=settings.block_bytes, max_line_bytes=settings.max_line_bytes
        ):
            for section in self._sections(block):
                self._read(section)
            yield from self._maker.full(self._pieces.read_bytes)
        yield from self._maker.last(self._pieces.read_bytes)

    def _sections(self, block: LineBlock) -> Iterator[LineBlock]:
        """Split a block where a header names other fields, and remove headers. Sets the layout of each section."""
        place, start = 0, 0
        headers: list[_Header] = []
        for header in _headers(block):
            self._bad.add()
            names = self._layout.names if self._layout is not None else ()
            if header.names != names:
                if header.start > start:
                    yield _section(block, (place, start), (header.place, header.start), headers)
                    place, start, headers = header.place, header.start, []
                self._layout = layout_of(header.names, account_id=self._name.account_id)
            headers.append(header)
        yield _section(block, (place, start), (block.lines, len(block.data)), headers)

    def _read(self, block: LineBlock) -> None:
        layout = self._layout
        if layout is None:
            self._check_no_lines(block)
            raise LogFileRefusedError(FileReason.NO_HEADER, "no line of the file could be read")
        rows, misfits = parsed(block.data, layout, block.letters)
        header = sum(not taken.reason for taken in block.taken.values())
        # Headers have already been counted, and empty lines have no fields.
        self._bad.add(sum(map(bool, misfits.values())) - header)
        lines = _Lines(block, misfits, len(layout.names))
        self._maker.add(
            rows,
            fields=layout.names,
            header=header,
            misfits=lines.counts(),
            refused=lines.refused(),
            place=lines.of_row,
        )

    def _check_no_lines(self, block: LineBlock) -> None:
        lines = block.data.split(b"\n", len(block.taken) + 1)
        first = next((line for place, line in enumerate(lines[:-1]) if place not in block.taken), None)
        if first is not None:
            raise LogFileRefusedError(
                FileReason.NO_HEADER,
                f"the first line names no fields: {shown(first)[:120]!r}. Give the fields of the log, in order.",
            )


def _headers(block: LineBlock) -> Iterator[_Header]:
    data = block.data
    at = 0
    place, counted = 0, 0
    if block.first == 1:
        # If the first header has no field `bytes`, the file is refused for that reason.
        end = data.index(b"\n")
        names = header_names(data[:end].decode().lstrip("\ufeff"))
        if names is not None:
            yield _Header(0, 0, end, names)
            at = end
    if _SIGN_LETTER not in block.letters:
        return
    while (found := data.find(_SIGN, at)) >= 0:
        start, at = data.rfind(b"\n", 0, found) + 1, data.index(b"\n", found)
        names = header_names(data[start:at].decode())
        if names is not None:
            place += data.count(b"\n", counted, start)
            counted = start
            yield _Header(place, start, at, names)


def _section(block: LineBlock, begin: tuple[int, int], end: tuple[int, int], headers: list[_Header]) -> LineBlock:
    """Lines of a block between two positions `(place, byte)`, without the headers."""
    place, start = begin
    section = block.part(begin, end) if place or end[0] < block.lines else block
    section.take([(each.place - place, each.start - start, each.end - start, _HEADER) for each in headers])
    return section


_ACCOUNT_DIGITS = 12
# Besides null, texts that writers use for an absent value. `None` comes from Python's `str`.
_ABSENT = frozenset(("-", "", "None"))
# Path 0 does not exist: where a text column has `-`, an integer column has 0.
_NO_PATH = frozenset(("0",))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts, dictionary-encoded or not. A column without values may have any type."""
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return any(is_kind(values) for is_kind in kinds)


def text_column(column: pa.Array, attribute: str) -> pa.DictionaryArray:
    """A column as texts. Integers become texts, accounts get 12 digits, and absent values become null."""
    folded = _folded(column)
    words = [None if word is None else str(word) for word in folded.dictionary.to_pylist()]
    if attribute == "account_id" and not is_text(column.type):
        words = [None if word is None else word.zfill(_ACCOUNT_DIGITS) for word in words]
    absent = _ABSENT | _NO_PATH if attribute == "path" else _ABSENT
    indices = _without(folded.indices, [place for place, word in enumerate(words) if word is None or word in absent])
    return pa.DictionaryArray.from_arrays(indices, pa.array([word or "" for word in words], pa.string()))


def number_column(column: pa.Array) -> tuple[pa.Int64Array, pa.BooleanArray | None]:
    """A column as int64, null for anything but a 64-bit number; and the mask of rows with a non-numeric text."""
    if is_text(column.type):
        texts = text_column(column, "").cast(pa.string())
        numbers = numbers_of(texts)
        return numbers, unreadable(texts, numbers)
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.timestamp("s"), safe=False).cast(pa.int64()), None
    if pa.types.is_uint64(column.type):
        large = pc.greater(column, pa.scalar(INT64_MAX, pa.uint64())).fill_null(False)
        numbers = pc.if_else(large, None, column).cast(pa.int64())
        return numbers, large if large.true_count else None
    return column.cast(pa.int64()), None


def _folded(column: pa.Array) -> pa.DictionaryArray:
    """Encode with a dictionary no larger than the batch: the dictionary of a row group may be far larger."""
    if pa.types.is_null(column.type):
        column = column.cast(pa.string())
    if not pa.types.is_dictionary(column.type):
        return column.dictionary_encode().cast(pa.dictionary(pa.int32(), column.type))
    if len(column.dictionary) <= len(column):
        return column.cast(pa.dictionary(pa.int32(), column.type.value_type))
    used = pc.unique(column.indices).drop_null()
    return pa.DictionaryArray.from_arrays(
        pc.index_in(column.indices, used), column.dictionary.take(used).cast(WORDS.value_type)
    )


def _without(indices: pa.Int32Array, places: Sequence[int]) -> pa.Int32Array:
    if not places:
        return indices
    gone = pc.is_in(indices, pa.array(places, pa.int32()))
    return pc.if_else(gone, None, indices)


# VPC flow logs as Parquet. Columns have AWS's names with `_` instead of `-`. The columns hold numbers or texts,
# depending on the writer. AWS writes texts as STRING, and numbers as INT_32 and INT_64. Other tools write numbers as
# texts and accounts as integers, which lose leading zeros: integers are padded to 12 digits. An account text of 11
# digits is refused, because the missing digit may be any of the 12.

_BATCH_ROWS = 32_768
_BUFFER_BYTES = MIB


def _read_parquet(
    stream: BinaryIO, name: FileName, settings: ReadSettings, digest: Callable[[bytes], object]
) -> Iterator[Block[FlowHop]]:
    maker = BlockMaker(name, settings)
    with seekable(stream, digest) as file:
        rows, chunks = checked_footer(file, settings)
        with refusals():
            schema = pq.ParquetFile(pa.PythonFile(file, mode="r")).schema_arrow
        columns, layout = _columns(schema, name)
        if not rows:
            # In a file without rows, some writers leave invalid column chunks.
            return
        texts = [name for name in columns.values() if is_text(schema.field(name).type)]
        wanted = set(columns.values())
        folded = checked_pages(file, [chunk for chunk in chunks if chunk.path in wanted], texts, settings)
        size_bytes = file.seek(0, 2)
        done = 0
        for batch in _batches(file, list(columns.values()), [name for name in texts if folded.get(name)]):
            _add(maker, batch, columns, layout, first=done + 1)
            done += batch.num_rows
            yield from maker.full(size_bytes * done // rows)
        yield from maker.last(size_bytes)


def _columns(schema: pa.Schema, name: FileName) -> tuple[dict[str, str], Layout]:
    """Field name -> column to read; and the layout.

    Raises:
        LogFileRefusedError: A field that metering requires is missing, occurs twice, or has an impossible type.
    """
    layout = layout_of([name.replace("_", "-") for name in schema.names], account_id=name.account_id)
    names = dict(zip(layout.names, schema.names, strict=True))
    columns = {field: names[field] for field in (*layout.texts, *NUMBERS)}
    for field, column in columns.items():
        kind = schema.field(schema.names.index(column)).type
        if not (is_text(kind) or pa.types.is_integer(kind) or (field in NUMBERS and pa.types.is_timestamp(kind))):
            raise LogFileRefusedError(FileReason.WRONG_FORMAT, f"{column} is {kind}, not a text or an integer")
    return columns, layout


def _add(maker: BlockMaker, batch: pa.RecordBatch, columns: Mapping[str, str], layout: Layout, *, first: int) -> None:
    if not batch.num_rows:
        return

    def place(row: int) -> tuple[int, str]:
        values = batch.slice(row, 1).to_pylist()[0]
        return first + row, json.dumps(values, default=str)[:MAX_TEXT_CHARS]

    with refusals():
        size, unread = number_column(batch.column(columns["bytes"]))
        start, end = (number_column(batch.column(columns[name]))[0] for name in ("start", "end"))
        words = {target: text_column(batch.column(columns[name]), target) for name, target in layout.texts.items()}
    rows = Rows(count=batch.num_rows, words=words, bytes=size, start=start, end=end, unreadable=unread)
    maker.add(rows, fields=layout.names, header=0, misfits={}, refused=(), place=place)


def _batches(file: IO[bytes], columns: list[str], folded: list[str]) -> Iterator[pa.RecordBatch]:
    with refusals():
        parquet = pq.ParquetFile(pa.PythonFile(file, mode="r"), read_dictionary=folded, buffer_size=_BUFFER_BYTES)
    yield from checked_batches(parquet, columns, _BATCH_ROWS)


def read_flow_log(
    stream: BinaryIO, name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object] = len
) -> Iterator[Block[FlowHop]]:
    """Read a VPC flow log (`LogReader`). If the name does not show Parquet, the first bytes do.

    Raises:
        LogFileRefusedError: The file as a whole is unreadable; blocks already returned are void.
    """
    start, whole = pieces.peeked(stream)
    if name.parquet or start in PARQUET_MAGIC:
        yield from _read_parquet(whole, name, settings, digest)
    else:
        yield from FlowText(whole, name, settings, digest).read()
