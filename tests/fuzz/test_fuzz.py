"""Every input parser with damaged input: always a verdict, never an exception, in bounded time and memory.

`make fuzz` runs longer, for any number of ROUNDS; findings are saved in `corpus/`.
"""

import json
import os
import random
import resource
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.intake.batches import DecodedBatch, NoBatch, RefusedBatch
from metering.intake.work import ReadLimits, Reason
from metering.units import MIB
from tests.fuzz.seeds import bodies, mutated, objects
from tests.support.examples import examples
from tests.support.reading import Answer, Desk, pointer

_ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "600"))
_SECONDS_A_MESSAGE = 5.0
_GROWTH_KIB = 400 * 1024
_LIMITS = ReadLimits(object_bytes=8 * MIB)
_KNOWN = frozenset(map(str, Reason))


def check(answers: tuple[Answer, ...], body: str) -> None:
    """Check the invariants of an answer to any input."""
    assert answers
    for answer in answers:
        if isinstance(answer, NoBatch):
            continue
        assert len(answer.content_hash) == 64
        assert answer.hash_version in (0, 1)
        if isinstance(answer, RefusedBatch):
            assert answer.problems
            assert len(answer.evidence) <= MIB
            problems = list(answer.problems)
        else:
            problems = check_decoded(answer)
        for reason, detail in problems:
            assert reason in _KNOWN
            assert len(detail) <= 300
            assert detail.isascii()
            assert detail.isprintable()


def check_decoded(answer: DecodedBatch) -> list[tuple[str, str]]:
    assert answer.batch_id
    assert answer.records == len(answer.rows) + len(answer.refused)
    assert sum(total.records for total in answer.usage.values()) == len(answer.rows) > 0
    for refused in answer.refused:
        assert refused.reasons
        assert refused.raw.isascii()
        assert len(refused.raw) <= 4_096
    return [problem for refused in answer.refused for problem in refused.reasons]


def ask(desk: Desk, body: str) -> None:
    began = time.process_time()
    first = desk.read_all(body)
    assert time.process_time() - began < _SECONDS_A_MESSAGE
    check(first, body)


def peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("seed", range(4))
def test_damaged_messages_get_a_verdict(seed: int) -> None:
    draw = random.Random(seed)
    desk = Desk(_LIMITS)
    examples = bodies()
    before = peak_kib()
    for _ in range(_ROUNDS // 2):
        ask(desk, mutated(draw.choice(examples), draw).decode("utf-8", draw.choice(["replace", "surrogateescape"])))
    assert peak_kib() - before < _GROWTH_KIB


@pytest.mark.parametrize("object_format", ["ndjson", "parquet"])
@pytest.mark.parametrize("seed", range(3))
def test_damaged_objects_get_a_verdict(object_format: str, seed: int) -> None:
    draw = random.Random(seed)
    desk = Desk(_LIMITS)
    examples = objects(object_format)
    before = peak_kib()
    for _ in range(_ROUNDS // 2):
        desk.put("ingest/x", mutated(draw.choice(examples), draw))
        ask(desk, json_body(object_format, draw))
    assert peak_kib() - before < _GROWTH_KIB


def json_body(object_format: str, draw: random.Random) -> str:

    compression = draw.choice(["none", "none", "none", "gzip", "zstd"])
    return json.dumps(pointer("ingest/x", object_format, compression, count=draw.choice([20, 20, 22, 1])))


@examples(200)
@given(st.text(max_size=200) | st.text(alphabet='{}[]":,\\u0123456789eE+-.ntrfals ', max_size=200))
def test_any_text_gets_a_verdict(text: str) -> None:
    check(Desk(_LIMITS).read_all(text), text)


@pytest.mark.parametrize("body", bodies())
def test_each_example_and_each_kept_message_gets_a_verdict(body: bytes) -> None:
    ask(Desk(_LIMITS), body.decode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("object_format", ["ndjson", "parquet"])
def test_each_example_and_each_kept_object_gets_a_verdict(object_format: str) -> None:
    draw = random.Random(0)
    for body in objects(object_format):
        desk = Desk(_LIMITS).put("ingest/x", body)
        ask(desk, json_body(object_format, draw))
