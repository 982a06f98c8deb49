"""VPC flow logs as Parquet. Columns have AWS's names with `_` for `-`, and numbers or texts as the writer liked.

AWS writes texts as STRING, numbers as INT_32 and INT_64. Other tools write numbers as texts and accounts as integers,
which lose leading zeros: an integer is filled up to 12 digits. A text of 11 digits is refused, because it may have
lost any digit.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from metering.errors import LogFileRefusedError
from metering.onramps.formats.flows.batches import is_number, is_text, number_column, text_column
from metering.onramps.formats.flows.blocks import BlockMaker
from metering.onramps.formats.flows.columns import Rows
from metering.onramps.formats.flows.layout import NUMBERS, layout_of
from metering.onramps.formats.lines import MAX_TEXT_CHARS
from metering.onramps.formats.parquet_checks import checked_batches, checked_footer, checked_pages, refusals
from metering.onramps.formats.stored import seekable
from metering.onramps.reasons import FileReason
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from metering.onramps.formats.flows.layout import Layout
    from metering.onramps.names import FileName
    from metering.onramps.observations import Block, FlowHop
    from metering.onramps.reading import ReadSettings

_BATCH_ROWS = 32_768
_BUFFER_BYTES = MIB


class FlowParquet:
    """Reads one Parquet file. `read` gives its blocks, once."""

    def __init__(
        self, stream: BinaryIO, name: FileName, settings: ReadSettings, digest: Callable[[bytes], object]
    ) -> None:
        self._stream = stream
        self._name = name
        self._settings = settings
        self._digest = digest
        self._maker = BlockMaker(name, settings)

    def read(self) -> Iterator[Block[FlowHop]]:
        """Read the file (`LogReader`)."""
        with seekable(self._stream, self._digest) as file:
            rows, chunks = checked_footer(file, self._settings)
            with refusals():
                schema = pq.ParquetFile(pa.PythonFile(file, mode="r")).schema_arrow
            columns, layout = self._columns(schema)
            if not rows:
                # Writers leave chunks of a file without rows behind that are none.
                return
            texts = [name for name in columns.values() if is_text(schema.field(name).type)]
            wanted = set(columns.values())
            chunks = [chunk for chunk in chunks if chunk.path in wanted]
            folded = checked_pages(file, chunks, texts, self._settings)
            size_bytes = file.seek(0, 2)
            done = 0
            for batch in _batches(file, list(columns.values()), [name for name in texts if folded.get(name)]):
                if not batch.num_rows:
                    continue
                first = done + 1
                done += batch.num_rows
                self._add(batch, columns, layout, first=first)
                yield from self._maker.full(size_bytes * done // rows)
            yield from self._maker.last(size_bytes)

    def _columns(self, schema: pa.Schema) -> tuple[dict[str, str], Layout]:
        """Columns to read, by the name of the field; and the layout.

        Raises:
            LogFileRefusedError: A field that metering needs is missing, comes twice, or has an impossible type.
        """
        layout = layout_of([name.replace("_", "-") for name in schema.names], account_id=self._name.account_id)
        names = dict(zip(layout.names, schema.names, strict=True))
        columns = {field: names[field] for field in (*layout.texts, *NUMBERS)}
        for field, name in columns.items():
            kind = schema.field(schema.names.index(name)).type
            if not (is_text(kind) or pa.types.is_integer(kind) or (field in NUMBERS and is_number(kind))):
                raise LogFileRefusedError(FileReason.WRONG_FORMAT, f"{name} is {kind}, not a text or an integer")
        return columns, layout

    def _add(self, batch: pa.RecordBatch, columns: Mapping[str, str], layout: Layout, *, first: int) -> None:
        def place(row: int) -> tuple[int, str]:
            values = batch.slice(row, 1).to_pylist()[0]
            return first + row, json.dumps(values, default=str)[:MAX_TEXT_CHARS]

        with refusals():
            size, unread = number_column(batch.column(columns["bytes"]))
            start, end = (number_column(batch.column(columns[name]))[0] for name in ("start", "end"))
            words = {target: text_column(batch.column(columns[name]), target) for name, target in layout.texts.items()}
        rows = Rows(count=batch.num_rows, words=words, bytes=size, start=start, end=end, unreadable=unread)
        self._maker.add(rows, fields=layout.names, header=0, misfits={}, refused=(), place=place)


def _batches(file: IO[bytes], columns: list[str], folded: list[str]) -> Iterator[pa.RecordBatch]:
    with refusals():
        parquet = pq.ParquetFile(pa.PythonFile(file, mode="r"), read_dictionary=folded, buffer_size=_BUFFER_BYTES)
    yield from checked_batches(parquet, columns, _BATCH_ROWS)
