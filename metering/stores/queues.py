"""`Queue` and `QueueFacts`: an SQS queue, and the age and the retention of its messages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

ORIGINAL_SENDER: Final = "metering-original-sender"
"""Message attribute by which an operator who sends a message again says who sent it first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message as delivered by the queue.

    Attributes:
        message_id: Only for responses to the queue; never an identity, because a redrive changes the id.
        sent_at_ms: SentTimestamp; admission is checked against this time. A redrive renews it.
        receive_count: 1 on the first delivery.
        sender_id: The sender as reported by the queue.
        stated_sender: First sender, as the message's sender states (`metering.intake.senders.statement`), or empty.
            Only an operator's statement is valid, because any sender can write the attribute.
    """

    message_id: str
    body: str
    sent_at_ms: int
    receive_count: int
    sender_id: str
    stated_sender: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """A message that belongs to this receiver until its visibility timeout ends.

    Attributes:
        receipt: Handle for deleting or releasing the message, valid only for this receive.
    """

    delivery: Delivery
    receipt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """Approximate numbers of messages: visible, in flight, and delayed."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        return self.visible + self.in_flight + self.delayed


class Queue(Protocol):
    """One SQS standard queue: each message is delivered at least once, in any order."""

    def send_many(self, bodies: Sequence[str], *, original_senders: Sequence[str] = ()) -> list[int]:
        """Send any number of messages; return the positions of messages that were not accepted. Even these may arrive.

        Args:
            bodies: The messages.
            original_senders: Original sender of each message, if the messages are resent; an empty string states no
                sender. A message that is too long together with its sender is not accepted.
        """

    def receive(self, max_messages: int, *, wait_s: int = 0, visibility_s: int | None = None) -> list[ReceivedMessage]:
        """Receive up to `max_messages` (1-10) messages, waiting `wait_s` (0-20) for the first.

        An empty response does not mean that the queue is empty.
        """

    def delete_many(self, receipts: Sequence[str]) -> list[int]:
        """Delete messages; return the positions of messages that may be received again."""

    def release(self, receipts: Sequence[str]) -> None:
        """Make messages visible at once. A message that stays invisible returns after its visibility timeout."""

    def hide(self, receipts: Mapping[str, int]) -> None:
        """Set the visibility timeout of received messages to this many seconds from now (0-43,200), by receipt.

        If the queue fails to hide a message, the message becomes visible again after its visibility timeout.
        """

    def depth(self) -> QueueDepth:
        """Approximate numbers of messages, updated with a delay."""

    def start_redrive(self, *, max_per_s: int = 500) -> str | None:
        """Let SQS move all messages of a dead-letter queue back to their source queue.

        Returns:
            The task's handle, or None if the service has no such operation: then receive, send and delete.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivery:
    """Redelivery settings of the ingest queue.

    Attributes:
        visibility_s: Visibility timeout of a received message.
        max_receives: Number of receives after which a message becomes a dead letter; None if that never happens.
    """

    visibility_s: int
    max_receives: int | None


class QueueFacts(Protocol):
    """Age, retention and redelivery of the queues."""

    def oldest_age_s(self) -> int | None:
        """Age of the oldest message in the ingest queue, as SQS last measured it; None if SQS has not measured it.

        The age may ignore messages that were received three times or more.
        """

    def longest_retention_s(self) -> int:
        """Longest retention of the ingest queue and its dead-letter queue."""

    def redelivery(self) -> Redelivery:
        """Redelivery settings of the ingest queue."""
