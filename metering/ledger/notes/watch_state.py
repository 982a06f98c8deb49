"""State that the watch keeps from one invocation to the next: `W#watch`, `W`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from metering.stores.writes import Item, Value


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
