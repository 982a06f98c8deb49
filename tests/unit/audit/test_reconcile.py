"""Reconciler, repair, rebuild and sources: differences are named, and corrected to the byte."""

from dataclasses import replace
from itertools import count
from typing import Any, TypedDict

import pytest

from metering.audit import incremental
from metering.audit.hour_check import HourCheck, HourFigures, OneHour
from metering.audit.incremental import AccountDays
from metering.audit.sequences import Gap, SeenSequences
from metering.audit.settling import AccountHour
from metering.hours import hour_of
from metering.lake.ports import CountedTotals
from metering.ledger.markers import marker_key
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.ledger.runs import newest_done, rollup_chain
from metering.stores.objects import SUMMARIES_PREFIX
from metering.stores.writes import Put, Table, Update
from metering.units import DAY_S, HOUR_S, MINUTE_S
from metering.usage.totals import Total
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, dying, record
from tests.support.usage_items import change, elsewhere, lose, usage_of
from tests.support.written_down import forget_markers


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


@pytest.fixture
def world() -> World:
    return world_with_traffic()


def test_markers_usage_and_rows_agree_in_lake_and_staging(world: World) -> None:
    for deep in (False, True):
        result = world.jobs.reconciler.run(**EVERYTHING, deep=deep)
        assert [check.hour_s for check in result.checks] == [LATE_HOUR, HOUR]
        assert all(check.agrees for check in result.checks)
        assert result.checks[1].rows == result.checks[1].usage == result.checks[1].markers == Total(25, 3)
    assert not world.alerts.sent


def test_a_broken_usage_item_is_named_after_two_passes_a_minute_apart(world: World) -> None:
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


def test_a_lost_marker_is_named_by_its_batch(world: World) -> None:
    world.items.remove(Table.LEDGER, marker_key("batch-0"))
    result = world.jobs.reconciler.check(**EVERYTHING)
    [check] = result.different
    assert [difference.batch_id for difference in check.differences] == ["batch-0"]


def test_an_hour_with_more_batches_in_doubt_than_memory_holds_does_not_agree(world: World) -> None:
    marker = world.items.peek(Table.LEDGER, marker_key("batch-0"))
    assert marker is not None
    world.items.put(Put(table=Table.LEDGER, item={**marker, **marker_key("without-rows")._asdict()}))
    result = replace(world.jobs.reconciler, memory_bytes=0).check(**EVERYTHING, deep=True)
    assert result.unjudged == {check.hour_s for check in result.unstable} == {HOUR}
    assert [check.hour_s for check in result.checks if check.agrees] == [LATE_HOUR]


def test_an_hour_that_only_the_usage_table_knows_is_found(world: World) -> None:
    entry = usage_of(world.items)[0]
    change(world.items, elsewhere(entry, hour_s=HOUR - 15 * DAY_S), 1, 1)
    result = world.jobs.reconciler.check(**EVERYTHING)
    assert len(result.different) == 1


def test_markers_that_may_have_expired_are_not_compared(world: World) -> None:
    world.clock.advance_s(60 * DAY_S)
    for batch in range(3):
        world.items.remove(Table.LEDGER, marker_key(f"batch-{batch}"))
    result = world.jobs.reconciler.check(**EVERYTHING)
    assert all(check.agrees and check.markers is None for check in result.checks)


def test_a_difference_that_goes_away_is_no_alarm(world: World) -> None:
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


def test_single_items_are_repaired_and_others_left_alone(world: World) -> None:
    before = world.usage()
    first, second, *_ = usage_of(world.items)
    change(world.items, first, -3, 2)
    lose(world.items, second)
    assert world.jobs.rebuilder.usage().repaired == 2
    assert world.usage() == before


@pytest.mark.parametrize("written", [True, False])
def test_lost_markers_are_rebuilt_and_a_later_copy_is_a_duplicate(world: World, written: bool) -> None:
    before = world.usage()
    if not written:
        forget_markers(world.objects)
    for batch in range(3):
        world.items.remove(Table.LEDGER, marker_key(f"batch-{batch}"))
    result = world.jobs.rebuilder.markers()
    assert (result.batches, result.rebuilt) == (3, 3)
    assert all(check.agrees for check in world.jobs.reconciler.check(**EVERYTHING, deep=True).checks)
    world._sent = 0
    world.send([record(5), record(7, account="210987654321")])
    assert world.usage() == before
    assert world.metrics.counts["BatchesDuplicate"] == 1
    assert world.metrics.counts["DuplicatesUnverified"] == (not written)
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


# Checks of one hour and of the hours of a day: equal, different, too large, too old, or changing.

OTHER = "210987654321"
DAY = [HOUR - 2 * HOUR_S, HOUR - HOUR_S, HOUR]


def world_of_a_day() -> World:
    """Three hours of rows, in lake files of two runs and in staging."""
    world = World()
    for round_ in range(3):
        for hour_s in DAY:
            world.send([record(5 + round_, start_s=hour_s), record(7, start_s=hour_s, account=OTHER)])
        if round_ < 2:
            world.compact_all()
    return world


def days_of(world: World) -> AccountDays:
    return AccountDays(figures=world.jobs.figures)


@pytest.mark.parametrize("at_once", [1, 2, 12])
@pytest.mark.parametrize("totals", ["kept", "counted"])
def test_hours_in_lake_files_and_in_staging_agree(at_once: int, totals: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incremental, "HOURS_AT_ONCE", at_once)
    world = world_of_a_day()
    days = days_of(world)
    if totals == "counted":
        days = AccountDays(figures=replace(days.figures, totals=CountedTotals(world.jobs.view.reader)))
    checks = days.look(DAY)
    assert list(checks) == DAY
    for hour_s, check in checks.items():
        assert check.agrees
        assert check.usage == check.rows == Total(39, 6)
        assert check.usage == world.jobs.reconciler.look(hour_s, frozenset()).usage


def test_hours_of_many_keys_are_held_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of_a_day()
    held: list[int] = []
    whole = AccountDays._compared

    def counted(days: AccountDays, rows: Any, done: Any) -> Any:
        held.append(len(rows))
        return whole(days, rows, done)

    monkeypatch.setattr(AccountDays, "_compared", counted)
    assert all(check.agrees for check in days_of(world).look(DAY).values())
    # Each hour has two keys in lake files, and two in staging.
    monkeypatch.setattr(incremental, "KEYS_AT_ONCE", 5)
    assert all(check.agrees for check in days_of(world).look(DAY).values())
    assert held == [3, 2, 1]


def test_each_key_that_differs_is_named_and_a_lost_item_is_one() -> None:
    world = world_of_a_day()
    first = next(e for e in usage_of(world.items) if e.key.account_id == ACCOUNT and e.key.hour_s == DAY[0])
    last = next(e for e in usage_of(world.items) if e.key.account_id == OTHER and e.key.hour_s == DAY[2])
    change(world.items, first, 1)
    lose(world.items, last)
    checks = days_of(world).look(DAY)
    found = {h: [(each.key, each.expected, each.found) for each in checks[h].differences] for h in DAY}
    assert found == {
        DAY[0]: [(first.key, Total(19, 3), Total(18, 3))],
        DAY[1]: [],
        DAY[2]: [(last.key, Total(0, 0), Total(21, 3))],
    }
    again = world.jobs.reconciler.look_again(checks[DAY[0]])
    confirmed = again.confirmed(checks[DAY[0]])
    assert confirmed is not None
    assert confirmed.differences == checks[DAY[0]].differences
    change(world.items, first, 1)
    change(world.items, first, -1)
    later = world.jobs.reconciler.look_again(checks[DAY[0]])
    assert later.differences
    assert later.confirmed(checks[DAY[0]]) is None, "its items were written meanwhile"


def test_what_a_later_run_has_booked_is_left_and_all_else_is_compared() -> None:
    world = world_of_a_day()
    mine, other = (
        next(e for e in usage_of(world.items) if e.key.account_id == name and e.key.hour_s == DAY[1])
        for name in (ACCOUNT, OTHER)
    )
    run = newest_done(world.items, rollup_chain(0)) + 1
    world.items.update(Update(table=Table.USAGE, key=mine.item_key, add={"b0": 4, "r0": 1, "v": 1}, set={"n0": run}))
    change(world.items, other, 2)
    check = days_of(world).look(DAY)[DAY[1]]
    assert not check.stable
    assert check.unsettled == {AccountHour(DAY[1], ACCOUNT)}
    assert [each.key for each in check.differences] == [other.key]


def test_rows_that_are_not_what_the_ledger_says_are_told() -> None:
    world = world_of_a_day()
    for key in world.objects.keys(SUMMARIES_PREFIX):
        world.objects.remove(key)
    [file, *_] = world.files(DAY[0])
    [other, *_] = world.files(DAY[1])
    world.objects.put(file.key, world.objects.get(other.key), if_absent=False)
    check = days_of(world).look([DAY[0]])[DAY[0]]
    assert not check.agrees


def test_accounts_side_by_side_give_the_same() -> None:
    world = world_of_a_day()
    days = days_of(world)
    beside = AccountDays(figures=replace(days.figures, threads=4))
    assert beside.look(DAY) == days.look(DAY)


def test_hours_never_differ_wherever_a_run_of_the_roll_up_stands() -> None:
    def waiting_world() -> World:
        world = world_of_a_day()
        world.send([record(2, start_s=hour_s) for hour_s in DAY], rolled_up=False)
        return world

    settled = []
    for world in dying(waiting_world, World.roll_up):
        checks = days_of(world).look(DAY)
        assert [check.differences for check in checks.values()] == [(), (), ()]
        settled.append(all(check.stable for check in checks.values()))
    assert settled[0]
    assert settled[-1]
    assert not all(settled)


@pytest.mark.long
@pytest.mark.parametrize("looker", ["account days", "one hour"])
def test_hours_never_differ_while_whole_runs_come_between_any_two_calls_of_a_look(looker: str) -> None:
    """A look reads the newest done runs before the rows (P37)."""
    for number in count():
        world = world_of_a_day()
        calls = 0

        def at(_call: str) -> None:
            nonlocal calls
            calls += 1
            if calls == number + 1:  # noqa: B023 - called at once
                world.items.on_call = lambda _call: None  # noqa: B023
                world.send([record(2, start_s=hour_s) for hour_s in DAY])  # noqa: B023

        world.items.on_call = at
        if looker == "account days":
            found = [each for check in days_of(world).look(DAY).values() for each in check.differences]
        else:
            found = list(world.jobs.reconciler.look(DAY[1], frozenset()).differences)
        assert found == [], number
        if calls <= number:
            break


def looked(world: World, *, now_s: int = NOW_S, **limits: int) -> HourFigures:
    hour = OneHour(figures=world.jobs.figures, **{"attempts": 3, **limits})
    return hour.look(HOUR, now_s=now_s)


def checked(world: World, **how: int) -> HourCheck:
    check = looked(world, **how).check
    assert check is not None
    return check


def world_of_one_hour() -> World:
    world = World()
    world.send([record(5), record(7, account=OTHER)], [record(11)])
    world.compact_all()
    world.send([record(13)])
    return world


def test_markers_usage_and_rows_of_an_hour_are_equal_and_no_table_is_scanned() -> None:
    world = world_of_one_hour()
    calls: list[str] = []
    world.items.on_call = calls.append
    check = checked(world)
    world.items.on_call = lambda _call: None
    assert check.agrees
    assert check.rows == check.usage == check.markers == Total(36, 4)
    assert not [call for call in calls if "scan" in call]
    assert calls


def test_a_byte_in_a_usage_item_and_a_lost_marker_are_named() -> None:
    world = world_of_one_hour()
    entry = next(each for each in usage_of(world.items) if each.key.account_id == OTHER)
    change(world.items, entry, 1)
    world.items.remove(Table.LEDGER, marker_key("batch-1"))
    check = checked(world)
    assert not check.agrees
    assert {(each.between, each.batch_id) for each in check.differences} == {
        ("usage/rows", ""), ("markers/rows", "batch-1"),
    }  # fmt: skip


def test_where_markers_may_have_expired_they_are_no_figure() -> None:
    world = world_of_one_hour()
    for number in range(3):
        world.items.remove(Table.LEDGER, marker_key(f"batch-{number}"))
    expired_s = HOUR - HOUR_S + world.settings.marker_life_s
    assert not checked(world, now_s=expired_s - 1).agrees
    check = checked(world, now_s=expired_s)
    assert check.agrees
    assert check.markers is None


@pytest.mark.parametrize("limit", [{"most_rows": 3}, {"most_accounts": 1}, {"most_batches": 2}])
def test_an_hour_that_is_too_large_has_only_what_the_ledger_counts(limit: dict[str, int]) -> None:
    world = world_of_one_hour()
    figures = looked(world, **limit)
    assert figures.check is None
    assert figures.state.total == Total(36, 4)
    enough = {name: most + 1 for name, most in limit.items()}
    assert looked(world, **enough).check is not None


def test_an_hour_that_keeps_changing_is_not_said_to_agree_or_to_differ_for_good() -> None:
    world = world_of_one_hour()

    def deliver(_call: str) -> None:
        world.objects.on_call = lambda _call: None
        world.send([record(1)])
        world.objects.on_call = deliver

    world.objects.on_call = deliver
    check = checked(world)
    world.objects.on_call = lambda _call: None
    assert not check.stable
    assert not check.agrees
    assert checked(world).agrees
