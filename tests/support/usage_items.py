"""Access to the usage table for checkers: reads without store calls, and manual writes (forbidden elsewhere)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.ledger.usage.items import UsageItem, is_counted, is_region_item, is_usage_item, usage_add, usage_item_key
from metering.ledger.usage.kinds import number_key
from metering.stores.writes import Key, Put, Table, Update
from metering.usage.totals import Service, Total, UsageKey, UsageKind, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.stores.writes import Item, Value
    from tests.support.memory.items import MemoryItemStore


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEntry:
    """The table's count of one usage key.

    Attributes:
        number: Number of the usage kind; None if the kind has no number.
        item_key: Key of the key's usage item, which has up to 63 other kinds of the account and hour.
        revision: Of that item.
        runs: By shard, number of the newest run in that item.
    """

    key: UsageKey
    total: Total
    number: int | None
    item_key: Key
    revision: int | None
    runs: dict[int, int]


def usage_of(items: MemoryItemStore, month: str = "") -> list[UsageEntry]:
    """All entries of the usage table, or of one month, in no particular order."""
    table = list(filter(is_usage_item, items.everything(Table.USAGE)))
    return [entry for item in table if str(item["pk"]).endswith(month) for entry in _entries(items, item)]


def region_of(items: MemoryItemStore) -> list[UsageEntry]:
    """All entries of the region's totals, in no particular order."""
    table = list(filter(is_region_item, items.everything(Table.USAGE)))
    return [entry for item in table for entry in _entries(items, item)]


def change(items: MemoryItemStore, entry: UsageEntry, size: int, records: int = 0) -> None:
    """Add to the totals of an entry in the entry's usage item."""
    add = usage_add({entry.number: Total(size, records)})
    items.update(Update(table=Table.USAGE, key=entry.item_key, add=add))


def elsewhere(entry: UsageEntry, **changed: str | int) -> UsageEntry:
    """An entry of the same usage kind in another account or hour, without a number, in a separate item."""
    key = entry.key._replace(**changed)  # type: ignore[arg-type]  # names of a usage key
    return replace(entry, key=key, number=None, item_key=usage_item_key(key, None))


def write_by_hand(items: MemoryItemStore, key: Key, attributes: Mapping[str, Value]) -> None:
    """Overwrite attributes of any item; the revision stays unless overwritten."""
    found = items.peek(Table.USAGE, key) or {}
    items.put(Put(table=Table.USAGE, item={**found, **key._asdict(), **attributes}))


def tear(items: MemoryItemStore, key: Key, *names: str) -> None:
    """Remove attributes from an item; its revision changes only if it is among them."""
    found = items.peek(Table.USAGE, key) or {}
    items.put(Put(table=Table.USAGE, item={name: value for name, value in found.items() if name not in names}))


def lose(items: MemoryItemStore, entry: UsageEntry) -> None:
    """Remove the whole item, with all kinds of its account, hour and bucket."""
    items.remove(Table.USAGE, entry.item_key)


def _entries(items: MemoryItemStore, item: Item) -> Iterator[UsageEntry]:
    read = UsageItem.as_found(item)
    for place, total in read.totals.items():
        if not is_counted(total):
            continue
        kind = place if isinstance(place, UsageKind) else _kind(items, read.account_id, place)
        yield UsageEntry(
            key=read.usage_key(kind),
            total=total,
            number=None if isinstance(place, UsageKind) else place,
            item_key=read.key,
            revision=read.revision,
            runs=dict(read.runs),
        )


def _kind(items: MemoryItemStore, account_id: str, number: int) -> UsageKind:
    name = items.peek(Table.LEDGER, number_key(account_id, number))
    assert name is not None, f"account {account_id} has no kind {number}"
    return UsageKind(
        UsageType(str(name["usage_type"])), Service(str(name["service"])), str(name["from"]), str(name["to"])
    )
