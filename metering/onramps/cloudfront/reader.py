"""Reader of CloudFront standard logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.onramps.cloudfront.rows import USED_FIELDS, EdgeTransfer, RowJudge
from metering.onramps.cloudfront.text import V2, TextJudge
from metering.onramps.formats.parquet_rows import PARQUET_MAGIC, column_names, read_rows
from metering.onramps.formats.pieces import peeked
from metering.onramps.formats.stored import seekable
from metering.onramps.rows.line_reader import read_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from metering.onramps.names import FileName
    from metering.onramps.observations import Block
    from metering.onramps.reading import ReadSettings
    from metering.onramps.rows.tally import Tally


def read_cloudfront_log(
    stream: BinaryIO, name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object]
) -> Iterator[Block[EdgeTransfer]]:
    """Read a file (`LogReader`)."""
    start, whole = peeked(stream)
    if not name.parquet and start not in PARQUET_MAGIC:
        judge = TextJudge(settings.fields, known_as_v2=name.version == V2)
        yield from read_lines(whole, settings, digest, judge)
        return
    with seekable(whole, digest) as file:
        columns = column_names(file, settings)
        used = tuple(name for name in USED_FIELDS if name in columns)
        yield from read_rows(file, settings, used, _ParquetRows(columns))


class _ParquetRows:
    """`RowsJudge` of one file."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self._rows = RowJudge(fields, V2)

    def judge(self, number: int, row: dict[str, str], tally: Tally[EdgeTransfer]) -> None:
        self._rows.judge(number, str(row), lambda name: row.get(name, ""), tally)
