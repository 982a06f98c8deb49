"""The largest number of compaction shards that commits of a region ever went to.

A commit stays in the shard that it was booked in, `P#<shard>`, until a run of that shard has taken it. So a stage with
fewer shards than before still has the old ones, and every listing includes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.stores.fields import Fields
from metering.stores.writes import Key

if TYPE_CHECKING:
    from metering.stores.writes import Item, Value

SHARDS_KEY = Key("S#shards", "S")
# Far more than a stage can have, so that every listing ends.
_MOST_SHARDS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedShards:
    """Number of shards that the ledger remembers. It only grows. Without the item, one shard was used at most."""

    number: int = 1

    def to_item(self) -> dict[str, Value]:
        return {"pk": SHARDS_KEY.pk, "sk": SHARDS_KEY.sk, "number": self.number}

    @classmethod
    def from_item(cls, item: Item | None) -> UsedShards:
        """Decode the item; None stands for an absent one.

        Raises:
            LedgerCorruptError: The item exists without a number of shards, so the shards to list are unknown.
        """
        if item is None:
            return cls()
        fields = Fields.of_item(item)
        number = fields.whole("number", least=1)
        if number > _MOST_SHARDS:
            fields.fail("number", f"a whole number up to {_MOST_SHARDS}")
        return cls(number=number)
