"""Blocks of whole lines of a text, safe for a parser: no endless line, no NUL, no partial character.

A line removed from a block is replaced by a line with one field, so that other lines keep their numbers. Of a long run
of empty lines, only the first lines are kept and the others counted, so a file of line ends is cheap to read.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from metering.errors import LogFileRefusedError
from metering.onramps.reasons import FileReason, LineReason
from metering.units import KIB

_LINE_FEED = pa.scalar(ord("\n"), pa.uint8())
# Lines of a block. Flow log lines have at least 90 bytes, so only garbage reaches this limit.
_MAX_LINES = 200_000
MAX_TEXT_CHARS = 4 * KIB
"""What is kept of a refused line."""

PLACEHOLDER = b"-"
"""What stands for a line that was taken out. An empty line would be read as one with empty fields."""

LETTERS = (b"\0", b"\r", b"\t", b"x", b"X", b"y")
"""Letters that readers ask a block for, all rare in logs. A piece is searched while the processor's cache has it."""
_NOT_ASCII = b"\x80"
_UNREADABLE = frozenset((b"\0", b"\r", _NOT_ASCII))
# At most this many consecutive line ends are kept. The empty lines between them are reported like other refused lines.
_RUN = 5
# The pattern is spelled out, because a literal prefix is searched 25 times as fast as a repeat.
_RUNS = re.compile(b"\n" * _RUN + b"\n+")


class BadLines:
    """Counts, up to a limit, the lines of a file that must be inspected one by one, because they are not records."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lines = 0

    def add(self, lines: int = 1) -> None:
        self._lines += lines
        if self._lines > self._limit:
            detail = (
                f"more than {self._limit:,} lines of it name fields or cannot be read; is it a log of another kind?"
            )
            raise LogFileRefusedError(FileReason.TOO_MANY_BAD_LINES, detail)


class TakenLine(NamedTuple):
    """Line hidden from the parser. `reason` is empty for a header, otherwise one of `LineReason`."""

    reason: str
    detail: str
    text: str


@dataclass(slots=True, kw_only=True)
class LineBlock:
    """Whole lines.

    Attributes:
        first: Number of the first line in the file, from 1.
        data: The lines, each with a line feed, UTF-8, without carriage returns and NULs.
        letters: The only characters of `LETTERS` that the data may contain.
        taken: Lines that were removed, by index in the block.
        dropped: Empty lines that are not in the data, as `(place, lines)` in order: `lines` empty lines in total were
            left out before the line at index `place`.
    """

    first: int
    lines: int
    data: bytes
    letters: frozenset[bytes]
    taken: dict[int, TakenLine] = field(default_factory=dict)
    dropped: tuple[tuple[int, int], ...] = ()

    @property
    def empty(self) -> int:
        """Number of empty lines that are not in the data."""
        return self.dropped[-1][1] if self.dropped else 0

    def number(self, place: int) -> int:
        """Line number in the file, given the line's index in the block."""
        return self.first + place + self._dropped_before(place)

    def part(self, begin: tuple[int, int], end: tuple[int, int]) -> LineBlock:
        """Lines between two positions, both as `(place, byte)`."""
        place, start = begin
        last, stop = end
        before = self._dropped_before(place)
        return LineBlock(
            first=self.number(place),
            lines=last - place,
            data=self.data[start:stop],
            letters=self.letters,
            taken={at - place: line for at, line in self.taken.items() if place <= at < last},
            dropped=tuple((at - place, lines - before) for at, lines in self.dropped if place < at <= last),
        )

    def _dropped_before(self, place: int) -> int:
        found = bisect_right(self.dropped, place, key=itemgetter(0)) if self.dropped else 0
        return self.dropped[found - 1][1] if found else 0

    def take(self, lines: Iterable[tuple[int, int, int, TakenLine]]) -> None:
        """Take out the given lines, in order, each as `(place, start, end, line)`; offsets exclude the line feed."""
        kept: list[bytes] = []
        done = 0
        for place, start, end, line in lines:
            self.taken[place] = line
            kept += (self.data[done:start], PLACEHOLDER)
            done = end
        if kept:
            self.data = b"".join([*kept, self.data[done:]])


def line_blocks(pieces: Iterable[bytes], *, block_bytes: int, max_line_bytes: int) -> Iterator[LineBlock]:
    """Split a text into blocks of about `block_bytes`; memory holds at most a block and a piece.

    Lines longer than `max_line_bytes`, and lines that are not text, are removed.
    """
    number = 1
    cutter = _Cutter(block_bytes, max_line_bytes)
    for whole in chain(chain.from_iterable(map(cutter.add, pieces)), cutter.end()):
        for block in _bounded(_squeezed(whole, number)):
            if whole.long_start is not None:
                block.taken[0] = _too_long(whole.long_start, max_line_bytes)
            _take_long(block, max_line_bytes)
            _take_unreadable(block)
            yield block
        number += whole.lines


def _squeezed(whole: _Whole, first: int) -> LineBlock:
    """Leave out all but the first few lines of a run of empty lines."""
    data = whole.data
    if b"\r" in whole.letters:
        data = b"\n" * whole.lines if _is_feeds(data) else data.replace(b"\r\n", b"\n")
    kept: list[bytes] = []
    dropped: list[tuple[int, int]] = []
    place = done = lines = 0
    for run in _RUNS.finditer(data):
        stop = run.start() + _RUN
        kept.append(data[done:stop])
        place += data.count(b"\n", done, stop)
        done = run.end()
        lines += done - stop
        dropped.append((place, lines))
    if kept:
        data = b"".join([*kept, data[done:]])
    return LineBlock(first=first, lines=whole.lines - lines, data=data, letters=whole.letters, dropped=tuple(dropped))


def _is_feeds(data: bytes) -> bool:
    return b"\r\r" not in data and not data.strip(b"\r\n")


def _bounded(block: LineBlock) -> Iterator[LineBlock]:
    """Split the block into parts of limited line counts, because each refused line needs memory."""
    if block.lines <= _MAX_LINES:
        yield block
        return
    data = block.data
    middle = data.rfind(b"\n", 0, len(data) // 2) + 1 or data.index(b"\n") + 1
    before = _count(data[:middle])
    yield from _bounded(block.part((0, 0), (before, middle)))
    yield from _bounded(block.part((before, middle), (block.lines, len(data))))


def _count(data: bytes) -> int:
    # Arrow counts twice as fast as `bytes.count`.
    letters = pa.UInt8Array.from_buffers(pa.uint8(), len(data), [None, pa.py_buffer(data)])
    return int(pc.equal(letters, _LINE_FEED).true_count)


def shown(line: bytes) -> str:
    """Format a line for display: truncated, with invalid characters replaced."""
    return line[:MAX_TEXT_CHARS].decode("utf-8", "replace")[:MAX_TEXT_CHARS]


class _Whole(NamedTuple):
    """Whole lines, as in `LineBlock`; `long_start` is the start of a line that was replaced by a placeholder."""

    data: bytes
    lines: int
    letters: frozenset[bytes]
    long_start: bytes | None = None


class _Cutter:
    """Cuts pieces into data of whole lines. A line that becomes too long is replaced by a placeholder and its start."""

    def __init__(self, block_bytes: int, max_line_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._max_line_bytes = max_line_bytes
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._lines = 0
        self._letters: set[bytes] = set()
        self._long_start: bytes | None = None

    def add(self, piece: bytes) -> Iterator[_Whole]:
        if self._long_start is not None:
            _, feed, piece = piece.partition(b"\n")
            if not feed:
                return
            yield self._placeholder(self._long_start)
            self._long_start = None
        self._lines += _count(piece)
        self._letters |= _letters(piece)
        if self._held_bytes + len(piece) < self._block_bytes:
            self._hold(piece)
        else:
            yield from self._cut(piece)

    def end(self) -> Iterator[_Whole]:
        """Yield the rest after the last piece; its last line may lack the line feed."""
        if self._long_start is not None:
            yield self._placeholder(self._long_start)
        elif last := b"".join(self._held):
            whole = last.endswith(b"\n")
            letters = frozenset(self._letters)
            yield _Whole(last, self._lines, letters) if whole else _Whole(last + b"\n", self._lines + 1, letters)

    def _placeholder(self, start: bytes) -> _Whole:
        return _Whole(PLACEHOLDER + b"\n", 1, frozenset(), start)

    def _hold(self, piece: bytes) -> None:
        self._held.append(piece)
        self._held_bytes += len(piece)

    def _cut(self, piece: bytes) -> Iterator[_Whole]:
        """Yield the complete lines of the retained rest and of `piece`, joined in one copy."""
        if b"\n" not in piece:
            piece = b"".join((*self._held, piece))
            self._held, self._held_bytes = [], 0
        end = piece.rfind(b"\n") + 1
        if end:
            data = b"".join((*self._held, memoryview(piece)[:end]))
            whole = _Whole(data, self._lines, frozenset(self._letters))
            piece = piece[end:]
            self._held, self._held_bytes = [], 0
            self._lines, self._letters = 0, _letters(piece)
            yield whole
        # The rest of the piece is the beginning of a line.
        self._hold(piece)
        # A carriage return at the end of the piece does not count.
        if len(piece) > self._max_line_bytes + 1:
            self._held, self._held_bytes, self._letters = [], 0, set()
            self._long_start = piece[:MAX_TEXT_CHARS]


def _letters(piece: bytes) -> set[bytes]:
    found = {letter for letter in LETTERS if letter in piece}
    return found if piece.isascii() else {*found, _NOT_ASCII}


def _take_long(block: LineBlock, max_line_bytes: int) -> None:
    found: list[tuple[int, int, int, TakenLine]] = []
    data, start, counted, place = block.data, 0, 0, 0
    while len(data) - start > max_line_bytes:
        feed = data.rfind(b"\n", start, start + max_line_bytes + 1)
        if feed < 0:
            end = data.index(b"\n", start)
            place += data.count(b"\n", counted, start)
            counted = start
            found.append((place, start, end, _too_long(data[start : start + MAX_TEXT_CHARS], max_line_bytes)))
            feed = end
        start = feed + 1
    block.take(found)


def _too_long(start: bytes, max_line_bytes: int) -> TakenLine:
    return TakenLine(LineReason.LINE_TOO_LONG, f"more than {max_line_bytes} bytes", shown(start))


def _take_unreadable(block: LineBlock) -> None:
    if not block.letters & _UNREADABLE:
        return
    if b"\r" not in block.data and b"\0" not in block.data and _is_text(block.data):
        return
    found: list[tuple[int, int, int, TakenLine]] = []
    start = 0
    for place, line in enumerate(block.data.split(b"\n")[:-1]):
        problem = _problem(line)
        if problem:
            found.append((place, start, start + len(line), TakenLine(LineReason.NOT_TEXT, problem, shown(line))))
        start += len(line) + 1
    block.take(found)


def _problem(line: bytes) -> str:
    if b"\0" in line:
        return "a NUL byte"
    if b"\r" in line:
        return "a carriage return inside the line"
    return "" if _is_text(line) else "it is no UTF-8"


def _is_text(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
