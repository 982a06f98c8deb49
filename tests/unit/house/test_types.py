"""Types and repeats: strict mypy covers all code, no logic is repeated, test ids do not depend on the clock."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import io
import pkgutil
import re
import subprocess
import sys
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import metering
from metering.billing.usage.months import Sold, UsageLine
from metering.errors import SettingsError
from metering.fleet.stage import TUNABLES, StageConfig
from metering.settings import Policy, Settings, as_environment
from metering.usage.totals import Service, UsageKey, UsageKind, UsageType
from tests import ROOT
from tests.support.stage import settings

MOST_LINES = 12
_SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
_BRACKETS = frozenset("()[]{},:")
_OWN = "·"


class Line(NamedTuple):
    """A counted line: its number, and its text without layout and the function's local names."""

    number: int
    text: str


class Repeat(NamedTuple):
    """A sequence of equal lines in two places; each place is named by file and first line."""

    first: str
    second: str
    lines: int


def repeats(folders: Iterable[Path], *, most: int = MOST_LINES) -> list[Repeat]:
    """Sequences of more than `most` equal lines, without those that are part of longer sequences."""
    modules = sorted(path for folder in folders for path in folder.rglob("*.py") if "cdk.out" not in path.parts)
    files = {module: logic_lines(module.read_text()) for module in modules}
    places: dict[tuple[str, ...], list[tuple[Path, int]]] = defaultdict(list)
    for module, lines in files.items():
        texts = [line.text for line in lines]
        for start in range(len(texts) - most):
            places[tuple(texts[start : start + most + 1])].append((module, start))
    found = []
    for same in places.values():
        for position, first in enumerate(same):
            found += [
                _repeat(files, first, second)
                for second in same[position + 1 :]
                if _begins(files, first, second) and not _overlap(first, second, most)
            ]
    return sorted(found, key=lambda repeat: (-repeat.lines, repeat))


def _overlap(first: tuple[Path, int], second: tuple[Path, int], most: int) -> bool:
    return first[0] == second[0] and second[1] - first[1] <= most


def _begins(files: dict[Path, list[Line]], first: tuple[Path, int], second: tuple[Path, int]) -> bool:
    """Whether the lines before the two places differ."""
    if not first[1] or not second[1]:
        return True
    return files[first[0]][first[1] - 1].text != files[second[0]][second[1] - 1].text


def _repeat(files: dict[Path, list[Line]], first: tuple[Path, int], second: tuple[Path, int]) -> Repeat:
    one, other = files[first[0]][first[1] :], files[second[0]][second[1] :]
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine.text != theirs.text:
            break
        count += 1
    return Repeat(f"{first[0]}:{one[0].number}", f"{second[0]}:{other[0].number}", count)


def logic_lines(source: str) -> list[Line]:
    """The lines of a module that count as logic."""
    tree = ast.parse(source)
    left_out = set(_left_out(tree))
    own = _own_names(tree)
    texts: dict[int, list[str]] = defaultdict(list)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        number = token.start[0]
        if token.type not in _SILENT and number not in left_out:
            is_own = token.type == tokenize.NAME and token.string in own.get(number, ())
            texts[number].append(_OWN if is_own else token.string)
    lines = [Line(number, " ".join(words)) for number, words in sorted(texts.items())]
    return [line for line in lines if not _BRACKETS.issuperset(line.text.replace(" ", ""))]


def _left_out(tree: ast.Module) -> Iterator[int]:
    """Lines of docstrings and imports."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Expr, ast.Import, ast.ImportFrom)):
            continue
        if not isinstance(node, ast.Expr) or isinstance(node.value, ast.Constant):
            yield from range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _own_names(tree: ast.Module) -> dict[int, set[str]]:
    """Line -> names of the parameters and variables of the functions that contain it."""
    own: dict[int, set[str]] = defaultdict(set)
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
            names |= {
                node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
            for number in range(function.lineno, (function.end_lineno or function.lineno) + 1):
                own[number] |= names - {"self", "cls"}
    return own


PROJECT = ROOT / "pyproject.toml"
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
_IGNORE = re.compile(r"#\s*type:\s*ignore(.*)")
_CODE_AND_REASON = re.compile(r"\[[a-z-]+(, ?[a-z-]+)*\]  # \w.*")


def ignores_without_a_reason(text: str) -> list[str]:
    """Comments that silence mypy without stating the error code and the reason."""
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


@pytest.mark.parametrize(("code", "errors"), [
    ("def test_it() -> None:\n    assert True\n", set()),
    ("def test_it():\n    assert True\n", {"no-untyped-def"}),
    ("def test_it() -> None:\n    assert len(3) == 1\n", {"arg-type"}),
], ids=["typed", "untyped", "wrong"])  # fmt: skip
def test_a_test_without_types_or_with_wrong_ones_is_an_error(tmp_path: Path, code: str, errors: set[str]) -> None:
    """Check a project that has one test with mypy and our settings."""
    (tmp_path / PROJECT.name).write_text(PROJECT.read_text())
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "tests" / "test_it.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--num-workers", "2"], cwd=tmp_path, text=True, capture_output=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert set(re.findall(r"^tests/test_it\.py:\d+: error: .*\[(.+)\]$", done.stdout, re.MULTILINE)) == errors, done
    assert done.returncode == (1 if errors else 0), done


# Every module can be imported on the oldest Python that is supported; mypy and ruff don't see what fails only there.

# Generic for type checkers, but without a subscript at run time before Python 3.12 (array) and 3.14 (memoryview).
_NOT_YET_GENERIC = {"array", "memoryview"}


def fails_on_the_oldest_python(text: str) -> list[int]:
    """Lines whose annotations an old Python would evaluate, and fail."""
    tree = ast.parse(text)
    if any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body):
        return []
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in _NOT_YET_GENERIC
    ]


def test_no_annotation_fails_on_the_oldest_python() -> None:
    texts = {path: path.read_text() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert not {path: lines for path, text in texts.items() if (lines := fails_on_the_oldest_python(text))}


def test_an_annotation_that_fails_on_the_oldest_python_is_found() -> None:
    text = "from array import array\n\ndef sizes() -> array[int]: ...\n"
    assert fails_on_the_oldest_python(text) == [3]
    assert not fails_on_the_oldest_python("from __future__ import annotations\n" + text)


def test_a_service_where_a_usage_type_belongs_is_an_error() -> None:
    """Each ignore below proves an error, because strict mypy reports unused ignores."""
    kind = UsageKind(UsageType("t"), Service("s"), "f", "g")
    line = UsageLine(0, "a", *kind, 5)  # type: ignore[arg-type]  # a line names the service first
    key = UsageKey(0, *line[1:6])  # type: ignore[arg-type]  # a key names the usage type first
    sold = Sold(*kind[:2])  # type: ignore[arg-type]  # what is sold names the service first
    assert (key.kind, line.service, sold.service) == (kind, "t", "t")
    assert (kind.usage_type, kind.service) in {sold}  # type: ignore[comparison-overlap]  # as above
    assert UsageKind("t", "s", "f", "g") == kind  # type: ignore[arg-type]  # plain texts could be in any order


# Production code contains no duplicated logic, and a duplicate would be detected.

PRODUCTION = [ROOT / name for name in ("metering", "lambdas", "infra", "load_tests")]
# Pairs of files that still have consecutive lines in common. No pair may be added to this list.
KNOWN: set[tuple[str, str]] = set()
LINES = [f"step_{number}(total)" for number in range(MOST_LINES)]


def function(name: str, *lines: str, variable: str = "total") -> str:
    body = "".join(f"    {line.replace('total', variable)}\n" for line in lines)
    return f'def {name}({variable}):\n    """About {name}."""\n{body}'


def test_no_two_places_have_the_same_logic() -> None:
    found = repeats(PRODUCTION)
    files = {
        (Path(first).relative_to(ROOT).as_posix(), Path(second).relative_to(ROOT).as_posix())
        for first, second in ((each.first.rpartition(":")[0], each.second.rpartition(":")[0]) for each in found)
    }
    assert files == KNOWN, found


def test_one_line_more_than_is_allowed_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("import os\n\n\n" + function("one", *LINES, "last(total)"))
    (tmp_path / "other.py").write_text(function("other", "first(total)", *LINES, "last(total)"))
    [found] = repeats([tmp_path])
    assert found == (f"{tmp_path / 'one.py'}:6", f"{tmp_path / 'other.py'}:4", MOST_LINES + 1)


def test_as_many_lines_as_are_allowed_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(function("one", *LINES))
    (tmp_path / "other.py").write_text(function("other", *LINES))
    assert not repeats([tmp_path])


def test_a_copy_with_other_variables_and_comments_is_found(tmp_path: Path) -> None:
    lines = [*LINES, "last(total)"]
    (tmp_path / "one.py").write_text(function("one", *lines))
    changed = [f"{line}  # as before" for line in lines]
    (tmp_path / "other.py").write_text(function("other", *changed, variable="amount"))
    assert [each.lines for each in repeats([tmp_path])] == [MOST_LINES + 1]


def test_a_copy_in_the_same_module_is_found(tmp_path: Path) -> None:
    lines = [*LINES, "last(total)"]
    (tmp_path / "both.py").write_text(function("one", *lines) + "\n\n" + function("other", *lines))
    assert [each.lines for each in repeats([tmp_path])] == [MOST_LINES + 1]


def test_calls_of_other_functions_are_other_logic(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(function("one", *LINES, "last(total)"))
    (tmp_path / "other.py").write_text(function("other", *(f"other_{line}" for line in LINES), "last(total)"))
    assert not repeats([tmp_path])


def test_only_logic_counts() -> None:
    source = (
        '"""Text."""\n\nimport os\n\n\ndef read(\n    path,\n):\n    # Why.\n    return os.stat(\n        path\n    )\n'
    )
    assert [line.number for line in logic_lines(source)] == [6, 7, 10, 11]


# Test names are the same at each collection: if two workers disagree about a name, the whole run stops.

# gzip writes the current time into its header, unless another time is given.
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


# Each setting of a stage has a single source: the code that uses it has no default for it.

# These are not settings, despite the same name: values that only one job or client uses, and the protocol's 72 hours.
_KEPT = {"reserve_ms", "attempts"}
# Settings of a stage, by every name of an argument for them.
_DECIDED = {
    *(name.removeprefix("compact_").removeprefix("clean_").removeprefix("admission_") for name in Policy.model_fields),
    "commit_life_s",
    "quarantine_age_s",
} - _KEPT


def defaults() -> Iterator[str]:
    """Arguments with a default value, of classes and functions in `metering`, as `Class.argument`."""
    for module in pkgutil.walk_packages(metering.__path__, "metering."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if getattr(value, "__module__", None) != module.name:
                continue
            if dataclasses.is_dataclass(value):
                missing = dataclasses.MISSING
                yield from (
                    f"{name}.{f.name}"
                    for f in dataclasses.fields(value)
                    if f.default is not missing or f.default_factory is not missing
                )
            elif inspect.isfunction(value) or (inspect.isclass(value) and "__init__" in vars(value)):
                signature = inspect.signature(value if inspect.isfunction(value) else value.__init__)
                yield from (f"{name}.{p.name}" for p in signature.parameters.values() if p.default is not p.empty)


def test_a_forgotten_argument_that_a_stage_decides_is_a_type_error() -> None:
    found = {argument for argument in defaults() if argument.partition(".")[2] in _DECIDED and argument[0].isupper()}
    assert found == {"PeriodCloser.wait_s", "LedgerFormat.drop_identity"}


# Stages that were deployed before these settings existed behave as their defaults say. All others are required.
_AS_BEFORE = {"drop_identity", "lake_life_s"}


def test_the_policy_has_no_defaults() -> None:
    assert {name for name, each in Policy.model_fields.items() if not each.is_required()} == _AS_BEFORE
    assert {name for name, each in Settings.model_fields.items() if not each.is_required()} == {*_AS_BEFORE, "chat"}


def test_a_function_without_one_of_its_settings_does_not_start() -> None:
    given = as_environment(settings().model_dump())
    assert Settings.from_env(given) == settings()
    for name in given.keys() - {"METERING_CHAT"}:
        with pytest.raises(SettingsError, match=name):
            Settings.from_env({other: value for other, value in given.items() if other != name})


def test_the_stage_decides_every_setting_of_the_policy() -> None:
    assert {*TUNABLES, "window_s", "marker_life_s", *_AS_BEFORE} == set(Policy.model_fields)


@pytest.mark.parametrize("tunables", [{"shards": 0}, {"shards": 65}, {"rollup_blocks": 2}])
def test_a_tunable_that_no_function_would_take_is_refused_with_the_stage(tunables: dict[str, int]) -> None:
    with pytest.raises(SettingsError, match=next(iter(tunables))):
        StageConfig.load("local", {"tunables": tunables})
