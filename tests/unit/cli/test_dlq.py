"""`metering dlq --log-files`: events of log files are listed, and go back into their own queue; no batch moves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.cli.commands.operator.dlq import list_, redrive
from metering.cli.failures import CommandFailedError, WrongUsageError
from tests.support.here import OperatorSession
from tests.support.lake_world import World


def test_events_of_log_files_go_back_into_their_own_queue(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(World(), log_sources=True)
    onramp = session.here.onramp
    assert onramp is not None
    onramp.dead.send_many(["an event", "another one"])
    session.here.dead_letters.send_many(["a batch"])
    session.here.clock.advance_s(60)

    redrive(session, by_hand=True, log_files=True)

    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (answer["waiting"], answer["moved"], answer["kept"]) == (2, 2, 0)
    assert onramp.events.depth().visible == 2
    assert onramp.dead.depth().total == 0
    assert session.here.dead_letters.depth().visible == 1
    assert session.here.ingest.depth().total == 0


def test_a_region_without_log_sources_says_so() -> None:
    with pytest.raises(CommandFailedError, match="eu-west-1 has no log sources"):
        redrive(OperatorSession(World()), log_files=True)


def test_dead_letters_of_log_files_are_listed_apart_from_those_of_batches(capsys: pytest.CaptureFixture[str]) -> None:
    session = OperatorSession(World(), log_sources=True)
    onramp = session.here.onramp
    assert onramp is not None
    detail = {"bucket": {"name": "acme-logs"}, "object": {"key": "AWSLogs/a.gz", "etag": "e"}}
    event = json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail})
    onramp.dead.send_many([event])
    session.here.dead_letters.send_many(["a batch"])

    list_(session, log_files=True)

    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert row["file"] == "s3://acme-logs/AWSLogs/a.gz"
    assert row["why"] == "It lies in no log source of this region any more, so a redrive would refuse it."
    assert onramp.dead.depth().visible == 1


def test_a_region_without_log_sources_has_no_dead_log_files(capsys: pytest.CaptureFixture[str]) -> None:
    list_(OperatorSession(World()), log_files=True)
    assert json.loads(capsys.readouterr().out)["rows"] == []


def test_a_deep_look_at_log_files_is_no_command() -> None:
    with pytest.raises(WrongUsageError, match="--deep reads batches"):
        list_(OperatorSession(World(), log_sources=True), deep=True, log_files=True)
