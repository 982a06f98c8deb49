"""Recorded answers of each read command about the lively region, as JSON files.

In a new process, `python -m tests.cli.recorded NAME [--wide]` prints an answer as the answer's command does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from metering.cli.printing.output import write_answer
from metering.cli.printing.table import Chart
from metering.reports.answer import Answer, Cell, Column

FOLDER = Path(__file__).parent / "recorded"
_DECIMAL = "decimal"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The answer to one command line.

    Attributes:
        line: The words after `metering`.
        command: Name of the command, such as `report usage`.
        chart: The bars that are printed below the table, if the command line requests bars.
    """

    line: list[str]
    command: str
    answer: Answer
    chart: Chart | None = None


def save(name: str, recorded: Recorded) -> None:
    answer = recorded.answer
    content: dict[str, Any] = {
        "line": recorded.line,
        "command": recorded.command,
        **{field.name: getattr(answer, field.name) for field in fields(answer)},
        "columns": [_given(column) for column in answer.columns],
        "rows": [_kept_row(row) for row in answer.rows],
        "others": None if answer.others is None else _kept_row(answer.others),
        "chart": None if recorded.chart is None else asdict(recorded.chart),
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def load(name: str) -> Recorded:
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    line, command, chart = (content.pop(key) for key in ("line", "command", "chart"))
    content["columns"] = tuple(Column(**column) for column in content["columns"])
    content["rows"] = [_shown_row(row) for row in content["rows"]]
    content["others"] = content["others"] and _shown_row(content["others"])
    for each in fields(Answer):
        if isinstance(content[each.name], list) and each.name != "rows":
            content[each.name] = tuple(content[each.name])
    drawn = None if chart is None else Chart(**{**chart, "sizes": [(label, size) for label, size in chart["sizes"]]})
    return Recorded(line=line, command=command, answer=Answer(**content), chart=drawn)


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def _given(column: Column) -> dict[str, object]:
    """Those fields of a column that are set."""
    unset = asdict(Column(name=""))
    return {key: value for key, value in asdict(column).items() if key == "name" or value != unset[key]}


def _kept_row(row: Mapping[str, Cell]) -> dict[str, object]:
    return {key: _kept(value) for key, value in row.items()}


def _shown_row(row: Mapping[str, Any]) -> dict[str, Cell]:
    return {key: _shown(value) for key, value in row.items()}


def _kept(value: Cell) -> object:
    return {_DECIMAL: str(value)} if isinstance(value, Decimal) else value


def _shown(value: Any) -> Cell:
    if isinstance(value, dict):
        return Decimal(value[_DECIMAL])
    kept: Cell = value
    return kept


if __name__ == "__main__":
    shown = load(sys.argv[1])
    write_answer(shown.answer, None, None, chart=shown.chart, wide="--wide" in sys.argv)
