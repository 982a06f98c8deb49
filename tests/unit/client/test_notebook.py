"""The documentation's notebook runs, and its outputs are as stored."""

from __future__ import annotations

import ast
import inspect
import re
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import metering
from metering.client.connection import Connection
from metering.producer.producer import Producer
from tests.api.world import ApiWorld
from tests.unit.client.here import over_stores
from tests.unit.client.notebook import NOTEBOOK, is_connecting, read, run, with_outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def test_every_cell_runs_and_shows_what_is_stored() -> None:
    """If this fails: After a change, run `python -m tests.unit.client.notebook`, and review the diff."""
    notebook = read()
    shown = run(notebook["cells"], over_stores(ApiWorld().world))
    assert with_outputs(notebook, shown) == notebook
    assert sum(bool(text) for text in shown) >= 8


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


# Calls of the Python package on the pages can be made as written.


DOCS = Path(__file__).parents[3] / "docs"
_BLOCK = re.compile(r"^```python\n(.+?)^```", re.MULTILINE | re.DOTALL)
_CALLED: dict[str, Callable[..., object]] = {
    "metering.connect": metering.connect,
    "metering.Producer": Producer,
    "producer.send": Producer.send,
    "connection.usage": Connection.usage,
    "connection.cost": Connection.cost,
    "connection.trace": Connection.trace,
    "connection.query": Connection.query,
}


def wrong_calls(code: str) -> Iterator[str]:
    """Impossible calls of our package in a piece of code."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name.startswith(("metering.", "producer.", "connection.")) and name not in _CALLED:
            yield f"{name}: there is no such thing"
        elif name in _CALLED:
            # A method is called without its object here.
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
