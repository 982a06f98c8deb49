"""A standard queue with its dead-letter queue: visibility, redelivery, reordering, spontaneous copies, redrive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.intake.senders import judged_sender, statement
from metering.stores.queues import Delivery
from tests.simulation.region.faults import MINUTE_MS
from tests.simulation.sent.senders import NOBODY, OPERATOR, SERVICES, SentBy, sent_by

if TYPE_CHECKING:
    import random
    from collections import Counter
    from collections.abc import Callable, Iterable, Mapping

    from tests.simulation.region.scheduler import Scheduler

VISIBILITY_MS = 7 * MINUTE_MS
MAX_RECEIVES = 5


@dataclass(slots=True)
class Message:
    message_id: str
    body: str
    sent_at_ms: int
    sender_id: str
    stated_sender: str = ""
    receives: int = 0
    visible_at_ms: int = 0


class SimulatedQueue:
    """The ingest queue. Its `messages` and `dead` are in flight or dead letters: not lost."""

    def __init__(self, scheduler: Scheduler, chance: random.Random, histogram: Counter[str]) -> None:
        self.messages: dict[str, Message] = {}
        self.dead: dict[str, Message] = {}
        # Every SentTimestamp that a body ever had, including redrives: admission may have used any of them.
        self.sent_times: dict[str, list[int]] = {}
        self.delivered: dict[str, int] = {}
        # Body -> each of its original senders -> since when. Where senders are not checked, all of them are equal.
        self.senders: dict[str, dict[SentBy, int]] = {}
        self.judged = False
        self.odd = True
        self._scheduler = scheduler
        self._chance = chance
        self._histogram = histogram
        self._count = 0
        self._parked: list[Callable[[], object]] = []

    def send(self, body: str, sender_id: str, stated_sender: str = "") -> None:
        self._count += 1
        now_ms = self._scheduler.now_ms
        message_id = f"m{self._count}"
        self.messages[message_id] = Message(message_id, body, now_ms, sender_id, stated_sender)
        self.sent_times.setdefault(body, []).append(now_ms)
        self.senders.setdefault(body, {}).setdefault(self.sender_of(self.messages[message_id]), now_ms)
        self._wake()

    def park(self, wake: Callable[[], object]) -> None:
        """Have `wake` called when a message is sent."""
        self._parked.append(wake)

    def next_visible_ms(self) -> int | None:
        """Time of the next visible message; None for an empty queue."""
        return min((message.visible_at_ms for message in self.messages.values()), default=None)

    def receive(self, limit: int) -> list[Delivery]:
        """Some messages, in any order."""
        now_ms = self._scheduler.now_ms
        found = [m for m in self.messages.values() if m.visible_at_ms <= now_ms]
        if self.odd and len(found) < len(self.messages) and self._chance.random() < 0.03:
            hidden = [m for m in self.messages.values() if m.visible_at_ms > now_ms]
            found.append(self._chance.choice(hidden))
            self._histogram["delivered while in flight"] += 1
        if len(found) > 1 and self._chance.random() < 0.5:
            self._chance.shuffle(found)
            self._histogram["delivered out of order"] += 1
        return [self._deliver(m, now_ms) for m in found[:limit] if not self._give_up(m)]

    def sender_of(self, message: Message) -> SentBy:
        """Original sender of a message."""
        return sent_by(message.sender_id, message.stated_sender) if self.judged else NOBODY

    def acknowledge(self, message_ids: Iterable[str]) -> list[Message]:
        """Delete messages; returns them. Occasionally one is delivered again all the same, as SQS permits."""
        acknowledged = []
        for message_id in message_ids:
            message = self.messages.get(message_id)
            if message is None:
                continue
            acknowledged.append(message)
            if self.odd and self._chance.random() < 0.02:
                self._histogram["delivered again after its deletion"] += 1
                continue
            del self.messages[message_id]
        return acknowledged

    def hide(self, seconds: Mapping[str, int]) -> None:
        """Hide messages by id for this long from now."""
        for message_id, hidden_s in seconds.items():
            if message_id in self.messages:
                self.messages[message_id].visible_at_ms = self._scheduler.now_ms + hidden_s * 1000

    def redrive(self) -> int:
        """Move dead letters back, as new messages."""
        dead, self.dead = self.dead, {}
        for message in dead.values():
            if self.judged:
                # Sent by an operator's command, which states the original sender.
                delivery = self._delivery(message)
                self.send(message.body, OPERATOR, statement(judged_sender(delivery, SERVICES)))
            else:
                self.send(message.body, message.sender_id)
        return len(dead)

    def holds(self, body: str) -> bool:
        """Whether any copy is in flight or dead."""
        return any(m.body == body for m in self.messages.values()) or any(m.body == body for m in self.dead.values())

    def _deliver(self, message: Message, now_ms: int) -> Delivery:
        message.receives += 1
        message.visible_at_ms = now_ms + VISIBILITY_MS
        if message.receives > 1:
            self._histogram["delivered again"] += 1
        self.delivered[message.body] = self.delivered.get(message.body, 0) + 1
        return self._delivery(message)

    @staticmethod
    def _delivery(message: Message) -> Delivery:
        return Delivery(
            message_id=message.message_id,
            body=message.body,
            sent_at_ms=message.sent_at_ms,
            receive_count=message.receives,
            sender_id=message.sender_id,
            stated_sender=message.stated_sender,
        )

    def _give_up(self, message: Message) -> bool:
        if message.receives < MAX_RECEIVES:
            return False
        del self.messages[message.message_id]
        self.dead[message.message_id] = message
        self._histogram["moved to the dead-letter queue"] += 1
        return True

    def _wake(self) -> None:
        parked, self._parked = self._parked, []
        for wake in parked:
            self._scheduler.at(self._scheduler.now_ms, wake)
