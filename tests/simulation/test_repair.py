from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.stores.writes import DYNAMODB_LIMITS
from metering.units import HOUR_S
from tests.simulation.checks.checker import check
from tests.simulation.history import rows_of
from tests.simulation.region import jobs
from tests.simulation.region.faults import MINUTE_MS, ScriptedFaults
from tests.simulation.region.ports import Process, ProcessItems
from tests.simulation.region.world import World
from tests.simulation.scenario import FEW_ACTIONS, NOW_MS, NoChunks, content_of
from tests.support.usage_items import change, lose, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.stores.writes import Action, ActionLimits
    from tests.simulation.sent.contents import SentContent


class _Slow(ProcessItems):
    """Something else happens before its first transaction leaves."""

    def __init__(self, process: Process, meanwhile: Callable[[], None]) -> None:
        super().__init__(process, process.world.items)
        self._meanwhile: Callable[[], None] | None = meanwhile

    def transact(self, actions: Sequence[Action]) -> None:
        meanwhile, self._meanwhile = self._meanwhile, None
        if meanwhile is not None:
            meanwhile()
            # A second correction would be taken back in the next round, unless the process dies before.
            try:
                super().transact(actions)
            finally:
                assert sum(entry.total.records for entry in usage_of(self._process.world.items)) == 2
            return
        super().transact(actions)


@pytest.mark.parametrize("usage_shards", [4, 1])
@pytest.mark.parametrize("is_lost", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_two_repairs_that_measured_at_different_moments_correct_once(
    seed: int, is_lost: bool, usage_shards: int
) -> None:
    world = _world([content_of(f"b{n}", 0, [NOW_MS // 1000]) for n in range(2)], seed)

    def meanwhile() -> None:
        _meter(world, world.process("b1.0"), "b1.0", usage_shards)
        jobs.rebuilder(world.process("second"), shards=1).usage()

    def story() -> None:
        _meter(world, world.process("b0.0"), "b0.0", usage_shards)
        for entry in usage_of(world.items):
            if is_lost:
                lose(world.items, entry)
            else:
                change(world.items, entry, -entry.total.bytes, -1)
        first = world.process("first")
        first.items = _Slow(first, meanwhile)
        jobs.rebuilder(first, shards=1).usage()
        _must_be_sound(world)

    _run(world, story)


def test_a_marker_that_is_rebuilt_while_its_commit_is_open_names_every_hour_in_the_end() -> None:
    """Pointers of a commit of many hours come in chunks: until the last is there, a reader does not see all rows."""
    world = _world([content_of("many", 0, [NOW_MS // 1000 - HOUR_S * n for n in range(15)])], limits=FEW_ACTIONS)

    def story() -> None:
        worker = world.process("worker")
        worker.items = NoChunks(worker, world.items)
        _meter(world, worker, "many.0", 1)
        world.watch.lose_marker("many")
        world.scheduler.at(world.scheduler.now_ms + 3 * MINUTE_MS, lambda: world.scheduler.spawn(sweep))
        jobs.rebuilder(world.process("first"), shards=1).markers()
        _must_be_sound(world)

    def sweep() -> None:
        process = world.process("sweep")
        jobs.sweeper(process, jobs.settings(1, 1, 200)).sweep(jobs.deadline(process, MINUTE_MS))

    _run(world, story)

    assert world.watch.rebuilt == {"many"}


def test_batches_in_the_hours_of_a_commit_that_stays_open_wait_for_the_next_rebuild_of_markers() -> None:
    now_s = NOW_MS // 1000
    open_hours = [now_s - HOUR_S * n for n in range(15)]
    contents = [content_of("many", 0, open_hours), content_of("other", 0, [now_s - 20 * HOUR_S])]
    world = _world(contents, limits=FEW_ACTIONS)

    def story() -> None:
        worker = world.process("worker")
        _meter(world, worker, "other.0", 1)
        worker.items = NoChunks(worker, world.items)
        _meter(world, worker, "many.0", 1)
        for batch_id in ("many", "other"):
            world.watch.lose_marker(batch_id)
        result = jobs.rebuilder(world.process("first"), shards=1).markers()
        assert (result.rebuilt, result.unstable) == (1, tuple(sorted(open_hours)))
        assert world.watch.markers_lost == {"many"}
        worker.items = ProcessItems(worker, world.items)
        jobs.finisher(worker).finish(world.watch.accepted["many"][1])
        result = jobs.rebuilder(world.process("second"), shards=1).markers()
        assert (result.rebuilt, result.unstable) == (1, ())
        _must_be_sound(world)

    _run(world, story)


def _world(contents: Sequence[SentContent], seed: int = 0, *, limits: ActionLimits = DYNAMODB_LIMITS) -> World:
    world = World(seed, ScriptedFaults("nobody", {}), now_ms=NOW_MS, limits=limits)
    world.queue.odd = False
    world.contents = {content.name: content for content in contents}
    return world


def _run(world: World, story: Callable[[], None]) -> None:
    done: list[bool] = []

    def body() -> None:
        story()
        done.append(True)

    world.scheduler.spawn(body)
    world.scheduler.run_while(lambda: not done, limit_ms=60 * MINUTE_MS)
    assert done


def _must_be_sound(world: World) -> None:
    reader = world.process("reader")
    view = jobs.lake_view(reader, shards=1)
    rows = [row for hour_s in view.hours() for row in view.read(hour_s, lambda state: rows_of(reader, state))]
    assert not check(world, rows)


def _meter(world: World, process: Process, name: str, usage_shards: int) -> None:
    world.queue.send(name, "S1")
    deliveries = world.queue.receive(10)
    result = jobs.aggregator(process, jobs.settings(1, usage_shards, 200)).handle(
        deliveries, jobs.deadline(process, MINUTE_MS)
    )
    assert result.retry == ()
    world.queue.acknowledge([delivery.message_id for delivery in deliveries])
