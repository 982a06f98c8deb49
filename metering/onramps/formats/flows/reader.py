"""The reader of VPC flow logs, text or Parquet."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from metering.onramps.formats.flows.parquet import FlowParquet
from metering.onramps.formats.flows.text import FlowText
from metering.onramps.formats.pieces import peeked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.onramps.names import FileName
    from metering.onramps.observations import Block, FlowHop
    from metering.onramps.reading import ReadSettings

_PARQUET = (b"PAR1", b"PARE")


def read_flow_log(
    stream: BinaryIO, name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object] = len
) -> Iterator[Block[FlowHop]]:
    """Read a VPC flow log (`LogReader`). Its first bytes tell whether it is Parquet, if its name does not.

    Raises:
        LogFileRefusedError: The file as a whole cannot be read; blocks before are void.
    """
    start, whole = peeked(stream)
    reader = FlowParquet if name.parquet or start in _PARQUET else FlowText
    yield from reader(whole, name, settings, digest).read()
