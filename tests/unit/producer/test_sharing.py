"""Records of many keys share batches; each key still counts once, whenever the process ends and goes on."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.audit.sequences import SeenSequences
from metering.errors import OperationFailedError, UnavailableError
from metering.intake.work import FULL_RECORDS
from metering.producer.batches import (
    SHARED_BYTES,
    JournalError,
    KeyReusedError,
    NotSentError,
    RecordsRefusedError,
)
from metering.units import DAY_S
from tests.unit.producer.meter import Meter, expected, records_of


@pytest.fixture
def meter() -> Meter:
    return Meter()


def short_of(number: int, count: int) -> list[dict[str, str | int]]:
    """Records of which a thousand have less than 200 KB."""
    at_s = int(datetime.fromisoformat(str(records_of(number, 1)[0]["start"])).timestamp())
    return [{**each, "start": at_s, "end": at_s, "from": "us-east-1"} for each in records_of(number, count)]


def sizes(meter: Meter) -> list[int]:
    return [json.loads(body)["record_count"] for body in meter.queue.bodies()]


def test_a_thousand_records_of_many_keys_are_one_batch(meter: Meter, tmp_path: Path) -> None:
    sent = []
    with meter.producer(tmp_path) as producer:
        for number in range(45):
            producer.add(short_of(number, 50), key=f"event-{number}")
            sent += short_of(number, 50)
        assert (sizes(meter), producer.unsent, producer.next_sequence) == ([1_000, 1_000], 1, 2)
        assert (producer.flush(), producer.flush(), producer.unsent) == (1, 0, 0)
    assert sizes(meter) == [1_000, 1_000, 250]
    assert [json.loads(body)["sequence"] for body in meter.queue.bodies()] == [0, 1, 2]
    meter.deliver()
    assert meter.metered() == expected(sent)
    assert all(marker.batch_id.startswith("edge-7f3a/") for marker in meter.markers())


def test_the_records_of_a_batch_have_at_most_200_kb_or_are_one_that_is_larger(meter: Meter, tmp_path: Path) -> None:
    notes = {1: 60_000, 2: 300_000, 3: 1_047_500, 4: 10}
    records = {key: [{**each, "note": "x" * size} for each in records_of(key, 4)] for key, size in notes.items()}
    with meter.producer(tmp_path) as producer:
        for key, some in records.items():
            producer.add(some, key=str(key))
        producer.flush()
    assert sizes(meter) == [3, *[1] * 9, 4]
    bodies = [json.loads(body) for body in meter.queue.bodies()]
    assert ["location" in body for body in bodies] == [False] * 6 + [True] * 4 + [False]
    for body in bodies:
        lines = [json.dumps(each, separators=(",", ":")) for each in body.get("records", [])]
        assert len(lines) <= 1 or sum(len(line) + 1 for line in lines) <= SHARED_BYTES
    meter.deliver()
    assert meter.metered() == expected([each for some in records.values() for each in some])


def test_a_clock_that_jumps_lets_no_key_of_the_newest_batches_count_twice(meter: Meter, tmp_path: Path) -> None:
    behind_s = 10_000 * DAY_S
    meter.world.clock.advance_s(-behind_s)
    with meter.producer(tmp_path) as producer:
        producer.add(short_of(1, 5), key="event-1")
        producer.flush()
    meter.world.clock.advance_s(behind_s)
    for _ in range(2):
        with meter.producer(tmp_path) as producer:
            producer.add(short_of(1, 5), key="event-1")
            producer.add(short_of(2, 5), key="event-2")
            producer.flush()
    assert sizes(meter) == [5, 5]
    meter.deliver()
    assert meter.metered() == expected([*short_of(1, 5), *short_of(2, 5)])


def test_a_key_of_more_records_than_a_batch_fills_several(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        producer.add(records_of(1, 10), key="a")
        producer.add(short_of(2, 2 * FULL_RECORDS), key="b")
        assert sizes(meter) == [FULL_RECORDS] * 2
        producer.flush()
    meter.deliver()
    assert meter.metered() == expected([*records_of(1, 10), *short_of(2, 2 * FULL_RECORDS)])


def test_equal_records_of_two_keys_are_two_batches(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        for key in "ab":
            producer.add(records_of(1, 2), key=key)
            producer.flush()
        producer.add([{**short_of(1, 1)[0], "bytes": 1}] * (2 * FULL_RECORDS), key="c")
    assert len({json.loads(body)["batch_id"] for body in meter.queue.bodies()}) == len(meter.queue.bodies()) == 4


def test_a_batch_that_does_not_fill_is_sent_by_the_first_call_after_its_time(meter: Meter, tmp_path: Path) -> None:
    clock = meter.world.clock
    with meter.producer(tmp_path) as producer:
        assert producer.add(records_of(1, 1), key="a") == 0
        clock.advance_s(59)
        assert producer.add(records_of(2, 1), key="b") == 0
        clock.advance_s(1)
        assert producer.add(records_of(3, 1), key="c") == 1
    assert sizes(meter) == [3]


def test_a_clock_that_was_set_back_does_not_keep_a_batch(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        producer.add(records_of(1, 1), key="a")
        meter.world.clock.sleep_ms(-DAY_S * 1_000)
        assert producer.add(records_of(2, 1), key="b") == 1


def test_a_send_keeps_the_order_of_the_calls(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        producer.add(records_of(1, 2), key="a")
        sent = producer.send(records_of(2, 3), key="b")
        assert (sent.first_sequence, producer.unsent) == (1, 0)
    assert sizes(meter) == [2, 3]


def test_a_key_that_is_added_again_counts_once_whether_it_waits_or_was_sent(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        producer.add(records_of(1, 3), key="a")
        producer.add(records_of(1, 3), key="a")
    with meter.producer(tmp_path) as producer:
        producer.add((dict(reversed(each.items())) for each in records_of(1, 3)), key="a")
        assert producer.flush() == 1
        producer.add(records_of(1, 3), key="a")
        assert (producer.flush(), producer.unsent) == (0, 0)
        with pytest.raises(KeyReusedError, match="'a' was used for other records"):
            producer.add(records_of(1, 2), key="a")
    meter.deliver()
    assert meter.metered() == expected(records_of(1, 3))


def test_a_key_is_of_one_method(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        producer.add(records_of(1, 1), key="a")
        producer.send(records_of(2, 1), key="b")
        with pytest.raises(KeyReusedError, match="or by another method"):
            producer.send(records_of(1, 1), key="a")
        with pytest.raises(KeyReusedError):
            producer.add(records_of(2, 1), key="b")


def test_what_waits_is_in_the_journal_and_the_next_process_goes_on_with_it(meter: Meter, tmp_path: Path) -> None:
    for number in range(3):
        with meter.producer(tmp_path) as producer:
            assert producer.unsent == (number > 0)
            producer.add(short_of(number, 400), key=str(number))
    assert sizes(meter) == [1_000]
    with meter.producer(tmp_path) as producer:
        assert producer.flush() == 1
    meter.deliver()
    assert meter.metered() == expected([each for number in range(3) for each in short_of(number, 400)])


def test_what_could_not_be_sent_is_kept_and_a_later_call_sends_it(meter: Meter, tmp_path: Path) -> None:
    def fail(call: str) -> None:
        raise UnavailableError(call, "throttled")

    meter.queue.on_call = fail
    with meter.producer(tmp_path, patience_s=0) as producer:
        producer.add(records_of(1, 600), key="a")
        with pytest.raises(NotSentError) as error:
            producer.add(records_of(2, 600), key="b")
        assert (error.value.unsent, error.value.journalled) == (2, True)
        meter.queue.on_call = lambda _: None
        assert producer.add(records_of(2, 600), key="b") == 1
        producer.flush()
    meter.deliver()
    assert meter.metered() == expected([*records_of(1, 600), *records_of(2, 600)])


def test_records_that_are_refused_leave_the_journal_as_it_was(meter: Meter, tmp_path: Path) -> None:
    bad: list[Any] = [*records_of(1, FULL_RECORDS), {**records_of(1, 1)[0], "bytes": 0.5}]
    with meter.producer(tmp_path) as producer:
        producer.add(records_of(2, 1), key="a")
        with pytest.raises(RecordsRefusedError):
            producer.add(bad, key="b")
        assert (producer.next_sequence, producer.flush()) == (0, 1)
    assert sizes(meter) == [1]


def test_without_a_journal_nothing_is_shared(meter: Meter) -> None:
    with pytest.raises(OperationFailedError, match="need a journal"):
        meter.producer(None).add(records_of(1, 1), key="a")


def test_an_earlier_release_does_not_take_a_journal_in_which_records_wait(meter: Meter, tmp_path: Path) -> None:
    def form() -> str:
        database = sqlite3.connect(tmp_path / "journal.sqlite")
        [found] = database.execute("SELECT value FROM about WHERE name = 'version'").fetchone()
        database.close()
        return str(found)

    with meter.producer(tmp_path) as producer:
        producer.add(records_of(1, 1), key="a")
    assert form() == "2"
    with meter.producer(tmp_path) as producer:
        producer.flush()
    assert form() == "1"


def test_a_damaged_record_is_not_sent(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        producer.add(records_of(1, 1), key="a")
    database = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
    database.execute("UPDATE waiting SET line = CAST(replace(line, '1001', '9001') AS BLOB)")
    database.close()
    with meter.producer(tmp_path) as producer, pytest.raises(JournalError, match=r"of the key 'a' .* is damaged"):
        producer.flush()
    assert not meter.queue.bodies()


def test_a_key_whose_records_wait_is_not_forgotten(meter: Meter, tmp_path: Path) -> None:
    with meter.producer(tmp_path) as producer:
        producer.add(records_of(1, 1), key="waits")
    meter.world.clock.advance_s(91 * DAY_S)
    with meter.producer(tmp_path) as producer:
        producer.add(records_of(1, 1), key="waits")
        assert producer.flush() == 0
        producer.add([], key="none")
        producer.add(records_of(1, 1), key="waits")
    assert sizes(meter) == [1]


CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 8), st.sampled_from([0, 1, 3, 700, 1_500])),
        st.tuples(st.just("send"), st.integers(10, 14), st.sampled_from([0, 2])),
        st.tuples(st.sampled_from(["flush", "reopen", "outage", "wait"]), st.just(0), st.just(0)),
    ),
    max_size=14,
)


class Caller:
    """Makes calls, some of them during an outage, and remembers the records of each key."""

    def __init__(self, state: Path) -> None:
        self.meter, self.sent, self._state = Meter(), dict[str, list[dict[str, str | int]]](), state
        self._down = False
        self.meter.queue.on_call = self._fail
        self.producer = self.meter.producer(state, patience_s=0)

    def _fail(self, call: str) -> None:
        if self._down:
            raise UnavailableError(call, "throttled")

    def call(self, what: str, key: int, count: int) -> None:
        self._down = what == "outage" or (self._down and what != "up")
        if what == "reopen":
            self.producer.close()
            self.producer = self.meter.producer(self._state, patience_s=0)
        elif what == "wait":
            self.meter.world.clock.advance_s(60)
        try:
            if what in {"add", "send"}:
                records = self.sent.setdefault(str(key), short_of(key, count))
                getattr(self.producer, what)(records, key=str(key))
            elif what == "flush":
                self.producer.flush()
        except NotSentError:
            assert self._down


@settings(max_examples=25, deadline=None)
@given(CALLS)
def test_whatever_is_called_each_key_is_metered_once_in_full_batches_without_a_gap(
    calls: list[tuple[str, int, int]],
) -> None:
    with TemporaryDirectory() as state:
        caller = Caller(Path(state))
        for what, key, count in [*calls, ("up", 0, 0), ("flush", 0, 0)]:
            caller.call(what, key, count)
        assert caller.producer.unsent == 0
        caller.producer.close()
    meter = caller.meter
    meter.deliver()
    sent = [each for records in caller.sent.values() for each in records]
    assert meter.metered() == expected(sent)
    found = sizes(meter)
    assert max(found, default=0) <= FULL_RECORDS
    early = sum(what in {"flush", "send", "wait"} for what, _, _ in calls) + 1
    assert len([size for size in found if size < FULL_RECORDS]) <= 2 * early
    if markers := meter.markers():
        seen = SeenSequences().plus({each.sequence or 0: 1 for each in markers}, now_ms=1, largest_jump=100)
        assert (seen.last, seen.gaps) == (len(markers) - 1, ())
