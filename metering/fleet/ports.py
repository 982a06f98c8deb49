"""Ports for building and removing regions: account, CloudFormation, CDK, and access to deployed regions.

Each method is one repeatable step, which may take effect even if its response is lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Protocol

from metering.ledger.format_version import FORMAT_VERSION
from metering.version import package_commit, package_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.fleet.regions import Finding, ListedRegion, RegionState
    from metering.settings import GivenSettings, StageSettings


VERSION_OUTPUT = "Version"
FORMAT_OUTPUT = "DataFormat"
COMMIT_OUTPUT = "Commit"
REHEARSAL_OUTPUT = "Rehearsal"

# Stacks up to this version have no output with their version.
LAST_SILENT_VERSION = "0.1.0"

# `0.2.0`, `0.2.0.dev0`, `1.0.0rc1` (PEP 440).
_VERSION = re.compile(r"^(\d+)\.(\d+)\.(\d+)(?:\.?(dev|a|b|rc)(\d+))?$")
# A release sorts after its pre-releases.
_STAGES = {"dev": 0, "a": 1, "b": 2, "rc": 3, None: 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Release of a checkout or an installed package.

    Attributes:
        version: Such as `0.2.0`.
        data_format: Newest data format that the release supports, which is also the format that it writes.
        commit: Empty if unknown.
    """

    version: str
    data_format: int
    commit: str = ""

    @property
    def outputs(self) -> dict[str, str]:
        """Outputs of its stacks."""
        known = {VERSION_OUTPUT: self.version, FORMAT_OUTPUT: str(self.data_format), COMMIT_OUTPUT: self.commit}
        return {name: value for name, value in known.items() if value}

    @classmethod
    def of_outputs(cls, outputs: Mapping[str, str]) -> Release | None:
        """Release of a stack, according to the stack's outputs; None if they do not state it."""
        version, data_format = outputs.get(VERSION_OUTPUT, ""), outputs.get(FORMAT_OUTPUT, "")
        if not version or not data_format.isdigit():
            return None
        return cls(version=version, data_format=int(data_format), commit=outputs.get(COMMIT_OUTPUT, ""))

    def __str__(self) -> str:
        return f"{self.version} ({self.commit})" if self.commit else self.version


@cache
def own_release() -> Release:
    """Version, data format and commit of this checkout or of the installed package."""
    return Release(version=package_version(), data_format=FORMAT_VERSION, commit=package_commit())


class Direction(StrEnum):
    """Direction of the change from the deployed release to another release."""

    SAME = "same"
    UPGRADE = "upgrade"
    ROLLBACK = "rollback"
    REFUSED = "refused"
    """The data has a format that the other release does not work with."""


def direction(deployed: Release | None, *, data_format: int, own: Release) -> Direction:
    """Direction of the change from the deployed release to this checkout.

    Args:
        deployed: Release of the functions in the region; None if unknown.
        data_format: Format of the region's data, according to the region's ledger.
        own: Release of this checkout.
    """
    if own.data_format != data_format:
        return Direction.REFUSED
    if deployed is None:
        return Direction.UPGRADE if order(own.version) > order(LAST_SILENT_VERSION) else Direction.SAME
    if deployed.version == own.version:
        # In a checkout without git there is no commit id, so only the versions are compared.
        known = deployed.commit and own.commit
        return Direction.UPGRADE if known and deployed.commit != own.commit else Direction.SAME
    return Direction.UPGRADE if order(own.version) > order(deployed.version) else Direction.ROLLBACK


def order(version: str) -> tuple[int, ...]:
    """Sort key of a version: 0.1.0 < 0.2.0.dev0 < 0.2.0rc1 < 0.2.0. Other texts come first."""
    match = _VERSION.match(version)
    if match is None:
        return (0,)
    major, minor, patch, stage, number = match.groups()
    return int(major), int(minor), int(patch), _STAGES[stage], int(number or 0)


class Account(Protocol):
    """Account API, which lists the regions."""

    def regions(self) -> Sequence[ListedRegion]:
        """All regions available to the account, with their opt-in status."""

    def opt_status(self, region: str) -> str | None:
        """Opt-in status of the region; None if the API does not list the region."""

    def enable(self, region: str) -> None:
        """Request the opt-in to the region, which takes from minutes to hours."""


# CloudFormation gives these only after a first creation that it rolled back or never began.
_EMPTY = frozenset({"ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StackStatus:
    """Status of a stack, as CloudFormation describes it.

    Attributes:
        status: Such as `CREATE_COMPLETE`.
        drift: `IN_SYNC`, `DRIFTED`, `NOT_CHECKED` or `UNKNOWN`, as of the last drift detection.
        why: Reason why the first resource failed or, if none failed, the reason for the stack's status.
    """

    name: str
    status: str
    drift: str = "NOT_CHECKED"
    why: str = ""
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def release(self) -> Release | None:
        return Release.of_outputs(self.outputs)

    @property
    def rehearsal(self) -> bool:
        """Whether the stack is a rehearsal, on an emulator, of a stage that is meant for an AWS account."""
        return REHEARSAL_OUTPUT in self.outputs

    @property
    def busy(self) -> bool:
        """Whether an operation is in progress, during which no other operation can start."""
        return self.status.endswith("_IN_PROGRESS") and self.status != "REVIEW_IN_PROGRESS"

    @property
    def unusable(self) -> bool:
        """Whether the stack can only be deleted: a creation or a deletion did not end."""
        return self.status in {"CREATE_FAILED", "ROLLBACK_FAILED", "DELETE_FAILED", *_EMPTY}

    @property
    def complete(self) -> bool:
        return self.status in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"}

    @property
    def deletable(self) -> bool:
        """Whether a deployment may delete the stack, and create it again.

        A data stack may be deleted only if its status proves that it never held data.
        """
        return self.unusable and (not self.name.endswith("-data") or self.status in _EMPTY)

    def __str__(self) -> str:
        return f"{self.name} is {self.status}{': ' if self.why else ''}{self.why}"

    def cure(self, region: str) -> str:
        """Command that a person types, because no deployment repairs the stack; empty if a deployment does."""
        where = f"--stack-name {self.name} --region {region}"
        if self.status == "UPDATE_ROLLBACK_FAILED":
            return (
                f"Cure the reason, then: aws cloudformation continue-update-rollback {where} (with --resources-to-skip "
                "and the ID of a resource that cannot be rolled back)"
            )
        if self.deletable or not self.unusable:
            return ""
        return (
            "The service never deletes it, because it may hold data. To leave its data in no stack, as "
            f'docs/operator-guide.md says under "A lost table, bucket or region": {self.deletion(region)}'
        )

    def deletion(self, region: str) -> str:
        """Command that deletes the stack; after a failed deletion, it retains what cannot be deleted."""
        force = " --deletion-mode FORCE_DELETE_STACK" if self.status == "DELETE_FAILED" else ""
        return f"aws cloudformation delete-stack --stack-name {self.name} --region {region}{force}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackResource:
    """Resource of a stack.

    Attributes:
        kind: Such as `AWS::S3::Bucket`.
        name: Physical id.
        retained: Whether the deletion policy retains the resource when the stack is deleted.
    """

    kind: str
    name: str
    retained: bool


class Stacks(Protocol):
    """CloudFormation in any region."""

    def resources(self, region: str, stack: str) -> Sequence[StackResource]:
        """All resources of an existing stack."""

    def describe(self, region: str, stack: str) -> StackStatus | None:
        """Status of the stack; None if the stack does not exist."""

    def delete(self, region: str, stack: str) -> None:
        """Remove the termination protection of a stack and start deleting it. A missing stack is not an error."""

    def detect_drift(self, region: str, stack: str) -> str:
        """Detect drift of the stack, and wait for the result, a value of `StackStatus.drift`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Deployment into a region.

    Attributes:
        left_out: Optional parts that will not be deployed in the region.
        rollback_alarms: ARNs of the alarms that trigger a rollback of the deployment; empty for a first deployment.
        watch_min: Number of minutes for which CloudFormation monitors the rollback alarms after the change.
        usage_before: Generation of the older usage table that must be retained; 0 if there is none.
        project: Whether the region has the project that builds missing regions; an existing one is deleted without it.
    """

    region: str
    architecture: str = "arm64"
    left_out: tuple[str, ...] = ()
    rollback_alarms: tuple[str, ...] = ()
    watch_min: int = 0
    usage_before: int = 0
    project: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionStacks:
    """Names of a stage's stacks in one region.

    Attributes:
        data: Data stack, which remains when the region is removed.
        pipeline: Functions and their schedules.
        api: Stack of the HTTP API, if the stage has one.
        observability: Alarms and dashboards.
        rollout: CodeBuild project that builds missing regions; exists only in the home region.
    """

    stage: str
    data: str
    pipeline: str
    api: str
    observability: str
    rollout: str

    @classmethod
    def of(cls, stage: str) -> RegionStacks:
        return cls(
            stage=stage,
            data=f"metering-{stage}-data",
            pipeline=f"metering-{stage}-pipeline",
            api=f"metering-{stage}-api",
            observability=f"metering-{stage}-observability",
            rollout=f"metering-{stage}-rollout",
        )

    @property
    def in_order(self) -> tuple[str, str, str, str]:
        """All stacks that a region may have, in the order of deployment."""
        return self.data, self.pipeline, self.api, self.observability

    @property
    def everywhere(self) -> tuple[str, str, str]:
        """The stacks that every region has, in the order of deployment."""
        return self.data, self.pipeline, self.observability

    @property
    def working(self) -> tuple[str, str, str]:
        """Stacks that use the data, in order of deletion: a stack that imports an output goes before its exporter."""
        return self.observability, self.api, self.pipeline


# Made by `cdk bootstrap`, unless a stage names another.
TOOLKIT_STACK = "CDKToolkit"


class Builder(Protocol):
    """CDK: synthesises and deploys the app. Each failure raises an `OperationFailedError`."""

    def stacks(self) -> RegionStacks:
        """Names of the stacks of one region."""

    def bootstrap(self, region: str) -> None:
        """Bootstrap the CDK in the region, if its bootstrap is missing or too old."""

    def resource_types(self, deployment: Deployment) -> Sequence[str]:
        """Distinct CloudFormation types that a deployment would create, in sorted order."""

    def called_services(self, deployment: Deployment) -> Mapping[str, Sequence[str]]:
        """Functions by the services that they call, for a stage whose functions run in a network; else nothing.

        Each service has the name of its endpoint: `sqs`.
        """

    def deploy(self, deployment: Deployment) -> None:
        """Deploy all stacks, and wait until they are deployed."""


class Probe(Protocol):
    """Access to a region's services and quotas, for checks before a deployment."""

    def preflight(
        self, region: str, types: Sequence[str], called: Mapping[str, Sequence[str]] | None = None
    ) -> Sequence[Finding]:
        """Check types, endpoints and quotas, and that the functions' network reaches the services that they call.

        Each check is named after its subject: `type AWS::SQS::Queue`.
        """


class DeployedRegion(Protocol):
    """Access to the canary, event source mapping, queues, alarms and pagers of deployed regions."""

    def invoke_canary(self, region: str) -> None:
        """Start a canary run; do not wait for its result."""

    def good_canaries(self, region: str, *, since_s: int) -> int:
        """Number of successful canary results at or after `since_s`."""

    def firing_alarms(self, region: str) -> Sequence[str]:
        """Names of alarms with severity `page` that are in state `ALARM`."""

    def start(self, region: str) -> None:
        """Restart what people may have stopped: event source mapping, schedules, and functions with concurrency 0."""

    def set_intake(self, region: str, *, enabled: bool) -> None:
        """Enable or disable the event source mapping of the aggregator."""

    def intake(self, region: str) -> str:
        """State of the event source mapping (`Enabled`, `Disabled`, `Disabling` …); `none` if there is no mapping."""

    def in_flight(self, region: str) -> Mapping[str, int]:
        """Numbers of batches without a verdict (`queued`, `received`, `dead`) and of `waiting_commits`."""

    def kept_states(self, region: str) -> Sequence[RegionState]:
        """Region states in the region's ledger; the states of other regions mean that this is their home region."""

    def rollback_alarms(self, region: str) -> Sequence[str]:
        """ARNs of the rollback alarms of a deployment, except alarms that are already in state `ALARM`."""

    def pager_subscriptions(self, region: str) -> int:
        """Number of confirmed subscriptions to the page topic."""

    def empty_bucket(self, region: str) -> int:
        """Delete every object in the data bucket, with all versions; returns the number of deletions."""

    def data_format(self, region: str) -> int:
        """Format of the region's data according to the ledger, even if this version does not support the format."""

    def tables(self, region: str) -> Sequence[str]:
        """Names of the existing tables of the region's data, also of those that no stack owns after a restore."""

    def delete_table(self, region: str, name: str) -> None:
        """Delete a table with its deletion protection. A missing table is not an error."""


class DeployedSettings(Protocol):
    """Settings of a deployed stage."""

    def published(self, region: str) -> StageSettings | None:
        """Settings that the data stack published; None if the data stack is not deployed.

        Raises:
            SettingsError: The data stack is deployed, but its settings cannot be read.
        """

    def given(self, region: str) -> GivenSettings | None:
        """Given settings of the region, even if a version with another policy published them; None if unknown."""

    def subscriptions(self, region: str) -> Sequence[Mapping[str, str]]:
        """Subscribers to the region's topics: severity, protocol and endpoint of each subscriber.

        Raises:
            SettingsError: The region has no alert topics.
        """


class RegionStates(Protocol):
    """States of all regions, which are stored in the ledger of the home region."""

    def load(self, region: str) -> RegionState | None:
        """State of the region; None if no state is stored."""

    def save(self, state: RegionState) -> None:
        """Store a region's state, replacing its earlier state."""

    def everything(self) -> Sequence[RegionState]:
        """All states, by name."""
