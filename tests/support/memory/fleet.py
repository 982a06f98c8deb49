"""An in-memory stage of several regions, with the production rollout and removal over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.fleet.removal import RegionRemoval
from metering.fleet.rollout import RegionManager
from metering.fleet.steps import FleetPorts
from tests.support.memory.clock import ManualClock
from tests.support.memory.regions import MemoryAccount, MemoryRegionStates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.fleet.stage import RolloutRules


class MemoryFleet:
    """A stage whose account lists some regions with their opt-in status. `said` has the messages to people."""

    def __init__(self, listed: Mapping[str, str], *, rules: RolloutRules, no_pager: bool = False) -> None:
        self.account = MemoryAccount(dict(listed))
        self.states = MemoryRegionStates()
        self.clock = ManualClock(1_800_000_000_000)
        self.ports = FleetPorts(
            account=self.account,
            stacks=self.account,
            builder=self.account,
            probe=self.account,
            deployed=self.account,
            clock=self.clock,
            rules=rules,
            no_pager=no_pager,
        )
        self.said: list[str] = []
        self.manager = RegionManager(ports=self.ports, states=self.states, say=self.say)
        self.removal = RegionRemoval(ports=self.ports, states=self.states, say=self.say)

    def say(self, region: str, message: str) -> None:
        self.said.append(f"{region}: {message}")
