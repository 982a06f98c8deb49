"""How far the search for orphans has come: `W#orphans`, `W`. Safety does not depend on it (P32)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from metering.stores.writes import Item, Value


ORPHANS_KEY = Key(f"{NOTE}orphans", "W")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanPasses:
    """What the passes over staging and quarantine have judged.

    Attributes:
        seen_to_s: Objects that were written up to this time were judged once, epoch seconds. One that lands behind it
            is found by the next whole pass.
        whole_s: When the last whole pass began that came to its end.
        began_s: When the whole pass began that was cut short; 0 if none was.
        after: The last key that it judged.
    """

    seen_to_s: int = 0
    whole_s: int = 0
    began_s: int = 0
    after: str = ""

    def to_item(self) -> dict[str, Value]:
        return {
            **ORPHANS_KEY._asdict(),
            "seen_to_s": self.seen_to_s,
            "whole_s": self.whole_s,
            "began_s": self.began_s,
            "after": self.after,
        }

    @classmethod
    def from_item(cls, item: Item) -> OrphanPasses:
        fields = Fields.of_item(item)
        return cls(
            seen_to_s=fields.whole("seen_to_s"),
            whole_s=fields.whole("whole_s"),
            began_s=fields.whole("began_s"),
            after=fields.any_text("after"),
        )
