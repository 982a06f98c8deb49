"""Recent commits are told once each, wherever a run of the roll-up stands."""

from __future__ import annotations

from metering.audit.census import RecentCommits
from metering.units import DAY_S
from metering.usage.totals import Total
from tests.support.lake_world import HOUR, World, record

OLD_HOUR = HOUR - 20 * DAY_S


def recent_of(world: World) -> RecentCommits:
    return RecentCommits(world.items, world.objects, shards=1, after_ms=world.clock.now_ms())


def send(world: World) -> None:
    world.clock.advance_s(1)
    world.send([record(5, start_s=HOUR)], [record(7, start_s=OLD_HOUR)], rolled_up=False)


def test_each_commit_is_told_once_wherever_the_roll_up_stands() -> None:
    number = 0
    while True:
        world = World()
        world.send([record(100, start_s=HOUR)])
        recent = recent_of(world)
        assert recent.now() == {}, "what was there before is not recent"
        send(world)
        expected = {HOUR: Total(5, 1), OLD_HOUR: Total(7, 1)}
        assert recent.now() == expected
        died = world.dies_after(number, world.roll_up)
        assert recent.now() == recent.now() == expected
        world.roll_up()
        assert recent.now() == recent.now() == expected
        send(world)
        twice = {HOUR: Total(10, 2), OLD_HOUR: Total(14, 2)}
        assert recent.now() == recent_now_anew(world, recent) == twice
        if not died:
            break
        number += 1
    assert number > 5


def recent_now_anew(world: World, recent: RecentCommits) -> dict[int, Total] | None:
    """What another process tells that has read nothing yet."""
    return RecentCommits(world.items, world.objects, shards=1, after_ms=recent.after_ms).now()


def test_a_run_that_ends_between_the_two_lists_is_told_once() -> None:
    number = 0
    while True:
        world = World()
        recent = recent_of(world)
        send(world)
        world.dies_after(6, world.roll_up)
        recent.now()
        calls = 0

        def meanwhile(_call: str, world: World = world, number: int = number) -> None:
            nonlocal calls
            if calls == number:
                world.items.on_call = world.objects.on_call = lambda _call: None
                world.roll_up()
            calls += 1

        world.items.on_call = world.objects.on_call = meanwhile
        assert recent.now() == {HOUR: Total(5, 1), OLD_HOUR: Total(7, 1)}
        world.items.on_call = world.objects.on_call = lambda _call: None
        assert recent.now() == {HOUR: Total(5, 1), OLD_HOUR: Total(7, 1)}
        if calls <= number:
            break
        number += 1
    assert number > 2


def test_a_plan_that_is_gone_leaves_nobody_to_tell() -> None:
    world = World()
    recent = recent_of(world)
    send(world)
    world.roll_up()
    for key in world.objects.keys("runs/"):
        world.objects.remove(key)
    assert recent.now() is None
