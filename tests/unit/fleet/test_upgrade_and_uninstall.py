"""The deployed version compared with this checkout's, and a stage that removes all its regions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.errors import FormatTooNewError, OperationFailedError
from metering.fleet.ports import Deployment, Direction, Release, StackResource, StackStatus
from metering.fleet.regions import Phase, RegionState
from metering.fleet.removal import Remaining, Uninstall
from metering.fleet.stage import RolloutRules
from metering.fleet.survey import Surveyed, deployed_regions, survey, to_deploy
from metering.ledger.format_version import FORMAT_VERSION
from tests.support.memory.regions import STACKS, MemoryFleet

HOME, OTHER, UNLISTED = "us-east-1", "eu-west-1", "ap-southeast-9"
OLD = Release(version="0.2.0", data_format=FORMAT_VERSION)
NEW = Release(version="0.3.0", data_format=FORMAT_VERSION)
BUCKET = StackResource(kind="AWS::S3::Bucket", name="bucket", retained=False)
TABLE = StackResource(kind="AWS::DynamoDB::GlobalTable", name="table", retained=True)
LOG = StackResource(kind="AWS::Logs::LogGroup", name="log", retained=True)
ROLE = StackResource(kind="AWS::IAM::Role", name="role", retained=True)


class World(MemoryFleet):
    """An in-memory stage, deployed from OLD to the requested regions."""

    def __init__(self, *regions: str) -> None:
        rules = RolloutRules(home=HOME, bake_min=0, canaries=1)
        super().__init__({HOME: "ENABLED_BY_DEFAULT", OTHER: "ENABLED_BY_DEFAULT"}, rules=rules)
        self.account.outputs = OLD.outputs
        for region in regions:
            self.manager.add(region)
        self.said.clear()

    def survey(self, own: Release, *, same_settings: bool = True) -> list[Surveyed]:
        return [
            survey(self.ports, region, phase=phase, own=own, same_settings=same_settings)
            for region, phase in deployed_regions(self.states, home=HOME)
        ]

    def uninstall(self) -> Uninstall:
        return Uninstall(ports=self.ports, states=self.states, removal=self.removal, say=self.say)


def test_an_upgrade_takes_every_region_that_is_deployed_also_one_that_is_not_listed() -> None:
    world = World(HOME, OTHER, UNLISTED)
    assert {each.way for each in world.survey(NEW)} == {Direction.UPGRADE}

    world.account.outputs = NEW.outputs
    built = world.manager.redeploy(to_deploy(world.survey(NEW)))

    assert built.plan.waves[0] == (HOME,)
    assert sorted(state.region for state in built.built) == sorted([HOME, OTHER, UNLISTED])
    assert {each.way for each in world.survey(NEW)} == {Direction.SAME}
    assert to_deploy(world.survey(NEW)) == []


def test_an_upgrade_that_failed_in_a_region_goes_on_there() -> None:
    world = World(HOME, OTHER)
    world.account.outputs = NEW.outputs
    world.account.failures[OTHER] = ["no more capacity"]
    world.manager.redeploy(to_deploy(world.survey(NEW)))

    assert to_deploy(world.survey(NEW)) == [OTHER]
    built = world.manager.redeploy([OTHER])
    assert [state.phase for state in built.built] == [Phase.READY]


def test_an_older_checkout_goes_back_to_its_version_within_a_format() -> None:
    world = World(HOME)
    older = replace(OLD, version="0.1.9")

    assert [each.way for each in world.survey(older)] == [Direction.ROLLBACK]
    assert to_deploy(world.survey(older)) == [HOME]


def test_a_checkout_that_does_not_know_the_format_of_the_data_is_refused() -> None:
    world = World(HOME)
    world.account.formats[HOME] = FORMAT_VERSION + 1

    [found] = world.survey(NEW)

    assert found.way is Direction.REFUSED
    with pytest.raises(FormatTooNewError, match="format 3"):
        found.check_format()


def test_other_settings_alone_are_a_reason_to_deploy() -> None:
    world = World(HOME)

    assert to_deploy(world.survey(OLD)) == []
    assert to_deploy(world.survey(OLD, same_settings=False)) == [HOME]


def test_a_region_that_was_deployed_by_hand_after_its_removal_is_upgraded_and_can_be_removed_again() -> None:
    """H-P4: `region remove` did nothing and said `removed`, while the region continued to take batches."""
    world = World(HOME, OTHER)
    world.removal.remove(OTHER)
    world.account.deploy(Deployment(region=OTHER, architecture="arm64", rollback_alarms=()))
    world.account.outputs = NEW.outputs
    assert OTHER in to_deploy(world.survey(NEW))

    world.removal.remove(OTHER)

    assert world.account.describe(OTHER, STACKS.pipeline) is None, "it still runs, and is said to be removed"


def test_a_region_that_was_removed_is_not_upgraded() -> None:
    world = World(HOME, OTHER)
    world.removal.remove(OTHER)

    assert to_deploy(world.survey(NEW)) == [HOME]


def test_a_stage_that_was_deployed_without_a_state_is_found_in_its_home_region() -> None:
    world = World()
    world.account.deploy(Deployment(region=HOME))

    assert [(each.region, each.phase, each.way) for each in world.survey(OLD)] == [(HOME, None, Direction.SAME)]


def test_a_stack_whose_first_creation_failed_is_nothing_deployed_and_is_told() -> None:
    world = World()
    world.account.found[HOME, STACKS.data] = StackStatus(name=STACKS.data, status="ROLLBACK_COMPLETE", why="no")

    [found] = world.survey(NEW)

    assert found.exists
    assert (found.way, [stack.status for stack in found.broken]) == (None, ["ROLLBACK_COMPLETE"])


def test_a_stage_leaves_with_the_home_region_last_and_keeps_its_data() -> None:
    world = World(HOME, OTHER)
    world.account.retained = {STACKS.data: [BUCKET, TABLE, ROLE], STACKS.pipeline: [LOG]}

    left = world.uninstall().run(delete_data=False)

    assert {stack for _, stack in world.account.found} == {STACKS.data}
    assert left == [
        Remaining(region=region, kind=kind, name=kind, orphaned=kind == "log")
        for region in (OTHER, HOME)
        for kind in ("log", "bucket", "table")
    ]
    assert world.uninstall().run(delete_data=False)[-1].kind == "table"


def test_with_its_data_a_stage_is_gone_but_for_what_its_stacks_keep() -> None:
    world = World(HOME, OTHER)
    world.account.retained = {STACKS.data: [BUCKET, TABLE]}
    world.account.objects[HOME] = 7

    left = world.uninstall().run(delete_data=True)

    assert world.account.found == {}
    assert f"{HOME}: deleted 7 objects of the data bucket" in world.said
    assert [(each.region, each.name, each.orphaned) for each in left] == [(OTHER, "table", True), (HOME, "table", True)]
    assert world.uninstall().run(delete_data=True) == []


@pytest.mark.parametrize("delete_data", [False, True])
def test_what_would_remain_is_what_remains_and_asking_changes_nothing(delete_data: bool) -> None:
    world = World(HOME, OTHER)
    world.account.retained = {STACKS.data: [BUCKET, TABLE, ROLE], STACKS.pipeline: [LOG]}
    stage, before = world.uninstall(), dict(world.account.found)

    would = [each for region in stage.regions() for each in stage.would_remain(region, delete_data=delete_data)]

    assert world.account.found == before
    assert would == stage.run(delete_data=delete_data)


def test_an_api_is_deleted_before_the_functions_and_after_the_alarms_that_look_at_it() -> None:
    world = World(HOME)
    world.account.retained = {STACKS.api: [LOG]}
    order = [STACKS.observability, STACKS.api, STACKS.pipeline, STACKS.data]
    there: list[set[str]] = []
    world.account.on_call = lambda _call: there.append({stack for _, stack in world.account.found})

    left = world.uninstall().run(delete_data=True)

    seen = [set(order[gone:]) for gone in range(len(order))]
    assert [each for each, before in zip(there, [None, *there], strict=False) if each and each != before] == seen
    assert [(each.kind, each.orphaned) for each in left] == [("log", True)]


def test_objects_that_the_stage_retains_are_never_deleted() -> None:
    world = World(HOME)
    world.account.retained = {STACKS.data: [replace(BUCKET, retained=True)]}
    world.account.objects[HOME] = 7

    world.uninstall().run(delete_data=True)

    assert world.account.objects[HOME] == 7


def test_what_builds_regions_goes_first_or_it_would_build_them_again() -> None:
    world = World(HOME)
    rollout = StackStatus(name=STACKS.rollout, status="CREATE_COMPLETE")
    world.account.found[HOME, STACKS.rollout] = rollout

    world.uninstall().run(delete_data=False)

    assert world.said[0] == f"{HOME}: deleting {STACKS.rollout}"


def test_a_stage_with_batches_in_flight_keeps_its_data_whatever_was_asked() -> None:
    world = World(HOME)
    world.account.waiting[HOME] = {"dead": 1}

    with pytest.raises(OperationFailedError, match="in flight"):
        world.uninstall().run(delete_data=True)

    assert (HOME, STACKS.data) in world.account.found
    assert world.states.load(HOME) != RegionState(region=HOME)


def test_a_stage_that_is_nowhere_leaves_nothing() -> None:
    assert World().uninstall().regions() == []
