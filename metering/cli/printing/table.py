"""Prints answers, charts and headings, fitted to the console's width.

In a narrow window, texts are shortened; if this is not enough, columns of low priority are omitted, and their names are
printed. Text for copying is never shortened; it continues on the next line. No line exceeds the width, unless it has a
command or a number that is wider by itself. Without a width, every column is printed in full. Widths are counted in
terminal cells: a Chinese character takes two cells, a combining accent none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from itertools import groupby, zip_longest
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.markdown import Markdown
from rich.text import Text

from metering.billing.money import cents_text, half_up, usd_text
from metering.hours import rfc3339
from metering.reports.answer import KEEP, USUAL, Answer, Cell, Column, printable
from metering.units import SIZE_BASE, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console, ConsoleOptions

Style = Literal["", "title", "heading", "rule", "note"]

# Wide enough for any line of a file or of a scrolling window.
UNBOUNDED = 1 << 30
# A row with more columns than this is easier to read vertically, even if it fits.
_MOST_COLUMNS_OF_A_ROW = 4
# Between two fields.
_GAP = "  "
# With less width than this, text is not wrapped beside its name.
_READABLE = 24
_ENOUGH_ROWS = 3
# Text of any kind keeps at least this many cells.
_LEAST = {"short": 12, "prose": 24, "copied": 24}
# Text for copying is never broken if it has at most this many cells.
_WHOLE_COPY = 40
_ELLIPSIS = "…"
# A command for pasting counts as one unbreakable word.
_WORDS = re.compile(r"`[^`]*`\S*|(?<=: )metering .*\S|\S+")
_DIGITS = re.compile(r"(-?)([0-9]+)(\.[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a printed answer."""

    text: str
    style: Style = ""


def cell_text(column: Column, value: Cell, *, exactly: bool = True) -> str:
    """Format a value for people: digits are grouped, control characters are escaped, and costs are cents or exact."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return f"{value:,f}" if exactly or not column.cents else cents_text(value)
    if isinstance(value, int):
        # A number that serves as a name, such as a process id, is printed for copying; a count is printed for reading.
        return str(value) if column.text == "copied" else f"{value:,}"
    if column.text == "number":
        match = _DIGITS.fullmatch(value)
        if match and match[3] and column.cents and not exactly:
            return cents_text(Decimal(value))
        return f"{match[1]}{int(match[2]):,}{match[3] or ''}" if match else printable(value)
    return printable(_as_rfc3339(value) if column.text == "time" else value)


def _as_rfc3339(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    if moment.tzinfo is None or moment.microsecond:
        return text
    return rfc3339(int(moment.astimezone(UTC).timestamp()))


def _size_of(column: Column, value: Cell) -> str:
    return size_text(value) if column.shows_size and isinstance(value, int) else ""


def shortened(text: str, width: int) -> str:
    """Shorten `text` to at most `width` cells by cutting in the middle, because similar texts differ at their ends."""
    if cell_len(text) <= width:
        return text
    if width < 2:
        return _ELLIPSIS[:width]
    right = (width - 1) // 2
    end = set_cell_size(text[::-1], right).rstrip()[::-1]
    return set_cell_size(text, width - 1 - right).rstrip() + _ELLIPSIS + end


def wrapped(text: str, width: int, *, keeping: bool = False) -> list[str]:
    """Wrap text between words, to lines of at most `width` cells; a word that is longer continues on the next line.

    A command in backticks, or after a colon at the end of the text, counts as one word if it fits.

    Args:
        text: What to wrap.
        width: Cells.
        keeping: Do not break longer commands either: each is on a line of its own, which exceeds `width`.
    """
    if cell_len(text) <= width and not keeping:
        return [text]
    lines: list[str] = []
    for word in _WORDS.findall(text):
        whole = cell_len(word) <= width or (keeping and word.startswith(("`", "metering ")))
        for part in [word] if whole else [piece for each in word.split() for piece in chop_cells(each, width)]:
            if lines and cell_len(lines[-1]) + 1 + cell_len(part) <= width:
                lines[-1] += f" {part}"
            else:
                lines.append(part)
    return lines or [""]


def padded(text: str, width: int, *, right: bool) -> str:
    """`text` padded with spaces to `width` cells; if `right`, the spaces are on the left."""
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _is_aligned(column: Column) -> bool:
    return column.kind in {"bytes", "whole", "integer", "money"} or column.text == "number"


@dataclass(frozen=True, kw_only=True, eq=False)
class Field:
    """A printed column; a column of bytes has a second printed column for readable sizes.

    Attributes:
        column: The column of the answer.
        texts: One a row.
        is_size: Whether this column has the sizes, such as `19.4 PB`, that belong to a column of bytes.
    """

    column: Column
    texts: Sequence[str]
    is_size: bool = False

    @property
    def heading(self) -> str:
        return "size" if self.is_size else printable(self.column.heading)

    @property
    def rank(self) -> tuple[int, bool]:
        """The column with the greatest rank is omitted first: the sizes before other columns of the same priority."""
        priority = self.column.priority
        return (max(priority, USUAL), True) if self.is_size else (priority, False)

    @cached_property
    def widest(self) -> int:
        """Width in cells of the longest text or heading."""
        return max(cell_len(self.heading), *map(cell_len, self.texts))

    @cached_property
    def least(self) -> int:
        """Minimum width in cells: numbers and times are never broken, headings only at spaces and underscores."""
        longest = max(map(cell_len, self.texts))
        if self.column.kind == "text" and self.column.text in _LEAST:
            stays = self.column.text == "copied" and longest <= _WHOLE_COPY
            longest = longest if stays else min(longest, _LEAST[self.column.text])
        return max(longest, *map(cell_len, _heading_words(self.heading).split()))

    @cached_property
    def is_same(self) -> bool:
        """Whether all rows have one value, to be printed only once because it is empty or there are enough rows."""
        return len({*self.texts}) == 1 and (
            not self.texts[0] or (len(self.texts) >= _ENOUGH_ROWS and not self._is_prose)
        )

    @property
    def _is_prose(self) -> bool:
        return self.column.kind == "text" and self.column.text == "prose"

    def inside(self, text: str, width: int) -> list[str]:
        """A text as lines no wider than the given width."""
        if self.column.kind != "text" or self.column.text not in _LEAST or cell_len(text) <= width:
            return [text]
        if self.column.text == "short":
            return [shortened(text, width)]
        return chop_cells(text, width) if self.column.text == "copied" else wrapped(text, width)


def _heading_words(heading: str) -> str:
    return heading.replace("_", "_ ")


def _heading_lines(heading: str, width: int) -> list[str]:
    if cell_len(heading) <= width:
        return [heading]
    return [line.replace("_ ", "_") for line in wrapped(_heading_words(heading), width)]


def _fields_of(answer: Answer, width: int) -> list[Field]:
    # The rows are read only once, because a query's rows may be on disk.
    rows = list(answer.rows_and_others())
    fields: list[Field] = []
    for column in answer.columns:
        values = [row.get(column.name) for row in rows]
        texts = [cell_text(column, value, exactly=width >= UNBOUNDED) for value in values]
        fields.append(Field(column=column, texts=texts))
        if column.shows_size:
            fields.append(Field(column=column, texts=[_size_of(column, value) for value in values], is_size=True))
    return fields


def _widths(fields: Sequence[Field], width: int) -> list[int] | None:
    """Column widths with a sum of at most `width`; the widest columns are narrowed first. None if there is no room."""
    room = width - len(_GAP) * (len(fields) - 1)
    least = [field.least for field in fields]
    if sum(least) > room:
        return None
    # No field gets more than the whole width, so a value of a megabyte is not shrunk one cell at a time.
    widths = [max(low, min(field.widest, room)) for low, field in zip(least, fields, strict=True)]
    for _ in range(sum(widths) - room):
        widest = max(range(len(widths)), key=lambda each: (widths[each] > least[each], widths[each]))
        widths[widest] -= 1
    return widths


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """A table that fits: its fields, their widths in cells, and the fields whose common value is printed only once."""

    fields: Sequence[Field]
    widths: Sequence[int]
    same: Sequence[Field] = ()


def _fitting(fields: Sequence[Field], width: int) -> _Grid | None:
    """Choose a table's fields: first, values common to all rows are printed once; then columns are omitted by priority.

    Returns:
        None if even the fields that a table must have do not fit in the width.
    """
    same = [field for field in fields[1:] if field.is_same]
    for said in ([], [field for field in same if not any(field.texts)], same):
        kept = [field for field in fields if field not in said]
        if widths := _widths(kept, width):
            return _Grid(fields=kept, widths=widths, same=said)
    while (widths := _widths(kept, width)) is None:
        last = max(reversed(kept), key=lambda field: field.rank)
        if last.rank <= (KEEP, False) or len(kept) == 1:
            return None
        # If a column is removed, its size is removed, too; a size can be removed alone.
        kept = [each for each in kept if each is not last and (last.is_size or each.column is not last.column)]
    return _Grid(fields=kept, widths=widths, same=same)


def title_lines(answer: Answer, width: int) -> list[Line]:
    """The title, if the answer has one."""
    return _noted(printable(answer.title), width, "title") if answer.title else []


def body_lines(answer: Answer, width: int) -> list[Line]:
    """The rows as a table, or as one block of lines per row; if there are no rows, a sentence."""
    if not answer.rows:
        return _noted(printable(answer.empty), width, "")
    is_one_thing = answer.document is not None or len(answer.columns) > _MOST_COLUMNS_OF_A_ROW
    if len(answer.rows) == 1 and answer.others is None and is_one_thing:
        return [*_upright(answer.columns, answer.rows, width)]
    fields = _fields_of(answer, width)
    grid = _fitting(fields, width)
    if grid is None:
        return [*_upright(answer.columns, list(answer.rows_and_others()), width)]
    rule = Line(text=_GAP.join("─" * each for each in grid.widths), style="rule")
    headings = [_heading_lines(field.heading, each) for field, each in zip(grid.fields, grid.widths, strict=True)]
    highest = max(map(len, headings))
    lowered = [[""] * (highest - len(lines)) + lines for lines in headings]
    return [
        *_said_once(grid, width),
        *(Line(text=text, style="heading") for text in _rows(grid, lowered)),
        rule,
        *(line for number in range(len(answer.rows)) for line in _row_lines(grid, number)),
        *([] if answer.others is None else [rule, *_row_lines(grid, len(answer.rows))]),
        *_left_out(fields, grid, width),
    ]


def _rows(grid: _Grid, columns: Sequence[Sequence[str]]) -> Iterator[str]:
    for texts in zip_longest(*columns, fillvalue=""):
        cells = zip(texts, grid.widths, grid.fields, strict=True)
        yield _GAP.join(padded(text, room, right=_is_aligned(field.column)) for text, room, field in cells).rstrip()


def _row_lines(grid: _Grid, number: int) -> list[Line]:
    cells = [field.inside(field.texts[number], room) for field, room in zip(grid.fields, grid.widths, strict=True)]
    return [Line(text=text) for text in _rows(grid, cells)]


def _said_once(grid: _Grid, width: int) -> list[Line]:
    texts = [f"{field.heading} {field.texts[0] or 'empty'}" for field in grid.same]
    return _noted(f"In all rows: {', '.join(texts)}", width) if texts else []


def _left_out(fields: Sequence[Field], grid: _Grid, width: int) -> list[Line]:
    kept = {id(field.column) for field in (*grid.fields, *grid.same)}
    names = dict.fromkeys(field.column.heading for field in fields if id(field.column) not in kept)
    if not names:
        return []
    return _noted(f"Not shown: {', '.join(names)}. Show all columns with --wide.", width)


def _noted(text: str, width: int, style: Style = "note") -> list[Line]:
    return [Line(text=line, style=style) for line in wrapped(text, width)]


def footer_lines(answer: Answer, width: int) -> list[Line]:
    """Lines printed below the rows and their chart."""
    lines: list[str] = []
    for text in map(printable, answer.footer):
        # An indented line keeps its indentation.
        indent = text[: len(text) - len(text.lstrip())]
        lines += [indent + line for line in wrapped(text, width - len(indent), keeping=True)]
    if answer.rows and any(column.shows_size for column in answer.columns):
        lines += wrapped(SIZE_BASE, width)
    return [Line(text=text) for text in (*lines, *map(printable, answer.commands))]


def _upright(columns: Sequence[Column], rows: Sequence[Mapping[str, Cell]], width: int) -> Iterator[Line]:
    """Yield each row as a block of lines. A single row explains its columns; several rows omit empty values."""
    alone = len(rows) == 1
    for number, row in enumerate(rows):
        if number:
            yield Line(text="")
        values = [(column, row.get(column.name)) for column in columns]
        texts = [(column, cell_text(column, value, exactly=width >= UNBOUNDED), value) for column, value in values]
        shown = [each for each in texts if each[1] or alone]
        start = max((cell_len(printable(column.heading)) for column, _, _ in shown), default=0) + len(_GAP)
        end = max((cell_len(text) for column, text, _ in shown if _stands_right(column)), default=0)
        entries: list[tuple[Column, list[str]]] = []
        for column, text, value in shown:
            beside = [_size_of(column, value), column.about if alone else ""]
            entries.append((column, [padded(text or "-", end, right=_stands_right(column)), *filter(None, beside)]))
        # If only some lines were explained, the others would seem to have no explanation.
        explained = all(start + cell_len(_GAP.join(parts)) <= width for column, parts in entries if column.about)
        for column, parts in entries:
            kept = parts if explained else [part for part in parts if part != column.about]
            yield from _entry(column, kept, start, width)


def _stands_right(column: Column) -> bool:
    return _is_aligned(column) or column.kind == "flag"


def _entry(column: Column, parts: Sequence[str], start: int, width: int) -> Iterator[Line]:
    """A name with its value and explanation, on a single line if they fit."""
    name = printable(column.heading)
    line = f"{padded(name, start, right=False)}{_GAP.join(parts)}".rstrip()
    if cell_len(line) <= width:
        yield Line(text=line)
        return
    indent = start if width - start >= _READABLE else len(_GAP)
    value, *beside = parts
    lines = [value] if column.text == "copied" else Field(column=column, texts=[]).inside(value.strip(), width - indent)
    for part in beside:
        lines += wrapped(part, width - indent)
    if indent == start and cell_len(lines[0]) <= width - start:
        yield Line(text=f"{padded(name, start, right=False)}{lines.pop(0)}".rstrip())
    else:
        yield Line(text=name)
    for text in lines:
        # Text for copying that is wider than the line is not indented.
        yield Line(text=" " * indent + text if indent + cell_len(text) <= width else text)


MOST_BARS = 20
# A month of days.
MOST_TIMES = 31
_TIMES = frozenset({"hour", "day", "month"})
_WIDEST_BAR = 40
# If the bars would be shorter than this, the names are printed above them.
_SHORTEST_BAR = 12
_EIGHTHS = " ▏▎▍▌▋▊▉"
_STYLES = {"": "", "title": "italic", "heading": "bold", "rule": "dim", "note": "dim"}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Bars for totals, scaled to the largest bar shown.

    Attributes:
        sizes: All names, each with its figure, in bytes or in 1e-10 USD.
        most: Maximum number of bars: those of the largest figures or, with `in_time`, of the last times.
        in_time: Whether the names are times, in ascending order.
        money: Figures are money.
    """

    sizes: Sequence[tuple[str, int]]
    most: int = MOST_BARS
    in_time: bool = False
    money: bool = False

    def lines(self, width: int) -> list[str]:
        """The lines of the chart, each at most `width` cells wide."""
        shown = self._shown()
        bars = [(printable(name), size, self._text(size)) for name, size in shown]
        scale = max((size for _, size in shown), default=0) or 1
        name_cells = max((cell_len(name) for name, _, _ in bars), default=0)
        size_cells = max((len(text) for _, _, text in bars), default=0)
        room = width - size_cells - 2 - name_cells - 2
        beside = room >= _SHORTEST_BAR
        longest = min(_WIDEST_BAR, room if beside else max(width - size_cells - 2, 1))
        lines = [self._heading()]
        for name, size, text in bars:
            if beside:
                start = f"{padded(name, name_cells, right=False)}  "
            else:
                lines.append(shortened(name, width))
                start = ""
            lines.append(f"{start}{padded(text, size_cells, right=True)}  {_bar(size, scale, longest)}".rstrip())
        return lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        for line in self.lines(options.max_width):
            yield Text(line, no_wrap=True, overflow="ignore")

    def _shown(self) -> Sequence[tuple[str, int]]:
        if self.in_time:
            return self.sizes[-self.most :]
        return sorted(self.sizes, key=lambda size: (-size[1], size[0]))[: self.most]

    def _text(self, size: int) -> str:
        return f"{usd_text(half_up(size, 10**6), decimals=4)} USD" if self.money else size_text(size)

    def _heading(self) -> str:
        count, order = len(self.sizes), "in the order of time" if self.in_time else "largest first"
        if count <= self.most:
            return f"All {count:,}, {order}:"
        return f"The last {self.most:,} of {count:,}:" if self.in_time else f"The {self.most:,} largest of {count:,}:"


def print_table(answer: Answer, console: Console, *, chart: Chart | None = None, wide: bool = False) -> None:
    """Print `answer`; if there is a chart, it is below the rows.

    Args:
        answer: What to print.
        console: Console to print on; its width limits the lines.
        chart: Bars of the rows.
        wide: Whether to print every column in full, on lines of any length.
    """
    lines = answer_lines(answer, console.width, chart=chart, wide=wide)
    # Printing line by line would take most of the time of a long answer.
    for style, alike in groupby(lines, key=lambda line: line.style):
        console.out("\n".join(line.text for line in alike), style=_STYLES[style] or None, highlight=False)


def answer_lines(answer: Answer, width: int, *, chart: Chart | None = None, wide: bool = False) -> list[Line]:
    """The lines of an answer, wrapped to a given width."""
    room = UNBOUNDED if wide else width
    lines = [*title_lines(answer, room), *body_lines(answer, room)]
    if chart is not None and chart.sizes:
        lines += [Line(text=""), *(Line(text=text) for text in chart.lines(width))]
    return [*lines, *footer_lines(answer, room)]


def print_heading(console: Console, text: str) -> None:
    """Print a heading in full, then a rule; if the heading is too long, the rule is on its own line."""
    for line in heading_of(printable(text), console.width):
        console.print(Text(line, style="bold"), soft_wrap=True)


def heading_of(text: str, width: int) -> list[str]:
    """The lines of a heading, including its rule."""
    lines = wrapped(text, width)
    behind = width - len(lines[0]) - 1
    if len(lines) == 1 and behind > 0:
        return [f"{lines[0]} {'─' * behind}"]
    return [*lines, "─" * width]


def bars(
    sizes: Sequence[tuple[str, int]], *, columns: Sequence[str] = (), most: int | None = None, money: bool = False
) -> Chart:
    """A chart of totals.

    Args:
        sizes: All names and figures.
        columns: Columns from which the names of the bars are made. A single column of times keeps the bars in that
            order.
        most: Maximum number of bars.
        money: Whether figures are in 1e-10 USD instead of bytes.
    """
    in_time = len(columns) == 1 and columns[0] in _TIMES
    ordered = sorted(sizes) if in_time else sizes
    return Chart(sizes=ordered, most=most or (MOST_TIMES if in_time else MOST_BARS), in_time=in_time, money=money)


def _bar(size: int, scale: int, longest: int) -> str:
    # Only integers are used: a float would round a total before it is drawn.
    eighths = max(size, 0) * longest * 8 // scale
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```\n?", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_WIDTH = 100
_INDENT = "    "


def print_page(text: str, console: Console) -> None:
    """Print a page: text is wrapped to the terminal's width, each command is on one line, without its `$`."""
    at = 0
    for fence in _FENCE.finditer(text):
        _prose(text[at : fence.start()], console)
        console.print()
        for line in fence[1].splitlines():
            console.print(Text(_INDENT + line.removeprefix("$ "), style="bold cyan"), soft_wrap=True)
        at = fence.end()
    _prose(text[at:], console)


def _prose(text: str, console: Console) -> None:
    if text.strip():
        console.print()
        # A relative link does not work in a terminal; the caller says how to open the linked page.
        console.print(Markdown(_LINK.sub(r"**\1**", text)), width=min(console.width, _WIDTH))
