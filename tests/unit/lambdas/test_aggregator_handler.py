"""The aggregator function: SQS event in, partial batch response out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from aws_lambda_powertools import Logger

from lambdas.aggregator.handler import Intake, handle
from lambdas.emf import EmfMetrics
from lambdas.sqs import SqsEvent
from lambdas.start import Started
from metering.adapters.inert import NoQueue
from metering.errors import UnavailableError
from metering.stores.queues import Delivery, Queue, Redelivery
from metering.stores.writes import Table
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.queues import MemoryQueue
from tests.support.region import MemoryRegion
from tests.support.small_world import NOW_S, SETTINGS, batch, delivery
from tests.unit.lambdas.api_requests import Context

_NO_QUEUE = NoQueue()


def _parts(store: MemoryItemStore, queue: Queue = _NO_QUEUE, *, visibility_s: int = 420) -> Started[Intake]:
    metrics = EmfMetrics(service="aggregator", stage="local")
    parts = MemoryRegion(now_s=NOW_S, settings=SETTINGS).parts()
    aggregator = replace(parts, items=store, metrics=metrics).plain_worker()
    return Started(
        work=Intake(aggregator=aggregator, queue=lambda: queue, facts=lambda: _Facts(visibility_s)),
        metrics=metrics,
        logger=Logger(service="aggregator"),
    )


@dataclass(frozen=True)
class _Facts:
    """A queue's visibility timeout, and nothing else."""

    visibility_s: int

    def redelivery(self) -> Redelivery:
        return Redelivery(visibility_s=self.visibility_s, max_receives=7)

    def oldest_age_s(self) -> int | None:
        raise NotImplementedError

    def longest_retention_s(self) -> int:
        raise NotImplementedError


class _Hiding(MemoryQueue):
    """A queue that takes note of what it is to hide.

    Args:
        trouble: Whether it gives no answer.
    """

    def __init__(self, *, trouble: bool = False) -> None:
        super().__init__(ManualClock(NOW_S * 1000))
        self.hidden: dict[str, int] = {}
        self._trouble = trouble

    def hide(self, receipts: Mapping[str, int]) -> None:
        if self._trouble:
            raise UnavailableError("sqs.ChangeMessageVisibilityBatch", "no answer")
        self.hidden.update(receipts)


def _event(*deliveries: Delivery) -> SqsEvent:
    return {
        "Records": [
            {
                "messageId": each.message_id,
                "receiptHandle": f"receipt of {each.message_id}",
                "body": each.body,
                "attributes": {
                    "SentTimestamp": str(each.sent_at_ms),
                    "ApproximateReceiveCount": str(each.receive_count),
                    "SenderId": each.sender_id,
                },
            }
            for each in deliveries
        ]
    }


def test_what_is_settled_is_not_in_the_response(capsys: pytest.CaptureFixture[str]) -> None:
    response = handle(_event(delivery(batch(1)), delivery(batch(2))), Context(), _parts(MemoryItemStore()))
    assert response == {"batchItemFailures": []}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (summary,) = [line for line in lines if line.get("message") == "invocation handled"]
    assert (summary["messages"], summary["put_back"], summary["verdicts"]) == (2, 0, {"accepted": 2})
    assert any(line.get("BatchesAccepted") == [2.0] for line in lines)


def test_what_has_no_verdict_is_named_exactly_as_the_mapping_expects() -> None:
    def unavailable(name: str) -> None:
        if name == "items.transact":
            raise UnavailableError("dynamodb.TransactWriteItems", "throttled")

    response = handle(
        _event(delivery(batch(1), message="m-1")), Context(), _parts(MemoryItemStore(on_call=unavailable))
    )
    assert json.loads(json.dumps(response)) == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}


def test_what_a_throttle_sends_back_is_hidden_before_it_comes_back() -> None:
    queue = _Hiding()
    store = MemoryItemStore(throttled=lambda action: "ThrottlingError" if action.table is Table.LEDGER else "")
    first, again = delivery(batch(1), message="m-1"), delivery(batch(2), message="m-2", receive_count=2)
    response = handle(_event(first, again), Context(), _parts(store, queue))
    assert [each["itemIdentifier"] for each in response["batchItemFailures"]] == ["m-1", "m-2"]
    assert 90 <= queue.hidden["receipt of m-1"] < 180
    assert 300 <= queue.hidden["receipt of m-2"] < 420


def test_nothing_is_hidden_for_longer_than_its_queue_hides_it() -> None:
    queue = _Hiding()
    store = MemoryItemStore(throttled=lambda _: "ThrottlingError")
    parts = _parts(store, queue, visibility_s=20)
    handle(_event(delivery(batch(1), message="m-1", receive_count=5)), Context(), parts)
    assert 0 < queue.hidden["receipt of m-1"] < 20


def test_nothing_is_hidden_for_a_conflict() -> None:
    queue = _Hiding()
    store = MemoryItemStore(throttled=lambda _: "TransactionConflict")
    response = handle(_event(delivery(batch(1), message="m-1")), Context(), _parts(store, queue))
    assert response["batchItemFailures"]
    assert queue.hidden == {}


def test_a_queue_that_does_not_hide_changes_nothing_in_the_answer() -> None:
    store = MemoryItemStore(throttled=lambda _: "ThrottlingError")
    event = _event(delivery(batch(1), message="m-1"))
    response = handle(event, Context(), _parts(store, _Hiding(trouble=True)))
    assert response == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
