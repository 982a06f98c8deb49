"""Repairs beside traffic (P38), and the steps after a restore of the ledger (P41)."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

from metering.errors import ConditionFailedError
from tests.simulation.checks.checker import check
from tests.simulation.history import rows_of
from tests.simulation.region import jobs
from tests.simulation.region.faults import MINUTE_MS, ScriptedFaults
from tests.simulation.region.ports import Process, ProcessItems
from tests.simulation.region.world import World
from tests.simulation.scenario import NOW_MS, content_of
from tests.support.usage_items import change, lose, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.settings import Settings
    from metering.stores.writes import Action, Item, Update
    from tests.simulation.region.faults import Fault
    from tests.simulation.sent.contents import SentContent

_SETTINGS = jobs.settings(1, 200)
_TWO_SHARDS = jobs.settings(2, 200)


class _Slow(ProcessItems):
    """Another process acts before its first correction is sent."""

    def __init__(self, process: Process, meanwhile: Callable[[], None]) -> None:
        super().__init__(process, process.world.items)
        self._meanwhile: Callable[[], None] | None = meanwhile

    def update(self, action: Update) -> Item:
        if not str(action.key.pk).startswith("A#"):
            return super().update(action)
        self._happen()
        # A second correction would be reverted in the next round, unless the process dies before.
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
    """With a run in between, its number refuses the later correction; without one, the revision does."""
    world = _world([content_of(f"b{n}", 0, [NOW_MS // 1000]) for n in range(2)], seed)

    def meanwhile() -> None:
        if is_rolled_up:
            _meter(world, "b1.0")
            _roll_up(world)
        jobs.rebuilder(world.process("second"), _SETTINGS, shards=1).usage()

    def story() -> None:
        _meter(world, "b0.0")
        if not is_rolled_up:
            _meter(world, "b1.0")
        _roll_up(world)
        for entry in usage_of(world.items):
            if is_lost:
                lose(world.items, entry)
            else:
                change(world.items, entry, -entry.total.bytes, -1)
        first = world.process("first")
        first.items = _Slow(first, meanwhile)
        jobs.rebuilder(first, _SETTINGS, shards=1).usage()
        _must_be_sound(world)

    _run(world, story)


class _Between:
    """Runs an action before one call of the process `first`."""

    def __init__(self, number: int) -> None:
        self.histogram: Counter[str] = Counter()
        self.calls = 0
        self.then: Callable[[], None] = lambda: None
        self._number = number

    def decide(self, process: str, call: str, choices: tuple[Fault, ...]) -> Fault | None:
        del call, choices
        if process == "first":
            self.calls += 1
            if self.calls == self._number:
                self.then()
        return None

    def later_ms(self) -> int:
        return 0

    def pause_ms(self) -> int:
        return 0


def _lose_all(world: World) -> None:
    for entry in usage_of(world.items):
        lose(world.items, entry)


@pytest.mark.parametrize("settings", [_SETTINGS, _TWO_SHARDS], ids=["one shard", "two shards"])
def test_a_table_that_is_lost_and_repaired_between_any_two_calls_of_a_roll_up_counts_all_once(
    settings: Settings,
) -> None:
    """The roll-up continues as if nothing had happened: its late updates meet the numbers of the done runs."""
    shards = settings.shards

    def run(number: int) -> _Between:
        between = _Between(number)
        world = _world([content_of(f"b{n}", 0, [NOW_MS // 1000]) for n in range(4)], faults=between)

        def meanwhile() -> None:
            _lose_all(world)
            # Items of the current run are left to a later pass.
            rebuilder = jobs.rebuilder(world.process("second"), settings, shards=shards)
            rebuilder.usage()

        def story() -> None:
            for name in ("b0.0", "b1.0"):
                _meter(world, name, settings)
            _roll_up(world, settings)
            for name in ("b2.0", "b3.0"):
                _meter(world, name, settings)
            between.then = meanwhile
            first = world.process("first")
            jobs.rollup(first, settings).run(jobs.deadline(first, 60 * MINUTE_MS))
            result = jobs.rebuilder(world.process("third"), settings, shards=shards).usage()
            assert not result.unstable
            # Repeats every past update late.
            for update in updates:
                with_refusal(partial(world.process("late").items.update, update))
            _must_be_sound(world, settings)

        updates = _updates_of(world)
        _run(world, story)
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
    """A call that may be refused."""
    try:
        call()
    except ConditionFailedError:
        return


def _world(contents: Sequence[SentContent], seed: int = 0, *, faults: _Between | None = None) -> World:
    world = World(seed, faults or ScriptedFaults("nobody", {}), now_ms=NOW_MS)
    world.queue.odd = False
    world.contents = {content.name: content for content in contents}
    return world


def _run(world: World, story: Callable[[], None]) -> None:
    done: list[bool] = []

    def body() -> None:
        story()
        done.append(True)

    world.scheduler.spawn(body)
    world.scheduler.run_while(lambda: not done, limit_ms=120 * MINUTE_MS)
    assert done


def _roll_up(world: World, settings: Settings = _SETTINGS) -> None:
    process = world.process("roll-up")
    assert jobs.rollup(process, settings).run(jobs.deadline(process, 60 * MINUTE_MS)).finished


def _must_be_sound(world: World, settings: Settings = _SETTINGS) -> None:
    _roll_up(world, settings)
    reader = world.process("reader")
    view = jobs.lake_view(reader, shards=settings.shards)
    rows = [row for hour_s in view.hours() for row in view.read(hour_s, lambda state: rows_of(reader, state))]
    assert not check(world, rows)


def _meter(world: World, name: str, settings: Settings = _SETTINGS) -> None:
    process = world.process(name)
    world.queue.send(name, "S1")
    deliveries = world.queue.receive(10)
    result = jobs.aggregator(process, settings).handle(deliveries, jobs.deadline(process, MINUTE_MS))
    assert result.retry == ()
    world.queue.acknowledge([delivery.message_id for delivery in deliveries])
