"""Shapes of an SQS event and of the answer to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict

if TYPE_CHECKING:
    from collections.abc import Mapping


class SqsAttribute(TypedDict, total=False):
    """Attribute that a sender gave its message; one of another type than text has no `stringValue`."""

    stringValue: str | None


class SqsRecord(TypedDict):
    """Message as the event source mapping hands it over."""

    messageId: str
    receiptHandle: str
    body: str
    attributes: Mapping[str, str]
    messageAttributes: NotRequired[Mapping[str, SqsAttribute]]


class SqsEvent(TypedDict):
    """Messages of one invocation."""

    Records: list[SqsRecord]


class ItemFailure(TypedDict):
    """Message that the queue has to deliver again."""

    itemIdentifier: str


class PartialBatchResponse(TypedDict):
    """Answer to the event source mapping, which reads a misspelt key as an answer without failures."""

    batchItemFailures: list[ItemFailure]


def all_back(event: SqsEvent) -> PartialBatchResponse:
    """Answer that has the queue deliver all messages of the invocation again."""
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in event["Records"]]}
