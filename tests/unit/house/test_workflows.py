"""Workflows are checked by `make lint`, run what the gate is, and publish nothing before somebody says so."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.tools import PYTHONS, ROOT

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOWS = {path.stem: path.read_text() for path in (ROOT / ".github" / "workflows").glob("*.yml")}
PINNED = re.compile(r"^[\w./-]+@[0-9a-f]{40} # v[\d.]+$")
SOUND = """\
name: sound
on: [push]
permissions: {}
concurrency: {group: sound, cancel-in-progress: true}
jobs:
  one:
    name: one
    runs-on: ubuntu-24.04
    timeout-minutes: 5
    steps:
      - run: make lint
"""
BAD = {
    "unpinned-uses": SOUND + "      - uses: actions/setup-python@v6\n",
    "artipacked": SOUND + f"      - uses: actions/checkout@{'0' * 40} # v1\n",
    "template-injection": SOUND + "      - run: echo ${{ github.event.pull_request.title }}\n",
    "excessive-permissions": SOUND.replace("permissions: {}", "permissions: write-all"),
}


def run_as_lint_does(workflows: Path) -> subprocess.CompletedProcess[str]:
    """Run the command of `make lint` on another folder."""
    [command] = re.findall(r"^\t@(\.venv/bin/zizmor .*) \.github$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return subprocess.run([*command.split(), str(workflows)], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_workflows_are_sound() -> None:
    ended = run_as_lint_does(ROOT / ".github")
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("audit", ["", *BAD])
def test_a_bad_workflow_is_found_and_a_sound_one_is_not(tmp_path: Path, audit: str) -> None:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder / "one.yml").write_text(BAD.get(audit, SOUND))
    ended = run_as_lint_does(tmp_path / ".github")
    assert (ended.returncode != 0) == bool(audit)
    assert f"[{audit}]" in ended.stdout or not audit


def test_actions_are_pinned_by_commit_and_say_their_version() -> None:
    used = [line for text in WORKFLOWS.values() for line in re.findall(r"uses: (.+)$", text, re.MULTILINE)]
    assert len(used) > len(WORKFLOWS)
    assert [line for line in used if not PINNED.match(line)] == []


def test_the_gate_runs_on_every_python_that_the_package_supports() -> None:
    matrix = re.search(r"python: \[(.+)\]", WORKFLOWS["ci"])
    assert matrix
    assert tuple(re.findall(r"[\d.]+", matrix[1])) == PYTHONS
    assert 'run: make check PYTHON="python$VERSION"' in WORKFLOWS["ci"]


def test_nothing_is_published_before_a_repository_says_so() -> None:
    [before, publish] = WORKFLOWS["release"].split("\n  publish:\n")
    assert "    if: vars.PUBLISH == 'yes'\n" in publish
    assert "publish" not in before


def test_a_commit_is_preceded_by_what_the_gate_begins_with() -> None:
    assert "        entry: make lint\n" in (ROOT / ".pre-commit-config.yaml").read_text()
