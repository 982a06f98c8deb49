"""Every alarm has a runbook, every runbook an alarm of its name, and its commands are valid."""

from __future__ import annotations

import re

from metering.operations.alarms import ALARMS, LOG_FIGURES, LOG_ORIGINS, ROLLBACK_ALARMS, Figure
from metering.operations.runbooks import SHARED_PAGES, commands_by_part, link_of, page_of, runbook_in
from tests import ROOT
from tests.e2e.oncall import UNDRILLED
from tests.support.with_each import with_each
from tests.unit.house.command_lines import parsed, whole_lines

FOLDER = ROOT / "docs" / "runbooks"
DRILLS = [
    ROOT / "tests" / "e2e" / name for name in ("test_runbooks.py", "test_log_runbooks.py", "test_money_runbooks.py")
]
PARTS = (
    "What it means",
    "What it costs",
    "How long there is",
    "How to see",
    "How to mitigate",
    "How to check",
    "When to hand over",
)
NAMES = [spec.name for spec in ALARMS]
RUNBOOKS = sorted({spec.runbook for spec in ALARMS})


def text_of(name: str) -> str:
    return runbook_in((FOLDER / f"{page_of(name)}.md").read_text(), name)


def commands(name: str) -> list[str]:
    return whole_lines(text_of(name))


def test_every_alarm_has_a_runbook_and_every_page_a_runbook() -> None:
    pages = {path.stem for path in FOLDER.glob("*.md") if path.stem != "README"}
    assert pages == {page_of(name) for name in RUNBOOKS}
    assert set(RUNBOOKS) <= set(NAMES)


@with_each(sorted(SHARED_PAGES))
def test_sections_and_items_of_a_shared_page_belong_to_its_runbooks(page: str) -> None:
    text = (FOLDER / f"{page}.md").read_text()
    headed = {name for names in re.findall(r"^### (.+)$", text, re.MULTILINE) for name in names.split(", ")}
    assert headed <= {*SHARED_PAGES[page], "all"}
    for name in SHARED_PAGES[page]:
        assert not re.search(rf"^(?:### |- `(?:{'|'.join(SHARED_PAGES[page])})`)", text_of(name), re.MULTILINE)


def test_no_two_alarms_have_one_name() -> None:
    assert len(set(NAMES)) == len(NAMES)


@with_each(RUNBOOKS)
def test_a_runbook_has_its_seven_parts_in_order_and_says_what_its_alarms_mean(name: str) -> None:
    text = text_of(name)
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(PARTS)
    for spec in ALARMS:
        if spec.runbook == name:
            assert spec.meaning in " ".join(text.split())
            assert f"Severity: {spec.severity}." in " ".join(text.split())
            assert spec.name == name or f"`{spec.name}`" in text


@with_each(RUNBOOKS)
def test_the_commands_of_a_runbook_are_commands(name: str) -> None:
    assert commands(name)
    for line in commands(name):
        assert parsed(line)


@with_each(RUNBOOKS)
def test_every_command_of_a_runbook_waits_for_its_region_and_stage(name: str) -> None:
    """Pasted from the page itself, it never acts on an unnamed stage."""
    for line in commands(name):
        assert "REGION" in line.split(), line
        assert line.split()[line.split().index("--stage") + 1] == "STAGE", line


@with_each(RUNBOOKS)
def test_no_command_of_a_runbook_switches_a_check_off(name: str) -> None:
    for line in commands(name):
        assert not re.search(r"--(no-|force|skip|yes)", line), line


@with_each(RUNBOOKS)
def test_what_to_expect_stands_below_each_block_of_commands(name: str) -> None:
    text = text_of(name)
    assert len(re.findall(r"^```$", text, re.MULTILINE)) == len(re.findall(r"^```\n\nExpected: ", text, re.MULTILINE))


@with_each(RUNBOOKS)
def test_a_runbook_ends_with_a_step_that_cures_and_its_check(name: str) -> None:
    """A dry run cures nothing, so another command follows it."""
    by_part: dict[str, list[str]] = {}
    for part, line in commands_by_part(text_of(name)):
        by_part.setdefault(part, []).append(line)
    assert "--dry-run" not in by_part["How to mitigate"][-1]
    assert by_part["How to check"]


@with_each(RUNBOOKS)
def test_a_runbook_is_followed_by_a_drill_or_a_sentence_says_why_not(name: str) -> None:
    text = "\n".join(drills.read_text() for drills in DRILLS)
    drilled = set(re.findall(r'^@follows\("([a-z-]+)"\)$', text, re.MULTILINE))
    assert (name in drilled) != (name in UNDRILLED)
    if name in UNDRILLED:
        assert re.fullmatch(r"[A-Z].{40,}\.", UNDRILLED[name])


@with_each(RUNBOOKS)
def test_links_between_runbooks_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", text_of(name)):
        file, _, anchor = target.partition("#")
        page = FOLDER / (file or f"{page_of(name)}.md")
        assert page.exists()
        if anchor in RUNBOOKS:
            assert link_of(anchor) == f"{page.name}#{anchor}"
            assert f"### {anchor}\n" in page.read_text()


def test_the_alarms_that_turn_a_deployment_back_page_and_are_as_many_as_cloudformation_takes() -> None:
    assert set(ROLLBACK_ALARMS) <= {spec.name for spec in ALARMS if spec.severity == "page"}
    assert len(ROLLBACK_ALARMS) <= 5


def test_every_alarm_has_a_severity_a_missing_data_rule_and_a_source() -> None:
    figures = {figure.value for figure in Figure}
    for spec in ALARMS:
        assert spec.severity in {"page", "ticket"}
        assert (spec.missing == "breaching") == (spec.metric == Figure.HEARTBEAT)
        assert (spec.origin in {"watch", "log_context"} and spec.metric != "Errors") == (spec.metric in figures)
        assert (spec.metric in LOG_FIGURES) <= (spec.origin in LOG_ORIGINS)
