"""`metering status`, `errors` and `runbook`: the state of each region, its functions' logs, and runbooks."""

from __future__ import annotations

import io
import json
import shutil
import time
import tomllib
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from typer.testing import CliRunner

from metering.adapters import checkout
from metering.adapters.checkout import runbooks_dir
from metering.audit.freshness import Complete, HeldBack
from metering.cli.app import app
from metering.cli.command import Session
from metering.cli.commands.operator import doctor
from metering.cli.commands.operator.status import errors, status_answer
from metering.cli.failures import WrongUsageError
from metering.cli.printing.output import Format, encoded
from metering.cli.printing.table import print_page
from metering.fleet.settings.bases import STAGE_NAME
from metering.fleet.stage import StageConfig
from metering.operations.alarms import ALARMS, alarm_name
from metering.operations.logged_errors import LoggedLine
from metering.operations.runbooks import commands_by_part, page_of, placed, runbook_in
from metering.operations.status import RegionStatus, Standing, StatusLine
from tests import ROOT
from tests.support import command_line
from tests.support.with_each import with_each
from tests.unit.house.command_lines import parsed
from tests.unit.operations.doctor.bench import World as DoctorWorld

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DEAD = HeldBack(what="1 dead letter", since_s=0, cure="metering dlq redrive --region eu-west-1 --stage prod")


def status(region: str, *lines: StatusLine, held: tuple[HeldBack, ...] = ()) -> RegionStatus:
    return RegionStatus(
        region=region, version="0.2.0", complete=Complete(through_s=60, held_back_by=held), periods={"2026-11": "open"},
        firing=(), figures={"OpenCommits": 0}, lines=lines,
    )  # fmt: skip


WELL = StatusLine(what="queue", state=Standing.OK, value="empty")
BAD = StatusLine(what="dead letters", state=Standing.ACT, value="1", cure="metering dlq list")


def test_one_region_is_a_page_without_a_column_of_its_name() -> None:
    answer = status_answer([status("us-east-1", WELL)], stage="prod", as_of_s=120)
    assert [column.name for column in answer.columns] == ["what", "state", "value", "cure"]
    document = json.loads(encoded(answer, Format.JSON))
    assert set(document) == {"stage", "as_of", "well", "regions", "rows"}
    assert document["well"] is True


def test_the_runbooks_that_cures_name_are_commands_to_copy_each_once_for_its_region() -> None:
    late = StatusLine(what="alarms", state=Standing.ACT, value="2", cure="runbook oldest-batch, runbook dead-letters")
    watch = StatusLine(what="queue", state=Standing.ACT, value="9", cure="runbook oldest-batch")
    answer = status_answer([status("eu-west-1", late, watch, BAD), status("us-east-1", watch)], stage="prod", as_of_s=9)
    assert answer.commands == (
        "metering runbook oldest-batch --region eu-west-1 --stage prod",
        "metering runbook dead-letters --region eu-west-1 --stage prod",
        "metering runbook oldest-batch --region us-east-1 --stage prod",
    )
    assert status_answer([status("us-east-1", WELL)], stage="prod", as_of_s=9).footer == ()


def test_several_regions_stand_side_by_side_and_one_that_is_bad_makes_it_all_bad() -> None:
    found = [status("eu-west-1", BAD, held=(DEAD,)), status("us-east-1", WELL)]
    answer = status_answer(found, stage="prod", as_of_s=120)
    assert [(row["region"], row["state"]) for row in answer.rows] == [("eu-west-1", "act"), ("us-east-1", "ok")]
    document = json.loads(encoded(answer, Format.JSON))
    assert document["well"] is False
    assert document["regions"]["eu-west-1"]["held_back_by"] == [
        {"what": DEAD.what, "since": "1970-01-01T00:00:00Z", "cure": DEAD.cure}
    ]
    assert document["regions"]["us-east-1"]["complete_through"] == "1970-01-01T00:01:00Z"


class LogSession(Session):
    """A session on a region whose two functions logged `lines`."""

    def __init__(self, *lines: LoggedLine, form: Format = Format.JSON) -> None:
        super().__init__(endpoint=None, region=None, stage="dev", form=form)
        self._lines = lines
        self.asked: list[tuple[Sequence[str], int]] = []

    def region(self) -> SimpleNamespace:  # type: ignore[override]  # as much of it as is used
        logs = SimpleNamespace(functions=["canary", "watch"], errors=self._errors)
        return SimpleNamespace(region="us-east-1", function_logs=logs)

    def _errors(self, functions: Sequence[str], *, from_s: int, to_s: int, limit: int) -> Sequence[LoggedLine]:
        self.asked.append((functions, to_s - from_s))
        return self._lines[:limit]


AT_MS = int(time.time() * 1000)
"""One moment for all lines: of lines of one kind the newest is shown, and a clock may go on between two of them."""


def failed(text: str) -> LoggedLine:
    return LoggedLine(function="watch", at_ms=AT_MS, text=f"[ERROR] {text}")


def test_it_reads_all_functions_of_the_last_hour(capsys: pytest.CaptureFixture[str]) -> None:
    session = LogSession(failed("A: 1"), failed("A: 2"), failed("B"))
    errors(session, limit=10)
    found = json.loads(capsys.readouterr().out)
    assert {(row["error"], row["count"]) for row in found["rows"]} == {("A: 1", 2), ("B", 1)}
    assert found["truncated"] is False
    [(functions, span_s)] = session.asked
    assert functions == ["canary", "watch"]
    assert 3_600 <= span_s <= 3_602


def test_it_says_in_words_that_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    session = LogSession()
    errors(session, "canary", since="2d", limit=10)
    assert capsys.readouterr().err == "canary logged no errors in the last 2d.\n"
    assert session.asked[0][0] == ["canary"]


def test_a_table_without_errors_says_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    errors(LogSession(form=Format.TABLE), limit=10)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("No errors were logged in the last 1h.\n", "")


def test_it_says_if_there_may_be_more_than_it_read(capsys: pytest.CaptureFixture[str]) -> None:
    errors(LogSession(failed("A"), failed("B")), limit=1)
    shown = capsys.readouterr()
    assert json.loads(shown.out)["truncated"] is True
    assert "only the newest 1 lines were read" in shown.err


def test_a_function_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(WrongUsageError) as error:
        errors(LogSession(), "wach", limit=10)
    assert "canary, watch" in error.value.advice


# `metering runbook` works offline. It finds a page by any name of its alarm, and fills in its place, ready to paste.

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


@pytest.mark.parametrize("arguments", [
    ("dead-letters", "--stage", "prod;id"),
    ("dead-letters", "--stage", r"a\1"),
    ("dead-letters", "--stage", "prod\n"),
    ("dead-letters", "--region", "$(id)"),
    ("metering-$(id)-dead-letters",),
    ("metering-`id`-dead-letters", "--format", "json"),
    ("arn:aws:cloudwatch:a;id:1:alarm:metering-prod-dead-letters",),
])  # fmt: skip
def test_nothing_that_a_shell_would_run_gets_into_a_command(arguments: tuple[str, ...]) -> None:
    """Anyone can fake an alert mail, and people paste the commands of such a mail."""
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
    page = (runbooks_dir() / f"{page_of(name)}.md").read_text()
    text = placed(runbook_in(page, name), region="ap-southeast-1", stage="a-long-stage")
    shown = io.StringIO()
    print_page(text, Console(file=shown, width=width, color_system=None, force_terminal=True))
    lines = shown.getvalue().splitlines()
    commands = [line for _, line in commands_by_part(text)]
    assert [line.strip() for line in lines if line.startswith("    metering ")] == commands
    assert all(len(line) <= width for line in lines if not line.startswith("    metering "))
    assert not any(line.endswith(" ") for line in lines if line.startswith("    metering "))


def test_a_wheel_takes_the_pages_to_where_the_command_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    installed = tmp_path / included["docs/runbooks"]
    shutil.copytree(ROOT / "docs" / "runbooks", installed)
    monkeypatch.setattr(checkout, "_PACKAGE", tmp_path / "metering")
    assert runbooks_dir() == installed
    assert run("conflicts")[0] == 0


@pytest.mark.parametrize("emulated", [True, False])
def test_the_doctor_says_which_of_its_answers_an_emulator_cannot_give(
    emulated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = DoctorWorld(emulated=emulated, versioned=False).bench()
    monkeypatch.setattr("metering.wiring.fleet.doctor_bench", lambda _region, *, thorough: bench)
    with command_line.TwoRegions().typed():
        done = command_line.run("doctor", "--only", "versions-kept", "--format", "json", "--yes")
    [row] = json.loads(done.stdout)["rows"]
    assert row["saw"].startswith("not on an emulator: ") == emulated
    assert ("As expected: an emulator cannot answer 1 check about AWS itself." in done.stderr) == emulated
