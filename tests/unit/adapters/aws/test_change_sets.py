"""Requests of a deployment by change sets; tests/integration/test_artefact.py deploys to an emulator."""

import json
from collections.abc import Mapping
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from metering.adapters.aws.change_sets import ChangeSets
from metering.adapters.aws.session import Clients
from metering.errors import OperationFailedError

ALARM = "arn:aws:cloudwatch:eu-west-1:111122223333:alarm:metering-prod-errors"


def refused(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Call")


class Cloud:
    """An account in which each change set succeeds, and which keeps the requests. Its assets are uploaded already."""

    def __init__(self, *, side_by_side: int = 1) -> None:
        self.requests: dict[str, dict[str, Any]] = {}
        self.done: list[str] = []
        self.status = "UPDATE_COMPLETE"
        self.parameters: tuple[str, ...] = ()
        self.tags: dict[str, str] = {}
        self.pages = 0
        self.protected: dict[str, bool] = {}
        self._together = Barrier(side_by_side)
        self.meta = SimpleNamespace(endpoint_url="https://s3.eu-west-1.amazonaws.com")

    @property
    def clients(self) -> Clients:
        parts = dict.fromkeys(("cloudformation", "s3", "sts", "ssm"), self)
        return cast("Clients", SimpleNamespace(**parts, access=SimpleNamespace(region="eu-west-1")))

    def get_caller_identity(self) -> Mapping[str, str]:
        return {"Arn": "arn:aws-cn:iam::111122223333:user/me"}

    def assume_role(self, **_request: str) -> Mapping[str, Any]:
        raise refused("AccessDenied", "no")

    def list_objects_v2(self, *, Prefix: str, ExpectedBucketOwner: str, **_request: str) -> Mapping[str, Any]:  # noqa: N803 - as the SDK
        assert ExpectedBucketOwner == "111122223333"
        return {"Contents": [{"Key": Prefix}]}

    def describe_stacks(self, *, StackName: str) -> Mapping[str, Any]:  # noqa: N803 - as the SDK
        if StackName not in self.done:
            raise refused("ValidationError", f"{StackName} does not exist")
        parameters = [{"ParameterKey": name} for name in self.parameters]
        tags = [{"Key": name, "Value": value} for name, value in self.tags.items()]
        return {"Stacks": [{"StackStatus": self.status, "Outputs": [], "Parameters": parameters, "Tags": tags}]}

    def validate_template(self, *, TemplateBody: str) -> Mapping[str, Any]:  # noqa: N803 - as the SDK
        return {"Parameters": [{"ParameterKey": name} for name in TemplateBody.split()]}

    def get_parameter(self, **_request: str) -> Mapping[str, Any]:
        return {"Parameter": {"Value": "5"}}

    def delete_stack(self, *, StackName: str) -> None:  # noqa: N803 - as the SDK
        self.done.remove(StackName)
        self.status = "UPDATE_COMPLETE"

    def create_change_set(self, **request: Any) -> None:
        self.requests[request["StackName"]] = request
        if request["StackName"] != "data":
            self._together.wait(20)

    def describe_change_set(self, **_request: str) -> Mapping[str, Any]:
        return {"Status": "CREATE_COMPLETE", "Changes": [{}]}

    def execute_change_set(self, *, StackName: str, **_request: str) -> None:  # noqa: N803 - as the SDK
        self.done.append(StackName)

    def describe_stack_events(self, **_request: str) -> Mapping[str, Any]:
        return {"StackEvents": []}

    def get_paginator(self, _name: str) -> Any:
        self.pages += 1
        return SimpleNamespace(paginate=lambda **_: [{"StackEvents": []}])

    def update_termination_protection(self, *, EnableTerminationProtection: bool, StackName: str) -> None:  # noqa: N803 - as the SDK
        self.protected[StackName] = EnableTerminationProtection


def assembly(folder: Path, properties: Mapping[str, Mapping[str, object]]) -> Path:
    """An assembly of stacks, which all come after `data`."""
    artifacts = {}
    for name, own in properties.items():
        url = "s3://assets-${AWS::AccountId}-${AWS::Region}/" + f"{name}.json"
        after = [] if name == "data" else ["data"]
        artifacts[name] = {
            "type": "aws:cloudformation:stack",
            "properties": {"stackTemplateAssetObjectUrl": url, **own},
            "dependencies": [*after, f"{name}.assets"],
        }
        destination = {"bucketName": "assets-${AWS::AccountId}-${AWS::Region}", "objectKey": f"{name}.json"}
        files = {"1": {"source": {"path": f"{name}.template.json"}, "destinations": {"here": destination}}}
        (folder / f"{name}.assets.json").write_text(json.dumps({"files": files}))
    (folder / "manifest.json").write_text(json.dumps({"artifacts": artifacts}))
    return folder


def deploy(cloud: Cloud, folder: Path, *arguments: str) -> None:
    tool = ChangeSets(assembly=folder, clients=cloud.clients, progress=lambda _: None, pause=lambda _: None)
    tool.run("deploy", "--exclusively", *arguments)


def test_the_alarms_of_a_bake_are_watched_and_those_of_the_last_one_are_dropped(tmp_path: Path) -> None:
    cloud, folder = Cloud(), assembly(tmp_path, {"data": {}})
    deploy(cloud, folder, "data", f"--rollback-trigger-alarm-arns={ALARM}", "--monitoring-time-minutes=15")
    watched = {"RollbackTriggers": [{"Arn": ALARM, "Type": "AWS::CloudWatch::Alarm"}], "MonitoringTimeInMinutes": 15}
    assert cloud.requests["data"]["RollbackConfiguration"] == watched
    deploy(cloud, folder, "data", "--rollback-trigger-alarm-arns=none")
    assert cloud.requests["data"]["RollbackConfiguration"] == {"RollbackTriggers": [], "MonitoringTimeInMinutes": 0}


def test_a_stack_has_its_tags_role_protection_and_template(tmp_path: Path) -> None:
    role = "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/cdk-exec-${AWS::Region}"
    own = {"tags": {"team": "billing"}, "terminationProtection": True, "cloudFormationExecutionRoleArn": role}
    cloud = Cloud()
    deploy(cloud, assembly(tmp_path, {"data": own}), "--all")
    request = cloud.requests["data"]
    assert request["ChangeSetType"] == "CREATE"
    assert request["Tags"] == [{"Key": "team", "Value": "billing"}]
    assert request["RoleARN"] == "arn:aws-cn:iam::111122223333:role/cdk-exec-eu-west-1"
    assert request["TemplateURL"] == "https://s3.eu-west-1.amazonaws.com/assets-111122223333-eu-west-1/data.json"
    assert cloud.protected == {"data": True}
    deploy(cloud, tmp_path, "--all")
    assert cloud.requests["data"]["ChangeSetType"] == "UPDATE"
    # Only a failure is looked for in all events.
    assert cloud.pages == 0
    cloud.status = "UPDATE_ROLLBACK_COMPLETE"
    with pytest.raises(OperationFailedError, match="data is UPDATE_ROLLBACK_COMPLETE"):
        deploy(cloud, tmp_path, "--all")
    assert cloud.pages > 0


def test_stacks_that_do_not_need_each_other_are_deployed_side_by_side_after_those_that_they_need(
    tmp_path: Path,
) -> None:
    cloud = Cloud(side_by_side=2)
    deploy(cloud, assembly(tmp_path, {"api": {}, "pipeline": {}, "data": {}}), "--all", "--concurrency=2")
    assert (cloud.done[0], {*cloud.done[1:]}) == ("data", {"api", "pipeline"})


def test_a_role_that_may_not_be_assumed_is_named(tmp_path: Path) -> None:
    folder = assembly(tmp_path, {"data": {"assumeRoleArn": "arn:${AWS::Partition}:iam::1:role/cdk-deploy"}})
    with pytest.raises(OperationFailedError, match="user/me may not assume arn:aws-cn:iam::1:role/cdk-deploy"):
        deploy(Cloud(), folder, "data")


def bootstrapped(cloud: Cloud, folder: Path, *arguments: str) -> dict[str, str]:
    """Parameters of the deployment of an old bootstrap; `kept` for those that stay."""
    place = assembly(folder / "data", {"data": {"requiresBootstrapStackVersion": 6}})
    (folder / "bootstrap.yaml").write_text("Qualifier CloudFormationExecutionPolicies TrustedAccounts NewOne")
    tool = ChangeSets(assembly=place, clients=cloud.clients, progress=lambda _: None, pause=lambda _: None)
    tool.run("bootstrap", *arguments)
    return {
        each["ParameterKey"]: each.get("ParameterValue", "kept") for each in cloud.requests["CDKToolkit"]["Parameters"]
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path


def test_a_bootstrap_gets_the_tags_of_the_stage_and_keeps_those_that_it_has(folder: Path) -> None:
    cloud = Cloud()
    bootstrapped(cloud, folder, "--tags=cost-centre=4711", "--tags=note=a=b")
    new = [{"Key": "cost-centre", "Value": "4711"}, {"Key": "note", "Value": "a=b"}]
    assert cloud.requests["CDKToolkit"]["Tags"] == new
    cloud.tags = {"owner": "platform", "note": "old"}
    bootstrapped(cloud, folder, "--tags=note=new")
    kept = [{"Key": "owner", "Value": "platform"}, {"Key": "note", "Value": "new"}]
    assert cloud.requests["CDKToolkit"]["Tags"] == kept


def test_an_older_bootstrap_keeps_what_no_option_names_and_its_protection(folder: Path) -> None:
    cloud = Cloud()
    cloud.done, cloud.parameters = (
        ["CDKToolkit"],
        ("Qualifier", "CloudFormationExecutionPolicies", "TrustedAccounts", "Gone"),
    )
    kept = {"CloudFormationExecutionPolicies": "kept", "TrustedAccounts": "kept"}
    assert bootstrapped(cloud, folder) == {"Qualifier": "hnb659fds", **kept}
    assert cloud.protected == {}
    stated = bootstrapped(cloud, folder, "--cloudformation-execution-policies=arn:aws:iam::1:policy/own")
    assert stated["CloudFormationExecutionPolicies"] == "arn:aws:iam::1:policy/own"


def test_a_new_bootstrap_is_that_of_the_cli_and_one_that_failed_is_deleted_first(folder: Path) -> None:
    cloud = Cloud()
    cloud.done, cloud.status = ["CDKToolkit"], "ROLLBACK_COMPLETE"
    made = bootstrapped(cloud, folder)
    assert made["CloudFormationExecutionPolicies"] == "arn:aws-cn:iam::aws:policy/AdministratorAccess"
    assert cloud.requests["CDKToolkit"]["ChangeSetType"] == "CREATE"
