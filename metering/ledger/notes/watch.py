"""Notes of the watch: its figures, its state across invocations, and completeness, the queues' memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, ClassVar

from metering.hours import rfc3339
from metering.ledger.partitions import NOTE
from metering.stores.codec import Added, DecimalText, Fields, Form, StoredItem, item_of
from metering.stores.writes import Key, Value
from metering.units import DAY_S, MINUTE_S

FIGURES_KEY = Key(f"{NOTE}figures", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchFigures(StoredItem):
    """Figures that the watch measured in one run.

    Attributes:
        figures: Value by metric name; a figure that could not be measured is absent.
    """

    key: ClassVar[Key] = FIGURES_KEY
    measured_s: int
    figures: Mapping[str, DecimalText] = field(default_factory=dict)


WATCH_KEY = Key(f"{NOTE}watch", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchState(StoredItem):
    """State that the watch keeps across invocations.

    Attributes:
        first_s: Time of its first invocation. Ages of events that never happened count from this time.
        queue_empty_s: Time when it last saw the ingest queue empty; 0 if it never did.
    """

    key: ClassVar[Key] = WATCH_KEY
    first_s: int
    queue_empty_s: int


COMPLETENESS_KEY = Key(f"{NOTE}complete", "W")


class Holder(StrEnum):
    """Kinds of causes that hold completeness back."""

    QUEUE = "queue"
    HELD_MESSAGES = "held_messages"
    PUT_BACK = "put_back"
    DEAD_LETTERS = "dead_letters"
    WAITING_COMMITS = "waiting_commits"
    SOURCE_GAPS = "source_gaps"
    LOG_GAPS = "log_gaps"
    LOG_DELAY = "log_delay"
    LOG_SETTLING = "log_settling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One cause that holds completeness back.

    Attributes:
        holder: A `Holder`, or a later version's word for a cause that this version does not know.
        since_s: Time before which this cause leaves everything sent counted, epoch seconds. 0: not known.
        count: Number of messages, commits or sources; 0 if unknown.
        name: Name of the first of them, if it has one.
        place: Where to find the missing files, `s3://bucket/prefix`; empty if nowhere.
    """

    holder: str
    since_s: int
    count: int = 0
    name: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness(StoredItem):
    """Completeness of the count, as the watch last measured it.

    Attributes:
        through_s: Every batch sent before this time is counted, epoch seconds. This stays true, so it may be read late.
        held_by: All causes that held it back, the earliest first. Empty if nothing did.
        measured_s: Time of the measurement, epoch seconds; None if an earlier version measured it without a time.
    """

    key: ClassVar[Key] = COMPLETENESS_KEY
    through_s: int
    held_by: Annotated[tuple[Hold, ...], Added(()), Form(_held_by, _held_rows)] = ()
    measured_s: int | None = None

    def to_item(self) -> dict[str, Value]:
        names: list[Value] = [[hold.holder, hold.name, hold.place] for hold in self.held_by if hold.name]
        return item_of(self) | ({"held_names": names} if names else {})


def _held_rows(held_by: tuple[Hold, ...]) -> list[list[str | int]]:
    # Versions without log sources expect three values a row, so names and places are in other attributes.
    return [[hold.holder, hold.since_s, hold.count] for hold in held_by]


def _held_by(fields: Fields, name: str) -> tuple[Hold, ...]:
    rows = fields.rows("held_names", ("holder", "name", "place")) if "held_names" in fields else ()
    names = {row.text("holder"): (row.text("name"), row.any_text("place")) for row in rows}
    return tuple(_hold(each, names) for each in fields.rows(name, ("holder", "since_s", "count")))


def _hold(row: Fields, names: Mapping[str, tuple[str, str]]) -> Hold:
    holder = row.text("holder")
    name, place = names.get(holder, ("", ""))
    return Hold(holder=holder, since_s=row.whole("since_s"), count=row.whole("count"), name=name, place=place)


# Memory of the queues: the time before which all messages have left both queues.
#
# SQS reports the age of the oldest message that was received fewer than three times. SQS reports no age of messages
# that were received more often, or that are dead letters. So the watch remembers what it knew before a message became
# invisible to that metric. That holds until the message can have become visible again.
#
# | item                | pk            | sk                              | written by   |
# |---------------------|---------------|---------------------------------|--------------|
# | queue memory        | `W#queues`    | `W`                             | watch        |
# | held message        | `W#held`      | moment of the note, message id  | aggregator   |


QUEUES_KEY = Key(f"{NOTE}queues", "W")
HELD_PK = f"{NOTE}held"
# A message with this receive count is noted before it is processed, because the queue's age now ignores it.
HELD_FROM_RECEIVE = 3
# A note matters until its message is received again or dies. The visibility timeout is at most 12 hours (SQS quotas).
HELD_LIFE_S = 2 * DAY_S
# The watch measures once a minute. A measurement late by less than this does not count as missed.
_LOOKS_APART_S = 2 * MINUTE_S


def _message_id(fields: Fields, _: str) -> str:
    return fields.after("sk", f"{rfc3339(fields.whole('noted_s'))}#")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldMessage(StoredItem):
    """Message received three times or more, noted when a worker starts to process it.

    Attributes:
        sent_s: Its SentTimestamp, epoch seconds.
    """

    message_id: Annotated[str, Form(_message_id, None)]
    sent_s: int
    noted_s: int

    @property
    def key(self) -> Key:
        return Key(HELD_PK, f"{rfc3339(self.noted_s)}#{self.message_id}")

    def to_item(self) -> dict[str, Value]:
        return item_of(self) | {"expires_at": self.noted_s + HELD_LIFE_S}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLook:
    """Result of one look at the queues.

    Attributes:
        left_s: All messages sent before this time have left the ingest queue, except those missing from its age metric.
        empty: The ingest queue held no message, hidden ones included.
        ended_s: End of the look at the dead-letter queue. Messages that have left it had been put back by then.
        held_s: SentTimestamp of the oldest noted message that may still be in the queue; None if there is none.
        unseen: Whether there are messages of unknown SentTimestamp: dead letters, or too many notes to read.
    """

    now_s: int
    left_s: int
    empty: bool
    ended_s: int
    held_s: int | None = None
    unseen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMemory(StoredItem):
    """Results of the watch's earlier looks at the queues.

    Attributes:
        began_s: Start of the window of `least_s`.
        least_s: Minimum of `left_s` in the current window.
        before_s: Minimum of `left_s` in the previous window.
        decided_s: All messages sent before this time had left the ingest queue at the last look.
        floor_s: Bound for dead letters: they were in the ingest queue when `decided_s` was this, or were sent later.
        unseen: Whether there were unseen messages at the last look.
        unseen_s: Time when unseen messages were last there, or first found gone. All of them had been put back by then.
    """

    key: ClassVar[Key] = QUEUES_KEY
    looked_s: int
    began_s: int
    least_s: int
    before_s: int
    decided_s: int
    floor_s: int
    unseen: bool
    unseen_s: int

    @classmethod
    def first(cls, look: QueueLook) -> QueueMemory:
        """Memory of the first look. Messages out of sight may then have any age."""
        decided_s = _least(look.left_s, look.held_s)
        return cls(
            looked_s=look.now_s,
            began_s=look.now_s,
            least_s=look.left_s,
            before_s=look.left_s,
            decided_s=decided_s,
            floor_s=0 if look.unseen else decided_s,
            unseen=look.unseen,
            unseen_s=look.ended_s if look.unseen else 0,
        )

    @property
    def calm(self) -> bool:
        """Whether no message is out of sight, and all messages that were put back have left the queue again."""
        return not self.unseen and self.decided_s >= self.unseen_s

    def after(self, look: QueueLook, *, blind_s: int) -> QueueMemory:
        """Add one more look.

        Args:
            look: Result of the look.
            blind_s: How long a message stays in the ingest queue after the queue's age metric leaves it out.
        """
        # Time without a measurement does not count.
        began_s = self.began_s + max(look.now_s - self.looked_s - _LOOKS_APART_S, 0)
        least_s, before_s = min(self.least_s, look.left_s), self.before_s
        if look.empty:
            began_s, least_s, before_s = look.now_s, look.left_s, look.left_s
        elif look.now_s - began_s >= blind_s:
            began_s, least_s, before_s = look.now_s, look.left_s, least_s
        decided_s = _least(min(least_s, before_s), look.held_s)
        unseen_s = look.ended_s if look.unseen or self.unseen else self.unseen_s
        calm = not look.unseen and decided_s >= unseen_s
        return QueueMemory(
            looked_s=look.now_s,
            began_s=began_s,
            least_s=least_s,
            before_s=before_s,
            decided_s=decided_s,
            # The previous measurement's value is used, because a dead letter appears with a delay.
            floor_s=min(self.decided_s, decided_s) if calm else self.floor_s,
            unseen=look.unseen,
            unseen_s=unseen_s,
        )

    @property
    def left_s(self) -> int:
        """All messages sent before this time have left the ingest queue, except noted ones."""
        return min(self.least_s, self.before_s)

    def unseen_since_s(self, *, longest_life_s: int) -> int:
        """Time before which no message out of sight was sent. A message lives for `longest_life_s` at most."""
        return max(self.floor_s, self.looked_s - longest_life_s)


def _least(value_s: int, other_s: int | None) -> int:
    return value_s if other_s is None else min(value_s, other_s)
