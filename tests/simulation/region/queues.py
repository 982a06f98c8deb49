"""The queues as people's commands see them: each call takes time, and can fail in every way that AWS can."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.stores.queues import Delivery, QueueDepth, ReceivedMessage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.simulation.region.ports import Process

OPERATOR = "operator"


class IngestQueue:
    """`Queue` of one process, for sending."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._queue = process.world.queue

    def send_many(self, bodies: Sequence[str], *, original_senders: Sequence[str] = ()) -> list[int]:
        def apply() -> list[int]:
            for body, stated in zip(bodies, original_senders or [""] * len(bodies), strict=True):
                self._queue.send(body, OPERATOR, stated)
            return []

        return self._process.write("queue.send_many", apply)

    def receive(self, max_messages: int, *, wait_s: int = 0, visibility_s: int | None = None) -> list[ReceivedMessage]:
        raise NotImplementedError("workers receive, people do not")

    def delete_many(self, receipts: Sequence[str]) -> list[int]:
        raise NotImplementedError("workers delete, people do not")

    def release(self, receipts: Sequence[str]) -> None:
        raise NotImplementedError("workers release, people do not")

    def hide(self, receipts: Mapping[str, int]) -> None:
        raise NotImplementedError("workers hide, people do not")

    def depth(self) -> QueueDepth:
        return self._process.read(
            "queue.depth", lambda: QueueDepth(visible=len(self._queue.messages), in_flight=0, delayed=0)
        )

    def start_redrive(self, *, max_per_s: int = 500) -> str | None:
        del max_per_s
        return None


class DeadLetterQueue(IngestQueue):
    """`Queue` of one process over the dead letters. A receipt is a message id."""

    def receive(self, max_messages: int, *, wait_s: int = 0, visibility_s: int | None = None) -> list[ReceivedMessage]:
        del wait_s

        def apply() -> list[ReceivedMessage]:
            now_ms = self._process.world.scheduler.now_ms
            found = [m for m in self._queue.dead.values() if m.visible_at_ms <= now_ms][:max_messages]
            for message in found:
                message.visible_at_ms = now_ms + (visibility_s or 30) * 1000
                message.receives += 1
            return [
                ReceivedMessage(
                    delivery=Delivery(
                        message_id=m.message_id,
                        body=m.body,
                        sent_at_ms=m.sent_at_ms,
                        receive_count=m.receives,
                        sender_id=m.sender_id,
                        stated_sender=m.stated_sender,
                    ),
                    receipt=m.message_id,
                )
                for m in found
            ]

        return self._process.write("dead.receive", apply)

    def delete_many(self, receipts: Sequence[str]) -> list[int]:
        def apply() -> list[int]:
            for message_id in receipts:
                self._queue.dead.pop(message_id, None)
            return []

        return self._process.write("dead.delete_many", apply)

    def release(self, receipts: Sequence[str]) -> None:
        def apply() -> None:
            for message_id in receipts:
                self._queue.dead[message_id].visible_at_ms = 0

        self._process.write("dead.release", apply)

    def depth(self) -> QueueDepth:
        return self._process.read(
            "dead.depth", lambda: QueueDepth(visible=len(self._queue.dead), in_flight=0, delayed=0)
        )
