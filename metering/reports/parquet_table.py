"""Report tables as Parquet files, with totals that cannot overflow."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from decimal import Decimal

# A sum of bytes passes 2^63 after 66 days of 140 PB a day; 38 digits hold any sum (I8).
_TYPES = {
    "text": pa.string(),
    "bytes": pa.decimal128(38, 0),
    "money": pa.decimal128(38, 10),
    "integer": pa.int64(),
    "flag": pa.bool_(),
    "time": pa.timestamp("s", tz="UTC"),
}


def write_parquet(
    target: BinaryIO,
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, str | int | bool | Decimal | None]],
) -> None:
    """Write `rows` as one Parquet file.

    Args:
        target: File to write to; it stays open.
        columns: Name -> kind: `text`, `bytes` (an exact total, decimal128(38,0)), `money`, `integer`, `flag`, or `time`
            (RFC 3339 text in the rows, UTC timestamps in the file).
        rows: Values by column name.
    """
    schema = pa.schema([(name, _TYPES[kind]) for name, kind in columns.items()])
    arrays = [
        pa.array([_value(row.get(name), kind) for row in rows], type=_TYPES[kind]) for name, kind in columns.items()
    ]
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), target, compression="zstd")


def _value(value: str | int | bool | Decimal | None, kind: str) -> str | int | bool | Decimal | datetime | None:
    if kind == "time" and isinstance(value, str):
        return datetime.fromisoformat(value)
    return value
