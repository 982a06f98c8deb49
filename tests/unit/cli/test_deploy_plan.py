"""The plan of a deployment, the report of a failed region, and an uninstall with leftovers."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, TypeAlias, cast

import pytest
from typer.testing import CliRunner

from metering.adapters.aws.session import Clients
from metering.cli.app import app
from metering.cli.commands.platform import deploy
from metering.cli.commands.platform.deploy import acting, check_formats, plan_lines, standing_usd
from metering.cli.commands.platform.region import STATES, check_rules, deployed_row, fail_unless_ready, tell_changes
from metering.cli.failures import CommandFailedError
from metering.fleet.ports import TOOLKIT_STACK, Release, StackStatus
from metering.fleet.regions import Phase, RegionState, Step
from metering.fleet.rollout import Remaining
from metering.fleet.settings.layers import Asked, planned
from metering.fleet.settings.regions import Before, Change
from metering.fleet.stage import StageConfig
from metering.fleet.steps import FleetPorts
from metering.fleet.survey import Surveyed
from metering.operations.own_costs import project_month_usd
from metering.settings import GivenSettings
from tests.infra.support.organisation import KEY, SETTINGS
from tests.support.answering import MINISTACK, serving
from tests.support.format_ledger import NEWER, REFUSAL, FormatLedger
from tests.support.memory.clock import ManualClock
from tests.support.memory.regions import STACKS, MemoryAccount, MemoryRegionStates
from tests.unit.adapters.aws.test_stage_settings import Deployed

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


Settings: TypeAlias = "Mapping[str, JsonValue]"
PAGER: dict[str, JsonValue] = {
    "subscriptions": [{"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}]
}


def fleet(
    stage: str = "prod", account: MemoryAccount | None = None, given: Settings | None = None, **flags: bool
) -> Fleet:
    config, account = StageConfig.load(stage, given), account or MemoryAccount({})
    ports = FleetPorts(
        account=account, stacks=account, builder=account, probe=account, deployed=account, clock=ManualClock(0),
        rules=config.rollout, project=config.rollout_project,
    )  # fmt: skip
    parts = {"asked": Asked(stage=stage), "config": config, "home": HOME, "rules": config.rollout, "ports": ports}
    return cast("Fleet", SimpleNamespace(**{"rehearsal": False, "no_pager": False, **flags, **parts}))


def lines(*surveyed: Surveyed, waves: int = 1, stage: str = "prod", rehearsal: bool = False) -> str:
    return "\n".join(plan_lines(fleet(stage, rehearsal=rehearsal), surveyed, waves))


IDLE_USD = standing_usd(StageConfig.load("prod"))
OTHER_SETTINGS = replace(there(stack("pipeline", version="0.3.0"), same_settings=False), phase=Phase.FAILED)
PLANS: dict[str, tuple[str, list[str]]] = {
    "a first deployment says time, cost and permissions": (lines(ABSENT), [
        "Deployment of stage prod, version 0.3.0 (abc):", f"{HOME}: nothing is deployed yet",
        "about 28 minutes in 1 wave (bootstrap 2, data 4, pipeline 3, observability 4, bake 15)",
        f"about USD {IDLE_USD} a month and region", "docs/operator-guide.md", "watch each 1 min (USD 0.30)",
        "no project builds regions", "no region is opted in to",
    ]),
    "a later one says from which version it goes to which": (
        lines(there(stack("data"), stack("pipeline")), there(stack("pipeline", version="0.4.0")), waves=2),
        [
            "0.1.0 or older -> 0.3.0 (abc), an upgrade", "0.4.0 -> 0.3.0 (abc), a ROLLBACK",
            "about 80 minutes in 2 waves", "watched by alarms 15, bake 15)", "cost: as now",
        ],
    ),
    "other settings and a deployment that did not end": (
        lines(OTHER_SETTINGS), ["the same version, with other settings, continues a deployment that did not end"],
    ),
    "a stack that was never created goes first": (
        lines(replace(ABSENT, stacks=(stack("data", "ROLLBACK_COMPLETE"),))),
        ["(metering-prod-data is ROLLBACK_COMPLETE and is deleted first)"],
    ),
    "a data stack that may hold data is not deleted": (
        lines(replace(ABSENT, stacks=(stack("data", "DELETE_FAILED"),))),
        ["refused: metering-prod-data is DELETE_FAILED. The service never deletes", "--stack-name metering-prod-data"],
    ),
    "a roll-back that failed is told first": (
        lines(there(stack("data"), stack("pipeline", "UPDATE_ROLLBACK_FAILED"))),
        ["refused: metering-prod-pipeline is UPDATE_ROLLBACK_FAILED", "continue-update-rollback"],
    ),
    "a rehearsal says its time and what time and cost would be on AWS": (lines(ABSENT, rehearsal=True), [
        "Rehearsal of stage prod", "time: about 2 minutes here; on AWS about 28 minutes in 1 wave",
        f"cost: none here; on AWS about USD {IDLE_USD} a month",
    ]),
    "a stage of emulators says its time and that it costs nothing": (
        lines(ABSENT, stage="local"), ["time: about 2 minutes; cost: none"],
    ),
    "after an uninstall nothing runs": (
        lines(there(stack("data", version="0.3.0"), same_settings=False)),
        ["nothing runs there; its data stands", "about 23 minutes", "about USD"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("plan", PLANS)
def test_a_deployment_says_what_it_will_do(plan: str) -> None:
    said, told = PLANS[plan]
    assert [words for words in told if words not in said] == []
    assert said.startswith("Rehearsal") == ("a rehearsal" in plan)
    assert ("the same version" in said) == ("other settings" in plan)


def test_what_works_by_itself_is_named_with_its_cost() -> None:
    source: dict[str, JsonValue] = {"name": "flows", "bucket": "acme-logs", "region": HOME, "prefix": "AWSLogs/"}
    given: Settings = {
        "rollout_project": True, "rollout": {"allow": ["eu-*"], "opt_in": True}, "log_sources": [source], **PAGER,
    }  # fmt: skip
    told = "\n".join(acting(fleet(given=given)))
    project = f"project {STACKS.rollout} in {HOME} builds eu-*, each 24 h, about USD {project_month_usd(24)} a month"
    for words in (
        "log-context each 5 min (USD", "each page goes to email oncall@example.com",
        "s3://acme-logs/AWSLogs/ are metered in us-east-1", project, "disabled regions are opted in to",
    ):  # fmt: skip
        assert words in told
    assert 3 < project_month_usd(24) < 6


@pytest.mark.parametrize(("given", "told"), [
    ({}, "it stands, and stays until rollout_project is false"),
    ({"rollout_project": False}, "is deleted, for rollout_project is false"),
])  # fmt: skip
def test_a_project_that_stands_is_told(given: Settings, told: str) -> None:
    account = MemoryAccount({})
    account.found[HOME, STACKS.rollout] = StackStatus(name=STACKS.rollout, status="UPDATE_COMPLETE")
    assert told in "\n".join(acting(fleet(account=account, given=given)))


def test_a_deployment_says_who_becomes_operator_and_what_network_and_key_cost() -> None:
    plain, named = (
        "\n".join(plan_lines(fleet(given=given), [ABSENT], 1))
        for given in (
            {},
            {"operator_principals": SETTINGS["operator_principals"], "vpc": SETTINGS["vpc"], "kms_key_arn": KEY},
        )
    )
    assert "readers and operators: whoever the account lets, for operator_principals is unset" in plain
    assert "readers and operators: arn:aws:iam::123456789012:role/ops-*" in named
    assert "network: USD 7.30 a month for each interface endpoint" in named
    assert "key: USD 0.03" in named


def test_a_first_deployment_that_would_page_nobody_says_so_before_it_begins() -> None:
    def said(fleet: Fleet, surveyed: Surveyed = ABSENT) -> str:
        return "\n".join(plan_lines(fleet, [surveyed], 1))

    assert "pager: nobody is subscribed" in said(fleet())
    assert "pager" not in said(fleet(given=PAGER))
    assert "pager" not in said(fleet(no_pager=True))
    assert "pager" not in said(fleet("dev"))
    # A running region may have subscribers that were added manually; the last step of its deployment checks this.
    assert "pager" not in said(fleet(), there(stack("data"), stack("pipeline")))


@pytest.mark.parametrize(("before", "given", "said"), [
    (None, {"max_concurrency": 8}, "as stage prod, but max_concurrency"),
    (None, {}, "as stage prod"),
    ({"max_concurrency": 8}, {"max_concurrency": 8}, "nothing changes"),
])  # fmt: skip
def test_a_first_deployment_says_what_it_is_given_where_a_later_one_says_that_nothing_changes(
    before: Settings | None,
    given: Settings,
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


def test_a_plan_says_from_which_load_on_the_other_billing_of_the_ledger_is_cheaper() -> None:
    other: Settings = {"billing": "provisioned", "ledger_min_writes_per_s": 400}
    on_demand, provisioned = ("\n".join(plan_lines(fleet(given=each), [ABSENT], 1)) for each in (None, other))
    # 200 writes and 200 reads a second cost 3.74 USD a day, whatever they are used for.
    assert "ledger: on demand; billing = provisioned is cheaper above 2.4 million batches a day (29%" in on_demand
    assert "ledger: provisioned, USD 6.86 to 74.88 a day by load; on demand is cheaper below 4.4 mill" in provisioned


def test_an_idle_region_costs_more_the_oftener_its_jobs_run() -> None:
    often, seldom = (StageConfig.load("prod", {"watch_every_min": minutes}) for minutes in (1, 10))
    assert float(standing_usd(often)) > float(standing_usd(seldom)) > 10


def test_a_newer_data_format_is_refused_with_the_way_that_is_left() -> None:
    found = replace(there(stack("pipeline", version="0.4.0")), data_format=2)
    with pytest.raises(CommandFailedError, match="format 2") as refused:
        check_formats([found])
    assert "docs/operator-guide.md, Rollback" in refused.value.advice


def test_an_older_data_format_is_refused_with_the_release_that_upgrades_it() -> None:
    found = replace(there(stack("pipeline")), own=replace(OWN, data_format=2))
    with pytest.raises(CommandFailedError, match=r"format 1, .* format 2: run metering upgrade") as refused:
        check_formats([found])
    assert "release 0.2.0" in refused.value.advice
    assert "refused: the data has another format" in lines(found)


@pytest.mark.parametrize("phase", [None, *Phase])
def test_a_region_outside_the_rules_is_told_in_the_audit_trail_unless_it_stands(phase: Phase | None) -> None:
    given = GivenSettings(like="prod", by_file={"rollout.allow": ["eu-*"]})
    states = MemoryRegionStates()
    if phase is not None:
        states.save(RegionState(region="us-west-2", phase=phase))
    settings = SimpleNamespace(of=lambda _region: planned(Asked(stage="prod"), given))
    world = cast("Fleet", SimpleNamespace(settings=settings, states=states, home=HOME))
    kept = check_rules(world, [HOME, "us-west-2", "eu-west-1"], outside=True)
    told = " us-west-2: outside the rules of stage prod (rollout.allow), by --outside-rules."
    assert kept == (told if phase in {None, Phase.ABSENT, Phase.REMOVED} else "")


def row_of(state: RegionState, *names: str, outputs: Mapping[str, str] | None = None, **more: str) -> dict[str, object]:
    """The row of a table about a region with the stacks `names`."""
    account = MemoryAccount({})
    for name in names:
        status = StackStatus(name=name, **{"status": "CREATE_COMPLETE", **more}, outputs=outputs or {})
        account.found[HOME, name] = status
    return {**STATES.row(state), **deployed_row(fleet(account=account), state, detect=False)}


def test_a_region_without_a_state_whose_stack_failed_is_failed_and_says_why() -> None:
    why = "StagingBucket (AWS::S3::Bucket): it already exists"
    row = row_of(RegionState(region=HOME), TOOLKIT_STACK, status="ROLLBACK_COMPLETE", why=why)
    assert row["state"] == "failed"
    assert row["reason"] == f"{TOOLKIT_STACK} is ROLLBACK_COMPLETE: {why}"
    assert row["next"] == f"It is deleted and made again: metering deploy --region {HOME} --stage prod"
    assert "CDKToolkit ROLLBACK_COMPLETE" in str(row["stacks"])
    assert row["version"] is None


def test_a_ready_region_whose_roll_back_failed_has_the_command_in_its_row() -> None:
    ready = RegionState(region=HOME, phase=Phase.READY)
    row = row_of(ready, STACKS.data, STACKS.pipeline, status="UPDATE_ROLLBACK_FAILED", why="denied")
    assert (row["state"], row["reason"]) == ("ready", f"{STACKS.data} is UPDATE_ROLLBACK_FAILED: denied")
    assert "continue-update-rollback" in str(row["next"])


def test_a_region_of_a_version_that_does_not_say_it_shows_that() -> None:
    row = row_of(RegionState(region=HOME), STACKS.data)
    assert (row["version"], row["stacks"]) == ("0.1.0 or older", "data CREATE_COMPLETE")


@pytest.mark.parametrize("phase", [None, Phase.REMOVED, Phase.ABSENT])
def test_a_region_that_was_deployed_by_hand_shows_its_version_and_is_not_removed(phase: Phase | None) -> None:
    state = RegionState(region=HOME) if phase is None else RegionState(region=HOME, phase=phase)
    row = row_of(state, *STACKS.in_order, outputs=OWN.outputs)
    assert (row["version"], row["data_format"], row["commit"], row["rehearsal"]) == ("0.3.0", 1, "abc", False)
    assert row["state"] == "deployed"
    assert "takes it over" in str(row["reason"])


def test_a_region_that_is_out_of_service_is_removed_beside_its_data() -> None:
    removed = RegionState(region=HOME, phase=Phase.REMOVED)
    assert row_of(removed, STACKS.data, outputs=OWN.outputs)["state"] == "removed"


def test_the_reason_of_a_failure_is_not_said_again_at_the_end() -> None:
    failed = RegionState(region=HOME, phase=Phase.FAILED, step=Step.DEPLOY, reason="a long one", advice="Run it again.")
    with pytest.raises(CommandFailedError) as ended:
        fail_unless_ready([failed])
    assert (str(ended.value), ended.value.advice) == (f"{HOME} is not ready: it failed at deploy.", "Run it again.")


def test_an_api_costs_its_alarms_and_counters_and_nothing_while_nobody_asks() -> None:
    without, with_it = (float(standing_usd(StageConfig.load("prod", {"api": api}))) for api in (False, True))
    # Six alarms at 0.10 USD each, and five counters at 0.30 USD each.
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


# If a region's data has a newer format, commands state the version that is needed, and do nothing.


@pytest.mark.parametrize("words", [
    "report usage", "query 'SELECT 1'", "verify", "compact", "reconcile", "storage report", "period close 2026-10",
    "period show 2026-10", "period verify 2026-10", "rebuild usage --from 2026-11-24 --to 2026-11-25",
    "rebuild markers", "dlq list", "dlq redrive", "quarantine list", "quarantine show edge-1",
    "quarantine retry --reason too_late", "trace --account 123456789012", "batch show edge-1", "sources",
    "sources forget edge", "region status", "region reconcile", "region add us-east-1 --redeploy",
    "region remove us-east-1", "audit",
])  # fmt: skip
def test_a_command_is_refused_in_words(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # If a command made any AWS call, it would report missing credentials.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    deployed = Deployed()
    FormatLedger(deployed.clients, NEWER.to_item())
    monkeypatch.setattr(Clients, "from_env", lambda *_args, **_options: deployed.clients)
    line = shlex.split(words)
    with serving(MINISTACK) as endpoint:
        result = CliRunner().invoke(app, ["--endpoint", endpoint, *line])
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout) == (1, ""), result.stderr
    assert result.stderr.replace("\n", " ").strip() == f"Error: {REFUSAL}"
