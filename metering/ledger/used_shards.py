"""The largest number of compaction shards that commits of a region ever went to.

A commit stays in the shard that it was booked in, `P#<shard>`, until a run of that shard has taken it. So a stage with
fewer shards than before still has the old ones, and whoever lists shards lists those as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from metering.stores.writes import Item, Value

SHARDS_KEY = Key("S#shards", "S")
# Far more than a stage can have: whoever lists shards comes to an end.
_MOST_SHARDS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedShards:
    """What the ledger remembers. It only ever grows. Without the item, no more than one shard was used."""

    number: int = 1

    def to_item(self) -> dict[str, Value]:
        return {"pk": SHARDS_KEY.pk, "sk": SHARDS_KEY.sk, "number": self.number}

    @classmethod
    def from_item(cls, item: Item | None) -> UsedShards:
        """The item as it was read.

        Raises:
            LedgerCorruptError: It is there and holds no number of shards: nobody knows what to list.
        """
        if item is None:
            return cls()
        fields = Fields.of_item(item)
        number = fields.whole("number", least=1)
        if number > _MOST_SHARDS:
            fields.fail("number", f"a whole number up to {_MOST_SHARDS}")
        return cls(number=number)
