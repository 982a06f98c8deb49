"""Repairs during traffic (P38), and the steps after a restore of the ledger (P41)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from metering.errors import ConditionFailedError
from tests.simulation.checks.checker import check
from tests.simulation.region import jobs
from tests.simulation.region.faults import ScriptedFaults
from tests.simulation.region.ports import Process, ProcessItems
from tests.simulation.scenario import NOW_MS, content_of
from tests.simulation.stories import SETTINGS, Between, meter, play, roll_up, visible, world_of
from tests.support.usage_items import change, lose, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.settings import Settings
    from metering.stores.writes import Action, Item, Update
    from tests.simulation.region.world import World

_TWO_SHARDS = jobs.settings(2, 200)


class _Slow(ProcessItems):
    """Item store of a repair; `meanwhile` runs right before the first correction."""

    def __init__(self, process: Process, meanwhile: Callable[[], None]) -> None:
        super().__init__(process, process.world.items)
        self._meanwhile: Callable[[], None] | None = meanwhile

    def update(self, action: Update) -> Item:
        if not str(action.key.pk).startswith("A#"):
            return super().update(action)
        self._happen()
        # A second correction would be reverted in the next round, unless the process died before that.
        try:
            return super().update(action)
        finally:
            assert sum(entry.total.records for entry in usage_of(self._process.world.items)) == 2

    def transact(self, actions: Sequence[Action]) -> None:
        self._happen()
        super().transact(actions)

    def _happen(self) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()


@pytest.mark.parametrize("is_rolled_up", [True, False])
@pytest.mark.parametrize("is_lost", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_two_repairs_that_measured_at_different_moments_correct_once(
    seed: int, is_lost: bool, is_rolled_up: bool
) -> None:
    """The later correction fails: if a run was in between, on the number of that run, else on the revision."""
    world = world_of([content_of(f"b{n}", 0, [NOW_MS // 1000]) for n in range(2)], ScriptedFaults("nobody", {}), seed)

    def meanwhile() -> None:
        if is_rolled_up:
            meter(world, "b1.0", by="b1.0")
            roll_up(world, "roll-up")
        jobs.rebuilder(world.process("second"), SETTINGS, shards=1).usage()

    def story() -> None:
        meter(world, "b0.0", by="b0.0")
        if not is_rolled_up:
            meter(world, "b1.0", by="b1.0")
        roll_up(world, "roll-up")
        for entry in usage_of(world.items):
            if is_lost:
                lose(world.items, entry)
            else:
                change(world.items, entry, -entry.total.bytes, -1)
        first = world.process("first")
        first.items = _Slow(first, meanwhile)
        jobs.rebuilder(first, SETTINGS, shards=1).usage()
        _must_be_sound(world)

    play(world, story)


def _lose_all(world: World) -> None:
    for entry in usage_of(world.items):
        lose(world.items, entry)


@pytest.mark.parametrize("settings", [SETTINGS, _TWO_SHARDS], ids=["one shard", "two shards"])
def test_a_table_that_is_lost_and_repaired_between_any_two_calls_of_a_roll_up_counts_all_once(
    settings: Settings,
) -> None:
    """The roll-up continues; because items have the numbers of done runs, its late updates fail."""
    shards = settings.shards

    def run(number: int) -> Between:
        between = Between(number)
        world = world_of([content_of(f"b{n}", 0, [NOW_MS // 1000]) for n in range(4)], between, 0)

        def meanwhile() -> None:
            _lose_all(world)
            # Items of the current run are left for a later pass.
            jobs.rebuilder(world.process("second"), settings, shards=shards).usage()

        def story() -> None:
            for name in ("b0.0", "b1.0"):
                meter(world, name, by=name, settings=settings)
            roll_up(world, "roll-up", settings=settings)
            for name in ("b2.0", "b3.0"):
                meter(world, name, by=name, settings=settings)
            between.then = meanwhile
            roll_up(world, "first", settings=settings)
            assert not jobs.rebuilder(world.process("third"), settings, shards=shards).usage().unstable
            # Repeats every past update at a later time.
            for update in updates:
                with_refusal(partial(world.process("late").items.update, update))
            _must_be_sound(world, settings)

        updates = _updates_of(world)
        play(world, story)
        return between

    number = 1
    while run(number).calls >= number:
        number += 1
    assert number > 12


def _updates_of(world: World) -> list[Update]:
    """Every update of a usage item that a roll-up sends from now on."""
    updates: list[Update] = []

    def listen(process: Process) -> None:
        update = process.items.update

        def send(action: Update) -> Item:
            if process.name in ("first", "roll-up") and str(action.key.pk).startswith("A#"):
                updates.append(action)
            return update(action)

        process.items.update = send  # type: ignore[method-assign]  # the same call, overheard

    world.listen = listen
    return updates


def with_refusal(call: Callable[[], object]) -> None:
    """Make a call, and ignore a failed condition."""
    try:
        call()
    except ConditionFailedError:
        return


def _must_be_sound(world: World, settings: Settings = SETTINGS) -> None:
    roll_up(world, "roll-up", settings=settings)
    assert not check(world, visible(world, shards=settings.shards))
