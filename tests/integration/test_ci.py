"""The role and the workflow of docs/ci: what the role may do, and that the commands of the workflow are real."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # comes without types

from infra.stacks.rollout import _ACTIONS, ALARM_ACTION, NETWORK_ACTIONS
from metering.adapters.aws.session import Access, Clients
from tests import ROOT
from tests.support.emulated import running_emulator

CI = ROOT / "docs" / "ci"
REGION = "us-east-1"
# Questions about the network, which only a stage with a network of its own asks.
NETWORK = {*NETWORK_ACTIONS}
# Beside what the project calls itself: the roles of the bootstrap, and notes about regions and deeds.
BESIDE = {"sts:AssumeRole", "s3:PutObject", ALARM_ACTION} | NETWORK
# Calls without a resource, or with one whose name AWS makes (Service Authorization Reference).
ANYWHERE = NETWORK | {
    "cloudwatch:GetMetricStatistics", "iam:GetAccountSummary", "lambda:GetAccountSettings",
    "account:GetRegionOptStatus", "account:ListRegions", "cloudformation:ListTypes", "cloudformation:ValidateTemplate",
    "cloudwatch:DescribeAlarms", "lambda:ListEventSourceMappings", "servicequotas:GetServiceQuota",
}  # fmt: skip


def statements(text: str) -> list[dict[str, Any]]:
    """Statements of the role's policy."""
    [policy] = yaml.safe_load(text)["Resources"]["Role"]["Properties"]["Policies"]
    found: list[dict[str, Any]] = policy["PolicyDocument"]["Statement"]
    return found


def problems(text: str) -> set[str]:
    """Missing and needless actions of a deployment, and actions without a limit to the stage."""
    needed, found = {*_ACTIONS} | BESIDE, dict[str, bool]()
    for each in statements(text):
        actions = [each["Action"]] if isinstance(each["Action"], str) else each["Action"]
        found |= dict.fromkeys(actions, each["Resource"] != "*" or "Condition" in each)
    loose = {action for action, limited in found.items() if not limited and action not in ANYWHERE}
    return (needed ^ found.keys()) | loose


ROLE = (CI / "role.yaml").read_text()


def test_the_role_may_do_what_a_deployment_calls_and_nothing_else() -> None:
    assert problems(ROLE) == set()


@pytest.mark.parametrize(("before", "after", "found"), [
    ("                  - sqs:GetQueueAttributes\n", "", "sqs:GetQueueAttributes"),
    ("sqs:GetQueueAttributes", "sqs:*", "sqs:*"),
    ('                Action: s3:PutObject\n                Resource: {"Fn::Sub": "arn:${AWS::Partition}:s3:::metering-'
     '${Stage}-*/notes/*"}', '                Action: s3:PutObject\n                Resource: "*"', "s3:PutObject"),
])  # fmt: skip
def test_a_role_that_may_do_too_little_or_too_much_is_noticed(before: str, after: str, found: str) -> None:
    assert ROLE.count(before) == 1
    assert found in problems(ROLE.replace(before, after))


@pytest.mark.emulator
def test_the_role_trusts_one_environment_of_one_repository() -> None:
    template = yaml.safe_load(ROLE)
    # The emulator has no such type.
    assert template["Resources"].pop("GitHub")["Type"] == "AWS::IAM::OIDCProvider"
    given = {"Repository": "acme/platform", "Provider": "arn:aws:iam::000000000000:oidc-provider/github"}
    with running_emulator(4740) as running:
        clients = Clients(Access(region=REGION, endpoint_url=running.endpoint, access_key=("test", "test")))
        clients.cloudformation.create_stack(
            StackName="ci", TemplateBody=json.dumps(template), Capabilities=["CAPABILITY_IAM"],
            Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
        )  # fmt: skip
        clients.cloudformation.get_waiter("stack_create_complete").wait(StackName="ci", WaiterConfig={"Delay": 1})
        [output] = clients.cloudformation.describe_stacks(StackName="ci")["Stacks"][0]["Outputs"]
        role = clients.iam.get_role(RoleName=output["OutputValue"].rpartition("/")[2])["Role"]
    document: Any = role["AssumeRolePolicyDocument"]
    [trust] = document["Statement"]
    subject, audience = "repo:acme/platform:environment:production", "sts.amazonaws.com"
    assert {*trust["Condition"]} == {"StringEquals"}
    assert {*trust["Condition"]["StringEquals"].values()} == {subject, audience}
    assert trust["Principal"] == {"Federated": given["Provider"]}


def commands(event: str, workflow: Path = CI / "deploy.yml") -> list[str]:
    """Command lines of `metering` that the workflow runs at an event."""
    [job] = yaml.safe_load(workflow.read_text())["jobs"].values()
    runs = [(each["run"], each.get("if", "")) for each in job["steps"] if "run" in each]
    return [line for line, when in runs if line.startswith("metering ") and re.search(event, when or event)]


def test_each_event_runs_its_commands() -> None:
    assert commands("pull_request") == ["metering deploy --region all --dry-run"]
    assert commands("push") == ["metering deploy --region all --dry-run", "metering deploy --region all --yes"]
    assert "metering settings diff --check --region all" in commands("schedule")
