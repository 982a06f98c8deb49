from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.simulation import jobs
from tests.simulation.checker import check
from tests.simulation.faults import MINUTE_MS, ScriptedFaults
from tests.simulation.history import rows_of
from tests.simulation.matrix import NOW_MS, content_of
from tests.simulation.ports import Process, ProcessItems
from tests.simulation.world import World
from tests.usage_items import change, lose, usage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.domain.items import Action


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
    world = World(seed, ScriptedFaults("nobody", {}), now_ms=NOW_MS)
    world.queue.odd = False
    world.contents = {c.name: c for c in (content_of(f"b{n}", 0, [NOW_MS // 1000]) for n in range(2))}

    def meanwhile() -> None:
        _meter(world, "b1.0", usage_shards)
        jobs.rebuilder(world.process("second"), shards=1).usage()

    def story() -> None:
        _meter(world, "b0.0", usage_shards)
        for entry in usage_of(world.items):
            if is_lost:
                lose(world.items, entry)
            else:
                change(world.items, entry, -entry.total.bytes, -1)
        first = world.process("first")
        first.items = _Slow(first, meanwhile)
        jobs.rebuilder(first, shards=1).usage()
        reader = world.process("reader")
        view = jobs.lake_view(reader, shards=1)
        rows = [row for hour_s in view.hours() for row in view.read(hour_s, lambda state: rows_of(reader, state))]
        assert not check(world, rows)
        done.append(True)

    done: list[bool] = []
    world.scheduler.spawn(story)
    world.scheduler.run_while(lambda: not done, limit_ms=60 * MINUTE_MS)

    assert done


def _meter(world: World, name: str, usage_shards: int) -> None:
    world.queue.send(name, "S1")
    process = world.process(name)
    deliveries = world.queue.receive(10)
    result = jobs.aggregator(process, jobs.settings(1, usage_shards, 200)).handle(
        deliveries, jobs.deadline(process, MINUTE_MS)
    )
    assert result.retry == ()
    world.queue.acknowledge([delivery.message_id for delivery in deliveries])
