"""Files of a bill, read as streams: CSV, CSV in gzip, and Parquet. Memory is that of one block, whatever their size."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from metering.errors import OperationFailedError
from metering.onramps.compare.dialects import chosen
from metering.units import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from metering.onramps.compare.dialects import Chosen

SUFFIXES = (".csv", ".csv.gz", ".parquet")
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_BATCH_ROWS = 8 * KIB
# A line of a bill with its tags has a few KB. A quoted field may have line ends.
_LINE_CHARS = MIB

Row = tuple[int, "tuple[object, ...] | None"]
"""Number of a row in its file, from 1 after the header, and its fields in the order of `Chosen.columns`. None if the
row has another number of fields than the header."""


def bill_files(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The files of a bill, each once, and what lies in named folders and is none. A named file is always one.

    Raises:
        OperationFailedError: A path does not exist, or there is no file at all.
    """
    found: dict[Path, Path] = {}
    ignored: list[Path] = []
    for path in paths:
        if not path.exists():
            raise OperationFailedError(f"There is no {path}.", "Name files of a bill, or folders with such files.")
        inner = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        for each in inner:
            if path.is_dir() and not each.name.lower().endswith(SUFFIXES):
                ignored.append(each)
            else:
                found.setdefault(each.resolve(), each)
    if not found:
        raise OperationFailedError(
            f"There is no file of a bill in {', '.join(map(str, paths))}.",
            f"Files of a bill end with {', '.join(SUFFIXES)}.",
        )
    return list(found.values()), ignored


@contextmanager
def opened(path: Path) -> Iterator[tuple[Chosen, Iterator[Row]]]:
    """The columns and the rows of a file; what it is, its first bytes say.

    Raises:
        OperationFailedError: It cannot be read, is damaged, or is no bill; also while its rows are read.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(len(_PARQUET))
            stream.seek(0)
            if head == _PARQUET:
                yield _parquet(stream, path)
                return
            unpacked = gzip.GzipFile(fileobj=stream) if head.startswith(_GZIP) else stream
            with io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="") as text:
                yield _csv(text, path)
    except (OSError, EOFError, zlib.error) as error:
        raise OperationFailedError(
            f"{path} cannot be read to its end: {error or type(error).__name__}.", "Download it again."
        ) from error
    except UnicodeDecodeError as error:
        raise OperationFailedError(f"{path} is no UTF-8 text.", "Name an export of AWS as it was delivered.") from error
    except (csv.Error, pa.ArrowException) as error:
        raise OperationFailedError(f"{path} is damaged: {error}.", "Download it again.") from error


def _parquet(stream: BinaryIO, path: Path) -> tuple[Chosen, Iterator[Row]]:
    file = pq.ParquetFile(stream, buffer_size=MIB)
    found = chosen(file.schema_arrow.names, str(path))
    return found, _parquet_rows(file, found.columns)


def _parquet_rows(file: pq.ParquetFile, columns: Sequence[str]) -> Iterator[Row]:
    number = 0
    wanted = sorted({name for name in columns if name})
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted, use_threads=False):
        values = {name: batch.column(name).to_pylist() for name in batch.schema.names}
        absent = [None] * batch.num_rows
        for fields in zip(*(values.get(name, absent) for name in columns), strict=True):
            number += 1
            yield number, fields


def _csv(text: TextIO, path: Path) -> tuple[Chosen, Iterator[Row]]:
    reader = csv.reader(_lines(text, path), strict=True)
    header = next(reader, [])
    found = chosen(header, str(path))
    places = [header.index(name) if name else -1 for name in found.columns]
    return found, _csv_rows(reader, len(header), places)


def _csv_rows(reader: Iterator[list[str]], width: int, places: Sequence[int]) -> Iterator[Row]:
    for number, fields in enumerate(reader, 1):
        if len(fields) == width:
            yield number, tuple([fields[place] if place >= 0 else None for place in places])
        elif fields:
            yield number, None


def _lines(text: TextIO, path: Path) -> Iterator[str]:
    """Lines of bounded length, whatever the file says."""
    while line := text.readline(_LINE_CHARS):
        if len(line) == _LINE_CHARS:
            raise OperationFailedError(f"{path} has a line of more than {_LINE_CHARS:,} characters: it is no bill.")
        yield line
