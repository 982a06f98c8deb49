"""The usage table changed by hand, as nobody should: for tests of what notices it, and of what repairs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.ledger.usage_items import usage_add, usage_entries, usage_key
from metering.stores.writes import Table, Update
from metering.usage.totals import Total

if TYPE_CHECKING:
    from metering.adapters.memory.items import MemoryItemStore
    from metering.ledger.usage_items import UsageEntry


def usage_of(items: MemoryItemStore, month: str = "") -> list[UsageEntry]:
    """What the table counts in a month, or at all, hour by hour."""
    table = items.everything(Table.USAGE)
    return [entry for item in table if str(item["pk"]).endswith(month) for entry in usage_entries(item)]


def change(items: MemoryItemStore, entry: UsageEntry, size: int, records: int = 0) -> None:
    """Add to what an item counts of an hour."""
    add = usage_add({entry.key.hour_s: Total(size, records)})
    items.update(Update(table=Table.USAGE, key=usage_key(entry.key, entry.suffix), add=add))


def lose(items: MemoryItemStore, entry: UsageEntry) -> None:
    """Remove the whole item, with all hours of its day."""
    items.remove(Table.USAGE, usage_key(entry.key, entry.suffix))
