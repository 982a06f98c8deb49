"""From a batch that dies to the person on call and back: dead letters, alarm, alert, redrive, the exact total.

On MiniStack the watch's own figure raises the alarm (it has no metrics of AWS services), on LocalStack SQS's metric.
"""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.test_main_job import account, message, record, report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Service

_RECEIVES = 5
# LocalStack looks at a metric of a queue once a minute, and at an alarm as often.
_PATIENCE_S = 200


@pytest.fixture
def pager(service: Service) -> Iterator[str]:
    """URL of a queue that is subscribed to the page topic: the person on call."""
    clients = service.clients
    url = clients.sqs.create_queue(QueueName=f"pager-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    arn = clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = service.outputs["PageTopicArn"]
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
            }
        ],
    }
    clients.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    subscription = clients.sns.subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
    )["SubscriptionArn"]
    yield url
    clients.sns.unsubscribe(SubscriptionArn=subscription)
    clients.sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def stopped_aggregator(service: Service) -> Iterator[None]:
    """Nobody takes batches, so that the test can let one die."""
    mapping = _mapping(service)
    service.clients.lambda_.update_event_source_mapping(UUID=mapping, Enabled=False)
    _until(lambda: service.clients.lambda_.get_event_source_mapping(UUID=mapping)["State"] == "Disabled", 60)
    yield
    service.clients.lambda_.update_event_source_mapping(UUID=mapping, Enabled=True)


def test_a_batch_that_dies_pages_somebody_and_comes_back_exactly_once(
    service: Service, pager: str, stopped_aggregator: None
) -> None:
    who = account()
    batch_id = f"poison-{who}"
    queue, dead = service.outputs["IngestQueueUrl"], service.outputs["DeadLetterQueueUrl"]
    service.client("producer", "sqs").send_message(
        QueueUrl=queue, MessageBody=message(batch_id, [record(who, size=4711)])
    )
    _let_it_die(service, queue, dead)

    alert = _alert(service, pager)
    assert alert["NewStateValue"] == "ALARM"
    name = alert["AlarmName"].removeprefix(f"metering-{service.stage}-")
    assert name in {"dead-letters", "dead-letter-queue"}
    assert f"docs/runbooks/{name}.md" in alert["AlarmDescription"]

    [letter] = [row for row in service.ask("operator", "dlq", "list")["rows"] if row["batch_id"] == batch_id]
    assert letter["redrive"] == "meter"
    assert letter["admitted_until"] > letter["sent"]
    assert service.ask("operator", "dlq", "redrive", "--dry-run")["waiting"] >= 1
    assert service.ask("operator", "dlq", "redrive", "--by-hand")["moved"] >= 1

    service.clients.lambda_.update_event_source_mapping(UUID=_mapping(service), Enabled=True)
    _until(lambda: report(service, who) != {}, 90)
    service.wait_for_rest()
    assert list(report(service, who).values()) == [4711]
    again = service.ask("operator", "dlq", "redrive")
    assert again["moved"] == 0


def test_a_test_alert_reaches_who_is_on_call_and_says_that_it_is_a_test(service: Service, pager: str) -> None:
    rows = service.ask("operator", "alerts", "test", "--severity", "page")["rows"]
    assert any(row["state"] == "sent" for row in rows)
    alert = _next(service, pager, 30)
    assert "test" in alert
    assert alert["stage"] == service.stage


def _let_it_die(service: Service, queue: str, dead: str) -> None:
    """Receive without acknowledging, until the queue gives up."""
    sqs = service.clients.sqs
    for _ in range(4 * _RECEIVES):
        sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0, WaitTimeSeconds=0, MaxNumberOfMessages=10)
        depth = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
        if int(depth["ApproximateNumberOfMessages"]):
            return
        time.sleep(0.2)
    pytest.fail("the batch did not die")


def _alert(service: Service, pager: str) -> dict[str, Any]:
    """The alarm that somebody is paged for; the watch looks once a minute, so here it is asked to look now."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        _invoke(service, "Watch")
        alert = _next(service, pager, 15)
        if "dead-letter" in alert.get("AlarmName", ""):
            return alert
    pytest.fail("nobody was paged")


def _next(service: Service, pager: str, wait_s: int) -> dict[str, Any]:
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        for found in service.clients.sqs.receive_message(QueueUrl=pager, WaitTimeSeconds=2).get("Messages", []):
            service.clients.sqs.delete_message(QueueUrl=pager, ReceiptHandle=found["ReceiptHandle"])
            alert: dict[str, Any] = json.loads(found["Body"])
            return alert
    return {}


def _invoke(service: Service, name: str) -> None:
    service.clients.lambda_.invoke(FunctionName=_function(service, name), Payload=b"{}")


def _function(service: Service, name: str) -> str:
    stack = service.clients.cloudformation.describe_stacks(StackName=f"metering-{service.stage}-pipeline")["Stacks"][0]
    return next(o["OutputValue"] for o in stack["Outputs"] if o["OutputKey"] == f"{name}FunctionName")


def _mapping(service: Service) -> str:
    name = _function(service, "Aggregator")
    [found] = service.clients.lambda_.list_event_source_mappings(FunctionName=name)["EventSourceMappings"]
    return found["UUID"]


def _until(true: Any, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.5)
