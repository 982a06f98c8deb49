"""Records from Parquet, column by column. Nothing is decoded before the footer has promised that it is bounded."""

from __future__ import annotations

from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from metering.adapters.records.compression import refusal
from metering.domain.reasons import Problem, Reason, problem
from metering.errors import BatchRefusedError
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from metering.adapters.records.arrow_records import TableIntake

TEXT_COLUMNS = ("account_id", "service", "resource_id", "direction", "from", "to", "usage_type")
TIME_COLUMNS = ("start", "end")
_OPTIONAL = frozenset(("usage_type",))
_MEMORY_BYTES = 64 * MIB
_FOOTER_BYTES = 16 * MIB
_FOOTER_ITEMS = 1_000_000
_MAGIC = b"PAR1"
# Magic number at both ends, and the length of the footer.
_SMALLEST_BYTES = 12


@contextmanager
def spooled(pieces: Iterable[bytes]) -> Iterator[IO[bytes]]:
    """A seekable file of the pieces, in memory while it is small. Parquet is read from its end."""
    with SpooledTemporaryFile(max_size=_MEMORY_BYTES) as file:
        for piece in pieces:
            file.write(piece)
        file.seek(0)
        yield file


def read_parquet(file: IO[bytes], intake: TableIntake, *, limit_bytes: int, limit_records: int) -> int:
    """Read all records of a Parquet file; returns their size after decompression.

    Raises:
        BatchRefusedError: No Parquet, too large, or not the columns of a record.
    """
    _check_frame(file)
    try:
        footer = _open(file)
        columns = _check(footer, limit_bytes, limit_records)
        parquet = _open(file, metadata=footer.metadata, read_dictionary=_texts(footer.schema_arrow, columns))
        table = _plain_texts(parquet.read(columns=columns, use_threads=False))
        table.validate(full=True)
    except pa.ArrowMemoryError:
        # No verdict on the file: it may be read where there is more memory.
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise refusal(Reason.PARQUET_UNREADABLE, str(error)) from error
    if table.num_rows:
        intake.add(table, limit_bytes=limit_bytes)
    return int(table.nbytes)


def _open(
    file: IO[bytes], *, metadata: pq.FileMetaData | None = None, read_dictionary: Sequence[str] = ()
) -> pq.ParquetFile:
    return pq.ParquetFile(
        pa.PythonFile(file, mode="r"),
        metadata=metadata,
        read_dictionary=list(read_dictionary),
        thrift_string_size_limit=_FOOTER_BYTES,
        thrift_container_size_limit=_FOOTER_ITEMS,
    )


def _check_frame(file: IO[bytes]) -> None:
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(4)
    if size == 0:
        raise refusal(Reason.OBJECT_EMPTY, "the object has no bytes")
    if start == b"PARE":
        raise refusal(Reason.PARQUET_UNSUPPORTED, "encrypted Parquet")
    if start != _MAGIC:
        raise refusal(Reason.WRONG_FORMAT, "no Parquet file")
    file.seek(-4, 2)
    if size < _SMALLEST_BYTES or file.read(4) != _MAGIC:
        raise refusal(Reason.OBJECT_TRUNCATED, "the Parquet file has no end")
    file.seek(-8, 2)
    if int.from_bytes(file.read(4), "little") > min(size - _SMALLEST_BYTES, _FOOTER_BYTES):
        raise refusal(Reason.PARQUET_UNREADABLE, "its footer is too long")
    file.seek(0)


def _check(parquet: pq.ParquetFile, limit_bytes: int, limit_records: int) -> list[str]:
    """The columns to read; raises BatchRefusedError with every problem of the footer."""
    problems: list[Problem] = []
    metadata = parquet.metadata
    if not 0 <= metadata.num_rows <= limit_records:
        problems.append(problem(Reason.TOO_MANY_RECORDS, f"{metadata.num_rows} rows, more than {limit_records}"))
    columns = _check_columns(parquet.schema_arrow, problems)
    size = _unpacked_bytes(metadata, columns)
    if not 0 <= size <= limit_bytes:
        problems.append(problem(Reason.OBJECT_TOO_LARGE, f"{size} bytes after decompression, more than {limit_bytes}"))
    if problems:
        raise BatchRefusedError(problems)
    return columns


def _check_columns(schema: pa.Schema, problems: list[Problem]) -> list[str]:
    columns = []
    for name in (*TEXT_COLUMNS, "bytes", *TIME_COLUMNS):
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


def _fits(name: str, kind: pa.DataType) -> bool:
    if name in TEXT_COLUMNS:
        # A column without any value has no type: writers do that to an optional one.
        return _is_text(kind) or (name in _OPTIONAL and bool(pa.types.is_null(kind)))
    return bool(pa.types.is_integer(kind) or (name in TIME_COLUMNS and pa.types.is_timestamp(kind)))


def _is_text(kind: pa.DataType) -> bool:
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(values) or pa.types.is_large_string(values) or pa.types.is_string_view(values))


def _texts(schema: pa.Schema, columns: list[str]) -> list[str]:
    """Text columns to read as dictionaries: what repeats is not unfolded."""
    return [name for name in columns if name in TEXT_COLUMNS and _is_text(schema.field(name).type)]


def _plain_texts(table: pa.Table) -> pa.Table:
    """The table with all texts as strings or dictionaries of strings."""
    for place, field in enumerate(table.schema):
        if field.name not in TEXT_COLUMNS or pa.types.is_string(field.type):
            continue
        kind = pa.string()
        if pa.types.is_dictionary(field.type):
            kind = pa.dictionary(pa.int32(), pa.string())
        if kind != field.type:
            table = table.set_column(place, field.name, table.column(place).cast(kind))
    return table


def _unpacked_bytes(metadata: pq.FileMetaData, columns: list[str]) -> int:
    wanted = frozenset(columns)
    total = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for number in range(row_group.num_columns):
            column = row_group.column(number)
            if column.path_in_schema in wanted:
                total += max(column.total_uncompressed_size, column.total_compressed_size)
    return total
