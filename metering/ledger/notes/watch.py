"""Notes of the watch: its figures, its state from one invocation to the next, and completeness, the queues' memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Item, Key, Value
from metering.units import DAY_S, MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Mapping


FIGURES_KEY = Key(f"{NOTE}figures", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchFigures:
    """Figures that the watch measured in one run.

    Attributes:
        measured_s: Time of the run, epoch seconds.
        figures: Value by metric name; a figure that could not be measured is not there.
    """

    measured_s: int
    figures: Mapping[str, int] = field(default_factory=dict)

    def to_item(self) -> dict[str, Value]:
        # As text, because a figure may be negative: a margin that is not there.
        figures: dict[str, Value] = {name: str(value) for name, value in sorted(self.figures.items())}
        return {**FIGURES_KEY._asdict(), "measured_s": self.measured_s, "figures": figures}

    @classmethod
    def from_item(cls, item: Item) -> WatchFigures:
        fields = Fields.of_item(item)
        figures = fields.nested("figures")
        return cls(
            measured_s=fields.whole("measured_s"),
            figures={name: figures.decimal(name) for name in figures},
        )


WATCH_KEY = Key(f"{NOTE}watch", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchState:
    """State that the watch keeps from one invocation to the next.

    Attributes:
        first_s: Time of its first invocation. Ages of events that never happened count from then.
        queue_empty_s: Time when it last saw the ingest queue empty; 0 if it never did.
    """

    first_s: int
    queue_empty_s: int

    def to_item(self) -> dict[str, Value]:
        return {**WATCH_KEY._asdict(), "first_s": self.first_s, "queue_empty_s": self.queue_empty_s}

    @classmethod
    def from_item(cls, item: Item) -> WatchState:
        fields = Fields.of_item(item)
        return cls(first_s=fields.whole("first_s"), queue_empty_s=fields.whole("queue_empty_s"))


COMPLETENESS_KEY = Key(f"{NOTE}complete", "W")


class Holder(StrEnum):
    """Kinds of things that hold completeness back."""

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
    """One thing that holds completeness back.

    Attributes:
        holder: A `Holder`, or the word of a later version for one that this version does not know.
        since_s: Everything sent before this time is counted as far as this thing goes, epoch seconds. 0: not known.
        count: Number of messages, commits or sources; 0 if it is not known.
        name: Name of the first of them, if it has one.
        place: Where to get what is missing, `s3://bucket/prefix`; empty if nowhere.
    """

    holder: str
    since_s: int
    count: int = 0
    name: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """Completeness of the count, as the watch last measured it.

    Attributes:
        through_s: Every batch sent before this time is counted, epoch seconds. This stays true, so it may be read late.
        held_by: All that held it back, the earliest first. Empty if nothing did.
        measured_s: Time of the measurement, epoch seconds; None if an earlier version measured it, which did not say.
    """

    through_s: int
    held_by: tuple[Hold, ...] = ()
    measured_s: int | None = None

    def to_item(self) -> dict[str, Value]:
        held_by: list[Value] = [[hold.holder, hold.since_s, hold.count] for hold in self.held_by]
        # Versions that know no log sources take three values a row, so names and places stand beside them.
        names: list[Value] = [[hold.holder, hold.name, hold.place] for hold in self.held_by if hold.name]
        measured: dict[str, Value] = {} if self.measured_s is None else {"measured_s": self.measured_s}
        return {
            **COMPLETENESS_KEY._asdict(),
            "through_s": self.through_s,
            "held_by": held_by,
            **({"held_names": names} if names else {}),
            **measured,
        }

    @classmethod
    def from_item(cls, item: Item) -> Completeness:
        fields = Fields.of_item(item)
        return cls(
            through_s=fields.whole("through_s"),
            held_by=_held_by(fields) if "held_by" in fields else (),
            measured_s=fields.whole("measured_s", absent=None),
        )


def _held_by(fields: Fields) -> tuple[Hold, ...]:
    rows = fields.rows("held_names", ("holder", "name", "place")) if "held_names" in fields else ()
    names = {row.text("holder"): (row.text("name"), row.any_text("place")) for row in rows}
    return tuple(_hold(each, names) for each in fields.rows("held_by", ("holder", "since_s", "count")))


def _hold(row: Fields, names: Mapping[str, tuple[str, str]]) -> Hold:
    holder = row.text("holder")
    name, place = names.get(holder, ("", ""))
    return Hold(holder=holder, since_s=row.whole("since_s"), count=row.whole("count"), name=name, place=place)


# Memory of the queues: the time before which every message has left both queues.
#
# The queue service tells the age of the oldest message that was received less than three times. It tells no age of
# messages that were received more often, or that are dead letters. So the watch remembers what it knew before a message
# went out of sight. That holds until the message can have come back into sight.
#
# | item                | pk            | sk                              | written by   |
# |---------------------|---------------|---------------------------------|--------------|
# | queue memory        | `W#queues`    | `W`                             | watch        |
# | held message        | `W#held`      | moment of the note, message id  | aggregator   |


QUEUES_KEY = Key(f"{NOTE}queues", "W")
HELD_PK = f"{NOTE}held"
# A message that is received this often is noted before it is handled, because the queue's age leaves it out now.
HELD_FROM_RECEIVE = 3
# A note matters until its message is received again or dies. Visibility is 12 hours at most (SQS quotas).
HELD_LIFE_S = 2 * DAY_S
# The watch looks each minute. A look that is late by less than this was not missed.
_LOOKS_APART_S = 2 * MINUTE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldMessage:
    """Message that was received three times or more, noted when a worker began to handle it.

    Attributes:
        sent_s: Its SentTimestamp, epoch seconds.
        noted_s: When it was received, epoch seconds.
    """

    message_id: str
    sent_s: int
    noted_s: int

    @property
    def key(self) -> Key:
        return Key(HELD_PK, f"{rfc3339(self.noted_s)}#{self.message_id}")

    def to_item(self) -> dict[str, Value]:
        return {
            **self.key._asdict(),
            "sent_s": self.sent_s,
            "noted_s": self.noted_s,
            "expires_at": self.noted_s + HELD_LIFE_S,
        }

    @classmethod
    def from_item(cls, item: Item) -> HeldMessage:
        fields = Fields.of_item(item)
        noted_s = fields.whole("noted_s")
        made = cls(
            message_id=fields.after("sk", f"{rfc3339(noted_s)}#"), sent_s=fields.whole("sent_s"), noted_s=noted_s
        )
        fields.check_key(made.key)
        return made


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLook:
    """Result of one look at the queues.

    Attributes:
        left_s: All messages sent before this time have left the ingest queue, except those that it does not show.
        empty: The ingest queue held no message, hidden ones included.
        ended_s: End of the look at the dead-letter queue. Messages that have left that queue were put back by then.
        held_s: Sending time of the oldest noted message that may still be in the queue; None if there is none.
        unseen: Whether there are messages of unknown sending time: dead letters, or too many notes to read.
    """

    now_s: int
    left_s: int
    empty: bool
    ended_s: int
    held_s: int | None = None
    unseen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMemory:
    """Memory of the watch's looks at the queues.

    Attributes:
        looked_s: Time of the last look.
        began_s: Start of the window of `least_s`.
        least_s: Least `left_s` in the current window.
        before_s: Least `left_s` in the window before.
        decided_s: All messages sent before this time had left the ingest queue at the last look.
        floor_s: Bound that dead letters set: they were in the ingest queue when `decided_s` was this, or were sent
            later.
        unseen: Whether there were unseen messages at the last look.
        unseen_s: Time when unseen messages were there last, or first found gone. All of them had been put back by then.
    """

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
        """Memory of the first look. Messages out of sight may have any age then."""
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
            blind_s: How long a message stays in the ingest queue after the queue's age leaves it out.
        """
        # Time without a look does not count.
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
            # The value of the look before, because a dead letter shows with a delay.
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

    def to_item(self) -> dict[str, Value]:
        return {
            **QUEUES_KEY._asdict(),
            "looked_s": self.looked_s,
            "began_s": self.began_s,
            "least_s": self.least_s,
            "before_s": self.before_s,
            "decided_s": self.decided_s,
            "floor_s": self.floor_s,
            "unseen": self.unseen,
            "unseen_s": self.unseen_s,
        }

    @classmethod
    def from_item(cls, item: Item) -> QueueMemory:
        fields = Fields.of_item(item)
        return cls(
            looked_s=fields.whole("looked_s"),
            began_s=fields.whole("began_s"),
            least_s=fields.whole("least_s"),
            before_s=fields.whole("before_s"),
            decided_s=fields.whole("decided_s"),
            floor_s=fields.whole("floor_s"),
            unseen=fields.flag("unseen"),
            unseen_s=fields.whole("unseen_s"),
        )


def _least(value_s: int, other_s: int | None) -> int:
    return value_s if other_s is None else min(value_s, other_s)
