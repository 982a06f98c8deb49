"""A close beside everything else: what waits, who races, who resumes (docs/protocol.md, P33 to P36)."""

from __future__ import annotations

from functools import partial

import pytest

from metering.billing.closing.refusals import PeriodNotClosableError
from metering.ledger.waiting import waiting_commits
from metering.usage.totals import Total
from tests.support.lake_world import World, record
from tests.unit.billing.test_months import AFTER_S, FIRST_S, MONTH, world_with_october

TOTAL = Total(5 + 7 + 2**62 + 11, 4)


def with_waiting(world: World) -> World:
    """Booked before the month closes, and not rolled up yet."""
    world.send([record(100, start_s=FIRST_S + 60), record(3, start_s=AFTER_S - 60)], rolled_up=False)
    return world


def more() -> Total:
    return TOTAL.plus(Total(103, 2))


def test_a_close_rolls_up_and_compacts_what_waits() -> None:
    world = world_with_october()
    world.compact_all()
    with_waiting(world)
    assert list(waiting_commits(world.items, 1))
    assert world.jobs.closer.close(MONTH, world.deadline()).total == more()
    assert not list(waiting_commits(world.items, 1))


def test_a_close_is_exact_while_another_process_rolls_up_and_compacts_at_any_of_its_calls() -> None:
    number = 0
    while True:
        world = with_waiting(world_with_october())
        other, calls = world.make_jobs(), 0

        def at(_call: str) -> None:
            nonlocal calls
            calls += 1
            if calls == number + 1:  # noqa: B023 - called at once
                world.items.on_call = lambda _call: None  # noqa: B023
                other.rollup.run(world.deadline())  # noqa: B023
                other.compactor_of(other.policy.everything()).run(world.deadline())  # noqa: B023

        world.items.on_call = at
        assert world.jobs.closer.close(MONTH, world.deadline()).total == more(), number
        assert world.jobs.closer.verify(MONTH) == []
        if calls <= number:
            break
        number += 23


def test_a_close_beside_a_run_of_the_roll_up_that_died_at_any_call_freezes_everything_once() -> None:
    number = 0
    while True:
        world = with_waiting(world_with_october())
        died = world.dies_after(number, world.roll_up)
        assert world.jobs.closer.close(MONTH, world.deadline()).total == more(), number
        if not died:
            break
        number += 3


def test_two_closes_that_race_freeze_the_same() -> None:
    number = 0
    while True:
        world = with_waiting(world_with_october())
        other = world.make_jobs().closer
        first = partial(world.jobs.closer.close, MONTH, world.deadline())
        died = world.dies_after(number, first)
        theirs = other.close(MONTH, world.deadline())
        ours = first()
        assert theirs == ours
        assert ours.total == more()
        if not died:
            break
        number += 13


def test_a_close_ends_although_commits_of_other_months_never_stop() -> None:
    """Nothing books into the month any more (P33), so it waits for what waits as it begins, not for an empty list."""
    world = with_waiting(world_with_october())
    came = busy = 0

    def come(call: str) -> None:
        nonlocal came, busy
        # Another commit before each transaction that places one. The limit ends a test that fails.
        if call == "items.transact" and not busy and came < 50:
            came, busy = came + 1, 1
            world.send([record(1, start_s=AFTER_S + 60)], rolled_up=False)
            busy = 0

    world.items.on_call = come
    assert world.jobs.closer.close(MONTH, world.deadline()).total == more()
    assert 0 < came < 10
    assert list(waiting_commits(world.items, 1))


def test_a_close_that_may_not_roll_up_in_time_freezes_nothing() -> None:
    world = with_waiting(world_with_october())
    with pytest.raises(PeriodNotClosableError, match="needs more time"):
        world.jobs.closer.close(MONTH, world.deadline(5))
    assert not world.objects.keys("closed/")
    assert list(waiting_commits(world.items, 1))
    assert world.jobs.closer.close(MONTH, world.deadline()).total == more()
