"""Lost markers are put back whole, a lake of any size is read once or twice, and nothing else is written."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pytest

from metering.hours import hour_of
from metering.ledger.markers import Marker, marker_key
from metering.stores.writes import Item, Key, Table, Update
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import NOW_S, World, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.audit.rebuild import MarkerRebuild, Rebuilder

BATCHES = 40


def world_with_traffic() -> World:
    """Batches with rows in one hour, in two and in three, in lake files, in staging, and waiting for the roll-up."""
    world = World()
    starts = (NOW_S, NOW_S - HOUR_S, NOW_S - 30 * HOUR_S)
    batches = [
        [record(100 + number, start_s=start_s) for start_s in starts[: 1 + number % 3]] for number in range(BATCHES)
    ]
    world.send(*batches[:20])
    world.compact_all()
    world.send(*batches[20:30])
    world.send(*batches[30:], rolled_up=False)
    return world


def marker_of(world: World, number: int) -> Marker | None:
    item = world.items.peek(Table.LEDGER, marker_key(f"batch-{number}"))
    return None if item is None else Marker.from_item(item)


def figures(marker: Marker | None) -> object:
    return None if marker is None else (marker.verdict, dict(marker.hours), marker.records, marker.metered)


def rebuilt(world: World, *, at_once: int = 1_000, threads: int = 1) -> MarkerRebuild:
    made = world.jobs.rebuilder
    figures = replace(made.figures, threads=threads)
    return replace(made, batches_at_once=at_once, reconciler=replace(made.reconciler, figures=figures)).markers()


@pytest.mark.parametrize(("at_once", "threads"), [(1_000, 1), (1, 1), (1, 4), (3, 2)])
@pytest.mark.parametrize("each", [1, 3, 7])
def test_lost_markers_come_back_with_all_hours_of_their_batches(at_once: int, threads: int, each: int) -> None:
    world = world_with_traffic()
    before = [figures(marker_of(world, number)) for number in range(BATCHES)]
    lost = range(0, BATCHES, each)
    for number in lost:
        world.items.remove(Table.LEDGER, marker_key(f"batch-{number}"))
    result = rebuilt(world, at_once=at_once, threads=threads)
    assert (result.batches, result.rebuilt) == (BATCHES, len(lost))
    assert [figures(marker_of(world, number)) for number in range(BATCHES)] == before
    # Only those that were put back do not know their content.
    items = {number: world.items.peek(Table.LEDGER, marker_key(f"batch-{number}")) or {} for number in range(BATCHES)}
    assert [number for number, item in items.items() if "hash" not in item] == [*lost]
    assert world.metrics.counts["MarkersRebuilt"] == len(lost)


def test_where_nothing_is_missing_rows_are_read_once_and_nothing_is_written() -> None:
    world = world_with_traffic()
    calls: list[str] = []
    world.items.on_call = world.objects.on_call = calls.append
    view = world.jobs.view
    hours = view.hours()
    for hour_s in hours:
        view.hour_usage(hour_s)
    once = sorted(call for call in calls if call.startswith("objects."))
    assert len(once) > len(hours)
    calls.clear()
    result = rebuilt(world)
    assert (result.batches, result.rebuilt) == (BATCHES, 0)
    assert sorted(call for call in calls if call.startswith("objects.")) == once
    assert not [call for call in calls if call in {"items.put", "items.update", "items.transact", "objects.put"}]
    # All batches of an hour are looked up together.
    assert calls.count("items.get_many") == len(hours)


def test_a_marker_that_is_lost_after_an_hour_of_it_was_looked_up_comes_back_whole_or_not_yet() -> None:
    """Between two hours of its batch, a look finds it in one and misses it in the other."""
    number = 2
    whole = figures(marker_of(world_with_traffic(), number))
    came_back = set()
    for seen in count(1):
        world, looks = world_with_traffic(), count(1)

        def lose(call: str, world: World = world, looks: Iterator[int] = looks, seen: int = seen) -> None:
            if call == "items.get_many" and next(looks) == seen:
                world.items.remove(Table.LEDGER, marker_key(f"batch-{number}"))

        world.items.on_call = lose
        came_back.add(rebuilt(world).rebuilt)
        world.items.on_call = lambda _call: None
        assert figures(marker_of(world, number)) in (whole, None)
        rebuilt(world)
        assert figures(marker_of(world, number)) == whole
        if next(looks) <= seen:
            break
    assert came_back == {0, 1}


def test_a_rejected_marker_of_a_batch_that_has_rows_is_replaced_and_an_accepted_one_stays() -> None:
    world = world_with_traffic()
    before = figures(marker_of(world, 1))
    verdict = Update(table=Table.LEDGER, key=marker_key("batch-1"), set={"verdict": "rejected"})
    world.items.update(verdict)
    hours = Update(table=Table.LEDGER, key=marker_key("batch-4"), set={"records": 17})
    world.items.update(hours)
    changed = world.items.peek(Table.LEDGER, marker_key("batch-4"))
    assert rebuilt(world).rebuilt == 1
    assert figures(marker_of(world, 1)) == before
    assert world.items.peek(Table.LEDGER, marker_key("batch-4")) == changed


def test_a_marker_that_comes_meanwhile_stays() -> None:
    """Another process puts the markers back, between the calls of this one."""
    lost = [marker_key("batch-3"), marker_key("batch-5")]
    for number in count(1, 13):
        world, calls = world_with_traffic(), count(1)
        theirs: dict[Key, Item] = {}
        for key in lost:
            world.items.remove(Table.LEDGER, key)
        other = world.make_jobs().rebuilder

        def meanwhile(
            _call: str,
            world: World = world,
            other: Rebuilder = other,
            calls: Iterator[int] = calls,
            theirs: dict[Key, Item] = theirs,
            number: int = number,
        ) -> None:
            if next(calls) == number:
                world.items.on_call = lambda _call: None
                other.markers()
                theirs |= {key: world.items.peek(Table.LEDGER, key) or {} for key in lost}
                world.clock.advance_s(60)

        world.items.on_call = meanwhile
        result = rebuilt(world)
        world.items.on_call = lambda _call: None
        if not theirs:
            assert result.rebuilt == 2
            break
        assert {key: world.items.peek(Table.LEDGER, key) for key in lost} == theirs
    assert number > 10


def test_hours_before_the_life_of_a_marker_are_not_read() -> None:
    world = World(window_s=DAY_S, marker_life_s=3 * DAY_S)
    world.send([record(5)])
    world.compact_all()
    world.items.remove(Table.LEDGER, marker_key("batch-0"))
    world.clock.advance_s(hour_of(NOW_S) + 3 * DAY_S - NOW_S)
    assert rebuilt(world).rebuilt == 1
    world.items.remove(Table.LEDGER, marker_key("batch-0"))
    world.clock.advance_s(1)
    result = rebuilt(world)
    assert (result.batches, result.rebuilt) == (0, 0)
