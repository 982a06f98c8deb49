"""Parts that build and remove the regions of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from metering.adapters.aws.fleet.account import AwsAccount
from metering.adapters.aws.fleet.cdk import CdkBuilder
from metering.adapters.aws.fleet.cloudformation import CloudFormationStacks
from metering.adapters.aws.fleet.deployed_regions import DeployedRegions
from metering.adapters.aws.fleet.probe import RegionProbe
from metering.adapters.aws.runtime import SystemClock
from metering.adapters.aws.session import Clients
from metering.adapters.aws.stacks import stack_outputs
from metering.errors import SettingsError
from metering.fleet.removal import RegionRemoval
from metering.fleet.rollout import RegionManager
from metering.fleet.state_store import LedgerRegionStates
from metering.fleet.steps import FleetPorts
from metering.wiring.region import RegionPorts

if TYPE_CHECKING:
    from metering.fleet.regions import RegionState, RolloutRules
    from metering.fleet.stage import StageConfig
    from metering.stores.items import ItemStore

Say = Callable[[str, str], None]
"""Tells people one line: region (or empty) and message."""

# Deployments of one wave that run at a time. Each is a process of its own that mostly waits.
_SIDE_BY_SIDE = 3


def silent(_region: str, _message: str) -> None:
    """Tell nothing."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Regions of one stage; each part is made on first use.

    Attributes:
        config: Configuration of the stage.
        rules: Rules of the rollout; a command may name another home region than the stage's.
        endpoint: Endpoint of an emulator; None for AWS.
        environ: Environment of the SDK and of deployments: credentials, certificates.
        settings: Fields of the configuration that differ from the stage's, each as `field=value`.
        no_pager: A region may be ready although its page topic has no confirmed subscription.
        say: Told of each step.
        say_resource: Told of each resource that a deployment makes.
        reaching_home: Context of the first call to the home region, which may explain a failure.
    """

    config: StageConfig
    rules: RolloutRules
    endpoint: str | None
    environ: Mapping[str, str]
    settings: Sequence[str] = ()
    no_pager: bool = False
    say: Say = silent
    say_resource: Say = silent
    reaching_home: Callable[[], AbstractContextManager[None]] = nullcontext

    @cached_property
    def clients_of(self) -> Callable[[str], Clients]:
        return cache(lambda region: Clients.from_env(self.environ, region=region, endpoint_url=self.endpoint))

    @cached_property
    def ports(self) -> FleetPorts:
        home = self.clients_of(self.rules.home)
        return FleetPorts(
            account=AwsAccount(home.account, custom_endpoint=home.access.custom_endpoint),
            stacks=CloudFormationStacks(self.clients_of),
            builder=CdkBuilder(
                stage=self.config.stage,
                endpoint=self.endpoint,
                environ=self.environ,
                settings=self.settings,
                # An emulator has no CodeBuild, so no project there builds missing regions.
                home="" if self.config.emulated else self.rules.home,
                say=self.say_resource,
            ),
            probe=RegionProbe(self.clients_of),
            deployed=DeployedRegions(self.clients_of, stage=self.config.stage),
            clock=SystemClock(),
            rules=self.rules,
            no_pager=self.no_pager,
        )

    @cached_property
    def states(self) -> LedgerRegionStates:
        return LedgerRegionStates(self._home_items)

    @cached_property
    def manager(self) -> RegionManager:
        return RegionManager(ports=self.ports, states=self.states, say=self.say, side_by_side=_side_by_side)

    @cached_property
    def removal(self) -> RegionRemoval:
        return RegionRemoval(ports=self.ports, states=self.states, say=self.say)

    def _home_items(self) -> ItemStore | None:
        clients = self.clients_of(self.rules.home)
        try:
            with self.reaching_home():
                return RegionPorts(clients, stack_outputs(clients, self.config.stage)).items
        except SettingsError:
            return None


def _side_by_side(build: Callable[[str], RegionState], regions: Sequence[str]) -> Iterable[RegionState]:
    with ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE) as pool:
        return list(pool.map(build, regions))
