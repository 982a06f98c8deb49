"""Removal of a region from service; its data stays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.errors import OperationFailedError
from metering.fleet.regions import Phase, RegionState
from metering.fleet.steps import at_rest, delete_stack
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.fleet.ports import RegionStates
    from metering.fleet.steps import FleetPorts

_DRAIN_LIMIT_S = 15 * MINUTE_S
# Accepted, and rolled up without anybody's help.
_ROLLING_UP = "waiting_commits"
_POLL_MS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRemoval:
    """Stops the intake of a region, drains it, and deletes all its stacks but that of the data.

    Attributes:
        say: Told of each step, as region and message.
    """

    ports: FleetPorts
    states: RegionStates
    say: Callable[[str, str], None]

    def remove(self, region: str) -> RegionState:
        """Remove a region. A second run changes nothing, and a run after a kill resumes where it stopped.

        Raises:
            OperationFailedError: Nothing is built there, it is the home region of others, batches are in flight, or a
                stack could not be deleted.
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
        """Raise what `remove` would raise now, and change nothing.

        Raises:
            OperationFailedError: As in `remove`.
        """
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
        if state is None or (state.phase is Phase.REMOVED and self._works_again(region)):
            return RegionState(region=region)
        return state

    def _works_again(self, region: str) -> bool:
        """Whether it was deployed after its removal without the steps, as `local up` and the CDK by hand do."""
        return self.ports.stacks.describe(region, self.ports.builder.stacks().pipeline) is not None

    def _refuse_home(self, region: str) -> None:
        """Refuse the region whose ledger keeps the states of others, whatever region is called home in this run."""
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
            # Producers still send: the region goes back to work, or their batches would wait until they expire.
            self.ports.deployed.set_intake(region, enabled=True)
            self._saved(replace(state, phase=Phase.READY))
            raise

    def _drain(self, region: str) -> None:
        """Wait for running invocations: each message that they received is then acknowledged or back in the queue.

        Also for the roll-up, which takes what they committed within a minute.
        """
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
