"""Rows that stand upright: a line a column, its name left, its value right of it, and words of explanation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len

from metering.cli.printing.texts import cell_text, padded, shortened, wrapped
from metering.reports.answer import Cell, Column
from metering.reports.safe_text import printable
from metering.units import size_text

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
