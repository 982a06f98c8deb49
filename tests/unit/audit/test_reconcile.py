"""Reconciler, repair, rebuild and sources: differences are named, and put right to the byte."""

from dataclasses import replace
from typing import TypedDict

from metering.audit.sequences import Gap, SeenSequences
from metering.hours import hour_of
from metering.ledger.markers import marker_key
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.usage.totals import Total
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, record
from tests.support.usage_items import change, elsewhere, lose, usage_of


class Bounds(TypedDict):
    from_s: int
    to_s: int


LATE_HOUR = hour_of(NOW_S - 20 * DAY_S)
EVERYTHING: Bounds = {"from_s": 0, "to_s": NOW_S + DAY_S}


def world_with_traffic(*, compacted: bool = True) -> World:
    world = World()
    world.send([record(5), record(7, account="210987654321")], [record(11, start_s=LATE_HOUR)], source="edge")
    if compacted:
        world.compact_all()
    world.send([record(13), record(17, start_s=LATE_HOUR + 5)], source="edge")
    return world


def test_markers_usage_and_rows_agree_in_lake_and_staging() -> None:
    world = world_with_traffic()
    for deep in (False, True):
        result = world.jobs.reconciler.run(**EVERYTHING, deep=deep)
        assert [check.hour_s for check in result.checks] == [LATE_HOUR, HOUR]
        assert all(check.agrees for check in result.checks)
        assert result.checks[1].rows == result.checks[1].usage == result.checks[1].markers == Total(25, 3)
    assert not world.alerts.sent


def test_a_broken_usage_item_is_named_after_two_passes_a_minute_apart() -> None:
    world = world_with_traffic()
    entry = next(e for e in usage_of(world.items) if e.key.account_id == ACCOUNT and e.key.hour_s == HOUR)
    change(world.items, entry, 100)
    began_ms = world.clock.now_ms()
    result = world.jobs.reconciler.run(**EVERYTHING)
    assert world.clock.now_ms() - began_ms >= MINUTE_S * 1000
    [check] = result.different
    [difference] = check.differences
    assert difference.key is not None
    assert difference.key.account_id == ACCOUNT
    assert (difference.expected.bytes, difference.found.bytes) == (118, 18)
    [alert] = world.alerts.sent
    assert alert.severity == "page"
    assert alert.fields["expected_bytes"] == "118"
    assert alert.fields["hour"] == "2026-11-24T13:00:00Z"
    assert world.metrics.counts["ReconciliationDifferencesFound"] == 1


def test_a_lost_marker_is_named_by_its_batch() -> None:
    world = world_with_traffic()
    world.items.remove(Table.LEDGER, marker_key("batch-0"))
    result = world.jobs.reconciler.check(**EVERYTHING)
    [check] = result.different
    assert [difference.batch_id for difference in check.differences] == ["batch-0"]


def test_an_hour_with_more_batches_in_doubt_than_memory_holds_does_not_agree() -> None:
    world = world_with_traffic()
    marker = world.items.peek(Table.LEDGER, marker_key("batch-0"))
    assert marker is not None
    world.items.put(Put(table=Table.LEDGER, item={**marker, **marker_key("without-rows")._asdict()}))
    result = replace(world.jobs.reconciler, memory_bytes=0).check(**EVERYTHING, deep=True)
    assert result.unjudged == {check.hour_s for check in result.unstable} == {HOUR}
    assert [check.hour_s for check in result.checks if check.agrees] == [LATE_HOUR]


def test_an_hour_that_only_the_usage_table_knows_is_found() -> None:
    world = world_with_traffic()
    entry = usage_of(world.items)[0]
    change(world.items, elsewhere(entry, hour_s=HOUR - 15 * DAY_S), 1, 1)
    result = world.jobs.reconciler.check(**EVERYTHING)
    assert len(result.different) == 1


def test_markers_that_may_have_expired_are_not_compared() -> None:
    world = world_with_traffic()
    world.clock.advance_s(60 * DAY_S)
    for batch in range(3):
        world.items.remove(Table.LEDGER, marker_key(f"batch-{batch}"))
    result = world.jobs.reconciler.check(**EVERYTHING)
    assert all(check.agrees and check.markers is None for check in result.checks)


def test_a_difference_that_goes_away_is_no_alarm() -> None:
    world = world_with_traffic()
    entry = usage_of(world.items)[0]
    change(world.items, entry, 1)

    class Mending:
        def now_ms(self) -> int:
            return world.clock.now_ms()

        def sleep_ms(self, duration_ms: int) -> None:
            change(world.items, entry, -1)
            world.clock.sleep_ms(duration_ms)

    world.jobs.__dict__["clock"] = Mending()
    result = world.jobs.reconciler.run(**EVERYTHING)
    assert not result.different
    assert not result.unstable
    assert not world.alerts.sent


def test_memory_follows_from_hours_and_parts_and_not_from_accounts_or_batches() -> None:
    cells = []
    for accounts in (40, 400):
        world = World()
        for batch in range(accounts // 20):
            world.send([record(5, account=f"{batch * 20 + n:012d}") for n in range(20)])
        world.compact_all()
        state = world.jobs.reconciler.begin(**EVERYTHING, deep=True)
        state.parts = 8
        state.__post_init__()
        world.jobs.reconciler.census.go_on(state)
        cells.append([len(kind.of(HOUR)) for kind in (state.placed, state.usage)])
        assert len(state.marks.of(HOUR)) <= 8
    assert cells[0] == cells[1] == [8, 8]


def test_single_items_are_repaired_and_others_left_alone() -> None:
    world = world_with_traffic()
    before = world.usage()
    first, second, *_ = usage_of(world.items)
    change(world.items, first, -3, 2)
    lose(world.items, second)
    assert world.jobs.rebuilder.usage().repaired == 2
    assert world.usage() == before


def test_lost_markers_are_rebuilt_and_a_later_copy_is_a_duplicate() -> None:
    world = world_with_traffic()
    before = world.usage()
    for batch in range(3):
        world.items.remove(Table.LEDGER, marker_key(f"batch-{batch}"))
    result = world.jobs.rebuilder.markers()
    assert (result.batches, result.rebuilt) == (3, 3)
    assert all(check.agrees for check in world.jobs.reconciler.check(**EVERYTHING, deep=True).checks)
    world._sent = 0
    world.send([record(5), record(7, account="210987654321")])
    assert world.usage() == before
    assert world.metrics.counts["DuplicatesUnverified"] == 1
    assert world.jobs.rebuilder.markers().rebuilt == 0


def test_sources_are_derived_with_their_gaps() -> None:
    world = World()
    world.send([record(1)], source="edge")
    world._sent = 5
    world.send([record(1)], source="edge")
    state = world.jobs.reconciler_state
    state.keep(world.jobs.reconciler.check(**EVERYTHING))
    [source] = state.sources()
    assert (source.last_sequence, source.gaps) == (5, ())
    world.clock.advance_s(HOUR_S)
    state.keep(world.jobs.reconciler.check(**EVERYTHING))
    [source] = state.sources()
    assert source.gaps == ((1, 4),)
    assert source.last_seen_s == NOW_S
    assert gaps_since_s(world) == NOW_S
    world._sent = 2
    world.send([record(1)], source="edge")
    state.keep(world.jobs.reconciler.check(**EVERYTHING))
    assert state.sources()[0].gaps == ((1, 1), (3, 4))
    for number in (1, 3, 4):
        world._sent = number
        world.send([record(1)], source="edge")
    state.keep(world.jobs.reconciler.check(**EVERYTHING))
    assert state.sources()[0].gaps == ()
    assert gaps_since_s(world) is None


def gaps_since_s(world: World) -> int | None:
    item = world.items.peek(Table.LEDGER, RECONCILIATION_KEY)
    assert item is not None
    return Reconciliation.from_item(item).gaps_since_s


def plus(seen: SeenSequences, numbers: dict[int, int], now_ms: int) -> SeenSequences:
    return seen.plus(numbers, now_ms=now_ms, largest_jump=1_000)


def test_numbers_may_come_in_any_order_and_again() -> None:
    seen = plus(SeenSequences(), {3: 30, 1: 10, 7: 70}, 5)
    assert seen.confirmed(before_ms=5) == (Gap(0, 0, 5, 0), Gap(2, 2, 5, 10), Gap(4, 6, 5, 30))
    assert seen.confirmed(before_ms=4) == ()
    assert plus(seen, {3: 30, 1: 10, 7: 70}, 9) == seen
    assert plus(seen, {5: 90}, 9).gaps[2:] == (Gap(4, 4, 5, 30), Gap(6, 6, 5, 30))
    assert plus(seen, dict.fromkeys((0, 2, 4, 5, 6), 90), 9) == SeenSequences(last=7, last_ms=70)
