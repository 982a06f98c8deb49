"""Rollout: builds one region, or all that are missing. A run after a kill resumes where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from metering.errors import MeteringError, OperationFailedError
from metering.fleet.regions import ListedRegion, Phase, RegionState, Step, waves
from metering.fleet.steps import STEPS, PreflightFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from metering.fleet.ports import RegionStates
    from metering.fleet.steps import FleetPorts

# Steps that stay done when a ready region is deployed again.
_KEPT_BY_REDEPLOY = (Step.OPT_IN, Step.BOOTSTRAP)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionManager:
    """Brings regions to ready.

    Attributes:
        say: Told of each step, as region and message.
        side_by_side: Builds the regions of one wave; by default one after the other.
    """

    ports: FleetPorts
    states: RegionStates
    say: Callable[[str, str], None] = lambda _region, _message: None
    side_by_side: Callable[[Callable[[str], RegionState], Sequence[str]], Iterable[RegionState]] = map

    def add(self, region: str, *, redeploy: bool = False) -> RegionState:
        """Bring a region to ready from its present phase. A failure is in the state that comes back.

        Args:
            region: The account API need not know it.
            redeploy: Deploy this version and its settings although the region is ready, or was deployed by a run that
                was cut short.

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
        """List the steps that `add` would take, and change nothing.

        Raises:
            OperationFailedError: The region is being removed.
        """
        state = self._begin(region, redeploy=redeploy)
        return () if state.phase is Phase.READY else tuple(step for step in Step if step not in state.done)

    def plan(self, *, redeploy: bool = False) -> RolloutPlan:
        """Plan the waves that `reconcile` would build, with the reason for each skipped region, and change nothing.

        Args:
            redeploy: Also plan ready regions, in waves that begin with one region.
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
        """Build the missing regions wave by wave. A wave in which a region fails is the last one.

        Args:
            redeploy: Also deploy this version to ready regions.
            plan: The plan that a person agreed to: a region that is listed since then is not in it. None: plan now.
        """
        return self._in_waves(plan or self.plan(redeploy=redeploy), redeploy=redeploy)

    def redeploy(self, regions: Sequence[str]) -> Reconciled:
        """Deploy this version to regions that are built, listed or not, in waves that begin with one region."""
        listed = [ListedRegion(name=name, opt_status=self.ports.account.opt_status(name) or "") for name in regions]
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
        """Reason to skip a region: None if it is built, empty if it is ready."""
        rules = self.ports.rules
        if listed.name != rules.home and not rules.admits(listed.name):
            return "not allowed by the stage's rules"
        if state is None or state.phase in {Phase.BUILDING, Phase.FAILED, Phase.ABSENT}:
            return None
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
    """Missing regions in waves, ready regions, and the reason for each skipped region."""

    waves: tuple[tuple[str, ...], ...]
    ready: tuple[str, ...]
    skipped: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """Plan of a `reconcile`, and the states of the regions that it built."""

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
