"""A stage leaves all its regions: first what works, then, if it is asked for, the data.

What CloudFormation keeps is told and never deleted here: it is what a stage that retains its data protects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.fleet.regions import Phase
from metering.fleet.steps import at_rest, delete_stack
from metering.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from metering.fleet.ports import RegionStates, StackResource
    from metering.fleet.removal import RegionRemoval
    from metering.fleet.steps import FleetPorts

# What holds data or costs money. All else is gone with its stack, or worth nothing without these.
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
    """Resource that is still there after an uninstall.

    Attributes:
        kind: `bucket`, `table`, `key`, `log`, `queue` or `topic`.
        name: Its name or id.
        orphaned: No stack holds it any more, so no command of the service finds it.
    """

    region: str
    kind: str
    name: str
    orphaned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Uninstall:
    """Takes a stage out of its regions, the home region last. A run after a kill resumes where it stopped.

    Attributes:
        say: Told of each step, as region and message.
    """

    ports: FleetPorts
    states: RegionStates
    removal: RegionRemoval
    say: Callable[[str, str], None]

    def regions(self) -> list[str]:
        """Regions in which the stage has a stack, the home region last."""
        home, stacks = self.ports.rules.home, self.ports.builder.stacks()
        names = {home, *(state.region for state in self.states.everything())}
        there = [name for name in sorted(names) if any(self._exists(name, stack) for stack in stacks.in_order)]
        return sorted(there, key=lambda name: name == home)

    def run(self, *, delete_data: bool) -> list[Remaining]:
        """Uninstall, and return what remains.

        Args:
            delete_data: Also delete the data stacks, and the objects of buckets that their stack does not retain.

        Raises:
            OperationFailedError: Batches are in flight somewhere, or a stack could not be deleted.
        """
        remaining: list[Remaining] = []
        regions = self.regions()
        if regions:
            # It would build the regions again.
            self._delete(self.ports.rules.home, self.ports.builder.stacks().rollout)
        for region in regions:
            remaining += self._leave(region, delete_data=delete_data)
        return remaining

    def would_remain(self, region: str, *, delete_data: bool) -> list[Remaining]:
        """What an uninstall of the region leaves, without doing it.

        Args:
            region: Name of the region.
            delete_data: Whether the data stack goes, too.
        """
        works = [each for name in self._works(region) for each in self.ports.stacks.resources(region, name)]
        orphans = list(_told(region, [each for each in works if each.retained], orphaned=True))
        data = self._data(region)
        if not delete_data:
            return [*orphans, *_told(region, data, orphaned=False)]
        return [*orphans, *_told(region, [each for each in data if each.retained], orphaned=True)]

    def _leave(self, region: str, *, delete_data: bool) -> list[Remaining]:
        # Read before it is done: a stack that is gone says no more what it kept.
        remaining, data = self.would_remain(region, delete_data=delete_data), self._data(region)
        if self._works(region) or self._phase(region) is not Phase.REMOVED:
            self.removal.remove(region)
        if delete_data and self._exists(region, self.ports.builder.stacks().data):
            self._delete_data(region, data)
        return remaining

    def _works(self, region: str) -> list[str]:
        """Stacks that work on the data, as far as they exist."""
        stacks = self.ports.builder.stacks()
        return [name for name in stacks.working if self._exists(region, name)]

    def _data(self, region: str) -> Sequence[StackResource]:
        stack = self.ports.builder.stacks().data
        return self.ports.stacks.resources(region, stack) if self._exists(region, stack) else ()

    def _delete_data(self, region: str, data: Sequence[StackResource]) -> None:
        if any(each.kind == "AWS::S3::Bucket" and not each.retained for each in data):
            self.say(
                region, f"deleted {counted(self.ports.deployed.empty_bucket(region), 'object')} of the data bucket"
            )
        self._delete(region, self.ports.builder.stacks().data)

    def _phase(self, region: str) -> Phase | None:
        state = self.states.load(region)
        return None if state is None else state.phase

    def _exists(self, region: str, stack: str) -> bool:
        return self.ports.stacks.describe(region, stack) is not None

    def _delete(self, region: str, stack: str) -> None:
        if at_rest(self.ports, region, stack) is not None:
            self.say(region, f"deleting {stack}")
            delete_stack(self.ports, region, stack)


def _told(region: str, resources: Iterable[StackResource], *, orphaned: bool) -> Iterable[Remaining]:
    for each in resources:
        if each.kind in _TELLS and each.name:
            yield Remaining(region=region, kind=_TELLS[each.kind], name=each.name, orphaned=orphaned)
