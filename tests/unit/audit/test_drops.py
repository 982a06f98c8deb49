"""Objects below `drop/` whose S3 event was lost are found by a listing, and announced again."""

from dataclasses import replace
from threading import Barrier
from typing import Self

import pytest

from metering.audit import drops
from metering.audit.drops import NAMED, PASS_EVERY_S, SETTLES_S, DropCheck, announcement
from metering.intake.batches import Claim, NoBatch
from metering.intake.dropped import DropIds
from metering.intake.envelopes import drop_batch_id, read_body
from metering.ledger.notes.access import refused_sender_item
from metering.ledger.notes.checks import DroppedObjects, LostDrop
from metering.ledger.notes.watch import Completeness, Hold, Holder
from metering.stores.clock import Deadline
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S
from tests.support.memory.clock import DeadlineAt, EndlessTime, ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.queues import MemoryQueue
from tests.support.verdicts import quarantined
from tests.support.watched import WatchedRegion
from tests.unit.operations.doctor.bench import decided

START_S = 1_795_000_000
BUCKET = "data"


class World(WatchedRegion):
    """A region whose producers put objects below `drop/`."""

    def __init__(self) -> None:
        super().__init__(now_s=START_S)
        self.calls: list[str] = []
        self.objects.on_call = self.calls.append
        self.drops = DropIds(objects=self.objects, bucket=BUCKET)
        self.watched()

    @property
    def check(self) -> DropCheck:
        return DropCheck(items=self.items, objects=self.objects, clock=self.clock, drops=self.drops)

    def watched(self, *holds: Hold) -> None:
        """Store a measurement of the watch in which `holds` hold completeness back."""
        now_s = self.clock.now_ms() // 1_000
        through_s = min([now_s, *(hold.since_s for hold in holds)])
        self.put(Completeness(through_s=through_s, held_by=holds, measured_s=now_s))

    def drop(self, name: str, *, announced: bool, verdict: str = "accepted", body: bytes = b"x") -> LostDrop:
        key = f"drop/{name}"
        etag = self.objects.upload(key, body)
        if announced:
            self.put(decided(drop_batch_id(BUCKET, key, etag), verdict, commit_id="c"))
        return LostDrop(key=key, etag=etag, put_s=self.clock.now_ms() // 1_000)

    def later(self, seconds: int) -> Self:
        self.clock.advance_s(seconds)
        self.watched()
        return self

    def registered(self) -> Self:
        """Make the stage one that refuses unregistered senders."""
        told = refused_sender_item("AROA:other", self.clock.now_ms() // 1_000)
        self.items.put(Put(table=Table.LEDGER, item=told))
        return self

    def refuse(self, dropped: LostDrop) -> None:
        """Quarantine the announcement of an object, as refused because of the announcement's sender."""
        batch = quarantined(
            "",
            content_hash="ab",
            hash_version=0,
            problems=(("sender_not_allowed", "no registered producer owns it"),),
            sender_id="AROA:s3",
            claim=Claim(batch_id=drop_batch_id(BUCKET, dropped.key, dropped.etag), content_hash="cd", hash_version=1),
        )
        self.objects.put(batch.key, batch.to_json(), if_absent=False)

    def reads_of_a_run(self, deadline: Deadline | None = None) -> int:
        self.calls.clear()
        self.run(deadline)
        return self.calls.count("objects.get")

    def run(self, deadline: Deadline | None = None) -> DroppedObjects:
        return self.check.run(deadline or EndlessTime())


@pytest.fixture
def world() -> World:
    return World()


def test_what_has_no_verdict_a_while_after_it_was_put_is_lost(world: World) -> None:
    world.drop("a.ndjson", announced=True)
    lost = world.drop("b c+d.ndjson", announced=False)
    world.drop("c.ndjson", announced=True, verdict="rejected")
    found = world.later(HOUR_S).run()
    assert (found.lost, found.count) == ((lost,), 1)
    assert found.finished_s == world.clock.now_ms() // 1_000


def test_what_may_still_be_on_its_way_is_not_judged_and_is_by_the_next_pass(world: World) -> None:
    world.later(HOUR_S)
    young = world.drop("young.ndjson", announced=False)
    world.later(SETTLES_S - 1)
    assert world.run().lost == ()
    assert world.later(PASS_EVERY_S).run().lost == (young,)


@pytest.mark.parametrize(
    "holder", [Holder.QUEUE, Holder.HELD_MESSAGES, Holder.PUT_BACK, Holder.DEAD_LETTERS, "new_one"]
)
def test_what_may_wait_in_a_queue_is_not_lost(world: World, holder: str) -> None:
    world.drop("before.ndjson", announced=True)
    world.clock.advance_s(2 * HOUR_S)
    waits = world.drop("waits.ndjson", announced=False)
    world.clock.advance_s(HOUR_S)
    world.watched(Hold(holder=holder, since_s=waits.put_s - 1))
    assert world.run().lost == ()
    assert world.later(PASS_EVERY_S).run().lost == (waits,)


@pytest.mark.parametrize("holder", [Holder.SOURCE_GAPS, Holder.LOG_GAPS, Holder.WAITING_COMMITS])
def test_what_holds_no_message_back_hides_no_lost_object(world: World, holder: Holder) -> None:
    lost = world.drop("a.ndjson", announced=False)
    world.clock.advance_s(HOUR_S)
    world.watched(Hold(holder=holder, since_s=START_S - 30 * DAY_S))
    assert world.run().lost == (lost,)


def test_an_announcement_that_is_in_quarantine_for_its_sender_is_not_lost() -> None:
    """A forbidden batch gets no marker, because a sender must not decide the batch ids of others."""
    world = World().registered()
    world.refuse(world.drop("a.ndjson", announced=False))
    assert world.later(HOUR_S).run().lost == ()
    assert world.check.look(since_s=0) == []


def test_what_is_lost_and_then_refused_is_not_lost_any_more() -> None:
    world = World().registered()
    lost = world.drop("a.ndjson", announced=False)
    assert world.later(HOUR_S).run().lost == (lost,)
    world.refuse(lost)
    assert world.run().lost == ()


def test_quarantine_is_not_read_where_nobody_is_refused(world: World) -> None:
    lost = world.drop("a.ndjson", announced=False)
    world.refuse(lost)
    assert world.later(HOUR_S).reads_of_a_run() == 0
    assert world.check.known().lost == (lost,)


def test_of_quarantine_only_what_may_tell_of_an_object_is_read_and_once() -> None:
    world = World().registered()
    for n in range(5):
        world.refuse(LostDrop(key=f"drop/before{n}", etag="ab", put_s=START_S))
    world.later(3 * DAY_S).registered()
    world.drop("a.ndjson", announced=False)
    for n in range(3):
        world.refuse(LostDrop(key=f"drop/since{n}", etag="ab", put_s=START_S))
    assert world.later(HOUR_S).reads_of_a_run() == 3
    # The pass of the day is complete, and the data that was compared with the lost object is not read again.
    assert world.later(HOUR_S).reads_of_a_run() == 0
    world.refuse(LostDrop(key="drop/later", etag="ab", put_s=START_S))
    assert world.later(MINUTE_S).reads_of_a_run() == 1
    assert world.check.known().count == 1


def test_quarantine_is_read_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World().registered()
    for n in range(8):
        world.refuse(LostDrop(key=f"drop/{n}", etag="ab", put_s=START_S))
    world.drop("a.ndjson", announced=False)
    met = Barrier(4)

    def meet(call: str) -> None:
        if call == "objects.get":
            met.wait(timeout=20)

    world.later(HOUR_S)
    world.objects.on_call = meet
    assert replace(world.check, threads=4).run(EndlessTime()).count == 1


@pytest.mark.parametrize("left_ms", [0, 30_000])
def test_without_time_to_read_quarantine_nothing_new_is_lost_and_nothing_is_forgotten(left_ms: int) -> None:
    world = World().registered()
    named = world.drop("named.ndjson", announced=False)
    assert world.later(HOUR_S).run().lost == (named,)
    world.later(PASS_EVERY_S - 2 * HOUR_S)
    refused, lost = (world.drop(name, announced=False) for name in ("refused.ndjson", "a.ndjson"))
    world.refuse(refused)
    world.later(2 * HOUR_S)
    finished_s = world.check.known().finished_s
    for _ in range(2):
        known = world.run(DeadlineAt(clock=world.clock, at_ms=world.clock.now_ms() + left_ms))
        assert (known.lost, known.after, known.finished_s) == ((named,), "", finished_s)
    known = world.later(HOUR_S).run()
    assert set(known.lost) == {named, lost}
    assert known.finished_s == world.clock.now_ms() // 1_000


def test_a_look_at_quarantine_ends_when_its_time_does() -> None:
    world = World().registered()
    for n in range(50):
        world.refuse(LostDrop(key=f"drop/{n}", etag="ab", put_s=START_S))
    world.drop("a.ndjson", announced=False)
    world.later(HOUR_S)

    def slow(call: str) -> None:
        world.calls.append(call)
        if call == "objects.get":
            world.clock.advance_s(10)

    world.objects.on_call = slow
    assert world.reads_of_a_run(DeadlineAt(clock=world.clock, at_ms=world.clock.now_ms() + 80_000)) == 5
    assert world.check.known().count == 0


def test_a_region_whose_watch_never_ran_is_not_judged(world: World) -> None:
    world.drop("a.ndjson", announced=False)
    world.clock.advance_s(DAY_S)
    bare = replace(world.check, items=MemoryItemStore())
    assert bare.run(EndlessTime()) == DroppedObjects()
    assert bare.look(since_s=0) == []


def test_a_pass_is_made_once_a_day_and_looks_at_each_object_once(world: World) -> None:
    for n in range(5):
        world.drop(f"{n}.ndjson", announced=True)
    world.later(HOUR_S).run()
    world.calls.clear()
    world.later(HOUR_S).run()
    assert world.calls == []
    second = world.later(PASS_EVERY_S).run()
    assert "objects.list" in world.calls
    assert second.from_s == START_S + HOUR_S - SETTLES_S


def test_a_lost_object_is_told_until_it_has_a_verdict(world: World) -> None:
    lost = world.drop("a.ndjson", announced=False)
    assert world.later(HOUR_S).run().count == 1
    assert world.later(HOUR_S).run().count == 1
    world.put(decided(drop_batch_id(BUCKET, lost.key, lost.etag), "accepted", commit_id="c"))
    assert world.later(MINUTE_S).run().count == 0


@pytest.mark.parametrize("found", ["checksum", "etag", ""])
def test_where_the_identity_is_the_checksum_a_verdict_by_it_or_a_refusal_by_etag_is_one(found: str) -> None:
    world = World()
    world.drops = replace(world.drops, identity="checksum")
    dropped = world.drop("a.ndjson", announced=False)
    ids = dict(zip(["etag", "checksum"], world.drops.of_object(dropped.key, dropped.etag), strict=True))
    if found:
        world.put(decided(ids[found], "rejected" if found == "etag" else "accepted", commit_id="c"))
    assert world.later(HOUR_S).run().lost == (() if found else (dropped,))
    assert world.check.look(since_s=0) == ([] if found else [dropped])


def test_an_object_that_was_replaced_or_deleted_is_no_longer_lost(world: World) -> None:
    gone = world.drop("gone.ndjson", announced=False)
    world.drop("gone.ndjson.gz", announced=True)
    world.drop("other.ndjson", announced=False)
    assert world.later(HOUR_S).run().count == 2
    world.objects.delete([gone.key])
    world.drop("other.ndjson", announced=True, body=b"other")
    assert world.later(HOUR_S).run().lost == ()


def test_a_pass_that_runs_out_of_time_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drops, "_SLICE", 2)
    world = World()
    lost = [world.drop(f"{n}.ndjson", announced=n % 2 == 0) for n in range(7)][1::2]
    world.later(HOUR_S)
    soon = DeadlineAt(clock=world.clock, at_ms=world.clock.now_ms())
    passes = [world.run(soon) for _ in range(5)]
    assert [known.upto_s > 0 for known in passes] == [True, True, True, True, False]
    assert passes[-1].lost == tuple(lost)
    assert len({known.after for known in passes}) == 5


def test_any_number_of_lost_objects_is_counted_and_found_again_after_those_that_are_named(world: World) -> None:
    all_lost = [world.drop(f"{n:04}.ndjson", announced=False) for n in range(NAMED + 7)]
    found = world.later(HOUR_S).run()
    assert (len(found.lost), found.more, found.count) == (NAMED, 7, NAMED + 7)
    for each in found.lost:
        world.put(decided(drop_batch_id(BUCKET, each.key, each.etag), "accepted", commit_id="c"))
    assert world.later(PASS_EVERY_S).run().lost == tuple(all_lost[NAMED:])


def test_people_see_all_that_is_lost_whatever_a_pass_has_seen(world: World) -> None:
    old = world.drop("old.ndjson", announced=False)
    world.later(10 * DAY_S)
    new = world.drop("new.ndjson", announced=False)
    world.later(HOUR_S)
    world.items.on_call = world.calls.append
    assert world.check.look(since_s=0) == [new, old]
    assert world.check.look(since_s=old.put_s + 1) == [new]
    assert {"items.get_many", "objects.list"} <= set(world.calls)
    assert "items.put" not in world.calls


def test_people_see_what_a_pass_named_whatever_the_watch_says_now(world: World) -> None:
    lost = world.drop("a.ndjson", announced=False)
    assert world.later(HOUR_S).run().lost == (lost,)
    world.watched(Hold(holder=Holder.DEAD_LETTERS, since_s=START_S - DAY_S))
    assert world.check.look(since_s=0) == [lost]
    assert world.check.look(since_s=lost.put_s + 1) == []


@pytest.mark.parametrize("key", ["drop/edge/a.ndjson", "drop/b c+d%20e/ü.ndjson", "drop/a&b=c.ndjson.gz"])
def test_an_object_that_is_announced_again_is_the_batch_that_it_would_have_been(key: str) -> None:
    lost = LostDrop(key=key, etag="9dd4e461268c8034f5c8564e155c67a6", put_s=START_S)
    queue = MemoryQueue(ManualClock(START_S * 1_000))
    assert World().check.announce([lost], queue) == []
    [body] = queue.bodies()
    [batch] = read_body(body, bucket=BUCKET)
    assert not isinstance(batch, NoBatch)
    assert (batch.batch_id, batch.object_key, batch.announced) == (drop_batch_id(BUCKET, key, lost.etag), key, True)
    assert batch.problems == ()


def test_what_the_queue_does_not_take_is_told() -> None:
    lost = [LostDrop(key=f"drop/{n}.ndjson", etag="ab", put_s=START_S) for n in range(3)]
    queue = MemoryQueue(ManualClock(START_S * 1_000))
    queue.refused_bodies.add(announcement(BUCKET, lost[1]))
    assert World().check.announce(lost, queue) == [lost[1]]


def test_the_note_is_read_as_it_was_written() -> None:
    note = DroppedObjects(
        lost=(LostDrop(key="drop/a", etag="ab", put_s=1),),
        more=2,
        from_s=3,
        seen_to_s=4,
        began_s=5,
        finished_s=6,
        upto_s=7,
        after="drop/a",
        refused_to_s=8,
    )
    older = {name: value for name, value in note.to_item().items() if name != "refused_to_s"}
    assert DroppedObjects.from_item(older) == replace(note, refused_to_s=0)
    assert DroppedObjects.from_item(note.to_item()) == note
