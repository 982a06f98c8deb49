"""Dead letters: a reader that hangs or dies ends no command, and those of log files return to their own queue."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from typing import Any

import pytest

from metering.cli.commands.operator.dlq import list_, redrive
from metering.cli.dead_letter_reader import DeadLetterReader
from metering.cli.failures import CommandFailedError, WrongUsageError
from metering.operations.dead_letters import DeadLetter, RedriveEffect
from metering.stores.queues import Delivery
from tests.support.command_line import OperatorSession
from tests.support.lake_world import World
from tests.unit.operations.test_dead_letters import Setup, body


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


# A child process that answers as told, and misbehaves if its message says so.
_CHILD = """
import json, os, sys, time
for line in sys.stdin:
    delivery = json.loads(line)
    if "hang" in delivery["message_id"]:
        time.sleep(60)
    if "die" in delivery["message_id"]:
        os._exit(1)
    if "starve" in delivery["message_id"]:
        raise MemoryError
    if "fail" in delivery["message_id"]:
        raise KeyError("our own mistake")
    answer = json.loads(sys.argv[1]) | {"message_id": delivery["message_id"]}
    print(json.dumps(answer), flush=True)
"""


def look(*message_ids: str) -> dict[str, DeadLetter]:
    setup = Setup()
    for message_id in message_ids:
        setup.dead.put_dead(message_id, body(), 1_700_000_000_000, 5, "AIDA1")
    known = setup.letters.glance(letter_of(message_ids[0]))
    answer = json.dumps(asdict(replace(known, effect=RedriveEffect.METER)))
    with DeadLetterReader([sys.executable, "-c", _CHILD, answer], setup.letters, timeout_s=2) as reader:
        found = setup.letters.letters(limit=100, look=reader.look)
    return {letter.message_id: letter for letter in found}


def letter_of(message_id: str) -> Delivery:
    return Delivery(message_id=message_id, body=body(), sent_at_ms=0, receive_count=5, sender_id="s")


def test_a_letter_that_hangs_or_kills_its_reader_is_named_and_the_others_are_read() -> None:
    began_s = time.monotonic()
    found = look("first", "hang", "second", "die", "third")
    assert time.monotonic() - began_s < 10
    assert {name: letter.effect for name, letter in found.items()} == {
        "first": "meter",
        "hang": "unknown",
        "second": "meter",
        "die": "unknown",
        "third": "meter",
    }
    assert "more than 20 s or 1536 MiB" in found["hang"].why
    assert found["hang"].batch_id == "a"


def test_a_reader_that_fails_says_why_and_is_not_called_slow() -> None:
    found = look("fail", "starve")
    assert found["fail"].why == "Reading it here failed: KeyError: 'our own mistake'"
    assert "MiB" in found["starve"].why
    assert {letter.effect for letter in found.values()} == {"unknown"}


def test_a_reader_may_take_so_much_memory_and_no_more() -> None:
    code = (
        "from metering.cli.dead_letter_reader import limit_memory; limit_memory(256 * 2**20); "
        "small = bytearray(64 * 2**20); large = bytearray(512 * 2**20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MemoryError" in done.stderr
