"""LocalStack of the tests: where it is missing that is said, and its page names the versions that were tried."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from tests.support.aws_cli import AWS_CLI
from tests.support.localstack import server
from tests.unit.house.command_lines import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE = (ROOT / "docs" / "localstack.md").read_text()


@pytest.mark.parametrize(("ci", "code"), [("", server.MISSING), ("true", 1)])
def test_a_machine_that_cannot_have_it_says_why_and_is_red_where_ci_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ci: str, code: int
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(server, "install", lambda _tool: False)

    assert server.main(["up", "1"]) == code
    assert "no LocalStack: this machine has no Python 3.13" in capsys.readouterr().err


def locked(lock: Path, name: str) -> str:
    """Version of a package in a lock."""
    [found] = re.findall(rf"^{re.escape(name)}==(\S+)", lock.read_text(), re.MULTILINE)
    return str(found)


def test_the_page_names_the_versions_of_the_locks() -> None:
    [tools] = [path for path in server.LOCALSTACK.lock if path.name == "tools.txt"]
    assert f"LocalStack {locked(tools, 'localstack-core')}" in PAGE
    assert f"AWS CLI {locked(AWS_CLI.lock[0], 'awscli')}" in PAGE
    assert f"MiniStack {version('ministack')}" in PAGE


@pytest.mark.parametrize("lock", [*server.LOCALSTACK.lock, *AWS_CLI.lock], ids=lambda path: path.name)
def test_every_package_of_a_lock_has_its_hashes(lock: Path) -> None:
    packages = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert packages
    assert [each for each in packages if "--hash=sha256:" not in each] == []
