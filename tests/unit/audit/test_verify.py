"""Verification over a region in memory, metered by the production aggregator from real messages and objects.

It passes when all is well, and it fails, naming what is wrong, for each way in which something can be wrong.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest

from metering.audit.verification import SentBatch, SentBatches, Verification
from metering.audit.verifier import Verifier
from metering.lake.parquet.reader import ParquetLakeReader
from metering.lake.view import LakeView
from metering.ledger.booked_hours import Pointer
from metering.ledger.markers import marker_key
from metering.ledger.periods import Period
from metering.ledger.usage.items import newest_run_of
from metering.replay.scenarios import SCENARIOS
from metering.replay.sender import Sender
from metering.replay.synthesis import Shipment, Synthesis
from metering.stores.writes import Delete, Put, Table, Update
from metering.units import DAY_S
from metering.wiring.aggregator import build_aggregator
from tests.support.memory.clock import ManualClock
from tests.support.memory.queues import MemoryQueue
from tests.support.region import MemoryRegion
from tests.support.senders_world import SERVICES
from tests.support.stage import settings
from tests.support.usage_items import change, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable

BASE_S = 1_795_525_200
NOW_S = BASE_S + 4_000
BUCKET = "metering-data"
SETTINGS = settings(data_bucket=BUCKET)


class Region(MemoryRegion):
    """A region in memory: what producers send goes through the real reader, codec and aggregator."""

    def __init__(self, *, judged: bool = False) -> None:
        super().__init__(now_s=NOW_S, settings=SETTINGS)
        self.dead = MemoryQueue(self.clock, name="dead")
        self.ingest = MemoryQueue(self.clock, name="ingest")
        self.lines: list[SentBatch] = []
        self._aggregator = build_aggregator(self.parts(), self.metrics, SERVICES if judged else None)

    def send(self, shipments: list[Shipment]) -> None:
        """As a replay does; objects in drop/ announce themselves as S3 would."""
        sender = Sender(queue=self.ingest, objects=self.objects, bucket=BUCKET, threads=1)
        sender.send(shipments, self.lines.extend)
        self.ingest.send_many([self._announcement(each) for each in shipments if each.upload and not each.body])

    def work(self, *, rolled_up: bool = True) -> None:
        """Meter everything that is in the queue."""
        while messages := self.ingest.receive(10):
            result = self._aggregator.handle([message.delivery for message in messages], self.deadline(60))
            assert result.retry == ()
            self.ingest.delete_many([message.receipt for message in messages])
        if rolled_up:
            self.roll_up()

    def verify(self, *, against_manifest: bool = True) -> Verification:
        verifier = Verifier(
            items=self.items,
            objects=self.objects,
            view=self.parts().jobs().view,
            ingest=self.ingest,
            dead_letters=self.dead,
            clock=self.clock,
            bucket=BUCKET,
            marker_life_s=SETTINGS.marker_life_s,
        )
        sent = SentBatches.collect(self.lines) if against_manifest else None
        return verifier.verify(from_s=0, to_s=NOW_S + 86_400, sent=sent)

    def accepted(self, number: int = 0) -> str:
        """Id of an accepted batch."""
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


def test_a_batch_that_never_arrived_is_lost() -> None:
    made = region()
    made.lines.append(SentBatch(batch_id="never", records=1, metered=1))
    result = made.verify()
    assert result.lost == ("never",)
    assert not result.passed


def test_a_dead_batch_is_counted_as_dead_and_fails() -> None:
    made = region()
    made.lines.append(SentBatch(batch_id="poison", records=1, metered=1))
    made.dead.send_many(
        [json.dumps({"schema": "metering.batch/1", "batch_id": "poison", "record_count": 1, "records": []})]
    )
    result = made.verify()
    assert (result.dead, result.lost, result.stable, result.passed) == (1, (), True, False)


def test_a_marker_that_is_gone_makes_its_batch_lost() -> None:
    made = region()
    batch_id = made.accepted()
    made.items.delete(Delete(table=Table.LEDGER, key=marker_key(batch_id)))
    result = made.verify()
    assert batch_id in result.lost
    assert not result.passed


def test_rows_that_are_gone_make_their_batches_lost() -> None:
    made = region()
    [pointer, *_] = pointers(made)
    made.items.delete(Delete(table=Table.LEDGER, key=pointer.key))
    result = made.verify()
    assert result.lost
    assert any(difference.between == "usage/rows" for difference in result.differences)


def test_rows_that_are_visible_twice_make_their_batches_doubled() -> None:
    made = region()
    [pointer, *_] = pointers(made)
    made.items.put(Put(table=Table.LEDGER, item=replace(pointer, commit_id="again").to_item()))
    result = made.verify()
    assert result.doubled
    assert not result.lost


@pytest.mark.parametrize("size", [1, -1])
def test_a_usage_item_that_is_wrong_by_one_byte_is_named(size: int) -> None:
    made = region()
    entry = usage_of(made.items)[0]
    change(made.items, entry, size)
    [difference] = made.verify().differences
    assert difference.between == "usage/rows"
    assert difference.expected.bytes - difference.found.bytes == size
    assert difference.key == entry.key


def test_a_marker_that_says_other_bytes_than_were_sent_is_unexpected() -> None:
    made = region()
    made.lines = [
        replace(line, totals={key: total._replace(bytes=total.bytes + 1) for key, total in line.totals.items()})
        if line.batch_id == made.accepted()
        else line
        for line in made.lines
    ]
    result = made.verify()
    assert [name for name, _ in result.unexpected] == [made.accepted()]
    assert result.lost == (made.accepted(),)


def test_a_right_batch_that_was_rejected_is_unexpected() -> None:
    made = region()
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


def test_usage_that_never_settles_is_not_proven_although_nothing_waits() -> None:
    made = region()
    entry = usage_of(made.items)[0]
    # A run that is not done: what it books is in this item, and in no file yet.
    made.items.update(Update(table=Table.USAGE, key=entry.item_key, set={newest_run_of(0): 10**9}))
    result = made.verify()
    assert (result.stable, result.passed) == (False, False)
    assert result.unstable == (entry.key.hour_s,)
    assert (result.differences, result.lost, result.doubled) == ((), (), ())


class _Meanwhile(ManualClock):
    """A clock that lets something happen once, when its time has come while somebody sleeps."""

    def __init__(self, now_ms: int) -> None:
        super().__init__(now_ms)
        self.at_ms = 0
        self.happens: Callable[[], object] = int

    def sleep_ms(self, duration_ms: int) -> None:
        super().sleep_ms(duration_ms)
        if self.at_ms and self.now_ms() >= self.at_ms:
            self.at_ms = 0
            self.happens()


def test_a_commit_that_waits_a_minute_for_its_roll_up_while_verify_runs_does_not_make_it_fail() -> None:
    made = region()
    made.send([*shipments(70)][60:])
    made.work(rolled_up=False)
    began_ms = made.clock.now_ms()
    made.clock = clock = _Meanwhile(began_ms)
    clock.at_ms, clock.happens = began_ms + 70_000, made.roll_up
    result = made.verify()
    assert result.passed, (result.unexpected, result.differences)
    assert 70_000 <= clock.now_ms() - began_ms < 75_000


def test_a_commit_that_never_leaves_makes_it_fail_after_two_minutes() -> None:
    made = region()
    made.send([*shipments(70)][60:])
    made.work(rolled_up=False)
    began_ms = made.clock.now_ms()
    result = made.verify()
    assert (result.stable, result.passed) == (False, False)
    assert 120_000 <= made.clock.now_ms() - began_ms < 135_000


def test_where_more_keeps_coming_it_gives_up_after_some_seconds() -> None:
    made = region()
    made.ingest.send_many([shipments(70)[60].body])
    began_ms = made.clock.now_ms()
    result = made.verify()
    assert (result.stable, result.passed) == (False, False)
    assert made.clock.now_ms() - began_ms < 15_000


def test_verification_leaves_the_dead_letter_queue_as_it_was() -> None:
    made = region()
    made.dead.send_many(["not json"])
    made.verify()
    assert made.dead.depth().visible == 1


def test_waiting_ends_when_the_queue_is_empty_and_after_its_time_if_it_is_not() -> None:
    made = Region()
    verifier = Verifier(
        items=made.items,
        objects=made.objects,
        view=LakeView(
            items=made.items, objects=made.objects, reader=ParquetLakeReader(made.objects), shards=SETTINGS.shards
        ),
        ingest=made.ingest,
        dead_letters=made.dead,
        clock=made.clock,
        bucket=BUCKET,
        marker_life_s=SETTINGS.marker_life_s,
    )
    assert verifier.wait(60)
    made.ingest.send_many(["x"])
    began_ms = made.clock.now_ms()
    assert not verifier.wait(60)
    assert made.clock.now_ms() - began_ms >= 60_000


def test_waiting_also_takes_until_no_log_file_waits_and_some_seconds_of_quiet() -> None:
    made = Region()
    events = MemoryQueue(made.clock)
    verifier = Verifier(
        items=made.items,
        objects=made.objects,
        view=made.parts().jobs().view,
        ingest=made.ingest,
        dead_letters=made.dead,
        clock=made.clock,
        bucket=BUCKET,
        marker_life_s=SETTINGS.marker_life_s,
        feeders=(events,),
    )
    began_ms = made.clock.now_ms()
    assert verifier.wait(60)
    assert 3_000 < made.clock.now_ms() - began_ms < 10_000
    events.send_many(["an event"])
    assert not verifier.wait(60)


def pointers(made: Region) -> list[Pointer]:
    """Pointers of all hours."""
    found = [item for item in made.items.scan(Table.LEDGER) if str(item["pk"]).startswith("H#")]
    return sorted((Pointer.from_item(item) for item in found), key=lambda pointer: pointer.key)
