"""Days of causes have the bytes of the lake, each once, wherever a process is killed."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from tests.support.cause_world import CauseWorld, network_of

if TYPE_CHECKING:
    from tests.support.networks.files import LogFile
    from tests.support.networks.traffic import Network


@cache
def small() -> tuple[Network, tuple[LogFile, ...]]:
    network = network_of(lines=500, slots=2)
    return network, tuple(network.files())


def metered() -> CauseWorld:
    network, files = small()
    world = CauseWorld(network)
    world.meter(files)
    return world


def test_rows_have_the_bytes_of_the_lake_by_usage_and_hour() -> None:
    world = metered()
    kept = world.keep_causes()
    assert kept.behind_s == 0
    assert kept.files > 0
    assert world.cause_sums() == world.lake_sums()
    assert {row["reason"] for row in world.cause_rows()} >= {"", "sides_differ"}
    assert {row["basis"] for row in world.cause_rows()} >= {"told", "seen", "split"}
    # Nothing counts twice.
    assert world.keep_causes().files == 0
    assert world.cause_sums() == world.lake_sums()
