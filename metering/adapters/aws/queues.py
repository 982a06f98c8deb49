"""`Queue` and `QueueFacts` over SQS."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypedDict

from botocore.exceptions import ClientError

from metering.adapters.aws.errors import is_unknown_call, translated
from metering.stores.queues import ORIGINAL_SENDER, Delivery, QueueDepth, ReceivedMessage, Redelivery
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import (
        DeleteMessageBatchRequestEntryTypeDef,
        MessageTypeDef,
        SendMessageBatchRequestEntryTypeDef,
    )

    from metering.adapters.aws import session


# SendMessageBatch and the other batch calls accept at most 10 entries with at most 1 MiB of bodies (SQS quotas).
_MAX_ENTRIES = 10
_MAX_BATCH_BYTES = MIB


class _Visibility(TypedDict, total=False):
    VisibilityTimeout: int


class SqsQueue:
    """Standard queue of SQS."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    def send_many(self, bodies: Sequence[str], *, original_senders: Sequence[str] = ()) -> list[int]:
        senders = original_senders or [""] * len(bodies)
        sizes = [_size_bytes(body, sender) for body, sender in zip(bodies, senders, strict=True)]
        # SQS rejects the whole batch if one message, including its attributes, is too long.
        failed = [position for position, size in enumerate(sizes) if senders[position] and size > _MAX_BATCH_BYTES]
        for positions in _batches([position for position in range(len(bodies)) if position not in failed], sizes):
            with translated("sqs.SendMessageBatch"):
                answer = self._client.send_message_batch(
                    QueueUrl=self._url,
                    Entries=[_entry(position, bodies[position], senders[position]) for position in positions],
                )
            failed += [int(entry["Id"]) for entry in answer.get("Failed", [])]
        return failed

    def receive(self, max_messages: int, *, wait_s: int = 0, visibility_s: int | None = None) -> list[ReceivedMessage]:
        with translated("sqs.ReceiveMessage"):
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=max_messages,
                WaitTimeSeconds=wait_s,
                MessageSystemAttributeNames=["SentTimestamp", "SenderId", "ApproximateReceiveCount"],
                MessageAttributeNames=[ORIGINAL_SENDER],
                **_visibility(visibility_s),
            )
        return [_received(message) for message in answer.get("Messages", [])]

    def delete_many(self, receipts: Sequence[str]) -> list[int]:
        failed: list[int] = []
        for start in range(0, len(receipts), _MAX_ENTRIES):
            entries: list[DeleteMessageBatchRequestEntryTypeDef] = [
                {"Id": str(start + offset), "ReceiptHandle": receipt}
                for offset, receipt in enumerate(receipts[start : start + _MAX_ENTRIES])
            ]
            with translated("sqs.DeleteMessageBatch"):
                answer = self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
            failed += [int(entry["Id"]) for entry in answer.get("Failed", [])]
        return failed

    def release(self, receipts: Sequence[str]) -> None:
        self.hide(dict.fromkeys(receipts, 0))

    def hide(self, receipts: Mapping[str, int]) -> None:
        asked = list(receipts.items())
        for start in range(0, len(asked), _MAX_ENTRIES):
            with translated("sqs.ChangeMessageVisibilityBatch"):
                self._client.change_message_visibility_batch(
                    QueueUrl=self._url,
                    Entries=[
                        {"Id": str(offset), "ReceiptHandle": receipt, "VisibilityTimeout": seconds}
                        for offset, (receipt, seconds) in enumerate(asked[start : start + _MAX_ENTRIES])
                    ],
                )

    def depth(self) -> QueueDepth:
        with translated("sqs.GetQueueAttributes"):
            answer = self._client.get_queue_attributes(
                QueueUrl=self._url,
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesNotVisible",
                    "ApproximateNumberOfMessagesDelayed",
                ],
            )
        numbers = answer["Attributes"]
        return QueueDepth(
            visible=int(numbers["ApproximateNumberOfMessages"]),
            in_flight=int(numbers["ApproximateNumberOfMessagesNotVisible"]),
            delayed=int(numbers["ApproximateNumberOfMessagesDelayed"]),
        )

    def start_redrive(self, *, max_per_s: int = 500) -> str | None:
        try:
            answer = self._client.start_message_move_task(SourceArn=self._arn(), MaxNumberOfMessagesPerSecond=max_per_s)
        except ClientError as error:
            if is_unknown_call(error):
                return None
            with translated("sqs.StartMessageMoveTask"):
                raise
        return answer["TaskHandle"]

    def _arn(self) -> str:
        with translated("sqs.GetQueueAttributes"):
            answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        return answer["Attributes"]["QueueArn"]


def queue_at(clients: session.Clients, url: str) -> SqsQueue:
    """Queue at a URL, for packages that call no AWS service themselves."""
    return SqsQueue(clients.sqs, url)


def _visibility(visibility_s: int | None) -> _Visibility:
    # Without the argument, SQS applies the queue's visibility timeout.
    return {} if visibility_s is None else {"VisibilityTimeout": visibility_s}


def _size_bytes(body: str, sender: str) -> int:
    """Size of a message as SQS counts it, including its attribute's name, type and value."""
    return len(body.encode()) + (len(ORIGINAL_SENDER) + len("String") + len(sender.encode()) if sender else 0)


def _entry(position: int, body: str, sender: str) -> SendMessageBatchRequestEntryTypeDef:
    entry: SendMessageBatchRequestEntryTypeDef = {"Id": str(position), "MessageBody": body}
    if sender:
        entry["MessageAttributes"] = {ORIGINAL_SENDER: {"DataType": "String", "StringValue": sender}}
    return entry


def _batches(wanted: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    positions: list[int] = []
    used_bytes = 0
    for position in wanted:
        if positions and (len(positions) == _MAX_ENTRIES or used_bytes + sizes[position] > _MAX_BATCH_BYTES):
            yield positions
            positions, used_bytes = [], 0
        positions.append(position)
        used_bytes += sizes[position]
    if positions:
        yield positions


def _received(message: MessageTypeDef) -> ReceivedMessage:
    attributes = message.get("Attributes", {})
    return ReceivedMessage(
        delivery=Delivery(
            message_id=message["MessageId"],
            body=message["Body"],
            sent_at_ms=int(attributes["SentTimestamp"]),
            receive_count=int(attributes["ApproximateReceiveCount"]),
            sender_id=attributes.get("SenderId", ""),
            stated_sender=_stated_sender(message),
        ),
        receipt=message["ReceiptHandle"],
    )


def _stated_sender(message: MessageTypeDef) -> str:
    attribute = message.get("MessageAttributes", {}).get(ORIGINAL_SENDER)
    return "" if attribute is None else attribute.get("StringValue", "")


# SQS publishes its metrics every minute, with a delay of a few minutes.
_LOOK_BACK_MIN = 10


class SqsQueueFacts:
    """Facts about the ingest queue and the dead-letter queue of a region."""

    def __init__(self, sqs: SQSClient, cloudwatch: CloudWatchClient, *, ingest_url: str, dead_letter_url: str) -> None:
        self._sqs = sqs
        self._cloudwatch = cloudwatch
        self._ingest_url = ingest_url
        self._dead_letter_url = dead_letter_url

    def oldest_age_s(self) -> int | None:
        """Newest figure of `ApproximateAgeOfOldestMessage`. No SQS call returns this age; emulators lack its metric."""
        now = datetime.now(UTC)
        with translated("cloudwatch.GetMetricStatistics"):
            answer = self._cloudwatch.get_metric_statistics(
                Namespace="AWS/SQS",
                MetricName="ApproximateAgeOfOldestMessage",
                Dimensions=[{"Name": "QueueName", "Value": self._ingest_url.rpartition("/")[2]}],
                StartTime=now - timedelta(minutes=_LOOK_BACK_MIN),
                EndTime=now,
                Period=60,
                Statistics=["Maximum"],
            )
        points = sorted(answer.get("Datapoints", []), key=lambda point: point["Timestamp"])
        return int(points[-1]["Maximum"]) if points else None

    def redelivery(self) -> Redelivery:
        with translated("sqs.GetQueueAttributes"):
            answer = self._sqs.get_queue_attributes(
                QueueUrl=self._ingest_url, AttributeNames=["VisibilityTimeout", "RedrivePolicy"]
            )
        attributes = answer["Attributes"]
        policy = json.loads(attributes.get("RedrivePolicy") or "{}")
        return Redelivery(
            visibility_s=int(attributes["VisibilityTimeout"]),
            # Some endpoints return this number as a string.
            max_receives=int(policy["maxReceiveCount"]) if "maxReceiveCount" in policy else None,
        )

    def longest_retention_s(self) -> int:
        return max(self._retention_s(self._ingest_url), self.dead_letter_retention_s())

    def dead_letter_retention_s(self) -> int:
        """Retention of the dead-letter queue in seconds; it begins when a message is first sent to the ingest queue."""
        return self._retention_s(self._dead_letter_url)

    def _retention_s(self, url: str) -> int:
        with translated("sqs.GetQueueAttributes"):
            answer = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["MessageRetentionPeriod"])
        return int(answer["Attributes"]["MessageRetentionPeriod"])
