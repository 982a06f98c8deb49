"""Tables of a restore by name, and the fence around the ledger that it replaces."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from metering.adapters.aws import restoring
from metering.adapters.aws.restoring import FENCE_POLICY, DynamoDbTables, RegionFence
from metering.adapters.aws.session import Access, Clients
from metering.errors import OperationFailedError, UnavailableError
from tests.support.emulated import make_tables
from tests.unit.adapters.aws.stubs import stubbed

KEY = {"pk": {"S": "S#format"}, "sk": {"S": "S"}}


@pytest.fixture
def clients() -> Iterator[Clients]:
    with mock_aws():
        made = Clients(Access(region="us-east-1", access_key=("test", "test")))
        make_tables(made, ["old"], bucket="bucket")
        yield made


def tables(clients: Clients, **options: Any) -> DynamoDbTables:
    return DynamoDbTables(clients, like="old", sleep=lambda _s: None, **{"retained": False, **options})


def fill(clients: Clients, table: str, count: int) -> None:
    for number in range(count):
        item = {"pk": {"S": f"B#{number}"}, "sk": {"S": "M"}, "records": {"N": str(number)}}
        clients.dynamodb.put_item(TableName=table, Item=item)
    clients.dynamodb.put_item(TableName=table, Item={**KEY, "number": {"N": "2"}})


def items(clients: Clients, table: str) -> list[str]:
    found = clients.dynamodb.scan(TableName=table)["Items"]
    return sorted(json.dumps(item, sort_keys=True) for item in found)


def test_a_copy_has_all_items_and_a_late_second_copy_changes_nothing(clients: Clients) -> None:
    fill(clients, "old", 60)
    ours = tables(clients)
    ours.copy("old", "new")
    assert items(clients, "new") == items(clients, "old")
    clients.dynamodb.delete_item(TableName="new", Key={"pk": {"S": "B#7"}, "sk": {"S": "M"}})
    ours.copy("old", "new")
    assert len(items(clients, "new")) == 60


def test_a_copy_that_was_killed_goes_on_and_its_format_comes_last(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(clients, "old", 60)
    ours = tables(clients)
    put = ours._put

    def killed(name: str, some: Any) -> None:
        if any(item["pk"]["S"] == "S#format" for item in some):
            raise KeyboardInterrupt
        put(name, some)

    monkeypatch.setattr(ours, "_put", killed)
    with pytest.raises(KeyboardInterrupt):
        ours.copy("old", "new")
    assert len(items(clients, "new")) == 60
    tables(clients).copy("old", "new")
    assert items(clients, "new") == items(clients, "old")


def test_a_copy_of_nothing_is_refused_and_makes_no_table(clients: Clients) -> None:
    with pytest.raises(OperationFailedError, match="no table gone"):
        tables(clients).copy("gone", "new")
    assert not tables(clients).exists("new")


def test_writes_that_stay_unprocessed_end_as_unavailable(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []

    def some(*, RequestItems: dict[str, list[Any]]) -> dict[str, Any]:  # noqa: N803 - the SDK's name
        [(name, requests)] = RequestItems.items()
        rounds.append(len(requests))
        return {"UnprocessedItems": {name: requests[1:]}}

    monkeypatch.setattr(clients.dynamodb, "batch_write_item", some)
    row: Any = {"pk": {"S": "a"}, "sk": {"S": "b"}}
    tables(clients)._put("new", [row] * 3)
    assert rounds == [3, 2, 1]
    with pytest.raises(UnavailableError, match="2 items stay unprocessed"):
        tables(clients)._put("new", [row] * 10)


def test_a_table_is_made_fit_as_the_stages_ledger_however_often(clients: Clients) -> None:
    arn = clients.dynamodb.describe_table(TableName="old")["Table"]["TableArn"]
    clients.dynamodb.tag_resource(ResourceArn=arn, Tags=[{"Key": "team", "Value": "money"}])
    ours = tables(clients, retained=True)
    ours.create("new")
    ours.create("new")
    for _ in range(2):
        ours.make_fit("new")
    found = clients.dynamodb.describe_table(TableName="new")["Table"]
    assert found["DeletionProtectionEnabled"]
    assert found["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    life = clients.dynamodb.describe_time_to_live(TableName="new")["TimeToLiveDescription"]
    assert (life["TimeToLiveStatus"], life["AttributeName"]) == ("ENABLED", "expires_at")
    tags = clients.dynamodb.list_tags_of_resource(ResourceArn=found["TableArn"])["Tags"]
    # Moto adds a tag again that is there.
    assert {(tag["Key"], tag["Value"]) for tag in tags} == {("team", "money")}
    assert ours.window("new") is not None
    assert ours.window("gone") is None
    assert ours.size("old") == (0, 0)


def test_tags_of_cloudformation_are_not_copied_and_warm_throughput_is_only_raised() -> None:
    client, stubber = next(stubbed("dynamodb"))
    clients: Any = SimpleNamespace(dynamodb=client, access=Access(region="us-east-1"))
    ours = tables(clients, warm_writes_per_s=40_000)
    like, own = ({"Table": {"TableArn": f"arn:aws:dynamodb:us-east-1:1:table/{name}"}} for name in ("old", "new"))
    warm: Any = {"Table": {"TableStatus": "ACTIVE", "WarmThroughput": {"WriteUnitsPerSecond": 40_000}}}
    cold: Any = {"Table": {"TableStatus": "ACTIVE", "WarmThroughput": {"WriteUnitsPerSecond": 4_000}}}
    with stubber:
        stubber.add_response("describe_table", cold)
        assert list(ours._changes("new")) == [{"TableName": "new", "WarmThroughput": {"WriteUnitsPerSecond": 40_000}}]
        stubber.add_response("describe_table", warm)
        assert list(ours._changes("new")) == []
        stubber.add_response("describe_table", like)
        stubber.add_response("describe_table", own)
        tags = [{"Key": "aws:cloudformation:stack-name", "Value": "x"}, {"Key": "a", "Value": "b"}]
        stubber.add_response("list_tags_of_resource", {"Tags": tags})
        arn = own["Table"]["TableArn"]
        stubber.add_response("tag_resource", {}, {"ResourceArn": arn, "Tags": [{"Key": "a", "Value": "b"}]})
        ours._tag("new")
        stubber.assert_no_pending_responses()


def test_a_table_is_restored_once_and_a_second_restorer_joins(clients: Clients) -> None:
    fill(clients, "old", 3)
    ours = tables(clients, retained=True)
    ours.make_fit("old")
    _, latest = ours.window("old") or (0, 0)
    for _ in range(2):
        ours.restore("old", "new", latest)
    assert ours.is_active("new")
    assert not ours.is_active("gone")


@pytest.mark.parametrize(("code", "refusal"), [
    ("InvalidRestoreTimeException", "cannot restore table old"),
    ("PointInTimeRecoveryUnavailableException", "cannot restore table old"),
    ("TableNotFoundException", "cannot restore table old"),
    ("TableAlreadyExistsException", ""),
])  # fmt: skip
def test_why_a_table_is_not_restored_is_said(
    clients: Clients, monkeypatch: pytest.MonkeyPatch, code: str, refusal: str
) -> None:
    def fail(**_: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "RestoreTableToPointInTime")

    monkeypatch.setattr(clients.dynamodb, "restore_table_to_point_in_time", fail)
    if not refusal:
        tables(clients).restore("old", "new", 5)
        return
    with pytest.raises(OperationFailedError, match=refusal):
        tables(clients).restore("old", "new", 5)


def test_an_emulator_has_no_time_to_go_back_to(monkeypatch: pytest.MonkeyPatch) -> None:
    clients: Any = SimpleNamespace(access=Access(region="us-east-1", endpoint_url="http://127.0.0.1:9"))
    ours = tables(clients)
    assert ours.window("old") is None
    monkeypatch.setattr(ours, "exists", lambda _name: False)
    with pytest.raises(OperationFailedError, match="cannot restore") as refused:
        ours.restore("old", "new", 5)
    assert "--from-copy" in refused.value.advice


def test_a_protected_table_is_dropped_once(clients: Clients) -> None:
    ours = tables(clients, retained=True)
    ours.make_fit("old")
    ours.drop("old")
    ours.drop("old")
    assert not ours.exists("old")


def test_a_table_that_never_becomes_active_is_said(clients: Clients) -> None:
    with pytest.raises(OperationFailedError, match="gone is not active after 10 minutes"):
        tables(clients).make_fit("gone")


# The fence: two stacks with functions, one with an event source mapping.

ASSUMED = json.dumps({"Version": "2012-10-17", "Statement": []})


class Stacks:
    """Stacks `pipeline` and, if named, `api`: each has one function."""

    def __init__(self, *parts: str) -> None:
        self.names = {f"metering-prod-{part}": part for part in parts}

    def describe(self, _region: str, stack: str) -> object:
        return self.names.get(stack)

    def resources(self, _region: str, stack: str) -> list[SimpleNamespace]:
        part = self.names[stack]
        return [
            SimpleNamespace(kind="AWS::Lambda::Function", name=part),
            SimpleNamespace(kind="AWS::SQS::Queue", name="q"),
        ]


@pytest.fixture
def fence(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> RegionFence:
    monkeypatch.setattr(restoring, "CloudFormationStacks", lambda _clients_of: Stacks("pipeline", "api"))
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("index.py", "")
    for name, timeout_s in (("pipeline", 60), ("api", 900)):
        role = clients.iam.create_role(RoleName=f"role-{name}", AssumeRolePolicyDocument=ASSUMED)["Role"]["Arn"]
        clients.lambda_.create_function(
            FunctionName=name, Role=role, Timeout=timeout_s, Runtime="python3.13", Handler="index.handler",
            Code={"ZipFile": code.getvalue()},
        )  # fmt: skip
    queue = clients.sqs.create_queue(QueueName="q")["QueueUrl"]
    arn = clients.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    clients.lambda_.create_event_source_mapping(EventSourceArn=arn, FunctionName="pipeline")
    return RegionFence(clients, stage="prod")


def test_functions_of_pipeline_and_api_stop_however_often(fence: RegionFence, clients: Clients) -> None:
    for _ in range(2):
        fence.stop()
    for name in ("pipeline", "api"):
        held = clients.lambda_.get_function_concurrency(FunctionName=name)
        assert held["ReservedConcurrentExecutions"] == 0
    [mapping] = clients.lambda_.list_event_source_mappings(FunctionName="pipeline")["EventSourceMappings"]
    assert mapping["State"] in {"Disabled", "Disabling"}
    assert fence.longest_timeout_s() == 900


def test_a_region_without_stacks_has_nothing_to_stop(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "CloudFormationStacks", lambda _clients_of: Stacks())
    fence = RegionFence(clients, stage="prod")
    fence.stop()
    assert fence.longest_timeout_s() == 0


def test_the_table_itself_refuses_writes_of_everybody_and_no_reads(
    fence: RegionFence, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fence.deny("old") == "the resource policy of table old"
    arn = clients.dynamodb.describe_table(TableName="old")["Table"]["TableArn"]
    [statement] = json.loads(clients.dynamodb.get_resource_policy(ResourceArn=arn)["Policy"])["Statement"]
    assert (statement["Effect"], statement["Principal"], statement["Resource"]) == ("Deny", "*", arn)
    assert set(statement["Action"]) == {
        f"dynamodb:{action}"
        for action in (
            "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "PartiQLInsert", "PartiQLUpdate", "PartiQLDelete",
        )
    }  # fmt: skip
    # The policy does not work at once. Moto never enforces it.
    assert not fence.is_denied("old")

    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "explicit deny"}}, "DeleteItem")

    monkeypatch.setattr(clients.dynamodb, "delete_item", refuse)
    assert fence.is_denied("old")


def test_without_resource_policies_the_roles_of_the_functions_are_denied(
    fence: RegionFence, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(**_: object) -> None:
        raise ClientError({"Error": {"Code": "UnknownOperationException", "Message": "?"}}, "PutResourcePolicy")

    monkeypatch.setattr(clients.dynamodb, "put_resource_policy", unknown)
    for _ in range(2):
        assert fence.deny("old") == f"policy {FENCE_POLICY} of the functions' 2 roles"
    for role in ("role-pipeline", "role-api"):
        document: Any = clients.iam.get_role_policy(RoleName=role, PolicyName=FENCE_POLICY)["PolicyDocument"]
        [statement] = document["Statement"]
        assert statement["Effect"] == "Deny"
        assert "Principal" not in statement
    assert fence.is_denied("old")
    clients.iam.delete_role_policy(RoleName="role-api", PolicyName=FENCE_POLICY)
    assert not fence.is_denied("old")


def test_a_table_that_is_gone_needs_no_fence(fence: RegionFence) -> None:
    assert fence.deny("gone") == "table gone does not exist"
    assert fence.is_denied("gone")
