"""The aggregator function: SQS event in, partial batch response out."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from aws_lambda_powertools import Logger

from lambdas.aggregator.handler import Intake, handle
from lambdas.emf import EmfMetrics
from lambdas.log_context import handler as log_context
from lambdas.onramp import handler as onramp
from lambdas.sqs import SqsEvent
from lambdas.start import Started
from metering.adapters.inert import NoQueue
from metering.errors import UnavailableError
from metering.onramps.arrivals import Arrivals
from metering.onramps.reading import Others
from metering.stores.queues import Delivery, Queue, Redelivery
from metering.stores.writes import Table
from tests.support.memory.clock import ManualClock
from tests.support.memory.items import MemoryItemStore
from tests.support.memory.queues import MemoryQueue
from tests.support.region import MemoryRegion
from tests.support.small_logs import bus_event, notification, through_sns
from tests.support.small_world import NOW_S, SETTINGS, batch, delivery
from tests.unit.lambdas.api_requests import Context, started
from tests.unit.onramps.context.test_document import KeeperSetup
from tests.unit.onramps.test_arrivals import KEY, World, a_context, taken

_NO_QUEUE = NoQueue()


def _parts(store: MemoryItemStore, queue: Queue = _NO_QUEUE, *, visibility_s: int = 420) -> Started[Intake]:
    metrics = EmfMetrics(service="aggregator", stage="local")
    parts = MemoryRegion(now_s=NOW_S, settings=SETTINGS).parts()
    aggregator = replace(parts, items=store, metrics=metrics).plain_worker()
    return Started(
        work=Intake(aggregator=aggregator, queue=lambda: queue, facts=lambda: _Facts(visibility_s)),
        metrics=metrics,
        logger=Logger(service="aggregator-of-a-queue"),
    )


@dataclass(frozen=True)
class _Facts:
    """Queue facts that have only the visibility timeout."""

    visibility_s: int

    def redelivery(self) -> Redelivery:
        return Redelivery(visibility_s=self.visibility_s, max_receives=7)

    def oldest_age_s(self) -> int | None:
        raise NotImplementedError

    def longest_retention_s(self) -> int:
        raise NotImplementedError


class _Hiding(MemoryQueue):
    """A queue that records calls of `hide`.

    Args:
        trouble: Whether calls of `hide` fail.
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


# The on-ramp function receives S3 events, counts verdicts, and returns a partial batch response.


def parts_of(world: World) -> Started[Arrivals]:
    return started(world.arrivals, "onramp")


def event(*bodies: str) -> SqsEvent:
    attributes = {"SentTimestamp": "1", "ApproximateReceiveCount": "1", "SenderId": "a"}
    return {
        "Records": [
            {"messageId": f"m-{n}", "receiptHandle": f"r-{n}", "body": body, "attributes": attributes}
            for n, body in enumerate(bodies)
        ]
    }


def counted(output: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in output.splitlines():
        document = json.loads(line)
        for metric in document.get("_aws", {}).get("CloudWatchMetrics", [{"Metrics": []}])[0]["Metrics"]:
            name = metric["Name"] + (f" {document['reason']}" if "reason" in document else "")
            found[name] = sum(document[metric["Name"]])
    return found


@pytest.mark.parametrize("body", [
    bus_event("acme-logs", KEY),
    notification("acme-logs", KEY),
    through_sns(notification("acme-logs", KEY)),
    through_sns(bus_event("acme-logs", KEY)),
])  # fmt: skip
def test_a_new_file_is_taken_however_its_event_came(body: str, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(context=a_context())
    assert onramp.handle(event(body), Context(), parts_of(world)) == {"batchItemFailures": []}
    assert [asked["key"] for asked in world.asked] == [KEY]
    assert counted(capsys.readouterr().out) == {"LogFilesMetered": 1}


def test_odd_keys_arrive_as_they_are() -> None:
    key = "AWSLogs/small_ä b+c%2F"
    world = World(context=a_context())
    onramp.handle(event(bus_event("acme-logs", key), notification("acme-logs", key)), Context(), parts_of(world))
    assert [asked["key"] for asked in world.asked] == [key, key]


def test_only_trouble_that_passes_goes_back_to_the_queue(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(says=UnavailableError("s3.GetObject", "slow down"), context=a_context())
    refused = bus_event("acme-logs", "else/small_1")
    answer = onramp.handle(event(bus_event("acme-logs", KEY), refused, "no json"), Context(), parts_of(world))
    assert json.loads(json.dumps(answer)) == {"batchItemFailures": [{"itemIdentifier": "m-0"}]}
    assert counted(capsys.readouterr().out) == {
        "LogEventsPutBack": 1,
        "LogFilesRefused": 2,
        "LogFilesRefused not_allowed": 1,
        "LogFilesRefused unreadable": 1,
    }


@pytest.mark.parametrize(("verdict", "counter"), [
    ("metered", "LogFilesMetered"),
    ("repeated", "LogFilesRepeated"),
    ("conflict", "LogFilesConflict"),
    ("empty", "LogFilesEmpty"),
])  # fmt: skip
def test_each_verdict_has_its_counter(verdict: str, counter: str, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(says=taken(verdict=verdict), context=a_context())  # type: ignore[arg-type]  # of the parameters
    onramp.handle(event(bus_event("acme-logs", KEY)), Context(), parts_of(world))
    assert counted(capsys.readouterr().out) == {counter: 1}


def test_lines_of_other_accounts_are_a_figure_and_in_the_log_once(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(says=taken(others=Others(3, 70, 1, 20)), context=a_context())
    parts = parts_of(world)
    onramp.handle(event(bus_event("acme-logs", KEY)), Context(), parts)
    assert counted(capsys.readouterr().out) == {"LogFilesMetered": 1, "LogLinesOfOthers": 3}
    (told,) = [each for each in logged(parts) if each["message"] == "lines of other accounts"]
    assert (told["place"], told["lines"], told["bytes"], told["billed_lines"], told["billed_bytes"]) == (
        f"s3://acme-logs/{KEY}",
        3,
        70,
        1,
        20,
    )
    world.says = taken(verdict="repeated", others=Others(3, 70, 1, 20))
    onramp.handle(event(bus_event("acme-logs", KEY)), Context(), parts)
    assert counted(capsys.readouterr().out) == {"LogFilesRepeated": 1}


def test_a_source_that_bills_the_organization_is_warned_of_in_the_log() -> None:
    parts = parts_of(World(context=a_context("2" * 12)))
    onramp.handle(event(bus_event("wide-logs", "small_1")), Context(), parts)
    (told,) = [each for each in logged(parts) if each["message"] == "setting ends"]
    assert told["log_source"] == "wide"
    assert 'accounts = "organization"' in told["detail"]


def logged(parts: Started[Arrivals]) -> list[dict[str, Any]]:
    stream = parts.logger.handlers[0].stream  # type: ignore[attr-defined]  # the one of `parts_of`
    return [json.loads(each) for each in stream.getvalue().splitlines()]


def test_events_that_announce_no_file_are_done_with(capsys: pytest.CaptureFixture[str]) -> None:
    test_event = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "acme-logs"})
    world = World()
    assert onramp.handle(event(test_event), Context(), parts_of(world)) == {"batchItemFailures": []}
    assert counted(capsys.readouterr().out) == {"LogEventsWithoutFile": 1}


def test_a_message_with_several_files_comes_back_whole_if_one_must_wait() -> None:
    world = World()
    answer = onramp.handle(event(notification("acme-logs", "else/x", KEY)), Context(), parts_of(world))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m-0"}]}


# The log-context function captures a context if one is due, and searches for missing files even after a failure.


class Look:
    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> Mapping[str, int]:
        self.looks += 1
        return {"log_sources": 3}


def context_parts_of(setup: KeeperSetup, look: Look) -> Started[log_context.Look]:
    return started(log_context.Look(keeper=setup.keeper, missing=look), "log-context")


def test_a_context_is_captured_once_an_hour_and_every_tick_looks(capsys: pytest.CaptureFixture[str]) -> None:
    setup, look = KeeperSetup(), Look()
    parts = context_parts_of(setup, look)
    assert [log_context.handle(parts)["captured"] for _ in range(3)] == [1, 0, 0]
    assert log_context.handle(parts) == {"captured": 0, "log_sources": 3}
    assert look.looks == 4
    counted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["ContextsCaptured"] for line in counted] == [[1.0]]


def test_a_failed_capture_hides_no_missing_file_and_fails_the_tick() -> None:
    setup, look = KeeperSetup(fails=True), Look()
    with pytest.raises(UnavailableError):
        log_context.handle(context_parts_of(setup, look))
    assert look.looks == 1
