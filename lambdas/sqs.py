"""Types of an SQS event and of its response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict


class SqsAttribute(TypedDict, total=False):
    """Attribute that the sender set on its message; an attribute that is not a string has no `stringValue`."""

    stringValue: str | None


class SqsRecord(TypedDict):
    """Message as the event source mapping delivers it."""

    messageId: str
    receiptHandle: str
    body: str
    attributes: Mapping[str, str]
    messageAttributes: NotRequired[Mapping[str, SqsAttribute]]


class SqsEvent(TypedDict):
    """Messages of one invocation."""

    Records: list[SqsRecord]


class ItemFailure(TypedDict):
    """Message that the queue must redeliver."""

    itemIdentifier: str


class PartialBatchResponse(TypedDict):
    """Response to the event source mapping, which ignores misspelt keys and would assume that all succeeded."""

    batchItemFailures: list[ItemFailure]


def all_back(event: SqsEvent) -> PartialBatchResponse:
    """Response that makes the queue redeliver all messages of the invocation."""
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in event["Records"]]}
