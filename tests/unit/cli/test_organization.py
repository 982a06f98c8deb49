"""`metering organization`: who pays for which accounts, kept in versions in the home region."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.command_line import ask, run
from tests.unit.cli.test_prices import Stage, stage

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["stage"]

PAYER = {"id": "999988887777", "name": "Acme", "issuer": "Cloud Team"}
ACCOUNT = {"id": "111122223333", "payer": "999988887777", "from": "2026-01-01T00:00:00Z", "to": None, "name": "web"}


def file_of(tmp_path: Path, *accounts: dict[str, Any], payers: list[dict[str, Any]] | None = None) -> Path:
    path = tmp_path / "payers.json"
    path.write_text(json.dumps({"payers": payers or [PAYER], "accounts": accounts}), encoding="utf-8")
    return path


def test_a_file_is_set_shown_and_kept_in_versions(stage: Stage, tmp_path: Path) -> None:
    answer = ask("organization", "set", file_of(tmp_path, ACCOUNT))
    assert answer["version"] == 1
    assert answer["rows"] == [
        {
            "payer": "999988887777",
            "payer_name": "Acme",
            "issuer": "Cloud Team",
            "account": "111122223333",
            "account_name": "web",
            "from": "2026-01-01T00:00:00Z",
            "to": None,
        }
    ]
    ask("organization", "set", file_of(tmp_path))
    assert [row["account"] for row in ask("organization", "show")["rows"]] == [None]
    assert [row["account"] for row in ask("organization", "show", "--version", "1")["rows"]] == ["111122223333"]
    history = ask("organization", "history")["rows"]
    assert [(row["version"], row["accounts"]) for row in history] == [(2, 0), (1, 1)]
    assert stage.home.world.objects.keys("organization/") == ("organization/1.json", "organization/2.json")
    assert {what for what, _ in stage.deeds()} == {"organization set"}


def test_the_same_file_again_writes_nothing(stage: Stage, tmp_path: Path) -> None:
    ask("organization", "set", file_of(tmp_path, ACCOUNT))
    result = run("organization", "set", file_of(tmp_path, ACCOUNT))
    assert (result.exit_code, len(stage.home.world.objects.keys("organization/"))) == (0, 1)
    assert "Nothing was written: version 1 says the same." in result.stderr


@pytest.mark.parametrize(("accounts", "told"), [
    ([ACCOUNT, {**ACCOUNT, "from": "2026-06-01T00:00:00Z"}], "has payer 999988887777 twice"),
    ([{**ACCOUNT, "id": "11112222333"}], "is no account id"),
    ([{**ACCOUNT, "to": "2025-01-01T00:00:00Z"}], "it ends at"),
    ([{**ACCOUNT, "payer": "999988887778"}], "is not among the payers"),
])  # fmt: skip
def test_a_file_that_contradicts_itself_is_refused(
    stage: Stage, tmp_path: Path, accounts: list[dict[str, Any]], told: str
) -> None:
    result = run("organization", "set", file_of(tmp_path, *accounts))
    assert (result.exit_code, result.stdout) == (1, "")
    assert told in " ".join(result.stderr.split())
    assert stage.home.world.objects.keys("organization/") == ()


def test_overrides_of_a_payer_that_is_left_out_are_told(stage: Stage, tmp_path: Path) -> None:
    ask("prices", "override", "set", "--payer", "999988887778", "--from", "2026-12", "--price", "1")
    result = run("organization", "set", file_of(tmp_path, ACCOUNT))
    assert result.exit_code == 0
    assert "Overrides name payer 999988887778" in result.stderr
    assert stage.home.world.objects.keys("organization/")


@pytest.mark.parametrize(("line", "code"), [
    (("set", "/nowhere.json"), 2), (("show", "--version", "3"), 1), (("show", "--payer", "999988887778"), 1),
])  # fmt: skip
@pytest.mark.usefixtures("stage")
def test_what_does_not_exist_is_refused_in_words(line: tuple[str, ...], code: int) -> None:
    result = run("organization", *line)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("Error: ")
