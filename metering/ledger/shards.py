"""Compaction shards: the stage's current and earlier ones (docs/protocol.md, Shards).

A commit stays in its shard, `P#<shard>`, until a run of the shard has taken it. So a stage with fewer shards than
before still lists the old ones. The largest number is made durable before the first commit that uses it, and read
before pending commits are listed, so no listing misses a shard.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from metering.errors import ConditionFailedError
from metering.stores.codec import FromOne, StoredItem, struct_of
from metering.stores.fields import Fields
from metering.stores.writes import Absent, Equals, Item, Key, Put, Table

if TYPE_CHECKING:
    from metering.stores.clock import Retrier
    from metering.stores.items import ItemStore

SHARDS_KEY = Key("S#shards", "S")
# Far more than a stage can have, so that every listing terminates.
_MOST_SHARDS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedShards(StoredItem):
    """Number of shards that the ledger remembers. It only grows. Without this item, at most one shard was used."""

    key: ClassVar[Key] = SHARDS_KEY
    number: FromOne = 1

    @classmethod
    def from_item(cls, item: Item | None) -> UsedShards:
        """Decode the item; None stands for an absent one.

        Raises:
            LedgerCorruptError: The item exists without a number of shards, so the shards to list are unknown.
        """
        made = cls() if item is None else struct_of(cls, item)
        if item is not None and made.number > _MOST_SHARDS:
            Fields.of_item(item).fail("number", f"a whole number up to {_MOST_SHARDS}")
        return made


def known_shards(items: ItemStore, shards: int) -> range:
    """Every shard that may have commits now. Ask again for each listing, because another process may add shards.

    Raises:
        LedgerCorruptError: The stored number cannot be read.
    """
    return range(max(shards, _used(items)))


def shards_of(items: ItemStore, shards: int, shard: int | None) -> tuple[int, ...]:
    """Shards on which one invocation of a job works.

    Args:
        items: The ledger's store.
        shards: The stage's number of shards.
        shard: The invocation's shard, among the stage's current ones; None for an invocation that works on all.

    Returns:
        All shards that may have commits; or the invocation's own. The invocation for shard 0 also has the shards of the
        stage's past that no longer have their own invocation (P42).

    Raises:
        LedgerCorruptError: The stored number cannot be read.
    """
    if shard is None:
        return tuple(known_shards(items, shards))
    left = known_shards(items, shards)[shards:] if shard == 0 else ()
    return (shard, *left)


class ShardRecord:
    """Makes a worker's number of shards durable before its first commit, once in its life.

    This is a plain class, because it remembers that the ledger has the number.
    """

    def __init__(self, *, items: ItemStore, retrier: Retrier, shards: int) -> None:
        self._items = items
        self._retrier = retrier
        self._shards = shards
        # Every listing has at least one shard, so a single shard need not be remembered.
        self._known = shards == 1

    def ensure(self) -> None:
        """Returns once the ledger remembers this many shards, or more.

        Raises:
            UnavailableError: It is unknown whether the ledger remembers them, so nothing may be committed.
            LedgerCorruptError: The stored number cannot be read.
        """
        while not self._known:
            self._known = self._retrier.call(self._remember)

    def _remember(self) -> bool:
        """Read the number, and write it if necessary. Returns False if another process wrote in between.

        The write is conditional on the number that was read, so a late write never lowers it.
        """
        item = self._items.get(Table.LEDGER, SHARDS_KEY)
        used = UsedShards.from_item(item).number
        if used >= self._shards:
            return True
        condition = Absent() if item is None else Equals(attribute="number", value=used)
        put = Put(table=Table.LEDGER, item=UsedShards(number=self._shards).to_item(), condition=condition)
        try:
            self._items.put(put)
        except ConditionFailedError:
            # The number was changed by another worker, or by an earlier write of this one whose reply was lost.
            return False
        return True


def _used(items: ItemStore) -> int:
    return UsedShards.from_item(items.get(Table.LEDGER, SHARDS_KEY)).number
