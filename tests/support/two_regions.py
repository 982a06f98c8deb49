"""An in-memory stage of two regions, for running commands."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from metering.cli.failures import CommandFailedError
from metering.errors import SettingsError, UnavailableError
from metering.fleet.regions import Phase, RegionState
from metering.wiring.region import Stage
from tests.cli.lively import Lively
from tests.support.command_line import typed_at
from tests.support.lake_world import World
from tests.support.memory.regions import MemoryRegionStates

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME, AWAY = "us-east-1", "eu-west-1"
REFUSED = UnavailableError("cloudformation.DescribeStacks", "connection refused")


class TwoRegions:
    """A home region and another one. Mutable.

    Attributes:
        regions: Each region has its own world.
        states: Both are ready.
        silent: Unreachable regions, with the error.
    """

    def __init__(self) -> None:
        self.regions = {name: Lively(world=World(), region=name) for name in (HOME, AWAY)}
        self.home = self.regions[HOME]
        self.silent: dict[str, Exception] = {}
        self.states = MemoryRegionStates()
        for name in self.regions:
            self.states.save(RegionState(region=name, phase=Phase.READY, deployments=1))

    def send(self, region: str, *records: dict[str, Any]) -> None:
        """Meter a batch, down to the lake."""
        self.regions[region].world.send([*records])
        self.regions[region].world.compact_all()

    def close(self, *regions: str, month: str = "2026-10") -> None:
        """Close a month of these regions, or of both."""
        for name in regions or self.regions:
            world = self.regions[name].world
            world.jobs.closer.close(month, world.deadline())

    def connect(self, *, region: str, **_place: object) -> Lively:
        if region in self.silent:
            raise self.silent[region]
        if region not in self.regions:
            raise CommandFailedError(f"not deployed in {region}") from SettingsError(["no stack"])
        return self.regions[region]

    @property
    def stage(self) -> Stage[Lively]:
        return Stage(home=HOME, connect=lambda name: self.connect(region=name), states=self.states)

    @contextmanager
    def typed(self) -> Iterator[None]:
        """Type commands at it."""
        with typed_at(self.connect, property(lambda _session: self.stage)):
            yield
