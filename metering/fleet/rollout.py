"""Rollout: building one region, or all missing regions. Removal: taking a region out of service, while its data stays.

After a kill, the next run resumes the operation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from metering.errors import MeteringError, OperationFailedError
from metering.fleet.ports import StackResource
from metering.fleet.regions import ListedRegion, Phase, RegionState, Step, waves
from metering.fleet.steps import DISABLED, STEPS, FleetPorts, PreflightFailedError, at_rest, delete_stack
from metering.units import MINUTE_S, counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from metering.fleet.ports import RegionStates

# Steps that stay done when a ready region is deployed again.
_KEPT_BY_REDEPLOY = (Step.OPT_IN,)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionManager:
    """Brings regions to ready.

    Attributes:
        say: Called for each step, with the region and a message.
        side_by_side: Builds the regions of one wave; by default, one after another.
    """

    ports: FleetPorts
    states: RegionStates
    say: Callable[[str, str], None] = lambda _region, _message: None
    side_by_side: Callable[[Callable[[str], RegionState], Sequence[str]], Iterable[RegionState]] = map

    def add(self, region: str, *, redeploy: bool = False) -> RegionState:
        """Bring a region from its current phase to the phase `ready`. If a step fails, the returned state records this.

        Args:
            region: Region to build; it need not be listed by the account API.
            redeploy: Deploy this version and its settings even to a region that is ready, or to which an interrupted
                run has deployed.

        Raises:
            OperationFailedError: The region is being removed.
        """
        state = self._begin(region, redeploy=redeploy)
        if state.phase is Phase.READY:
            return state
        for step in Step:
            if step in state.done:
                continue
            state = self._run(state, step)
            if state.phase is Phase.FAILED:
                return state
        return state

    def todo(self, region: str, *, redeploy: bool = False) -> tuple[Step, ...]:
        """List the steps that `add` would take, without taking them.

        Raises:
            OperationFailedError: The region is being removed.
        """
        state = self._begin(region, redeploy=redeploy)
        return () if state.phase is Phase.READY else tuple(step for step in Step if step not in state.done)

    def plan(self, *, redeploy: bool = False) -> RolloutPlan:
        """Plan the waves that `reconcile` would build, with the reason for each skipped region; this changes nothing.

        Args:
            redeploy: Also plan ready regions, in waves that start with one region.
        """
        rules, known = self.ports.rules, {state.region: state for state in self.states.everything()}
        missing: list[ListedRegion] = []
        skipped: dict[str, str] = {}
        for listed in self.ports.account.regions():
            state = known.get(listed.name)
            again = redeploy and state is not None and state.phase is Phase.READY
            why = None if again else self._why_not(listed, state)
            if why is None:
                missing.append(listed)
            elif why:
                skipped[listed.name] = why
        done = tuple(name for name, state in known.items() if state.phase is Phase.READY)
        return RolloutPlan(
            waves=waves(missing, home=rules.home, largest=rules.largest_wave, done=() if redeploy else done),
            ready=done,
            skipped=skipped,
        )

    def reconcile(self, *, redeploy: bool = False, plan: RolloutPlan | None = None) -> Reconciled:
        """Build the missing regions, wave by wave. After a wave in which a region failed, stop.

        Args:
            redeploy: Also deploy this version to regions that are ready.
            plan: Plan that the user confirmed, in which regions listed later are missing. None: plan now.
        """
        return self._in_waves(plan or self.plan(redeploy=redeploy), redeploy=redeploy)

    def redeploy(self, regions: Sequence[str]) -> Reconciled:
        """Deploy this version to existing regions, including unlisted regions, in waves that start with one region."""
        # One region needs no order, and the account API may be away with the region that it is in.
        status = self.ports.account.opt_status if len(regions) > 1 else lambda _region: None
        listed = [ListedRegion(name=name, opt_status=status(name) or "") for name in regions]
        rules = self.ports.rules
        planned = waves(listed, home=rules.home, largest=rules.largest_wave)
        return self._in_waves(RolloutPlan(waves=planned, ready=(), skipped={}), redeploy=True)

    def _in_waves(self, plan: RolloutPlan, *, redeploy: bool) -> Reconciled:
        built: list[RegionState] = []
        for number, wave in enumerate(plan.waves, 1):
            self.say("", f"wave {number} of {len(plan.waves)}: {', '.join(wave)}")
            states = list(self.side_by_side(partial(self.add, redeploy=redeploy), wave))
            built.extend(states)
            if any(state.phase is not Phase.READY for state in states):
                break
        return Reconciled(plan=plan, built=tuple(built))

    def _why_not(self, listed: ListedRegion, state: RegionState | None) -> str | None:
        """Reason to skip a region: None if the region is to be built, empty if the region is ready."""
        rules = self.ports.rules
        if listed.name != rules.home and not rules.admits(listed.name):
            return "not allowed by the stage's rules" if rules.allow else "rollout.allow is unset; add it by name"
        if state is None or state.phase in {Phase.BUILDING, Phase.FAILED, Phase.ABSENT}:
            return DISABLED if listed.opt_status == "DISABLED" and not rules.opt_in else None
        if state.phase is Phase.READY:
            return ""
        return f"{state.phase.value} on purpose; add it by name to have it back"

    def _begin(self, region: str, *, redeploy: bool) -> RegionState:
        state = self.states.load(region) or RegionState(region=region)
        if state.phase is Phase.REMOVING:
            raise OperationFailedError(
                f"{region} is being removed.",
                f"Finish that first: metering region remove {region} --stage {self.ports.builder.stacks().stage}",
            )
        if state.phase is Phase.READY and not redeploy:
            return state
        done = state.done
        if state.phase is Phase.REMOVED:
            done = {}
        elif state.phase is Phase.READY or (redeploy and Step.DEPLOY in done):
            done = {step: at_s for step, at_s in done.items() if step in _KEPT_BY_REDEPLOY}
        elif Step.BAKE not in done:
            # An interrupted or failed bake starts again with a new canary.
            done = {step: at_s for step, at_s in done.items() if step is not Step.CANARY}
        return replace(state, phase=Phase.BUILDING, done=done, attempts=state.attempts + 1)

    def _run(self, state: RegionState, step: Step) -> RegionState:
        now_s = self.ports.now_s
        running = replace(state, phase=Phase.BUILDING, step=step, reason="", advice="", updated_s=now_s())
        self.states.save(running)
        self.say(state.region, f"{step.value} …")
        try:
            after = STEPS[step](self.ports, running).finished(step, now_s())
        except MeteringError as error:
            return self._failed(running, error)
        if step is Step.READY:
            after = replace(after, phase=Phase.READY)
        self.states.save(after)
        self.say(state.region, f"{step.value} done{_remark(step, after)}")
        return after

    def _failed(self, state: RegionState, error: MeteringError) -> RegionState:
        known = error.state if isinstance(error, PreflightFailedError) else state
        advice = error.advice if isinstance(error, OperationFailedError) else "The next run repeats this step."
        failed = replace(known, phase=Phase.FAILED, reason=str(error), advice=advice, updated_s=self.ports.now_s())
        self.states.save(failed)
        self.say(state.region, f"{state.step} failed: {failed.reason}")
        return failed


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPlan:
    """Missing regions in waves, ready regions, and the reason for skipping each other region."""

    waves: tuple[tuple[str, ...], ...]
    ready: tuple[str, ...]
    skipped: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """Plan of a `reconcile`, and the states of the regions that were built."""

    plan: RolloutPlan
    built: tuple[RegionState, ...]

    @property
    def succeeded(self) -> bool:
        return len(self.built) == sum(len(wave) for wave in self.plan.waves) and all(
            state.phase is Phase.READY for state in self.built
        )


def _remark(step: Step, state: RegionState) -> str:
    if step is Step.PREFLIGHT and state.left_out:
        return f", without {', '.join(state.left_out)}"
    return ", not listed by the account API" if step is Step.OPT_IN and not state.listed else ""


_DRAIN_LIMIT_S = 15 * MINUTE_S
# Waiting commits are accepted, and the roll-up books them without further action.
_ROLLING_UP = "waiting_commits"
_POLL_MS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRemoval:
    """Stops the intake of a region, drains the region, and deletes all its stacks except the data stack.

    Attributes:
        say: Called for each step, with the region and a message.
    """

    ports: FleetPorts
    states: RegionStates
    say: Callable[[str, str], None]

    def remove(self, region: str) -> RegionState:
        """Remove a region. A second call changes nothing; after a kill, the next call resumes the removal.

        Raises:
            OperationFailedError: The region has no stacks, or is the home region of other regions; or batches are in
                flight; or a stack could not be deleted.
        """
        stacks = self.ports.builder.stacks()
        state = self._known(region)
        if state.phase is Phase.REMOVED:
            return state
        self._refuse_home(region)
        if self.ports.stacks.describe(region, stacks.pipeline) is not None:
            self._stop(state)
        for name in stacks.working:
            if at_rest(self.ports, region, name) is not None:
                self.say(region, f"deleting {name}")
                delete_stack(self.ports, region, name)
        removed = replace(state, phase=Phase.REMOVED, step=None, done={}, reason="", advice="")
        return self._saved(removed)

    def check(self, region: str) -> None:
        """Raise the error that `remove` would raise now, but change nothing."""
        state = self._known(region)
        if state.phase is Phase.REMOVED:
            return
        self._refuse_home(region)
        pipeline = self.ports.builder.stacks().pipeline
        if state.phase is not Phase.REMOVING and self.ports.stacks.describe(region, pipeline) is not None:
            self._refuse_in_flight(region)

    @property
    def _stage(self) -> str:
        return self.ports.builder.stacks().stage

    def _known(self, region: str) -> RegionState:
        state = self.states.load(region)
        if state is None and self.ports.stacks.describe(region, self.ports.builder.stacks().data) is None:
            raise OperationFailedError(
                f"Nothing is built in {region}.", f"See what there is: metering region status --stage {self._stage}"
            )
        pipeline = self.ports.builder.stacks().pipeline
        # `local up` and a manual `cdk deploy` deploy a removed region without the steps.
        if state is None or (state.phase is Phase.REMOVED and self.ports.stacks.describe(region, pipeline) is not None):
            return RegionState(region=region)
        return state

    def _refuse_home(self, region: str) -> None:
        """Refuse a region whose ledger has states of other regions, even if this run names another home region."""
        if self.ports.stacks.describe(region, self.ports.builder.stacks().data) is None:
            return
        standing = [
            state.region
            for state in self.ports.deployed.kept_states(region)
            if state.region != region and state.phase not in {Phase.REMOVED, Phase.ABSENT}
        ]
        if standing:
            raise OperationFailedError(
                f"{region} is the home region: it keeps the state of {', '.join(standing)}.",
                f"Remove those first, such as: metering region remove {standing[0]} --stage {self._stage}",
            )

    def _stop(self, state: RegionState) -> None:
        region = state.region
        if state.phase is not Phase.REMOVING:
            self._refuse_in_flight(region)
            self._saved(replace(state, phase=Phase.REMOVING))
        self.say(region, "stopping the intake")
        self.ports.deployed.set_intake(region, enabled=False)
        self._drain(region)
        try:
            self._refuse_in_flight(region)
        except OperationFailedError:
            # Producers still send, so intake resumes; otherwise the batches would stay queued until they expire.
            self.ports.deployed.set_intake(region, enabled=True)
            self._saved(replace(state, phase=Phase.READY))
            raise

    def _drain(self, region: str) -> None:
        """Wait until running invocations have acknowledged or returned their messages, and then for the roll-up."""
        until_s = self.ports.now_s() + _DRAIN_LIMIT_S
        while self._works(region):
            if self.ports.now_s() >= until_s:
                raise OperationFailedError(
                    f"{region} did not come to rest within {_DRAIN_LIMIT_S // MINUTE_S} minutes.",
                    "The next run continues to wait.",
                )
            self.ports.clock.sleep_ms(_POLL_MS)

    def _works(self, region: str) -> bool:
        counts = self.ports.deployed.in_flight(region)
        left = counts.get("received", 0) + counts.get(_ROLLING_UP, 0)
        return left > 0 or self.ports.deployed.intake(region) not in {"Disabled", "none"}

    def _refuse_in_flight(self, region: str) -> None:
        found = self.ports.deployed.in_flight(region)
        counts = {kind: n for kind, n in found.items() if n and kind != _ROLLING_UP}
        if counts:
            raise OperationFailedError(
                f"Batches are in flight in {region}: {', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))}.",
                "Let producers stop and the queue run empty; redrive or look into dead letters: "
                f"metering dlq list --region {region} --stage {self._stage}",
            )

    def _saved(self, state: RegionState) -> RegionState:
        stamped = replace(state, updated_s=self.ports.now_s())
        self.states.save(stamped)
        return stamped


# Resources that hold data or cost money. Other resources are deleted with their stack, or are worthless without these.
_TELLS = {
    "AWS::S3::Bucket": "bucket",
    "AWS::DynamoDB::GlobalTable": "table",
    "AWS::DynamoDB::Table": "table",
    "AWS::KMS::Key": "key",
    "AWS::Logs::LogGroup": "log",
    "AWS::SQS::Queue": "queue",
    "AWS::SNS::Topic": "topic",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remaining:
    """A resource that still exists after an uninstall.

    Attributes:
        kind: `bucket`, `table`, `key`, `log`, `queue` or `topic`.
        orphaned: Whether the resource is outside of every stack, so that no command of the service finds the resource.
    """

    region: str
    kind: str
    name: str
    orphaned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Uninstall:
    """Uninstalls a stage from all its regions, the home region last. After a kill, the next run resumes the operation.

    Resources that CloudFormation retains are listed, but never deleted.

    Attributes:
        say: Called for each step, with the region and a message.
    """

    ports: FleetPorts
    states: RegionStates
    removal: RegionRemoval
    say: Callable[[str, str], None]

    def regions(self) -> list[str]:
        """Regions in which the stage has at least one stack, the home region last."""
        home, stacks = self.ports.rules.home, self.ports.builder.stacks()
        names = {home, *(state.region for state in self.states.everything())}
        there = [name for name in sorted(names) if any(self._exists(name, stack) for stack in stacks.in_order)]
        return sorted(there, key=lambda name: name == home)

    def run(self, *, delete_data: bool) -> list[Remaining]:
        """Uninstall the stage, and return the resources that remain.

        Args:
            delete_data: Also delete the data stacks, and the objects in buckets that CloudFormation does not retain.

        Raises:
            OperationFailedError: Batches are in flight in a region, or a stack could not be deleted.
        """
        remaining: list[Remaining] = []
        regions = self.regions()
        if regions:
            # The rollout stack would deploy the regions again.
            self._delete(self.ports.rules.home, self.ports.builder.stacks().rollout)
        for region in regions:
            remaining += self._leave(region, delete_data=delete_data)
        return remaining

    def would_remain(self, region: str, *, delete_data: bool) -> list[Remaining]:
        """List resources that an uninstall of the region would leave; `delete_data`: the data stack is also deleted."""
        works = [each for name in self._works(region) for each in self.ports.stacks.resources(region, name)]
        orphans = list(_told(region, [each for each in works if each.retained], orphaned=True))
        data = self._data(region)
        if not delete_data:
            return [*orphans, *_told(region, data, orphaned=False)]
        return [*orphans, *_told(region, outliving(data)[0], orphaned=True)]

    def _leave(self, region: str, *, delete_data: bool) -> list[Remaining]:
        # Read before the deletion, because a deleted stack no longer shows which resources it retained.
        remaining, data = self.would_remain(region, delete_data=delete_data), self._data(region)
        state = self.states.load(region)
        if self._works(region) or state is None or state.phase is not Phase.REMOVED:
            self.removal.remove(region)
        if delete_data and self._exists(region, self.ports.builder.stacks().data):
            self._delete_data(region, data)
        return remaining

    def _works(self, region: str) -> list[str]:
        stacks = self.ports.builder.stacks()
        return [name for name in stacks.working if self._exists(region, name)]

    def _data(self, region: str) -> Sequence[StackResource]:
        """Resources of the data stack, and tables that a restore made outside of any stack."""
        stack = self.ports.builder.stacks().data
        if not self._exists(region, stack):
            return ()
        found = self.ports.stacks.resources(region, stack)
        return [*found, *made_outside(found, self.ports.deployed.tables(region))]

    def _delete_data(self, region: str, data: Sequence[StackResource]) -> None:
        if any(each.kind == "AWS::S3::Bucket" and not each.retained for each in data):
            self.say(
                region, f"deleted {counted(self.ports.deployed.empty_bucket(region), 'object')} of the data bucket"
            )
        self._delete(region, self.ports.builder.stacks().data)
        for table in outliving(data)[1]:
            self.ports.deployed.delete_table(region, table.name)
            self.say(region, f"deleted table {table.name}")

    def _exists(self, region: str, stack: str) -> bool:
        return self.ports.stacks.describe(region, stack) is not None

    def _delete(self, region: str, stack: str) -> None:
        if at_rest(self.ports, region, stack) is not None:
            self.say(region, f"deleting {stack}")
            delete_stack(self.ports, region, stack)


def made_outside(stack: Sequence[StackResource], tables: Iterable[str]) -> list[StackResource]:
    """Tables of a region's data that its data stack does not own."""
    own = {each.name for each in stack}
    return [StackResource(kind="AWS::DynamoDB::Table", name=name, retained=True) for name in tables if name not in own]


def outliving(data: Sequence[StackResource]) -> tuple[list[StackResource], list[StackResource]]:
    """Split what outlives the data stack: resources that the stage retains, and tables to be deleted by their names.

    Even a stage that retains nothing retains its ledger, because a restore takes the ledger out of the stack.
    """
    retained = [each for each in data if each.retained]
    if not any(each.kind == "AWS::S3::Bucket" and not each.retained for each in data):
        return retained, []
    tables = [each for each in retained if _TELLS.get(each.kind) == "table"]
    return [each for each in retained if each not in tables], tables


def _told(region: str, resources: Iterable[StackResource], *, orphaned: bool) -> Iterable[Remaining]:
    for each in resources:
        if each.kind in _TELLS and each.name:
            yield Remaining(region=region, kind=_TELLS[each.kind], name=each.name, orphaned=orphaned)
