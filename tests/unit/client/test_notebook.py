"""The documentation's notebook runs on an in-memory region, and its output equals the stored output.

`python -m tests.unit.client.test_notebook` runs each cell of `docs/explore.ipynb` and stores its output, so that
readers see real answers. The cell with the tag `connect` is replaced by the in-memory region.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

import metering
from metering.client.connection import Connection
from metering.producer.producer import Producer
from tests.api.world import ApiWorld
from tests.unit.client.here import over_stores

DOCS = Path(__file__).parents[3] / "docs"
NOTEBOOK = DOCS / "explore.ipynb"
Cell = dict[str, Any]


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(NOTEBOOK.read_text())
    return found


Shown = str | dict[str, Any]


def run(cells: list[Cell], connection: Connection) -> list[Shown]:
    """Output of each cell: what the cell prints, and the value of its last line as an interpreter shows it.

    For a chart, the forms between which a front end chooses.
    """
    names: dict[str, object] = {"connection": connection}
    return [_shown(cell, names) if cell["cell_type"] == "code" else "" for cell in cells]


def is_connecting(cell: Cell) -> bool:
    return "connect" in cell["metadata"].get("tags", [])


def _shown(cell: Cell, names: dict[str, object]) -> Shown:
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
    if isinstance(value, dict) and hasattr(value, "_repr_mimebundle_"):
        forms: dict[str, Any] = value._repr_mimebundle_()
        return json.loads(json.dumps(forms))  # type: ignore[no-any-return]  # as a notebook stores it
    return out.getvalue() + ("" if value is None else f"{value!r}\n")


def with_outputs(notebook: dict[str, Any], shown: list[Shown]) -> dict[str, Any]:
    cells = [
        {**cell, "outputs": _outputs(text)} if cell["cell_type"] == "code" else cell
        for cell, text in zip(notebook["cells"], shown, strict=True)
    ]
    return {**notebook, "cells": cells}


def _outputs(text: Shown) -> list[Cell]:
    if isinstance(text, dict):
        return [{"data": text, "execution_count": None, "metadata": {}, "output_type": "execute_result"}]
    return [{"name": "stdout", "output_type": "stream", "text": text.splitlines(keepends=True)}] if text else []


def test_every_cell_runs_and_shows_what_is_stored() -> None:
    """If this fails: `python -m tests.unit.client.test_notebook`, and review the diff."""
    notebook = read()
    shown = run(notebook["cells"], over_stores(ApiWorld().world))
    assert with_outputs(notebook, shown) == notebook
    assert sum(bool(text) for text in shown) >= 8


def test_the_chart_has_each_row_of_its_table_and_bars_where_nothing_draws_it() -> None:
    [forms] = [each for each in run(read()["cells"], over_stores(ApiWorld().world)) if isinstance(each, dict)]
    chart = forms["application/vnd.vegalite.v5+json"]
    usage = over_stores(ApiWorld().world).usage(from_="2026-11", group_by=["account_id", "day"]).to_pylist()
    assert [row["bytes"] for row in chart["data"]["values"]] == [str(row["bytes"]) for row in usage]
    fields = {
        each["field"] for axis in chart["encoding"].values() for each in (axis if isinstance(axis, list) else [axis])
    }
    assert all(fields <= row.keys() for row in chart["data"]["values"])
    assert forms["text/plain"].count("█") > 3


def test_a_cell_that_fails_is_noticed() -> None:
    notebook = deepcopy(read())
    cell = next(each for each in notebook["cells"] if "connection.usage(" in "".join(each["source"]))
    cell["source"] = ["connection.usage(acount='1')"]
    with pytest.raises(TypeError, match="acount"):
        run(notebook["cells"], over_stores(ApiWorld().world))


def test_the_first_cell_connects_as_the_package_does() -> None:
    [cell] = [each for each in read()["cells"] if is_connecting(each)]
    calls = [node for node in ast.walk(ast.parse("".join(cell["source"]))) if isinstance(node, ast.Call)]
    assert [ast.unparse(call.func) for call in calls] == ["metering.connect"]
    inspect.signature(metering.connect).bind(**{word.arg or "": None for word in calls[0].keywords})


def test_the_notebook_is_of_the_form_that_tools_read() -> None:
    notebook = read()
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert NOTEBOOK.read_text().endswith("\n")


# The calls of the Python package that the pages show can be made as written.

_BLOCK = re.compile(r"^```python\n(.+?)^```", re.MULTILINE | re.DOTALL)
_CALLED: dict[str, Callable[..., object]] = {
    "metering.connect": metering.connect, "metering.Producer": Producer, "producer.send": Producer.send,
    "producer.add": Producer.add, "producer.flush": Producer.flush,
    "connection.usage": Connection.usage, "connection.cost": Connection.cost, "connection.trace": Connection.trace,
    "connection.query": Connection.query,
}  # fmt: skip


def wrong_calls(code: str) -> Iterator[str]:
    """Calls in the code that do not fit the signatures of our package."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name.startswith(("metering.", "producer.", "connection.")) and name not in _CALLED:
            yield f"{name}: there is no such thing"
        elif name in _CALLED:
            # Here, a method is called without its object.
            given = [None] * (len(node.args) + (not name.startswith("metering.")))
            try:
                inspect.signature(_CALLED[name]).bind(*given, **{word.arg or "": None for word in node.keywords})
            except TypeError as error:
                yield f"{name}: {error}"


@pytest.mark.parametrize(("page", "blocks"), [("producers.md", 2), ("python.md", 2)])
def test_the_calls_of_a_page_can_be_made(page: str, blocks: int) -> None:
    found = _BLOCK.findall((DOCS / page).read_text())
    assert len(found) >= blocks
    assert [wrong for code in found for wrong in wrong_calls(code)] == []


@pytest.mark.parametrize(
    "code", ["connection.usage(acount='1')", "metering.Produce('a')", "connection.trace()", "metering.connect('prod')"]
)
def test_a_call_that_cannot_be_made_is_noticed(code: str) -> None:
    assert len(list(wrong_calls(code))) == 1


def main() -> None:
    notebook = read()
    shown = run(notebook["cells"], over_stores(ApiWorld().world))
    NOTEBOOK.write_text(json.dumps(with_outputs(notebook, shown), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
