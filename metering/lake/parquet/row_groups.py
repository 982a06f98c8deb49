"""Parquet files whose row groups the calling thread reads itself, in few reads.

Arrow's own read-ahead reads in threads of Arrow. Such a thread may still hold the Python stream after its read was
answered, and a process that ends just then is aborted: "terminate called without an active exception"
(apache/arrow, issues 33975 and 34314). So no thread of Arrow gets a Python stream here.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    import pyarrow as pa

# Columns that lie closer than this are read at once, as Arrow's read-ahead would: a request costs more than the gap.
_GAP_BYTES = 8 * 1024
# One read is not longer than this, so that memory holds no more than a row group beside its table.
_SPAN_BYTES = 32 * 1024 * 1024


class RowGroups:
    """A Parquet file by its row groups.

    Args:
        source: The open file, or its content.
        encoded: Columns that stay dictionaries when they are read.
        metadata: The footer, if it was read before.
    """

    def __init__(
        self, source: BinaryIO | bytes, encoded: Sequence[str] = (), *, metadata: pq.FileMetaData | None = None
    ) -> None:
        self._spans = _Spans(io.BytesIO(source) if isinstance(source, bytes) else source)
        self._file = pq.ParquetFile(self._spans, metadata=metadata, read_dictionary=list(encoded), pre_buffer=False)

    @property
    def metadata(self) -> pq.FileMetaData:
        """The file's footer."""
        return self._file.metadata

    @property
    def schema(self) -> pa.Schema:
        """Columns of the file, as they are read."""
        return self._file.schema_arrow

    def read(self, number: int, columns: Sequence[str]) -> pa.Table:
        """Some columns of a row group, in the file's order."""
        self._spans.fetch(list(_ranges(self.metadata.row_group(number), frozenset(columns))))
        return self._file.read_row_group(number, columns=list(columns), use_threads=False)

    def read_some(self, numbers: Sequence[int], columns: Sequence[str]) -> pa.Table:
        """Some columns of some row groups, one after the other."""
        return self._file.read_row_groups(list(numbers), columns=list(columns), use_threads=False)

    def read_all(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Some columns of the whole file; all columns, if `columns` is None."""
        return self._file.read(columns=None if columns is None else list(columns), use_threads=False)


def _ranges(group: pq.RowGroupMetaData, columns: frozenset[str]) -> Iterator[tuple[int, int]]:
    """First byte and end of each read that the columns need."""
    chunks = (group.column(number) for number in range(group.num_columns))
    places = sorted(_place(chunk) for chunk in chunks if chunk.path_in_schema in columns)
    if not places:
        return
    first, last = places[0]
    for start, end in places[1:]:
        if start - last > _GAP_BYTES or end - first > _SPAN_BYTES:
            yield first, last
            first = start
        last = end
    yield first, last


def _place(chunk: pq.ColumnChunkMetaData) -> tuple[int, int]:
    # A column begins with its dictionary, if it has one.
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    return start, start + chunk.total_compressed_size


class _Spans(io.RawIOBase):
    """A stream that answers from spans that were read before, and reads the rest itself."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._spans: list[tuple[int, bytes]] = []
        self._place = 0

    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Read spans, each at once, and forget those of before."""
        self._spans = []
        for first, end in ranges:
            self._stream.seek(first)
            self._spans.append((first, self._stream.read(end - first)))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END:
            self._place = self._stream.seek(offset, io.SEEK_END)
        else:
            self._place = offset + (self._place if whence == io.SEEK_CUR else 0)
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1, /) -> Any:
        """Bytes from the current place on."""
        data = self._found(size)
        if data is None:
            self._stream.seek(self._place)
            data = self._stream.read(size)
        self._place += len(data)
        return data

    def _found(self, size: int) -> bytes | None:
        for first, span in self._spans:
            if size >= 0 and first <= self._place and self._place + size <= first + len(span):
                return span[self._place - first : self._place - first + size]
        return None
