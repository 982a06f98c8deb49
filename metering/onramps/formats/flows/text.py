"""VPC flow logs as text: a header, then a line for each record. Headers may come again, also with other fields."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from metering.errors import LogFileRefusedError
from metering.onramps.formats.flows.blocks import BlockMaker
from metering.onramps.formats.flows.columns import parsed
from metering.onramps.formats.flows.layout import header_names, layout_of
from metering.onramps.formats.lines import BadLines, LineBlock, TakenLine, line_blocks, shown
from metering.onramps.formats.pieces import Pieces
from metering.onramps.observations import RefusedLine
from metering.onramps.reasons import FileReason, LineReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from metering.onramps.formats.flows.layout import Layout
    from metering.onramps.names import FileName
    from metering.onramps.observations import Block, FlowHop
    from metering.onramps.reading import ReadSettings

# Every header has this name. Its letter is rare in all other lines.
_SIGN, _SIGN_LETTER = b"bytes", b"y"
_HEADER = TakenLine("", "", "")


class _Header(NamedTuple):
    """A header line of a block: its place from 0, its first byte, and the byte behind its last."""

    place: int
    start: int
    end: int
    names: tuple[str, ...]


class _Lines:
    """The lines of a block beside its rows. Its text is cut into lines only if one of them is asked for.

    Args:
        block: The block.
        misfits: Lines that became no row: their number of fields, by their place.
        fields: Number of fields of the header.
    """

    def __init__(self, block: LineBlock, misfits: Mapping[int, int], fields: int) -> None:
        self._block = block
        self._misfits = misfits
        self._fields = fields
        self._places = sorted(misfits)
        # The number of rows before each misfit; made if a row is asked for.
        self._rows_before: list[int] = []
        self._texts: list[bytes] = []

    def of_row(self, row: int) -> tuple[int, str]:
        """Number of a row's line in the file, and its text."""
        if not self._rows_before:
            self._rows_before = [place - count for count, place in enumerate(self._places)]
        place = row + bisect_right(self._rows_before, row)
        return self._block.number(place), self._text(place)

    def counts(self) -> dict[str, int]:
        """Lines that are refused and became no row, by reason, and the empty ones that are not in the data."""
        taken = Counter(line.reason for line in self._block.taken.values())
        misfits = len(self._places) - taken.total() + self._block.empty
        return {
            reason: lines for reason, lines in {**taken, LineReason.FIELD_COUNT: misfits}.items() if reason and lines
        }

    def refused(self) -> Iterator[RefusedLine]:
        """Lines that are refused and became no row, in order, without those that are not in the data."""
        for place in self._places:
            number, taken = self._block.number(place), self._block.taken.get(place)
            if taken is None:
                detail = f"{self._misfits[place]} fields, and the header names {self._fields}"
                yield RefusedLine(number, LineReason.FIELD_COUNT, detail, self._text(place), 0)
            elif taken.reason:
                yield RefusedLine(number, taken.reason, taken.detail, taken.text, 0)

    def _text(self, place: int) -> str:
        if not self._texts:
            self._texts = self._block.data.split(b"\n")
        return shown(self._texts[place])


class FlowText:
    """Reads one file of text. `read` gives its blocks, once."""

    def __init__(
        self, stream: BinaryIO, name: FileName, settings: ReadSettings, digest: Callable[[bytes], object]
    ) -> None:
        self._name = name
        self._settings = settings
        self._pieces = Pieces(stream, settings, digest)
        self._maker = BlockMaker(name, settings)
        self._bad = BadLines(settings.max_bad_lines)
        self._layout: Layout | None = None
        if settings.fields:
            self._layout = layout_of(settings.fields, account_id=name.account_id)

    def read(self) -> Iterator[Block[FlowHop]]:
        """Read the file (`LogReader`)."""
        settings = self._settings
        for block in line_blocks(
            self._pieces, block_bytes=settings.block_bytes, max_line_bytes=settings.max_line_bytes
        ):
            for section in self._sections(block):
                self._read(section)
            yield from self._maker.full(self._pieces.read_bytes)
        yield from self._maker.last(self._pieces.read_bytes)

    def _sections(self, block: LineBlock) -> Iterator[LineBlock]:
        """The block, cut where a header names other fields, and without headers. Sets the layout of each section."""
        place, start = 0, 0
        headers: list[_Header] = []
        for header in _headers(block):
            self._bad.add()
            names = self._layout.names if self._layout is not None else ()
            if header.names != names:
                if header.start > start:
                    yield _section(block, (place, start), (header.place, header.start), headers)
                    place, start, headers = header.place, header.start, []
                self._layout = layout_of(header.names, account_id=self._name.account_id)
            headers.append(header)
        yield _section(block, (place, start), (block.lines, len(block.data)), headers)

    def _read(self, block: LineBlock) -> None:
        layout = self._layout
        if layout is None:
            self._check_no_lines(block)
            raise LogFileRefusedError(FileReason.NO_HEADER, "no line of the file could be read")
        rows, misfits = parsed(block.data, layout, block.letters)
        header = sum(not taken.reason for taken in block.taken.values())
        # Headers were counted before, and an empty line has no fields.
        self._bad.add(sum(map(bool, misfits.values())) - header)
        lines = _Lines(block, misfits, len(layout.names))
        self._maker.add(
            rows,
            fields=layout.names,
            header=header,
            misfits=lines.counts(),
            refused=lines.refused(),
            place=lines.of_row,
        )

    def _check_no_lines(self, block: LineBlock) -> None:
        lines = block.data.split(b"\n", len(block.taken) + 1)
        first = next((line for place, line in enumerate(lines[:-1]) if place not in block.taken), None)
        if first is not None:
            raise LogFileRefusedError(
                FileReason.NO_HEADER,
                f"the first line names no fields: {shown(first)[:120]!r}. Give the fields of the log, in order.",
            )


def _headers(block: LineBlock) -> Iterator[_Header]:
    data = block.data
    at = 0
    place, counted = 0, 0
    if block.first == 1:
        # The first header may lack the sign, and then the file is refused for it.
        end = data.index(b"\n")
        names = header_names(data[:end].decode().lstrip("\ufeff"))
        if names is not None:
            yield _Header(0, 0, end, names)
            at = end
    if _SIGN_LETTER not in block.letters:
        return
    while (found := data.find(_SIGN, at)) >= 0:
        start, at = data.rfind(b"\n", 0, found) + 1, data.index(b"\n", found)
        names = header_names(data[start:at].decode())
        if names is not None:
            place += data.count(b"\n", counted, start)
            counted = start
            yield _Header(place, start, at, names)


def _section(block: LineBlock, begin: tuple[int, int], end: tuple[int, int], headers: list[_Header]) -> LineBlock:
    """Lines of a block from one place to another, as `(place, byte)`, without the headers."""
    place, start = begin
    section = block.part(begin, end) if place or end[0] < block.lines else block
    section.take([(each.place - place, each.start - start, each.end - start, _HEADER) for each in headers])
    return section
