"""Looks at one hour and at the hours of a day: equal, different, too large, too old, or in motion."""

from dataclasses import replace
from typing import Any

import pytest

from metering.audit import incremental
from metering.audit.hour_check import HourCheck, HourFigures, OneHour
from metering.audit.incremental import AccountDays
from metering.audit.settling import AccountHour
from metering.lake.ports import CountedTotals
from metering.ledger.markers import marker_key
from metering.ledger.runs import newest_done, rollup_chain
from metering.stores.objects import SUMMARIES_PREFIX
from metering.stores.writes import Table, Update
from metering.units import HOUR_S
from metering.usage.totals import Total
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, dying, record
from tests.support.usage_items import change, lose, usage_of

OTHER = "210987654321"
DAY = [HOUR - 2 * HOUR_S, HOUR - HOUR_S, HOUR]


def world_of_a_day() -> World:
    """Three hours, in lake files of two runs and in staging."""
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
    # Each hour has two keys in files, and two in staging.
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
    """The newest done runs are read before the rows (P37)."""
    number = 0
    while True:
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
        number += 1


def looked(world: World, *, now_s: int = NOW_S, **limits: int) -> HourFigures:
    hour = OneHour(figures=world.jobs.figures, **{"attempts": 3, **limits})
    return hour.look(HOUR, now_s=now_s)


def checked(world: World, **how: int) -> HourCheck:
    check = looked(world, **how).check
    assert check is not None
    return check


def world_with_traffic() -> World:
    world = World()
    world.send([record(5), record(7, account=OTHER)], [record(11)])
    world.compact_all()
    world.send([record(13)])
    return world


def test_markers_usage_and_rows_of_an_hour_are_equal_and_no_table_is_scanned() -> None:
    world = world_with_traffic()
    calls: list[str] = []
    world.items.on_call = calls.append
    check = checked(world)
    world.items.on_call = lambda _call: None
    assert check.agrees
    assert check.rows == check.usage == check.markers == Total(36, 4)
    assert not [call for call in calls if "scan" in call]
    assert calls


def test_a_byte_in_a_usage_item_and_a_lost_marker_are_named() -> None:
    world = world_with_traffic()
    entry = next(each for each in usage_of(world.items) if each.key.account_id == OTHER)
    change(world.items, entry, 1)
    world.items.remove(Table.LEDGER, marker_key("batch-1"))
    check = checked(world)
    assert not check.agrees
    assert {(each.between, each.batch_id) for each in check.differences} == {
        ("usage/rows", ""), ("markers/rows", "batch-1"),
    }  # fmt: skip


def test_where_markers_may_have_expired_they_are_no_figure() -> None:
    world = world_with_traffic()
    for number in range(3):
        world.items.remove(Table.LEDGER, marker_key(f"batch-{number}"))
    expired_s = HOUR - HOUR_S + world.settings.marker_life_s
    assert not checked(world, now_s=expired_s - 1).agrees
    check = checked(world, now_s=expired_s)
    assert check.agrees
    assert check.markers is None


@pytest.mark.parametrize("limit", [{"most_rows": 3}, {"most_accounts": 1}, {"most_batches": 2}])
def test_an_hour_that_is_too_large_has_only_what_the_ledger_counts(limit: dict[str, int]) -> None:
    world = world_with_traffic()
    figures = looked(world, **limit)
    assert figures.check is None
    assert figures.state.total == Total(36, 4)
    enough = {name: most + 1 for name, most in limit.items()}
    assert looked(world, **enough).check is not None


def test_an_hour_that_keeps_changing_is_not_said_to_agree_or_to_differ_for_good() -> None:
    world = world_with_traffic()

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
