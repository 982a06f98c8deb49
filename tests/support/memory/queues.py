"""SQS in memory, with visibility timeouts, receive counts and dead-letter queues; and event settings of buckets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metering.errors import OperationFailedError
from metering.stores.queues import Delivery, QueueDepth, ReceivedMessage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.stores.clock import Clock

_VISIBILITY_S = 30


@dataclass(slots=True, kw_only=True)
class _Message:
    message_id: str
    body: str
    sent_at_ms: int
    sender_id: str
    stated_sender: str = ""
    receives: int = 0
    visible_at_ms: int = 0
    receipt: str = ""


def _ignore(_call: str) -> None:
    """Do nothing at a call."""


class MemoryQueue:
    """`Queue` that delivers messages in the order of sending.

    Args:
        dead: Dead-letter queue for messages after `max_receives`; if None, messages stay in the queue forever.
        moves_by_itself: Whether `start_redrive` works: it then moves all messages to `source` at once.
        source: Queue to which `start_redrive` moves messages.
        on_call: Called with the call's name before each call. If the callback raises, the caller gets the error.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        name: str = "queue",
        visibility_s: int = _VISIBILITY_S,
        dead: MemoryQueue | None = None,
        max_receives: int = 5,
        sender_id: str = "AIDATEST",
        moves_by_itself: bool = False,
        source: MemoryQueue | None = None,
        on_call: Callable[[str], None] | None = None,
    ) -> None:
        self.on_call = on_call or _ignore
        self.refused_bodies: set[str] = set()
        self._clock = clock
        self._name = name
        self._visibility_s = visibility_s
        self._dead = dead
        self._max_receives = max_receives
        self._sender_id = sender_id
        self._moves_by_itself = moves_by_itself
        self._source = source
        self._messages: dict[str, _Message] = {}
        self._count = 0

    def send_many(self, bodies: Sequence[str], *, original_senders: Sequence[str] = ()) -> list[int]:
        self.on_call("queue.send_many")
        for body, stated in zip(bodies, original_senders or [""] * len(bodies), strict=True):
            if body not in self.refused_bodies:
                self._add(body, self._clock.now_ms(), self._sender_id, stated)
        return [position for position, body in enumerate(bodies) if body in self.refused_bodies]

    def receive(self, max_messages: int, *, wait_s: int = 0, visibility_s: int | None = None) -> list[ReceivedMessage]:
        self.on_call("queue.receive")
        found = self._take(max_messages, self._visibility_s if visibility_s is None else visibility_s)
        if not found and wait_s:
            self._clock.sleep_ms(wait_s * 1000)
            found = self._take(max_messages, self._visibility_s if visibility_s is None else visibility_s)
        return found

    def delete_many(self, receipts: Sequence[str]) -> list[int]:
        self.on_call("queue.delete_many")
        for receipt in receipts:
            message = self._by_receipt(receipt)
            if message is not None:
                del self._messages[message.message_id]
        return []

    def release(self, receipts: Sequence[str]) -> None:
        self.on_call("queue.release")
        self._hide(dict.fromkeys(receipts, 0))

    def hide(self, receipts: Mapping[str, int]) -> None:
        self.on_call("queue.hide")
        self._hide(receipts)

    def _hide(self, receipts: Mapping[str, int]) -> None:
        for receipt, seconds in receipts.items():
            message = self._by_receipt(receipt)
            if message is not None:
                message.visible_at_ms = self._clock.now_ms() + seconds * 1000

    def depth(self) -> QueueDepth:
        self.on_call("queue.depth")
        now_ms = self._clock.now_ms()
        visible = sum(message.visible_at_ms <= now_ms for message in self._messages.values())
        return QueueDepth(visible=visible, in_flight=len(self._messages) - visible, delayed=0)

    def start_redrive(self, *, max_per_s: int = 500) -> str | None:
        del max_per_s
        self.on_call("queue.start_redrive")
        if not self._moves_by_itself or self._source is None:
            return None
        for message in list(self._messages.values()):
            self._source.send_many([message.body])
            del self._messages[message.message_id]
        return "task-1"

    def bodies(self) -> list[str]:
        """Bodies of all messages, including hidden messages, for checkers; not counted as a call."""
        return [message.body for message in self._messages.values()]

    def put_dead(
        self, message_id: str, body: str, sent_at_ms: int, receives: int, sender_id: str, stated_sender: str = ""
    ) -> None:
        """Receive a dead letter from another queue. The message keeps its id, its SentTimestamp and its attribute."""
        self._messages[message_id] = _Message(
            message_id=message_id,
            body=body,
            sent_at_ms=sent_at_ms,
            sender_id=sender_id,
            stated_sender=stated_sender,
            receives=receives,
        )

    def _add(self, body: str, sent_at_ms: int, sender_id: str, stated_sender: str) -> None:
        self._count += 1
        message_id = f"{self._name}-{self._count}"
        self._messages[message_id] = _Message(
            message_id=message_id, body=body, sent_at_ms=sent_at_ms, sender_id=sender_id, stated_sender=stated_sender
        )

    def _take(self, max_messages: int, visibility_s: int) -> list[ReceivedMessage]:
        now_ms = self._clock.now_ms()
        taken: list[ReceivedMessage] = []
        for message in [m for m in self._messages.values() if m.visible_at_ms <= now_ms]:
            if len(taken) == max_messages:
                break
            if self._dead is not None and message.receives >= self._max_receives:
                del self._messages[message.message_id]
                self._dead.put_dead(
                    message.message_id,
                    message.body,
                    message.sent_at_ms,
                    message.receives,
                    message.sender_id,
                    message.stated_sender,
                )
                continue
            message.receives += 1
            message.visible_at_ms = now_ms + visibility_s * 1000
            message.receipt = f"{message.message_id}/{message.receives}"
            taken.append(_received(message))
        return taken

    def _by_receipt(self, receipt: str) -> _Message | None:
        message = self._messages.get(receipt.rpartition("/")[0])
        return message if message is not None and message.receipt == receipt else None


def _received(message: _Message) -> ReceivedMessage:
    delivery = Delivery(
        message_id=message.message_id,
        body=message.body,
        sent_at_ms=message.sent_at_ms,
        receive_count=message.receives,
        sender_id=message.sender_id,
        stated_sender=message.stated_sender,
    )
    return ReceivedMessage(delivery=delivery, receipt=message.receipt)


class MemoryBucketEvents:
    """Event settings of buckets, like `S3BucketEvents`."""

    def __init__(self, configurations: Mapping[str, Mapping[str, Any]], *, region: str) -> None:
        self.configurations = {bucket: dict(each) for bucket, each in configurations.items()}
        self._region = region

    def region_of(self, bucket: str) -> str:
        self.configuration(bucket)
        return self._region

    def configuration(self, bucket: str) -> Mapping[str, Any]:
        if bucket not in self.configurations:
            raise OperationFailedError(f"There is no bucket {bucket}.", "Name one as s3://bucket/prefix.")
        return dict(self.configurations[bucket])

    def turn_on(self, bucket: str, before: Mapping[str, Any]) -> None:
        if self.configuration(bucket) != before:
            raise OperationFailedError(f"Somebody else changed the notifications of {bucket} just now.", "Look again.")
        self.configurations[bucket]["EventBridgeConfiguration"] = {}
