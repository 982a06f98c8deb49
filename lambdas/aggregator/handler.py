"""Handles an SQS event and answers with a partial batch response."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lambdas.log import function_logger
from lambdas.sqs import PartialBatchResponse, SqsEvent, SqsRecord, all_back
from lambdas.start import Started, starting
from metering.adapters.aws.runtime import LambdaContext, LambdaDeadline
from metering.errors import UnavailableError
from metering.stores.queues import ORIGINAL_SENDER, Delivery, Queue, QueueFacts
from metering.wiring.aggregator import AggregatorParts, build_aggregator

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.commit.aggregator import Aggregator
    from metering.stores.clock import Metrics


# Longest time from a message's receive to its invocation, including the batch window.
_HANDED_OVER_S = 10

SERVICE = "aggregator"


class Intake(NamedTuple):
    """Parts that meter messages.

    Attributes:
        queue, facts: Return the ingest queue and its attributes on demand: only throttling needs them, and a client
            slows cold starts.
    """

    aggregator: Aggregator
    queue: Callable[[], Queue]
    facts: Callable[[], QueueFacts]


def _intake(parts: AggregatorParts, metrics: Metrics) -> Intake:
    # A region's first batch, which is the canary's batch at the latest, writes the ledger's format.
    aggregator = build_aggregator(parts, metrics, parts.services)
    return Intake(aggregator=aggregator, queue=lambda: parts.ingest, facts=lambda: parts.queue_facts)


dependencies = starting(SERVICE, AggregatorParts, _intake)


def handler(event: SqsEvent, context: LambdaContext) -> PartialBatchResponse:
    """Meter the messages of one invocation."""
    try:
        parts = dependencies()
    except UnavailableError as error:
        # A new process first reads the ledger's format. If the ledger does not answer, all messages return to the
        # queue, as they do when it does not answer a commit; this is not an error of the function.
        function_logger(SERVICE).warning("the ledger gives no answer", extra={"error": str(error)})
        return all_back(event)
    return handle(event, context, parts)


def handle(event: SqsEvent, context: LambdaContext, parts: Started[Intake]) -> PartialBatchResponse:
    """Do the work of `handler` with injected dependencies; tests call this function."""
    deadline = LambdaDeadline(context)
    budget_ms = deadline.remaining_ms()
    deliveries = [_delivery(record) for record in event["Records"]]
    try:
        result = parts.work.aggregator.handle(deliveries, deadline)
    finally:
        parts.metrics.flush()
    parts.logger.info(
        "invocation handled",
        extra={
            "messages": len(deliveries),
            "put_back": len(result.retry),
            "hidden": len(result.hide_s),
            "verdicts": {str(verdict): count for verdict, count in result.counts.items()},
            "elapsed_ms": budget_ms - deadline.remaining_ms(),
        },
    )
    if result.contradictions:
        parts.logger.error("ledger corrupt", extra={"contradictions": list(result.contradictions)})
    if result.hide_s:
        _hide(event, result.hide_s, parts, elapsed_ms=budget_ms - deadline.remaining_ms())
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in result.retry]}


def _hide(event: SqsEvent, hide_s: Mapping[str, int], parts: Started[Intake], *, elapsed_ms: int) -> None:
    """Hide throttled messages until their retry. The event source mapping does not change a message's visibility.

    No message stays hidden for longer than the queue's own visibility timeout, because the watch relies on this limit.
    """
    receipts = {record["messageId"]: record["receiptHandle"] for record in event["Records"]}
    try:
        longest_s = max(parts.work.facts().redelivery().visibility_s - elapsed_ms // 1000 - _HANDED_OVER_S, 0)
        parts.work.queue().hide({receipts[message]: min(seconds, longest_s) for message, seconds in hide_s.items()})
    except UnavailableError as error:
        # The messages become visible again after the queue's own visibility timeout.
        parts.logger.warning("throttled messages cannot be hidden", extra={"error": str(error)})


def _delivery(record: SqsRecord) -> Delivery:
    attributes = record["attributes"]
    return Delivery(
        message_id=record["messageId"],
        body=record["body"],
        sent_at_ms=int(attributes["SentTimestamp"]),
        receive_count=int(attributes["ApproximateReceiveCount"]),
        sender_id=attributes["SenderId"],
        stated_sender=_stated_sender(record),
    )


def _stated_sender(record: SqsRecord) -> str:
    # Senders choose the types of attributes. If an attribute is not a string, it has no `stringValue`.
    return record.get("messageAttributes", {}).get(ORIGINAL_SENDER, {}).get("stringValue") or ""
