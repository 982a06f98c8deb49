"""External sort of the hours of a month by account: sorted runs on disk, and their merge. Memory does not grow.

Each row has a place of its own (account, key, `corrects`, hour), so the merge gives one order, whatever the runs are.
"""

from __future__ import annotations

from bisect import bisect_right
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pyarrow as pa

from metering.lake.parquet.usage_files import NAMES, ORDER, USAGE_SCHEMA, sorted_usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# Rows of each run in memory during the merge.
_BATCH_ROWS = 16 * 1024

_Place = tuple[str | int, ...]


def sorted_pieces(tables: Iterable[pa.Table], folder: Path, *, run_rows: int, piece_rows: int) -> Iterator[pa.Table]:
    """Sort any number of rows: pieces in order, each sorted.

    Args:
        tables: The rows, in any order.
        folder: Where runs are kept; they are compressed.
        run_rows: Rows that are sorted at once.
        piece_rows: Least rows of a piece, but for the last.
    """
    runs: list[Path] = []
    buffer: list[pa.Table] = []
    rows = 0
    for table in tables:
        if buffer and rows + table.num_rows > run_rows:
            runs.append(_spill(buffer, folder / f"usage-{len(runs)}.arrows"))
            buffer, rows = [], 0
        buffer.append(table)
        rows += table.num_rows
    if not runs:
        yield from _cut(sorted_usage(pa.concat_tables(buffer)), piece_rows) if buffer else ()
        return
    runs.append(_spill(buffer, folder / f"usage-{len(runs)}.arrows"))
    del buffer
    yield from _merged(runs, piece_rows)


def _cut(table: pa.Table, piece_rows: int) -> Iterator[pa.Table]:
    for first in range(0, table.num_rows, piece_rows):
        yield table.slice(first, piece_rows)


def _spill(buffer: list[pa.Table], path: Path) -> Path:
    options = pa.ipc.IpcWriteOptions(unify_dictionaries=False, compression="zstd")
    table = sorted_usage(pa.concat_tables(buffer))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=_BATCH_ROWS)
    return path


def _merged(paths: list[Path], piece_rows: int) -> Iterator[pa.Table]:
    with ExitStack() as stack:
        cursors = [_Cursor(stack.enter_context(pa.OSFile(str(path), "rb"))) for path in paths]
        piece: list[pa.Table] = []
        rows = 0
        while cursors := [cursor for cursor in cursors if cursor.forward()]:
            bound = min(cursor.last for cursor in cursors)
            for part in [cursor.take(bound) for cursor in cursors]:
                piece.append(part)
                rows += part.num_rows
            if rows >= piece_rows:
                yield sorted_usage(pa.concat_tables(piece))
                piece, rows = [], 0
        if piece:
            yield sorted_usage(pa.concat_tables(piece))


class _Cursor:
    """Reads a run batch by batch. `last` is the place of the last row of the current batch."""

    def __init__(self, source: pa.NativeFile) -> None:
        self._reader = pa.ipc.open_stream(source)
        self._batch = pa.RecordBatch.from_pylist([], schema=USAGE_SCHEMA)
        self._first = 0
        self.last: _Place = ()

    def forward(self) -> bool:
        """Load the next batch if the current one is used up. False at the end of the run."""
        while self._first >= self._batch.num_rows:
            try:
                self._batch = self._reader.read_next_batch()
            except StopIteration:
                return False
            self._first = 0
            self._columns = [self._batch.column(name) for name in NAMES]
            self._times = [self._batch.column(name).cast(pa.int64()) for name in ORDER[len(NAMES) :]]
            if self._batch.num_rows:
                self.last = self._place(self._batch.num_rows - 1)
        return True

    def take(self, bound: _Place) -> pa.Table:
        """Rows of the current batch up to and including `bound`; there may be none."""
        end = bisect_right(range(self._batch.num_rows), bound, lo=self._first, key=self._place)
        part = self._batch.slice(self._first, end - self._first)
        self._first = end
        return pa.Table.from_batches([part])

    def _place(self, row: int) -> _Place:
        times = [-1 if (time := column[row].as_py()) is None else time for column in self._times]
        return (*(column[row].as_py() for column in self._columns), *times)
