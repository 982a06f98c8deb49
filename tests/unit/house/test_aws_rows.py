"""Each row of docs/aws.md names a test that exists, and a check that the doctor has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from metering.operations.doctor.catalogue import CHECKS

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/aws.md"
_ROW = re.compile(r"^\| (A\d+) \|.*\| `(tests/[^`]+)::(test_\w+)` \| (?:`([a-z-]+)` )?\|$", re.MULTILINE)
ROWS = _ROW.findall(PAGE.read_text())
NAMES = {check.name for check in CHECKS}


def named_in(path: Path) -> set[str]:
    """Names of the tests of a module."""
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_row_of_the_audit_is_there_once() -> None:
    assert [row for row, *_ in ROWS] == [f"A{number}" for number in range(1, 20)]


def test_a_row_is_shown_by_a_test_that_exists() -> None:
    for row, path, name, check in ROWS:
        assert name in named_in(ROOT / path), f"{row} names a test that is not there"
        assert not check or check in NAMES, row


def test_what_emulators_show_is_told_of_each_check() -> None:
    told = set(re.findall(r"`([a-z-]+)`", PAGE.read_text().partition("## What the emulators show")[2]))

    assert NAMES - told == set()


def test_a_row_without_a_test_would_be_seen() -> None:
    assert _ROW.findall("| A20 | x | y | nothing | `racing` |") == []
    assert "test_nothing" not in named_in(Path(__file__))
