"""Dead letters of batches and log files are listed without a removal, explained and redriven."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import OperationFailedError, OutOfTimeError
from metering.intake.batches import Allowance, BatchReading, DecodedBatch, NoBatch
from metering.intake.dropped import DropIds
from metering.ledger.notes.deeds import Consent, Deed, DeedState
from metering.onramps.context.document import Context, FlowLog
from metering.onramps.kinds import recognised
from metering.onramps.plans import plan_key
from metering.onramps.sources import LogSource
from metering.operations.dead_letters import DeadLetter, DeadLetters, DeadLogFiles
from metering.operations.logged_errors import FIRST_MONTH_S, DeedTrail, LoggedLine, grouped
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageType
from tests.support.memory.clock import UNHURRIED, ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue
from tests.support.small_world import Calls, KilledError
from tests.support.stage import ADMISSION
from tests.support.verdicts import decoded_batch, marker_of, refused_batch

if TYPE_CHECKING:
    from metering.intake.admission import Admission
    from metering.ledger.markers import Marker
    from metering.stores.queues import Delivery

NOW_S = 1_800_000_000
HOUR = NOW_S - NOW_S % HOUR_S


class Reader:
    """Reads messages of the form `{"batch_id": …, "kind": …}`."""

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
        self.drops = DropIds(objects=MemoryObjectStore(self.clock), bucket="data")
        self.letters = DeadLetters(
            dead=self.dead, ingest=self.ingest, reader=Reader(), items=self.items, clock=self.clock,
            admission=ADMISSION, drops=self.drops, retention_s=14 * DAY_S,
        )  # fmt: skip

    def deep(self) -> list[DeadLetter]:
        return self.letters.letters(limit=100, look=lambda delivery: self.letters.examine(delivery, UNHURRIED))

    def die(self, *names: str, kind: str = "good", age_s: int = 3600) -> None:
        for name in names:
            body = json.dumps({"batch_id": name, "kind": kind})
            self.dead.put_dead(f"m-{name}", body, (NOW_S - age_s) * 1000, 5, "AIDA1")


@pytest.fixture
def setup() -> Setup:
    return Setup()


def accepted(batch_id: str) -> Marker:
    return marker_of(batch_id, records=3, metered=3)


def test_a_letter_says_until_when_a_redrive_still_meters_it(setup: Setup) -> None:
    setup.die("a")
    [letter] = setup.deep()
    assert letter.batch_id == "a"
    assert letter.effect == "meter"
    assert letter.admitted_until_s == HOUR - 2 * HOUR_S + 35 * DAY_S
    assert letter.kept_until_s == NOW_S - 3600 + 14 * DAY_S


@pytest.mark.parametrize(("kind", "content_hash", "effect", "why"), [
    ("good", "ee", "duplicate", ""),
    ("good", "dd", "conflict", "quarantine"),
    ("refused", "", "refuse", "too_late"),
    ("none", "", "refuse", "no batch"),
    ("slow", "", "unknown", "too long"),
], ids=["metered", "metered with other content", "refused", "no batch", "takes too long to read"])  # fmt: skip
def test_a_letter_says_what_a_redrive_would_do_and_why(kind: str, content_hash: str, effect: str, why: str) -> None:
    setup = Setup()
    setup.die("a", kind=kind)
    if content_hash:
        setup.items.put(Put(table=Table.LEDGER, item=replace(accepted("a"), content_hash=content_hash).to_item()))
    [letter] = setup.deep()
    assert letter.effect == effect
    assert why in letter.why


def body(**changes: object) -> str:
    location = {"bucket": "data", "key": "ingest/x", "format": "ndjson", "compression": "none"}
    good = {"schema": "metering.batch/1", "batch_id": "a", "record_count": 7, "location": location}
    return json.dumps(good | changes)


def glanced(text: str, marker: Marker | None = None) -> DeadLetter:
    """Describe a dead letter without a read of its records."""
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
def test_a_glance_is_quick_whatever_a_message_holds(setup: Setup, filler: str, field: str) -> None:
    for number in range(20):
        text = body(batch_id=f"b{number}", location=None)[:-1] + f', "{field}": [{filler}]}}'
        setup.dead.put_dead(f"m{number}", text, NOW_S * 1000, 5, "AIDA1")
    began_s = time.process_time()
    assert len(setup.letters.letters(limit=100)) == 20
    assert time.process_time() - began_s < 2


def test_looking_at_letters_leaves_them_in_the_queue_and_visible(setup: Setup) -> None:
    setup.die(*(f"b{n}" for n in range(25)))
    assert len(setup.letters.letters(limit=100)) == 25
    assert setup.dead.depth().visible == 25
    assert len(setup.letters.letters(limit=7)) == 7


def test_a_redrive_moves_everything_once(setup: Setup) -> None:
    setup.die(*(f"b{n}" for n in range(25)))
    done = setup.letters.redrive()
    assert (done.moved, done.kept, done.waiting) == (25, 0, 25)
    assert len(setup.ingest.bodies()) == 25
    assert setup.dead.bodies() == []


def test_a_dry_run_moves_nothing(setup: Setup) -> None:
    setup.die("a", "b")
    assert setup.letters.redrive(dry_run=True).waiting == 2
    assert len(setup.dead.bodies()) == 2


def test_a_redrive_stops_at_its_maximum_and_keeps_its_rate(setup: Setup) -> None:
    setup.die(*(f"b{n}" for n in range(25)))
    began_ms = setup.clock.now_ms()
    assert setup.letters.redrive(maximum=15, per_s=5).moved == 15
    assert setup.clock.now_ms() - began_ms >= 3000
    assert len(setup.dead.bodies()) == 10


@pytest.mark.parametrize(("maximum", "task", "moved", "left"), [(None, "task-1", 0, 0), (1, None, 1, 1)])
def test_the_queue_service_moves_them_itself_unless_there_is_a_maximum(
    maximum: int | None, task: str | None, moved: int, left: int
) -> None:
    setup = Setup(moves_by_itself=True)
    setup.die("a", "b")
    done = setup.letters.redrive(maximum=maximum)
    assert (done.task, done.moved) == (task, moved)
    assert (len(setup.ingest.bodies()), len(setup.dead.bodies())) == (2 - left, left)


def test_what_the_ingest_queue_does_not_take_stays_in_the_dead_letter_queue(setup: Setup) -> None:
    setup.die("a", "b")
    setup.ingest.refused_bodies.add(json.dumps({"batch_id": "a", "kind": "good"}))
    done = setup.letters.redrive(maximum=2)
    assert (done.moved, done.kept) == (1, 1)
    assert len(setup.dead.bodies()) == 1


def test_a_message_that_died_again_meanwhile_is_not_moved_in_a_circle(setup: Setup) -> None:
    setup.die("a")
    setup.die("again", age_s=-1)
    assert setup.letters.redrive().moved == 1
    assert len(setup.dead.bodies()) == 1


@pytest.mark.parametrize("at", range(8))
def test_a_redrive_killed_at_any_call_loses_nothing(at: int) -> None:
    setup, calls = Setup(), Calls()
    names = [f"b{n}" for n in range(15)]
    setup.die(*names)
    calls.before[at] = KilledError()
    setup.dead.on_call = setup.ingest.on_call = calls.on_call
    with pytest.raises(KilledError):
        setup.letters.redrive()
    setup.clock.advance_s(120)
    setup.letters.redrive()
    assert {json.loads(body)["batch_id"] for body in setup.ingest.bodies()} == set(names)
    assert setup.dead.bodies() == []


@pytest.mark.parametrize(("maximum", "per_s"), [(0, None), (None, 0)])
def test_a_redrive_of_nothing_is_refused(maximum: int | None, per_s: int | None) -> None:
    with pytest.raises(OperationFailedError):
        Setup().letters.redrive(maximum=maximum, per_s=per_s)


ACCOUNT = "123456789012"
NAME = f"{ACCOUNT}_vpcflowlogs_us-west-2_fl-0a1b2c3d_20270115T0700Z_1a2b3c4d.log.gz"
KEY = f"AWSLogs/{ACCOUNT}/vpcflowlogs/us-west-2/2027/01/15/{NAME}"
FLOWS = LogSource(name="flows", bucket="acme-logs", region="us-west-2", prefix="AWSLogs/", accounts=(ACCOUNT,))
FLOW_LOG = FlowLog(
    id="fl-0a1b2c3d", resource_id="vpc-0a", resource_type="vpc", created_s=NOW_S - DAY_S, fields=(),
    traffic_type="ACCEPT", destination="arn:aws:s3:::acme-logs", destination_type="s3", account_id=ACCOUNT,
    region="us-west-2",
)  # fmt: skip


class LogSetup:
    """A region with a dead-letter queue of log files, to which a test adds messages."""

    def __init__(self, *, context: Context | None = None) -> None:
        self.clock = ManualClock(NOW_S * 1000)
        self.objects = MemoryObjectStore(self.clock)
        self.dead = MemoryQueue(self.clock)
        self.context = context
        self.listing = DeadLogFiles(
            dead=self.dead, sources=(FLOWS,), recognise=recognised, objects=self.objects, contexts=self,
            clock=self.clock, retention_s=14 * DAY_S,
        )  # fmt: skip

    def newest(self) -> Context | None:
        return self.context

    def die(self, body: str, *, name: str = "m-1", age_s: int = HOUR_S) -> None:
        self.dead.put_dead(name, body, (NOW_S - age_s) * 1000, 6, "events")

    def why(self, body: str) -> str:
        self.die(body)
        [found] = self.listing.files(limit=10)
        return found.why


def event(key: str = KEY, bucket: str = "acme-logs", **instead: object) -> str:
    detail = {"bucket": {"name": bucket}, "object": {"key": key, "etag": "e"}}
    return json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail, **instead})


def captured() -> Context:
    return Context(sha256="0" * 64, effective_s=0, accounts=frozenset({ACCOUNT}), flow_logs={FLOW_LOG.id: FLOW_LOG})


def test_each_file_is_shown_with_its_place_and_age_and_stays_in_the_queue() -> None:
    setup = LogSetup(context=captured())
    setup.die(event(), name="m-2", age_s=60)
    setup.die(event(key=KEY.replace("0700Z", "0705Z")), age_s=HOUR_S)
    older, newer = setup.listing.files(limit=10)
    assert (older.age_s, newer.age_s) == (HOUR_S, 60)
    assert newer.file == f"s3://acme-logs/{KEY}"
    assert (newer.log_source, newer.receives, newer.message_id) == ("flows", 7, "m-2")
    assert newer.kept_until_s == NOW_S - 60 + 14 * DAY_S
    assert "metering errors onramp" in newer.why
    assert setup.dead.depth().visible == 2


def test_no_more_than_asked_for_is_looked_at() -> None:
    setup = LogSetup()
    for number in range(12):
        setup.die(event(), name=f"m-{number}")
    assert len(setup.listing.files(limit=11)) == 11


def test_a_file_that_waits_for_a_context_says_so() -> None:
    assert LogSetup().why(event()).startswith("No context that lists flow logs is captured yet")


def test_a_file_that_has_a_plan_says_that_nothing_is_lost() -> None:
    setup = LogSetup(context=captured())
    known = recognised(KEY)
    assert known is not None
    name = known[1]
    setup.objects.put(plan_key("vpc-flow", name.source, name.slot_s, name.identity), b"{}", if_absent=False)
    assert setup.why(event()).startswith("It has a plan")


@pytest.mark.parametrize(("body", "said"), [
    (event(bucket="other-logs"), "It lies in no log source of this region any more"),
    (event(key="AWSLogs/notes.txt"), "Its name is that of no log"),
    (event(key="AWSLogs/E2EXAMPLE12345.2027-01-15-07.a1b2c3d4.gz"), "Its kind is cloudfront, and flows does not take"),
    (event(**{"detail-type": "Object Deleted"}), "It is about no log file: an event that creates no object."),
    ("an event", "Its event cannot be read: "),
])  # fmt: skip
def test_what_the_event_and_the_name_tell_is_said(body: str, said: str) -> None:
    assert LogSetup(context=captured()).why(body).startswith(said)


# The audit trail: deeds that have begun, deeds that have ended, and deeds whose end was not recorded.

YEAR_S = 365 * DAY_S


def deed(at_s: int, deed_id: str = "one") -> Deed:
    return Deed(
        deed_id=deed_id, at_ms=1000 * at_s, what="dlq redrive", subject="",
        consequence="3 messages go back into the ingest queue.",
        who="arn:aws:sts::123456789012:assumed-role/Operator/ada", stage="prod", region="eu-west-1", version="0.1.0",
        consent=Consent.ANSWERED,
    )  # fmt: skip


def test_a_deed_has_begun_without_an_end_and_then_says_how_and_when_it_ended_in_one_line() -> None:
    trail, begun = DeedTrail(items=MemoryItemStore()), deed(FIRST_MONTH_S)
    trail.begin(begun)
    [found] = trail.between(0, FIRST_MONTH_S + 1)
    assert (found.state, found.ended_ms, found.result) == (DeedState.BEGUN, 0, "")
    ended = trail.end(begun, state=DeedState.OK, ended_ms=begun.at_ms + 5, result="3 moved")
    assert list(trail.between(0, FIRST_MONTH_S + DAY_S)) == [ended]
    assert (ended.state, ended.result) == (DeedState.OK, "3 moved")
    assert "expires_at" not in ended.to_item()


def test_two_deeds_of_one_moment_are_both_kept() -> None:
    trail = DeedTrail(items=MemoryItemStore())
    trail.begin(deed(FIRST_MONTH_S, "one"))
    trail.begin(deed(FIRST_MONTH_S, "two"))
    assert len(list(trail.between(FIRST_MONTH_S, FIRST_MONTH_S + 1))) == 2


@given(
    st.sets(st.integers(FIRST_MONTH_S, FIRST_MONTH_S + 2 * YEAR_S), max_size=20),
    st.integers(FIRST_MONTH_S - DAY_S, FIRST_MONTH_S + 2 * YEAR_S),
    st.integers(0, 2 * YEAR_S),
)
def test_a_range_gives_its_deeds_newest_first(times_s: set[int], from_s: int, length_s: int) -> None:
    trail = DeedTrail(items=MemoryItemStore())
    for at_s in times_s:
        trail.begin(deed(at_s))
    found = [each.at_ms // 1000 for each in trail.between(from_s, from_s + length_s)]
    assert found == sorted((at_s for at_s in times_s if from_s <= at_s < from_s + length_s), reverse=True)


def test_only_the_months_that_are_needed_are_read() -> None:
    items = MemoryItemStore()
    trail = DeedTrail(items=items)
    last_s = FIRST_MONTH_S + YEAR_S
    trail.begin(deed(last_s))
    calls: list[str] = []
    items.on_call = calls.append
    assert len(list(islice(trail.between(0, last_s + 1), 1))) == 1
    assert len(calls) <= 2


# Log lines are grouped into a few kinds of errors, and other lines are omitted.


def line(text: str, at_ms: int = 1_000, *, function: str = "watch", request_id: str = "") -> LoggedLine:
    return LoggedLine(function=function, at_ms=at_ms, text=text, request_id=request_id)


def logged(**fields: object) -> str:
    return json.dumps({"level": "ERROR", "location": "handle:1", "service": "watch", **fields})


def test_errors_that_differ_by_ids_and_numbers_are_one_kind_and_the_newest_is_shown() -> None:
    lines = [
        line("[ERROR] ThrottledError: request 4f0c8b6a-1111-2222-3333-444455556666 after 3 tries\nTraceback", 1_000),
        line("[ERROR] ThrottledError: request 4f0c8b6a-9999-2222-3333-444455556666 after 12 tries\nTraceback", 5_000,
             request_id="r-2"),
    ]  # fmt: skip
    [error] = grouped(lines)
    assert error.text == "ThrottledError: request 4f0c8b6a-9999-2222-3333-444455556666 after 12 tries"
    assert (error.count, error.first_ms, error.last_ms, error.request_id) == (2, 1_000, 5_000, "r-2")


def test_the_kind_that_was_logged_last_comes_first_and_functions_stay_apart() -> None:
    lines = [line("[ERROR] A", 1), line("[ERROR] B", 3), line("[ERROR] A", 2, function="canary")]
    assert [(each.function, each.text) for each in grouped(lines)] == [("watch", "B"), ("canary", "A"), ("watch", "A")]


def test_a_line_of_the_logger_is_an_error_by_its_level_alone() -> None:
    assert grouped([line(logged(level="INFO", message="an ERROR in its text"))]) == []
    [error] = grouped([line(logged(message="ledger corrupt", contradictions=["C#1"], version="0.2.0"))])
    assert error.text == 'ledger corrupt {"contradictions": ["C#1"]}'
    assert error.version == "0.2.0"


def test_an_exception_that_was_logged_is_told_by_its_last_line() -> None:
    [error] = grouped([line(logged(message="failed", exception="Traceback …\n  File …\nValueError: no"))])
    assert error.text == "failed: ValueError: no"


def test_a_timeout_is_one_kind_whatever_its_time_and_request() -> None:
    text = "2026-11-25T10:00:0{}.123Z 4f0c8b6a-1111-2222-3333-44445555666{} Task timed out after 60.00 seconds"
    [error] = grouped([line(text.format(1, 1)), line(text.format(2, 2))])
    assert (error.text, error.count) == ("Task timed out after 60.00 seconds", 2)


def test_what_only_looks_like_json_is_shown_as_it_is() -> None:
    [error] = grouped([line('{"level":"ERROR", cut')])
    assert error.text == '{"level":"ERROR", cut'
