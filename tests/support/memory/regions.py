"""An account with in-memory regions: one class for the account API, CloudFormation, CDK, probe and deployed regions."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from metering.errors import OperationFailedError, SettingsError
from metering.fleet.ports import Deployment, RegionStacks, StackResource, StackStatus
from metering.fleet.regions import Answered, Finding, ListedRegion, RegionState
from metering.fleet.rollout import RegionManager, RegionRemoval
from metering.fleet.steps import FleetPorts
from metering.ledger.format_version import FORMAT_VERSION
from metering.operations.access import ProducerRole
from metering.settings import GivenSettings, StageSettings
from tests.support.memory.clock import ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.fleet.stage import RolloutRules

STACKS = RegionStacks.of("test")
TYPES = ("AWS::ApiGatewayV2::Api", "AWS::DynamoDB::Table", "AWS::Glue::Database", "AWS::SQS::Queue")
# Resource types that belong to an optional part.
_TYPES_OF = {"analytics": "Glue", "api": "ApiGateway"}


def _ignore(_call: str) -> None:
    """Do nothing at a call."""


class MemoryAccount:
    """An account that implements every port of `metering.fleet.ports` except `RegionStates`.

    Attributes:
        listed: Opt-in status of each region that the account API lists.
        lacking: Names of the resource types that a region lacks.
        failures: Reasons for the failures of the next deployments into a region, in order.
        found: Stacks by region and name.
        deployed: Deployments that succeeded, in order.
        canaries: Number of good canary results that a region has after a canary run.
        canary_runs: Number of canary runs by region.
        waiting: Batches without a verdict by region, as returned by `in_flight`.
        retained: Resources that a stack's deletion retains, by the stack's name.
        objects: Number of objects in the data bucket by region.
        formats: Data format by region; by default, the format of this version.
        outputs: Outputs of the stacks of the next deployments.
        kept: Stored region states, by the region of the ledger.
        restored: Tables of a region that no stack owns.
        deleted_tables: Regions and names of the tables that were deleted.
    """

    def __init__(
        self, listed: Mapping[str, str], *, on_call: Callable[[str], None] | None = None, canaries: int = 1
    ) -> None:
        self.on_call = on_call or _ignore
        self.listed = dict(listed)
        self.lacking: dict[str, set[str]] = {}
        self.failures: dict[str, list[str]] = {}
        self.found: dict[tuple[str, str], StackStatus] = {}
        self.deployed: list[Deployment] = []
        self.bootstrapped: Counter[str] = Counter()
        self.canaries = canaries
        self.canary_runs: Counter[str] = Counter()
        self.subscribers: Counter[str] = Counter()
        self.firing: dict[str, list[str]] = {}
        self.waiting: dict[str, dict[str, int]] = {}
        self.mapping: dict[str, str] = {}
        self.retained: dict[str, list[StackResource]] = {}
        self.objects: Counter[str] = Counter()
        self.formats: dict[str, int] = {}
        self.outputs: dict[str, str] = {}
        self.kept: dict[str, MemoryRegionStates] = {}
        self.restored: dict[str, list[str]] = {}
        self.deleted_tables: list[tuple[str, str]] = []

    def regions(self) -> Sequence[ListedRegion]:
        self.on_call("account.regions")
        return [ListedRegion(name=name, opt_status=status) for name, status in sorted(self.listed.items())]

    def opt_status(self, region: str) -> str | None:
        self.on_call("account.opt_status")
        status = self.listed.get(region)
        if status == "ENABLING":
            self.listed[region] = "ENABLED"
        return status

    def enable(self, region: str) -> None:
        self.on_call("account.enable")
        self.listed[region] = "ENABLING"

    def describe(self, region: str, stack: str) -> StackStatus | None:
        self.on_call("stacks.describe")
        return self.found.get((region, stack))

    def delete(self, region: str, stack: str) -> None:
        self.on_call("stacks.delete")
        self.found.pop((region, stack), None)

    def resources(self, region: str, stack: str) -> Sequence[StackResource]:
        del region
        return self.retained.get(stack, [])

    def detect_drift(self, region: str, stack: str) -> str:
        self.on_call("stacks.detect_drift")
        return "IN_SYNC" if (region, stack) in self.found else "NOT_CHECKED"

    def stacks(self) -> RegionStacks:
        return STACKS

    def bootstrap(self, region: str) -> None:
        self.on_call("builder.bootstrap")
        self.bootstrapped[region] += 1

    def resource_types(self, deployment: Deployment) -> Sequence[str]:
        self.on_call("builder.resource_types")
        return [name for name in TYPES if not any(_TYPES_OF.get(part, "-") in name for part in deployment.left_out)]

    def called_services(self, deployment: Deployment) -> Mapping[str, Sequence[str]]:
        del deployment
        return {}

    def deploy(self, deployment: Deployment) -> None:
        """Deploy the stacks in order. A stack that fails is left rolled back, as after a failed first creation."""
        for name in (*STACKS.in_order, *([STACKS.rollout] if deployment.project else [])):
            if name == STACKS.api and "api" in deployment.left_out:
                continue
            self.on_call(f"builder.deploy {name}")
            known = self.found.get((deployment.region, name))
            if known is not None and known.unusable:
                raise OperationFailedError(f"{name} is {known.status} and cannot be updated")
            reasons = self.failures.get(deployment.region)
            if reasons:
                why = reasons.pop(0)
                self.found[deployment.region, name] = StackStatus(name=name, status="ROLLBACK_COMPLETE", why=why)
                raise OperationFailedError("the CDK ended with 1")
            self.found[deployment.region, name] = StackStatus(
                name=name, status="CREATE_COMPLETE", outputs=dict(self.outputs)
            )
        self.deployed.append(deployment)
        self.mapping.setdefault(deployment.region, "Enabled")

    def preflight(
        self, region: str, types: Sequence[str], called: Mapping[str, Sequence[str]] | None = None
    ) -> Sequence[Finding]:
        del called
        self.on_call("probe.preflight")
        lacking = self.lacking.get(region, set())
        return [
            Finding(
                check=f"type {name}",
                answered=Answered.FAILED if name in lacking else Answered.PASSED,
                detail="no such type" if name in lacking else "",
            )
            for name in types
        ]

    def invoke_canary(self, region: str) -> None:
        self.on_call("deployed.invoke_canary")
        self.canary_runs[region] += 1

    def good_canaries(self, region: str, *, since_s: int) -> int:
        del since_s
        self.on_call("deployed.good_canaries")
        return self.canaries if self.canary_runs[region] else 0

    def firing_alarms(self, region: str) -> Sequence[str]:
        return self.firing.get(region, [])

    def start(self, region: str) -> None:
        self.on_call("deployed.start")
        self.mapping[region] = "Enabled"

    def set_intake(self, region: str, *, enabled: bool) -> None:
        self.on_call("deployed.set_intake")
        self.mapping[region] = "Enabled" if enabled else "Disabled"

    def intake(self, region: str) -> str:
        return self.mapping.get(region, "none")

    def in_flight(self, region: str) -> Mapping[str, int]:
        self.on_call("deployed.in_flight")
        return self.waiting.get(region, {})

    def kept_states(self, region: str) -> Sequence[RegionState]:
        self.on_call("deployed.kept_states")
        return self.kept[region].everything() if region in self.kept else []

    def rollback_alarms(self, region: str) -> Sequence[str]:
        return [f"arn:aws:cloudwatch:{region}:000000000000:alarm:page"]

    def pager_subscriptions(self, region: str) -> int:
        return self.subscribers[region]

    def empty_bucket(self, region: str) -> int:
        self.on_call("deployed.empty_bucket")
        return self.objects.pop(region, 0)

    def tables(self, region: str) -> Sequence[str]:
        return self.restored.get(region, [])

    def delete_table(self, region: str, name: str) -> None:
        self.on_call("deployed.delete_table")
        self.deleted_tables.append((region, name))

    def data_format(self, region: str) -> int:
        return self.formats.get(region, FORMAT_VERSION)


class MemoryDeployedSettings:
    """`DeployedSettings` in a dictionary."""

    def __init__(self, documents: Mapping[str, StageSettings | str] | None = None) -> None:
        self.documents: dict[str, StageSettings | str] = dict(documents or {})
        self.readable: dict[str, GivenSettings] = {}
        self.subscribers: dict[str, list[Mapping[str, str]]] = {}

    def published(self, region: str) -> StageSettings | None:
        found = self.documents.get(region)
        if isinstance(found, str):
            raise SettingsError([found])
        return found

    def given(self, region: str) -> GivenSettings | None:
        found = self.documents.get(region)
        return found.given if isinstance(found, StageSettings) else self.readable.get(region)

    def subscriptions(self, region: str) -> Sequence[Mapping[str, str]]:
        return self.subscribers.get(region, [])


class MemoryRegionStates:
    """`RegionStates` in a dictionary."""

    def __init__(self) -> None:
        self.states: dict[str, RegionState] = {}

    def load(self, region: str) -> RegionState | None:
        return self.states.get(region)

    def save(self, state: RegionState) -> None:
        self.states[state.region] = state

    def everything(self) -> Sequence[RegionState]:
        return [self.states[name] for name in sorted(self.states)]


class MemoryFleet:
    """A stage in an account that lists some regions with their opt-in status. `said` has the messages for people."""

    def __init__(
        self, listed: Mapping[str, str], *, rules: RolloutRules, no_pager: bool = False, project: bool | None = None
    ) -> None:
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
            project=project,
        )
        self.said: list[str] = []
        self.manager = RegionManager(ports=self.ports, states=self.states, say=self.say)
        self.removal = RegionRemoval(ports=self.ports, states=self.states, say=self.say)

    def say(self, region: str, message: str) -> None:
        self.said.append(f"{region}: {message}")


class MemoryProducerRoles:
    """Roles of one region, by producer name. Each created role gets its own unique id."""

    def __init__(self) -> None:
        self.roles: dict[str, ProducerRole] = {}
        self._made = 0

    def find(self, name: str) -> ProducerRole | None:
        return self.roles.get(name)

    def put(self, name: str, *, trusted_arn: str) -> ProducerRole:
        before = self.roles.get(name)
        if before is None:
            self._made += 1
        role = ProducerRole(
            arn=f"arn:aws:iam::000000000000:role/metering-local-producer-{name}",
            role_id=f"AROA{self._made:017d}" if before is None else before.role_id,
            trusted=(trusted_arn or "arn:aws:iam::000000000000:root",),
        )
        self.roles[name] = role
        return role

    def remove(self, name: str) -> bool:
        self.roles.pop(name, None)
        return True
