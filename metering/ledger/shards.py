"""Which compaction shards there are: those that the stage names, and those that it named before.

docs/protocol.md, Shards. The number is made durable before the first commit that uses it, and read before pending is
listed. So each commit that was there when a listing began is in a shard that the listing looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError
from metering.ledger.used_shards import SHARDS_KEY, UsedShards
from metering.stores.writes import Absent, Equals, Put, Table

if TYPE_CHECKING:
    from metering.stores.items import ItemStore
    from metering.stores.retrying import Retrier


def known_shards(items: ItemStore, shards: int) -> range:
    """Every shard that a commit may be in, as of now. Asked anew for each listing: another process may add some.

    Args:
        items: The ledger's store.
        shards: The stage's number of shards.

    Raises:
        UnavailableError: The ledger gave no answer.
        LedgerCorruptError: What it remembers is no number.
    """
    return range(max(shards, _used(items)))


class ShardRecord:
    """Makes a worker's number of shards known before its first commit, once in its life."""

    def __init__(self, *, items: ItemStore, retrier: Retrier, shards: int) -> None:
        self._items = items
        self._retrier = retrier
        self._shards = shards
        # Everybody lists one shard, so one is nothing to remember.
        self._known = shards == 1

    def ensure(self) -> None:
        """Returns once the ledger remembers this many shards, or more.

        Raises:
            UnavailableError: It is not known whether it does; nothing may be committed.
            LedgerCorruptError: What it remembers is no number.
        """
        while not self._known:
            self._known = self._retrier.call(self._remember)

    def _remember(self) -> bool:
        """One look, and one write if it is needed; False if another process wrote in between.

        The write rests on what was read, so one that lands late never lowers the number.
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
            # Its own earlier write whose reply was lost, or another worker's.
            return False
        return True


def _used(items: ItemStore) -> int:
    return UsedShards.from_item(items.get(Table.LEDGER, SHARDS_KEY)).number
