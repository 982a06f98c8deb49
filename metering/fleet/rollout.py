"""Builds one region, or all that are missing: idempotent, and resumed where a killed run stopped."""

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

# A deployment that changes stacks goes through these again; opting in and bootstrapping stay done.
_KEPT_BY_REDEPLOY = (Step.OPT_IN, Step.BOOTSTRAP)


def _silent(_region: str, _message: str) -> None:
    """Nobody listens."""


def _one_by_one(build: Callable[[str], RegionState], regions: Sequence[str]) -> Iterable[RegionState]:
    return [build(region) for region in regions]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionManager:
    """Builds regions.

    Attributes:
        ports: The account, CloudFormation, the CDK and the regions.
        states: Their state in the home region's ledger.
        say: Told of every step, as region and message.
        side_by_side: Builds the regions of one wave; one after the other unless given.
    """

    ports: FleetPorts
    states: RegionStates
    say: Callable[[str, str], None] = _silent
    side_by_side: Callable[[Callable[[str], RegionState], Sequence[str]], Iterable[RegionState]] = _one_by_one

    def add(self, region: str, *, redeploy: bool = False) -> RegionState:
        """Bring a region to ready, from wherever it stands. A failure is in the state that comes back.

        Args:
            region: Any region's name; one that the account API does not know is built all the same.
            redeploy: Deploy again although it is ready: a new version of the service.

        Raises:
            OperationFailedError: It is being removed.
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
        """The steps that `add` would go through. Changes nothing.

        Raises:
            OperationFailedError: The region is being removed.
        """
        state = self._begin(region, redeploy=redeploy)
        return () if state.phase is Phase.READY else tuple(step for step in Step if step not in state.done)

    def plan(self, *, redeploy: bool = False) -> RolloutPlan:
        """What `reconcile` would build, in waves, and why it leaves other regions alone. Changes nothing.

        Args:
            redeploy: Ready regions are built again, in waves that begin with one.
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

    def reconcile(self, *, redeploy: bool = False) -> Reconciled:
        """Build what is missing, wave by wave; a wave in which a region fails is the last one.

        Args:
            redeploy: Deploy the present version to regions that are ready, too.
        """
        plan = self.plan(redeploy=redeploy)
        built: list[RegionState] = []
        for number, wave in enumerate(plan.waves, 1):
            self.say("", f"wave {number} of {len(plan.waves)}: {', '.join(wave)}")
            states = list(self.side_by_side(partial(self.add, redeploy=redeploy), wave))
            built.extend(states)
            if any(state.phase is not Phase.READY for state in states):
                break
        return Reconciled(plan=plan, built=tuple(built))

    def _why_not(self, listed: ListedRegion, state: RegionState | None) -> str | None:
        """Why a region is not built: None if it is, empty if that goes without saying."""
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
                f"{region} is being removed.", f"Finish that first: metering region remove {region}"
            )
        if state.phase is Phase.READY and not redeploy:
            return state
        done = state.done
        if state.phase is Phase.REMOVED:
            done = {}
        elif state.phase is Phase.READY:
            done = {step: at_s for step, at_s in done.items() if step in _KEPT_BY_REDEPLOY}
        elif Step.BAKE not in done:
            # A bake that was cut short or failed starts from a canary of its own.
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
    """What is missing, in waves; what is ready; and why the rest is left alone."""

    waves: tuple[tuple[str, ...], ...]
    ready: tuple[str, ...]
    skipped: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What a `reconcile` found and what became of it."""

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
