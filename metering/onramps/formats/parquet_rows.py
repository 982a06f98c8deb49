"""Rows of Parquet logs, one by one, as texts: for kinds of logs whose rows are judged by hand."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from metering.errors import LogFileRefusedError
from metering.onramps.formats.lines import BadLines
from metering.onramps.formats.parquet_checks import checked_batches, checked_footer, checked_pages, refusals
from metering.onramps.reasons import FileReason
from metering.onramps.rows.tally import Tally
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.onramps.observations import Block
    from metering.onramps.reading import ReadSettings

SubjectT = TypeVar("SubjectT")

PARQUET_MAGIC = (b"PAR1", b"PARE")
"""How Parquet begins, plain or encrypted."""

_BUFFER_BYTES = MIB
_BATCH_ROWS = 8 * 1024


class RowsJudge(Protocol[SubjectT]):
    """What a kind of log makes of its rows. One judge serves one file."""

    def judge(self, number: int, row: dict[str, str], tally: Tally[SubjectT]) -> None:
        """Count a row, once, as what it is; columns have hyphens in their names, and absent values are empty."""
        ...


def column_names(file: IO[bytes], settings: ReadSettings) -> tuple[str, ...]:
    """Names of the columns, as text logs call them: with hyphens.

    Raises:
        LogFileRefusedError: The file is no Parquet, or damaged.
    """
    checked_footer(file, settings)
    with refusals():
        names = pq.ParquetFile(pa.PythonFile(file, mode="r")).schema_arrow.names
    return tuple(_hyphened(name) for name in names)


def read_rows(
    file: IO[bytes], settings: ReadSettings, columns: Sequence[str], judge: RowsJudge[SubjectT]
) -> Iterator[Block[SubjectT]]:
    """Read rows and let `judge` count them.

    Args:
        file: The file, where reading ranges costs nothing (`metering.onramps.formats.stored`).
        settings: Limits.
        columns: Columns to read, with hyphens; the file has them.
        judge: Counts each row.

    Raises:
        LogFileRefusedError: The file is no Parquet, is damaged, or too large once it is unpacked.
    """
    tally: Tally[SubjectT] = Tally(kept_refusals=settings.kept_refusals, bad=BadLines(settings.max_bad_lines))
    rows, chunks = checked_footer(file, settings)
    with refusals():
        parquet = pq.ParquetFile(pa.PythonFile(file, mode="r"), buffer_size=_BUFFER_BYTES)
    stored = {_hyphened(name): name for name in parquet.schema_arrow.names}
    used = [stored[name] for name in columns]
    if not rows:
        return
    checked_pages(file, [chunk for chunk in chunks if chunk.path in used], used, settings)
    size_bytes = file.seek(0, 2)
    number = 0
    for batch in checked_batches(parquet, used, _BATCH_ROWS):
        for values in zip(*(_texts(name, batch.column(name)) for name in used), strict=True):
            number += 1
            judge.judge(number, dict(zip(columns, values, strict=True)), tally)
        yield tally.block(size_bytes * number // rows)


def _hyphened(name: str) -> str:
    return name.replace("_", "-").lower()


def _texts(name: str, column: pa.Array) -> list[str]:
    try:
        values = column.cast(pa.string()).to_pylist()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        detail = f"column {name} is {column.type}, which is no text and no number: {error}"
        raise LogFileRefusedError(FileReason.WRONG_FORMAT, detail) from error
    return ["" if value is None else value for value in values]
