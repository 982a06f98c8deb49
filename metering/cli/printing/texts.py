"""Texts of cells, and how a text gets into a width: whole, shortened in the middle, or wrapped between words.

Widths are in cells of a terminal: a Chinese character takes two, an accent on a letter none.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal

from rich.cells import cell_len, set_cell_size

from metering.hours import rfc3339
from metering.reports.answer import Cell, Column
from metering.reports.safe_text import printable

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
