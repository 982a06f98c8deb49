"""Names of tests are the same whenever they are collected: two workers that disagree about one stop the whole run."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[3]
# gzip writes the time into its header, unless it is told one.
_WITH_THE_TIME = ("gzip.compress", "time.time", "datetime.now", "uuid4", "uuid.uuid4", "random.random")


def names_by_the_clock(source: str) -> list[int]:
    """Lines of parameters of tests that a clock or chance decides."""
    found: list[int] = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and not any(word.arg == "ids" for word in decorator.keywords):
                found += [call.lineno for call in ast.walk(decorator) if isinstance(call, ast.Call) and _drifts(call)]
    return found


def _drifts(call: ast.Call) -> bool:
    return ast.unparse(call.func) in _WITH_THE_TIME and not any(word.arg == "mtime" for word in call.keywords)


def test_no_test_is_named_by_the_clock() -> None:
    files = (ROOT / "tests").rglob("test_*.py")
    found = {str(path.relative_to(ROOT)): lines for path in files if (lines := names_by_the_clock(path.read_text()))}
    assert not found


def test_a_name_by_the_clock_is_found() -> None:
    test = '@pytest.mark.parametrize("body", [gzip.compress(b"x"%s)])\ndef test_it(body): ...\n'
    assert names_by_the_clock(test % "") == [1]
    assert names_by_the_clock(test % ", mtime=0") == []
