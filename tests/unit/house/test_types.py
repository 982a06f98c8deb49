"""The type gate: `mypy` as in `make lint` is strict about all our code, and ignores nothing without a reason."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from metering.billing.usage.months import Sold, UsageLine
from metering.usage.totals import Service, UsageKey, UsageKind, UsageType
from tests import ROOT
from tests.unit.house.measures import modules_below
from tests.unit.house.repeats import MOST_LINES, logic_lines, repeats

PROJECT = ROOT / "pyproject.toml"
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
_IGNORE = re.compile(r"#\s*type:\s*ignore(.*)")
_CODE_AND_REASON = re.compile(r"\[[a-z-]+(, ?[a-z-]+)*\]  # \w.*")


def ignores_without_a_reason(text: str) -> list[str]:
    """Comments that silence mypy without naming the error and the reason."""
    return [found[0] for found in _IGNORE.finditer(text) if not _CODE_AND_REASON.fullmatch(found[1])]


def test_mypy_looks_at_every_package() -> None:
    assert "tests" in PACKAGES
    assert sorted(tomllib.loads(PROJECT.read_text())["tool"]["mypy"]["files"]) == PACKAGES


@pytest.mark.parametrize("package", PACKAGES)
def test_no_package_ignores_an_error_without_a_reason(package: str) -> None:
    found = {
        str(path.relative_to(ROOT)): wrong
        for path in (ROOT / package).rglob("*.py")
        if path != Path(__file__) and (wrong := ignores_without_a_reason(path.read_text()))
    }
    assert not found


@pytest.mark.parametrize(
    "comment",
    ["# type: ignore", "#type:ignore", "# type: ignore[misc]", "# type: ignore  # why", "# type: ignore[misc] why"],
)
def test_an_ignore_without_a_code_or_a_reason_is_noticed(comment: str) -> None:
    assert ignores_without_a_reason(f"x = 1  # type: ignore[misc, arg-type]  # why\ny = 1  {comment}\n") == [comment]


@pytest.mark.parametrize(
    ("code", "errors"),
    [
        ("def test_it() -> None:\n    assert True\n", set()),
        ("def test_it():\n    assert True\n", {"no-untyped-def"}),
        ("def test_it() -> None:\n    assert len(3) == 1\n", {"arg-type"}),
    ],
    ids=["typed", "untyped", "wrong"],
)
def test_a_test_without_types_or_with_wrong_ones_is_an_error(tmp_path: Path, code: str, errors: set[str]) -> None:
    """A project of one test, with our settings."""
    (tmp_path / PROJECT.name).write_text(PROJECT.read_text())
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "tests" / "test_it.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--num-workers", "2"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert set(re.findall(r"^tests/test_it\.py:\d+: error: .*\[(.+)\]$", done.stdout, re.MULTILINE)) == errors, done
    assert done.returncode == (1 if errors else 0), done


def test_a_service_where_a_usage_type_belongs_is_an_error() -> None:
    """Each ignore below represents an error: strict mypy reports unused ignores."""
    kind = UsageKind(UsageType("t"), Service("s"), "f", "g")
    line = UsageLine(0, "a", *kind, 5)  # type: ignore[arg-type]  # a line names the service first
    key = UsageKey(0, *line[1:6])  # type: ignore[arg-type]  # a key names the usage type first
    sold = Sold(*kind[:2])  # type: ignore[arg-type]  # what is sold names the service first
    assert (key.kind, line.service, sold.service) == (kind, "t", "t")
    assert (kind.usage_type, kind.service) in {sold}  # type: ignore[comparison-overlap]  # as above
    assert UsageKind("t", "s", "f", "g") == kind  # type: ignore[arg-type]  # plain texts could be in any order


# Production code contains no duplicated logic; and duplicates can be detected.

PRODUCTION = [ROOT / name for name in ("metering", "lambdas", "infra", "load_tests")]
# Pairs of files that still share consecutive lines. No pair may be added.
KNOWN: set[tuple[str, str]] = set()
LINES = [f"step_{number}(total)" for number in range(MOST_LINES)]


def function(name: str, *lines: str, variable: str = "total") -> str:
    body = "".join(f"    {line.replace('total', variable)}\n" for line in lines)
    return f'def {name}({variable}):\n    """About {name}."""\n{body}'


def test_no_two_places_have_the_same_logic() -> None:
    found = repeats(modules_below(PRODUCTION))
    files = {
        (Path(first).relative_to(ROOT).as_posix(), Path(second).relative_to(ROOT).as_posix())
        for first, second in ((each.first.rpartition(":")[0], each.second.rpartition(":")[0]) for each in found)
    }
    assert files == KNOWN, found


def test_one_line_more_than_is_allowed_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("import os\n\n\n" + function("one", *LINES, "last(total)"))
    (tmp_path / "other.py").write_text(function("other", "first(total)", *LINES, "last(total)"))
    [found] = repeats(modules_below([tmp_path]))
    assert found == (f"{tmp_path / 'one.py'}:6", f"{tmp_path / 'other.py'}:4", MOST_LINES + 1)


def test_as_many_lines_as_are_allowed_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(function("one", *LINES))
    (tmp_path / "other.py").write_text(function("other", *LINES))
    assert not repeats(modules_below([tmp_path]))


def test_a_copy_with_other_variables_and_comments_is_found(tmp_path: Path) -> None:
    lines = [*LINES, "last(total)"]
    (tmp_path / "one.py").write_text(function("one", *lines))
    changed = [f"{line}  # as before" for line in lines]
    (tmp_path / "other.py").write_text(function("other", *changed, variable="amount"))
    assert [each.lines for each in repeats(modules_below([tmp_path]))] == [MOST_LINES + 1]


def test_a_copy_in_the_same_module_is_found(tmp_path: Path) -> None:
    lines = [*LINES, "last(total)"]
    (tmp_path / "both.py").write_text(function("one", *lines) + "\n\n" + function("other", *lines))
    assert [each.lines for each in repeats(modules_below([tmp_path]))] == [MOST_LINES + 1]


def test_calls_of_other_functions_are_other_logic(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(function("one", *LINES, "last(total)"))
    (tmp_path / "other.py").write_text(function("other", *(f"other_{line}" for line in LINES), "last(total)"))
    assert not repeats(modules_below([tmp_path]))


def test_only_logic_counts() -> None:
    source = (
        '"""Text."""\n\nimport os\n\n\ndef read(\n    path,\n):\n    # Why.\n    return os.stat(\n        path\n    )\n'
    )
    assert [line.number for line in logic_lines(source)] == [6, 7, 10, 11]


# Test names are the same at each collection: two workers that disagree about one stop the whole run.

# gzip writes the current time into its header, unless it is given one.
_WITH_THE_TIME = ("gzip.compress", "time.time", "datetime.now", "uuid4", "uuid.uuid4", "random.random")


def names_by_the_clock(source: str) -> list[int]:
    """Lines of test parameters that depend on a clock or on randomness."""
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
