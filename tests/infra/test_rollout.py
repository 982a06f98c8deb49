"""The rollout project in the home region runs the command that a person would run."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aws_cdk.assertions import Template

import metering.adapters.aws
from infra.app import check
from infra.assembly import templates
from infra.locked import requirement
from infra.stacks.rollout import _ACTIONS, _OPT_IN_ACTION, ALARM_ACTION, BILLING_ACTIONS, NETWORK_ACTIONS
from metering.adapters.aws.probe import ROLES
from metering.fleet.stage import StageConfig
from tests import ROOT
from tests.infra.support.organisation import NETWORK
from tests.infra.support.synthesis import STAGE_NAMES, app_of, synthesised

Resources = dict[str, dict[str, dict[str, object]]]


@pytest.fixture(scope="module")
def template() -> Resources:
    config = StageConfig.load("prod", {"rollout_project": True})
    _, stacks = app_of(config)
    assert stacks.rollout is not None
    return dict(Template.from_stack(stacks.rollout).to_json())


def _one(template: Resources, kind: str) -> dict[str, object]:
    [found] = [r for r in template["Resources"].values() if r["Type"] == kind]
    properties = found["Properties"]
    assert isinstance(properties, dict)
    return properties


def test_the_project_runs_reconcile_of_its_stage_one_at_a_time(template: Resources) -> None:
    project = _one(template, "AWS::CodeBuild::Project")
    source = project["Source"]
    assert isinstance(source, dict)
    spec = json.loads(source["BuildSpec"])
    # CodeBuild sets AWS_REGION to the project's region, which is the home region, even if the stage's base has another.
    assert spec["phases"]["build"]["commands"] == [
        "uv run metering region reconcile --stage prod --region $AWS_REGION --yes --format json"
    ]
    assert project["ConcurrentBuildLimit"] == 1


def test_the_project_installs_nothing_that_the_lock_has_no_hash_of(template: Resources) -> None:
    source = _one(template, "AWS::CodeBuild::Project")["Source"]
    assert isinstance(source, dict)
    commands = json.loads(source["BuildSpec"])["phases"]["install"]["commands"]
    for command in commands:
        if "install" in command:
            assert "--require-hashes" in command
            assert "--only-binary :all:" in command
    assert commands[0] == "python3 -m infra.locked uv > /tmp/uv.txt"
    assert commands[-1].startswith("uv sync --frozen")


def test_a_locked_requirement_names_one_version_and_the_hashes_of_its_wheels() -> None:
    name, *hashes = requirement("uv").split()
    assert re.fullmatch(r"uv==\d+\.\d+\.\d+", name)
    assert len(hashes) > 10
    assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes)
    with pytest.raises(LookupError, match="no wheel of nothing-of-that-name"):
        requirement("nothing-of-that-name")


def test_what_names_the_installer_needs_nothing_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import runpy, sys; sys.path.insert(0, '.'); "
         "sys.argv[1:] = ['uv']; runpy.run_module('infra.locked', run_name='__main__')"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == requirement("uv") + "\n"


def test_it_may_make_every_call_that_building_a_region_makes(template: Resources) -> None:
    adapters = Path(metering.adapters.aws.__file__).parent
    names = ("probe", "cloudformation", "deployed_regions", "stacks")
    sources = [(adapters / f"{name}.py").read_text() for name in names]
    calls = {":".join(call) for text in sources for call in re.findall(r'translated\("(\w+)\.(\w+)"\)', text)}
    assert len(calls) > 10
    # People's commands: `region status` detects drift, `uninstall` empties the bucket, `local` makes emulator calls.
    of_people = {"cloudformation:DetectStackDrift", "s3:ListObjectVersions", "apigatewayv2:GetApis", _OPT_IN_ACTION}
    needed = {call.replace("lambda:Invoke", "lambda:InvokeFunction") for call in calls - of_people}
    policies = [r for r in template["Resources"].values() if r["Type"] == "AWS::IAM::Policy"]
    assert needed <= set(re.findall(r"\w+:\w+", json.dumps(policies)))


def test_it_puts_states_of_regions_below_notes_and_nothing_else_in_the_bucket(template: Resources) -> None:
    policies = [r for r in template["Resources"].values() if r["Type"] == "AWS::IAM::Policy"]
    puts = [
        statement["Resource"]
        for policy in policies
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]  # type: ignore[index]  # JSON
        if "s3:PutObject" in statement["Action"]
    ]
    assert [str(resource).count("/notes/*") for resource in puts] == [1]


def test_it_runs_by_a_rate_and_its_failure_raises_a_ticket(template: Resources) -> None:
    assert _one(template, "AWS::Events::Rule")["ScheduleExpression"] == "rate(1 day)"
    alarm = _one(template, "AWS::CloudWatch::Alarm")
    assert alarm["Namespace"] == "AWS/CodeBuild"
    assert alarm["AlarmActions"]


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_region_that_is_not_home_has_none(stage: str) -> None:
    _, stacks = app_of(synthesised(stage).config)
    assert stacks.rollout is None


def test_preflight_asks_for_all_roles_that_a_region_can_have() -> None:
    source = {"name": "flows", "bucket": "acme-logs", "region": "us-east-1"}
    given = {"api": True, "rollout_project": True, "log_sources": [source], "replicate_to": "acme-{region}"}
    app, _ = app_of(StageConfig.load("prod", given))
    made = [each for found in templates(Path(app.synth().directory)).values() for each in found["Resources"].values()]
    assert 12 < sum(each["Type"] == "AWS::IAM::Role" for each in made) <= ROLES


def test_it_takes_the_roles_of_its_bootstrap_and_makes_none_that_others_make(template: Resources) -> None:
    own: dict[str, object] = {"bootstrap": {"qualifier": "acme", "mode": "never"}, "rollout_project": True}
    _, stacks = app_of(StageConfig.load("prod", own))
    assert stacks.rollout is not None
    made, before = json.dumps(Template.from_stack(stacks.rollout).to_json()), json.dumps(template)
    assert ":role/cdk-acme-*" in made
    assert ":role/cdk-hnb659fds-*" in before
    assert "iam:*" in before
    assert "iam:*" not in made


def test_it_may_enable_regions_only_if_the_settings_say_so(template: Resources) -> None:
    def permitted(resources: Resources) -> str:
        return json.dumps([r for r in resources["Resources"].values() if r["Type"] == "AWS::IAM::Policy"])

    _, stacks = app_of(StageConfig.load("prod", {"rollout_project": True, "rollout": {"opt_in": True}}))
    assert stacks.rollout is not None
    assert "account:EnableRegion" not in permitted(template)
    assert "account:EnableRegion" in permitted(dict(Template.from_stack(stacks.rollout).to_json()))


def test_it_looks_at_networks_only_if_the_stage_has_some_and_sets_alarms_of_the_stage_alone() -> None:
    def statements(**settings: object) -> list[dict[str, Any]]:
        app, stacks = app_of(StageConfig.load("prod", {"rollout_project": True, **settings}))
        check(app)
        app.synth()
        assert stacks.rollout is not None
        made = Template.from_stack(stacks.rollout).to_json()["Resources"].values()
        policies = [each["Properties"]["PolicyDocument"] for each in made if each["Type"] == "AWS::IAM::Policy"]
        return [statement for policy in policies for statement in policy["Statement"]]

    plain = statements()
    assert "ec2:" not in json.dumps(plain)
    assert set(NETWORK_ACTIONS) <= {action for each in statements(vpc=[NETWORK]) for action in each["Action"]}
    [alarms] = [each for each in plain if ALARM_ACTION in each["Action"]]
    assert alarms["Action"] == ALARM_ACTION
    assert json.dumps(alarms["Resource"]).endswith(':alarm:metering-prod-*"]]}')


def test_the_operator_guide_lists_what_a_deployment_may_call() -> None:
    """The project runs the same CDK command as people do, so both need the same permissions."""
    guide = (ROOT / "docs" / "operator-guide.md").read_text()
    for action in (*_ACTIONS, *NETWORK_ACTIONS, ALARM_ACTION, _OPT_IN_ACTION, *BILLING_ACTIONS):
        service, name = action.split(":")
        [row] = [line for line in guide.splitlines() if line.startswith(f"| {service} | ")]
        assert f"`{name}`" in row


def test_it_changes_the_billing_of_the_stages_tables_only_if_the_ledger_is_provisioned(template: Resources) -> None:
    app, stacks = app_of(StageConfig.load("prod", {"rollout_project": True, "billing": "provisioned"}))
    check(app)
    app.synth()
    assert stacks.rollout is not None
    [statement] = [
        statement
        for policy in Template.from_stack(stacks.rollout).to_json()["Resources"].values()
        if policy["Type"] == "AWS::IAM::Policy"
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if "dynamodb:UpdateTable" in statement["Action"]
    ]
    assert statement["Action"] == list(BILLING_ACTIONS)
    assert json.dumps(statement["Resource"]).endswith(':table/metering-prod-*"]]}')
    assert "dynamodb:UpdateTable" not in json.dumps(template)
