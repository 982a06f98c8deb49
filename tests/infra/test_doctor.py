"""The operator's role may make each call that the doctor's quick checks make beside those of other commands."""

from __future__ import annotations

import json
from contextlib import suppress
from fnmatch import fnmatchcase
from io import BytesIO
from types import SimpleNamespace
from typing import Any, cast

import pytest

from metering.adapters.aws.doctor import AwsFacts, AwsScratch
from metering.adapters.aws.session import Access, Clients
from metering.fleet.ports import RegionStacks
from metering.operations.alarms import ALARMS, alarm_name
from metering.stores.writes import Table
from tests.infra.support.models import listed, place_of
from tests.infra.support.synthesis import Synthesised, synthesised

PLACE = "eu-west-1:123456789012"
# Operations whose permission has another name (service authorization reference).
_ACTIONS = {
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "lambda:Invoke": "lambda:InvokeFunction",
    "monitoring:DescribeAlarmHistory": "cloudwatch:DescribeAlarmHistory",
    "monitoring:GetMetricStatistics": "cloudwatch:GetMetricStatistics",
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}
_TABLE = {"TableArn": "arn:ledger", "WarmThroughput": {"WriteUnitsPerSecond": 1}, "TableSizeBytes": 1}
_QUEUE = {"MessageId": "m", "ReceiptHandle": "r", "Body": "b"}
_SENT = {"ApproximateReceiveCount": "1", "SentTimestamp": "1", "SenderId": "x"}
# What AWS answers, as far as the doctor reads it.
_ANSWERS: dict[str, dict[str, Any]] = {
    "GetTemplate": {"TemplateBody": "{}"},
    "DescribeTable": {"Table": _TABLE},
    "ListTagsOfResource": {"Tags": []},
    "DescribeTimeToLive": {"TimeToLiveDescription": {}},
    "DescribeContinuousBackups": {"ContinuousBackupsDescription": {}},
    "GetServiceQuota": {"Quota": {"Value": 1.0}},
    "GetAccountSettings": {"AccountLimit": {"UnreservedConcurrentExecutions": 1}},
    "GetBucketLifecycleConfiguration": {"Rules": []},
    "GetParameter": {"Parameter": {"Value": "6"}},
    "GetMetricStatistics": {"Datapoints": []},
    "CreateQueue": {"QueueUrl": f"https://sqs/{PLACE}/metering-prod-doctor-0123456789ab-queue"},
    "GetQueueAttributes": {
        "Attributes": {
            "QueueArn": "arn:queue",
            **{f"ApproximateNumberOfMessages{kind}": "0" for kind in ("", "NotVisible", "Delayed")},
        }
    },
    "ReceiveMessage": {"Messages": [_QUEUE | {"Attributes": _SENT}]},
    "StartMessageMoveTask": {"TaskHandle": "t"},
    "SendMessageBatch": {"Successful": [], "Failed": []},
}


class HeardClients(Clients):
    """Clients that answer without a network, and record the action and the arguments of each call."""

    def __init__(self) -> None:
        super().__init__(Access(region="eu-west-1", access_key=("test", "test")))
        self.heard: dict[str, list[str]] = {}

    def _make(self, service: str) -> object:
        made = cast("Any", super()._make(service))
        made.meta.events.register("provide-client-params", self._note)
        made.meta.events.register("before-call", self._answer)
        return made

    def _note(self, *, params: dict[str, object], model: Any, **_others: object) -> None:
        called = f"{model.service_model.signing_name}:{model.name}"
        self.heard.setdefault(_ACTIONS.get(called, called), []).append(json.dumps(params, default=str))

    def _answer(self, *, model: Any, **_others: object) -> tuple[object, dict[str, Any]]:
        body = {"Payload": BytesIO(b'{"probe": "404"}')} if model.name == "Invoke" else _ANSWERS.get(model.name, {})
        return SimpleNamespace(status_code=200), {**body, "ResponseMetadata": {}}


@pytest.fixture(scope="module")
def heard() -> dict[str, list[str]]:
    clients = HeardClients()
    names = {"Aggregator": "metering-prod-pipeline-Aggregator-1", "Compactor": "metering-prod-pipeline-Compactor-1"}
    topics = {"page": f"arn:aws:sns:{PLACE}:page"}
    facts = AwsFacts(
        clients,
        bucket="data",
        tables={Table.LEDGER: "ledger", Table.USAGE: "usage"},
        names=RegionStacks.of("prod"),
        topics=topics,
        qualifier="hnb659fds",
        functions=lambda: names,
        logs=cast("Any", None),
        account=cast("Any", None),
        states=tuple,
    )
    for table in Table:
        facts.expiry_attribute(table)
        facts.is_restorable(table)
        facts.writes_per_s(table)
    facts.bucket_is_versioned()
    facts.table_quota_per_s()
    facts.restore_window()
    facts.ledger_bytes()
    facts.noncurrent_days()
    facts.lifecycle(declared=False)
    facts.mapping(declared=False)
    with suppress(KeyError):
        facts.mapping(declared=True)
    facts.other_ledgers()
    facts.compactor_sees()
    facts.unreserved_executions()
    facts.bootstrap_version()
    facts.alarm_actions(since_s=0)
    facts.undelivered("page", since_s=0)
    token = "0123456789abcdef"  # no secret
    scratch = AwsScratch(clients, prefix="metering-prod-doctor", token=token, topics=topics)
    with scratch.queues() as queues:
        queues.queue.send_many(["a"])
        [message] = queues.queue.receive(1, wait_s=0)
        queues.queue.release([message.receipt])
        queues.queue.delete_many([message.receipt])
        assert not queues.dead.depth().total
        queues.dead.start_redrive()
    return clients.heard


def allowed(stage: Synthesised, action: str) -> list[str]:
    """Resources on which the operator's role may do `action`, as ARNs."""
    return [
        place_of(stage.templates[part]).text(resource)
        for part in ("data", "pipeline")
        for policy in stage.policies(part).values()
        if "RolesOperator" in json.dumps(policy["Properties"]["Roles"])
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        if any(fnmatchcase(action, pattern) for pattern in listed(statement["Action"]))
        for resource in listed(statement["Resource"])
    ]


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_the_operator_may_make_each_call_of_the_doctor(stage: str, heard: dict[str, list[str]]) -> None:
    assert [action for action in sorted(heard) if not allowed(synthesised(stage), action)] == []


def test_the_calls_are_those_that_the_quick_checks_need(heard: dict[str, list[str]]) -> None:
    [policy] = [
        policy for name, policy in synthesised("prod").policies("pipeline").items() if name.startswith("Doctor")
    ]
    granted = {
        action
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
        for action in listed(statement["Action"])
    }
    # SQS asks for the first where a queue is made with tags; the others come with the calls of every consumer.
    assert granted - heard.keys() == {
        "sqs:TagQueue", "sqs:GetQueueUrl", "sqs:ListMessageMoveTasks", "sqs:CancelMessageMoveTask"
    }  # fmt: skip


@pytest.mark.parametrize(("action", "resource"), [
    ("sqs:CreateQueue", f"arn:aws:sqs:{PLACE}:metering-prod-doctor-0123456789ab-dead"),
    ("sqs:StartMessageMoveTask", f"arn:aws:sqs:{PLACE}:metering-prod-doctor-0123456789ab-dead"),
    ("lambda:GetFunctionConfiguration", f"arn:aws:lambda:{PLACE}:function:metering-prod-api-Api-1"),
    ("servicequotas:GetServiceQuota", f"arn:aws:servicequotas:{PLACE}:dynamodb/L-AB614373"),
    ("cloudformation:GetTemplate", f"arn:aws:cloudformation:{PLACE}:stack/metering-prod-data/1"),
    ("ssm:GetParameter", f"arn:aws:ssm:{PLACE}:parameter/cdk-bootstrap/hnb659fds/version"),
    ("cloudwatch:DescribeAlarmHistory", f"arn:aws:cloudwatch:{PLACE}:alarm:{alarm_name('prod', ALARMS[0].name)}"),
])  # fmt: skip
def test_the_names_that_the_doctor_asks_about_are_those_that_are_granted(action: str, resource: str) -> None:
    assert any(fnmatchcase(resource, pattern) for pattern in allowed(synthesised("prod"), action))


@pytest.mark.parametrize(("action", "resource"), [
    ("sqs:CreateQueue", f"arn:aws:sqs:{PLACE}:other"),
    ("sqs:DeleteQueue", f"arn:aws:sqs:{PLACE}:metering-prod-data-IngestQueue-1"),
    ("lambda:InvokeFunction", f"arn:aws:lambda:{PLACE}:function:metering-prod-pipeline-RollupFunction-1"),
    ("ssm:GetParameter", f"arn:aws:ssm:{PLACE}:parameter/secret"),
    ("dynamodb:CreateTable", f"arn:aws:dynamodb:{PLACE}:table/metering-prod-doctor-0-slow"),
    ("sns:Subscribe", f"arn:aws:sns:{PLACE}:page"),
])  # fmt: skip
def test_the_operator_may_make_no_other_queue_and_hear_no_alert(action: str, resource: str) -> None:
    assert not any(fnmatchcase(resource, pattern) for pattern in allowed(synthesised("prod"), action))


def test_a_missing_grant_would_be_seen(heard: dict[str, list[str]]) -> None:
    assert "lambda:GetAccountSettings" in heard
    stage = synthesised("prod")
    templates = json.loads(json.dumps(stage.templates).replace('"lambda:GetAccountSettings"', '"lambda:Nothing"'))
    changed = Synthesised(config=stage.config, templates=templates, protected=stage.protected)
    assert [action for action in sorted(heard) if not allowed(changed, action)] == ["lambda:GetAccountSettings"]
