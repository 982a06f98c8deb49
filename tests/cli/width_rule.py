"""The width rule of printed answers, as functions that return violations.

No line is wider than the window. Two kinds of lines are exempt, because users copy them whole: a line with only a value
of a copied column, and a command to run next or in a footer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, chop_cells

from metering.cli.printing.table import cell_text
from metering.reports.answer import Answer, Column, printable

_COMMAND = re.compile(r"`[^`]*`|(?<=: )metering .*\S")
_LEFT_OUT = re.compile(r"Not shown: (.+)\. Show all columns with --wide\.", re.DOTALL)


def too_wide(lines: Sequence[str], width: int, answer: Answer) -> list[str]:
    """Lines that are wider than the window and not exempt."""
    excused = {printable(command) for command in answer.commands}
    excused |= {command for text in answer.footer for command in _COMMAND.findall(printable(text))}
    for column in answer.columns:
        if column.kind == "text" and column.text == "copied":
            excused |= {cell_text(column, row.get(column.name)) for row in answer.rows}
    return [line for line in lines if cell_len(line) > width and line.strip().rstrip(".,") not in excused]


def cut(lines: Sequence[str], answer: Answer) -> list[str]:
    """Values of shown columns that must be complete (copied values, numbers, times), but are truncated."""
    left_out = _left_out(lines)
    shown = [column for column in answer.columns if column.heading not in left_out and _is_never_cut(column)]
    # Costs are printed in cents, or in a wide table with all digits.
    values = {
        tuple(cell_text(column, row.get(column.name), exactly=exactly).strip() for exactly in (True, False))
        for column in shown
        for row in answer.rows
    }
    text = "\n".join(lines)
    return sorted(forms[0] for forms in values if not any(_is_there(form, text) for form in forms))


def _is_there(value: str, text: str) -> bool:
    """Whether a value is printed whole, or wrapped at some column width."""
    return value in text or any(
        all(piece.strip() in text for piece in chop_cells(value, width)) for width in range(20, cell_len(value))
    )


def unrecorded(commands: frozenset[str], recorded: Iterator[str]) -> set[str]:
    """Read-only commands that have no recorded answer."""
    return set(commands) - set(recorded)


def _is_never_cut(column: Column) -> bool:
    return column.kind != "text" or column.text not in {"short", "prose"}


def _left_out(lines: Sequence[str]) -> set[str]:
    found = _LEFT_OUT.search(" ".join(lines))
    return set(found[1].split(", ")) if found else set()
