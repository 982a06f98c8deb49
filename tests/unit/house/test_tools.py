"""Installation, workflows, tools with separate environments, and the exercise in CONTRIBUTING."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

from tests import ROOT, tools
from tests.tools import PYTHONS, SUPPORTED, Tool, main, remove_older

# `make install` uses the requested Python, even after an install with another version, and explains an invalid one.

# Represents an interpreter that reports its version.
PYTHON = "#!/bin/sh\necho {path}\n"
# A version manager's shim that has no version to run.
SHIM = "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n"
UV = """#!/bin/sh
echo "$@" >> uv.log
while [ "$1" != --python ]; do shift; done
mkdir -p .venv/bin && ln -sf "$(command -v "$2")" .venv/bin/python
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose installation only records the packages that it would install."""
    (tmp_path / ".ci").mkdir()
    for name in ("Makefile", "pyproject.toml", "uv.lock", ".ci/installing.awk"):
        shutil.copy(ROOT / name, tmp_path / name)
    tools = tmp_path / "tools"
    tools.mkdir()
    texts = {"uv": UV, "python3.12": PYTHON.format(path="/opt/3.12"), "python3.13": PYTHON.format(path="/opt/3.13")}
    texts["python3"] = texts["python3.13"]
    for name, text in {**texts, "shim": SHIM}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    return tmp_path


def install(checkout: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": f"{checkout / 'tools'}:{os.environ['PATH']}"}
    return subprocess.run(
        ["make", "install", *settings], cwd=checkout, env=environ, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip


def installed(checkout: Path) -> list[str]:
    log = checkout / "uv.log"
    return [line.rpartition(" ")[2] for line in log.read_text().splitlines()] if log.exists() else []


def test_another_python_that_is_asked_for_is_installed_with(checkout: Path) -> None:
    for version in ("python3.13", "python3.12", "python3.12", "python3.13"):
        assert install(checkout, f"PYTHON={version}").returncode == 0
    assert installed(checkout) == ["python3.13", "python3.12", "python3.13"]


def test_an_install_stays_as_it_is_if_no_python_is_asked_for(checkout: Path) -> None:
    install(checkout, "PYTHON=python3.12")
    assert install(checkout).returncode == 0
    assert installed(checkout) == ["python3.12"]


@pytest.mark.parametrize("name", ["shim", "python9.9"])
def test_a_python_that_does_not_run_is_told_in_a_sentence(checkout: Path, name: str) -> None:
    done = install(checkout, f"PYTHON={name}")
    assert done.returncode == 2
    assert f"{name} does not run here, or is not Python 3.11 to 3.13. Name one that does: make install" in done.stderr
    assert "127" not in done.stderr
    assert installed(checkout) == []


def of_another_project(text: str) -> list[str]:
    """Installation commands in a text that name `metering`, which is another project's package on PyPI."""
    return re.findall(r"(?:pip|uv|pipx|uvx)[^\n`]*(?:install|add|--from)\s+['\"]?metering\b[^\n`]*", text)


def test_no_page_and_no_advice_installs_the_program_of_another_project() -> None:
    code = (ROOT / "metering").rglob("*.py")
    pages = chain(ROOT.glob("*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / "docs").glob("*.ipynb"), code)
    found = {str(page.relative_to(ROOT)): of_another_project(page.read_text()) for page in pages}
    assert {page: lines for page, lines in found.items() if lines} == {}
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"] == "transfer-metering"


def test_advice_to_install_another_project_is_noticed() -> None:
    text = "`pip install metering` has it; `uvx --from metering demo`, pip install 'metering[cli]'"
    found = of_another_project(text)
    assert found == ["pip install metering", "uvx --from metering demo", "pip install 'metering[cli]'"]
    assert of_another_project("pip install transfer-metering, pip install . and make install, then metering demo") == []


# `make lint` checks the workflows, which run the gate, and which publish only on an explicit command.

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


def test_a_tag_is_published_after_the_gate_by_whom_the_environment_lets_and_with_no_token() -> None:
    [before, publish] = WORKFLOWS["release"].split("\n  publish:\n")
    assert "publish" not in before
    assert '  push:\n    tags: ["v*"]\n' in before
    assert "    needs: check\n" in before
    assert "    needs: build\n" in publish
    assert "    environment: release\n" in publish
    assert "uv publish --trusted-publishing always" in publish
    assert "secrets." not in WORKFLOWS["release"]


def test_a_commit_is_preceded_by_what_the_gate_begins_with() -> None:
    assert "        entry: make lint\n" in (ROOT / ".pre-commit-config.yaml").read_text()


# Tools with their own environment are installed once per version of their lock file.


def test_another_lock_is_another_folder_and_the_older_one_goes(tmp_path: Path) -> None:
    lock = tmp_path / "tool.lock"
    lock.write_text("one==1")
    tool = Tool(name="one", python="3.13", lock=(lock,))
    first = tool.folder(tmp_path)
    first.mkdir()
    assert not tool.is_installed(tmp_path), "half of it"
    (first / ".installed").touch()
    assert tool.is_installed(tmp_path)
    lock.write_text("one==2")
    assert not tool.is_installed(tmp_path)
    remove_older(tool, tools=tmp_path)
    assert not first.exists()


def test_every_python_that_the_package_supports_is_tried() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        required = tomllib.load(file)["project"]["requires-python"]
    least, beyond = (int(minor) for minor in re.findall(r"3\.(\d+)", required))
    assert tuple(f"3.{minor}" for minor in range(least, beyond)) == PYTHONS


def test_a_python_that_fails_or_is_the_only_one_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {"python3.11": 0, "python3.12": 0, "python3.13": 1}

    class Done:
        def __init__(self, code: int) -> None:
            self.returncode = code

    def run(command: list[str], **_: object) -> Done:
        return Done(next(code for name, code in codes.items() if name in command[0]))

    monkeypatch.setattr(tools, "install", lambda _tool: True)
    monkeypatch.setattr(subprocess, "run", run)
    assert tools.run_pythons(SUPPORTED) == 1
    codes["python3.13"] = 0
    assert tools.run_pythons(SUPPORTED) == 0
    assert tools.run_pythons(SUPPORTED[:1]) == 1
    monkeypatch.setattr(tools, "install", lambda _tool: False)
    assert tools.run_pythons(SUPPORTED) == 1


def test_an_unknown_word_is_told() -> None:
    assert main(["python"]) == 2


# The exercise in CONTRIBUTING: adding a filter everywhere takes at most four files, not counting tests.

PATCH = Path(__file__).with_name("direction.patch")
TREES = ("metering", "lambdas", "tests", "docs")
FILES = ("CHANGELOG.md", "pyproject.toml")
TESTS = "tests/unit/reports/test_direction.py"
MOST_FILES = 4


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the tree, to which the patch of the exercise is applied."""
    for tree in TREES:
        shutil.copytree(ROOT / tree, tmp_path / tree, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, tmp_path)
    for words in (["--check"], []):
        command = ["git", "apply", *words, str(PATCH)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
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


# The minute of `make install`: what uv says to no terminal becomes progress, and trouble is told whole.
_UV = """\
Using CPython 3.13.5 interpreter at: /usr/bin/python3.13
Creating virtual environment at: .venv
   Building transfer-metering @ file:///work
Downloading pyarrow (52.5MiB)
Downloading duckdb (23.8MiB)
 Downloaded duckdb
 Downloaded pyarrow
      Built transfer-metering @ file:///work
Prepared 122 packages in 9.80s
Installed 122 packages in 277ms
Bytecode compiled 6039 files in 26.95s
 + pyarrow==26.0.0
 ~ transfer-metering==0.3.0 (from file:///work)
"""
_PROGRESS = """\
  downloaded 1 of 2: duckdb, 23.8MiB
  downloaded 2 of 2: pyarrow, 52.5MiB
  installed 122 packages; compiling takes half a minute at most, once
  compiled 6039 files in 26.95s
"""
_TROUBLE = "error: Failed to fetch: `https://index.test/duckdb`\n  Caused by: connection refused\n"


@pytest.mark.parametrize(("said", "code", "shown"), [(_UV, 0, _PROGRESS), (_TROUBLE, 2, _TROUBLE), ("", 0, "")])
def test_an_installation_says_how_far_it_is_and_what_failed(said: str, code: int, shown: str) -> None:
    [recipe] = [line for line in (ROOT / "Makefile").read_text().splitlines() if "$(UV) sync" in line]
    command, sync = recipe.strip().removeprefix("@"), recipe[recipe.index("$(UV)") : recipe.index(" 2>&1")]
    line = command.replace(sync, f"(cat; exit {code})")
    done = subprocess.run(["bash", "-c", line], cwd=ROOT, input=said, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", shown)
