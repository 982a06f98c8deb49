"""Orphans: fenced first, judged once when they are old enough, and again once a day."""

from dataclasses import replace

import pytest

from metering.errors import LedgerCorruptError, UnavailableError
from metering.ledger.commits import CommitRecord, commit_key
from metering.ledger.notes.lake import ORPHANS_KEY, OrphanPasses
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S
from tests.support.lake_world import NOW_S, World, record

LATE = NOW_S - 20 * DAY_S


def world_with_traffic() -> World:
    world = World()
    world.send([record(5), record(7)], [record(11, start_s=LATE)])
    world.send([record(13), record(17, start_s=LATE)])
    return world


def leave(world: World, number: int, date: str = "2026-11-24") -> str:
    """An object of a commit that was never made."""
    key = f"staging/{date}/{number:032x}.parquet"
    world.objects.put(key, b"left behind", if_absent=True)
    return key


def passes(world: World) -> OrphanPasses:
    item = world.items.peek(Table.LEDGER, ORPHANS_KEY)
    return OrphanPasses() if item is None else OrphanPasses.from_item(item)


def judged(world: World, *, whole: bool = False, seconds: int = 900) -> int:
    """Commits that a call reads."""
    calls: list[str] = []
    world.items.on_call = calls.append
    world.jobs.orphans.run(world.deadline(seconds), whole=whole)
    world.items.on_call = lambda _call: None
    return calls.count("items.get_many") + calls.count("items.get_many.next")


def test_orphans_are_fenced_before_they_are_deleted() -> None:
    world = world_with_traffic()
    orphan = "f" * 32
    for key in (
        f"staging/2026-11-24/{orphan}.parquet",
        f"staging/2026-11-24/{orphan}.wal",
        f"quarantine/2026-11-24/{orphan}.ndjson",
    ):
        world.objects.put(key, b"left behind", if_absent=True)
    kept = {key for key in world.objects.keys("") if orphan not in key}
    assert world.jobs.orphans.run(world.deadline()) == 0
    world.clock.advance_s(HOUR_S)
    assert world.jobs.orphans.run(world.deadline()) == 3
    assert set(world.objects.keys()) == kept
    fence = world.items.peek(Table.LEDGER, commit_key(orphan))
    assert fence is not None
    assert CommitRecord.from_item(fence).state == "aborted"


def test_an_orphan_whose_fence_has_no_sure_outcome_is_kept() -> None:
    world = World()
    key = f"staging/2026-11-24/{'e' * 32}.parquet"
    world.objects.put(key, b"left behind", if_absent=True)
    world.clock.advance_s(HOUR_S)
    lost = 0

    def lose(call: str) -> None:
        nonlocal lost
        lost += call == "items.put"
        if lost == 1:
            raise UnavailableError("items.put", "no reply")

    world.items.on_reply = lose
    assert world.jobs.orphans.run(world.deadline()) == 0
    assert world.objects.keys("staging/") == (key,)
    # The next call judges it again, not a day later: by then the fence is certain.
    assert world.jobs.orphans.run(world.deadline()) == 1


def test_quarantine_older_than_forty_days_is_kept_although_its_commit_has_expired() -> None:
    world = World()
    young, old = "a" * 32, "b" * 32
    world.objects.put(f"quarantine/2026-11-24/{old}.ndjson", b"{}", if_absent=True)
    world.clock.advance_s(41 * DAY_S)
    world.objects.put(f"quarantine/2027-01-04/{young}.ndjson", b"{}", if_absent=True)
    world.clock.advance_s(2 * HOUR_S)
    assert world.jobs.orphans.run(world.deadline()) == 1
    assert world.objects.keys("quarantine/") == (f"quarantine/2026-11-24/{old}.ndjson",)


def test_staging_that_landed_again_after_its_cleaning_goes() -> None:
    world = world_with_traffic()
    keys = world.objects.keys("staging/")
    bodies = {key: world.objects.get(key) for key in keys}
    world.compact_all()
    world.clock.advance_s(DAY_S)
    world.jobs.cleaner.run(world.deadline())
    for key, body in bodies.items():
        world.objects.put(key, body, if_absent=True)
    world.clock.advance_s(HOUR_S)
    assert world.jobs.orphans.run(world.deadline()) == len(bodies)


def test_an_object_is_judged_once_when_it_is_old_enough() -> None:
    world = world_with_traffic()
    assert judged(world) == 0
    world.clock.advance_s(HOUR_S + 1)
    assert judged(world) == 2
    world.send([record(19)])
    world.clock.advance_s(HOUR_S - 1)
    assert judged(world) == 0
    world.clock.advance_s(1)
    assert judged(world) == 1
    assert judged(world) == 0


def test_an_orphan_is_gone_two_hours_after_it_was_left() -> None:
    world = World()
    world.jobs.orphans.run(world.deadline())
    for number in range(40):
        world.clock.advance_s(7 * MINUTE_S)
        leave(world, number)
        world.jobs.orphans.run(world.deadline())
        oldest_s = min(world.objects.head(key).modified_s for key in world.objects.keys("staging/"))  # type: ignore[union-attr]  # it is there
        assert world.clock.now_ms() // 1000 - oldest_s <= 2 * HOUR_S + 7 * MINUTE_S


def test_what_landed_behind_the_cursor_goes_within_a_day() -> None:
    world = World()
    key = leave(world, 1)
    now_s = world.clock.now_ms() // 1000
    world.items.put(Put(table=Table.LEDGER, item=OrphanPasses(seen_to_s=now_s + 1, whole_s=now_s).to_item()))
    for _ in range(23):
        world.clock.advance_s(HOUR_S)
        assert world.jobs.orphans.run(world.deadline()) == 0
    assert world.objects.keys("staging/") == (key,)
    world.clock.advance_s(HOUR_S)
    assert world.jobs.orphans.run(world.deadline()) == 1


def test_a_whole_pass_can_be_asked_for() -> None:
    world = world_with_traffic()
    world.clock.advance_s(HOUR_S)
    assert judged(world) == 2
    assert judged(world) == 0
    assert judged(world, whole=True) == 2


def test_a_pass_that_is_cut_short_goes_on_where_it_stopped() -> None:
    world = World()
    for number in range(250):
        leave(world, number)
    world.clock.advance_s(HOUR_S)
    began_s = world.clock.now_ms() // 1000
    # Each call has time for one block of 100 commits.
    slow = replace(world.jobs.orphans, reserve_ms=10_000_000)
    for left in (150, 50):
        assert slow.run(world.deadline()) == 100
        assert len(world.objects.keys("staging/")) == left
        assert passes(world).began_s == began_s
        world.clock.advance_s(MINUTE_S)
    assert slow.run(world.deadline()) == 50
    assert passes(world) == OrphanPasses(seen_to_s=began_s - HOUR_S, whole_s=began_s)


def test_a_commit_that_cannot_be_read_is_told_at_each_call_and_hinders_no_other() -> None:
    world = world_with_traffic()
    broken = world.objects.keys("staging/")[0].split("/")[2].removesuffix(".parquet")
    world.items.put(Put(table=Table.LEDGER, item={**commit_key(broken)._asdict(), "state": "lost"}))
    orphan = leave(world, 1)
    world.clock.advance_s(HOUR_S)
    for _ in range(2):
        with pytest.raises(LedgerCorruptError, match=broken):
            world.jobs.orphans.run(world.deadline())
    assert orphan not in world.objects.keys("staging/")
    assert len(world.objects.keys("staging/")) == 2
