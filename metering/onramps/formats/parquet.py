"""Parquet logs: checked before Arrow reads them, from a file that is hashed once and read from its end, row by row."""

from __future__ import annotations

import errno
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING, BinaryIO, Protocol, TypeVar, cast

import pyarrow as pa
import pyarrow.parquet as pq

from metering.errors import BatchRefusedError, LogFileRefusedError, UnavailableError
from metering.intake.formats.parquet_footer import Chunk, pages, read_footer
from metering.intake.work import CONTRACT_WORK, Reason, Work
from metering.onramps.formats.lines import BadLines
from metering.onramps.formats.pieces import FREE_GROWTH_BYTES, UNHURRIED
from metering.onramps.reasons import FileReason
from metering.onramps.rows import Tally
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from metering.onramps.reading import Block, ReadSettings


# A footer with the 70 fields of version 11 has some 10 KB per row group.
_FOOTER_BYTES = 16 * MIB
# Writers end a page at 1 MB or at 20,000 rows; Arrow holds one page per column.
_PAGE_BYTES = 32 * MIB
_WORK = replace(CONTRACT_WORK, pages=2_000_000, page_header_bytes=256 * MIB)
# Numbers of `Encoding` in parquet.thrift: plain, and the dictionary encodings, which Arrow can keep as dictionaries.
_FOLDED = frozenset((0, 2, 8))
_DICTIONARIES = frozenset((2, 8))
# A value may repeat the previous one, so a page of this encoding can expand without limit.
_DELTA_BYTE_ARRAY = 7
# A row counts as at least this much text. Rows of equal values take almost no space in the file.
_ROW_BYTES = 16
_TRUNCATED = frozenset((str(Reason.OBJECT_TRUNCATED), str(Reason.OBJECT_EMPTY)))


@contextmanager
def refusals() -> Iterator[None]:
    """Raise errors of Arrow, and refusals of footers, as refusals of the file."""
    try:
        yield
    except BatchRefusedError as error:
        reason, detail = error.problems[0]
        named = FileReason.TRUNCATED if reason in _TRUNCATED else FileReason.WRONG_FORMAT
        raise LogFileRefusedError(named, detail) from error
    except pa.ArrowMemoryError:
        # The file is not refused: a machine with more memory may read it.
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise LogFileRefusedError(FileReason.WRONG_FORMAT, " ".join(str(error).split())[:300]) from error


def checked_footer(file: IO[bytes], settings: ReadSettings) -> tuple[int, list[Chunk]]:
    """Number of rows, and the chunks of all columns.

    Raises:
        LogFileRefusedError: It is no Parquet file, or it breaks off, or has more rows than its size allows.
    """
    with refusals():
        rows, chunks = read_footer(file, limit_bytes=_FOOTER_BYTES)
    _check_growth(file.seek(0, 2), rows * _ROW_BYTES, settings)
    return rows, chunks


def checked_pages(
    file: IO[bytes], chunks: Collection[Chunk], texts: Collection[str], settings: ReadSettings
) -> Mapping[str, bool]:
    """Whether Arrow can keep each column folded, as a dictionary.

    Args:
        file: The file.
        chunks: Chunks of the columns that will be read.
        texts: Columns of texts.
        settings: Its limits.

    Raises:
        LogFileRefusedError: A page is broken or too large, all are, or a column unfolds without bound.
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
        LogFileRefusedError: A batch cannot be read, or its values are not what its types say.
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


SubjectT = TypeVar("SubjectT")

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
            value: Value of a column that the kind reads, by its name with hyphens; empty if the row has none.
            tally: Adds up what the rows became.
        """


def column_names(file: IO[bytes], settings: ReadSettings) -> tuple[str, ...]:
    """Names of the columns, with hyphens as in text logs.

    Raises:
        LogFileRefusedError: The file is no Parquet, or damaged.
    """
    checked_footer(file, settings)
    with refusals():
        names = pq.ParquetFile(pa.PythonFile(file, mode="r")).schema_arrow.names
    return tuple(_hyphened(name) for name in names)


def read_rows(
    file: IO[bytes], settings: ReadSettings, columns: Sequence[str], judge: RowJudge[SubjectT]
) -> Iterator[Block[SubjectT]]:
    """Read rows of columns that the file has, named with hyphens, and let `judge` count them.

    Raises:
        LogFileRefusedError: The file is no Parquet, is damaged, or too large once it is unpacked.
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
    """Put the file where reading ranges costs nothing: in memory while it is small, else on disk.

    Ranges of a distant object would be fetched again and again, and `digest` needs all of it anyway. A stream that this
    function gave before is taken as it is.

    Raises:
        UnavailableError: There is no room on the disk.
    """
    if isinstance(stream, SpooledTemporaryFile):
        # This function made the stream before, when the kind of log was detected.
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
