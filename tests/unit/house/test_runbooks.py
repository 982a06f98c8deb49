"""Every alarm has a runbook of its name, every runbook an alarm, and its commands are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from metering.cli.app import app
from metering.operations.alarms import ALARMS, ROLLBACK_ALARMS, Figure

FOLDER = Path(__file__).parents[3] / "docs" / "runbooks"
PARTS = ("What it means", "What it costs", "How to see", "How to mitigate", "How to check")
NAMES = [spec.name for spec in ALARMS]


def runbooks() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "README")


def commands(name: str) -> list[str]:
    return re.findall(r"^\$ (.+)$", (FOLDER / f"{name}.md").read_text(), re.MULTILINE)


def parsed(line: str) -> list[str]:
    """The path of names that a command line of ours resolves to; fails on an unknown one, or an unknown option."""
    program, *arguments = shlex.split(line)
    assert program == "metering"
    command, path = get_command(app), []
    context = typer.Context(command, info_name="metering")  # type: ignore[arg-type]  # Typer's own command class
    # A family may do something by itself: `metering sources --gaps`.
    while hasattr(command, "commands") and not (command.invoke_without_command and _is_no_command(arguments)):
        path.append(arguments.pop(0))
        command = command.commands[path[-1]]
        context = typer.Context(command, info_name=path[-1], parent=context)  # type: ignore[arg-type]  # as above
    command.parse_args(context, arguments)
    return path


def _is_no_command(arguments: list[str]) -> bool:
    return not arguments or arguments[0].startswith("-")


def test_every_alarm_has_a_runbook_and_every_runbook_an_alarm() -> None:
    assert runbooks() == sorted(NAMES)


def test_no_two_alarms_have_one_name() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_has_its_five_parts_in_order_and_says_what_the_alarm_means(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(PARTS)
    spec = next(spec for spec in ALARMS if spec.name == name)
    assert spec.meaning in " ".join(text.split())
    assert f"Severity: {spec.severity}." in " ".join(text.split())


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_a_runbook_are_commands(name: str) -> None:
    assert commands(name)
    for line in commands(name):
        assert parsed(line)


@pytest.mark.parametrize("wrong", ["metering dlq drain", "metering dlq list --colour"])
def test_a_command_that_is_none_is_noticed(wrong: str) -> None:
    usage_error = typer.BadParameter.__mro__[1]
    with pytest.raises((KeyError, usage_error), match=r"drain|colour"):
        parsed(wrong)


@pytest.mark.parametrize("name", NAMES)
def test_links_between_runbooks_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", (FOLDER / f"{name}.md").read_text()):
        assert (FOLDER / target).exists()


def test_the_alarms_that_turn_a_deployment_back_page_and_are_as_many_as_cloudformation_takes() -> None:
    assert set(ROLLBACK_ALARMS) <= {spec.name for spec in ALARMS if spec.severity == "page"}
    assert len(ROLLBACK_ALARMS) <= 5


def test_every_alarm_has_a_severity_a_missing_data_rule_and_a_source() -> None:
    figures = {figure.value for figure in Figure}
    for spec in ALARMS:
        assert spec.severity in {"page", "ticket"}
        assert (spec.missing == "breaching") == (spec.metric == Figure.HEARTBEAT)
        assert (spec.origin == "watch" and spec.metric != "Errors") == (spec.metric in figures)
