"""Answers, charts and headings on a console, as wide as it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

from metering.cli.printing.layout import UNBOUNDED, Line, body_lines, footer_lines, title_lines
from metering.cli.printing.texts import padded, shortened, wrapped
from metering.reports.answer import Answer
from metering.reports.safe_text import printable
from metering.units import size_text

MOST_BARS = 20
_WIDEST_BAR = 40
# Where less is left for a bar, names stand above their bars.
_SHORTEST_BAR = 12
_EIGHTHS = " ▏▎▍▌▋▊▉"
_STYLES = {"": "", "title": "italic", "heading": "bold", "rule": "dim", "note": "dim"}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Bars of the largest totals, all to the scale of the first.

    Attributes:
        sizes: Names and bytes, all that there are.
        most: Show this many at most.
    """

    sizes: Sequence[tuple[str, int]]
    most: int = MOST_BARS

    def lines(self, width: int) -> list[str]:
        """The chart in lines of `width` cells at most."""
        largest = sorted(self.sizes, key=lambda size: (-size[1], size[0]))[: self.most]
        bars = [(printable(name), size, size_text(size)) for name, size in largest]
        scale = max((size for _, size in largest), default=0) or 1
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

    def _heading(self) -> str:
        if len(self.sizes) <= self.most:
            return f"All {len(self.sizes):,}, largest first:"
        return f"The {self.most:,} largest of {len(self.sizes):,}:"


def print_table(answer: Answer, console: Console, *, chart: Chart | None = None, wide: bool = False) -> None:
    """Print `answer`, with a chart below its rows if there is one.

    Args:
        answer: What to print.
        console: Where; its width is that of the lines.
        chart: Bars of the rows.
        wide: Show every column whole, in lines as long as it takes.
    """
    lines = answer_lines(answer, console.width, chart=chart, wide=wide)
    # One call a line would take most of the time of a long answer.
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


def bars(sizes: Sequence[tuple[str, int]], *, most: int = MOST_BARS) -> Chart:
    """A chart of the largest byte totals."""
    return Chart(sizes=sizes, most=most)


def _bar(size: int, scale: int, longest: int) -> str:
    # Integers only: a float would round a total before it is drawn.
    eighths = max(size, 0) * longest * 8 // scale
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
