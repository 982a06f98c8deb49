"""Dead letters are read in a process of its own: one that hangs or dies does not end the command, or the others."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace

from metering.cli.dead_letter_reader import DeadLetterReader
from metering.operations.dead_letters import DeadLetter, RedriveEffect
from metering.stores.queues import Delivery
from tests.unit.operations.test_dead_letters import Setup, body

# Answers a letter with what it was told to, and does badly what its message asks for.
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
