"""Markers get lost, as after a partial restore of the ledger, and are rebuilt before any worker runs again."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

from metering.ledger.markers import Marker, marker_key
from metering.units import DAY_S
from tests.simulation.checks.watch import ViolationError
from tests.simulation.region import jobs
from tests.simulation.region.faults import MINUTE_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.settings import Settings
    from tests.simulation.region.ports import Process
    from tests.simulation.region.world import World

_SHARE = 0.06
# Batches with older hours get no marker again, because theirs may have expired.
_SURELY_MARKED_S = 45 * DAY_S


class MarkerLoss:
    """Losses of one history.

    Args:
        seed: Belongs to a history, with a random stream of its own, so that no other part of the history shifts.
    """

    def __init__(self, world: World, seed: int, world_settings: Settings, *, shards: int) -> None:
        self._world = world
        self._settings = world_settings
        self._shards = shards
        self._chance = random.Random(f"markers {seed}")
        self.happens = self._chance.random() < _SHARE

    def lose(self) -> None:
        """Some accepted markers are deleted. No worker runs, because copies would be metered again."""
        lost = [each.batch_id for each in self._markers() if self._chance.random() < 0.6]
        for batch_id in lost:
            self._world.watch.lose_marker(batch_id)
        self._world.faults.histogram["markers lost, to be rebuilt"] += len(lost)

    def rebuild_amid_faults(self, roll_up: Callable[[Process], object]) -> None:
        """Two rebuilds at once, while waiting commits are rolled up."""
        world = self._world
        for name, run, delay_ms in (
            ("markers 1", self.rebuild, 0),
            ("markers 2", self.rebuild, self._chance.randrange(MINUTE_MS)),
            ("rollup", roll_up, self._chance.randrange(4 * MINUTE_MS)),
        ):
            process = world.process(name)
            world.scheduler.spawn(jobs.job(process, partial(run, process)), delay_ms=delay_ms)
        world.scheduler.run_until(world.scheduler.now_ms + 30 * MINUTE_MS)

    def rebuild(self, process: Process) -> None:
        """The production rebuild."""
        jobs.rebuilder(process, self._settings, shards=self._shards).markers()

    def rebuild_rest(self, process: Process) -> None:
        """Alone, it rebuilds every marker."""
        self.rebuild(process)
        if self._world.watch.markers_lost:
            raise ViolationError(f"markers of {sorted(self._world.watch.markers_lost)} stay lost")

    def send_copies(self) -> None:
        """Every message ever sent under the ids of rebuilt markers arrives again."""
        for content in self._world.contents.values():
            if content.batch_id in self._world.watch.rebuilt and self._world.queue.sent_times.get(content.name):
                self._world.queue.send(content.name, content.sender_id)

    def _markers(self) -> list[Marker]:
        oldest_s = self._world.scheduler.now_ms // 1000 - _SURELY_MARKED_S
        items = [self._world.peek(marker_key(batch_id)) for batch_id in sorted(self._world.watch.accepted)]
        markers = [Marker.from_item(item) for item in items if item is not None and item["verdict"] == "accepted"]
        return [marker for marker in markers if min(marker.hours) > oldest_s]
