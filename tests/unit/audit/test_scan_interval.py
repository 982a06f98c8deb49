"""Sources, gaps, months and failed scans are right where scans of everything are a week apart."""

from __future__ import annotations

import random
import tracemalloc
from itertools import pairwise

import pytest

from metering.audit.sequences import SURE_MS, SeenSequences, SourceSightings
from metering.hours import month_bounds_s
from metering.ledger.notes.lake import ORPHANS_KEY, OrphanPasses
from metering.ledger.notes.reconciliation import (
    RECONCILIATION_KEY,
    SILENCE_S,
    WORK_LIST_KEY,
    Reconciliation,
    WorkList,
    silence_of,
)
from metering.operations.alarms import ALARMS
from metering.stores.writes import Delete, Put, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S
from tests.support.lake_world import NOW_S, World, record

WEEK_S = 7 * DAY_S


def now_s(world: World) -> int:
    return world.clock.now_ms() // 1_000


def note(world: World) -> Reconciliation:
    item = world.items.peek(Table.LEDGER, RECONCILIATION_KEY)
    assert item is not None
    return Reconciliation.from_item(item)


def tick(world: World) -> bool:
    """A tick of the reconciler; returns whether a scan ended in it."""
    return world.jobs.reconcile_tick.run(world.deadline()).scanned


def send(world: World, source: str = "edge") -> None:
    world.send([record(1, start_s=now_s(world))], source=source)
    world.compact_all()


def test_a_source_that_sends_is_never_silent_and_one_that_stops_is_so_after_three_days() -> None:
    world = World(scan_every_s=WEEK_S)
    send(world)
    scans, silent = 0, []
    for hour in range(20 * 24):
        if hour < 10 * 24 or hour >= 15 * 24:
            send(world)
        scans += tick(world)
        silent.append(world.jobs.source_keeper.figures().silent)
        if hour >= 10 * 24:
            # Another source's files let the quick passes look.
            send(world, source="other")
        world.clock.advance_s(HOUR_S)
    assert scans in {3, 4}
    first = silent.index(1)
    assert 13 * 24 <= first <= 13 * 24 + 2
    assert silent[first : 15 * 24] == [1] * (15 * 24 - first)
    assert set(silent[15 * 24 + 2 :]) == {0}


@pytest.mark.parametrize(("scan_every_s", "silence_s"), [(0, SILENCE_S), (DAY_S, SILENCE_S), (WEEK_S, 3 * DAY_S)])
def test_silence_is_longer_where_files_say_who_sent(scan_every_s: int, silence_s: int) -> None:
    assert silence_of(scan_every_s) == silence_s


def gapped(*, scan_every_s: int = WEEK_S) -> World:
    """A region with a source that misses number 1; the first scan is done."""
    world = World(scan_every_s=scan_every_s)
    send(world)
    assert tick(world)
    world._sent = 2
    send(world)
    return world


def test_a_gap_that_is_a_day_old_is_reported_by_the_first_scan_that_finds_it() -> None:
    world = gapped()
    world.clock.advance_s(WEEK_S)
    assert tick(world)
    assert note(world).gaps_since_s == NOW_S
    assert world.jobs.source_keeper.figures().gaps == 1


def test_a_gap_that_is_younger_is_reported_by_the_next_scan() -> None:
    world = World(scan_every_s=WEEK_S)
    send(world)
    assert tick(world)
    world.clock.advance_s(WEEK_S)
    world._sent = 2
    send(world)
    assert tick(world)
    assert note(world).gaps_since_s is None
    world.clock.advance_s(WEEK_S)
    assert tick(world)
    assert note(world).gaps_since_s is not None


def test_a_batch_that_fills_a_gap_ends_it_in_the_quick_pass_that_reads_its_file() -> None:
    world = gapped()
    world.clock.advance_s(WEEK_S)
    assert tick(world)
    world.clock.advance_s(HOUR_S)
    world._sent = 1
    send(world)
    assert note(world).gaps_since_s is not None
    assert not tick(world)
    assert note(world).gaps_since_s is None
    assert world.jobs.source_keeper.figures().gaps == 0


def test_a_quick_pass_makes_no_gap_and_no_source_and_takes_no_number_that_a_scan_has_to_see() -> None:
    world = gapped()
    send(world, source="new")
    before = {state.source_id: state.last_sequence for state in world.jobs.source_keeper.states()}
    assert not tick(world)
    after = world.jobs.source_keeper.states()
    assert {state.source_id: state.last_sequence for state in after} == before == {"edge": 0}
    assert after[0].last_seen_s == now_s(world)
    world.clock.advance_s(WEEK_S)
    assert tick(world)
    assert {state.source_id: state.gaps for state in world.jobs.source_keeper.states()}["edge"] == ((1, 1),)


def test_gaps_of_a_month_are_known_two_days_after_its_end_however_far_off_the_next_scan_is() -> None:
    end_s = month_bounds_s("2026-11")[1]
    world = World(scan_every_s=WEEK_S)
    send(world)
    world.clock.advance_s(end_s - 4 * HOUR_S - now_s(world))
    assert tick(world)
    world._sent = 2
    send(world)
    scanned: list[int] = []
    while now_s(world) < end_s + 3 * DAY_S:
        if tick(world):
            scanned.append(now_s(world) - end_s)
        world.clock.advance_s(15 * MINUTE_S)
    assert len(scanned) == 1
    assert DAY_S + HOUR_S <= scanned[0] < 2 * DAY_S
    assert note(world).gaps_since_s is not None


def test_a_scan_that_fails_or_leaves_something_begins_again_a_day_later_and_not_a_week() -> None:
    world = World(scan_every_s=WEEK_S)
    assert tick(world)
    checker = world.jobs.reconcile_tick.checker
    checker.keep(WorkList(scanned_s=now_s(world), unjudged={NOW_S - NOW_S % HOUR_S: now_s(world)}))
    for advance_s, scans in ((15 * MINUTE_S, False), (DAY_S, True), (DAY_S, False)):
        world.clock.advance_s(advance_s)
        assert tick(world) is scans
    # It never comes to its end again: it is tried in three ticks a day.
    world.clock.advance_s(WEEK_S)
    tried = []
    for _ in range(3 * 96):
        work = checker.work_list()
        if world.jobs.reconcile_tick._is_due(work, now_s(world)):
            tried.append(now_s(world))
            checker.keep(WorkList(scanned_s=now_s(world)))
        world.clock.advance_s(15 * MINUTE_S)
    assert len(tried) == 3
    assert all(later - earlier >= DAY_S for earlier, later in pairwise(tried))


def test_a_region_that_scanned_daily_keeps_its_promise_once_so_that_no_alarm_fires() -> None:
    [overdue] = (spec for spec in ALARMS if spec.name == "scan-overdue")
    world = World(scan_every_s=WEEK_S)
    assert tick(world)
    promised = note(world)
    daily = Reconciliation(finished_s=now_s(world), hours=0, differences=0, scan_due_s=now_s(world) + DAY_S)
    world.items.put(Put(table=Table.LEDGER, item=daily.to_item()))
    assert promised.scan_due_s == now_s(world) + WEEK_S
    scans = 0
    for _ in range(9 * 24):
        world.clock.advance_s(HOUR_S)
        scans += tick(world)
        assert not overdue.breached_by(max(now_s(world) - (note(world).scan_due_s or 0), 0))
    assert scans == 2


def test_a_ledger_that_knows_no_scan_is_scanned_at_once() -> None:
    """A restored ledger has no work list: it is not of the old one (docs/protocol.md, P41)."""
    world = World(scan_every_s=WEEK_S)
    send(world)
    assert tick(world)
    assert not tick(world)
    for key in (WORK_LIST_KEY, RECONCILIATION_KEY):
        world.items.delete(Delete(table=Table.LEDGER, key=key))
    assert tick(world)


def test_the_pass_over_orphans_does_not_wait_for_a_scan() -> None:
    world = World(scan_every_s=WEEK_S)
    assert tick(world)
    looked = set()
    for _ in range(4):
        world.jobs.orphans.run(world.deadline())
        assert not tick(world)
        passes = world.items.peek(Table.LEDGER, ORPHANS_KEY)
        assert passes is not None
        looked.add(OrphanPasses.from_item(passes).whole_s)
        world.clock.advance_s(DAY_S + HOUR_S)
    assert len(looked) == 4


@pytest.mark.parametrize("seed", range(8))
def test_a_week_of_numbers_has_the_gaps_of_its_set_in_any_order_and_through_a_stop(seed: int) -> None:
    chance = random.Random(seed)
    numbers = [n for n in range(chance.choice([300, 5_000, 20_000])) if chance.random() > 0.001]
    numbers += [10**15 + chance.randrange(10**12) for _ in range(chance.choice([0, 50]))]
    moments = {number: 1_795_000_000_000 + number % 10**9 for number in numbers}
    chance.shuffle(numbers)
    parts = [SourceSightings() for _ in range(3)]
    for number in numbers:
        chance.choice(parts).add(number, moments[number])
    whole = SourceSightings()
    for part in parts:
        again = SourceSightings()
        again.add_saved(*part.saved())
        whole.merge(again)
    assert [number for number, _ in whole.in_order()] == sorted(numbers)
    assert len(whole) == len(numbers)
    assert whole.newest_ms == max(moments.values())
    exact = SeenSequences().plus(moments, now_ms=2 * 10**12, largest_jump=10**6)
    found = SeenSequences().plus_ordered(whole.in_order(), now_ms=2 * 10**12, largest_jump=10**6)
    assert [gap[:2] for gap in found.gaps] == [gap[:2] for gap in exact.gaps]
    assert (found.last, found.incredible) == (exact.last, exact.incredible)
    for gap, true in zip(found.gaps, exact.gaps, strict=True):
        # A time of a page is never later than that of the number.
        assert true.since_ms - 512 <= gap.since_ms <= true.since_ms
        assert gap.noticed_ms <= true.noticed_ms <= gap.noticed_ms + 512


def test_numbers_of_a_week_take_less_than_a_byte_each() -> None:
    numbers = list(range(84_000))
    random.Random(1).shuffle(numbers)
    seen = SourceSightings()
    tracemalloc.start()
    try:
        for number in numbers:
            seen.add(10**12 + number, 1_795_000_000_000 + number * 7_200)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(seen) == 84_000
    # Python itself keeps up to 2,000 freed pairs.
    assert taken < 84_000 * 0.7 + 2_000 * 56


def test_numbers_far_apart_stay_listed_and_small() -> None:
    seen = SourceSightings()
    for number in range(20_000):
        seen.add(number * 10**9, 1_795_000_000_000)
    assert not seen._pages
    assert len(seen) == 20_000


def test_numbers_after_a_moment_leave_out_pages_that_begin_before_it() -> None:
    seen = SourceSightings()
    for number in range(4_096):
        seen.add(number, 1_000_000 + number)
    left = [number for number, _ in seen.after(1_000_000 + 2_100).in_order()]
    assert left == list(range(2_560, 4_096))
    assert seen.after(1_000_000 + 2_100).newest_ms == 1_004_095


def test_a_gap_is_noticed_at_most_a_day_after_the_number_that_follows_it() -> None:
    seen = SeenSequences().plus({0: 10, 2: 20}, now_ms=10 * SURE_MS, largest_jump=9)
    assert [gap.noticed_ms for gap in seen.gaps] == [SURE_MS + 20]
    young = SeenSequences().plus({0: 10, 2: 20}, now_ms=30, largest_jump=9)
    assert [gap.noticed_ms for gap in young.gaps] == [30]
