"""The path of a failed batch: dead letter, alarm, alert, redrive by the person on call, exact total.

MiniStack has no AWS metrics, so there a figure of the watch raises the alarm; on LocalStack, SQS's metric does.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.oncall import hear, mapping, next_alert, runbook_of, until
from tests.e2e.test_main_job import account, message, record, report

if TYPE_CHECKING:
    from tests.e2e.conftest import Service

_RECEIVES = 5


def test_a_batch_that_dies_pages_somebody_and_comes_back_exactly_once(
    service: Service, pager: str, stopped_aggregator: None
) -> None:
    who = account()
    batch_id = f"poison-{who}"
    queue, dead = service.outputs["IngestQueueUrl"], service.outputs["DeadLetterQueueUrl"]
    service.send(message(batch_id, [record(who, size=4711)]))
    _let_it_die(service, queue, dead)

    assert runbook_of(service, hear(service, pager, {"dead-letters", "dead-letter-queue"})).name == "dead-letters"

    [known] = [row for row in service.ask("operator", "dlq", "list")["rows"] if row["batch_id"] == batch_id]
    assert known["redrive"] == "unknown"
    [letter] = [row for row in service.ask("operator", "dlq", "list", "--deep")["rows"] if row["batch_id"] == batch_id]
    assert letter["redrive"] == "meter"
    assert letter["admitted_until"] > letter["sent"]
    assert service.ask("operator", "dlq", "redrive", "--dry-run")["waiting"] >= 1
    assert service.ask("operator", "dlq", "redrive", "--by-hand")["moved"] >= 1

    service.clients.lambda_.update_event_source_mapping(UUID=mapping(service), Enabled=True)
    until(lambda: report(service, who) != {}, 90)
    service.wait_for_rest()
    assert list(report(service, who).values()) == [4711]
    assert service.ask("operator", "dlq", "redrive")["moved"] == 0


def test_a_test_alert_reaches_who_is_on_call_and_says_that_it_is_a_test(service: Service, pager: str) -> None:
    rows = service.ask("operator", "alerts", "test", "--severity", "page")["rows"]
    assert any(row["state"] == "sent" for row in rows)
    alert = next_alert(service, pager, 30)
    assert "test" in alert
    assert alert["stage"] == service.stage


def _let_it_die(service: Service, queue: str, dead: str) -> None:
    """Receive a message without acknowledging it, until it becomes a dead letter."""
    sqs = service.clients.sqs
    for _ in range(4 * _RECEIVES):
        sqs.receive_message(QueueUrl=queue, VisibilityTimeout=0, WaitTimeSeconds=0, MaxNumberOfMessages=10)
        depth = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
        if int(depth["ApproximateNumberOfMessages"]):
            return
        time.sleep(0.2)
    pytest.fail("the batch did not die")
