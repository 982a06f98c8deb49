"""What the pages show of the Python package are calls that can be made as they stand."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import metering
from metering.client.connection import Connection
from metering.producer.producer import Producer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    """Calls of ours in a piece of code that cannot be made."""
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
    "code",
    ["connection.usage(acount='1')", "metering.Produce('a')", "connection.trace()", "metering.connect('prod')"],
)
def test_a_call_that_cannot_be_made_is_noticed(code: str) -> None:
    assert len(list(wrong_calls(code))) == 1
