"""Handles an SQS event and answers with a partial batch response."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from aws_lambda_powertools import Logger

from lambdas.aggregator.bootstrap import SERVICE, dependencies
from metering.adapters.aws.runtime import LambdaDeadline
from metering.errors import UnavailableError
from metering.stores.deliveries import Delivery

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lambdas.aggregator.bootstrap import Dependencies
    from metering.adapters.aws.runtime import LambdaContext


class SqsRecord(TypedDict):
    """Message as the event source mapping hands it over."""

    messageId: str
    body: str
    attributes: Mapping[str, str]


class SqsEvent(TypedDict):
    """Messages of one invocation."""

    Records: list[SqsRecord]


class ItemFailure(TypedDict):
    """Message that the queue has to deliver again."""

    itemIdentifier: str


class PartialBatchResponse(TypedDict):
    """Answer to the event source mapping. It takes a misspelt key for an answer without failures."""

    batchItemFailures: list[ItemFailure]


def handler(event: SqsEvent, context: LambdaContext) -> PartialBatchResponse:
    """Meter the messages of one invocation."""
    try:
        parts = dependencies()
    except UnavailableError as error:
        # A new process asks the ledger for its format. Without an answer all messages come back, as they do when the
        # ledger does not answer a commit; that is not an error of this function.
        Logger(service=SERVICE).warning("the ledger gives no answer", extra={"error": str(error)})
        return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in event["Records"]]}
    return handle(event, context, parts)


def handle(event: SqsEvent, context: LambdaContext, parts: Dependencies) -> PartialBatchResponse:
    """`handler` with its dependencies passed in, for tests."""
    deadline = LambdaDeadline(context)
    budget_ms = deadline.remaining_ms()
    deliveries = [_delivery(record) for record in event["Records"]]
    try:
        result = parts.aggregator.handle(deliveries, deadline)
    finally:
        parts.metrics.flush()
    parts.logger.info(
        "invocation handled",
        extra={
            "messages": len(deliveries),
            "put_back": len(result.retry),
            "verdicts": {str(verdict): count for verdict, count in result.counts.items()},
            "elapsed_ms": budget_ms - deadline.remaining_ms(),
        },
    )
    if result.contradictions:
        parts.logger.error("ledger corrupt", extra={"contradictions": list(result.contradictions)})
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in result.retry]}


def _delivery(record: SqsRecord) -> Delivery:
    attributes = record["attributes"]
    return Delivery(
        message_id=record["messageId"],
        body=record["body"],
        sent_at_ms=int(attributes["SentTimestamp"]),
        receive_count=int(attributes["ApproximateReceiveCount"]),
        sender_id=attributes["SenderId"],
    )
