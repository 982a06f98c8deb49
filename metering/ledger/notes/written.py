"""Lines in S3 about items that nothing else brings back: tokens, producers, budgets, alerts, deeds, rulings, regions.

Each write of such an item first puts a line with the whole item: `notes/<partition>/<sort key>/<time>-<random>.json`.
So every such item of a ledger has a line, and a command that fails at the line has changed nothing. The line of a write
that then fails is harmless: its caller got an error, and repeats the write.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from metering.errors import ObjectDamagedError
from metering.ledger.partitions import NOTE, REGIONS, TOKENS
from metering.stores.clock import side_by_side
from metering.stores.objects import NOTES_PREFIX, ObjectInfo, ObjectStore, note_key
from metering.stores.writes import Check, Delete, Item, ItemStore, Put, Table, Update, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from metering.stores.clock import Clock, Entropy
    from metering.stores.writes import Action, Key

# Partitions whose items are written down; `W#deed-` begins the names of several.
WRITTEN_DOWN = (
    f"{TOKENS}tokens",
    f"{NOTE}producers",
    f"{NOTE}budgets",
    f"{NOTE}budget-alerts",
    f"{NOTE}reports",
    f"{NOTE}ruling",
    f"{NOTE}log-ruling",
    REGIONS,
)
DEEDS = f"{NOTE}deed-"
_REMOVED = "removed"


def is_written_down(pk: str) -> bool:
    """Whether each write of an item of this partition also puts a line."""
    return pk in WRITTEN_DOWN or pk.startswith(DEEDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class WritingDown:
    """An `ItemStore` that puts a line before it writes an item of such a partition. No other write calls S3.

    Attributes:
        objects: Returns the region's data bucket.
    """

    items: ItemStore
    objects: Callable[[], ObjectStore]
    clock: Clock
    entropy: Entropy

    def get(self, table: Table, key: Key) -> Item | None:
        return self.items.get(table, key)

    def get_many(self, table: Table, keys: Sequence[Key]) -> dict[Key, Item]:
        return self.items.get_many(table, keys)

    def query(
        self, table: Table, pk: str, *, sk_from: str = "", sk_to: str = "\U0010ffff", descending: bool = False
    ) -> Iterator[Item]:
        return self.items.query(table, pk, sk_from=sk_from, sk_to=sk_to, descending=descending)

    def scan(self, table: Table, *, part: int = 0, parts: int = 1, prefixes: Sequence[str] = ()) -> Iterator[Item]:
        return self.items.scan(table, part=part, parts=parts, prefixes=prefixes)

    def put(self, action: Put) -> None:
        self._write_down(action)
        self.items.put(action)

    def update(self, action: Update) -> Item:
        self._write_down(action)
        return self.items.update(action)

    def delete(self, action: Delete) -> None:
        self._write_down(action)
        self.items.delete(action)

    def transact(self, actions: Sequence[Action]) -> None:
        for action in actions:
            self._write_down(action)
        self.items.transact(actions)

    def _write_down(self, action: Action) -> None:
        key = action.key
        if not is_written_down(key.pk) or isinstance(action, Check):
            return
        if isinstance(action, Update):
            raise TypeError(f"{key.pk} / {key.sk} is put whole, because its line has the whole item")
        line: Item = action.item if isinstance(action, Put) else {**key._asdict(), _REMOVED: True}
        name = note_key(key.pk, key.sk, self.clock.now_ms(), self.entropy.token())
        self.objects().put(name, json.dumps(line, ensure_ascii=False).encode(), if_absent=True)


def newest_lines(objects: ObjectStore, *, threads: int) -> Iterator[tuple[Key, Item | None]]:
    """Each key with a line, and the item of its newest line; None for a removed item.

    S3's time of a line decides, because a person's computer may have a wrong one; within a second, the name decides.

    Raises:
        ObjectDamagedError: A line cannot be read.
    """
    by_key = groupby(objects.list(NOTES_PREFIX), lambda info: info.key.rpartition("/")[0])
    newest = (max(infos, key=_order) for _, infos in by_key)
    for item in side_by_side(lambda info: _read(objects, info.key), newest, threads=threads):
        yield key_of(item), None if item.get(_REMOVED) is True else item


def _order(info: ObjectInfo) -> tuple[int, str]:
    return info.modified_s, info.key


def _read(objects: ObjectStore, name: str) -> Item:
    try:
        item: Item = json.loads(objects.get(name))
        known = is_written_down(key_of(item).pk)
    except (ValueError, KeyError, TypeError) as error:
        raise ObjectDamagedError(name, repr(error)) from error
    if not known:
        raise ObjectDamagedError(name, f"no line is put about {item['pk']}")
    return item
