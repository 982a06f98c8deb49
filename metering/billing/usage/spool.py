"""Rows of usage on their way to rating: columns in a temporary file, one part for each hour or day.

Small months stay in memory. A large one is written to disk, compressed, and read part by part.
"""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING

import pyarrow as pa

from metering.billing.usage.columns import SCHEMA, lines_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from metering.billing.usage.ports import UsageLine

# What is kept in memory of a month before it goes to disk.
_MEMORY_BYTES = 32 * 1024 * 1024


class Spool:
    """Parts of a month. First they are all added, then they are read as often as needed; close it. Mutable.

    Args:
        memory_bytes: What is kept in memory before all of it goes to disk.
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
        """The parts, in order."""
        return sorted(self._parts)

    def batches(self, part: int) -> Iterator[pa.RecordBatch]:
        """The rows of a part, as they were added."""
        for number in self._parts.get(part, ()):
            yield self._read().get_batch(number)

    def lines(self, part: int) -> Iterator[UsageLine]:
        """The rows of a part as usage lines."""
        for batch in self.batches(part):
            yield from lines_of(batch)

    def close(self) -> None:
        """Forget everything; the file is gone."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._reader = None
        self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> pa.ipc.RecordBatchFileReader:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._reader is None:
            self._file.seek(0)
            self._reader = pa.ipc.open_file(self._file)
        return self._reader
