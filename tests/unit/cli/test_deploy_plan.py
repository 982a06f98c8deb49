"""A deployment's plan, a failed region afterwards, and an uninstall with its leftovers."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from typer.testing import CliRunner

from metering.cli.app import app
from metering.cli.commands.platform import deploy
from metering.cli.commands.platform.deploy import check_formats, plan_lines, standing_usd
from metering.cli.commands.platform.region import STATES, deployed_row, fail_unless_ready, tell_changes
from metering.cli.failures import CommandFailedError
from metering.fleet.ports import TOOLKIT_STACK, Release, StackStatus
from metering.fleet.regions import Phase, RegionState, Step
from metering.fleet.removal import Remaining
from metering.fleet.settings.layers import Asked, planned
from metering.fleet.settings.regions import Before, Change
from metering.fleet.stage import StageConfig
from metering.fleet.survey import Surveyed
from metering.settings import GivenSettings
from tests.support.answering import MINISTACK, serving
from tests.support.memory.regions import STACKS, MemoryAccount, MemoryRegionStates

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import JsonValue

    from metering.wiring.fleet import Fleet


HOME = "us-east-1"
OWN = Release(version="0.3.0", data_format=1, commit="abc")
ABSENT = Surveyed(region=HOME, phase=None, stacks=(), data_format=None, own=OWN, same_settings=True)


def stack(part: str, status: str = "CREATE_COMPLETE", *, version: str = "", why: str = "") -> StackStatus:
    outputs = Release(version=version, data_format=1).outputs if version else {}
    return StackStatus(name=f"metering-prod-{part}", status=status, outputs=outputs, why=why)


def there(*stacks: StackStatus, same_settings: bool = True) -> Surveyed:
    return replace(ABSENT, phase=Phase.READY, stacks=stacks, data_format=1, same_settings=same_settings)


PAGER: dict[str, JsonValue] = {
    "subscriptions": [{"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}]
}


def fleet(
    stage: str = "prod",
    *,
    rehearsal: bool = False,
    account: MemoryAccount | None = None,
    no_pager: bool = False,
    given: Mapping[str, JsonValue] | None = None,
) -> Fleet:
    config = StageConfig.load(stage, given)
    account = account or MemoryAccount({})
    ports = SimpleNamespace(stacks=account, builder=account, deployed=account)
    return cast(
        "Fleet",
        SimpleNamespace(
            asked=Asked(stage=stage),
            config=config,
            home=HOME,
            rules=config.rollout,
            rehearsal=rehearsal,
            ports=ports,
            no_pager=no_pager,
        ),
    )


def lines(*surveyed: Surveyed, waves: int = 1, rehearsal: bool = False) -> str:
    return "\n".join(plan_lines(fleet(rehearsal=rehearsal), surveyed, waves))


def test_a_first_deployment_says_time_cost_and_permissions() -> None:
    said = lines(ABSENT)

    assert "Deployment of stage prod, version 0.3.0 (abc):" in said
    assert f"{HOME}: nothing is deployed yet" in said
    assert "about 27 minutes in 1 wave" in said
    assert f"about USD {standing_usd(StageConfig.load('prod'))} a month and region" in said
    assert "docs/operator-guide.md" in said


def test_a_first_deployment_that_would_page_nobody_says_so_before_it_begins() -> None:
    def said(fleet: Fleet, surveyed: Surveyed = ABSENT) -> str:
        return "\n".join(plan_lines(fleet, [surveyed], 1))

    assert "pager: nobody is subscribed" in said(fleet())
    assert "pager" not in said(fleet(given=PAGER))
    assert "pager" not in said(fleet(no_pager=True))
    assert "pager" not in said(fleet("dev"))
    # A running region may have manual subscribers; the last step of its deployment checks.
    assert "pager" not in said(fleet(), there(stack("data"), stack("pipeline")))


@pytest.mark.parametrize(
    ("before", "given", "said"),
    [
        (None, {"max_concurrency": 8}, "as stage prod, but max_concurrency"),
        (None, {}, "as stage prod"),
        ({"max_concurrency": 8}, {"max_concurrency": 8}, "nothing changes"),
    ],
)
def test_a_first_deployment_says_what_it_is_given_where_a_later_one_says_that_nothing_changes(
    before: Mapping[str, JsonValue] | None,
    given: Mapping[str, JsonValue],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    earlier = None if before is None else GivenSettings(like="prod", by_file=dict(before))
    settings = SimpleNamespace(
        change=lambda region: Change(region=region, differences=()),
        before=lambda region: Before(given=earlier),
        of=lambda region: SimpleNamespace(given=GivenSettings(like="prod", by_file=dict(given))),
    )

    tell_changes(cast("Fleet", SimpleNamespace(settings=settings)), [HOME, "eu-west-1"])

    assert f"{HOME}, eu-west-1: settings: {said}\n" in capsys.readouterr().err


def test_a_later_one_says_from_which_version_it_goes_to_which() -> None:
    said = lines(there(stack("data"), stack("pipeline")), replace(there(stack("pipeline", version="0.4.0"))), waves=2)

    assert "0.1.0 or older -> 0.3.0 (abc), an upgrade" in said
    assert "0.4.0 -> 0.3.0 (abc), a ROLLBACK" in said
    assert "about 40 minutes in 2 waves" in said
    assert "cost: as now" in said


def test_other_settings_and_a_deployment_that_did_not_end_are_said() -> None:
    found = replace(there(stack("pipeline", version="0.3.0"), same_settings=False), phase=Phase.FAILED)

    assert "the same version, with other settings, continues a deployment that did not end" in lines(found)


def test_a_stack_that_was_never_created_is_said_to_go_first() -> None:
    found = replace(ABSENT, stacks=(stack("data", "ROLLBACK_COMPLETE"),))

    assert "(metering-prod-data is ROLLBACK_COMPLETE and is deleted first)" in lines(found)


def test_a_rehearsal_says_its_time_and_what_time_and_cost_would_be_on_aws() -> None:
    """H-P2: it stated neither, which README promises."""
    said = lines(ABSENT, rehearsal=True)

    assert said.startswith("Rehearsal of stage prod")
    assert "time: about 2 minutes here; on AWS about 27 minutes in 1 wave" in said
    assert f"cost: none here; on AWS about USD {standing_usd(StageConfig.load('prod'))} a month" in said


def test_a_stage_of_emulators_says_its_time_and_that_it_costs_nothing() -> None:
    said = "\n".join(plan_lines(fleet("local"), [ABSENT], 1))

    assert "time: about 2 minutes; cost: none" in said


def test_after_an_uninstall_the_plan_says_that_nothing_runs() -> None:
    """H-P4: it said "the same version, with other settings"."""
    said = lines(there(stack("data", version="0.3.0"), same_settings=False))

    assert "nothing runs there; its data stands" in said
    assert "the same version" not in said
    assert "about 27 minutes" in said
    assert "about USD" in said


def test_an_idle_region_costs_more_the_oftener_its_jobs_run() -> None:
    often, seldom = (StageConfig.load("prod", {"watch_every_min": minutes}) for minutes in (1, 10))

    assert float(standing_usd(often)) > float(standing_usd(seldom)) > 10


def test_a_newer_data_format_is_refused_with_the_way_that_is_left() -> None:
    found = replace(there(stack("pipeline", version="0.4.0")), data_format=2)

    with pytest.raises(CommandFailedError, match="format 2") as refused:
        check_formats([found])
    assert "docs/operator-guide.md says under Restore" in refused.value.advice


def test_an_older_data_format_is_refused_with_the_release_that_upgrades_it() -> None:
    found = replace(there(stack("pipeline")), own=replace(OWN, data_format=2))

    with pytest.raises(CommandFailedError, match=r"format 1, .* format 2: run metering upgrade") as refused:
        check_formats([found])
    assert "release 0.2.0" in refused.value.advice
    assert "refused: the data has another format" in lines(found)


@pytest.mark.parametrize("phase", [None, *Phase])
def test_a_region_outside_the_rules_is_told_in_the_audit_trail_unless_it_stands(phase: Phase | None) -> None:
    """H-P3: regions built by `--outside-rules` are part of the deed's consequence."""
    from metering.cli.commands.platform.region import check_rules

    given = GivenSettings(like="prod", by_file={"rollout.allow": ["eu-*"]})
    states = MemoryRegionStates()
    if phase is not None:
        states.save(RegionState(region="us-west-2", phase=phase))
    settings = SimpleNamespace(of=lambda _region: planned(Asked(stage="prod"), given))
    world = cast("Fleet", SimpleNamespace(settings=settings, states=states, home=HOME))

    kept = check_rules(world, [HOME, "us-west-2", "eu-west-1"], outside=True)

    told = " us-west-2: outside the rules of stage prod (rollout.allow), by --outside-rules."
    assert kept == (told if phase in {None, Phase.ABSENT, Phase.REMOVED} else "")


def test_a_region_without_a_state_whose_stack_failed_is_failed_and_says_why() -> None:
    """B7: it was `absent`, and the failed stack stayed."""
    account = MemoryAccount({})
    why = "StagingBucket (AWS::S3::Bucket): it already exists"
    account.found[HOME, TOOLKIT_STACK] = StackStatus(name=TOOLKIT_STACK, status="ROLLBACK_COMPLETE", why=why)

    row = deployed_row(fleet(account=account), RegionState(region=HOME), detect=False)

    assert row["state"] == "failed"
    assert row["reason"] == f"{TOOLKIT_STACK} is ROLLBACK_COMPLETE: StagingBucket (AWS::S3::Bucket): it already exists"
    assert row["next"] == f"It is deleted and made again: metering deploy --region {HOME} --stage prod"
    assert "CDKToolkit ROLLBACK_COMPLETE" in str(row["stacks"])
    assert row["version"] is None


def test_a_region_of_a_version_that_does_not_say_it_shows_that() -> None:
    account = MemoryAccount({})
    account.found[HOME, STACKS.data] = StackStatus(name=STACKS.data, status="CREATE_COMPLETE")

    row = deployed_row(fleet(account=account), RegionState(region=HOME), detect=False)

    assert (row["version"], row["stacks"]) == ("0.1.0 or older", "data CREATE_COMPLETE")


def test_a_region_that_was_deployed_by_hand_shows_its_version() -> None:
    account = MemoryAccount({})
    for name in STACKS.in_order:
        account.found[HOME, name] = StackStatus(name=name, status="CREATE_COMPLETE", outputs=OWN.outputs)

    row = deployed_row(fleet(account=account), RegionState(region=HOME), detect=False)

    assert (row["version"], row["data_format"], row["commit"], row["rehearsal"]) == ("0.3.0", 1, "abc", False)
    assert "takes it over" in str(row["reason"])


@pytest.mark.parametrize("phase", [Phase.REMOVED, Phase.ABSENT])
def test_a_region_that_runs_again_without_the_steps_is_deployed_and_not_removed(phase: Phase) -> None:
    """H-P4: after `region remove` and `local up` it was `removed`, beside four complete stacks."""
    account = MemoryAccount({})
    for name in STACKS.in_order:
        account.found[HOME, name] = StackStatus(name=name, status="CREATE_COMPLETE", outputs=OWN.outputs)
    removed = RegionState(region=HOME, phase=phase)

    row = {**STATES.row(removed), **deployed_row(fleet(account=account), removed, detect=False)}

    assert row["state"] == "deployed"
    assert "takes it over" in str(row["reason"])


def test_a_region_that_is_out_of_service_is_removed_beside_its_data() -> None:
    account = MemoryAccount({})
    account.found[HOME, STACKS.data] = StackStatus(name=STACKS.data, status="CREATE_COMPLETE", outputs=OWN.outputs)
    removed = RegionState(region=HOME, phase=Phase.REMOVED)

    assert {**STATES.row(removed), **deployed_row(fleet(account=account), removed, detect=False)}["state"] == "removed"


def test_the_reason_of_a_failure_is_not_said_again_at_the_end() -> None:
    failed = RegionState(region=HOME, phase=Phase.FAILED, step=Step.DEPLOY, reason="a long one", advice="Run it again.")

    with pytest.raises(CommandFailedError) as ended:
        fail_unless_ready([failed])
    assert (str(ended.value), ended.value.advice) == (f"{HOME} is not ready: it failed at deploy.", "Run it again.")


def test_an_api_costs_its_alarms_and_counters_and_nothing_while_nobody_asks() -> None:
    without, with_it = (float(standing_usd(StageConfig.load("prod", {"api": api}))) for api in (False, True))
    # Six alarms at 0.10 USD, five counters at 0.30 USD.
    assert with_it - without == pytest.approx(2.10)


TABLE = Remaining(region="us-east-1", kind="table", name="ledger", orphaned=True)
FLEET = SimpleNamespace(
    uninstall=SimpleNamespace(regions=lambda: ["us-east-1"], would_remain=lambda _region, *, delete_data: [TABLE])
)


def test_a_line_that_deletes_on_an_emulator_names_its_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERING_LOCAL_DIR", str(tmp_path))
    monkeypatch.setattr(deploy, "deploying_fleet", lambda _session: FLEET)
    with serving(MINISTACK) as endpoint:
        words = ("--stage", "prod", "--delete-data", "--dry-run", "--endpoint", endpoint, "--format", "json")
        done = CliRunner().invoke(app, ["uninstall", *words])

    assert done.exit_code == 0, done.stderr
    [row] = json.loads(done.stdout)["rows"]
    first, second = row["delete_with"].split(" && ")
    assert first.startswith(f"aws --endpoint-url {endpoint} dynamodb update-table ")
    assert second.startswith(f"aws --endpoint-url {endpoint} dynamodb delete-table ")
