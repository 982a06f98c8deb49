"""Reader of transit gateway flow logs, and the look that tells them from VPC flow logs.

AWS names both alike. Only the fields tell: those of a transit gateway begin with `tgw-`.
"""

from __future__ import annotations

import zlib
from typing import IO, TYPE_CHECKING, cast

import zstandard

from metering.errors import LogFileRefusedError
from metering.onramps.formats.flows.reader import read_flow_log
from metering.onramps.formats.parquet_rows import PARQUET_MAGIC, column_names, read_rows
from metering.onramps.formats.pieces import peeked
from metering.onramps.formats.stored import seekable
from metering.onramps.reasons import FileReason, LineReason
from metering.onramps.rows.line_reader import read_lines
from metering.onramps.transit_gateway.rows import GATEWAY, USED_FIELDS, TransitHop, TransitRowJudge
from metering.units import KIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import BinaryIO

    from metering.onramps.names import FileName
    from metering.onramps.observations import Block, FlowHop
    from metering.onramps.reading import ReadSettings
    from metering.onramps.rows.tally import Tally

_LOOK_BYTES = 64 * KIB
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def read_flow_file(
    stream: BinaryIO, name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object]
) -> Iterator[Block[FlowHop] | Block[TransitHop]]:
    """Read a flow log, of a transit gateway or of interfaces (`LogReader`)."""
    start, whole = peeked(stream, _LOOK_BYTES)
    if name.parquet or start[:4] in PARQUET_MAGIC:
        with seekable(whole, digest) as file:
            yield from _read_parquet(file, name, settings)
    elif _is_transit(start, settings):
        yield from read_lines(whole, settings, digest, _Lines(settings))
    else:
        yield from read_flow_log(whole, name, settings, digest=digest)


def _read_parquet(
    file: IO[bytes], name: FileName, settings: ReadSettings
) -> Iterator[Block[FlowHop] | Block[TransitHop]]:
    columns = column_names(file, settings)
    file.seek(0)
    if GATEWAY in columns:
        used = tuple(name for name in USED_FIELDS if name in columns)
        yield from read_rows(file, settings, used, _ParquetRows(columns, settings))
    else:
        # It has been hashed.
        yield from read_flow_log(cast("BinaryIO", file), name, settings, digest=len)


def _is_transit(start: bytes, settings: ReadSettings) -> bool:
    """Whether a text is the log of a transit gateway: by the fields that were given, else by its first line."""
    if settings.fields:
        return GATEWAY in settings.fields
    return GATEWAY.encode() in _unpacked(start).partition(b"\n")[0].split()


def _unpacked(start: bytes) -> bytes:
    """The beginning of the text. A file that is damaged here is refused by the reader, which says why."""
    try:
        if start.startswith(_GZIP):
            return zlib.decompressobj(wbits=31).decompress(start, _LOOK_BYTES)
        if start.startswith(_ZSTD):
            return zstandard.ZstdDecompressor().stream_reader(start).read(_LOOK_BYTES)
    except (zlib.error, zstandard.ZstdError):
        return b""
    return start


class _Lines:
    """`LineJudge` of one file."""

    def __init__(self, settings: ReadSettings) -> None:
        self._folding = settings.folding
        self._names: list[str] = []
        self._places: dict[str, int] = {}
        self._rows: TransitRowJudge | None = None
        if settings.fields:
            self._know(list(settings.fields))

    def judge(self, number: int, line: str, tally: Tally[TransitHop]) -> None:
        values = line.split(" ")
        if GATEWAY in values:
            self._know(values)
            tally.header()
            return
        if self._rows is None:
            raise LogFileRefusedError(FileReason.NO_HEADER, "the first line does not name the fields")
        if len(values) != len(self._names):
            detail = f"{len(values)} fields, and the file has {len(self._names)}"
            tally.refuse(number, LineReason.FIELD_COUNT, detail, line)
            return
        places = self._places
        self._rows.judge(number, line, lambda name: values[places[name]] if name in places else "", tally)

    def _know(self, names: list[str]) -> None:
        self._names = names
        self._rows = TransitRowJudge(names, self._folding)
        self._places = {name: place for place, name in enumerate(names) if name in USED_FIELDS}


class _ParquetRows:
    """`RowsJudge` of one file."""

    def __init__(self, fields: Sequence[str], settings: ReadSettings) -> None:
        self._rows = TransitRowJudge(fields, settings.folding)

    def judge(self, number: int, row: dict[str, str], tally: Tally[TransitHop]) -> None:
        self._rows.judge(number, str(row), lambda name: row.get(name, ""), tally)
