"""Dead letters: looking at them, and putting them back, killed at any call."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.errors import OperationFailedError, OutOfTimeError
from metering.intake.batches import BatchReading, DecodedBatch, NoBatch
from metering.operations.dead_letters import DeadLetters
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageType
from tests.support.memory.clock import UNHURRIED, ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.queues import MemoryQueue
from tests.support.stage import ADMISSION
from tests.support.verdicts import decoded_batch, marker_of, refused_batch

if TYPE_CHECKING:
    from metering.intake.admission import Admission
    from metering.ledger.markers import Marker
    from metering.stores.queues import Delivery

from metering.intake.batches import Allowance
from metering.operations.dead_letters import DeadLetter

NOW_S = 1_800_000_000
HOUR = NOW_S - NOW_S % HOUR_S


class KilledError(BaseException):
    """The process is gone."""


class Reader:
    """Reads `{"batch_id": …, "kind": …}`."""

    def read(self, delivery: Delivery, *, admission: Admission, allowance: Allowance) -> BatchReading:
        del admission, allowance
        message = json.loads(delivery.body)
        if message["kind"] == "slow":
            raise OutOfTimeError
        if message["kind"] == "none":
            return BatchReading(batches=(NoBatch(why="a test event"),))
        if message["kind"] == "refused":
            return BatchReading(batches=(refused_batch(message["batch_id"], sender_id=delivery.sender_id, records=2),))
        return BatchReading(batches=(decoded(message["batch_id"], delivery.sender_id),))


def decoded(batch_id: str, sender_id: str) -> DecodedBatch:
    key = UsageKey(HOUR - 2 * HOUR_S, "123456789012", UsageType("t"), Service("s"), "a", "b")
    usage = {key: Total(9, 3)}
    return decoded_batch(
        batch_id, source_id="edge", sequence=1, sender_id=sender_id, records=3, rows=[1, 2, 3], usage=usage
    )


class Setup:
    def __init__(self, *, moves_by_itself: bool = False) -> None:
        self.clock = ManualClock(NOW_S * 1000)
        self.items = MemoryItemStore()
        self.dead = MemoryQueue(self.clock, name="dead")
        self.ingest = MemoryQueue(self.clock, name="ingest", dead=self.dead, max_receives=5)
        if moves_by_itself:
            self.dead = MemoryQueue(self.clock, name="dead", moves_by_itself=True, source=self.ingest)
        self.letters = DeadLetters(
            dead=self.dead,
            ingest=self.ingest,
            reader=Reader(),
            items=self.items,
            clock=self.clock,
            admission=ADMISSION,
            bucket="data",
            retention_s=14 * DAY_S,
        )

    def deep(self) -> list[DeadLetter]:
        return self.letters.letters(limit=100, look=lambda delivery: self.letters.examine(delivery, UNHURRIED))

    def die(self, *names: str, kind: str = "good", age_s: int = 3600) -> None:
        for name in names:
            body = json.dumps({"batch_id": name, "kind": kind})
            self.dead.put_dead(f"m-{name}", body, (NOW_S - age_s) * 1000, 5, "AIDA1")


def accepted(batch_id: str) -> Marker:
    return marker_of(batch_id, records=3, metered=3)


def test_a_letter_says_until_when_a_redrive_still_meters_it() -> None:
    setup = Setup()
    setup.die("a")
    [letter] = setup.deep()
    assert letter.batch_id == "a"
    assert letter.effect == "meter"
    assert letter.admitted_until_s == HOUR - 2 * HOUR_S + 35 * DAY_S
    assert letter.kept_until_s == NOW_S - 3600 + 14 * DAY_S


def test_a_letter_whose_batch_is_metered_is_called_a_duplicate() -> None:
    setup = Setup()
    setup.die("a")
    setup.items.put(Put(table=Table.LEDGER, item=accepted("a").to_item()))
    [letter] = setup.deep()
    assert letter.effect == "duplicate"


def test_a_letter_with_other_content_than_what_is_metered_under_its_id_is_called_a_conflict() -> None:
    setup = Setup()
    setup.die("a")
    setup.items.put(Put(table=Table.LEDGER, item=replace(accepted("a"), content_hash="dd").to_item()))
    [letter] = setup.deep()
    assert letter.effect == "conflict"
    assert "quarantine" in letter.why


def test_a_letter_that_would_be_refused_says_for_what() -> None:
    setup = Setup()
    setup.die("a", kind="refused")
    setup.die("b", kind="none")
    first, second = setup.deep()
    assert first.effect == second.effect == "refuse"
    assert "too_late" in first.why
    assert "no batch" in second.why


def test_a_letter_that_takes_too_long_to_read_is_not_guessed_at() -> None:
    setup = Setup()
    setup.die("a", kind="slow")
    [letter] = setup.deep()
    assert letter.effect == "unknown"
    assert "too long" in letter.why


def body(**changes: object) -> str:
    location = {"bucket": "data", "key": "ingest/x", "format": "ndjson", "compression": "none"}
    good = {"schema": "metering.batch/1", "batch_id": "a", "record_count": 7, "location": location}
    return json.dumps(good | changes)


def glanced(text: str, marker: Marker | None = None) -> DeadLetter:
    """What is said of a letter whose records nobody may read."""
    setup = Setup()
    setup.dead.put_dead("m", text, (NOW_S - 60) * 1000, 5, "AIDA1")
    if marker is not None:
        setup.items.put(Put(table=Table.LEDGER, item=marker.to_item()))
    unreading = replace(setup.letters, reader=None)  # type: ignore[arg-type]  # reading it would fail
    [letter] = unreading.letters(limit=100)
    return letter


def test_a_glance_reads_no_record_and_says_what_it_does_not_know() -> None:
    letter = glanced(body())
    assert (letter.batch_id, letter.records, letter.effect) == ("a", 7, "unknown")
    assert "--deep" in letter.why
    assert letter.admitted_until_s is None
    assert letter.kept_until_s == NOW_S - 60 + 14 * DAY_S


def test_a_glance_knows_the_marker_but_not_the_content() -> None:
    assert glanced(body(), accepted("a")).effect == "meter nothing"
    rejected = replace(accepted("a"), verdict="rejected", reason="too_slow", quarantine_key="q")
    letter = glanced(body(), rejected)
    assert letter.effect == "unknown"
    assert "too_slow" in letter.why


def test_a_glance_sees_what_is_wrong_with_the_message_itself() -> None:
    assert (
        "location_not_allowed"
        in glanced(body(location={"bucket": "other", "key": "ingest/x", "format": "ndjson", "compression": "none"})).why
    )
    assert glanced("no JSON").effect == "refuse"
    assert glanced(json.dumps({"Event": "s3:TestEvent"})).why.startswith("It is no batch")


LARGE = {"schema": "metering.batch/1", "batch_id": "a", "record_count": 7, "records": [{"x": "y" * 100}] * 8_000}


@pytest.mark.parametrize(
    "message", [LARGE, {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": LARGE}]
)
def test_a_glance_at_a_large_message_leaves_out_its_records(message: dict[str, object]) -> None:
    letter = glanced(json.dumps(message))
    assert (letter.batch_id, letter.records, letter.effect) == ("a", 7, "unknown")


@pytest.mark.parametrize("filler", ["NaN," * 250_000 + "1", "[" * 250_000, '"' + "x" * 1_000_000 + '"'])
@pytest.mark.parametrize("field", ["records", "source_id", "x"])
def test_a_glance_is_quick_whatever_a_message_holds(filler: str, field: str) -> None:
    setup = Setup()
    for number in range(20):
        text = body(batch_id=f"b{number}", location=None)[:-1] + f', "{field}": [{filler}]}}'
        setup.dead.put_dead(f"m{number}", text, NOW_S * 1000, 5, "AIDA1")
    began_s = time.process_time()
    assert len(setup.letters.letters(limit=100)) == 20
    assert time.process_time() - began_s < 2


def test_looking_at_letters_leaves_them_in_the_queue_and_visible() -> None:
    setup = Setup()
    setup.die(*(f"b{n}" for n in range(25)))
    assert len(setup.letters.letters(limit=100)) == 25
    assert setup.dead.depth().visible == 25
    assert len(setup.letters.letters(limit=7)) == 7


def test_a_redrive_moves_everything_once() -> None:
    setup = Setup()
    setup.die(*(f"b{n}" for n in range(25)))
    done = setup.letters.redrive()
    assert (done.moved, done.kept, done.waiting) == (25, 0, 25)
    assert len(setup.ingest.bodies()) == 25
    assert setup.dead.bodies() == []


def test_a_dry_run_moves_nothing() -> None:
    setup = Setup()
    setup.die("a", "b")
    assert setup.letters.redrive(dry_run=True).waiting == 2
    assert len(setup.dead.bodies()) == 2


def test_a_redrive_stops_at_its_maximum_and_keeps_its_rate() -> None:
    setup = Setup()
    setup.die(*(f"b{n}" for n in range(25)))
    began_ms = setup.clock.now_ms()
    assert setup.letters.redrive(maximum=15, per_s=5).moved == 15
    assert setup.clock.now_ms() - began_ms >= 3000
    assert len(setup.dead.bodies()) == 10


def test_the_queue_service_moves_them_itself_where_it_can() -> None:
    setup = Setup(moves_by_itself=True)
    setup.die("a", "b")
    done = setup.letters.redrive()
    assert done.task == "task-1"
    assert len(setup.ingest.bodies()) == 2


def test_with_a_maximum_they_are_moved_by_hand() -> None:
    setup = Setup(moves_by_itself=True)
    setup.die("a", "b")
    assert setup.letters.redrive(maximum=1).moved == 1
    assert len(setup.ingest.bodies()) == 1


def test_what_the_ingest_queue_does_not_take_stays_in_the_dead_letter_queue() -> None:
    setup = Setup()
    setup.die("a", "b")
    setup.ingest.refused_bodies.add(json.dumps({"batch_id": "a", "kind": "good"}))
    done = setup.letters.redrive(maximum=2)
    assert (done.moved, done.kept) == (1, 1)
    assert len(setup.dead.bodies()) == 1


def test_a_message_that_died_again_meanwhile_is_not_moved_in_a_circle() -> None:
    setup = Setup()
    setup.die("a")
    setup.die("again", age_s=-1)
    assert setup.letters.redrive().moved == 1
    assert len(setup.dead.bodies()) == 1


@pytest.mark.parametrize("at", range(8))
def test_a_redrive_killed_at_any_call_loses_nothing(at: int) -> None:
    setup = Setup()
    names = [f"b{n}" for n in range(15)]
    setup.die(*names)
    left = at

    def kill(call: str) -> None:
        nonlocal left
        if left == 0:
            raise KilledError(call)
        left -= 1

    setup.dead.on_call = setup.ingest.on_call = kill
    with pytest.raises(KilledError):
        setup.letters.redrive()
    setup.dead.on_call = setup.ingest.on_call = lambda call: None
    setup.clock.advance_s(120)
    setup.letters.redrive()
    assert {json.loads(body)["batch_id"] for body in setup.ingest.bodies()} == set(names)
    assert setup.dead.bodies() == []


@pytest.mark.parametrize(("maximum", "per_s"), [(0, None), (None, 0)])
def test_a_redrive_of_nothing_is_refused(maximum: int | None, per_s: int | None) -> None:
    with pytest.raises(OperationFailedError):
        Setup().letters.redrive(maximum=maximum, per_s=per_s)
