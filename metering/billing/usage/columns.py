"""Usage lines as columns, which Arrow sums."""

from __future__ import annotations

import tempfile
from itertools import islice
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.usage.months import Accounts, RegionMonth, Solds, UsageLine
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


TEXTS = UsageLine._fields[1:-1]
SCHEMA = pa.schema([
    ("hour_s", pa.int64()),
    *((name, pa.string()) for name in TEXTS),
    ("bytes", pa.decimal128(38, 0)),
])  # fmt: skip
"""Columns of lines: the fields of a usage line, in its order. The hour of a day's line is the day's first."""
# Rows are converted to lines, and lines to rows, in portions of this size.
_ROWS = 100_000


@runtime_checkable
class ColumnMonth(Protocol):
    """A `RegionMonth` with its lines in columns: each batch has those of `SCHEMA` that are asked for, in order."""

    def day_batches(self, accounts: Accounts = None, columns: Sequence[str] = SCHEMA.names) -> Iterator[pa.RecordBatch]:
        """`day_lines` in columns. A key and day may be in several rows."""

    def hour_batches(
        self,
        accounts: Accounts = None,
        *,
        day_s: int | None = None,
        sold: Solds = None,
        hour_s: int | None = None,
        columns: Sequence[str] = SCHEMA.names,
    ) -> Iterator[pa.RecordBatch]:
        """`hour_lines` in columns, hour by hour; of one hour, only that hour is read."""


class _Columns:
    def __init__(self, month: RegionMonth) -> None:
        self._month = month

    def day_batches(self, accounts: Accounts = None, columns: Sequence[str] = SCHEMA.names) -> Iterator[pa.RecordBatch]:
        return _batches(self._month.day_lines(accounts), columns)

    def hour_batches(
        self,
        accounts: Accounts = None,
        *,
        day_s: int | None = None,
        sold: Solds = None,
        hour_s: int | None = None,
        columns: Sequence[str] = SCHEMA.names,
    ) -> Iterator[pa.RecordBatch]:
        read_s = day_s if hour_s is None else hour_s - hour_s % DAY_S
        lines = self._month.hour_lines(accounts, day_s=read_s, sold=sold)
        return _batches((line for line in lines if hour_s is None or line.hour_s == hour_s), columns)


def columns_of(month: RegionMonth) -> ColumnMonth:
    """The lines of a region's month in columns."""
    return month if isinstance(month, ColumnMonth) else _Columns(month)


def table_of(lines: Iterable[UsageLine]) -> pa.Table:
    """Usage lines as columns."""
    columns = tuple(zip(*lines, strict=True)) or tuple(() for _ in SCHEMA)
    return pa.Table.from_arrays(
        [pa.array(values, type=field.type) for values, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def lines_of(batch: pa.RecordBatch) -> Iterator[UsageLine]:
    """Rows as usage lines, converted a part at a time."""
    for first in range(0, batch.num_rows, _ROWS):
        piece = batch.slice(first, _ROWS)
        *names, sizes = (column.to_pylist() for column in piece.columns)
        yield from map(UsageLine._make, zip(*names, map(int, sizes), strict=True))


def summed(table: pa.Table) -> pa.Table:
    """One row for each key; the bytes are exact."""
    keys = [name for name in SCHEMA.names if name != "bytes"]
    grouped = table.group_by(keys, use_threads=False).aggregate([("bytes", "sum")])
    return grouped.select([*keys, "bytes_sum"]).rename_columns(SCHEMA.names).cast(SCHEMA)


def only(batch: pa.RecordBatch, accounts: Accounts, sold: Solds) -> pa.RecordBatch:
    """The rows of some accounts and products."""
    if accounts is not None:
        batch = batch.filter(pc.is_in(batch.column("account_id"), value_set=pa.array(sorted(accounts), pa.string())))
    if sold is None:
        return batch
    services, types = batch.column("service"), batch.column("usage_type")
    wanted = pa.repeat(pa.scalar(value=False), batch.num_rows)
    for each in sorted(sold):
        same = pc.and_(pc.equal(services, each.service), pc.equal(types, each.usage_type))
        wanted = pc.or_(wanted, same)
    return batch.filter(wanted)


def _batches(lines: Iterator[UsageLine], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    while part := list(islice(lines, _ROWS)):
        yield from table_of(part).select(list(columns)).to_batches()


_MEMORY_BYTES = 32 * 1024 * 1024


class Spool:
    """Columns of usage in a temporary file, a part for each hour or day. Mutable: add all parts, then read; close it.

    Args:
        memory_bytes: Size from which it lies on disk, compressed.
    """

    def __init__(self, memory_bytes: int = _MEMORY_BYTES) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=memory_bytes)  # noqa: SIM115  # `close` closes it
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer: pa.ipc.RecordBatchFileWriter | None = pa.ipc.new_file(self._file, SCHEMA, options=options)
        self._reader: pa.ipc.RecordBatchFileReader | None = None
        self._parts: dict[int, list[int]] = {}
        self._written = 0

    def add(self, part: int, table: pa.Table) -> None:
        """Add rows to a part, which is an hour or a day in epoch seconds."""
        if self._writer is None:
            raise RuntimeError("a spool that is read takes no more rows")
        for batch in table.cast(SCHEMA).combine_chunks().to_batches():
            self._writer.write_batch(batch)
            self._parts.setdefault(part, []).append(self._written)
            self._written += 1

    def parts(self) -> list[int]:
        return sorted(self._parts)

    def batches(self, part: int) -> Iterator[pa.RecordBatch]:
        for number in self._parts.get(part, ()):
            yield self._read().get_batch(number)

    def lines(self, part: int) -> Iterator[UsageLine]:
        for batch in self.batches(part):
            yield from lines_of(batch)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._reader = None
        self._file.close()

    def _read(self) -> pa.ipc.RecordBatchFileReader:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._reader is None:
            self._file.seek(0)
            self._reader = pa.ipc.open_file(self._file)
        return self._reader
