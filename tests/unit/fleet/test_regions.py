"""Regions of a stage: waves, rules and states; regions are built, also after a kill at any call, upgraded, removed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from metering.errors import FormatTooNewError, OperationFailedError, SettingsError
from metering.fleet.ports import Deployment, Direction, Release, StackResource, StackStatus, direction, order
from metering.fleet.regions import Answered, Finding, LedgerRegionStates, ListedRegion, Phase, RegionState, Step, waves
from metering.fleet.rollout import RegionManager, RegionRemoval, Remaining, Uninstall
from metering.fleet.settings.layers import Asked
from metering.fleet.stage import RolloutRules, StageConfig
from metering.fleet.survey import Surveyed, deployed_regions, survey, to_deploy
from metering.ledger.format_version import FORMAT_VERSION, RESTORED_FORMAT
from metering.operations.doctor.catalogue import CHECKS
from metering.wiring import fleet
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.regions import STACKS, MemoryFleet, MemoryRegionStates
from tests.support.small_world import Calls, KilledError
from tests.unit.operations.doctor.bench import World as DoctorWorld

if TYPE_CHECKING:
    from metering.stores.writes import Put


def listed(*names: str, status: str = "ENABLED_BY_DEFAULT") -> list[ListedRegion]:
    return [ListedRegion(name=name, opt_status=status) for name in names]


def test_waves_start_with_home_then_double_up_to_the_largest() -> None:
    regions = listed("us-east-1", "a-1", "b-1", "c-1", "d-1", "e-1", "f-1", "g-1", "h-1")
    found = waves(regions, home="us-east-1", largest=3)
    assert found == (("us-east-1",), ("a-1",), ("b-1", "c-1"), ("d-1", "e-1", "f-1"), ("g-1", "h-1"))


def test_regions_that_few_customers_have_come_first() -> None:
    regions = [*listed("eu-west-1", "us-west-2"), *listed("me-south-1", "af-south-1", status="DISABLED")]
    assert waves(regions, home="us-east-1", largest=8) == (("af-south-1",), ("me-south-1", "eu-west-1"), ("us-west-2",))


def test_what_is_ready_counts_as_waves_that_went_well() -> None:
    done, left = ("us-east-1", "a-1", "b-1", "c-1"), ("d-1", "e-1", "f-1", "g-1")
    assert waves(listed(*left), home="us-east-1", largest=4, done=done) == (left,)


def test_deny_is_stronger_than_allow() -> None:
    rules = RolloutRules(allow=("eu-*", "us-east-1"), deny=("eu-south-*",))
    assert rules.admits("eu-west-1")
    assert not rules.admits("eu-south-2")
    assert not rules.admits("us-west-2")


def test_without_allow_nothing_is_built_by_itself_and_only_deny_refuses_a_region_that_is_named() -> None:
    rules = RolloutRules(deny=("eu-south-*",))
    assert not rules.admits("eu-west-1")
    assert not rules.excludes("eu-west-1")
    assert rules.excludes("eu-south-2")


def test_a_state_is_the_same_after_it_was_stored() -> None:
    state = RegionState(
        region="ap-southeast-9", phase=Phase.FAILED, step=Step.DEPLOY, done={Step.OPT_IN: 5, Step.BOOTSTRAP: 7},
        reason="no", advice="again", listed=False, left_out=("analytics",),
        findings=(Finding(check="type X", answered=Answered.UNKNOWN, detail="no answer"),), architecture="x86_64",
        attempts=3, deployments=1, canary_from_s=9, updated_s=11,
    )  # fmt: skip
    assert RegionState.from_item(state.to_item()) == state


def test_states_wait_in_memory_for_the_ledger_of_the_home_region() -> None:
    store: MemoryItemStore | None = None
    states = LedgerRegionStates(lambda: store)
    states.save(RegionState(region="home-1", phase=Phase.BUILDING))
    assert states.load("home-1") is not None
    assert [state.region for state in states.everything()] == ["home-1"]
    store = MemoryItemStore()
    states.save(RegionState(region="other-1", phase=Phase.READY))
    assert [state.region for state in LedgerRegionStates(lambda: store).everything()] == ["home-1", "other-1"]


def test_regions_of_a_wave_save_their_states_at_the_same_time() -> None:
    class Slow(MemoryItemStore):
        """Simulates that a second region saves its state during a put."""

        def put(self, action: Put) -> None:
            super().put(action)
            if action.key.sk == "first-1":
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(states.save, RegionState(region="second-1")).result(timeout=5)

    store = Slow()
    states = LedgerRegionStates(lambda: store)
    states.save(RegionState(region="first-1"))
    assert [state.region for state in states.everything()] == ["first-1", "second-1"]


def release(version: str, *, data_format: int = 1, commit: str = "") -> Release:
    return Release(version=version, data_format=data_format, commit=commit)


def test_versions_stand_in_the_order_of_their_releases() -> None:
    ordered = ["0.1.0", "0.1.9", "0.1.10", "0.2.0.dev0", "0.2.0a1", "0.2.0b1", "0.2.0rc1", "0.2.0", "1.0.0"]
    assert sorted(set(ordered), key=order) == ordered


def test_what_a_stack_puts_out_is_read_again_as_the_same_release() -> None:
    own = release("0.2.0", commit="1911cd8aa657-dirty")
    assert Release.of_outputs({**own.outputs, "Other": "x"}) == own


@pytest.mark.parametrize("outputs", [{}, {"Version": "0.2.0"}, {"Version": "0.2.0", "DataFormat": "one"}])
def test_a_stack_that_does_not_say_both_says_no_release(outputs: dict[str, str]) -> None:
    assert Release.of_outputs(outputs) is None


@pytest.mark.parametrize(("deployed", "own", "way"), [
    (release("0.2.0"), release("0.2.0"), Direction.SAME),
    (release("0.2.0", commit="a"), release("0.2.0", commit="b"), Direction.UPGRADE),
    (release("0.2.0", commit="a"), release("0.2.0"), Direction.SAME),
    (release("0.1.0"), release("0.2.0"), Direction.UPGRADE),
    (release("0.3.0"), release("0.2.0"), Direction.ROLLBACK),
    (None, release("0.2.0.dev0"), Direction.UPGRADE),
    (None, release("0.1.0"), Direction.SAME),
])  # fmt: skip
def test_the_way_goes_from_what_is_there_to_this_checkout(
    deployed: Release | None, own: Release, way: Direction
) -> None:
    assert direction(deployed, data_format=1, own=own) is way


def test_a_format_that_this_checkout_does_not_know_is_refused_whatever_the_version() -> None:
    assert direction(release("0.3.0", data_format=2), data_format=2, own=release("0.9.0")) is Direction.REFUSED


def test_a_release_of_a_newer_format_is_refused_while_the_data_is_still_old() -> None:
    assert direction(release("0.1.0"), data_format=1, own=release("0.3.0", data_format=2)) is Direction.REFUSED


def test_each_quick_check_is_a_finding_with_what_to_do() -> None:
    bench = DoctorWorld(reader_denied=True, versioned=False, engine=None, starts={}).bench()
    found = {each.check: each for each in fleet.findings(bench)}
    assert list(found) == [f"doctor {check.name}" for check in CHECKS if not check.thorough]
    assert found["doctor missing-key"].answered is Answered.FAILED
    assert "reader" in found["doctor missing-key"].detail
    assert found["doctor cancel-reasons"].answered is Answered.PASSED
    assert found["doctor athena"].answered is Answered.UNKNOWN


@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:4566"])
def test_only_aws_is_examined_and_a_region_without_an_answer_is_unknown(
    endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_stack(_clients: object, _stage: str) -> Any:
        raise SettingsError(["stage demo is not deployed"])

    monkeypatch.setattr(fleet, "connected", no_stack)
    environ = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    built = fleet.Fleet(asked=Asked(stage="demo"), home="eu-west-1", endpoint=endpoint, environ=environ)
    found = built._examined("eu-west-1")
    if endpoint is not None:
        assert found == ()
        return
    [finding] = found
    assert (finding.check, finding.answered) == ("doctor", Answered.UNKNOWN)
    assert "not deployed" in finding.detail


# Regions are built from nothing, after a kill at any call and after failures, and are removed again.

REGION = "ap-southeast-9"
RULES = RolloutRules(bake_min=0, canaries=1, canary_wait_min=1, allow=("*",), opt_in=True)


class Setup(MemoryFleet):
    def __init__(
        self, *, rules: RolloutRules = RULES, no_pager: bool = False, project: bool | None = None, **listed: str
    ) -> None:
        names = {name.replace("_", "-"): status for name, status in listed.items()}
        super().__init__(names, rules=rules, no_pager=no_pager, project=project)

    def phase(self, region: str) -> Phase:
        state = self.states.load(region)
        assert state is not None
        return state.phase


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_an_unlisted_region_is_built_when_it_is_named() -> None:
    setup = Setup(us_east_1="ENABLED_BY_DEFAULT")
    state = setup.manager.add(REGION)
    assert state.phase is Phase.READY
    assert not state.listed
    assert list(state.done) == list(Step)
    assert setup.states.load(REGION) == state


def test_what_the_doctor_finds_is_told_and_kept_and_does_not_stop_the_build(setup: Setup) -> None:
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
    # A later measurement replaces one that was made earlier.
    del found[0]
    again = replace(setup.manager, ports=ports).add(REGION, redeploy=True)
    assert [each.check for each in again.findings if each.check.startswith("doctor")] == ["doctor missing-key"]


def test_a_region_that_is_ready_is_left_alone(setup: Setup) -> None:
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


def test_nothing_is_opted_in_to_that_nobody_asked_for() -> None:
    setup = Setup(rules=RULES.model_copy(update={"opt_in": False}), me_south_1="DISABLED", af_south_1="ENABLING")
    state = setup.manager.add("me-south-1")
    assert (state.phase, state.step) == (Phase.FAILED, Step.OPT_IN)
    assert state.reason == "me-south-1 is disabled in the account; rollout.opt_in = true enables it."
    assert "aws account enable-region --region-name me-south-1" in state.advice
    plan = setup.manager.plan()
    assert plan.skipped["me-south-1"] == "disabled in the account; rollout.opt_in = true enables it"
    # Somebody else enables this one.
    assert plan.waves == (("af-south-1",),)
    assert setup.manager.add("af-south-1").phase is Phase.READY
    assert setup.account.listed["me-south-1"] == "DISABLED"


def test_a_stage_that_was_given_nothing_builds_only_what_is_named_and_no_project() -> None:
    config = StageConfig.load("prod")
    rules = config.rollout.model_copy(update={"bake_min": 0, "canaries": 1, "pager_needed": False})
    setup = Setup(
        rules=rules, project=config.rollout_project, us_east_1="ENABLED_BY_DEFAULT", eu_west_1="ENABLED_BY_DEFAULT",
        af_south_1="DISABLED",
    )  # fmt: skip
    assert setup.manager.reconcile().plan.waves == (("us-east-1",),)
    assert setup.manager.reconcile().built == ()
    assert setup.manager.plan().skipped["eu-west-1"] == "rollout.allow is unset; add it by name"
    assert setup.manager.add("eu-west-1").phase is Phase.READY
    assert {region for region, _ in setup.account.found} == {"us-east-1", "eu-west-1"}
    assert not [name for _, name in setup.account.found if name == STACKS.rollout]
    assert setup.account.listed["af-south-1"] == "DISABLED"


@pytest.mark.parametrize(("project", "stands", "kept"), [
    (None, False, False), (None, True, True), (True, False, True), (False, True, False),
])  # fmt: skip
def test_a_project_is_made_by_the_setting_and_one_that_stands_is_kept_until_the_setting_is_false(
    project: bool | None, stands: bool, kept: bool
) -> None:
    setup = Setup(project=project)
    if stands:
        setup.account.found[RULES.home, STACKS.rollout] = StackStatus(name=STACKS.rollout, status="CREATE_COMPLETE")
    setup.manager.add(RULES.home)
    setup.manager.add(REGION)
    assert [each.project for each in setup.account.deployed] == [kept, False]


def calls_of_a_build() -> int:
    calls: list[str] = []
    setup = Setup(me_south_1="DISABLED")
    setup.account.on_call = calls.append
    setup.manager.add("me-south-1")
    return len(calls)


@pytest.mark.parametrize("at", range(calls_of_a_build()))
def test_a_build_killed_at_any_call_is_ready_after_the_next_run_without_doubles(at: int) -> None:
    setup, calls = Setup(me_south_1="DISABLED"), Calls()
    calls.before[at] = KilledError()
    setup.account.on_call = calls.on_call
    with pytest.raises(KilledError):
        setup.manager.add("me-south-1")
    assert setup.manager.add("me-south-1").phase is Phase.READY
    assert sorted(setup.account.found) == sorted(("me-south-1", name) for name in STACKS.in_order)


def test_a_first_deployment_that_failed_is_cleaned_up_and_tried_again_by_the_next_run(setup: Setup) -> None:
    setup.account.failures[REGION] = ["out of widgets"]
    failed = setup.manager.add(REGION)
    assert failed.phase is Phase.FAILED
    assert failed.step is Step.DEPLOY
    assert "out of widgets" in failed.reason
    assert "next run" in failed.advice
    assert setup.account.found == {}
    assert setup.manager.add(REGION).phase is Phase.READY


def test_a_region_without_arm64_is_built_for_x86_64(setup: Setup) -> None:
    setup.account.failures[REGION] = ["Architecture arm64 is not supported in this region"]
    state = setup.manager.add(REGION)
    assert state.phase is Phase.READY
    assert state.architecture == "x86_64"


def test_a_missing_core_type_stops_the_build_and_is_named(setup: Setup) -> None:
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


def test_a_deployment_that_would_take_the_ledger_away_changes_nothing_also_if_it_goes_on_after_a_failure(
    setup: Setup,
) -> None:
    def refuse(_region: str) -> None:
        raise SettingsError(["ledger_table must stay"])

    refusing = replace(setup.ports, check_tables=refuse)
    state = replace(setup.manager, ports=refusing).add(REGION)
    assert (state.phase, state.step, state.reason) == (Phase.FAILED, Step.PREFLIGHT, "ledger_table must stay")
    setup.account.failures[REGION] = ["no more capacity"]
    assert setup.manager.add(REGION).step is Step.DEPLOY
    state = replace(setup.manager, ports=refusing).add(REGION)
    assert (state.step, state.reason, setup.account.deployed) == (Step.DEPLOY, "ledger_table must stay", [])
    with pytest.raises(SettingsError, match="must stay"):
        survey(refusing, REGION, phase=None, own=NEW, same_settings=True)


def test_an_idle_region_does_not_pass_the_bake_by_silence(setup: Setup) -> None:
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


def test_the_architecture_that_the_settings_name_is_that_of_every_region(setup: Setup) -> None:
    manager = RegionManager(ports=replace(setup.ports, architecture="x86_64"), states=setup.states)
    assert manager.add(REGION).architecture == "x86_64"
    assert setup.account.deployed[-1].architecture == "x86_64"


def test_a_region_that_stopped_after_its_deployment_is_deployed_again_only_if_that_is_asked_for() -> None:
    """Otherwise a changed setting, such as a pager that was missing, would never be deployed."""
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


def test_a_deployment_after_a_restore_is_never_rolled_back_to_the_closed_ledger() -> None:
    setup = Setup(rules=RULES.model_copy(update={"bake_min": 5}))
    setup.manager.add(REGION)
    ports = replace(setup.manager.ports, rolls_back=False)
    replace(setup.manager, ports=ports).add(REGION, redeploy=True)
    assert (setup.account.deployed[-1].rollback_alarms, setup.account.deployed[-1].watch_min) == ((), 0)


def test_a_redeployment_is_proven_by_a_canary_batch_of_its_own(setup: Setup) -> None:
    minutes: list[int] = []
    setup.account.on_call = lambda call: (
        minutes.append(setup.clock.now_ms() // 60_000) if call == "deployed.invoke_canary" else None
    )
    setup.manager.add(REGION)
    setup.manager.add(REGION, redeploy=True)
    assert minutes[1] == minutes[0] + 1


def test_a_deployment_starts_what_somebody_stopped(setup: Setup) -> None:
    setup.manager.add(REGION)
    setup.account.mapping[REGION] = "Disabled"
    setup.manager.add(REGION, redeploy=True)
    assert setup.account.mapping[REGION] == "Enabled"


def test_reconcile_builds_what_the_rules_allow_and_then_nothing() -> None:
    setup = Setup(
        rules=RULES.model_copy(update={"allow": ("eu-*", "us-east-1"), "deny": ("eu-north-1",)}),
        us_east_1="ENABLED_BY_DEFAULT", us_west_2="ENABLED_BY_DEFAULT", eu_west_1="ENABLED_BY_DEFAULT",
        eu_north_1="ENABLED_BY_DEFAULT", eu_south_1="DISABLED",
    )  # fmt: skip
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


def test_a_region_with_batches_in_flight_is_not_removed(setup: Setup) -> None:
    setup.manager.add(REGION)
    setup.account.waiting[REGION] = {"queued": 3, "received": 0}
    with pytest.raises(OperationFailedError, match="3 queued"):
        setup.removal.remove(REGION)
    assert setup.account.mapping[REGION] == "Enabled"


def test_a_batch_that_arrives_while_a_region_stops_puts_it_back_to_work(setup: Setup) -> None:
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
    setup, calls = Setup(), Calls()
    setup.manager.add(REGION)
    calls.refuse["stacks.delete"] = KilledError()
    setup.account.on_call = calls.on_call
    with pytest.raises(KilledError):
        setup.removal.remove(REGION)
    calls.refuse.clear()
    with pytest.raises(OperationFailedError, match="being removed"):
        setup.manager.add(REGION)
    assert setup.removal.remove(REGION).phase is Phase.REMOVED


def test_a_region_that_was_never_built_is_not_removed_and_gets_no_state(setup: Setup) -> None:
    with pytest.raises(OperationFailedError, match="Nothing is built"):
        setup.removal.remove(REGION)
    assert setup.states.everything() == []


def test_what_is_to_do_is_what_the_next_run_does(setup: Setup) -> None:
    assert setup.manager.todo(REGION) == tuple(Step)
    setup.manager.add(REGION)
    assert setup.manager.todo(REGION) == ()
    again = setup.manager.todo(REGION, redeploy=True)
    # A bootstrap that is new enough is left alone.
    assert again == (Step.BOOTSTRAP, Step.PREFLIGHT, Step.DEPLOY, Step.CANARY, Step.BAKE, Step.READY)
    assert setup.phase(REGION) is Phase.READY


def test_a_region_holds_data_from_its_first_deployment_on_whatever_comes_later(setup: Setup) -> None:
    setup.account.failures[REGION] = ["out of widgets"]
    assert not setup.manager.add(REGION).holds_data
    assert setup.manager.add(REGION).holds_data
    setup.account.lacking[REGION] = {"AWS::SQS::Queue"}
    failed = setup.manager.add(REGION, redeploy=True)
    assert failed.phase is Phase.FAILED
    assert failed.holds_data
    assert setup.removal.remove(REGION).holds_data


def with_home() -> Setup:
    """Two regions; the first is the home region of both."""
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
    """`--region eu-west-1` makes that region the home for one run; its ledger has no region states."""
    setup = with_home()
    elsewhere = RegionRemoval(ports=setup.ports, states=MemoryRegionStates(), say=lambda *_: None)
    with pytest.raises(OperationFailedError, match="home region"):
        elsewhere.remove("us-east-1")


def test_the_home_region_can_go_when_all_others_are_gone() -> None:
    setup = with_home()
    assert setup.removal.remove("eu-west-1").phase is Phase.REMOVED
    setup.removal.check("us-east-1")
    assert setup.removal.remove("us-east-1").phase is Phase.REMOVED


def test_a_removal_is_checked_without_changing_anything(setup: Setup) -> None:
    with pytest.raises(OperationFailedError, match="Nothing is built"):
        setup.removal.check(REGION)
    setup.manager.add(REGION)
    setup.removal.check(REGION)
    setup.account.waiting[REGION] = {"queued": 3}
    with pytest.raises(OperationFailedError, match="3 queued"):
        setup.removal.check(REGION)
    assert setup.account.mapping[REGION] == "Enabled"
    assert setup.phase(REGION) is Phase.READY


# The deployed state is compared with this checkout, and a stage is removed from all its regions.

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
    world.account.formats[HOME] = RESTORED_FORMAT + 1
    [found] = world.survey(NEW)
    assert found.way is Direction.REFUSED
    with pytest.raises(FormatTooNewError, match="format 4"):
        found.check_format()


def test_other_settings_alone_are_a_reason_to_deploy() -> None:
    world = World(HOME)
    assert to_deploy(world.survey(OLD)) == []
    assert to_deploy(world.survey(OLD, same_settings=False)) == [HOME]


def test_a_region_that_was_deployed_by_hand_after_its_removal_is_upgraded_and_can_be_removed_again() -> None:
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


def stand(world: World, stack: str, status: str) -> None:
    world.account.found[HOME, stack] = StackStatus(name=stack, status=status, why="the reason")


@pytest.mark.parametrize("status", ["CREATE_FAILED", "ROLLBACK_FAILED", "DELETE_FAILED"])
def test_a_data_stack_that_may_hold_data_is_never_deleted_whatever_its_state(status: str) -> None:
    world = World(HOME)
    stand(world, STACKS.data, status)
    before = dict(world.account.found)
    state = world.manager.add(HOME, redeploy=True)
    assert state.phase is Phase.FAILED
    assert world.account.found == before
    assert (f"{STACKS.data} is {status}: the reason" in state.reason, "never deletes it" in state.advice) == (
        True,
        True,
    )
    assert f"aws cloudformation delete-stack --stack-name {STACKS.data} --region {HOME}" in state.advice
    assert ("FORCE_DELETE_STACK" in state.advice) == (status == "DELETE_FAILED")


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "REVIEW_IN_PROGRESS"])
def test_a_data_stack_whose_status_proves_that_it_never_held_data_is_made_again(status: str) -> None:
    world = World()
    stand(world, STACKS.data, status)
    assert world.manager.add(HOME).phase is Phase.READY
    assert world.account.found[HOME, STACKS.data].complete


@pytest.mark.parametrize(
    "status", ["CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "REVIEW_IN_PROGRESS", "DELETE_FAILED"]
)
@pytest.mark.parametrize("stack", [STACKS.pipeline, STACKS.api, STACKS.observability])
def test_a_stack_without_data_is_deleted_and_made_again(stack: str, status: str) -> None:
    world = World(HOME)
    stand(world, stack, status)
    assert world.manager.add(HOME, redeploy=True).phase is Phase.READY
    assert world.account.found[HOME, stack].complete


@pytest.mark.parametrize("stack", [*STACKS.in_order, STACKS.rollout])
def test_a_roll_back_that_failed_is_told_with_the_command_that_goes_on_with_it(stack: str) -> None:
    world = World(HOME)
    stand(world, stack, "UPDATE_ROLLBACK_FAILED")
    before = dict(world.account.found)
    built = world.manager.redeploy([HOME]).built
    assert [state.phase for state in built] == [Phase.FAILED]
    assert world.account.found == before
    assert f"{stack} is UPDATE_ROLLBACK_FAILED: the reason" in built[0].reason
    assert f"continue-update-rollback --stack-name {stack} --region {HOME}" in built[0].advice


def test_a_roll_back_that_fails_during_a_deployment_is_told_in_place_of_that_all_is_as_before() -> None:
    world = World(HOME)

    def fail(call: str) -> None:
        if call == f"builder.deploy {STACKS.pipeline}":
            stand(world, STACKS.pipeline, "UPDATE_ROLLBACK_FAILED")
            raise OperationFailedError("the CDK ended with 1")

    world.account.on_call = fail
    state = world.manager.add(HOME, redeploy=True)
    assert "continue-update-rollback" in state.advice


@pytest.mark.parametrize("status", ["UPDATE_ROLLBACK_FAILED", "DELETE_FAILED"])
def test_a_region_and_a_stage_leave_by_deleting_such_a_stack_again(status: str) -> None:
    for stack in STACKS.working:
        world = World(HOME)
        stand(world, stack, status)
        assert world.uninstall().run(delete_data=False) == []
        assert set(world.account.found) == {(HOME, STACKS.data)}


def test_a_deletion_that_fails_again_is_told_with_the_command_that_retains_the_rest() -> None:
    world = World(HOME)
    delete = world.account.delete

    def fail(region: str, stack: str) -> None:
        if stack == STACKS.pipeline:
            stand(world, stack, "DELETE_FAILED")
        else:
            delete(region, stack)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.account, "delete", fail)
        with pytest.raises(OperationFailedError, match="could not be deleted: the reason") as caught:
            world.removal.remove(HOME)
    assert (
        f"delete-stack --stack-name {STACKS.pipeline} --region {HOME} --deletion-mode FORCE_DE" in caught.value.advice
    )
    assert world.removal.remove(HOME).phase is Phase.REMOVED


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
    world.account.retained = {STACKS.data: [replace(BUCKET, retained=True), TABLE]}
    world.account.restored[HOME] = ["restored"]
    left = world.uninstall().run(delete_data=True)
    assert world.account.found == {}
    assert [(each.region, each.name, each.orphaned) for each in left] == [
        (OTHER, "bucket", True), (OTHER, "table", True),
        (HOME, "bucket", True), (HOME, "table", True), (HOME, "restored", True),
    ]  # fmt: skip
    assert world.account.deleted_tables == []
    assert world.uninstall().run(delete_data=True) == []


def test_a_stage_that_retains_nothing_also_loses_its_ledger_and_what_a_restore_made_outside_of_its_stack() -> None:
    world = World(HOME, OTHER)
    world.account.retained = {STACKS.data: [BUCKET, TABLE]}
    world.account.restored[HOME] = ["restored", TABLE.name]
    world.account.objects[HOME] = 7
    assert world.uninstall().run(delete_data=True) == []
    assert world.account.found == {}
    assert f"{HOME}: deleted 7 objects of the data bucket" in world.said
    assert world.account.deleted_tables == [(OTHER, "table"), (HOME, "table"), (HOME, "restored")]


def test_a_table_that_a_restore_made_remains_with_the_data() -> None:
    world = World(HOME)
    world.account.retained = {STACKS.data: [BUCKET]}
    world.account.restored[HOME] = ["restored"]
    left = world.uninstall().run(delete_data=False)
    assert [(each.kind, each.name, each.orphaned) for each in left] == [
        ("bucket", "bucket", False), ("table", "restored", False),
    ]  # fmt: skip
    assert world.account.deleted_tables == []


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
