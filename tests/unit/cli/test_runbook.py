"""`metering runbook`: each page for its place, by any name of its alarm, offline, and ready to paste."""

from __future__ import annotations

import io
import json
import shutil
import tomllib
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from typer.testing import CliRunner

from metering.adapters import checkout
from metering.adapters.checkout import runbooks_dir
from metering.cli.app import app
from metering.cli.commands.operator import doctor
from metering.cli.printing.table import print_page
from metering.fleet.settings.bases import STAGE_NAME
from metering.fleet.stage import StageConfig
from metering.operations.alarms import ALARMS, alarm_name
from metering.operations.runbooks import commands_by_part, page_of, placed, runbook_in
from tests import ROOT
from tests.support.with_each import with_each
from tests.unit.house.command_lines import parsed

if TYPE_CHECKING:
    from pathlib import Path

PAGES = sorted({spec.runbook for spec in ALARMS})
# Nothing listens on port 9 of this machine (discard).
NOWHERE = ("--endpoint", "http://127.0.0.1:9")


pytestmark = pytest.mark.usefixtures("nobody")


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["runbook", *arguments])
    return done.exit_code, done.stdout, done.stderr


@with_each(PAGES)
def test_every_command_of_a_page_names_the_region_and_the_stage(name: str) -> None:
    code, out, _ = run(name, "--region", "eu-west-1", "--stage", "prod")
    assert code == 0
    commands = [line for _, line in commands_by_part(out)]
    assert commands
    for line in commands:
        assert parsed(line)
        assert "--stage prod" in line
        assert "eu-west-1" in line
    assert "REGION" not in out
    assert "STAGE" not in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("dead-letters", "--stage", "prod;id"),
        ("dead-letters", "--stage", r"a\1"),
        ("dead-letters", "--stage", "prod\n"),
        ("dead-letters", "--region", "$(id)"),
        ("metering-$(id)-dead-letters",),
        ("metering-`id`-dead-letters", "--format", "json"),
        ("arn:aws:cloudwatch:a;id:1:alarm:metering-prod-dead-letters",),
    ],
)
def test_nothing_that_a_shell_would_run_gets_into_a_command(arguments: tuple[str, ...]) -> None:
    """An alert is only a mail, and its commands are for pasting."""
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "is not the name of a" in err


def test_a_stage_that_the_environment_names_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERING_STAGE", "prod;id")
    assert run("dead-letters")[0] == 2
    monkeypatch.setenv("METERING_STAGE", "prod")
    monkeypatch.setenv("AWS_REGION", "$(id)")
    assert run("dead-letters")[0] == 2


def test_a_stage_has_the_form_that_a_deployment_takes() -> None:
    [rule] = StageConfig.model_fields["stage"].metadata
    assert rule.pattern == STAGE_NAME


def test_the_name_in_a_mail_gives_the_stage_and_an_arn_the_region_too() -> None:
    by_name = run("metering-prod-oldest-message", "--region", "eu-west-1")[1]
    by_arn = run("arn:aws:cloudwatch:eu-west-1:123456789012:alarm:metering-prod-oldest-message")[1]
    assert by_name == by_arn == run("oldest-batch", "--region", "eu-west-1", "--stage", "prod")[1]


def test_an_option_that_contradicts_the_name_is_refused() -> None:
    assert run("metering-prod-conflicts", "--stage", "dev")[0] == 2
    code, _, err = run("arn:aws:cloudwatch:eu-west-1:1:alarm:metering-prod-conflicts", "--region", "us-east-1")
    assert code == 2
    assert "Leave --region out" in err


def test_the_list_needs_no_region_and_says_that_no_state_is_known() -> None:
    code, out, err = run("--stage", "prod", *NOWHERE)
    assert code == 0
    rows = json.loads(out)["rows"]
    assert [row["alarm"] for row in rows] == [spec.name for spec in ALARMS]
    assert {row["state"] for row in rows} == {"unknown"}
    assert {row["runbook"] for row in rows} == set(PAGES)
    assert "No state is known" in err


def test_alarms_that_are_on_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {alarm_name("prod", spec.name): "OK" for spec in ALARMS} | {"metering-prod-conflicts": "ALARM"}
    monkeypatch.setattr(doctor, "_states", lambda _session: states)
    rows = json.loads(run("--stage", "prod")[1])["rows"]
    assert [(row["alarm"], row["state"]) for row in rows[:2]] == [("conflicts", "ALARM"), ("dead-letter-queue", "OK")]


def test_a_page_can_be_read_by_a_program() -> None:
    document = json.loads(run("dead-letters", "--stage", "prod", "--format", "json")[1])
    assert document["alarms"] == ["metering-prod-dead-letter-queue", "metering-prod-dead-letters"]
    assert {each["part"] for each in document["commands"]} == {"How to see", "How to mitigate", "How to check"}


@pytest.mark.cases
@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("name", PAGES)
def test_on_a_terminal_text_is_wrapped_and_commands_are_not(name: str, width: int) -> None:
    text = placed(
        runbook_in((runbooks_dir() / f"{page_of(name)}.md").read_text(), name),
        region="ap-southeast-1",
        stage="a-long-stage",
    )
    shown = io.StringIO()
    print_page(text, Console(file=shown, width=width, color_system=None, force_terminal=True))
    lines = shown.getvalue().splitlines()
    commands = [line for _, line in commands_by_part(text)]
    assert [line.strip() for line in lines if line.startswith("    metering ")] == commands
    assert all(len(line) <= width for line in lines if not line.startswith("    metering "))
    assert not any(line.endswith(" ") for line in lines if line.startswith("    metering "))


def test_a_wheel_takes_the_pages_to_the_folder_that_the_command_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    installed = tmp_path / included["docs/runbooks"]
    shutil.copytree(ROOT / "docs" / "runbooks", installed)
    monkeypatch.setattr(checkout, "_PACKAGE", tmp_path / "metering")
    assert runbooks_dir() == installed
    assert run("conflicts")[0] == 0
