"""Answers as lines of text for a width: pure functions, from an answer and a width to lines.

No line is wider than the width, but for two: a text that is to be copied and is itself wider, alone on its line, and
a number that is wider. Without a width, every column is shown and nothing is shortened.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len

from metering.cli.printing.fields import (
    GAP,
    Field,
    Grid,
    cell_text,
    fields_of,
    fitting,
    heading_lines,
    padded,
    shortened,
    wrapped,
)
from metering.reports.answer import Answer, Cell, Column, printable
from metering.units import SIZE_BASE, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_GAP = 2
# Less room is not worth a wrapped text beside its name.
_READABLE = 24
_NOTHING = "-"


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A line to be: name, value, and what explains it."""

    column: Column
    value: str
    size: str
    about: str

    @property
    def name(self) -> str:
        return printable(self.column.heading)

    @property
    def is_short(self) -> bool:
        return self.column.kind == "text" and self.column.text == "short"

    @property
    def is_aligned(self) -> bool:
        """Numbers and flags stand below each other, their ends in one column."""
        return self.column.kind in {"bytes", "whole", "integer", "money", "flag"} or self.column.text == "number"


def upright_lines(columns: Sequence[Column], rows: Sequence[Mapping[str, Cell]], width: int) -> list[str]:
    """Each row as a block of lines. A single one says what its columns are; of several, empty values are left out."""
    lines: list[str] = []
    for row in rows:
        entries = [_entry(column, row.get(column.name), explained=len(rows) == 1) for column in columns]
        if lines:
            lines.append("")
        lines += _block([entry for entry in entries if entry.value or len(rows) == 1], width)
    return lines


def _entry(column: Column, value: Cell, *, explained: bool) -> _Entry:
    return _Entry(
        column=column,
        value=cell_text(column, value),
        size=size_text(value) if column.shows_size and isinstance(value, int) else "",
        about=column.about if explained else "",
    )


def _block(entries: Sequence[_Entry], width: int) -> list[str]:
    start = max((cell_len(entry.name) for entry in entries), default=0) + _GAP
    end = start + max((cell_len(entry.value) for entry in entries if entry.is_aligned), default=0)
    # Explanations of some lines only would look as if the others had none.
    room = all(cell_len(line) <= width for entry in entries if entry.about for line in _lines(entry, start, end, width))
    shown = entries if room else [replace(entry, about="") for entry in entries]
    return [line for entry in shown for line in _lines(entry, start, end, width)]


def _lines(entry: _Entry, start: int, end: int, width: int) -> Iterator[str]:
    """The lines of one column: values begin at `start`, aligned ones end at `end`."""
    name, value = padded(entry.name, start, right=False), entry.value or _NOTHING
    if entry.is_aligned and end <= width:
        yield from _explained(name + padded(value, end - start, right=True), entry, width)
    elif start + cell_len(value) <= width:
        yield from _explained((name + value).ljust(end), entry, width)
    elif entry.column.text == "prose" and entry.column.kind == "text":
        room = width - start
        beside = wrapped(value, room if room >= _READABLE else width - _GAP)
        indent = start if room >= _READABLE else _GAP
        if indent == start:
            yield name + beside[0]
            beside = beside[1:]
        else:
            yield entry.name
        yield from (" " * indent + line for line in beside)
    elif entry.is_short and width - start >= _READABLE:
        yield name + shortened(value, width - start)
    else:
        text = shortened(value, width - _GAP) if entry.is_short else value
        yield entry.name
        yield f"{' ' * _GAP}{text}" if _GAP + cell_len(text) <= width else text


def _explained(line: str, entry: _Entry, width: int) -> Iterator[str]:
    """The line with its size and its explanation beside it; a size without room is below it."""
    beside = f"{line}{' ' * _GAP}{entry.size}"
    if not entry.size or cell_len(beside) <= width:
        yield f"{beside if entry.size else line}{' ' * _GAP}{entry.about}".rstrip()
    else:
        yield line.rstrip()
        yield " " * _GAP + entry.size


Style = Literal["", "title", "heading", "rule", "note"]

# Wide enough for any line: of a file, or of a window that scrolls.
UNBOUNDED = 1 << 30
# A row of more columns is easier to read upright, even if it fits.
_MOST_COLUMNS_OF_A_ROW = 4


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a printed answer."""

    text: str
    style: Style = ""


def title_lines(answer: Answer, width: int) -> list[Line]:
    """The title, if there is one."""
    if not answer.title:
        return []
    return [Line(text=text, style="title") for text in wrapped(printable(answer.title), width)]


def body_lines(answer: Answer, width: int) -> list[Line]:
    """The rows: a table, or upright, or a sentence if there are none."""
    if not answer.rows:
        return [Line(text=text) for text in wrapped(printable(answer.empty), width)]
    if _stands_upright(answer):
        return [Line(text=text) for text in upright_lines(answer.columns, answer.rows, width)]
    fields = fields_of(answer)
    grid = fitting(fields, width)
    if grid is None:
        rows = list(answer.rows_and_others())
        return [Line(text=text) for text in upright_lines(answer.columns, rows, width)]
    return [
        *_said_once(grid, width),
        *_heading(grid.fields, grid.widths),
        *(line for number in range(len(answer.rows)) for line in _row_lines(grid, number, width)),
        *([] if answer.others is None else [_rule(grid.widths), *_row_lines(grid, len(answer.rows), width)]),
        *_left_out(fields, grid, width),
    ]


def footer_lines(answer: Answer, width: int) -> list[Line]:
    """What stands below the rows and their chart."""
    lines = [line for text in answer.footer for line in _footer(printable(text), width)]
    if answer.rows and any(column.shows_size for column in answer.columns):
        lines += wrapped(SIZE_BASE, width)
    return [Line(text=text) for text in (*lines, *(printable(command) for command in answer.commands))]


def _footer(text: str, width: int) -> list[str]:
    """A line of the footer; one that is moved in stays so."""
    indent = text[: len(text) - len(text.lstrip())]
    return [indent + line for line in wrapped(text, width - len(indent), keeping=True)]


def _stands_upright(answer: Answer) -> bool:
    is_one_thing = answer.document is not None or len(answer.columns) > _MOST_COLUMNS_OF_A_ROW
    return len(answer.rows) == 1 and answer.others is None and is_one_thing


def _heading(fields: Sequence[Field], widths: Sequence[int]) -> list[Line]:
    columns = [heading_lines(printable(field.heading), width) for field, width in zip(fields, widths, strict=True)]
    height = max(map(len, columns))
    lowered = [[""] * (height - len(column)) + column for column in columns]
    lines = [Line(text=_row(line, fields, widths), style="heading") for line in zip(*lowered, strict=True)]
    return [*lines, _rule(widths)]


def _rule(widths: Sequence[int]) -> Line:
    return Line(text=(" " * GAP).join("─" * width for width in widths), style="rule")


def _row_lines(grid: Grid, number: int, width: int) -> list[Line]:
    """One row: the first text before it and others behind it, if they are to be copied and too long for their field."""
    above: list[str] = []
    below: list[str] = []
    columns: list[list[str]] = []
    for place, (field, room) in enumerate(zip(grid.fields, grid.widths, strict=True)):
        text = field.texts[number]
        if field.is_copied and cell_len(text) > room:
            columns.append([""])
            if place == 0:
                above.append(text)
            else:
                below += _named(field.heading, text, width)
        else:
            columns.append(_inside(field, text, room))
    for field in grid.below:
        below += _named(field.heading, field.texts[number], width)
    lines = [_row(line, grid.fields, grid.widths) for line in zip_longest(*columns, fillvalue="")]
    return [Line(text=text) for text in (*above, *(line for line in lines if line or not above), *below)]


def _inside(field: Field, text: str, room: int) -> list[str]:
    if field.is_prose:
        return wrapped(text, room)
    return [shortened(text, room) if field.is_shortened else text]


def _named(name: str, text: str, width: int) -> list[str]:
    if not text:
        return []
    line = f"{' ' * GAP}{name}: {text}"
    return [line] if cell_len(line) <= width else [f"{' ' * GAP}{name}:", text]


def _row(texts: Sequence[str], fields: Sequence[Field], widths: Sequence[int]) -> str:
    cells = (padded(text, room, right=field.right) for text, field, room in zip(texts, fields, widths, strict=True))
    return (" " * GAP).join(cells).rstrip()


def _said_once(grid: Grid, width: int) -> list[Line]:
    if not grid.same:
        return []
    texts = (f"{field.heading} {field.texts[0] or 'empty'}" for field in grid.same)
    return [Line(text=line, style="note") for line in wrapped(f"In all rows: {', '.join(texts)}", width)]


def _left_out(fields: Sequence[Field], grid: Grid, width: int) -> list[Line]:
    kept = {id(field.column) for field in (*grid.fields, *grid.below, *grid.same)}
    names = dict.fromkeys(field.column.heading for field in fields if id(field.column) not in kept)
    if not names:
        return []
    text = f"Not shown: {', '.join(names)}. Show all columns with --wide."
    return [Line(text=line, style="note") for line in wrapped(text, width)]
