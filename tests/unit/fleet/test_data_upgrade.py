"""A region whose data has the format before is upgraded while its intake stands, and goes on from any kill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.fleet.regions import Phase, RegionState
from metering.fleet.rollout import RegionManager
from metering.fleet.rules import RolloutRules
from metering.fleet.steps import FleetPorts
from metering.ledger.format_version import FORMAT_VERSION
from tests.support.memory.clock import ManualClock
from tests.support.memory.regions import STACKS, MemoryAccount, MemoryRegionStates

if TYPE_CHECKING:
    import pytest

HOME = "us-east-1"


class KilledError(BaseException):
    """The process is gone."""


class World:
    """A region in memory, as the version before left it."""

    def __init__(self) -> None:
        self.account = MemoryAccount({HOME: "ENABLED_BY_DEFAULT"})
        self.states = MemoryRegionStates()
        self.told: list[str] = []
        self.manager = RegionManager(
            ports=FleetPorts(
                account=self.account,
                stacks=self.account,
                builder=self.account,
                probe=self.account,
                deployed=self.account,
                data=self.account,
                clock=ManualClock(1_800_000_000_000),
                rules=RolloutRules(home=HOME, bake_min=0, canaries=1),
                tell=lambda _region, message: self.told.append(message),
            ),
            states=self.states,
        )
        self.manager.add(HOME)
        self.account.formats[HOME] = FORMAT_VERSION - 1
        self.account.deployed.clear()
        self.calls: list[str] = []
        self.account.on_call = self.calls.append

    def upgrade(self) -> RegionState:
        return self.manager.add(HOME, redeploy=True)

    def killed_at(self, number: int) -> bool:
        """Upgrade in a process that is killed at its call of this number; whether it was."""
        left = number

        def die(name: str) -> None:
            nonlocal left
            self.calls.append(name)
            if left == 0:
                raise KilledError
            left -= 1

        self.account.on_call = die
        try:
            self.upgrade()
        except KilledError:
            return True
        finally:
            self.account.on_call = self.calls.append
        return False


def steps(world: World) -> list[str]:
    """Calls that change something, each once in a row."""
    telling = ("data.", "deployed.stop", "deployed.start", f"builder.deploy {STACKS.data}")
    found = [call for call in world.calls if call.startswith(telling)]
    return [call for at, call in enumerate(found) if at == 0 or found[at - 1] != call]


def test_the_intake_stands_from_before_the_deployment_until_the_data_is_converted() -> None:
    world = World()

    assert world.upgrade().phase is Phase.READY

    data = f"builder.deploy {STACKS.data}"
    assert steps(world) == [
        "data.begin", "deployed.stop", "data.stopped 60", data, "deployed.stop", "data.convert", "deployed.start",
        "data.settle", data, "data.forget",
    ]  # fmt: skip
    assert world.account.intake(HOME) == "Enabled"
    assert [each.usage_before for each in world.account.deployed] == [1, 0]
    # Nothing runs meanwhile, so no alarm may turn the deployment back.
    assert [each.rollback_alarms for each in world.account.deployed] == [(), ()]
    assert world.told[-2:] == ["converted", "settled"]


def test_wherever_it_is_killed_the_next_run_comes_to_the_same_end() -> None:
    number = 0
    while True:
        world = World()
        if not world.killed_at(number):
            break
        assert world.upgrade().phase is Phase.READY, number
        assert world.account.formats[HOME] == FORMAT_VERSION
        assert world.account.intake(HOME) == "Enabled"
        assert world.account.upgrades == {}, number
        assert world.account.deployed[-1].usage_before == 0
        number += 1
    assert number > 20


def test_a_deployment_that_fails_leaves_the_version_before_at_work() -> None:
    world = World()
    world.account.failures[HOME] = ["no more capacity"]

    assert world.upgrade().phase is Phase.FAILED

    assert world.account.intake(HOME) == "Enabled"
    assert world.account.formats[HOME] == FORMAT_VERSION - 1
    assert "data.convert" not in world.calls


def test_usage_that_differs_leaves_the_intake_stopped_for_people_to_decide() -> None:
    world = World()
    world.account.differing.add(HOME)

    failed = world.upgrade()

    assert (failed.phase, failed.reason) == (Phase.FAILED, f"usage of {HOME} differs")
    assert world.account.intake(HOME) == "Disabled"
    # Its second attempt waits from the time of the first stop, and does not begin anew.
    world.account.differing.clear()
    world.calls.clear()
    assert world.upgrade().phase is Phase.READY
    assert "data.begin" not in world.calls


def test_an_intake_that_does_not_stop_is_not_upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(world.account, "intake", lambda _region: "Disabling")

    failed = world.upgrade()

    assert "still Disabling after 15 minutes" in failed.reason
    assert "data.convert" not in world.calls


def test_a_region_of_this_format_is_deployed_without_a_stop() -> None:
    world = World()
    del world.account.formats[HOME]

    assert world.upgrade().phase is Phase.READY

    assert steps(world) == [f"builder.deploy {STACKS.data}", "deployed.start"]
