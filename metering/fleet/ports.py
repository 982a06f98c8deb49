"""What building and removing regions needs of the world outside: the account, CloudFormation, the CDK, and one region.

As with the ports of `metering.stores`, each method is one step that may be applied although its reply is lost. All can
be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.fleet.regions import Finding, ListedRegion, RegionState


class Account(Protocol):
    """The account API: which regions there are."""

    def regions(self) -> Sequence[ListedRegion]:
        """Every region that the account could use, with its opt-in status."""
        ...

    def opt_status(self, region: str) -> str | None:
        """The region's opt-in status, or None if the API does not know it."""
        ...

    def enable(self, region: str) -> None:
        """Ask for the region to be opted in to; it takes minutes to hours."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStatus:
    """A stack as CloudFormation describes it.

    Attributes:
        status: Such as `CREATE_COMPLETE`.
        drift: `IN_SYNC`, `DRIFTED`, `NOT_CHECKED` or `UNKNOWN`, as of the last check.
        why: The status reason, or the first failed resource's.
    """

    name: str
    status: str
    drift: str = "NOT_CHECKED"
    why: str = ""

    @property
    def busy(self) -> bool:
        """An operation is going on; nothing else can be started."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def never_created(self) -> bool:
        """Its first creation failed or was never carried out: it holds nothing and can only be deleted."""
        return self.status in {
            "CREATE_FAILED",
            "ROLLBACK_COMPLETE",
            "ROLLBACK_FAILED",
            "REVIEW_IN_PROGRESS",
            "DELETE_FAILED",
        }

    @property
    def complete(self) -> bool:
        return self.status in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"}


class Stacks(Protocol):
    """CloudFormation in any region."""

    def describe(self, region: str, stack: str) -> StackStatus | None:
        """The stack, or None if there is none."""
        ...

    def delete(self, region: str, stack: str) -> None:
        """Start deleting a stack, after taking its termination protection away; none there is no error."""
        ...

    def detect_drift(self, region: str, stack: str) -> str:
        """Compare the stack with what is there and wait for the answer: a `StackStatus.drift`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What is deployed into a region.

    Attributes:
        left_out: Optional parts to go without.
        rollback_alarms: ARNs of alarms that turn the deployment back; empty for the first one.
        watch_min: Minutes that CloudFormation watches them after the change.
    """

    region: str
    architecture: str = "arm64"
    left_out: tuple[str, ...] = ()
    rollback_alarms: tuple[str, ...] = ()
    watch_min: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionStacks:
    """Names of a stage's stacks in one region.

    Attributes:
        data: Keeps the data, and stays when the region is removed.
        pipeline: Functions and their schedules.
        observability: Alarms and dashboards.
    """

    data: str
    pipeline: str
    observability: str

    @classmethod
    def of(cls, stage: str) -> RegionStacks:
        """The stacks of a stage."""
        return cls(
            data=f"metering-{stage}-data",
            pipeline=f"metering-{stage}-pipeline",
            observability=f"metering-{stage}-observability",
        )

    @property
    def in_order(self) -> tuple[str, str, str]:
        """All of them, in the order of deployment."""
        return self.data, self.pipeline, self.observability


class Builder(Protocol):
    """The CDK: synthesises and deploys the app. Raises each failure as an `OperationFailedError`."""

    def stacks(self) -> RegionStacks:
        """Names of the stacks of one region."""
        ...

    def bootstrap(self, region: str) -> None:
        """Make the region ready for the CDK."""
        ...

    def resource_types(self, deployment: Deployment) -> Sequence[str]:
        """The distinct CloudFormation types that a deployment would make, sorted."""
        ...

    def deploy(self, deployment: Deployment) -> None:
        """Deploy all stacks and wait for them."""
        ...


class Probe(Protocol):
    """Asks a region what it can do."""

    def preflight(self, region: str, types: Sequence[str]) -> Sequence[Finding]:
        """Check types, endpoints and quotas. A check is named after what it asks: `type AWS::SQS::Queue`."""
        ...


class DeployedRegion(Protocol):
    """A deployed region: its canary, its mapping, its queues, who is paged."""

    def invoke_canary(self, region: str) -> None:
        """Start a canary run; its result is not waited for."""
        ...

    def good_canaries(self, region: str, *, since_s: int) -> int:
        """How many canary results at or after `since_s` were good."""
        ...

    def firing_alarms(self, region: str) -> Sequence[str]:
        """Names of the page alarms that are on."""
        ...

    def start(self, region: str) -> None:
        """Let everything run that somebody may have stopped: the mapping, the schedules, functions held at zero."""
        ...

    def set_intake(self, region: str, *, enabled: bool) -> None:
        """Let the aggregator take messages, or stop it."""
        ...

    def intake(self, region: str) -> str:
        """State of the event source mapping (`Enabled`, `Disabled`, `Disabling` …), or `none`."""
        ...

    def in_flight(self, region: str) -> Mapping[str, int]:
        """What is not settled: `queued`, `received`, `dead`, `open_commits`."""
        ...

    def rollback_alarms(self, region: str) -> Sequence[str]:
        """ARNs of the alarms that turn a deployment back. One that is on already says nothing of the deployment."""
        ...

    def pager_subscriptions(self, region: str) -> int:
        """Confirmed subscriptions of the page topic."""
        ...


class RegionStates(Protocol):
    """The state of all regions, in the home region's ledger."""

    def load(self, region: str) -> RegionState | None:
        """The region's state, or None."""
        ...

    def save(self, state: RegionState) -> None:
        """Replace the region's state."""
        ...

    def everything(self) -> Sequence[RegionState]:
        """All states, by name."""
        ...
