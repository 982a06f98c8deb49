"""Settings on the command line: checks without a deployment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from metering.cli.app import app

EXAMPLE = Path(__file__).parents[3] / "docs" / "metering.toml"
# Nothing listens on port 9 of this machine (discard).
NOWHERE = ("--endpoint", "http://127.0.0.1:9")


@pytest.fixture(autouse=True)
def _own_directory(nowhere: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(*arguments: str) -> str:
    """Messages about wrong usage."""
    result = CliRunner().invoke(app, [*arguments])
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    return result.stderr


def test_a_file_is_checked_without_aws_and_says_its_stages() -> None:
    result = CliRunner().invoke(app, ["settings", "validate", str(EXAMPLE), "--format", "csv"])
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "stage,like,settings"
    assert "staging,prod,1" in result.stdout


def test_all_problems_of_all_stages_are_said_and_the_exit_code_is_2(tmp_path: Path) -> None:
    (tmp_path / "metering.toml").write_text(
        '[stage.prod]\nbatch_size = 0\n[stage.emea]\nlike = "prd"\nsubscription = 1\n'
    )
    said = refused("settings", "validate")
    assert "metering.toml [stage.prod]: batch_size is 0; it must be a whole number from 1 to 10,000." in said
    assert "metering.toml [stage.emea]: like is 'prd'" in said
    assert "metering.toml has 2 problems." in said
    assert "metering settings fields" in said


def test_without_a_file_there_is_nothing_to_check() -> None:
    said = refused("settings", "validate")
    assert "There is no metering.toml" in said
    assert "metering settings validate FILE" in said
    assert "none.toml cannot be read" in refused("settings", "validate", "none.toml")


def test_the_fields_are_listed_from_the_model() -> None:
    result = CliRunner().invoke(app, ["settings", "fields", "--format", "json"])
    rows = {row["setting"]: row for row in json.loads(result.stdout)["rows"]}
    assert rows["max_concurrency"] == {
        "setting": "max_concurrency", "kind": "a whole number from 2 to 1,000", "default": "20",
        "meaning": "Most aggregators at a time.",
    }  # fmt: skip


@pytest.mark.parametrize(
    "command",
    [
        ("region", "add", "us-east-1", *NOWHERE),
        ("region", "reconcile", *NOWHERE),
        ("region", "plan", *NOWHERE),
        ("settings", "diff", *NOWHERE),
        ("local", "up"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "foo"), "--set foo: not FIELD=VALUE."),
        (("--set", "=5"), "--set =5: not FIELD=VALUE."),
        (("--set", "foo=1"), "--set foo is not a setting"),
        (("--set", "subscription=[]"), "did you mean subscriptions?"),
        (("--set", "batch_size=0"), "--set batch_size is 0; it must be a whole number from 1 to 10,000."),
        (("--set", "tunables={broken"), "that is not JSON"),
        (("--set", "stage=x"), "the stage has the name that --stage says"),
        (("--set", "batch_size=5", "--unset", "batch_size"), "given by --set and taken back by --unset"),
        (("--settings", "none.toml"), "none.toml does not exist"),
    ],
    ids=lambda each: each[-1] if isinstance(each, tuple) else "",
)
def test_wrong_settings_are_refused_before_anything_is_asked_or_sent(
    command: tuple[str, ...], options: tuple[str, ...], words: str
) -> None:
    assert words in refused(*command, *options)


@pytest.mark.parametrize("command", [("add", "us-east-1"), ("reconcile",)], ids=" ".join)
def test_a_deployment_to_aws_without_a_terminal_and_without_yes_is_refused(command: tuple[str, ...]) -> None:
    assert "add --yes" in refused("region", *command, "--stage", "prod", "--redeploy")


def test_a_stage_of_the_file_that_is_for_emulators_never_reaches_aws(tmp_path: Path) -> None:
    """Recognised by its base, whatever its name, before the first call, for which there are no credentials here."""
    (tmp_path / "metering.toml").write_text('[stage.mine]\nlike = "local"\n')
    result = CliRunner().invoke(app, ["region", "plan", "--stage", "mine"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Stage mine runs on an emulator" in result.stderr


def test_a_broken_file_is_said_by_every_command_that_deploys(tmp_path: Path) -> None:
    (tmp_path / "metering.toml").write_text("[stage.local]\nbatch_size = 0\n")
    for command in (("region", "add", "us-east-1", *NOWHERE), ("local", "up")):
        assert "metering.toml [stage.local]: batch_size is 0" in refused(*command)


def test_a_file_that_the_environment_names_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.toml").write_text("[stage.local]\nbatch_size = 0\n")
    monkeypatch.setenv("METERING_SETTINGS", "other.toml")
    assert "other.toml [stage.local]: batch_size is 0" in refused("local", "up")


def test_a_name_that_nobody_knows_cannot_be_taken_back() -> None:
    said = refused("local", "up", "--unset", "subscription")
    assert "--unset subscription is not a setting: did you mean subscriptions?" in said


@pytest.mark.parametrize("command", ["show", "diff"])
def test_a_dead_endpoint_is_told_as_everywhere(command: str) -> None:
    result = CliRunner().invoke(app, ["settings", command, *NOWHERE])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "gives no answer" in result.stderr
