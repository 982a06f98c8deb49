"""Records from Parquet, column by column. Nothing is decoded before footer and page headers prove the file bounded."""

from __future__ import annotations

from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from metering.errors import BatchRefusedError
from metering.intake.formats.arrow_records import TableIntake
from metering.intake.formats.parquet_footer import Chunk, pages, read_footer
from metering.intake.reasons import Problem, Reason, problem
from metering.intake.work import refusal
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from metering.intake.formats.assembly import BatchAssembly
    from metering.intake.work import ReadLimits, Work

TEXT_COLUMNS = ("account_id", "service", "resource_id", "direction", "from", "to", "usage_type")
TIME_COLUMNS = ("start", "end")
_ALL_COLUMNS = (*TEXT_COLUMNS, "bytes", *TIME_COLUMNS)
_OPTIONAL = frozenset(("usage_type",))
_MEMORY_BYTES = 64 * MIB
# Small row groups are read together, because each read has a fixed cost; larger ones are read one after another.
_TOGETHER_BYTES = 32 * MIB
_BUFFER_BYTES = MIB

# Numbers of `Encoding` in parquet.thrift. Arrow can keep a column as a dictionary if its pages are dictionary or plain
# pages only.
_DICTIONARIES = frozenset((2, 8))
_FOLDED = _DICTIONARIES | {0}
# A value may repeat the previous one, so a page of this encoding unfolds without bound.
_DELTA_BYTE_ARRAY = 7


@contextmanager
def _spooled(pieces: Iterable[bytes]) -> Iterator[IO[bytes]]:
    """Seekable file of the pieces, in memory while it is small."""
    with SpooledTemporaryFile(max_size=_MEMORY_BYTES) as file:
        for piece in pieces:
            file.write(piece)
        file.seek(0)
        yield file


def read_parquet(pieces: Iterable[bytes], assembly: BatchAssembly, limits: ReadLimits) -> int:
    """Read all records (`ObjectReader`). The file is read from its end, so it is put together first."""
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
    """Turn errors of Arrow into refusals of the file."""
    try:
        yield
    except pa.ArrowMemoryError:
        # This is no verdict on the file, because a machine with more memory may read it.
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise refusal(Reason.PARQUET_UNREADABLE, str(error)) from error


def _together(group_bytes: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of the row groups in order, in lists that are read together."""
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
        BatchRefusedError: With every problem of the footer.
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
        BatchRefusedError: A page has no bound, or the pages have more bytes than may be read.
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
        # Writers give an optional column without values the null type.
        return _is_text(kind) or (name in _OPTIONAL and bool(pa.types.is_null(kind)))
    return bool(pa.types.is_integer(kind) or (name in TIME_COLUMNS and pa.types.is_timestamp(kind)))


def _is_text(kind: pa.DataType) -> bool:
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(values) or pa.types.is_large_string(values) or pa.types.is_string_view(values))


def _plain_texts(table: pa.Table) -> pa.Table:
    """The table with its texts as strings, or as dictionaries of strings."""
    for place, field in enumerate(table.schema):
        if field.name not in TEXT_COLUMNS or pa.types.is_string(field.type):
            continue
        kind = pa.string()
        if pa.types.is_dictionary(field.type):
            kind = pa.dictionary(pa.int32(), pa.string())
        if kind != field.type:
            table = table.set_column(place, field.name, table.column(place).cast(kind))
    return table
