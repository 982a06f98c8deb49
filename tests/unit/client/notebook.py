"""Runs the documentation's notebook against an in-memory region. Run as a program, it updates the stored outputs.

`python -m tests.unit.client.notebook` runs each cell of `docs/explore.ipynb` and stores its output, so that a reader of
the page sees real answers. The cell with the tag `connect` is not run: the in-memory region replaces it.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.api.world import ApiWorld
from tests.unit.client.here import over_stores

if TYPE_CHECKING:
    from metering.client.connection import Connection

NOTEBOOK = Path(__file__).parents[3] / "docs" / "explore.ipynb"
Cell = dict[str, Any]


def read() -> dict[str, Any]:
    """The notebook of the documentation."""
    found: dict[str, Any] = json.loads(NOTEBOOK.read_text())
    return found


def run(cells: list[Cell], connection: Connection) -> list[str]:
    """Output of each cell: its prints, and the value of its last line as an interpreter shows it."""
    names: dict[str, object] = {"connection": connection}
    return [_shown(cell, names) if cell["cell_type"] == "code" else "" for cell in cells]


def is_connecting(cell: Cell) -> bool:
    """Whether a cell is the connecting one."""
    return "connect" in cell["metadata"].get("tags", [])


def _shown(cell: Cell, names: dict[str, object]) -> str:
    if is_connecting(cell):
        return ""
    tree = ast.parse("".join(cell["source"]))
    value = None
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "cell", "exec"), names)  # noqa: S102 - the notebook's own lines
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307 - as above
    return out.getvalue() + ("" if value is None else f"{value!r}\n")


def with_outputs(notebook: dict[str, Any], shown: list[str]) -> dict[str, Any]:
    """The notebook with its cells' outputs."""
    cells = [
        {**cell, "outputs": _outputs(text)} if cell["cell_type"] == "code" else cell
        for cell, text in zip(notebook["cells"], shown, strict=True)
    ]
    return {**notebook, "cells": cells}


def _outputs(text: str) -> list[Cell]:
    return [{"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}] if text else []


def main() -> None:
    """Write the outputs anew."""
    notebook = read()
    shown = run(notebook["cells"], over_stores(ApiWorld().world))
    NOTEBOOK.write_text(json.dumps(with_outputs(notebook, shown), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
