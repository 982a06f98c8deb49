"""Report tables as Parquet files, with totals that cannot overflow."""

from __future__ import annotations

import io
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from metering.errors import OperationFailedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from decimal import Decimal

    from typing_extensions import Buffer

# A sum of bytes exceeds 2^63 after 66 days at 140 PB per day; any sum fits in 38 digits (I8).
_TYPES = {
    "text": pa.string(),
    "bytes": pa.decimal128(38, 0),
    "whole": pa.decimal128(38, 0),
    "money": pa.decimal128(38, 10),
    "integer": pa.int64(),
    "flag": pa.bool_(),
    "time": pa.timestamp("s", tz="UTC"),
}


# Number of rows that are in memory at once and form a row group.
_GROUP_ROWS = 100_000


def parquet_pieces(
    columns: Mapping[str, str], rows: Iterable[Mapping[str, str | int | bool | Decimal | None]]
) -> Iterator[bytes]:
    """A Parquet file of `rows`, typed by the kinds of columns, in pieces: memory does not grow with the number of rows.

    Times are RFC 3339 text in the rows, and UTC timestamps in the file.

    Raises:
        OperationFailedError: A number has more digits than Parquet can store.
    """
    schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])
    pieces = _Pieces()
    with pq.ParquetWriter(pieces, schema, compression="zstd") as writer:
        waiting = iter(rows)
        while group := list(islice(waiting, _GROUP_ROWS)):
            writer.write_table(pa.Table.from_arrays(_arrays(columns, group), schema=schema))
            yield pieces.taken()
    yield pieces.taken()


def arrow_table(
    columns: Mapping[str, str], rows: Iterable[Mapping[str, str | int | bool | Decimal | None]]
) -> pa.Table:
    """The table in memory, for Python programs, equal to the table read from the file of `parquet_pieces`.

    Raises:
        OperationFailedError: A number has more digits than Arrow's decimals can store.
    """
    # Parquet has no timestamps in seconds: readers get milliseconds.
    types = _TYPES | {"time": pa.timestamp("ms", tz="UTC")}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    waiting, parts = iter(rows), []
    while group := list(islice(waiting, _GROUP_ROWS)):
        parts.append(pa.Table.from_arrays(_arrays(columns, group), names=schema.names).cast(schema))
    return pa.concat_tables(parts) if parts else schema.empty_table()


class _Pieces(io.RawIOBase):
    """A file that forwards all data written to it. Mutable."""

    def __init__(self) -> None:
        self._written: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size

    def write(self, data: Buffer) -> int:
        piece = bytes(data)
        self._written.append(piece)
        self._size += len(piece)
        return len(piece)

    def taken(self) -> bytes:
        piece = b"".join(self._written)
        self._written.clear()
        return piece


def _arrays(
    columns: Mapping[str, str], rows: Sequence[Mapping[str, str | int | bool | Decimal | None]]
) -> list[pa.Array]:
    try:
        return [
            pa.array([_value(row.get(name), kind) for row in rows], type=_TYPES[kind]) for name, kind in columns.items()
        ]
    except (pa.ArrowInvalid, OverflowError) as error:
        raise OperationFailedError(
            f"A number has more digits than Parquet holds: {error}.", "Write it as CSV or NDJSON instead."
        ) from error


def _value(value: str | int | bool | Decimal | None, kind: str) -> str | int | bool | Decimal | datetime | None:
    if kind == "time" and isinstance(value, str):
        return datetime.fromisoformat(value)
    return value
