"""Logs that are read row by row: a judge of the kind counts each line in a tally."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO, Generic, NamedTuple, Protocol, TypeVar

from metering.hours import hour_of
from metering.onramps.formats.lines import BadLines, LineBlock, line_blocks
from metering.onramps.formats.pieces import Pieces
from metering.onramps.reading import Balance, Block, Observation, ReadSettings, RefusedLine
from metering.onramps.reasons import LineReason
from metering.units import HOUR_S, INT64_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


SubjectT = TypeVar("SubjectT")

MAX_BYTES = INT64_MAX
"""Most bytes of a record (docs/contract.md)."""

_MAX_TEXT_CHARS = 4 * 1024
_DIGITS = re.compile(r"[0-9]{1,20}")


def number_of(text: str) -> int | None:
    """A number from 0 to 2^63-1; None of any other text."""
    number = int(text) if _DIGITS.fullmatch(text) else None
    return number if number is not None and number <= MAX_BYTES else None


class Moved(NamedTuple, Generic[SubjectT]):
    """One transfer of a row; a row may state two, one each way."""

    subject: SubjectT
    bytes: int


class Tally(Generic[SubjectT]):
    """Adds up the rows of a block. One tally serves a file, so that it keeps only so many refused lines of it."""

    def __init__(self, *, kept_refusals: int, bad: BadLines) -> None:
        self._kept_left = kept_refusals
        self._bad = bad
        self._begin()

    def _begin(self) -> None:
        self._groups: dict[tuple[SubjectT, int], list[int]] = {}
        self._refused: list[RefusedLine] = []
        self._refusals: dict[str, tuple[int, int]] = {}
        self._lines = dict.fromkeys(("header", "metered", "rejected", "nodata", "skipdata"), 0)
        self._metered_bytes = self._rejected_bytes = 0

    def header(self) -> None:
        """Count a line that names fields or is blank.

        Raises:
            LogFileRefusedError: There are more bad lines than the file may have; so of `refuse`.
        """
        self._bad.add()
        self.empty()

    def empty(self, lines: int = 1) -> None:
        self._lines["header"] += lines

    def nodata(self) -> None:
        self._lines["nodata"] += 1

    def skipdata(self) -> None:
        self._lines["skipdata"] += 1

    def rejected(self, size_bytes: int = 0) -> None:
        """Count a row that the rules of its kind leave out, whatever the context."""
        self._lines["rejected"] += 1
        self._rejected_bytes += size_bytes

    def metered(self, moves: Sequence[Moved[SubjectT]], start_s: int, end_s: int) -> None:
        """Count a row by all that it moved. The row itself counts with its first move; the others have no line."""
        self._lines["metered"] += 1
        hour_s = hour_of(start_s)
        for number, (subject, size_bytes) in enumerate(moves):
            self._metered_bytes += size_bytes
            line = 0 if number else 1
            group = self._groups.get((subject, hour_s))
            if group is None:
                self._groups[subject, hour_s] = [size_bytes, line, start_s, end_s]
                continue
            group[0] += size_bytes
            group[1] += line
            group[2] = min(group[2], start_s)
            group[3] = max(group[3], end_s)

    def refuse(self, number: int, reason: str, detail: str, text: str, size_bytes: int = 0) -> None:
        """Count a row that cannot be metered, with the bytes that it states; keep it while there is room."""
        if reason != LineReason.REPEATED_LINE:
            self._bad.add()
        lines, refused_bytes = self._refusals.get(reason, (0, 0))
        self._refusals[reason] = (lines + 1, refused_bytes + size_bytes)
        if self._kept_left > 0:
            self._kept_left -= 1
            self._refused.append(RefusedLine(number, reason, detail, text[:_MAX_TEXT_CHARS], size_bytes))

    def block(self, read_bytes: int) -> Block[SubjectT]:
        """Hand over what was counted, and begin the next block.

        Lines of one hour may end up to two hours after its start; a record may span one hour, so its end is cut there.
        """
        block = Block(
            observations=[
                Observation(subject, hour_s, size_bytes, lines, start_s, min(end_s, start_s + HOUR_S))
                for (subject, hour_s), (size_bytes, lines, start_s, end_s) in self._groups.items()
            ],
            refused=self._refused,
            refusals=self._refusals,
            balance=self._balance(),
            read_bytes=read_bytes,
        )
        self._begin()
        return block

    def _balance(self) -> Balance:
        refused = sum(lines for lines, _ in self._refusals.values())
        refused_bytes = sum(size_bytes for _, size_bytes in self._refusals.values())
        return Balance(
            lines=sum(self._lines.values()) + refused,
            **self._lines,
            refused=refused,
            stated_bytes=self._metered_bytes + self._rejected_bytes + refused_bytes,
            metered_bytes=self._metered_bytes,
            rejected_bytes=self._rejected_bytes,
            refused_bytes=refused_bytes,
        )


# Lines of these logs become Python objects one by one, so blocks are smaller than those that Arrow reads.
_MAX_BLOCK_BYTES = 2**20


class LineJudge(Protocol[SubjectT]):
    """Counts the lines of one file of a kind of log. It may remember lines."""

    def judge(self, number: int, line: str, tally: Tally[SubjectT]) -> None:
        """Count a line, once, as what it is.

        Raises:
            LogFileRefusedError: The line shows that the file as a whole cannot be read.
        """


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
