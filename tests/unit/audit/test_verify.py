"""Verification of an in-memory region passes if nothing is wrong, else names the problems; also of plans and parts."""

import json
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from functools import cache
from types import SimpleNamespace
from typing import cast

import pytest

from metering.audit import verifier
from metering.audit.settling import fingerprint
from metering.audit.verification import (
    MAX_DIFFERENCES,
    Difference,
    LogTotals,
    SentBatch,
    SentBatches,
    SentContent,
    Verification,
    sum_verifications,
)
from metering.audit.verifier import PlanCheck, Verifier, judge_contents
from metering.intake.dropped import DropIds
from metering.ledger.booked_hours import Pointer
from metering.ledger.markers import Marker, marker_key
from metering.ledger.periods import Period
from metering.ledger.usage.items import newest_run_of
from metering.onramps.coverage.looking import SLOT_S
from metering.onramps.plans import Plan
from metering.replay.scenarios import SCENARIOS
from metering.replay.sender import Sender
from metering.replay.synthesis import Shipment, Synthesis
from metering.stores.writes import Delete, Put, Table, Update
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import ZERO, Service, Total, UsageKey, UsageType, sum_totals
from metering.wiring.aggregator import build_aggregator
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.objects import MemoryObjectStore
from tests.support.memory.queues import MemoryQueue
from tests.support.region import MemoryRegion
from tests.support.senders_world import SERVICES
from tests.support.stage import settings
from tests.support.usage_items import change, usage_of
from tests.support.verdicts import marker_of
from tests.unit.onramps.coverage.world import HOUR, LOG, plan

BASE_S = 1_795_525_200
NOW_S = BASE_S + 4_000
BUCKET = "metering-data"
SETTINGS = settings(data_bucket=BUCKET)


class Region(MemoryRegion):
    """An in-memory region that processes messages with the real reader, codec and aggregator."""

    def __init__(self, *, judged: bool = False) -> None:
        super().__init__(now_s=NOW_S, settings=SETTINGS)
        self.dead = MemoryQueue(self.clock, name="dead")
        self.ingest = MemoryQueue(self.clock, name="ingest")
        self.lines: list[SentBatch] = []
        self._aggregator = build_aggregator(self.parts(), self.metrics, SERVICES if judged else None)

    def send(self, shipments: list[Shipment]) -> None:
        """Send shipments as a replay does; for objects in drop/, send S3's event notifications."""
        sender = Sender(queue=self.ingest, objects=self.objects, bucket=BUCKET, threads=1, drop_identity="etag")
        sender.send(shipments, self.lines.extend)
        self.ingest.send_many([self._announcement(each) for each in shipments if each.upload and not each.body])

    def work(self, *, rolled_up: bool = True) -> None:
        """Meter everything in the queue."""
        while messages := self.ingest.receive(10):
            result = self._aggregator.handle([message.delivery for message in messages], self.deadline(60))
            assert result.retry == ()
            self.ingest.delete_many([message.receipt for message in messages])
        if rolled_up:
            self.roll_up()

    def verifier(self, *feeders: MemoryQueue) -> Verifier:
        return Verifier(
            items=self.items,
            objects=self.objects,
            view=self.parts().jobs().view,
            ingest=self.ingest,
            dead_letters=self.dead,
            clock=self.clock,
            drops=DropIds(objects=self.objects, bucket=BUCKET),
            marker_life_s=SETTINGS.marker_life_s,
            feeders=feeders,
        )

    def verify(self, *, against_manifest: bool = True) -> Verification:
        sent = SentBatches.collect(self.lines) if against_manifest else None
        return self.verifier().verify(from_s=0, to_s=NOW_S + 86_400, sent=sent)

    def accepted(self, number: int = 0) -> str:
        markers = self.items.scan(Table.LEDGER)
        return sorted(str(i["pk"])[2:] for i in markers if i["sk"] == "M" and i["verdict"] == "accepted")[number]

    def _announcement(self, shipment: Shipment) -> str:
        assert shipment.upload is not None
        info = self.objects.head(shipment.upload.key)
        assert info is not None
        entity = {"bucket": {"name": BUCKET}, "object": {"key": shipment.upload.key, "eTag": info.etag.strip('"')}}
        return json.dumps({"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": entity}]})


@cache
def shipments(batches: int, *, base_s: int = BASE_S, late: float = 0.1) -> list[Shipment]:
    scenario = replace(
        SCENARIOS["mixed"], records_per_batch=12, duplicates=0.15, conflicts=0.1, malformed=0.2, late=late
    )
    synthesis = Synthesis(name="mixed-7", scenario=scenario, seed=7, base_hour_s=base_s, bucket=BUCKET)
    return list(synthesis.shipments(batches))


def region(batches: int = 60) -> Region:
    made = Region()
    made.send(list(shipments(batches)))
    made.work()
    return made


def test_mixed_traffic_passes_with_each_verdict_as_sent() -> None:
    made = region(400)
    result = made.verify()
    expected = SentBatches.collect(made.lines).expected
    assert result.passed, (result.unexpected, result.differences)
    assert {verdict: getattr(result, verdict) for verdict in expected} == expected
    assert min(expected.values()) > 0
    assert result.sent == result.accepted + result.conflict + result.rejected
    assert result.promised == result.proven == result.metered


def test_progress_goes_on_while_rows_are_compared_with_the_manifest() -> None:
    made, steps = region(), list[tuple[str, int, int]]()
    sent = SentBatches.collect(made.lines)
    made.verifier().verify(from_s=0, to_s=NOW_S + 86_400, sent=sent, tell=lambda *step: steps.append(step))
    hours = [step for step in steps if step[0] == "rows by batch"]
    assert [done for _, done, _ in hours] == list(range(hours[0][2] + 1))
    assert steps[-len(hours) :] == hours


def test_records_of_a_closing_month_are_proven_under_their_own_hours() -> None:
    made = Region()
    made.items.put(Put(table=Table.LEDGER, item=Period(month="2026-10", state="closing").to_item()))
    made.send(list(shipments(60, base_s=BASE_S - 25 * DAY_S, late=0)))
    made.work()
    assert any(entry.key.corrects_s is not None for entry in usage_of(made.items))
    result = made.verify()
    assert result.passed, (result.unexpected, result.differences, result.lost, result.doubled)
    assert result.promised == result.proven == result.metered
    assert result.proven.records > 0


def test_batches_that_their_sender_may_not_send_are_rejected_and_unexpected_and_none_is_lost() -> None:
    made = Region(judged=True)
    made.send(list(shipments(60)))
    made.work()
    result = made.verify()
    assert not result.passed
    assert (result.accepted, result.conflict, result.lost, result.metered.records) == (0, 0, (), 0)
    assert result.sent == result.rejected
    assert {why for _, why in result.unexpected} == {"refused (sender_not_allowed): its sender may not send it here"}


def test_without_a_manifest_the_ledger_must_agree_with_itself() -> None:
    result = region().verify(against_manifest=False)
    assert result.passed
    assert result.sent == result.accepted + result.conflict + result.rejected > 0


def test_what_is_still_in_the_queue_is_in_flight_and_nothing_is_settled() -> None:
    made = Region()
    made.send(list(shipments(20)))
    result = made.verify()
    assert (result.stable, result.passed, result.lost) == (False, False, ())
    assert result.in_flight == result.sent


def test_what_is_in_the_dead_letter_queue_without_a_verdict_is_dead_and_not_lost() -> None:
    made = Region()
    made.send(list(shipments(20)))
    bodies = [message.delivery.body for message in made.ingest.receive(10)]
    made.dead.send_many(bodies)
    made.ingest.delete_many([])
    made.clock.sleep_ms(60_000)
    made.work()
    result = made.verify()
    assert (result.dead, result.passed) == (0, True), "each of them has its verdict by another copy"


@pytest.fixture
def made() -> Region:
    return region()


def test_a_batch_that_never_arrived_is_lost(made: Region) -> None:
    made.lines.append(SentBatch(batch_id="never", records=1, metered=1))
    result = made.verify()
    assert result.lost == ("never",)
    assert not result.passed


def test_a_dead_batch_is_counted_as_dead_and_fails(made: Region) -> None:
    made.lines.append(SentBatch(batch_id="poison", records=1, metered=1))
    made.dead.send_many(
        [json.dumps({"schema": "metering.batch/1", "batch_id": "poison", "record_count": 1, "records": []})]
    )
    result = made.verify()
    assert (result.dead, result.lost, result.stable, result.passed) == (1, (), True, False)


def test_a_marker_that_is_gone_makes_its_batch_lost(made: Region) -> None:
    batch_id = made.accepted()
    made.items.delete(Delete(table=Table.LEDGER, key=marker_key(batch_id)))
    result = made.verify()
    assert batch_id in result.lost
    assert not result.passed


def test_rows_that_are_gone_make_their_batches_lost(made: Region) -> None:
    [pointer, *_] = pointers(made)
    made.items.delete(Delete(table=Table.LEDGER, key=pointer.key))
    result = made.verify()
    assert result.lost
    assert any(difference.between == "usage/rows" for difference in result.differences)


def test_rows_that_are_visible_twice_make_their_batches_doubled(made: Region) -> None:
    [pointer, *_] = pointers(made)
    made.items.put(Put(table=Table.LEDGER, item=replace(pointer, commit_id="again").to_item()))
    result = made.verify()
    assert result.doubled
    assert not result.lost


@pytest.mark.parametrize("size", [1, -1])
def test_a_usage_item_that_is_wrong_by_one_byte_is_named(made: Region, size: int) -> None:
    entry = usage_of(made.items)[0]
    change(made.items, entry, size)
    [difference] = made.verify().differences
    assert difference.between == "usage/rows"
    assert difference.expected.bytes - difference.found.bytes == size
    assert difference.key == entry.key


def test_a_marker_that_says_other_bytes_than_were_sent_is_unexpected(made: Region) -> None:
    made.lines = [
        replace(line, totals={key: total._replace(bytes=total.bytes + 1) for key, total in line.totals.items()})
        if line.batch_id == made.accepted()
        else line
        for line in made.lines
    ]
    result = made.verify()
    assert [name for name, _ in result.unexpected] == [made.accepted()]
    assert result.lost == (made.accepted(),)


def test_a_right_batch_that_was_rejected_is_unexpected(made: Region) -> None:
    rejected = next(line for line in made.lines if line.expect == "rejected" and line.batch_id)
    made.lines = [replace(line, expect="accepted") if line is rejected else line for line in made.lines]
    assert [name for name, _ in made.verify().unexpected] == [rejected.batch_id]


def test_what_waits_for_the_roll_up_is_not_settled_and_no_difference() -> None:
    made = region(0)
    made.send(list(shipments(20)))
    made.work(rolled_up=False)
    result = made.verify()
    assert not result.stable
    assert (result.differences, result.lost, result.doubled) == ((), (), ())


def test_usage_that_never_settles_is_not_proven_although_nothing_waits(made: Region) -> None:
    entry = usage_of(made.items)[0]
    # An unfinished run: this item already has the run's bookings, but no file has them yet.
    made.items.update(Update(table=Table.USAGE, key=entry.item_key, set={newest_run_of(0): 10**9}))
    result = made.verify()
    assert (result.stable, result.passed) == (False, False)
    assert result.unstable == (entry.key.hour_s,)
    assert (result.differences, result.lost, result.doubled) == ((), (), ())


class _Meanwhile(ManualClock):
    """A clock that runs an action once, in the sleep that reaches the action's time."""

    def __init__(self, now_ms: int) -> None:
        super().__init__(now_ms)
        self.at_ms = 0
        self.happens: Callable[[], object] = int

    def sleep_ms(self, duration_ms: int) -> None:
        super().sleep_ms(duration_ms)
        if self.at_ms and self.now_ms() >= self.at_ms:
            self.at_ms = 0
            self.happens()


def test_a_commit_that_waits_a_minute_for_its_roll_up_while_verify_runs_does_not_make_it_fail(made: Region) -> None:
    made.send([*shipments(70)][60:])
    made.work(rolled_up=False)
    began_ms = made.clock.now_ms()
    made.clock = clock = _Meanwhile(began_ms)
    clock.at_ms, clock.happens = began_ms + 70_000, made.roll_up
    result = made.verify()
    assert result.passed, (result.unexpected, result.differences)
    assert 70_000 <= clock.now_ms() - began_ms < 75_000


def test_a_commit_that_never_leaves_makes_it_fail_after_two_minutes(made: Region) -> None:
    made.send([*shipments(70)][60:])
    made.work(rolled_up=False)
    began_ms = made.clock.now_ms()
    result = made.verify()
    assert (result.stable, result.passed) == (False, False)
    assert 120_000 <= made.clock.now_ms() - began_ms < 135_000


def test_where_more_keeps_coming_it_gives_up_after_some_seconds(made: Region) -> None:
    made.ingest.send_many([shipments(70)[60].body])
    began_ms = made.clock.now_ms()
    result = made.verify()
    assert (result.stable, result.passed) == (False, False)
    assert made.clock.now_ms() - began_ms < 15_000


def test_verification_leaves_the_dead_letter_queue_as_it_was(made: Region) -> None:
    made.dead.send_many(["not json"])
    made.verify()
    assert made.dead.depth().visible == 1


def test_waiting_ends_when_the_queue_is_empty_and_after_its_time_if_it_is_not() -> None:
    made = Region()
    verifier = made.verifier()
    assert verifier.wait(60)
    made.ingest.send_many(["x"])
    began_ms = made.clock.now_ms()
    assert not verifier.wait(60)
    assert made.clock.now_ms() - began_ms >= 60_000


def test_waiting_also_takes_until_no_log_file_waits_and_some_seconds_of_quiet() -> None:
    made = Region()
    events = MemoryQueue(made.clock)
    verifier = made.verifier(events)
    began_ms = made.clock.now_ms()
    assert verifier.wait(60)
    assert 3_000 < made.clock.now_ms() - began_ms < 10_000
    events.send_many(["an event"])
    assert not verifier.wait(60)


def pointers(made: Region) -> list[Pointer]:
    found = [item for item in made.items.scan(Table.LEDGER) if str(item["pk"]).startswith("H#")]
    return sorted((Pointer.from_item(item) for item in found), key=lambda pointer: pointer.key)


CHECKED_S = HOUR + HOUR_S


class PlannedRegion:
    """Plans of log files in a bucket, and markers of the plans' batches."""

    def __init__(self) -> None:
        self.items = MemoryItemStore()
        self.objects = MemoryObjectStore(ManualClock(CHECKED_S * 1000))
        self.markers: dict[str, Marker] = {}

    def put(self, made: Plan, *, metered_bytes: int = 600, refused: int = 0, verdict: str = "accepted") -> None:
        self.objects.put(made.key, made.to_json(), if_absent=True)
        for part in made.parts:
            self.markers[part.batch_id] = marker_of(
                part.batch_id,
                verdict,
                records=2,
                metered=2 - refused if verdict == "accepted" else 0,
                refused=refused,
                hours={HOUR: Total(metered_bytes, 2)} if verdict == "accepted" else {},
                decided_at_ms=CHECKED_S * 1000,
                expires_at_s=CHECKED_S + DAY_S,
                reason="" if verdict == "accepted" else "invalid_json",
            )

    def check(self, *, from_s: int = 0, to_s: int = CHECKED_S + DAY_S) -> LogTotals:
        return PlanCheck(
            items=self.items,
            objects=self.objects,
            markers=self.markers,
            now_s=CHECKED_S,
            markers_since_s=CHECKED_S - 50 * DAY_S,
        ).run(from_s=from_s, to_s=to_s)


def test_plans_whose_bytes_are_those_of_their_batches_add_up() -> None:
    region = PlannedRegion()
    for number in range(700):
        region.put(plan(HOUR - number * SLOT_S))
    found = region.check()
    assert (found.plans, found.lines, found.differences) == (700, 7_000, ())
    assert found.metered_bytes == found.accepted_bytes == 700 * 600
    assert not found.left_out


def test_a_region_without_plans_has_none() -> None:
    assert PlannedRegion().check() == LogTotals()


def test_lines_that_became_nothing_are_named() -> None:
    region = PlannedRegion()
    made = plan(HOUR)
    region.put(replace(made, balance=replace(made.balance, lines=11)))
    [(name, problem)] = region.check().differences
    assert name == made.identity
    assert "do not add up" in problem


def test_bytes_of_lines_that_are_in_no_batch_are_named() -> None:
    region = PlannedRegion()
    made = plan(HOUR)
    region.put(replace(made, parts=(made.parts[0]._replace(bytes=599),)), metered_bytes=599)
    assert region.check().differences == ((made.identity, "its lines have 600 metered bytes, its batches 599"),)


def test_batches_have_the_metered_bytes_and_those_that_were_processed() -> None:
    region = PlannedRegion()
    made = plan(HOUR)
    balance = replace(made.balance, processed=1, processed_bytes=50)
    region.put(replace(made, balance=balance, parts=(made.parts[0]._replace(bytes=650),)), metered_bytes=650)
    found = region.check()
    assert (found.metered_bytes, found.processed_bytes, found.accepted_bytes, found.differences) == (600, 50, 650, ())
    region.put(replace(plan(HOUR, number=1), balance=balance))
    [(_, problem)] = region.check().differences
    assert problem == "its lines have 650 metered bytes, its batches 600"


def test_a_batch_that_is_metered_with_other_bytes_is_named() -> None:
    region = PlannedRegion()
    made = plan(HOUR)
    region.put(made, metered_bytes=601)
    assert region.check().differences == ((made.parts[0].batch_id, "600 bytes were planned, 601 are metered"),)


def test_a_batch_without_a_verdict_is_named_unless_it_is_young_or_its_marker_is_too_old() -> None:
    region = PlannedRegion()
    times = {"young": CHECKED_S - 60, "lost": CHECKED_S - HOUR_S, "aged": CHECKED_S - 51 * DAY_S}
    for number, planned_s in enumerate(times.values()):
        region.put(plan(HOUR, number=number, planned_s=planned_s))
    region.markers.clear()
    assert region.check().differences == (
        (plan(HOUR, number=1).parts[0].batch_id, "it was planned, and has no verdict"),
    )


def test_a_batch_that_was_accepted_after_the_markers_were_read_is_no_difference() -> None:
    region = PlannedRegion()
    region.put(plan(HOUR))
    [marker] = region.markers.values()
    region.items.put(Put(table=Table.LEDGER, item=marker.to_item()))
    region.markers.clear()
    found = region.check()
    assert (found.differences, found.accepted_bytes) == ((), 600)


@pytest.mark.parametrize(("verdict", "refused", "refused_bytes"), [("rejected", 0, 600), ("accepted", 1, 100)])
def test_what_is_in_quarantine_is_no_difference(verdict: str, refused: int, refused_bytes: int) -> None:
    region = PlannedRegion()
    region.put(plan(HOUR), verdict=verdict, refused=refused, metered_bytes=500)
    found = region.check()
    assert (found.refused_bytes, found.differences) == (refused_bytes, ())
    assert found.metered_bytes == found.accepted_bytes + found.refused_bytes


def test_a_range_takes_the_plans_of_its_slots_and_none_without_a_slot() -> None:
    region = PlannedRegion()
    region.put(plan(HOUR - 3 * HOUR_S))
    region.put(plan(HOUR))
    region.put(plan(HOUR + 2 * HOUR_S, log="fl-0b"))
    region.put(plan(None, log="", kind="mapped"))
    assert region.check().plans == 4
    assert region.check(from_s=HOUR, to_s=HOUR + HOUR_S).plans == 1


def test_a_damaged_plan_is_named_and_the_others_are_checked() -> None:
    region = PlannedRegion()
    region.put(plan(HOUR))
    damaged = plan(HOUR + SLOT_S).key
    region.objects.put(damaged, b"{}", if_absent=True)
    found = region.check()
    assert found.plans == 1
    assert [name for name, _problem in found.differences] == [damaged]


def test_more_plans_than_one_verification_reads_are_left_out_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    region = PlannedRegion()
    for number in range(3):
        region.put(plan(HOUR + number * SLOT_S))
    monkeypatch.setattr(verifier, "MOST_PLANS", 2)
    found = region.check()
    assert (found.plans, found.left_out) == (2, True)


def test_a_difference_of_a_log_file_fails_the_verification() -> None:
    wrong = Verification(logs=LogTotals(differences=((LOG, "wrong"),)))
    assert Verification(logs=LogTotals(plans=1)).passed
    assert not sum_verifications((Verification(), wrong)).passed


def key_to(place: str) -> UsageKey:
    return UsageKey(3_600, "1", UsageType("t"), Service("s"), "a", place)


def sent(totals: Mapping[UsageKey, Total]) -> SentContent:
    all_of_it = sum_totals(totals.values())
    return SentContent(
        batch_id="b",
        rejected=False,
        records=all_of_it.records,
        metered=all_of_it.records,
        bytes=all_of_it.bytes,
        unaccounted=fingerprint(totals.items()),
    )


DIFFERENCE = Difference(between="markers/rows", hour_s=3_600, batch_id="a", expected=Total(2, 1), found=ZERO)
FULL = Verification(
    stable=False,
    sent=1,
    accepted=2,
    duplicate=3,
    conflict=4,
    rejected=5,
    in_flight=6,
    dead=7,
    lost=("a",),
    doubled=("b",),
    unexpected=(("c", "wrong"),),
    differences=(DIFFERENCE,),
    unstable=(7_200,),
    keys=8,
    metered=Total(9, 1),
    promised=Total(10, 2),
    proven=Total(11, 3),
    logs=LogTotals(
        plans=1,
        lines=2,
        metered_bytes=3,
        processed_bytes=6,
        accepted_bytes=4,
        refused_bytes=5,
        differences=(("d", "wrong"),),
        left_out=True,
    ),
)


def test_a_sum_with_nothing_is_the_same_so_no_field_is_forgotten() -> None:
    assert all(getattr(FULL, field.name) != field.default for field in fields(Verification))
    assert all(getattr(FULL.logs, field.name) != field.default for field in fields(LogTotals))
    assert sum_verifications([Verification(), FULL]) == sum_verifications([FULL, Verification()]) == FULL


def test_counts_and_names_add_up_and_unstable_hours_are_named_once_in_order() -> None:
    other = Verification(accepted=3, lost=("z", "a"), unstable=(3_600, 7_200), metered=Total(2**63, 5))
    total = sum_verifications([FULL, other])
    assert (total.accepted, total.lost, total.unstable) == (5, ("a", "z", "a"), (3_600, 7_200))
    assert total.metered == Total(2**63 + 9, 6)
    assert not total.stable


def test_of_very_many_differences_the_first_are_kept() -> None:
    many = Verification(differences=(DIFFERENCE,) * (MAX_DIFFERENCES - 1))
    last = Verification(differences=(DIFFERENCE, *many.differences))
    assert sum_verifications([many, last]).differences == (DIFFERENCE,) * MAX_DIFFERENCES


def test_a_batch_with_records_in_an_hour_that_moves_is_judged_by_nobody() -> None:
    key = UsageKey(3_600, "1", UsageType("t"), Service("s"), "a", "b")
    content = sent({key: Total(5, 1)})
    markers = {"b": cast("Marker", SimpleNamespace(hours={3_600: Total(5, 1)}))}
    assert judge_contents({"b": content}, markers, []).lost == ("b",)
    assert judge_contents({"b": content}, markers, [3_600]).lost == ()
    content.unaccounted.add(key, Total(-10, -2))
    assert judge_contents({"b": content}, markers, []).doubled == ("b",)
    assert judge_contents({"b": content}, markers, [3_600]).doubled == ()


@pytest.mark.parametrize(("found", "lost", "doubled"), [
    ({}, True, False),
    ({"a": Total(5, 1), "b": Total(7, 1)}, False, False),
    ({"a": Total(5, 1)}, True, False),
    ({"a": Total(10, 2), "b": Total(7, 1)}, False, True),
    ({"a": Total(5, 2), "b": Total(6, 1)}, True, True),
    ({"a": Total(7, 1), "b": Total(5, 1)}, True, True),
    ({"a": Total(5, 1), "c": Total(7, 1)}, True, True),
], ids=["nothing", "all", "one", "one twice", "bytes fewer, records more", "two exchanged", "another key"])  # fmt: skip
def test_what_is_visible_of_a_batch_was_sent_key_by_key(found: dict[str, Total], lost: bool, doubled: bool) -> None:
    content = sent({key_to("a"): Total(5, 1), key_to("b"): Total(7, 1)})
    for name, total in found.items():
        content.unaccounted.add(key_to(name), ZERO.minus(total))
    markers = {"b": cast("Marker", SimpleNamespace(hours={3_600: Total(12, 2)}))}
    judged = judge_contents({"b": content}, markers, [])
    assert (bool(judged.lost), bool(judged.doubled)) == (lost, doubled)


def held_bytes(*, keys: int) -> int:
    """Memory that a manifest of 300 batches uses, in bytes."""

    def lines() -> Iterator[SentBatch]:
        for number in range(300):
            totals = {
                UsageKey(3_600 + number, f"{number}", UsageType("t"), Service("s"), "a", f"to-{n}"): Total(n, 1)
                for n in range(keys)
            }
            yield SentBatch(batch_id=f"b-{number}", records=keys, metered=keys, totals=totals)

    tracemalloc.start()
    try:
        held = SentBatches.collect(lines())
        assert len(held.contents) == 300
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_a_manifest_takes_as_much_memory_with_many_usage_keys_a_batch_as_with_one() -> None:
    assert held_bytes(keys=60) < 1.2 * held_bytes(keys=1)
