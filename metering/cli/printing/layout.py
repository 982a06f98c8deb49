"""Answers as lines of text for a width: pure functions, from an answer and a width to lines.

No line is wider than the width, but for two: a text that is to be copied and is itself wider, alone on its line, and
a number that is wider. Without a width, every column is shown and nothing is shortened.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from rich.cells import cell_len

from metering.cli.printing.fields import GAP, Field, Grid, fields_of, fitting
from metering.cli.printing.texts import heading_lines, padded, shortened, wrapped
from metering.cli.printing.upright import upright_lines
from metering.reports.answer import Answer
from metering.reports.safe_text import printable
from metering.units import SIZE_BASE

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
