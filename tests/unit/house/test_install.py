"""`make install`: with the Python that is asked for, also after an install with another, and in words if it is none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# Stands for an interpreter: it says which one it is, and nothing else is asked of it here.
PYTHON = "#!/bin/sh\necho {path}\n"
# A version manager's shim without a version behind it.
SHIM = "#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n"
UV = """#!/bin/sh
echo "$@" >> uv.log
while [ "$1" != --python ]; do shift; done
mkdir -p .venv/bin && ln -sf "$(command -v "$2")" .venv/bin/python
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which installing only notes what would be installed."""
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
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
        ["make", "install", *settings],
        cwd=checkout,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def installed(checkout: Path) -> list[str]:
    """The Pythons that were installed with, one after the other."""
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
    """What a text tells people to install under a name that is somebody else's on the package index."""
    return re.findall(r"(?:pip|uv|pipx|uvx)[^\n`]*(?:install|add|--from)\s+['\"]?metering\b[^\n`]*", text)


def test_no_page_and_no_advice_installs_the_program_of_another_project() -> None:
    code = (ROOT / "metering").rglob("*.py")
    pages = chain(ROOT.glob("*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / "docs").glob("*.ipynb"), code)
    found = {str(page.relative_to(ROOT)): of_another_project(page.read_text()) for page in pages}
    assert {page: lines for page, lines in found.items() if lines} == {}
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"] == "transfer-metering"


def test_advice_to_install_another_project_is_noticed() -> None:
    text = "`pip install metering` has it; `uvx --from metering demo`, pip install 'metering[cli]'"
    assert of_another_project(text) == [
        "pip install metering",
        "uvx --from metering demo",
        "pip install 'metering[cli]'",
    ]
    assert of_another_project("pip install transfer-metering, pip install . and make install, then metering demo") == []
