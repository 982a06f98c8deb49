"""Canaries that were sent: `W#canary`, start of the minute."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key
from metering.units import DAY_S

if TYPE_CHECKING:
    from metering.stores.writes import Item, Value


CANARY_PK = f"{NOTE}canary"
# Life of the notes of canaries and of conflicts.
REMEMBERED_S = 7 * DAY_S


class CanaryVerdict(StrEnum):
    """Verdict on a canary batch."""

    SENT = "sent"
    GOOD = "good"
    LATE = "late"
    DOUBLED = "doubled"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRun:
    """One canary batch.

    Attributes:
        slot_s: Start of its minute, epoch seconds; names the batch.
        settled_s: Time of its verdict; 0 while it is `sent`.
    """

    slot_s: int
    sent_s: int
    verdict: CanaryVerdict = CanaryVerdict.SENT
    settled_s: int = 0

    @property
    def key(self) -> Key:
        return canary_key(self.slot_s)

    def to_item(self) -> dict[str, Value]:
        return {
            **self.key._asdict(),
            "slot_s": self.slot_s,
            "sent_s": self.sent_s,
            "verdict": self.verdict.value,
            "settled_s": self.settled_s,
            "expires_at": self.sent_s + REMEMBERED_S,
        }

    @classmethod
    def from_item(cls, item: Item) -> CanaryRun:
        fields = Fields.of_item(item)
        made = cls(
            slot_s=fields.whole("slot_s"),
            sent_s=fields.whole("sent_s"),
            verdict=fields.one_of("verdict", tuple(CanaryVerdict)),
            settled_s=fields.whole("settled_s"),
        )
        fields.check_key(made.key)
        return made


def canary_key(slot_s: int) -> Key:
    """Key of a canary. Keys sort by time."""
    return Key(CANARY_PK, rfc3339(slot_s))
