"""Steps that make a region ready. All are repeatable, and raise `OperationFailedError` with the reason if they stop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.errors import OperationFailedError
from metering.fleet import stage
from metering.fleet.ports import Account, Builder, DeployedRegion, Deployment, Probe, Stacks, StackStatus
from metering.fleet.regions import Answered, Finding, RegionState, Step
from metering.ledger.notes.checks import slot_of
from metering.units import HOUR_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.stores.clock import Clock

_POLL_MS = 2_000
_OPT_IN_POLL_MS = 15_000
_OPT_IN_LIMIT_S = 6 * HOUR_S
_STACK_LIMIT_S = HOUR_S

# Optional parts of a region, and the name prefixes of the checks for these parts.
OPTIONAL_PARTS: dict[str, tuple[str, ...]] = {
    "analytics": ("type AWS::Glue::", "type AWS::Athena::", "endpoint glue", "endpoint athena"),
    "composite_alarms": ("type AWS::CloudWatch::CompositeAlarm",),
    "tracing": ("endpoint xray",),
    # No other stack depends on the API's stack.
    "api": (
        "type AWS::ApiGatewayV2::",
        "type AWS::CertificateManager::",
        "type AWS::Route53::",
        "endpoint apigatewayv2",
        "quota Lambda concurrent executions with the API",
        "unreserved Lambda executions with the API",
    ),
}


DISABLED = "disabled in the account; rollout.opt_in = true enables it"

# Prefix of findings of the doctor in the preflight.
DOCTOR = "doctor "


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPorts:
    """Ports and rules for the steps.

    Attributes:
        tell: Called for each finding of `metering doctor`, with a region and a message.
        usage_before: Generation of the older usage table that the next deployment of a region must retain, or 0.
        check_tables: Refuses a deployment that would exchange the tables of a region for others that lack its data.
        bill: Gives a ledger that is not the stack's own the billing mode of the stage.
        examined: Returns the findings of `metering doctor` in a deployed region; on an emulator, there are none.
        no_pager: Whether a region may be ready even if no subscription to its `page` topic is confirmed.
        architecture: Processor architecture, from the stage's settings.
        project: Whether the home region has a project that builds regions; None keeps a project that stands.
        rolls_back: Whether alarms roll a deployment back. After a restore, the ledger of before is closed.
    """

    account: Account
    stacks: Stacks
    builder: Builder
    probe: Probe
    deployed: DeployedRegion
    clock: Clock
    rules: stage.RolloutRules
    tell: Callable[[str, str], None] = lambda _region, _message: None
    usage_before: Callable[[str], int] = lambda _region: 0
    check_tables: Callable[[str], None] = lambda _region: None
    bill: Callable[[str], None] = lambda _region: None
    examined: Callable[[str], Sequence[Finding]] = lambda _region: ()
    no_pager: bool = False
    architecture: str = "arm64"
    project: bool | None = None
    rolls_back: bool = True

    def has_project(self, region: str) -> bool:
        """Whether a deployment of the region makes or keeps the project that builds regions."""
        if region != self.rules.home or self.project is False:
            return False
        return self.project or self.stacks.describe(region, self.builder.stacks().rollout) is not None

    def now_s(self) -> int:
        return self.clock.now_ms() // 1000


def opt_in(ports: FleetPorts, state: RegionState) -> RegionState:
    """Wait until the region is enabled; only if the rules say so, enable a region that the account has disabled."""
    status = ports.account.opt_status(state.region)
    if status is None:
        return replace(state, listed=False)
    until_s = ports.now_s() + _OPT_IN_LIMIT_S
    if status == "DISABLED":
        if not ports.rules.opt_in:
            raise OperationFailedError(
                f"{state.region} is {DISABLED}.",
                f"Or enable it yourself, and run again: aws account enable-region --region-name {state.region}",
            )
        ports.account.enable(state.region)
    while status not in {"ENABLED", "ENABLED_BY_DEFAULT"}:
        if status == "DISABLING":
            raise OperationFailedError(
                f"The account is opting out of {state.region}.", "Run again when that is done; it then opts in anew."
            )
        if ports.now_s() >= until_s:
            raise OperationFailedError(
                f"{state.region} is still being enabled after {_OPT_IN_LIMIT_S // HOUR_S} hours.",
                "The next run continues to wait.",
            )
        ports.clock.sleep_ms(_OPT_IN_POLL_MS)
        status = ports.account.opt_status(state.region) or "ENABLING"
    return replace(state, listed=True)


def bootstrap(ports: FleetPorts, state: RegionState) -> RegionState:
    """Bootstrap the CDK in the region, if necessary."""
    ports.builder.bootstrap(state.region)
    return state


def preflight(ports: FleetPorts, state: RegionState) -> RegionState:
    """Check that the region offers everything that the stacks need; missing optional parts are left out."""
    x86 = ports.architecture == "x86_64" or stage.matches(state.region, ports.rules.x86_regions)
    wanted = replace(state, architecture="x86_64" if x86 else state.architecture, left_out=())
    deployment = _deployment(ports, wanted, first=True)
    types, called = ports.builder.resource_types(deployment), ports.builder.called_services(deployment)
    findings = tuple(_judged(finding) for finding in ports.probe.preflight(state.region, types, called))
    missing = [finding for finding in findings if finding.answered is Answered.FAILED]
    if missing:
        raise PreflightFailedError(state.region, replace(wanted, findings=findings), missing)
    left_out = sorted({_part_of(f) for f in findings if f.answered is Answered.LEFT_OUT})
    return replace(wanted, findings=findings, left_out=tuple(left_out))


class PreflightFailedError(OperationFailedError):
    """The region lacks a part that the service requires.

    Attributes:
        state: State with all findings, which the caller must save.
    """

    def __init__(self, region: str, state: RegionState, missing: list[Finding]) -> None:
        lacks = "; ".join(f"{finding.check}: {finding.detail}" for finding in missing)
        super().__init__(f"{region} cannot hold the service. {lacks}", "The next run asks again.")
        self.state = state

    def __reduce__(self) -> tuple[object, ...]:
        missing = [finding for finding in self.state.findings if finding.answered is Answered.FAILED]
        return (PreflightFailedError, (self.state.region, self.state, missing))


def deploy(ports: FleetPorts, state: RegionState) -> RegionState:
    """Deploy the stacks; if a first deployment failed, now or in an earlier run, clean up."""
    clean_up(ports, state.region)
    deployed = _deploy(ports, state)
    # If a template is unchanged, a deployment does not change its resources, so a stopped part stays stopped.
    ports.deployed.start(state.region)
    return deployed


def _deploy(ports: FleetPorts, state: RegionState) -> RegionState:
    first = state.deployments == 0
    ports.bill(state.region)
    try:
        ports.builder.deploy(_deployment(ports, state, first=first))
    except OperationFailedError as error:
        why = _why(ports, state.region) or error.reason
        clean_up(ports, state.region)
        if state.architecture == "arm64" and "architecture" in why.lower():
            return _deploy(ports, replace(state, architecture="x86_64"))
        raise OperationFailedError(
            f"The deployment into {state.region} failed: {why}",
            "Its remains are deleted; the next run deploys again." if first else "The stacks are as they were before.",
        ) from error
    return replace(state, deployments=state.deployments + 1)


def canary(ports: FleetPorts, state: RegionState) -> RegionState:
    """Start a canary run. The step `bake` waits for the canary's result."""
    minute_s = slot_of(ports.now_s())
    if ports.deployed.good_canaries(state.region, since_s=minute_s):
        # There is one canary batch per minute. This minute's batch came before the deployment, and proves nothing.
        _sleep_until(ports, minute_s + MINUTE_S)
    asked = replace(state, canary_from_s=ports.now_s())
    ports.deployed.invoke_canary(state.region)
    return asked


def bake(ports: FleetPorts, state: RegionState) -> RegionState:
    """Monitor the region for a while, and require good canary results, because an idle region's silence is no proof."""
    began_s = state.done[Step.CANARY]
    rules = ports.rules
    _sleep_until(ports, began_s + rules.bake_min * MINUTE_S)
    until_s = max(ports.now_s(), began_s + rules.bake_min * MINUTE_S) + rules.canary_wait_min * MINUTE_S
    while (good := ports.deployed.good_canaries(state.region, since_s=state.canary_from_s)) < rules.canaries:
        if ports.now_s() >= until_s:
            raise OperationFailedError(
                f"Only {good} of {rules.canaries} canary runs in {state.region} ended well.",
                "The next run starts another canary. What to do: metering runbook canary-late "
                f"--region {state.region} --stage {ports.builder.stacks().stage}",
            )
        ports.clock.sleep_ms(_POLL_MS)
    firing = ports.deployed.firing_alarms(state.region) if rules.bake_min else ()
    if firing:
        raise OperationFailedError(
            f"Alarms that page are on in {state.region}: {', '.join(firing)}.",
            "Each has a runbook of its name; the next run bakes again.",
        )
    return state


def ready(ports: FleetPorts, state: RegionState) -> RegionState:
    """Check that the page topic has a confirmed subscription, if the rules require one, and run the doctor."""
    if ports.rules.pager_needed and not ports.no_pager and not ports.deployed.pager_subscriptions(state.region):
        raise OperationFailedError(
            f"Nobody is paged from {state.region}: the page topic has no confirmed subscription.",
            "Add one to the stage's table in metering.toml and confirm it, or run again with --no-pager. A function or "
            "a queue counts once a message reached it: send one with metering alerts test "
            f"--region {state.region} --stage {ports.builder.stacks().stage}",
        )
    return _examined(ports, state)


def _examined(ports: FleetPorts, state: RegionState) -> RegionState:
    """Record whether AWS in the region behaves as the service expects.

    A failed check is reported and saved, but the region becomes ready all the same, because its canary was counted
    once.
    """
    found = tuple(ports.examined(state.region))
    differ = [finding.check.removeprefix(DOCTOR) for finding in found if finding.answered is Answered.FAILED]
    if differ:
        where = f"--stage {ports.builder.stacks().stage} --region {state.region}"
        ports.tell(state.region, f"AWS differs here from what the service relies on: {', '.join(differ)}.")
        ports.tell(state.region, f"What to do says: metering doctor {where}")
    preflight = [finding for finding in state.findings if not finding.check.startswith(DOCTOR)]
    return replace(state, findings=(*preflight, *found))


STEPS: dict[Step, Callable[[FleetPorts, RegionState], RegionState]] = {
    Step.OPT_IN: opt_in,
    Step.BOOTSTRAP: bootstrap,
    Step.PREFLIGHT: preflight,
    Step.DEPLOY: deploy,
    Step.CANARY: canary,
    Step.BAKE: bake,
    Step.READY: ready,
}


def clean_up(ports: FleetPorts, region: str) -> None:
    """Wait for operations in progress, then delete the stacks whose creation never completed, in reverse order.

    Raises:
        OperationFailedError: Only a person can repair a stack; nothing is deleted then.
    """
    names = ports.builder.stacks()
    found = [status for name in (*names.in_order, names.rollout) if (status := at_rest(ports, region, name))]
    for each in found:
        if cure := each.cure(region):
            raise OperationFailedError(f"A deployment into {region} would fail: {each}.", cure)
    for each in reversed(found):
        if each.deletable:
            delete_stack(ports, region, each.name)


def at_rest(ports: FleetPorts, region: str, stack: str) -> StackStatus | None:
    """Wait until no operation is in progress; returns the stack's status, or None if the stack does not exist."""
    until_s = ports.now_s() + _STACK_LIMIT_S
    while (status := ports.stacks.describe(region, stack)) is not None and status.busy:
        if ports.now_s() >= until_s:
            raise OperationFailedError(
                f"Stack {stack} in {region} has been {status.status} for an hour.", "The next run continues to wait."
            )
        ports.clock.sleep_ms(_POLL_MS)
    return status


def delete_stack(ports: FleetPorts, region: str, stack: str) -> None:
    """Delete a stack, and wait until the deletion has finished."""
    ports.stacks.delete(region, stack)
    left = at_rest(ports, region, stack)
    if left is not None:
        raise OperationFailedError(
            f"Stack {stack} in {region} could not be deleted: {left.why or left.status}.",
            f"The next run tries again. To retain what cannot be deleted: {left.deletion(region)}",
        )


def _deployment(ports: FleetPorts, state: RegionState, *, first: bool) -> Deployment:
    ports.check_tables(state.region)
    watched = ports.rolls_back and not first
    return Deployment(
        region=state.region,
        architecture=state.architecture,
        left_out=state.left_out,
        rollback_alarms=tuple(ports.deployed.rollback_alarms(state.region)) if watched else (),
        watch_min=ports.rules.bake_min if watched else 0,
        usage_before=ports.usage_before(state.region),
        project=ports.has_project(state.region),
    )


def next_deployment(ports: FleetPorts, state: RegionState) -> Deployment:
    """Deployment that a region would get now, without the alarms that may roll it back."""
    return _deployment(ports, state, first=True)


def _judged(finding: Finding) -> Finding:
    """If a check of an optional part failed, change its result to `left out`."""
    if finding.answered is Answered.FAILED and _part_of(finding):
        return finding._replace(answered=Answered.LEFT_OUT)
    return finding


def _part_of(finding: Finding) -> str:
    for part, prefixes in OPTIONAL_PARTS.items():
        if finding.check.startswith(prefixes):
            return part
    return ""


def _why(ports: FleetPorts, region: str) -> str:
    for name in ports.builder.stacks().in_order:
        status = at_rest(ports, region, name)
        if status is not None and not status.complete:
            return str(status)
    return ""


def _sleep_until(ports: FleetPorts, until_s: int) -> None:
    while (left_s := until_s - ports.now_s()) > 0:
        ports.clock.sleep_ms(min(left_s, MINUTE_S) * 1000)
