"""Building regions: from nothing, after a kill at any call, after failures, and their removal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.errors import OperationFailedError
from metering.fleet.regions import Answered, Finding, Phase, Step
from metering.fleet.removal import RegionRemoval
from metering.fleet.rollout import RegionManager
from metering.fleet.stage import RolloutRules
from tests.support.memory.regions import STACKS, MemoryFleet, MemoryRegionStates

REGION = "ap-southeast-9"
RULES = RolloutRules(bake_min=0, canaries=1, canary_wait_min=1, allow=("*",))


class KilledError(BaseException):
    """The process is gone; no code may catch this."""


class Setup(MemoryFleet):
    def __init__(self, *, rules: RolloutRules = RULES, no_pager: bool = False, **listed: str) -> None:
        names = {name.replace("_", "-"): status for name, status in listed.items()}
        super().__init__(names, rules=rules, no_pager=no_pager)

    def phase(self, region: str) -> Phase:
        state = self.states.load(region)
        assert state is not None
        return state.phase


def test_an_unlisted_region_is_built_when_it_is_named() -> None:
    setup = Setup(us_east_1="ENABLED_BY_DEFAULT")
    state = setup.manager.add(REGION)
    assert state.phase is Phase.READY
    assert not state.listed
    assert list(state.done) == list(Step)
    assert setup.states.load(REGION) == state


def test_what_the_doctor_finds_is_told_and_kept_and_does_not_stop_the_build() -> None:
    setup = Setup()
    found = [
        Finding(check="doctor racing", answered=Answered.PASSED),
        Finding(check="doctor missing-key", answered=Answered.FAILED, detail="403 to operator. Grant s3:ListBucket."),
    ]
    told: list[tuple[str, str]] = []
    ports = replace(setup.ports, examined=lambda _region: found, tell=lambda *line: told.append(line))
    state = replace(setup.manager, ports=ports).add(REGION)
    assert state.phase is Phase.READY
    assert [each.check for each in state.findings[-2:]] == ["doctor racing", "doctor missing-key"]
    assert told[-2:] == [
        (REGION, "AWS differs here from what the service relies on: missing-key."),
        (REGION, f"What to do says: metering doctor --stage {STACKS.stage} --region {REGION}"),
    ]
    # A later measurement replaces an earlier one.
    del found[0]
    again = replace(setup.manager, ports=ports).add(REGION, redeploy=True)
    assert [each.check for each in again.findings if each.check.startswith("doctor")] == ["doctor missing-key"]


def test_a_region_that_is_ready_is_left_alone() -> None:
    setup = Setup()
    first = setup.manager.add(REGION)
    calls: list[str] = []
    setup.account.on_call = calls.append
    assert setup.manager.add(REGION) == first
    assert calls == []


def test_a_disabled_region_is_opted_in_to_and_waited_for() -> None:
    setup = Setup(me_south_1="DISABLED")
    state = setup.manager.add("me-south-1")
    assert state.phase is Phase.READY
    assert state.listed
    assert setup.account.listed["me-south-1"] == "ENABLED"


def calls_of_a_build() -> int:
    calls: list[str] = []
    setup = Setup(me_south_1="DISABLED")
    setup.account.on_call = calls.append
    setup.manager.add("me-south-1")
    return len(calls)


@pytest.mark.parametrize("at", range(calls_of_a_build()))
def test_a_build_killed_at_any_call_is_ready_after_the_next_run_without_doubles(at: int) -> None:
    setup = Setup(me_south_1="DISABLED")
    left = at

    def kill(call: str) -> None:
        nonlocal left
        if left == 0:
            raise KilledError(call)
        left -= 1

    setup.account.on_call = kill
    with pytest.raises(KilledError):
        setup.manager.add("me-south-1")
    setup.account.on_call = lambda call: None

    assert setup.manager.add("me-south-1").phase is Phase.READY
    assert sorted(setup.account.found) == sorted(("me-south-1", name) for name in STACKS.in_order)


def test_a_first_deployment_that_failed_is_cleaned_up_and_tried_again_by_the_next_run() -> None:
    setup = Setup()
    setup.account.failures[REGION] = ["out of widgets"]
    failed = setup.manager.add(REGION)
    assert failed.phase is Phase.FAILED
    assert failed.step is Step.DEPLOY
    assert "out of widgets" in failed.reason
    assert "next run" in failed.advice
    assert setup.account.found == {}
    assert setup.manager.add(REGION).phase is Phase.READY


def test_a_region_without_arm64_is_built_for_x86_64() -> None:
    setup = Setup()
    setup.account.failures[REGION] = ["Architecture arm64 is not supported in this region"]
    state = setup.manager.add(REGION)
    assert state.phase is Phase.READY
    assert state.architecture == "x86_64"


def test_a_missing_core_type_stops_the_build_and_is_named() -> None:
    setup = Setup()
    setup.account.lacking[REGION] = {"AWS::SQS::Queue"}
    state = setup.manager.add(REGION)
    assert (state.phase, state.step) == (Phase.FAILED, Step.PREFLIGHT)
    assert "AWS::SQS::Queue" in state.reason
    assert setup.account.deployed == []
    assert state.findings


@pytest.mark.parametrize(("lacking", "part"), [("AWS::Glue::Database", "analytics"), ("AWS::ApiGatewayV2::Api", "api")])
def test_a_missing_optional_type_is_left_out_and_said_and_all_else_is_there(lacking: str, part: str) -> None:
    setup = Setup()
    setup.account.lacking[REGION] = {lacking}
    state = setup.manager.add(REGION)
    assert state.phase is Phase.READY
    assert state.left_out == setup.account.deployed[-1].left_out == (part,)
    assert f"{REGION}: preflight done, without {part}" in setup.said
    assert {stack for region, stack in setup.account.found if region == REGION} >= set(STACKS.everywhere)
    assert ((REGION, STACKS.api) in setup.account.found) == (part != "api")


def test_an_idle_region_does_not_pass_the_bake_by_silence() -> None:
    setup = Setup()
    setup.account.canaries = 0
    state = setup.manager.add(REGION)
    assert (state.phase, state.step) == (Phase.FAILED, Step.BAKE)
    setup.account.canaries = 1
    assert setup.manager.add(REGION).phase is Phase.READY
    assert setup.account.canary_runs[REGION] == 2


def test_an_alarm_that_fires_during_the_bake_fails_it() -> None:
    setup = Setup(rules=RULES.model_copy(update={"bake_min": 10}))
    setup.account.firing[REGION] = ["metering-test-canary-late"]
    began_ms = setup.clock.now_ms()
    state = setup.manager.add(REGION)
    assert state.step is Step.BAKE
    assert "canary-late" in state.reason
    assert setup.clock.now_ms() - began_ms >= 600_000


def test_ready_needs_somebody_to_page_where_the_rules_say_so() -> None:
    rules = RULES.model_copy(update={"pager_needed": True})
    setup = Setup(rules=rules)
    assert setup.manager.add(REGION).step is Step.READY
    setup.account.subscribers[REGION] = 1
    assert setup.manager.add(REGION).phase is Phase.READY
    assert Setup(rules=rules, no_pager=True).manager.add(REGION).phase is Phase.READY


def test_a_region_that_was_accepted_without_a_pager_once_is_asked_for_it_by_the_next_run() -> None:
    setup = Setup(rules=RULES.model_copy(update={"pager_needed": True}), no_pager=True)
    setup.manager.add(REGION)
    later = RegionManager(ports=replace(setup.ports, no_pager=False), states=setup.states)
    assert "Nobody is paged" in later.add(REGION, redeploy=True).reason


def test_the_architecture_that_the_settings_name_is_that_of_every_region() -> None:
    setup = Setup()
    manager = RegionManager(ports=replace(setup.ports, architecture="x86_64"), states=setup.states)
    assert manager.add(REGION).architecture == "x86_64"
    assert setup.account.deployed[-1].architecture == "x86_64"


def test_a_region_that_stopped_after_its_deployment_is_deployed_again_only_if_that_is_asked_for() -> None:
    """Otherwise other settings, such as a missing pager, would never reach it."""
    setup = Setup(rules=RULES.model_copy(update={"pager_needed": True}))
    setup.manager.add(REGION)
    setup.manager.add(REGION)
    assert len(setup.account.deployed) == 1
    assert Step.DEPLOY in setup.manager.todo(REGION, redeploy=True)

    setup.account.subscribers[REGION] = 1
    assert setup.manager.add(REGION, redeploy=True).phase is Phase.READY
    assert len(setup.account.deployed) == 2


def test_the_second_deployment_is_watched_by_alarms() -> None:
    setup = Setup(rules=RULES.model_copy(update={"bake_min": 5}))
    setup.manager.add(REGION)
    setup.manager.add(REGION, redeploy=True)
    first, second = setup.account.deployed
    assert first.rollback_alarms == ()
    assert second.rollback_alarms == tuple(setup.account.rollback_alarms(REGION))
    assert second.watch_min == 5


def test_a_redeployment_is_proven_by_a_canary_batch_of_its_own() -> None:
    setup = Setup()
    minutes: list[int] = []
    setup.account.on_call = lambda call: (
        minutes.append(setup.clock.now_ms() // 60_000) if call == "deployed.invoke_canary" else None
    )
    setup.manager.add(REGION)
    setup.manager.add(REGION, redeploy=True)
    assert minutes[1] == minutes[0] + 1


def test_a_deployment_starts_what_somebody_stopped() -> None:
    setup = Setup()
    setup.manager.add(REGION)
    setup.account.mapping[REGION] = "Disabled"
    setup.manager.add(REGION, redeploy=True)
    assert setup.account.mapping[REGION] == "Enabled"


def test_reconcile_builds_what_the_rules_allow_and_then_nothing() -> None:
    setup = Setup(
        rules=RULES.model_copy(update={"allow": ("eu-*", "us-east-1"), "deny": ("eu-north-1",)}),
        us_east_1="ENABLED_BY_DEFAULT",
        us_west_2="ENABLED_BY_DEFAULT",
        eu_west_1="ENABLED_BY_DEFAULT",
        eu_north_1="ENABLED_BY_DEFAULT",
        eu_south_1="DISABLED",
    )
    result = setup.manager.reconcile()
    assert result.plan.waves == (("us-east-1",), ("eu-south-1",), ("eu-west-1",))
    assert result.succeeded
    assert set(result.plan.skipped) == {"us-west-2", "eu-north-1"}
    again = setup.manager.reconcile()
    assert again.built == ()
    assert again.succeeded


def test_a_region_that_was_not_in_the_plan_that_a_person_agreed_to_is_not_built() -> None:
    setup = Setup(us_east_1="ENABLED_BY_DEFAULT", eu_west_1="ENABLED_BY_DEFAULT")
    agreed = setup.manager.plan()
    setup.account.listed["eu-west-2"] = "ENABLED_BY_DEFAULT"
    assert [state.region for state in setup.manager.reconcile(plan=agreed).built] == ["us-east-1", "eu-west-1"]
    assert [state.region for state in setup.manager.reconcile().built] == ["eu-west-2"]


def test_a_wave_with_a_failure_is_the_last_one() -> None:
    setup = Setup(us_east_1="ENABLED_BY_DEFAULT", eu_west_1="ENABLED_BY_DEFAULT", eu_west_2="ENABLED_BY_DEFAULT")
    setup.account.lacking["eu-west-1"] = {"AWS::SQS::Queue"}
    result = setup.manager.reconcile()
    assert not result.succeeded
    assert [state.region for state in result.built] == ["us-east-1", "eu-west-1"]


def test_a_removed_region_keeps_its_data_and_comes_back_only_by_name() -> None:
    setup = Setup(us_east_1="ENABLED_BY_DEFAULT", eu_west_1="ENABLED_BY_DEFAULT")
    setup.manager.reconcile()
    assert setup.removal.remove("eu-west-1").phase is Phase.REMOVED
    assert [name for region, name in setup.account.found if region == "eu-west-1"] == [STACKS.data]
    assert setup.manager.plan().waves == ()
    assert setup.manager.add("eu-west-1").phase is Phase.READY


def test_a_region_with_batches_in_flight_is_not_removed() -> None:
    setup = Setup()
    setup.manager.add(REGION)
    setup.account.waiting[REGION] = {"queued": 3, "received": 0}
    with pytest.raises(OperationFailedError, match="3 queued"):
        setup.removal.remove(REGION)
    assert setup.account.mapping[REGION] == "Enabled"


def test_a_batch_that_arrives_while_a_region_stops_puts_it_back_to_work() -> None:
    setup = Setup()
    setup.manager.add(REGION)

    def arrive(call: str) -> None:
        if call == "deployed.set_intake":
            setup.account.waiting[REGION] = {"queued": 1}

    setup.account.on_call = arrive
    with pytest.raises(OperationFailedError, match="1 queued"):
        setup.removal.remove(REGION)
    assert setup.account.mapping[REGION] == "Enabled"
    assert setup.phase(REGION) is Phase.READY


def test_a_removal_that_was_killed_must_be_finished_before_the_region_is_added() -> None:
    setup = Setup()
    setup.manager.add(REGION)

    def kill(call: str) -> None:
        if call == "stacks.delete":
            raise KilledError

    setup.account.on_call = kill
    with pytest.raises(KilledError):
        setup.removal.remove(REGION)
    setup.account.on_call = lambda call: None
    with pytest.raises(OperationFailedError, match="being removed"):
        setup.manager.add(REGION)
    assert setup.removal.remove(REGION).phase is Phase.REMOVED


def test_a_region_that_was_never_built_is_not_removed_and_gets_no_state() -> None:
    setup = Setup()
    with pytest.raises(OperationFailedError, match="Nothing is built"):
        setup.removal.remove(REGION)
    assert setup.states.everything() == []


def test_what_is_to_do_is_what_the_next_run_does() -> None:
    setup = Setup()
    assert setup.manager.todo(REGION) == tuple(Step)
    setup.manager.add(REGION)
    assert setup.manager.todo(REGION) == ()
    again = setup.manager.todo(REGION, redeploy=True)
    assert again == (Step.PREFLIGHT, Step.DEPLOY, Step.CANARY, Step.BAKE, Step.READY)
    assert setup.phase(REGION) is Phase.READY


def test_a_region_holds_data_from_its_first_deployment_on_whatever_comes_later() -> None:
    setup = Setup()
    setup.account.failures[REGION] = ["out of widgets"]
    assert not setup.manager.add(REGION).holds_data
    assert setup.manager.add(REGION).holds_data
    setup.account.lacking[REGION] = {"AWS::SQS::Queue"}
    failed = setup.manager.add(REGION, redeploy=True)
    assert failed.phase is Phase.FAILED
    assert failed.holds_data
    assert setup.removal.remove(REGION).holds_data


def with_home() -> Setup:
    """Two regions, of which the first is the home of both."""
    setup = Setup(us_east_1="ENABLED_BY_DEFAULT", eu_west_1="ENABLED_BY_DEFAULT")
    setup.account.kept["us-east-1"] = setup.states
    setup.manager.reconcile()
    return setup


def test_the_home_region_stays_while_others_stand_whoever_removes_it() -> None:
    setup = with_home()
    calls: list[str] = []
    setup.account.on_call = calls.append
    for refused in (setup.removal.check, setup.removal.remove):
        with pytest.raises(OperationFailedError, match=r"home region: it keeps the state of eu-west-1\."):
            refused("us-east-1")
    assert set(calls) == {"stacks.describe", "deployed.kept_states"}


def test_a_region_that_another_run_calls_home_is_still_the_home_of_those_whose_state_it_keeps() -> None:
    """`--region eu-west-1` makes that region the home of one run, whose ledger knows no region."""
    setup = with_home()
    elsewhere = RegionRemoval(ports=setup.ports, states=MemoryRegionStates(), say=lambda *_: None)
    with pytest.raises(OperationFailedError, match="home region"):
        elsewhere.remove("us-east-1")


def test_the_home_region_can_go_when_all_others_are_gone() -> None:
    setup = with_home()
    assert setup.removal.remove("eu-west-1").phase is Phase.REMOVED
    setup.removal.check("us-east-1")
    assert setup.removal.remove("us-east-1").phase is Phase.REMOVED


def test_a_removal_is_checked_without_changing_anything() -> None:
    setup = Setup()
    with pytest.raises(OperationFailedError, match="Nothing is built"):
        setup.removal.check(REGION)
    setup.manager.add(REGION)
    setup.removal.check(REGION)
    setup.account.waiting[REGION] = {"queued": 3}
    with pytest.raises(OperationFailedError, match="3 queued"):
        setup.removal.check(REGION)
    assert setup.account.mapping[REGION] == "Enabled"
    assert setup.phase(REGION) is Phase.READY
