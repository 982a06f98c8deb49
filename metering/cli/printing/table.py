"""Answers, charts and headings on a console, as wide as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.markdown import Markdown
from rich.text import Text

from metering.billing.money import half_up, usd_text
from metering.cli.printing.layout import (
    UNBOUNDED,
    Line,
    body_lines,
    footer_lines,
    padded,
    shortened,
    title_lines,
    wrapped,
)
from metering.reports.answer import Answer, printable
from metering.units import size_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions

MOST_BARS = 20
# A month of days.
MOST_TIMES = 31
_TIMES = frozenset({"hour", "day", "month"})
_WIDEST_BAR = 40
# If a bar has less width, names stand above their bars.
_SHORTEST_BAR = 12
_EIGHTHS = " ▏▎▍▌▋▊▉"
_STYLES = {"": "", "title": "italic", "heading": "bold", "rule": "dim", "note": "dim"}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Bars of totals, all to the scale of the largest that is shown.

    Attributes:
        sizes: Names and figures, all that there are: bytes, or 1e-10 USD.
        most: Show this many at most: the largest, or the last ones in the order of time.
        in_time: Names are times, in their order.
        money: Figures are money.
    """

    sizes: Sequence[tuple[str, int]]
    most: int = MOST_BARS
    in_time: bool = False
    money: bool = False

    def lines(self, width: int) -> list[str]:
        """The chart in lines of `width` cells at most."""
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
    """Print `answer`, with a chart below its rows if there is one.

    Args:
        answer: What to print.
        console: Where; its width is that of the lines.
        chart: Bars of the rows.
        wide: Show every column whole, in lines as long as it takes.
    """
    lines = answer_lines(answer, console.width, chart=chart, wide=wide)
    # Printing line by line would take most of the time of a long answer.
    for style, alike in groupby(lines, key=lambda line: line.style):
        console.out("\n".join(line.text for line in alike), style=_STYLES[style] or None, highlight=False)


def answer_lines(answer: Answer, width: int, *, chart: Chart | None = None, wide: bool = False) -> list[Line]:
    """The lines of an answer at a width."""
    room = UNBOUNDED if wide else width
    lines = [*title_lines(answer, room), *body_lines(answer, room)]
    if chart is not None and chart.sizes:
        lines += [Line(text=""), *(Line(text=text) for text in chart.lines(width))]
    return [*lines, *footer_lines(answer, room)]


def print_heading(console: Console, text: str) -> None:
    """Print a heading with a line behind it, or below it if it is too long; nothing of it is cut."""
    for line in heading_of(printable(text), console.width):
        console.print(Text(line, style="bold"), soft_wrap=True)


def heading_of(text: str, width: int) -> list[str]:
    """The lines of a heading."""
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
        sizes: Names and figures, all that there are.
        columns: Columns that the names are of. Where it is one column of time, the bars are in its order.
        most: Show this many at most.
        money: Figures are 1e-10 USD, and not bytes.
    """
    in_time = len(columns) == 1 and columns[0] in _TIMES
    ordered = sorted(sizes) if in_time else sizes
    return Chart(sizes=ordered, most=most or (MOST_TIMES if in_time else MOST_BARS), in_time=in_time, money=money)


def _bar(size: int, scale: int, longest: int) -> str:
    # Integers only: a float would round a total before it is drawn.
    eighths = max(size, 0) * longest * 8 // scale
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


_FENCE = re.compile(r"^```[^\n]*\n(.*?)^```\n?", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_WIDTH = 100
_INDENT = "    "


def print_page(text: str, console: Console) -> None:
    """Print a page: text wrapped to the width of the terminal, commands as one line each, without their `$`."""
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
