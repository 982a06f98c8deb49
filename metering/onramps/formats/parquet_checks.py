"""Footer and pages of a Parquet log file, checked before Arrow reads it. Arrow believes both, whatever they ask for."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, TYPE_CHECKING

import pyarrow as pa

from metering.errors import BatchRefusedError, LogFileRefusedError
from metering.intake.formats.parquet_footer import pages, read_footer
from metering.intake.reasons import Reason
from metering.intake.work import CONTRACT_WORK, Work
from metering.onramps.formats.pieces import FREE_GROWTH_BYTES, UNHURRIED
from metering.onramps.reasons import FileReason
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    import pyarrow.parquet as pq

    from metering.intake.formats.parquet_footer import Chunk
    from metering.onramps.reading import ReadSettings

# A footer with the 70 fields of version 11 has some 10 KB a row group.
_FOOTER_BYTES = 16 * MIB
# Writers end a page at 1 MB, and at 20,000 rows; Arrow holds one page of each column.
_PAGE_BYTES = 32 * MIB
_WORK = replace(CONTRACT_WORK, pages=2_000_000, page_header_bytes=256 * MIB)
# Numbers of `Encoding` in parquet.thrift: plain; and those by a dictionary, which Arrow can keep folded.
_FOLDED = frozenset((0, 2, 8))
_DICTIONARIES = frozenset((2, 8))
# A value may repeat the previous one, so a page of this encoding unfolds without bound.
_DELTA_BYTE_ARRAY = 7
# A row stands for this much text at the least. Rows of equal values take next to nothing in the file.
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
        # This is no verdict on the file: a machine with more memory may read it.
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
