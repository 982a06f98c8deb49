"""Notes of the watch function: figures, state between invocations, completeness, and earlier results about queues."""

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
    """Figures that the watch function measured in one run.

    Attributes:
        figures: Value by metric name; a figure that could not be measured is absent.
    """

    key: ClassVar[Key] = FIGURES_KEY
    measured_s: int
    figures: Mapping[str, DecimalText] = field(default_factory=dict)


WATCH_KEY = Key(f"{NOTE}watch", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchState(StoredItem):
    """State that the watch function keeps between invocations.

    Attributes:
        first_s: Time of the watch function's first invocation. Ages of events that never happened start then.
        queue_empty_s: Time when the ingest queue was last found empty; 0 if never.
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
    """A cause that holds back completeness.

    Attributes:
        holder: A `Holder`, or a cause that only a later version defines.
        since_s: Time before which everything sent is counted despite this cause, epoch seconds. 0: unknown.
        count: Number of messages, commits or sources; 0 if unknown.
        name: Name of the first message, commit or source, if it has a name.
        place: Where to find the missing files, `s3://bucket/prefix`; empty if unknown.
    """

    holder: str
    since_s: int
    count: int = 0
    name: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness(StoredItem):
    """Completeness of the count, as last measured by the watch function.

    Attributes:
        through_s: Every batch sent before this time is counted, epoch seconds. This remains true later.
        held_by: All causes that held completeness back, earliest first. Empty if nothing did.
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
    # Versions without log sources expect three values per row, so names and places are in other attributes.
    return [[hold.holder, hold.since_s, hold.count] for hold in held_by]


def _held_by(fields: Fields, name: str) -> tuple[Hold, ...]:
    rows = fields.rows("held_names", ("holder", "name", "place")) if "held_names" in fields else ()
    names = {row.text("holder"): (row.text("name"), row.any_text("place")) for row in rows}
    return tuple(_hold(each, names) for each in fields.rows(name, ("holder", "since_s", "count")))


def _hold(row: Fields, names: Mapping[str, tuple[str, str]]) -> Hold:
    holder = row.text("holder")
    name, place = names.get(holder, ("", ""))
    return Hold(holder=holder, since_s=row.whole("since_s"), count=row.whole("count"), name=name, place=place)


# What the watch stores about the queues: the time before which all messages have left both queues.
#
# SQS reports the age of the oldest message that was received fewer than three times. For messages that were received
# more often, and for dead letters, SQS reports no age. So the watch stores what it knew before such a message
# disappeared from that metric. This stored time stays valid until the message can be visible again.
#
# | item                | pk            | sk                              | written by   |
# |---------------------|---------------|---------------------------------|--------------|
# | queue memory        | `W#queues`    | `W`                             | watch        |
# | held message        | `W#held`      | moment of the note, message id  | aggregator   |


QUEUES_KEY = Key(f"{NOTE}queues", "W")
HELD_PK = f"{NOTE}held"
# At this receive count, a message is noted before processing, because the queue's age metric ignores it from now on.
HELD_FROM_RECEIVE = 3
# A note is needed until its message is received again or dies. The visibility timeout is at most 12 hours (SQS quotas).
HELD_LIFE_S = 2 * DAY_S
# The watch measures once a minute. A delay shorter than this does not count as a missed measurement.
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
    """Result of one check of the queues.

    Attributes:
        left_s: All messages sent before this time have left the ingest queue, except those that its age metric omits.
        empty: Whether the ingest queue had no messages, neither visible nor hidden.
        ended_s: Time when the dead-letter queue was read. Messages missing from that queue had been redriven by then.
        held_s: SentTimestamp of the oldest noted message that may still be in the queue; None without such a message.
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
    """Results of the watch function's earlier checks of the queues.

    Attributes:
        began_s: Start of the window of `least_s`.
        least_s: Minimum of `left_s` in the current window.
        before_s: Minimum of `left_s` in the previous window.
        decided_s: All messages sent before this time had left the ingest queue at the last check.
        floor_s: Bound for dead letters: each was in the ingest queue when `decided_s` was this, or was sent later.
        unseen: Whether there were messages of unknown SentTimestamp at the last check.
        unseen_s: Time when such messages last existed, or were first found gone. All were redriven by then.
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
        """State after the first check. Messages of unknown SentTimestamp may then have any age."""
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
        """Whether every SentTimestamp is known, and all redriven messages have left the queue again."""
        return not self.unseen and self.decided_s >= self.unseen_s

    def after(self, look: QueueLook, *, blind_s: int) -> QueueMemory:
        """Add one more look.

        Args:
            look: Result of the look.
            blind_s: Maximum time that a message stays in the ingest queue after the queue's age metric omits it.
        """
        # Periods without measurements do not count.
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
            # The value of the previous measurement is used, because a dead letter appears with a delay.
            floor_s=min(self.decided_s, decided_s) if calm else self.floor_s,
            unseen=look.unseen,
            unseen_s=unseen_s,
        )

    @property
    def left_s(self) -> int:
        """All messages sent before this time have left the ingest queue, except noted messages."""
        return min(self.least_s, self.before_s)

    def unseen_since_s(self, *, longest_life_s: int) -> int:
        """Lower bound of unknown SentTimestamps. Messages expire after `longest_life_s` at most."""
        return max(self.floor_s, self.looked_s - longest_life_s)


def _least(value_s: int, other_s: int | None) -> int:
    return value_s if other_s is None else min(value_s, other_s)
