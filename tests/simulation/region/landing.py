"""How others see a transaction: its items change one after the other while it is applied (P2)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from metering.stores.writes import Check, Key

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator, Sequence

    from metering.stores.writes import Action, Delete, Item, Put, Table, Update
    from tests.simulation.region.scheduler import Scheduler
    from tests.support.memory.items import MemoryItemStore

# Share of transactions that become visible gradually, and the longest delay of the first item.
_SHARE = 0.3
_LONGEST_MS = 60


class _Before(NamedTuple):
    """Old version of an item that readers see until the transaction reaches it."""

    item: Item | None
    until_ms: int


class Landing:
    """Transactions that are being applied. The store already has them whole."""

    def __init__(self, store: MemoryItemStore, scheduler: Scheduler, chance: random.Random) -> None:
        self._store = store
        self._scheduler = scheduler
        self._chance = chance
        self._before: dict[tuple[Table, Key], _Before] = {}

    @contextmanager
    def of(self, actions: Sequence[Action]) -> Iterator[None]:
        """Apply a transaction within the block; readers then see the earlier state for a while."""
        if len(actions) == 1 or self._chance.random() >= _SHARE:
            yield
            return
        written = [action for action in actions if not isinstance(action, Check)]
        before = [self.item(each.table, each.key, self._store.peek(each.table, each.key)) for each in written]
        yield
        now_ms = self._scheduler.now_ms
        for action, item in zip(written, before, strict=True):
            until_ms = now_ms + int(self._chance.random() * _LONGEST_MS)
            self._before[action.table, action.key] = _Before(item, until_ms)

    def wait_for(self, actions: Sequence[Action], wait: Callable[[int], None]) -> None:
        """Wait until a transaction is entirely visible."""
        until_ms = max((b.until_ms for a in actions if (b := self._before.get((a.table, a.key)))), default=0)
        if until_ms > self._scheduler.now_ms:
            wait(until_ms - self._scheduler.now_ms)

    def written(self, action: Put | Update | Delete) -> None:
        """After a later write of an item, the state before the transaction is never seen again."""
        self._before.pop((action.table, action.key), None)

    def item(self, table: Table, key: Key, item: Item | None) -> Item | None:
        """An item as it is visible now, if its final state is `item`."""
        before = self._before.get((table, key))
        if before is None:
            return item
        if before.until_ms <= self._scheduler.now_ms:
            del self._before[table, key]
            return item
        return before.item

    def seen(
        self, table: Table, items: Iterator[Item], belongs: Callable[[Key], bool], descending: bool
    ) -> Iterator[Item]:
        """Items of a query as they are visible, each at the time of its read."""
        last: Key | None = None
        while True:
            item = next(items, None)
            key = None if item is None else Key(str(item["pk"]), str(item["sk"]))
            # Items that the transaction deletes are still visible until then.
            for gone in self._gone(table, last, key, belongs, descending):
                seen = self.item(table, gone, None)
                if seen is not None:
                    yield seen
            if item is None or key is None:
                return
            seen = self.item(table, key, item)
            if seen is not None:
                yield seen
            last = key

    def _gone(
        self, table: Table, after: Key | None, before: Key | None, belongs: Callable[[Key], bool], descending: bool
    ) -> list[Key]:
        low, high = (before, after) if descending else (after, before)
        keys = [
            key
            for its_table, key in self._before
            if its_table is table
            and belongs(key)
            and (low is None or low.sk < key.sk)
            and (high is None or key.sk < high.sk)
            and self._store.peek(table, key) is None
        ]
        return sorted(keys, reverse=descending)
