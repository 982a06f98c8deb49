"""Answers as tables for people, and charts of their largest rows."""

from collections.abc import Sequence
from decimal import Decimal

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from metering.reports.answer import Answer, Cell, Column
from metering.reports.safe_text import printable
from metering.units import billed_gb

_WIDEST = 1_000
_WIDEST_TEXT = 60
# A narrow terminal wraps text, but not to less than this.
_READABLE_TEXT = 24
_BAR_WIDTH = 40
_MOST_BARS = 20


def print_table(answer: Answer, console: Console, *, chart: RenderableType | None = None) -> None:
    """Print `answer` as a table, with a chart below its rows if there is one."""
    table = Table(title=Text(printable(answer.title)) if answer.title else None, title_justify="left")
    for column in answer.columns:
        _add_column(table, column, answer)
    for row in answer.rows:
        table.add_row(*(text for column in answer.columns for text in _cells(column, row.get(column.name))))
    # A total that is cut short is worse than a line that wraps: numbers get the width they need.
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), table).minimum
    console.width = max(console.width, needed)
    console.print(table, crop=False)
    if chart is not None:
        console.print(chart)
    for line in answer.footer:
        console.print(Text(printable(line)))


def bars(sizes: Sequence[tuple[str, int]], *, most: int = _MOST_BARS) -> Group:
    """Horizontal bars of the largest byte totals, all to the scale of the first."""
    largest = sorted(sizes, key=lambda size: (-size[1], size[0]))[:most]
    scale = max((size for _, size in largest), default=0) or 1
    table = Table.grid(padding=(0, 1))
    for name, size in largest:
        # Integers only: a float would round a total before it is drawn.
        eighths = size * _BAR_WIDTH * 8 // scale
        bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
        table.add_row(Text(printable(name)), Text(bar, style="cyan"), Text(f"{billed_gb(size):,.3f} GB"))
    return Group(Text(), table)


def _add_column(table: Table, column: Column, answer: Answer) -> None:
    heading = Text(column.title or column.name)
    if column.kind in {"bytes", "integer", "money"}:
        table.add_column(heading, justify="right", overflow="fold", no_wrap=True, min_width=0)
    else:
        longest = max((len(_text(row.get(column.name))) for row in answer.rows), default=0)
        table.add_column(heading, overflow="fold", min_width=min(_READABLE_TEXT, longest), max_width=_WIDEST_TEXT)
    if column.kind == "bytes":
        table.add_column(Text("GB"), justify="right", no_wrap=True)


def _cells(column: Column, value: Cell) -> list[Text]:
    if column.kind != "bytes":
        return [Text(_text(value))]
    if not isinstance(value, int):
        return [Text(_text(value)), Text("")]
    return [Text(f"{value:,}"), Text(f"{billed_gb(value):,.3f}")]


def _text(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return f"{value:,f}"
    return f"{value:,}" if isinstance(value, int) else printable(value)
