"""Reading a log line by line: each line goes to a judge of its kind, which counts it in a tally."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from metering.onramps.formats.lines import BadLines, line_blocks
from metering.onramps.formats.pieces import Pieces
from metering.onramps.rows.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from metering.onramps.formats.lines import LineBlock
    from metering.onramps.observations import Block
    from metering.onramps.reading import ReadSettings

SubjectT = TypeVar("SubjectT")

# Lines of these logs become objects of Python one by one, so a block is smaller than one that Arrow reads.
_MAX_BLOCK_BYTES = 2**20


class LineJudge(Protocol[SubjectT]):
    """What a kind of log makes of its lines. One judge serves one file, so it may remember lines of it."""

    def judge(self, number: int, line: str, tally: Tally[SubjectT]) -> None:
        """Count a line, once, as what it is.

        Raises:
            LogFileRefusedError: The line shows that the file as a whole cannot be read.
        """
        ...


def read_lines(
    stream: BinaryIO, settings: ReadSettings, digest: Callable[[bytes], object], judge: LineJudge[SubjectT]
) -> Iterator[Block[SubjectT]]:
    """Read a text, plain or compressed, and let `judge` count its lines.

    Raises:
        LogFileRefusedError: The file cannot be decompressed, or `judge` refuses it.
    """
    pieces = Pieces(stream, settings, digest)
    tally: Tally[SubjectT] = Tally(kept_refusals=settings.kept_refusals, bad=BadLines(settings.max_bad_lines))
    block_bytes = min(settings.block_bytes, _MAX_BLOCK_BYTES)
    for block in line_blocks(pieces, block_bytes=block_bytes, max_line_bytes=settings.max_line_bytes):
        _judge_block(block, judge, tally)
        yield tally.block(pieces.read_bytes)


def _judge_block(block: LineBlock, judge: LineJudge[SubjectT], tally: Tally[SubjectT]) -> None:
    if block.empty:
        tally.empty(block.empty)
    for place, line in enumerate(block.data.decode().split("\n")[:-1]):
        taken = block.taken.get(place)
        if not line:
            tally.empty()
        elif taken is not None:
            tally.refuse(block.number(place), taken.reason, taken.detail, taken.text)
        elif line.isspace():
            tally.header()
        else:
            judge.judge(block.number(place), line, tally)
