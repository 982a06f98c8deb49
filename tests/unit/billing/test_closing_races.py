"""A close beside everything else: what waits, who races, who resumes (docs/protocol.md, P33 to P36)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from metering.audit.census_state import CensusState, census_bytes, census_of
from metering.billing.freezing import PeriodNotClosableError
from metering.lake.ports import CountedTotals
from metering.ledger.commits import waiting_commits
from metering.usage.totals import Total
from tests.support.lake_world import World, dying, record
from tests.unit.billing import test_freezing
from tests.unit.billing.test_freezing import Shifted
from tests.unit.billing.test_months import AFTER_S, FIRST_S, MONTH, world_with_october

if TYPE_CHECKING:
    from metering.audit.census_state import HourStep

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
    for world in dying(lambda: with_waiting(world_with_october()), World.roll_up, step=3):
        assert world.jobs.closer.close(MONTH, world.deadline()).total == more()


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


def counted_in(world: World) -> CensusState:
    """What the check of a close had counted when its process died, after it had looked at everything."""
    kept: list[bytes] = []

    def keep(state: CensusState) -> None:
        kept.append(census_bytes(state))

    def stop(step: HourStep) -> None:
        if step.doing == "frozen":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.jobs.closer.close(MONTH, world.deadline(), stop, keep=keep)
    counted = census_of(kept[-1], world.items)
    assert counted is not None
    return counted


def test_a_close_goes_on_with_what_the_check_of_another_process_counted() -> None:
    world = with_waiting(world_with_october())
    counted = counted_in(world)
    scans: list[str] = []
    world.items.on_call = scans.append
    assert world.jobs.closer.close(MONTH, world.deadline(), counted=counted).total == more()
    assert "items.scan" not in scans
    assert world.jobs.closer.verify(MONTH) == []


def test_rows_that_changed_after_another_process_counted_them_are_not_frozen() -> None:
    world = test_freezing.world_with_october()
    counted = counted_in(world)
    world.objects.delete(world.objects.keys("closed/"))
    closer, shifted = world.jobs.closer, Shifted(world.jobs.view.reader)
    totals = CountedTotals(shifted)
    figures = replace(closer.reconciler.figures, totals=totals)
    closer = replace(closer, reader=shifted, reconciler=replace(closer.reconciler, figures=figures))
    with pytest.raises(PeriodNotClosableError, match="not those that usage and markers were compared with"):
        closer.close(MONTH, world.deadline(), counted=counted)
    assert world.alerts.sent[-1].severity == "page"
    assert world.jobs.closer.frozen(MONTH) is None


def test_a_close_that_may_not_roll_up_in_time_freezes_nothing() -> None:
    world = with_waiting(world_with_october())
    with pytest.raises(PeriodNotClosableError, match="needs more time"):
        world.jobs.closer.close(MONTH, world.deadline(5))
    assert not world.objects.keys("closed/")
    assert list(waiting_commits(world.items, 1))
    assert world.jobs.closer.close(MONTH, world.deadline()).total == more()
