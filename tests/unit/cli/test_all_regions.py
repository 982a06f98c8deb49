"""`--region all` merges every region that holds data, or answers nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from metering.cli import fleet
from metering.cli.command import Session
from metering.cli.connecting import no_answer
from metering.cli.failures import CommandFailedError
from metering.errors import SettingsError, UnavailableError
from metering.fleet.regions import RegionState
from metering.wiring.region import Stage
from tests.support.memory.regions import MemoryRegionStates

if TYPE_CHECKING:
    from collections.abc import Callable

HOME, OTHER = "us-east-1", "eu-west-1"
SESSION = Session(endpoint="http://127.0.0.1:1", region="all", stage="prod")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], list[str]]:
    """Ask all regions while the home region, which has no state of its own, fails for a reason."""

    def ask(cause: Exception) -> list[str]:
        def connect(region: str) -> SimpleNamespace:
            if region != HOME:
                return SimpleNamespace(region=region)
            if isinstance(cause, UnavailableError):
                raise no_answer(cause, endpoint=None, region=region) from cause
            raise CommandFailedError("stage prod is not deployed") from cause

        states = MemoryRegionStates()
        states.save(RegionState(region=OTHER, deployments=1))
        monkeypatch.setattr(Session, "regions", Stage(home=HOME, connect=connect, states=states))
        return [region.region for region in fleet.connections(SESSION)]

    return ask


def test_a_home_region_that_is_not_deployed_is_none_of_them(asked: Callable[[Exception], list[str]]) -> None:
    assert asked(SettingsError(["no stack"])) == [OTHER]


def test_a_home_region_without_a_state_that_gives_no_answer_is_not_left_out(
    asked: Callable[[Exception], list[str]],
) -> None:
    with pytest.raises(CommandFailedError, match="gives no answer"):
        asked(UnavailableError("cloudformation.DescribeStacks", "timed out"))
