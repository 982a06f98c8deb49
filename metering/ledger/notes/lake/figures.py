"""What the compactor found pending when it last looked, for the watch: `W#lake`, `<shard>`.

The compactor lists what is pending anyway. The watch looks each minute, and reads this note instead of the list.
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

LAKE_FIGURES_PK = f"{NOTE}lake"


@dataclass(frozen=True, slots=True, kw_only=True)
class LakeFigures:
    """What is pending in one shard.

    Attributes:
        listed_s: When the list was read, epoch seconds.
        commits: Commits with hours that no run has taken.
        hours: Those hours, each once.
        oldest_ms: When the oldest of these commits was made; None without any.
    """

    shard: int
    listed_s: int
    commits: int = 0
    hours: int = 0
    oldest_ms: int | None = None

    def keep(self, items: ItemStore) -> None:
        """Store the note. Two compactors of one shard may overwrite each other: both just looked."""
        items.put(Put(table=Table.LEDGER, item=self.to_item()))

    def to_item(self) -> dict[str, Value]:
        oldest: dict[str, Value] = {} if self.oldest_ms is None else {"oldest_ms": self.oldest_ms}
        return {
            **Key(LAKE_FIGURES_PK, str(self.shard))._asdict(),
            "listed_s": self.listed_s,
            "commits": self.commits,
            "hours": self.hours,
            **oldest,
        }

    @classmethod
    def from_item(cls, item: Item) -> LakeFigures:
        fields = Fields.of_item(item)
        return cls(
            shard=fields.number_after("sk", ""),
            listed_s=fields.whole("listed_s"),
            commits=fields.whole("commits"),
            hours=fields.whole("hours"),
            oldest_ms=fields.whole("oldest_ms", absent=None),
        )


def lake_figures(items: ItemStore) -> dict[int, LakeFigures]:
    """The notes of all shards."""
    found = map(LakeFigures.from_item, items.query(Table.LEDGER, LAKE_FIGURES_PK))
    return {figures.shard: figures for figures in found}
