"""The view always shows each accepted row once, whether its commit is waiting, placed, published or cleaned."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from metering.lake.ports import USAGE_QUERY, usage_of
from metering.lake.view import LakeView
from metering.ledger.booked_hours import HourState
from metering.ledger.commits import CommitRecord, waiting_commits
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total, UsageKey
from tests.support.lake_world import HOUR, NOW_S, World, dying, record
from tests.support.memory.frozen import merge

LATE = NOW_S - 20 * DAY_S
LATE_HOUR = LATE - LATE % HOUR_S


def waiting_world(**settings: int) -> World:
    world = World(**settings)
    world.send([record(5), record(7, account="210987654321")], [record(11, start_s=LATE)], rolled_up=False)
    world.send([record(13), record(17, start_s=LATE)], rolled_up=False)
    return world


def clean(world: World) -> None:
    """Compact everything, and immediately delete the staging objects that this replaced."""
    world.compact_all()
    replace(world.jobs.cleaner, wait_s=0).run(world.deadline())


def commits(world: World) -> list[CommitRecord]:
    return [CommitRecord.from_item(item) for item in world.items.everything(Table.LEDGER) if item["sk"] == "C"]


@pytest.mark.parametrize("shards", [1, 3])
def test_what_waits_is_visible_at_once(shards: int) -> None:
    world = waiting_world(shards=shards)
    assert world.jobs.view.hours() == [LATE_HOUR, HOUR]
    assert world.jobs.view.first_hour_s() == LATE_HOUR
    assert sum(total.bytes for total in world.visible().values()) == 5 + 7 + 11 + 13 + 17
    assert world.usage() == {}


def test_what_waits_is_not_among_what_is_placed() -> None:
    world = waiting_world()
    assert world.jobs.view.placed.hours() == []
    assert not world.jobs.view.placed.hour_between(HOUR).sources
    world.roll_up()
    assert world.jobs.view.placed.hours() == [LATE_HOUR, HOUR]
    assert world.jobs.view.placed.hour_usage(HOUR) == world.jobs.view.hour_usage(HOUR)


def test_a_commit_that_is_placed_and_still_waits_is_counted_once() -> None:
    before, both = waiting_world().visible(), 0
    for world in dying(waiting_world, World.roll_up, least=0):
        assert world.visible() == before
        waiting = {entry.commit_id for entry in waiting_commits(world.items, 1)}
        pointed = {str(item["sk"])[2:] for item in world.items.query(Table.LEDGER, "H#2026-11-24T13")}
        both += bool(waiting & pointed)
    assert both > 0


def test_placing_changes_no_state_and_publishing_does() -> None:
    world = waiting_world()
    waiting = world.jobs.view.hour_snapshot(HOUR)
    world.roll_up()
    placed = world.jobs.view.hour_snapshot(HOUR)
    assert placed.keys == waiting.keys
    world.compact_all()
    assert world.jobs.view.hour_snapshot(HOUR).keys != placed.keys
    assert world.jobs.view.hour_snapshot(HOUR).total == placed.total == waiting.total


def _meanwhile(world: World, number: int, work: Callable[[], object]) -> Callable[[str], None]:
    """A hook that runs `work` between two calls of a reader."""
    left = number

    def hook(_call: str) -> None:
        nonlocal left
        left -= 1
        if left == -1:
            world.items.on_call = world.objects.on_call = lambda _: None
            work()
            world.items.on_call = world.objects.on_call = hook

    return hook


def _steps(world: World) -> dict[str, Callable[[], object]]:
    def all_at_once() -> None:
        world.roll_up()
        clean(world)

    return {
        "placed": world.roll_up,
        "published": world.compact_all,
        "cleaned": lambda: clean(world),
        "all": all_at_once,
    }


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("step", ["placed", "published", "cleaned", "all"])
def test_a_reader_sees_each_row_once_whatever_moves_between_two_of_its_calls(step: str, exact: bool) -> None:
    def read(view: LakeView) -> dict[UsageKey, Total]:
        return merge(usage_of(hour_s, view.hour_totals(hour_s, USAGE_QUERY, exact=exact)) for hour_s in view.hours())

    calls = 0
    while True:
        world = waiting_world()
        if step in ("published", "cleaned"):
            world.roll_up()
        before = world.visible()
        done = False

        def work(world: World = world) -> None:
            nonlocal done
            done = True
            _steps(world)[step]()

        world.items.on_call = world.objects.on_call = _meanwhile(world, calls, work)
        assert read(world.jobs.view) == before
        if not done:
            break
        calls += 1
    assert calls > 10


@pytest.mark.parametrize("exact", [False, True])
def test_rows_whose_staging_object_goes_while_they_are_read_are_read_again_from_their_file(exact: bool) -> None:
    world = waiting_world()
    world.roll_up()
    view, looks = world.jobs.view, 0
    before = view.hour_usage(HOUR)

    def work(state: HourState) -> dict[UsageKey, Total]:
        nonlocal looks
        looks += 1
        if looks == 1:
            clean(world)
        return usage_of(HOUR, view.reader.totals(state.sources, USAGE_QUERY))

    assert view.read(HOUR, work, exact=exact) == before
    assert looks == 2


def test_the_view_of_a_commit_is_that_of_published_files_and_of_its_own_rows() -> None:
    world = waiting_world()
    first, second = commits(world)
    view = world.jobs.view
    for placed in (False, True):
        if placed:
            world.roll_up()
        sizes = [view.of_commit(each).hour_between(HOUR).total.bytes for each in (first, second)]
        assert sorted(sizes) == [5 + 7, 13]
    world.compact_all()
    assert view.of_commit(first).hour_between(HOUR).total.bytes == 5 + 7 + 13


def test_the_view_of_a_commit_costs_the_same_however_many_there_are() -> None:
    world = World()
    for number in range(30):
        world.send([record(number + 1)], rolled_up=number % 2 == 0)
    calls: list[str] = []
    view = world.jobs.view.of_commit(commits(world)[0])
    world.items.on_call = calls.append
    assert len(view.hour_between(HOUR).sources) == 1
    assert len(calls) == 4
