"""What the cleaners found to be overdue when they last looked, for the watch: `W#cleaning`, `<chain>`.

One cleaner cleans behind the lake's chain of a shard, another one behind that of its roll-up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.ledger.partitions import NOTE
from metering.stores.fields import Fields
from metering.stores.writes import Key, Put, Table

if TYPE_CHECKING:
    from metering.stores.items import ItemStore
    from metering.stores.writes import Item, Value

CLEANING_PK = f"{NOTE}cleaning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaning:
    """What is left to clean behind one chain.

    Attributes:
        chain: Name of the chain.
        looked_s: When the cleaner ended, epoch seconds.
        due_ms: When the oldest run that it left was due to be cleaned; None if it left none that was.
    """

    chain: str
    looked_s: int
    due_ms: int | None = None

    def keep(self, items: ItemStore) -> None:
        """Store the note. Two cleaners of one chain may overwrite each other: both just looked."""
        items.put(Put(table=Table.LEDGER, item=self.to_item()))

    def to_item(self) -> dict[str, Value]:
        due: dict[str, Value] = {} if self.due_ms is None else {"due_ms": self.due_ms}
        return {**Key(CLEANING_PK, self.chain)._asdict(), "looked_s": self.looked_s, **due}

    @classmethod
    def from_item(cls, item: Item) -> Cleaning:
        fields = Fields.of_item(item)
        return cls(
            chain=fields.text("sk"),
            looked_s=fields.whole("looked_s"),
            due_ms=fields.whole("due_ms", absent=None),
        )


def cleanings(items: ItemStore) -> dict[str, Cleaning]:
    """The notes of all chains."""
    found = map(Cleaning.from_item, items.query(Table.LEDGER, CLEANING_PK))
    return {cleaning.chain: cleaning for cleaning in found}
