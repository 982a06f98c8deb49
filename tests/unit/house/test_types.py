"""The type gate: `mypy` as `make lint` runs it is strict about all our code, and ignores nothing without a reason."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from metering.billing.usage.months import Sold, UsageLine
from metering.usage.totals import Service, UsageKey, UsageKind, UsageType

ROOT = Path(__file__).parents[3]
PROJECT = ROOT / "pyproject.toml"
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
_IGNORE = re.compile(r"#\s*type:\s*ignore(.*)")
_CODE_AND_REASON = re.compile(r"\[[a-z-]+(, ?[a-z-]+)*\]  # \w.*")


def ignores_without_a_reason(text: str) -> list[str]:
    """Comments that silence mypy and do not name what they silence, and why."""
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
    """Each ignore below stands for an error: mypy is strict, and reports one that ignores nothing."""
    kind = UsageKind(UsageType("t"), Service("s"), "f", "g")
    line = UsageLine(0, "a", *kind, 5)  # type: ignore[arg-type]  # a line names the service first
    key = UsageKey(0, *line[1:6])  # type: ignore[arg-type]  # a key names the usage type first
    sold = Sold(*kind[:2])  # type: ignore[arg-type]  # what is sold names the service first
    assert (key.kind, line.service, sold.service) == (kind, "t", "t")
    assert (kind.usage_type, kind.service) in {sold}  # type: ignore[comparison-overlap]  # as above
    assert UsageKind("t", "s", "f", "g") == kind  # type: ignore[arg-type]  # plain texts could be in any order
