"""What the whole project uses is spelled in one place: keys of the ledger in its room, counters in one module."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from metering import metric_names

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
PRODUCTION = ("metering", "lambdas", "load_tests", "infra")
# They carry items of any shape: the port, its adapters, a store that computes them, a yardstick that reads the table
# without our code, counters inside an emulator, and the tables of rivals.
_CARRIERS = (
    "metering/stores/writes.py",
    "metering/adapters/",
    "load_tests/scale/items.py",
    "load_tests/bench_report.py",
    "load_tests/race/",
    "load_tests/wire/",
)
_FORMAT = re.compile(r"[A-Z0-9][#$]")


def _modules(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def key_formats(source: str, *, carrier: bool = False) -> Iterator[int]:
    """Lines that know how a key of the ledger or of the usage table is put together."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _FORMAT.match(node.value):
            yield node.lineno
        elif isinstance(node, ast.Attribute) and node.attr == "pk" and isinstance(node.value, ast.Call):
            # `pending_key(shard, "").pk`: a key that nothing has, for its partition.
            yield node.lineno
        elif isinstance(node, ast.Subscript) and not carrier:
            named = isinstance(node.slice, ast.Constant) and node.slice.value in {"pk", "sk"}
            cut = isinstance(node.slice, ast.Slice) and ast.unparse(node.value).rpartition(".")[2] in {"pk", "sk"}
            if named or cut:
                yield node.lineno


def literal_counters(source: str) -> Iterator[int]:
    """Lines that count under a name that is spelled on the spot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "count":
            counts = ast.unparse(node.func.value).endswith("metrics")
            if counts and isinstance(node.args[0], ast.Constant | ast.JoinedStr | ast.BinOp):
                yield node.lineno


def test_no_key_format_is_outside_the_ledger() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in _modules(*PRODUCTION)
        if not path.is_relative_to(ROOT / "metering/ledger")
        for line in key_formats(path.read_text(), carrier=str(path.relative_to(ROOT)).startswith(_CARRIERS))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        'item["sk"] == "M"',
        'pk.startswith("B#")',
        'key = f"H#{hour}"',
        "batch_id = key.pk[2:]",
        'pk = pending_key(shard, "").pk',
        'grant_delete(role, "P#*")',
    ],
)
def test_a_key_format_would_be_found(line: str) -> None:
    assert list(key_formats(line)) == [1]


def test_no_counter_is_named_where_it_is_counted() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in _modules("metering", "lambdas")
        for line in literal_counters(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    "line", ['self.metrics.count("Rows", 3)', 'parts.metrics.count(f"Canary{verdict}")', 'metrics.count("A" + "B")']
)
def test_a_literal_counter_would_be_found(line: str) -> None:
    assert list(literal_counters(line)) == [1]


def test_no_two_counters_have_one_name() -> None:
    names = [value for name, value in vars(metric_names).items() if name.isupper()]
    assert len(names) == len(set(names)) > 30
