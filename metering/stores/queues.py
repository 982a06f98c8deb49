"""`Queue` and `QueueFacts`: an SQS queue, and what the service knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.stores.deliveries import Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedMessage:
    """A message that is this receiver's until its visibility timeout ends.

    Attributes:
        delivery: What the queue handed over.
        receipt: To delete or release it with; of this receive only.
    """

    delivery: Delivery
    receipt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """Approximate numbers of messages: ready, received but not deleted, and not yet due."""

    visible: int
    in_flight: int
    delayed: int

    @property
    def total(self) -> int:
        return self.visible + self.in_flight + self.delayed


class Queue(Protocol):
    """One SQS standard queue: everything is delivered at least once, in any order."""

    def send_many(self, bodies: Sequence[str]) -> list[int]:
        """Send messages, any number; returns the positions of those that were not taken. They may arrive even so."""
        ...

    def receive(self, max_messages: int, *, wait_s: int = 0, visibility_s: int | None = None) -> list[ReceivedMessage]:
        """Up to `max_messages` (1-10) messages; none after `wait_s` (0-20). None of them need mean that it is empty."""
        ...

    def delete_many(self, receipts: Sequence[str]) -> list[int]:
        """Delete messages; returns the positions of those that may come back."""
        ...

    def release(self, receipts: Sequence[str]) -> None:
        """Make messages visible again at once. One that cannot be released comes back after its visibility timeout."""
        ...

    def depth(self) -> QueueDepth:
        """How many messages there are, approximately and with a delay."""
        ...

    def start_redrive(self, *, max_per_s: int = 500) -> str | None:
        """Of a dead-letter queue: let the service move all messages back to where they came from.

        Returns:
            The task's handle, or None where there is no such call (then receive, send and delete).
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivery:
    """How the ingest queue delivers again.

    Attributes:
        visibility_s: How long a received message is hidden.
        max_receives: After so many receives it becomes a dead letter; None if it never does.
    """

    visibility_s: int
    max_receives: int | None


class QueueFacts(Protocol):
    """What the queue service knows of the queues beside their depth."""

    def oldest_age_s(self) -> int | None:
        """Age of the oldest message in the ingest queue as the service measured it last, or None if it measures none.

        It may leave out messages that were received three times or more.
        """
        ...

    def longest_retention_s(self) -> int:
        """How long a copy of a batch can live in the ingest queue or its dead-letter queue, whichever is longer."""
        ...

    def redelivery(self) -> Redelivery:
        """How the ingest queue delivers again."""
        ...
