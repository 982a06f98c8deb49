"""Messages that the two queues may still hold, and the time up to which every message has its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.ledger.notes.completeness import Hold, Holder
from metering.ledger.notes.queue_memory import (
    HELD_FROM_RECEIVE,
    HELD_PK,
    QUEUES_KEY,
    HeldMessage,
    QueueLook,
    QueueMemory,
)
from metering.ledger.notes.watch_state import WATCH_KEY, WatchState
from metering.stores.writes import Table
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from metering.stores.clock import Clock
    from metering.stores.items import ItemStore
    from metering.stores.queues import Queue, QueueFacts, Redelivery

# A queue's depth is right one minute after the last send (SQS: ApproximateNumberOfMessages).
DEPTH_DELAY_S = MINUTE_S
# The age of the oldest message is a metric that may lag by this much.
AGE_DELAY_S = 10 * MINUTE_S
# Most notes read at one look. More are an incident: then the earlier result stays in force.
NOTES_READ = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """Result of a look at both queues.

    Attributes:
        memory: Memory of the queues, with this look.
        waiting, dead: Messages in the ingest queue and in the dead-letter queue, hidden ones included.
        held: Notes of messages that were received three times or more and may still be in the queue.
        held_s: Sending time of the oldest of them; None if there is none.
    """

    memory: QueueMemory
    waiting: int
    dead: int
    held: int
    held_s: int | None

    @property
    def bound_s(self) -> int:
        """Time up to which a look can tell at most, because a queue's depth is late."""
        return max(self.memory.looked_s - DEPTH_DELAY_S, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class UndecidedMessages:
    """Looks at the queues in the order in which a message passes through them, so that none is missed."""

    items: ItemStore
    ingest: Queue
    dead: Queue
    facts: QueueFacts
    clock: Clock

    def look(self) -> Looked:
        """Look once, and add the look to the memory of the earlier ones. The caller may store that."""
        now_s = self.clock.now_ms() // 1_000
        redelivery: Redelivery | None = None
        waiting = self.ingest.depth().total
        empty = waiting == 0
        empty_s = now_s if empty else self._last_empty_s()
        left_s = noted_from_s = max(empty_s - DEPTH_DELAY_S, 0)
        if not empty:
            redelivery = self.facts.redelivery()
            age_s = self.facts.oldest_age_s()
            left_s = left_s if age_s is None else max(left_s, now_s - age_s - AGE_DELAY_S)
            # A message that was noted earlier was visible again before the oldest message left was sent: by then it was
            # received again, or dead.
            noted_from_s = max(noted_from_s, left_s - redelivery.visibility_s)
        held = self._held(noted_from_s)
        dead = self.dead.depth().total
        look = QueueLook(
            now_s=now_s,
            left_s=left_s,
            empty=empty,
            ended_s=self.clock.now_ms() // 1_000,
            held_s=min((note.sent_s for note in held), default=None),
            unseen=dead > 0 or len(held) > NOTES_READ,
        )
        return Looked(
            memory=self._remembered(look, redelivery), waiting=waiting, dead=dead, held=len(held), held_s=look.held_s
        )

    def holds(self, looked: Looked) -> list[Hold]:
        """What holds completeness back: everything that was sent before the earliest of them has its verdict."""
        memory = looked.memory
        found = [Hold(holder=Holder.QUEUE, since_s=memory.left_s, count=looked.waiting)]
        if looked.held_s is not None:
            found.append(Hold(holder=Holder.HELD_MESSAGES, since_s=looked.held_s, count=looked.held))
        if not memory.calm:
            since_s = memory.unseen_since_s(longest_life_s=self.facts.longest_retention_s())
            found.append(Hold(holder=_unseen(looked), since_s=since_s, count=looked.dead))
        return [hold for hold in found if hold.since_s < looked.bound_s]

    def _remembered(self, look: QueueLook, redelivery: Redelivery | None) -> QueueMemory:
        last = self.items.get(Table.LEDGER, QUEUES_KEY)
        if last is None:
            return QueueMemory.first(look)
        return QueueMemory.from_item(last).after(look, blind_s=self._blind_s(redelivery))

    def _last_empty_s(self) -> int:
        item = self.items.get(Table.LEDGER, WATCH_KEY)
        return 0 if item is None else WatchState.from_item(item).queue_empty_s

    def _held(self, noted_from_s: int) -> list[HeldMessage]:
        notes = self.items.query(Table.LEDGER, HELD_PK, sk_from=rfc3339(max(noted_from_s, 0)))
        return [HeldMessage.from_item(item) for item in islice(notes, NOTES_READ + 1)]

    def _blind_s(self, redelivery: Redelivery | None) -> int:
        """Longest stay of a message in the queue after its age is left out: it is hidden after each further receive."""
        if redelivery is None:
            return 0
        if redelivery.max_receives is None:
            return self.facts.longest_retention_s()
        receives = max(redelivery.max_receives - HELD_FROM_RECEIVE + 1, 1)
        return receives * redelivery.visibility_s + AGE_DELAY_S


def _unseen(looked: Looked) -> Holder:
    """The messages whose sending time nobody can tell."""
    if looked.dead:
        return Holder.DEAD_LETTERS
    return Holder.HELD_MESSAGES if looked.memory.unseen else Holder.PUT_BACK
