"""`metering trace`: one command shows the origin of a number, and fails if the sums differ."""

from __future__ import annotations

import json

import pytest

from metering.cli.commands.analyst.report import trace
from metering.cli.failures import CommandFailedError
from metering.hours import rfc3339
from metering.reports.time_range import InvalidParametersError
from tests.support.command_line import HereSession
from tests.support.lake_world import ACCOUNT, HOUR
from tests.support.usage_items import change, usage_of
from tests.unit.reports.test_trace import OUT, world_with_traffic


def test_one_line_comes_down_to_its_batches(capsys: pytest.CaptureFixture[str]) -> None:
    trace(HereSession(world_with_traffic()), ACCOUNT, usage_type=OUT, hour=rfc3339(HOUR))
    found = json.loads(capsys.readouterr().out)
    assert found["equal"] is True
    assert found["sums"] == {"usage": "18", "rows": "18", "markers": "18"}
    assert [each["batch_id"] for each in found["batches"]] == ["batch-0", "batch-2"]


def test_sums_that_differ_are_shown_and_fail_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    world = world_with_traffic()
    change(world.items, next(each for each in usage_of(world.items) if each.key.account_id == ACCOUNT), 1)
    with pytest.raises(CommandFailedError, match="not what the rows say"):
        trace(HereSession(world), ACCOUNT, start="2026-11")
    assert json.loads(capsys.readouterr().out)["sums"] == {"usage": "47", "rows": "46", "markers": "46"}


def test_an_empty_line_says_so_and_where_to_look(capsys: pytest.CaptureFixture[str]) -> None:
    trace(HereSession(world_with_traffic()), ACCOUNT, usage_type="NoSuch", start="2026-11-24")
    out, err = capsys.readouterr()
    assert json.loads(out)["batches"] == []
    assert f"metering report usage --account {ACCOUNT}" in err.replace("\n", "")


def test_a_range_with_very_many_hours_is_said_to_take_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("metering.cli.commands.analyst.report._QUICK_HOURS", 1)
    trace(HereSession(world_with_traffic()), ACCOUNT, start="2026-11")
    assert "The rows of 2 hours are read" in capsys.readouterr().err
    trace(HereSession(world_with_traffic()), ACCOUNT, hour=rfc3339(HOUR))
    assert "are read" not in capsys.readouterr().err


def test_what_makes_no_sense_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InvalidParametersError, match="hour"):
        trace(HereSession(world_with_traffic()), ACCOUNT, hour="2026-11-24T13:00:01Z")
