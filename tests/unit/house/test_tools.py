"""Tools with an environment of their own are made once for each version of their lock."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import TYPE_CHECKING

from tests import tools
from tests.tools import PYTHONS, ROOT, SUPPORTED, Tool, main, remove_older

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_another_lock_is_another_folder_and_the_older_one_goes(tmp_path: Path) -> None:
    lock = tmp_path / "tool.lock"
    lock.write_text("one==1")
    tool = Tool(name="one", python="3.13", lock=(lock,))
    first = tool.folder(tmp_path)
    first.mkdir()
    (first / ".installed").touch()
    assert tool.is_installed(tmp_path)
    lock.write_text("one==2")
    assert not tool.is_installed(tmp_path)
    remove_older(tool, tools=tmp_path)
    assert not first.exists()


def test_what_was_installed_half_is_not_installed(tmp_path: Path) -> None:
    lock = tmp_path / "tool.lock"
    lock.write_text("one==1")
    tool = Tool(name="one", python="3.13", lock=(lock,))
    tool.folder(tmp_path).mkdir()
    assert not tool.is_installed(tmp_path)


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
