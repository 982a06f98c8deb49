"""Kill and lost-reply matrix of the on-ramp: after each fault at each call (plan, part, send), 0 lost, 0 doubled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from metering.intake.work import MAX_RECORDS
from metering.metric_names import BATCHES_DUPLICATE
from metering.onramps.context.document import Context
from metering.units import DAY_S
from tests.support.lake_world import HOUR
from tests.support.small_logs import Calls, Fault, LogRegion, reason_of

NAMED, NAMELESS, REST = "AWSLogs/small_1.log", "flows.txt", "rest.txt"
LINES = (
    ("i-1", 100, HOUR, HOUR + 60),
    ("i-1", 20, HOUR - 3600, HOUR - 3500),
    ("z:a", 50, HOUR, HOUR + 60),
    ("s-1", 7, HOUR, HOUR + 1),
    "broken line",
)
MORE = (("i-1", 3, HOUR, HOUR + 90), ("z:b", 4, HOUR, HOUR + 90))
# Number of the call that sends the messages of a file with two parts, after the calls that look, read, plan and put.
SEND_OF_TWO = 6
FIRST = {"internet": 120, "us-east-1/aaaa": 50}
WHOLE = {"internet": 123, "us-east-1/aaaa": 54}


def named(region: LogRegion, calls: Calls) -> None:
    region.put(NAMED, *LINES)
    region.take_until_done(NAMED, calls)


def refused(region: LogRegion, calls: Calls) -> None:
    """Since no line is metered, no stored part shows the progress of an earlier process."""
    region.put(NAMED, "broken line", "another one")
    region.take_until_done(NAMED, calls)


def nameless(region: LogRegion, calls: Calls) -> None:
    region.put(NAMELESS, *LINES)
    region.take_until_done(NAMELESS, calls)


def grown(region: LogRegion, calls: Calls) -> None:
    region.put(NAMELESS, *LINES)
    region.take(NAMELESS)
    region.put(NAMELESS, *LINES, *MORE)
    region.take_until_done(NAMELESS, calls)


def grown_since_it_failed(region: LogRegion, calls: Calls) -> None:
    """The first attempt fails, and the file grows; if the file is refused, it is ingested as the refusal advises."""
    region.put(NAMELESS, *LINES)
    region.fails(NAMELESS, calls)
    region.put(NAMELESS, *LINES, *MORE)
    if region.take(NAMELESS).verdict == "refused":
        region.put(NAMELESS, *LINES)
        region.put(REST, *MORE)
        region.take(NAMELESS)
        region.take(REST)
    calls.apply_late()


SCENARIOS = {each.__name__: each for each in (named, refused, nameless, grown, grown_since_it_failed)}
TRUTH = {"named": FIRST, "refused": {}, "nameless": FIRST, "grown": FIRST, "grown_since_it_failed": WHOLE}


def calls_of(name: str) -> list[tuple[str, tuple[Fault, ...]]]:
    calls = Calls()
    SCENARIOS[name](LogRegion(), calls)
    return calls.made


def cells() -> Iterator[tuple[str, int, str, Fault]]:
    for name in SCENARIOS:
        for number, (call, faults) in enumerate(calls_of(name)):
            for fault in faults:
                yield name, number, call, fault


def check(region: LogRegion, name: str) -> None:
    """Check that the region is as it would be without the fault."""
    region.book()
    assert region.booked_bytes() == TRUTH[name]
    assert region.conflicts() == 0
    assert len(region.objects.keys("quarantine/logs/lines/")) == 1


CELLS = list(cells())


def test_the_matrix_has_every_step() -> None:
    assert {"objects.put", "queue.send", "logs.open"} <= {call for _, _, call, _ in CELLS}
    puts = sum(call == "objects.put" for call, _ in calls_of("named"))
    assert puts == 3, "plan, refused lines, part"


@pytest.mark.parametrize(("name", "number", "call", "fault"), CELLS, ids=lambda value: str(value).replace(" ", "_"))
def test_a_fault_at_a_call_loses_nothing_and_doubles_nothing(name: str, number: int, call: str, fault: Fault) -> None:
    region = LogRegion()
    calls = Calls(at=number, fault=fault)
    SCENARIOS[name](region, calls)
    assert calls.happened, call
    check(region, name)


def newer_context(region: LogRegion) -> None:
    region.contexts.put(Context(sha256="b" * 64, effective_s=HOUR - 3600))


@pytest.mark.parametrize("number", range(len(calls_of("named"))))
@pytest.mark.parametrize("death", [None, *range(len(calls_of("named")))])
def test_another_process_between_two_calls_dies_or_ends_and_both_say_the_same(number: int, death: int | None) -> None:
    region = LogRegion()

    def other() -> None:
        # The process sees a newer context, and may die anywhere.
        newer_context(region)
        region.fails(NAMED, Calls(at=-1 if death is None else death, fault=Fault.KILLED_BEFORE))

    region.put(NAMED, *LINES)
    region.take_until_done(NAMED, Calls(at=number, before=other))
    region.book()
    booked = region.booked_bytes()
    assert booked.pop("internet") == 120
    # The file was judged with a single context, whichever plan came first.
    assert booked in ({"us-east-1/aaaa": 50}, {"us-east-1/bbbb": 50})
    assert region.conflicts() == 0


@pytest.mark.parametrize("number", range(len(calls_of("nameless"))))
def test_a_file_that_grows_between_two_calls_has_no_line_twice(number: int) -> None:
    region = LogRegion()

    def other() -> None:
        region.put(NAMELESS, *LINES, *MORE)
        region.fails(NAMELESS, Calls())

    region.put(NAMELESS, *LINES)
    region.take_until_done(NAMELESS, Calls(at=number, before=other))
    region.put(NAMELESS, *LINES)
    region.take(NAMELESS)
    region.book()
    # The first process to read the file fixes its length, and lines that were added later are refused.
    assert region.booked_bytes() in (FIRST, WHOLE)
    assert region.conflicts() == 0


def test_the_matrix_can_fail() -> None:
    """The matrix finds a seeded bug: a new identity at each attempt."""
    found = 0
    for number, fault in ((number, fault) for name, number, _, fault in CELLS if name == "named"):
        region = LogRegion()
        region.put(NAMED, *LINES)
        region.fails(NAMED, Calls(at=number, fault=fault))
        region.put("AWSLogs/small_2.log", *LINES)
        region.take("AWSLogs/small_2.log")
        region.book()
        found += region.booked_bytes() != FIRST
    assert found


@pytest.mark.parametrize("fault", [Fault.KILLED_AFTER, Fault.PARTLY])
def test_a_file_of_several_batches_is_whole_whichever_of_them_was_sent(fault: Fault) -> None:
    region = LogRegion()
    region.put(NAMED, *((f"i-{number:05}", 1, HOUR, HOUR + 1) for number in range(MAX_RECORDS + 1)))
    # The plan and two parts are put before the two messages are sent.
    region.take_until_done(NAMED, Calls(at=SEND_OF_TWO if fault is Fault.PARTLY else SEND_OF_TWO - 2, fault=fault))
    assert len(region.objects.keys("ingest/logs/")) == 2
    region.book()
    assert region.booked_bytes() == {"internet": MAX_RECORDS + 1}
    assert region.conflicts() == 0


def test_a_redelivery_on_day_70_of_a_backfill_stage_is_a_duplicate() -> None:
    region = LogRegion(window_s=400 * DAY_S, marker_life_s=415 * DAY_S)
    region.put(NAMED, *LINES[:1], LINES[2])
    assert region.take(NAMED).verdict == "metered"
    region.book()
    region.clock.advance_s(70 * DAY_S)
    newer_context(region)
    # The lifecycle rule for ingest/ has deleted the part.
    region.objects.delete(region.objects.keys("ingest/"))
    before = region.metrics.counts[BATCHES_DUPLICATE]
    assert region.take(NAMED).verdict == "repeated"
    region.book()
    assert region.booked_bytes() == {"internet": 100, "us-east-1/aaaa": 50}
    assert region.conflicts() == 0
    # The message and its second delivery are both found to be duplicates.
    assert region.metrics.counts[BATCHES_DUPLICATE] - before == 2


def test_a_stage_with_the_usual_window_refuses_a_file_of_ten_weeks_ago_as_a_whole() -> None:
    region = LogRegion()
    region.put(NAMED, *LINES[:1], LINES[2])
    region.clock.advance_s(70 * DAY_S)
    assert reason_of(region.take(NAMED)) == "too_old"
    assert not region.queue.depth().total
