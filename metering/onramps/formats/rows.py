"""Reads logs row by row: the log kind's `judge` function counts each line in a tally.

A Parquet log is checked before Arrow reads it; its file is hashed once, and read from its end.
"""

import errno
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, BinaryIO, Generic, NamedTuple, Protocol, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from metering.errors import BatchRefusedError, LogFileRefusedError, UnavailableError
from metering.hours import hour_of
from metering.intake.formats.parquet_footer import Chunk, pages, read_footer
from metering.intake.work import CONTRACT_WORK, Reason, Work
from metering.onramps.formats.lines import BadLines, LineBlock, line_blocks
from metering.onramps.formats.pieces import FREE_GROWTH_BYTES, UNHURRIED, Pieces
from metering.onramps.reading import Balance, Block, Observation, ReadSettings, RefusedLine
from metering.onramps.reasons import FileReason, LineReason
from metering.units import HOUR_S, INT64_MAX, MIB

SubjectT = TypeVar("SubjectT")

MAX_BYTES = INT64_MAX
"""Most bytes of a record (docs/contract.md)."""

_MAX_TEXT_CHARS = 4 * 1024
_DIGITS = re.compile(r"[0-9]{1,20}")


def number_of(text: str) -> int | None:
    """Parse a number from 0 to 2^63-1; None for any other text."""
    number = int(text) if _DIGITS.fullmatch(text) else None
    return number if number is not None and number <= MAX_BYTES else None


class Moved(NamedTuple, Generic[SubjectT]):
    """One transfer of a row; a row may state two transfers, one in each direction."""

    subject: SubjectT
    bytes: int


class Tally(Generic[SubjectT]):
    """Adds up the rows of a block. One tally counts one file, and limits how many refused lines are kept."""

    def __init__(self, *, kept_refusals: int, bad: BadLines) -> None:
        self._kept_left = kept_refusals
        self._bad = bad
        self._begin()

    def _begin(self) -> None:
        self._groups: dict[tuple[SubjectT, int], list[int]] = {}
        self._refused: list[RefusedLine] = []
        self._refusals: dict[str, tuple[int, int]] = {}
        self._lines = dict.fromkeys(("header", "metered", "rejected", "nodata", "skipdata"), 0)
        self._metered_bytes = self._rejected_bytes = 0

    def header(self) -> None:
        """Count a line that names fields or is blank.

        Raises:
            LogFileRefusedError: The file has more bad lines than allowed; `refuse` raises the same error.
        """
        self._bad.add()
        self.empty()

    def empty(self, lines: int = 1) -> None:
        self._lines["header"] += lines

    def nodata(self) -> None:
        self._lines["nodata"] += 1

    def skipdata(self) -> None:
        self._lines["skipdata"] += 1

    def rejected(self, size_bytes: int = 0) -> None:
        """Count a row that the rules of its log kind exclude from metering regardless of context."""
        self._lines["rejected"] += 1
        self._rejected_bytes += size_bytes

    def metered(self, moves: Sequence[Moved[SubjectT]], start_s: int, end_s: int) -> None:
        """Count all transfers of a row. The row is counted as one line, with its first transfer."""
        self._lines["metered"] += 1
        hour_s = hour_of(start_s)
        for number, (subject, size_bytes) in enumerate(moves):
            self._metered_bytes += size_bytes
            line = 0 if number else 1
            group = self._groups.get((subject, hour_s))
            if group is None:
                self._groups[subject, hour_s] = [size_bytes, line, start_s, end_s]
                continue
            group[0] += size_bytes
            group[1] += line
            group[2] = min(group[2], start_s)
            group[3] = max(group[3], end_s)

    def refuse(self, number: int, reason: str, detail: str, text: str, size_bytes: int = 0) -> None:
        """Count a row that cannot be metered, with its stated bytes; store the row, up to the limit."""
        if reason != LineReason.REPEATED_LINE:
            self._bad.add()
        lines, refused_bytes = self._refusals.get(reason, (0, 0))
        self._refusals[reason] = (lines + 1, refused_bytes + size_bytes)
        if self._kept_left > 0:
            self._kept_left -= 1
            self._refused.append(RefusedLine(number, reason, detail, text[:_MAX_TEXT_CHARS], size_bytes))

    def block(self, read_bytes: int) -> Block[SubjectT]:
        """Return the counts so far as a block, and start a new block.

        Lines of one hour may end up to two hours after its start; a record spans only one hour, so the end is capped.
        """
        block = Block(
            observations=[
                Observation(subject, hour_s, size_bytes, lines, start_s, min(end_s, start_s + HOUR_S))
                for (subject, hour_s), (size_bytes, lines, start_s, end_s) in self._groups.items()
            ],
            refused=self._refused,
            refusals=self._refusals,
            balance=self._balance(),
            read_bytes=read_bytes,
        )
        self._begin()
        return block

    def _balance(self) -> Balance:
        refused = sum(lines for lines, _ in self._refusals.values())
        refused_bytes = sum(size_bytes for _, size_bytes in self._refusals.values())
        return Balance(
            lines=sum(self._lines.values()) + refused,
            **self._lines,
            refused=refused,
            stated_bytes=self._metered_bytes + self._rejected_bytes + refused_bytes,
            metered_bytes=self._metered_bytes,
            rejected_bytes=self._rejected_bytes,
            refused_bytes=refused_bytes,
        )


# Lines of these logs become Python objects one at a time, so blocks are smaller than with Arrow.
_MAX_BLOCK_BYTES = 2**20


class LineJudge(Protocol[SubjectT]):
    """Counts the lines of one file. It may remember lines."""

    def judge(self, number: int, line: str, tally: Tally[SubjectT]) -> None:
        """Count a line once, by its outcome.

        Raises:
            LogFileRefusedError: The line shows that the whole file is unreadable.
        """


def read_lines(
    stream: BinaryIO, settings: ReadSettings, digest: Callable[[bytes], object], judge: LineJudge[SubjectT]
) -> Iterator[Block[SubjectT]]:
    """Read a text, plain or compressed, and let `judge` count its lines.

    Raises:
        LogFileRefusedError: The file cannot be decompressed, or `judge` refuses it.
    """
    pieces = Pieces(stream, settings, digest)
    tally: Tally[SubjectT] = Tally(kept_refusals=settings.kept_refusals, bad=BadLines(settings.max_bad_lines))
    block_bytes = min(settings.block_bytes, _MAX_BLOCK_BYTES)
    for block in line_blocks(pieces, block_bytes=block_bytes, max_line_bytes=settings.max_line_bytes):
        _judge_block(block, judge, tally)
        yield tally.block(pieces.read_bytes)


def _judge_block(block: LineBlock, judge: LineJudge[SubjectT], tally: Tally[SubjectT]) -> None:
    if block.empty:
        tally.empty(block.empty)
    for place, line in enumerate(block.data.decode().split("\n")[:-1]):
        taken = block.taken.get(place)
        if not line:
            tally.empty()
        elif taken is not None:
            tally.refuse(block.number(place), taken.reason, taken.detail, taken.text)
        elif line.isspace():
            tally.header()
        else:
            judge.judge(block.number(place), line, tally)


# A footer with the 70 fields of version 11 has some 10 KB per row group.
_FOOTER_BYTES = 16 * MIB
# Writers end a page at 1 MB or at 20,000 rows; Arrow holds one page per column.
_PAGE_BYTES = 32 * MIB
_WORK = replace(CONTRACT_WORK, pages=2_000_000, page_header_bytes=256 * MIB)
# Numbers of `Encoding` in parquet.thrift: plain, and the dictionary encodings, which Arrow can keep as dictionaries.
_FOLDED = frozenset((0, 2, 8))
_DICTIONARIES = frozenset((2, 8))
# A value may repeat the previous value, so a page of this encoding can expand without limit.
_DELTA_BYTE_ARRAY = 7
# Each row counts as at least this many bytes of text. Rows with equal values take almost no space in the file.
_ROW_BYTES = 16
_TRUNCATED = frozenset((str(Reason.OBJECT_TRUNCATED), str(Reason.OBJECT_EMPTY)))


@contextmanager
def refusals() -> Iterator[None]:
    """Convert errors of Arrow, and refused footers, to refusals of the file."""
    try:
        yield
    except BatchRefusedError as error:
        reason, detail = error.problems[0]
        named = FileReason.TRUNCATED if reason in _TRUNCATED else FileReason.WRONG_FORMAT
        raise LogFileRefusedError(named, detail) from error
    except pa.ArrowMemoryError:
        # The file is not refused, because a machine with more memory may be able to read it.
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LogFileRefusedError(FileReason.WRONG_FORMAT, " ".join(str(error).split())[:300]) from error


def checked_footer(file: IO[bytes], settings: ReadSettings) -> tuple[int, list[Chunk]]:
    """Number of rows, and the chunks of all columns.

    Raises:
        LogFileRefusedError: The file is not Parquet, is truncated, or has more rows than its size allows.
    """
    with refusals():
        rows, chunks = read_footer(file, limit_bytes=_FOOTER_BYTES)
    _check_growth(file.seek(0, 2), rows * _ROW_BYTES, settings)
    return rows, chunks


def checked_pages(
    file: IO[bytes], chunks: Collection[Chunk], texts: Collection[str], settings: ReadSettings
) -> Mapping[str, bool]:
    """Column -> whether Arrow can keep the column dictionary-encoded.

    Args:
        file: The file.
        chunks: Chunks of the columns that will be read.
        texts: Columns of texts.
        settings: Its limits.

    Raises:
        LogFileRefusedError: A page is damaged, the pages hold too much data, or a column decodes without limit.
    """
    stored_bytes, unpacked_bytes = file.seek(0, 2), 0
    encodings: dict[str, set[int]] = defaultdict(set)
    work = Work(_WORK, UNHURRIED)
    with refusals():
        for chunk in chunks:
            for page in pages(file, chunk, work):
                unpacked_bytes += page.unpacked_bytes
                if page.unpacked_bytes > _PAGE_BYTES:
                    detail = f"a page of {page.unpacked_bytes} bytes, more than {_PAGE_BYTES}"
                    raise LogFileRefusedError(FileReason.EXPANDS_TOO_FAR, detail)
                if page.encoding is not None:
                    encodings[chunk.path].add(page.encoding)
    _check_growth(stored_bytes, unpacked_bytes, settings)
    for name in texts:
        found = encodings[name]
        if _DELTA_BYTE_ARRAY in found or (found & _DICTIONARIES and not found <= _FOLDED):
            detail = f"{name} has encodings {sorted(found)}; plain and dictionary pages can be read"
            raise LogFileRefusedError(FileReason.WRONG_FORMAT, detail)
    return {name: found <= _FOLDED for name, found in encodings.items()}


def _check_growth(stored_bytes: int, size_bytes: int, settings: ReadSettings) -> None:
    most = min(max(FREE_GROWTH_BYTES, settings.max_expansion * stored_bytes), settings.max_text_bytes)
    if size_bytes > most:
        detail = f"{stored_bytes} stored bytes become {size_bytes}: a file may grow {settings.max_expansion} times"
        raise LogFileRefusedError(FileReason.EXPANDS_TOO_FAR, detail)


def checked_batches(parquet: pq.ParquetFile, columns: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Rows of a file in batches of at most `batch_rows`, each checked in full.

    Raises:
        LogFileRefusedError: A batch is unreadable, or its values do not match their types.
    """
    with refusals():
        batches = parquet.iter_batches(batch_size=batch_rows, columns=columns, use_threads=False)
    while True:
        with refusals():
            batch = next(batches, None)
            if batch is None:
                return
            batch.validate(full=True)
        yield batch


PARQUET_MAGIC = (b"PAR1", b"PARE")
"""How Parquet begins, plain or encrypted."""

_BUFFER_BYTES = MIB
_BATCH_ROWS = 8 * 1024


class RowJudge(Protocol[SubjectT]):
    """Counts the rows of one file."""

    def judge(self, number: int, text: str, value: Callable[[str], str], tally: Tally[SubjectT]) -> None:
        """Count a row once.

        Args:
            number: Number of the row in the file, from 1.
            text: The row, for people.
            value: Returns the value of a column, by its name with hyphens; empty if the row lacks the column.
            tally: Adds up the outcomes of rows.
        """


def column_names(file: IO[bytes], settings: ReadSettings) -> tuple[str, ...]:
    """Column names, spelt with hyphens as in text logs.

    Raises:
        LogFileRefusedError: The file is not Parquet, or is damaged.
    """
    checked_footer(file, settings)
    with refusals():
        names = pq.ParquetFile(pa.PythonFile(file, mode="r")).schema_arrow.names
    return tuple(_hyphened(name) for name in names)


def read_rows(
    file: IO[bytes], settings: ReadSettings, columns: Sequence[str], judge: RowJudge[SubjectT]
) -> Iterator[Block[SubjectT]]:
    """Read rows of existing columns, named with hyphens, and let `judge` count them.

    Raises:
        LogFileRefusedError: The file is not Parquet, is damaged, or is too large when decompressed.
    """
    tally: Tally[SubjectT] = Tally(kept_refusals=settings.kept_refusals, bad=BadLines(settings.max_bad_lines))
    rows, chunks = checked_footer(file, settings)
    with refusals():
        parquet = pq.ParquetFile(pa.PythonFile(file, mode="r"), buffer_size=_BUFFER_BYTES)
    stored = {_hyphened(name): name for name in parquet.schema_arrow.names}
    used = [stored[name] for name in columns]
    if not rows:
        return
    checked_pages(file, [chunk for chunk in chunks if chunk.path in used], used, settings)
    size_bytes = file.seek(0, 2)
    number = 0
    for batch in checked_batches(parquet, used, _BATCH_ROWS):
        for values in zip(*(_texts(name, batch.column(name)) for name in used), strict=True):
            number += 1
            row = dict(zip(columns, values, strict=True))
            judge.judge(number, str(row), partial(_value, row), tally)
        yield tally.block(size_bytes * number // rows)


def _value(row: Mapping[str, str], name: str) -> str:
    return row.get(name, "")


def _hyphened(name: str) -> str:
    return name.replace("_", "-").lower()


def _texts(name: str, column: pa.Array) -> list[str]:
    try:
        values = column.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        detail = f"column {name} is {column.type}, which is no text and no number: {error}"
        raise LogFileRefusedError(FileReason.WRONG_FORMAT, detail) from error
    return ["" if value is None else value for value in values]


_MEMORY_BYTES = 16 * MIB
_PIECE_BYTES = MIB


@contextmanager
def seekable(stream: BinaryIO, digest: Callable[[bytes], object]) -> Iterator[IO[bytes]]:
    """Copy the file to memory if it is small, else to disk, so that reading ranges is cheap.

    Ranges of a remote object would be fetched repeatedly, and `digest` needs the whole file anyway. A stream from an
    earlier call is returned unchanged.

    Raises:
        UnavailableError: The disk is full.
    """
    if isinstance(stream, SpooledTemporaryFile):
        # This function already made the stream when the kind of log was detected.
        yield cast("IO[bytes]", stream)
        return
    with SpooledTemporaryFile(max_size=_MEMORY_BYTES) as file:
        try:
            while piece := stream.read(_PIECE_BYTES):
                digest(piece)
                file.write(piece)
            file.seek(0)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise UnavailableError("disk.Write", "no room for a log file in the temporary folder") from error
        yield file
