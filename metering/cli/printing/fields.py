"""The fields of a printed table, and which of them get into a width, and how wide each then is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size

from metering.hours import rfc3339
from metering.reports.answer import KEEP, USUAL, Answer, Cell, Column, printable
from metering.units import size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

# Texts of cells, and how a text gets into a width: whole, shortened in the middle, or wrapped between words.
#
# Widths are in cells of a terminal: a Chinese character takes two, an accent on a letter none.


ELLIPSIS = "…"

# A command to paste counts as one word.
_WORDS = re.compile(r"`[^`]*`\S*|(?<=: )metering .*\S|\S+")
_DIGITS = re.compile(r"(-?)([0-9]+)(\.[0-9]+)?")


def cell_text(column: Column, value: Cell) -> str:
    """The value as people read it; digits are grouped, and characters that could steer a terminal are escaped."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return f"{value:,f}"
    if isinstance(value, int):
        # A number that is a name, such as that of a process, is copied; a count is read.
        return str(value) if column.text == "copied" else f"{value:,}"
    if column.text == "number":
        return _grouped(value)
    return printable(_as_rfc3339(value) if column.text == "time" else value)


def _grouped(text: str) -> str:
    match = _DIGITS.fullmatch(text)
    return f"{match[1]}{int(match[2]):,}{match[3] or ''}" if match else printable(text)


def _as_rfc3339(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    if moment.tzinfo is None or moment.microsecond:
        return text
    return rfc3339(int(moment.astimezone(UTC).timestamp()))


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` cells: its middle makes room, because the ends tell texts of one kind apart."""
    if cell_len(text) <= width:
        return text
    if width < 2:
        return ELLIPSIS[:width]
    right = (width - 1) // 2
    end = set_cell_size(text[::-1], right).rstrip()[::-1]
    return set_cell_size(text, width - 1 - right).rstrip() + ELLIPSIS + end


def wrapped(text: str, width: int, *, keeping: bool = False) -> list[str]:
    """Lines of at most `width` cells, broken between words.

    A command to paste is one word if it fits: in backticks, or after a colon at the end. A longer word is shortened.

    Args:
        text: What to wrap.
        width: Cells.
        keeping: Keep longer commands whole too, each alone on its line, and wider than it should be.
    """
    lines: list[str] = []
    for word in _WORDS.findall(text):
        for part in _fitting(word, width, keeping=keeping):
            if lines and cell_len(lines[-1]) + 1 + cell_len(part) <= width:
                lines[-1] += f" {part}"
            else:
                lines.append(part)
    return lines or [""]


def _fitting(word: str, width: int, *, keeping: bool) -> list[str]:
    if cell_len(word) <= width:
        return [word]
    if keeping and word.startswith(("`", "metering ")):
        return [word]
    return [shortened(part, width) for part in word.split()]


def longest_word(text: str) -> int:
    """Cells of the longest word of `text`."""
    return max(map(cell_len, text.split()), default=0)


def heading_lines(heading: str, width: int) -> list[str]:
    """A heading in lines of at most `width` cells if its words allow it, broken at spaces and after underscores."""
    lines = [""]
    for part in heading_parts(heading):
        if lines[-1] and cell_len((lines[-1] + part).rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return [line.rstrip() for line in lines]


def heading_parts(heading: str) -> list[str]:
    """Parts of a heading that stay whole."""
    return re.findall(r"[^ _]*(?:[ _]+|$)", heading)[:-1] or [heading]


def padded(text: str, width: int, *, right: bool) -> str:
    """`text` with spaces up to `width` cells, before it if it stands to the right."""
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


GAP = 2
"""Spaces between two fields."""

# A text is not shortened to less than this.
_SHORTEST = 12
# Prose is not wrapped to less than this.
_PROSE = {2: 40, 3: 24, 4: 16}
# A word of prose that is longer is shortened.
_LONGEST_WORD = 40
# Room for texts that are to be copied, where the longest of them stand on lines of their own.
_NARROWEST_COPY = 20
_WIDEST_COPY = 40
_ENOUGH_ROWS = 3


class Squeeze(IntEnum):
    """How far fields give way, each more than the one before."""

    NONE = 0
    HEADINGS = 1
    """Headings are broken at spaces and underscores."""
    READABLE = 2
    """Texts are shortened or wrapped; a few long ones that are to be copied stand on lines of their own."""
    NARROW = 3
    """Prose is wrapped to a narrow column."""
    LINES = 4
    """More texts that are to be copied stand on lines of their own, and prose gets little."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Field:
    """A column as it is printed; a column of bytes has a second one for its sizes.

    Attributes:
        column: The column that it shows.
        texts: One a row.
        is_size: It holds sizes, such as `19.4 PB`, beside the exact bytes.
    """

    column: Column
    texts: Sequence[str]
    is_size: bool = False

    @property
    def heading(self) -> str:
        return "size" if self.is_size else self.column.heading

    @property
    def right(self) -> bool:
        return self.column.kind in {"bytes", "whole", "integer", "money"} or self.column.text == "number"

    @property
    def is_copied(self) -> bool:
        return self._is_text and self.column.text == "copied"

    @property
    def is_prose(self) -> bool:
        return self._is_text and self.column.text == "prose"

    @property
    def is_shortened(self) -> bool:
        return self._is_text and self.column.text == "short"

    @property
    def _is_text(self) -> bool:
        return self.column.kind == "text"

    def cells(self, squeeze: Squeeze) -> int:
        """Cells that it needs if it is squeezed as far as that."""
        if squeeze is Squeeze.NONE:
            return max(self._longest, cell_len(self.heading))
        if squeeze > Squeeze.HEADINGS:
            if self.is_shortened:
                return max(self._heading, min(self._longest, _SHORTEST))
            if self.is_prose:
                return max(self._heading, min(self._longest, _PROSE[squeeze]), self._word)
            if self.is_copied:
                return max(self._heading, self._copied(squeeze))
        return max(self._longest, self._heading)

    def _copied(self, squeeze: Squeeze) -> int:
        """Cells of its texts if the longest of them stand on lines of their own."""
        lengths = sorted(map(cell_len, self.texts)) or [0]
        # More than a quarter of the rows with a line more would be hard to read.
        most = lengths[len(lengths) * 3 // 4]
        if squeeze is Squeeze.LINES:
            return min(self._longest, max(most if most <= _WIDEST_COPY else 0, _NARROWEST_COPY))
        if most > _WIDEST_COPY:
            # Where most are long, it is better if the field is.
            return self._longest
        return max(length for length in lengths if length <= _WIDEST_COPY)

    @cached_property
    def is_bulky(self) -> bool:
        """Whether all of its texts are to be copied and so long that they are better off below their rows."""
        return self.is_outside(_WIDEST_COPY)

    def is_outside(self, width: int) -> bool:
        """Whether it has texts, and all of them are to be copied and too long for `width`."""
        texts = [text for text in self.texts if text]
        return self.is_copied and bool(texts) and all(cell_len(text) > width for text in texts)

    @cached_property
    def is_empty(self) -> bool:
        """Whether no row has a text."""
        return not any(self.texts)

    @cached_property
    def is_same(self) -> bool:
        """Whether it says the same in all rows, and there are enough of them to say it once."""
        return len(self.texts) >= _ENOUGH_ROWS and len(set(self.texts)) == 1 and not (self.is_prose and self.texts[0])

    def narrowed(self, width: int) -> int:
        """The least width in which the same texts have room as in `width`."""
        if not self.is_copied or self._longest <= width:
            return width
        return max(self._heading, *(cell_len(text) for text in self.texts if cell_len(text) <= width), 0)

    @cached_property
    def _longest(self) -> int:
        return max(map(cell_len, self.texts), default=0)

    @cached_property
    def _word(self) -> int:
        return min(max(map(longest_word, self.texts), default=0), _LONGEST_WORD)

    @cached_property
    def _heading(self) -> int:
        return max(cell_len(part.rstrip()) for part in heading_parts(self.heading))


def fields_of(answer: Answer) -> list[Field]:
    """All fields of an answer, in order."""
    # Once: rows of a query may lie on the disk.
    rows = list(answer.rows_and_others())
    fields: list[Field] = []
    for column in answer.columns:
        values = [row.get(column.name) for row in rows]
        fields.append(Field(column=column, texts=[cell_text(column, value) for value in values]))
        if column.shows_size:
            fields.append(Field(column=column, texts=[_size(value) for value in values], is_size=True))
    return fields


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table that fits.

    Attributes:
        fields: The fields of its rows, in order.
        widths: Their cells.
        below: Fields whose texts stand below the row, because all of them are long and to be copied.
        same: Fields that say the same in all rows, and are said once.
    """

    fields: Sequence[Field]
    widths: Sequence[int]
    below: Sequence[Field] = ()
    same: Sequence[Field] = ()


def fitting(fields: Sequence[Field], width: int) -> Grid | None:
    """Choose the fields of a table, and their widths.

    First, fields that are empty in all rows are only named, and fields of low priority are left out. If only the usual
    ones are left, what is the same in all rows is said once, and texts to be copied may stand on lines of their own.
    After that, usual ones are left out too.

    Returns:
        None if not even those fields fit that a table must have.
    """
    widths = _widths(fields, width, _squeeze(fields))
    if widths is not None:
        return _grid(fields, widths, width)
    empty = [field for field in fields[1:] if field.is_empty]
    kept = [field for field in fields if field not in empty]
    while True:
        widths = _widths(kept, width, _squeeze(kept))
        if widths is not None:
            return _grid(kept, widths, width, same=empty)
        last = _least_needed(kept)
        if last is None or last.column.priority <= USUAL:
            break
        kept = _without(kept, last)
    same = [field for field in kept[1:] if field.is_same]
    return _squeezed([field for field in kept if field not in same], [*empty, *same], width)


def _grid(fields: Sequence[Field], widths: Sequence[int], width: int, *, same: Sequence[Field] = ()) -> Grid:
    """The table of these fields; one none of whose texts has room in its own width stands below the rows."""
    below = [field for field, room in list(zip(fields, widths, strict=True))[1:] if field.is_outside(room)]
    inside = [field for field in fields if field not in below]
    if below:
        widths = _widths(inside, width, Squeeze.LINES) or widths
    return Grid(fields=inside, widths=_tightened(inside, widths), below=below, same=same)


def _squeeze(fields: Sequence[Field]) -> Squeeze:
    """Columns of low priority are left out before prose becomes narrow."""
    return Squeeze.READABLE if any(field.column.priority > USUAL for field in fields) else Squeeze.NARROW


def _squeezed(fields: Sequence[Field], same: Sequence[Field], width: int) -> Grid | None:
    """A table of the usual fields in which texts may stand on lines of their own."""
    kept: Sequence[Field] = fields
    while True:
        below = [field for field in kept[1:] if field.is_bulky]
        inside = [field for field in kept if field not in below]
        widths = _widths(inside, width, Squeeze.LINES)
        if widths is not None:
            return Grid(fields=inside, widths=_tightened(inside, widths), below=below, same=same)
        last = _least_needed(inside)
        if last is None:
            return None
        kept = _without(kept, last)


def _least_needed(fields: Sequence[Field]) -> Field | None:
    """The field that is left out next, if any may be."""
    last = max(enumerate(fields), key=lambda each: (_rank(each[1]), each[0]))[1]
    return None if len(fields) == 1 or _rank(last) <= (KEEP, False) else last


def _without(fields: Sequence[Field], last: Field) -> list[Field]:
    """The others. With a column goes its size, which can go alone."""
    return [field for field in fields if field is not last and (last.is_size or field.column is not last.column)]


def _tightened(fields: Sequence[Field], widths: Sequence[int]) -> list[int]:
    """The same widths, but a field some of whose texts stand on their own lines is as wide as the others of them.

    What is left over goes to texts that are shortened or wrapped.
    """
    tight = [field.narrowed(width) for field, width in zip(fields, widths, strict=True)]
    left = sum(widths) - sum(tight)
    for place, field in enumerate(fields):
        more = min(left, field.cells(Squeeze.NONE) - tight[place]) if field.is_prose or field.is_shortened else 0
        tight[place] += more
        left -= more
    return tight


def _rank(field: Field) -> tuple[int, bool]:
    """The greatest goes first. The size of a column goes before other columns like it, but the column may be kept."""
    return (max(field.column.priority, USUAL) if field.is_size else field.column.priority, field.is_size)


def _widths(fields: Sequence[Field], width: int, most: Squeeze) -> list[int] | None:
    """Widths that fill `width` at most, squeezed no more than they must be; None if `most` is not enough."""
    room = width - GAP * (len(fields) - 1)
    now = [field.cells(Squeeze.NONE) for field in fields]
    if sum(now) <= room:
        return now
    for squeeze in list(Squeeze)[1 : most + 1]:
        floor = [field.cells(squeeze) for field in fields]
        if sum(floor) <= room:
            # No field can get more than all the room: a text of a megabyte need not be counted down from there.
            return _shrunk([max(low, min(high, room)) for low, high in zip(floor, now, strict=True)], floor, room)
        now = floor
    return None


def _shrunk(now: Sequence[int], floor: Sequence[int], room: int) -> list[int]:
    """Widths between `floor` and `now` that sum up to `room`: the widest give way first."""
    widths = list(now)
    for _ in range(sum(now) - room):
        widest = max(range(len(widths)), key=lambda each: (widths[each] > floor[each], widths[each]))
        widths[widest] -= 1
    return widths


def _size(value: Cell) -> str:
    return size_text(value) if isinstance(value, int) else ""
