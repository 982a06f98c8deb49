"""Puts together what the region commands work with."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING

from metering.adapters.aws.fleet.account import AwsAccount
from metering.adapters.aws.fleet.cdk import CdkBuilder
from metering.adapters.aws.fleet.cloudformation import CloudFormationStacks
from metering.adapters.aws.fleet.deployed_regions import DeployedRegions
from metering.adapters.aws.fleet.probe import RegionProbe
from metering.adapters.aws.runtime import SystemClock
from metering.adapters.aws.session import Clients
from metering.adapters.aws.stacks import stack_outputs
from metering.cli.command import Session, say
from metering.cli.connecting import no_answer
from metering.cli.failures import WrongUsageError
from metering.errors import SettingsError, UnavailableError
from metering.fleet.regions import RegionState, RolloutRules
from metering.fleet.removal import RegionRemoval
from metering.fleet.rollout import RegionManager
from metering.fleet.state_store import LedgerRegionStates
from metering.fleet.steps import FleetPorts
from metering.stores.items import ItemStore
from metering.wiring.region import RegionPorts

if TYPE_CHECKING:
    from metering.fleet.stage import StageConfig

# Deployments of one wave that run at a time: each is a process of its own that mostly waits.
_SIDE_BY_SIDE = 3


class FleetTools:
    """The region manager of a stage, over the endpoint that the session names.

    Args:
        settings: Fields of the stage's configuration, each as `field=value`.
        no_pager: Ready without anybody to page.
        verbose: Say each resource.
    """

    def __init__(
        self, session: Session, *, settings: Sequence[str] = (), no_pager: bool = False, verbose: bool = False
    ) -> None:
        self._session = session
        self._settings = tuple(settings)
        self._no_pager = no_pager
        self._verbose = verbose
        self._clients: dict[str, Clients] = {}

    @cached_property
    def _config(self) -> "StageConfig":
        from metering.fleet.stage import StageConfig

        wrong = [setting for setting in self._settings if "=" not in setting]
        if wrong:
            raise WrongUsageError(f"--set {wrong[0]}: not FIELD=VALUE.", "The fields are in metering/fleet/stage.py.")
        pairs = dict(setting.partition("=")[::2] for setting in self._settings)
        return StageConfig.load(self._session.stage, pairs)

    @cached_property
    def rules(self) -> RolloutRules:
        """The stage's rules of rollout; a region that was named with `--region` is the home of this run."""
        rules = self._config.rollout
        named = self._session.named_region
        return rules if named in {None, "all"} else rules.model_copy(update={"home": named})

    @cached_property
    def world(self) -> FleetPorts:
        """Ports to the account and its regions."""
        home = self.clients(self.rules.home)
        return FleetPorts(
            account=AwsAccount(home.account, custom_endpoint=home.access.custom_endpoint),
            stacks=CloudFormationStacks(self.clients),
            builder=CdkBuilder(
                stage=self._session.stage,
                endpoint=self._session.endpoint,
                environ=os.environ,
                settings=self._settings,
                # Emulators run no builds.
                home="" if self._config.emulated else self.rules.home,
                say=self.say if self._verbose else _nothing,
            ),
            probe=RegionProbe(self.clients),
            life=DeployedRegions(self.clients, stage=self._session.stage),
            clock=SystemClock(),
            rules=self.rules,
            no_pager=self._no_pager,
        )

    @cached_property
    def states(self) -> LedgerRegionStates:
        """States of all regions, in the home region's ledger."""
        return LedgerRegionStates(self._home_ledger)

    @cached_property
    def manager(self) -> RegionManager:
        """Builds regions; those of one wave side by side."""
        return RegionManager(self.world, self.states, say=self.say, side_by_side=_side_by_side)

    @cached_property
    def removal(self) -> RegionRemoval:
        """Removes regions."""
        return RegionRemoval(self.world, self.states, say=self.say)

    def clients(self, region: str) -> Clients:
        """Clients of a region, made once."""
        if region not in self._clients:
            self._clients[region] = Clients.from_env(os.environ, region=region, endpoint_url=self._session.endpoint)
        return self._clients[region]

    def say(self, region: str, message: str) -> None:
        """One line to people."""
        say(f"{region}: {message}" if region else message)

    def _home_ledger(self) -> ItemStore | None:
        clients = self.clients(self.rules.home)
        try:
            resources = stack_outputs(clients, self._session.stage)
        except SettingsError:
            return None
        except UnavailableError as error:
            raise no_answer(error, endpoint=self._session.endpoint, region=self.rules.home) from error
        return RegionPorts(clients, resources).items


def _nothing(_region: str, _message: str) -> None:
    """Not told."""


def _side_by_side(build: Callable[[str], RegionState], regions: Sequence[str]) -> Iterable[RegionState]:
    with ThreadPoolExecutor(max_workers=_SIDE_BY_SIDE) as pool:
        return list(pool.map(build, regions))
