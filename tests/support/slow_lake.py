"""A lake of many files with slow reads, with which Arrow's scanner hung over a Python file system."""

from __future__ import annotations

import time

from metering.units import HOUR_S
from tests.support.lake_world import HOUR, World, record


def slow_lake(*, hours: int, files: int) -> World:
    """This many hours with this many lake files each."""
    world = World()
    for _ in range(files):
        world.send([record(1, start_s=HOUR - number * HOUR_S) for number in range(hours)])
        world.compact_all()
    assert len(world.objects.keys("lake/")) == hours * files
    return world


def ask_again_and_again(world: World, *, times: int, read_s: float) -> None:
    """Each answer is right, and arrives."""
    world.objects.on_call = lambda call: time.sleep(read_s) if call.startswith("objects.open") else None
    files = len(world.objects.keys("lake/"))
    for _ in range(times):
        result = world.lake.run("SELECT sum(bytes), count(*) FROM transfers", timeout_s=60)
        assert list(result.rows) == [(files, files)]
