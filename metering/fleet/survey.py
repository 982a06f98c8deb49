"""Comparison of the releases deployed in a stage's regions with this checkout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import FormatTooNewError, FormatTooOldError
from metering.fleet.ports import Direction, RegionStates, Release, StackStatus, direction
from metering.fleet.regions import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.fleet import steps

# Stacks that can state the release: preferably the functions' stack, else the data stack.
_TELLING = ("pipeline", "data")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """One region.

    Attributes:
        phase: Phase that is stored in the home region's ledger; None if the ledger has no state of the region.
        stacks: Stacks that exist, in the order of deployment.
        data_format: None without data.
        own: Release of this checkout.
        same_settings: Whether the next deployment would leave all settings unchanged.
    """

    region: str
    phase: Phase | None
    stacks: tuple[StackStatus, ...]
    data_format: int | None
    own: Release
    same_settings: bool

    @property
    def exists(self) -> bool:
        return bool(self.stacks)

    @property
    def runs(self) -> bool:
        """Whether functions are deployed: a region that was taken out of service has only its data."""
        return any(stack.name.endswith("-pipeline") and not stack.unusable for stack in self.stacks)

    @property
    def broken(self) -> tuple[StackStatus, ...]:
        """Stacks whose status is neither complete nor in progress."""
        return tuple(stack for stack in self.stacks if not stack.complete and not stack.busy)

    @property
    def deployed(self) -> Release | None:
        """Release of the functions, or of the data stack if no functions are deployed; None if unknown."""
        for part in _TELLING:
            for stack in self.stacks:
                if stack.name.endswith(f"-{part}") and not stack.unusable:
                    return stack.release
        return None

    @property
    def way(self) -> Direction | None:
        """Direction of the change from the deployed release to this checkout; None if nothing is deployed."""
        if self.data_format is None:
            return None
        return direction(self.deployed, data_format=self.data_format, own=self.own)

    @property
    def unfinished(self) -> bool:
        """Whether an earlier deployment did not finish."""
        return self.phase in {Phase.BUILDING, Phase.FAILED} or bool(self.broken)

    def check_format(self) -> None:
        """Check that this checkout supports the data format of the region.

        Raises:
            FormatTooNewError, FormatTooOldError: It does not.
        """
        found, known = self.data_format, self.own.data_format
        if found is not None and found > known:
            needed = self.deployed.version if self.deployed else "a newer version"
            raise FormatTooNewError(found=found, known=known, needed=needed)
        if found is not None and found < known:
            raise FormatTooOldError(found=found, known=known)


def survey(ports: steps.FleetPorts, region: str, *, phase: Phase | None, own: Release, same_settings: bool) -> Surveyed:
    """Inspect one region without changing anything. The arguments are fields of `Surveyed`.

    Raises:
        SettingsError: Its next deployment would exchange its tables for others that lack its data.
    """
    names = ports.builder.stacks()
    found = tuple(stack for name in names.in_order if (stack := ports.stacks.describe(region, name)))
    data = next((stack for stack in found if stack.name == names.data and not stack.unusable), None)
    ports.check_tables(region)
    return Surveyed(
        region=region,
        phase=phase,
        stacks=found,
        data_format=None if data is None or data.busy else ports.deployed.data_format(region),
        own=own,
        same_settings=same_settings,
    )


def deployed_regions(states: RegionStates, *, home: str) -> Sequence[tuple[str, Phase | None]]:
    """Regions that may have deployed stacks, with their phases; the home region is included even without a state."""
    known = {state.region: state.phase for state in states.everything()}
    return [(name, known.get(name)) for name in sorted({home, *known})]


def to_deploy(surveyed: Iterable[Surveyed]) -> list[str]:
    """Regions that this checkout would change, because release or settings differ or a deployment is unfinished."""
    return [
        each.region
        for each in surveyed
        if each.exists
        and each.phase is not Phase.REMOVING
        and (each.runs or each.phase is not Phase.REMOVED)
        and (each.way is not Direction.SAME or each.unfinished or not each.same_settings)
    ]
