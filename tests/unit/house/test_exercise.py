"""The exercise of CONTRIBUTING: a filter is added everywhere in at most four files plus its tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PATCH = Path(__file__).with_name("direction.patch")
TREES = ("metering", "lambdas", "tests", "docs")
FILES = ("CHANGELOG.md", "pyproject.toml")
TESTS = "tests/unit/reports/test_direction.py"
MOST_FILES = 4


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The tree with the patch applied."""
    for tree in TREES:
        shutil.copytree(ROOT / tree, tmp_path / tree, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, tmp_path)
    for words in (["--check"], []):
        done = subprocess.run(
            ["git", "apply", *words, str(PATCH)], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"write the patch anew, as CONTRIBUTING says: {done.stderr}"
    return tmp_path


def test_a_filter_edits_at_most_four_files_beside_tests_and_works_everywhere(copy: Path) -> None:
    changed = re.findall(r"^\+\+\+ b/(.+)$", PATCH.read_text(), flags=re.MULTILINE)
    assert len([path for path in changed if not path.startswith("tests/")]) <= MOST_FILES
    assert TESTS in changed
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", TESTS],
        cwd=copy, env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
