"""One hour is compared by what its rows name: equal, different, too large, too old, or in motion."""

from __future__ import annotations

import pytest

from metering.audit.hour_check import HourCheck, HourFigures, OneHour
from metering.ledger.markers import marker_key
from metering.stores.writes import Table
from metering.units import HOUR_S
from metering.usage.totals import Total
from tests.support.lake_world import HOUR, NOW_S, World, record
from tests.support.usage_items import change, usage_of

OTHER = "210987654321"


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
