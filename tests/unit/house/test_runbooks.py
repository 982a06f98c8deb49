"""Every alarm has a runbook, every runbook an alarm of its name, and its commands are commands."""

from __future__ import annotations

import re

import pytest

from metering.operations.alarms import ALARMS, ROLLBACK_ALARMS, Figure
from tests.unit.house.command_lines import ROOT, parsed, whole_lines

FOLDER = ROOT / "docs" / "runbooks"
PARTS = ("What it means", "What it costs", "How to see", "How to mitigate", "How to check")
NAMES = [spec.name for spec in ALARMS]
PAGES = sorted({spec.runbook for spec in ALARMS})


def runbooks() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "README")


def commands(name: str) -> list[str]:
    return whole_lines((FOLDER / f"{name}.md").read_text())


def test_every_alarm_has_a_runbook_and_every_runbook_an_alarm() -> None:
    assert runbooks() == PAGES
    assert set(PAGES) <= set(NAMES)


def test_no_two_alarms_have_one_name() -> None:
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", PAGES)
def test_a_runbook_has_its_five_parts_in_order_and_says_what_its_alarms_mean(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(PARTS)
    for spec in ALARMS:
        if spec.runbook == name:
            assert spec.meaning in " ".join(text.split())
            assert f"Severity: {spec.severity}." in " ".join(text.split())
            assert spec.name == name or f"`{spec.name}`" in text


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_runbook_are_commands(name: str) -> None:
    assert commands(name)
    for line in commands(name):
        assert parsed(line)


@pytest.mark.parametrize("name", PAGES)
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
        assert (spec.source == "watch" and spec.metric != "Errors") == (spec.metric in figures)
