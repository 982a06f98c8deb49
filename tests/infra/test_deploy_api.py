"""The stack of an API that the settings do not ask for any more: a deployment does not know of it, and deletes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra import deploy as deploying
from infra.deploy import Deployer
from metering.adapters.aws import cloudformation
from metering.adapters.aws.cloudformation import CloudFormationStacks
from metering.errors import OperationFailedError
from metering.fleet.ports import StackStatus
from metering.settings import GivenSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

API = "metering-dev-api"


class Stacks(CloudFormationStacks):
    """CloudFormation with the stack of an API. Mutable.

    Attributes:
        states: What it is after each look; it is gone when none is left.
        deleted: Stacks that were deleted.
    """

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.deleted: list[str] = []

    def describe(self, region: str, stack: str) -> StackStatus | None:
        assert (region, stack) == ("eu-west-1", API)
        return StackStatus(name=stack, status=self.states.pop(0), why="it is in use") if self.states else None

    def delete(self, region: str, stack: str) -> None:
        self.deleted.append(f"{region} {stack}")


def deployer(monkeypatch: pytest.MonkeyPatch, stacks: Stacks, *, api: bool = False) -> tuple[Deployer, list[str]]:
    phases: list[str] = []

    def told(event: Mapping[str, object]) -> None:
        phases.append(str(event.get("phase")))

    monkeypatch.setattr(deploying, "CloudFormationStacks", lambda _: stacks)
    monkeypatch.setattr(cloudformation, "_DELETION_POLL_S", 0)
    given = GivenSettings(like="dev", by_option={"api": api})
    return Deployer(stage="dev", region="eu-west-1", endpoint=None, env={}, progress=told, given=given), phases


def test_it_is_deleted_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = Stacks("UPDATE_COMPLETE", "DELETE_IN_PROGRESS", "DELETE_IN_PROGRESS")
    made, phases = deployer(monkeypatch, stacks)
    made._drop_api()

    assert stacks.deleted == [f"eu-west-1 {API}"]
    assert stacks.states == []
    assert phases == ["delete the API"]


def test_a_region_without_one_has_nothing_to_delete(monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = Stacks()
    made, phases = deployer(monkeypatch, stacks)
    made._drop_api()

    assert (stacks.deleted, phases) == ([], [])


def test_an_api_that_is_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = Stacks("UPDATE_COMPLETE")
    made, phases = deployer(monkeypatch, stacks, api=True)
    made._drop_api()

    assert (stacks.deleted, phases) == ([], [])


@pytest.mark.parametrize("left", ["DELETE_FAILED", "UPDATE_COMPLETE"])
def test_one_that_cannot_be_deleted_is_said_with_its_reason(monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    made, _ = deployer(monkeypatch, Stacks("UPDATE_COMPLETE", "DELETE_IN_PROGRESS", left))

    with pytest.raises(OperationFailedError, match="it is in use"):
        made._drop_api()


def test_one_that_takes_for_ever_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = deployer(monkeypatch, Stacks(*["DELETE_IN_PROGRESS"] * 9))
    monkeypatch.setattr(cloudformation, "_DELETION_LIMIT_S", 0)

    with pytest.raises(OperationFailedError, match="DELETE_IN_PROGRESS"):
        made._drop_api()
