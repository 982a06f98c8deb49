"""Parts that build and remove the regions of a stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from metering.adapters.aws.caller import caller_arn
from metering.adapters.aws.fleet.account import AwsAccount
from metering.adapters.aws.fleet.cdk import CdkBuilder
from metering.adapters.aws.fleet.cloudformation import CloudFormationStacks
from metering.adapters.aws.fleet.deployed_regions import DeployedRegions
from metering.adapters.aws.fleet.probe import RegionProbe
from metering.adapters.aws.runtime import SystemClock
from metering.adapters.aws.session import Clients
from metering.errors import MeteringError
from metering.fleet.regions import Answered, Finding, reserved_executions
from metering.fleet.removal import RegionRemoval
from metering.fleet.rollout import RegionManager
from metering.fleet.settings.bases import REHEARSAL_RULES
from metering.fleet.settings.regions import RegionSettings
from metering.fleet.settings.tunables import peak_writes_per_s
from metering.fleet.state_store import LedgerRegionStates
from metering.fleet.steps import DOCTOR, FleetPorts
from metering.fleet.survey import survey
from metering.fleet.uninstall import Uninstall
from metering.fleet.versions import own_release
from metering.wiring.connection import connected
from metering.wiring.doctor import findings_of
from metering.wiring.region import Stage, home_ledger

if TYPE_CHECKING:
    from metering.fleet.regions import Phase, RegionState
    from metering.fleet.rules import RolloutRules
    from metering.fleet.settings.layers import Asked
    from metering.fleet.stage import StageConfig
    from metering.fleet.survey import Surveyed
    from metering.stores.items import ItemStore
    from metering.wiring.connection import RegionConnection

Say = Callable[[str, str], None]
"""Tells people one line: region (or empty) and message."""

# Deployments of one wave that run at a time. Each is a process of its own that mostly waits.
_SIDE_BY_SIDE = 3


def silent(_region: str, _message: str) -> None:
    """Tell nothing."""


def _aws() -> bool:
    """No emulator."""
    return False


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """Regions of one stage; each part is made on first use.

    Attributes:
        asked: Stage, and what a command says about its settings.
        home: Home region, which a command may name; it has the settings that new regions begin from.
        endpoint: Endpoint of an emulator; None for AWS.
        environ: Environment of the SDK and of deployments: credentials, certificates.
        on_emulator: Says whether an emulator is at the endpoint.
        no_pager: A region may be ready although its page topic has no confirmed subscription.
        say: Told of each step.
        say_resource: Told of each resource that a deployment makes.
        reaching_home: Context of the first call to the home region, which may explain a failure.
    """

    asked: Asked
    home: str
    endpoint: str | None
    environ: Mapping[str, str]
    on_emulator: Callable[[], bool] = _aws
    no_pager: bool = False
    say: Say = silent
    say_resource: Say = silent
    reaching_home: Callable[[], AbstractContextManager[None]] = nullcontext

    @cached_property
    def clients_of(self) -> Callable[[str], Clients]:
        return cache(lambda region: Clients.from_env(self.environ, region=region, endpoint_url=self.endpoint))

    @cached_property
    def deployed(self) -> DeployedRegions:
        return DeployedRegions(self.clients_of, stage=self.asked.stage)

    @cached_property
    def settings(self) -> RegionSettings:
        return RegionSettings(asked=self.asked, home=self.home, deployed=self.deployed)

    @cached_property
    def config(self) -> StageConfig:
        """Configuration of the home region, from what it was given and what the command says.

        Raises:
            SettingsError: Names every problem.
        """
        with self.reaching_home():
            return self.settings.of(self.home).config

    @cached_property
    def rehearsal(self) -> bool:
        """Whether the stage is one of an account, and is tried on an emulator."""
        return not self.config.emulated and self.on_emulator()

    @cached_property
    def rules(self) -> RolloutRules:
        own = REHEARSAL_RULES if self.rehearsal else {}
        return self.config.rollout.model_copy(update={**own, "home": self.home})

    @cached_property
    def ports(self) -> FleetPorts:
        home = self.clients_of(self.home)
        return FleetPorts(
            account=AwsAccount(home.account, custom_endpoint=home.access.custom_endpoint),
            stacks=CloudFormationStacks(self.clients_of),
            builder=CdkBuilder(
                stage=self.asked.stage,
                endpoint=self.endpoint,
                environ=self.environ,
                given=cache(lambda region: self.settings.of(region).given),
                rehearsal=self.rehearsal,
                # An emulator has no CodeBuild, so no project there builds missing regions.
                home="" if self.config.emulated or self.rehearsal else self.home,
                say=self.say_resource,
            ),
            probe=RegionProbe(
                self.clients_of,
                reserved=reserved_executions(shards=self.config.policy().shards),
                api_concurrency=self.config.api_concurrency,
                writes_per_s=peak_writes_per_s(*self.config.warm_tables.values()),
                emulated=self.config.emulated or self.rehearsal,
            ),
            deployed=self.deployed,
            tell=self.say,
            usage_before=self._usage_before,
            examined=self._examined,
            clock=SystemClock(),
            rules=self.rules,
            no_pager=self.no_pager,
            architecture=self.config.architecture,
        )

    def _usage_before(self, region: str) -> int:
        """Generation of the older usage table that stays: the ledger's, until a restore is done; 0 if there is none."""
        found = self.deployed.usage_generation(region)
        return 0 if found == self.settings.of(region).config.policy().usage_generation else found

    def _examined(self, region: str) -> Sequence[Finding]:
        if self.clients_of(region).access.custom_endpoint:
            # An emulator cannot show most of it, and shows that it cannot each time a region is built.
            return ()
        try:
            return findings_of(self._connected(region))
        except MeteringError as error:
            return (Finding(check=DOCTOR.strip(), answered=Answered.UNKNOWN, detail=str(error)),)

    def _connected(self, region: str) -> RegionConnection:
        return connected(self.clients_of(region), self.asked.stage)

    @cached_property
    def states(self) -> LedgerRegionStates:
        return LedgerRegionStates(self.home_items)

    @property
    def regions(self) -> Stage[RegionConnection]:
        return Stage(home=self.home, connect=self._connected, states=self.states)

    @cached_property
    def manager(self) -> RegionManager:
        return RegionManager(ports=self.ports, states=self.states, say=self.say, side_by_side=_side_by_side)

    @cached_property
    def uninstall(self) -> Uninstall:
        return Uninstall(ports=self.ports, states=self.states, removal=self.removal, say=self.say)

    def survey(self, region: str, phase: Phase | None) -> Surveyed:
        """Look at what is deployed in a region, against what this checkout would deploy there."""
        # A note says that nobody knows all of what the region was given.
        same = not (self.settings.change(region).differences or self.settings.before(region).note)
        return survey(self.ports, region, phase=phase, own=own_release(), same_settings=same)

    @cached_property
    def removal(self) -> RegionRemoval:
        return RegionRemoval(ports=self.ports, states=self.states, say=self.say)

    def caller(self) -> str:
        """ARN of the caller, as the home region's STS knows it."""
        return caller_arn(self.clients_of(self.home).sts)

    def home_items(self) -> ItemStore | None:
        """Tables of the home region; None while it is not deployed."""
        with self.reaching_home():
            return home_ledger(self.clients_of(self.home), self.asked.stage)


def _side_by_side(build: Callable[[str], RegionState], regions: Sequence[str]) -> Iterable[RegionState]:
    with ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE) as pool:
        return list(pool.map(build, regions))
