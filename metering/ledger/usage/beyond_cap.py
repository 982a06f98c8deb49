"""Accounts with kinds of usage beyond the cap of numbers: `W#kinds`, `<account>`. An alarm looks at them (P45)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.ledger import partitions
from metering.stores.fields import Fields
from metering.stores.writes import Key
from metering.units import DAY_S

if TYPE_CHECKING:
    from metering.stores.writes import Item, Value

BEYOND_CAP_PK = f"{partitions.NOTE}kinds"
# A note outlives what an alarm looks at, and no account is noted for ever.
_LIFE_S = 2 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class KindsBeyondCap:
    """What the roll-up last booked for an account without numbers.

    Attributes:
        kinds: Kinds without a number in one run.
        example: One of them, as `<usage type>#<service>#<from>#<to>`.
        seen_s: When that was, epoch seconds.
    """

    account_id: str
    kinds: int
    example: str
    seen_s: int

    @property
    def key(self) -> Key:
        return Key(BEYOND_CAP_PK, self.account_id)

    def to_item(self) -> dict[str, Value]:
        return {
            **self.key._asdict(),
            "kinds": self.kinds,
            "example": self.example,
            "seen_s": self.seen_s,
            "expires_at": self.seen_s + _LIFE_S,
        }

    @classmethod
    def from_item(cls, item: Item) -> KindsBeyondCap:
        fields = Fields.of_item(item)
        made = cls(
            account_id=fields.text("sk"),
            kinds=fields.whole("kinds"),
            example=fields.text("example"),
            seen_s=fields.whole("seen_s"),
        )
        fields.check_key(made.key)
        return made
