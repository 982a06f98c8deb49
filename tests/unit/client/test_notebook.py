"""The notebook of the documentation runs, and shows what it is said to show."""

from __future__ import annotations

import ast
import inspect
from copy import deepcopy

import pytest

import metering
from tests.api.world import ApiWorld
from tests.unit.client.here import over_stores
from tests.unit.client.notebook import NOTEBOOK, is_connecting, read, run, with_outputs


def test_every_cell_runs_and_shows_what_is_stored() -> None:
    """If this fails: `python -m tests.unit.client.notebook`, and read the difference."""
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
