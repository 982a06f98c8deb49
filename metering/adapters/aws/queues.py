"""`Queue` over SQS."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from botocore.exceptions import ClientError

from metering.adapters.aws.errors import error_code, translated
from metering.stores.deliveries import Delivery
from metering.stores.queues import QueueDepth, ReceivedMessage
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import DeleteMessageBatchRequestEntryTypeDef, MessageTypeDef

    from metering.adapters.aws.session import Clients

# SendMessageBatch and the other batch calls take at most 10 entries, with at most 1 MiB of bodies (SQS quotas).
_MAX_ENTRIES = 10
_MAX_BATCH_BYTES = MIB
# Error codes of an endpoint that does not have a call.
_NO_SUCH_CALL = frozenset(
    {
        "AWS.SimpleQueueService.UnsupportedOperation",
        "InternalFailure",
        "InvalidAction",
        "NotImplemented",
        "UnknownOperation",
        "UnknownOperationException",
        "UnsupportedOperation",
    }
)
_NOT_IMPLEMENTED = 501


class _Visibility(TypedDict, total=False):
    VisibilityTimeout: int


class SqsQueue:
    """Standard queue of SQS."""

    def __init__(self, client: SQSClient, url: str) -> None:
        self._client = client
        self._url = url

    def send_many(self, bodies: Sequence[str]) -> list[int]:
        failed: list[int] = []
        for positions in _batches(bodies):
            with translated("sqs.SendMessageBatch"):
                answer = self._client.send_message_batch(
                    QueueUrl=self._url,
                    Entries=[{"Id": str(position), "MessageBody": bodies[position]} for position in positions],
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
        for start in range(0, len(receipts), _MAX_ENTRIES):
            with translated("sqs.ChangeMessageVisibilityBatch"):
                self._client.change_message_visibility_batch(
                    QueueUrl=self._url,
                    Entries=[
                        {"Id": str(offset), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                        for offset, receipt in enumerate(receipts[start : start + _MAX_ENTRIES])
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
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if error_code(error) in _NO_SUCH_CALL or status == _NOT_IMPLEMENTED:
                return None
            with translated("sqs.StartMessageMoveTask"):
                raise
        return answer["TaskHandle"]

    def _arn(self) -> str:
        with translated("sqs.GetQueueAttributes"):
            answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        return answer["Attributes"]["QueueArn"]


def queue_at(clients: Clients, url: str) -> SqsQueue:
    """The queue at a URL, for rooms that ask no service themselves."""
    return SqsQueue(clients.sqs, url)


def _visibility(visibility_s: int | None) -> _Visibility:
    # Without the argument, SQS takes the visibility timeout of the queue.
    return {} if visibility_s is None else {"VisibilityTimeout": visibility_s}


def _batches(bodies: Sequence[str]) -> Iterator[list[int]]:
    """Positions of the bodies of each request."""
    positions: list[int] = []
    used_bytes = 0
    for position, body in enumerate(bodies):
        size_bytes = len(body.encode())
        if positions and (len(positions) == _MAX_ENTRIES or used_bytes + size_bytes > _MAX_BATCH_BYTES):
            yield positions
            positions, used_bytes = [], 0
        positions.append(position)
        used_bytes += size_bytes
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
        ),
        receipt=message["ReceiptHandle"],
    )
