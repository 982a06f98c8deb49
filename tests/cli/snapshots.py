"""Reviewed snapshots of the output. Write them with `python -m tests.cli.snapshots`, and review the diff."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from metering.cli.printing.table import answer_lines
from metering.reports.answer import encoded_bytes
from tests.cli.recorded import Recorded, load, names

FOLDER = Path(__file__).parent / "snapshots"
WIDTHS = (60, 80, 120, 200)
# Snapshots are for reading, so for long output they contain only the beginning and the end.
_ROWS_SHOWN = 24


def table(recorded: Recorded, width: int, *, wide: bool = False) -> str:
    lines = answer_lines(recorded.answer, width, chart=recorded.chart, wide=wide)
    return "".join(f"{line.text}\n" for line in lines)


def snapshot_of(name: str) -> str:
    """A recorded answer as printed at all widths and with `--wide`, and the beginning of its other formats."""
    recorded = load(name)
    parts = [f"$ metering {shlex.join(recorded.line)}\n"]
    parts += [f"{f' {width} columns '.center(width, '=')}\n{_short(table(recorded, width))}" for width in WIDTHS]
    parts.append(f"{' --wide '.center(80, '=')}\n{_short(table(recorded, 80, wide=True))}")
    for form in ("json", "ndjson", "csv"):
        parts.append(f"{f' {form} '.center(80, '=')}\n{_beginning(encoded_bytes(recorded.answer, form).decode())}")
    return "\n".join(parts)


def path_of(name: str) -> Path:
    return FOLDER / f"{name}.txt"


def _short(text: str) -> str:
    lines = text.splitlines()
    left_out = len(lines) - 2 * _ROWS_SHOWN
    if left_out > 1:
        lines[_ROWS_SHOWN:-_ROWS_SHOWN] = [f"[{left_out} more lines]"]
    return "".join(f"{line}\n" for line in lines)


def _beginning(text: str) -> str:
    shown, rest = text[:600], text[600:]
    return shown + (json.dumps(f"and {len(rest)} more characters") + "\n" if rest else "")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    for each in names():
        path_of(each).write_text(snapshot_of(each))
