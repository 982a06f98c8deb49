"""`metering status` and `errors`: the lines of each region, and its functions' logged errors."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from metering.audit.freshness import Complete, HeldBack
from metering.cli.command import Session
from metering.cli.commands.operator.status import errors, status_answer
from metering.cli.failures import WrongUsageError
from metering.cli.printing.output import Format, encoded
from metering.operations.logged_errors import LoggedLine
from metering.operations.status import RegionStatus, Standing, StatusLine

if TYPE_CHECKING:
    from collections.abc import Sequence


DEAD = HeldBack(what="1 dead letter", since_s=0, cure="metering dlq redrive --region eu-west-1 --stage prod")


def status(region: str, *lines: StatusLine, held: tuple[HeldBack, ...] = ()) -> RegionStatus:
    return RegionStatus(
        region=region,
        version="0.2.0",
        complete=Complete(through_s=60, held_back_by=held),
        periods={"2026-11": "open"},
        firing=(),
        figures={"OpenCommits": 0},
        lines=lines,
    )


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


@dataclass
class Logs:
    """`FunctionLogs` of two functions, with a test's lines."""

    lines: Sequence[LoggedLine] = ()
    asked: list[tuple[Sequence[str], int]] = field(default_factory=list)

    @property
    def functions(self) -> Sequence[str]:
        return ["canary", "watch"]

    def errors(self, functions: Sequence[str], *, from_s: int, to_s: int, limit: int) -> Sequence[LoggedLine]:
        self.asked.append((functions, to_s - from_s))
        return self.lines[:limit]


@dataclass(frozen=True)
class Region:
    """The part of a connection that the command uses."""

    function_logs: Logs
    region: str = "us-east-1"


class HereSession(Session):
    def __init__(self, logs: Logs, form: Format = Format.JSON) -> None:
        super().__init__(endpoint=None, region=None, stage="dev", form=form)
        self._here = Region(logs)

    def region(self) -> Region:  # type: ignore[override]  # as much of it as is used
        return self._here


AT_MS = int(time.time() * 1000)
"""One moment for all lines: of lines of one kind the newest is shown, and a clock may go on between two of them."""


def failed(text: str) -> LoggedLine:
    return LoggedLine(function="watch", at_ms=AT_MS, text=f"[ERROR] {text}")


def test_it_reads_all_functions_of_the_last_hour(capsys: pytest.CaptureFixture[str]) -> None:
    logs = Logs([failed("A: 1"), failed("A: 2"), failed("B")])
    errors(HereSession(logs), limit=10)
    found = json.loads(capsys.readouterr().out)
    assert {(row["error"], row["count"]) for row in found["rows"]} == {("A: 1", 2), ("B", 1)}
    assert found["truncated"] is False
    [(functions, span_s)] = logs.asked
    assert functions == ["canary", "watch"]
    assert 3_600 <= span_s <= 3_602


def test_it_says_in_words_that_there_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    logs = Logs()
    errors(HereSession(logs), "canary", since="2d", limit=10)
    assert capsys.readouterr().err == "canary logged no errors in the last 2d.\n"
    assert logs.asked[0][0] == ["canary"]


def test_a_table_without_errors_says_it_once(capsys: pytest.CaptureFixture[str]) -> None:
    errors(HereSession(Logs(), Format.TABLE), limit=10)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("No errors were logged in the last 1h.\n", "")


def test_it_says_if_there_may_be_more_than_it_read(capsys: pytest.CaptureFixture[str]) -> None:
    errors(HereSession(Logs([failed("A"), failed("B")])), limit=1)
    shown = capsys.readouterr()
    assert json.loads(shown.out)["truncated"] is True
    assert "only the newest 1 lines were read" in shown.err


def test_a_function_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(WrongUsageError) as error:
        errors(HereSession(Logs()), "wach", limit=10)
    assert "canary, watch" in error.value.advice
