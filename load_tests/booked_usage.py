"""Usage items with given totals, as a roll-up writes them, for tests and benchmarks of code that reads usage items."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.ledger.usage.items import usage_add, usage_item_key
from metering.ledger.usage.kinds import kind_items
from metering.stores.writes import ItemStore, Key, Put, Table, Update

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.usage.totals import Total, UsageKey, UsageKind


def book(items: ItemStore, usage: Mapping[UsageKey, Total], *, unnumbered: bool = False) -> None:
    """Write usage items with these totals, and their dictionaries, to empty tables.

    Args:
        items: Ledger and usage table.
        usage: The totals.
        unnumbered: Each kind gets its own item, as kinds above the cap do.
    """
    for put in dictionary_of(usage) if not unnumbered else ():
        items.put(put)
    for update in updates_of(usage, unnumbered=unnumbered):
        items.update(update)


def dictionary_of(usage: Mapping[UsageKey, Total]) -> Iterator[Put]:
    """The dictionary items that assign numbers to each account's kinds."""
    for account_id, numbers in _numbers(usage).items():
        for kind, number in numbers.items():
            for item in kind_items(account_id, number, kind):
                yield Put(table=Table.LEDGER, item=item)


def updates_of(usage: Mapping[UsageKey, Total], *, unnumbered: bool = False) -> Iterator[Update]:
    """One update per usage item."""
    numbers = _numbers(usage)
    adds: dict[Key, dict[int | None, Total]] = {}
    for key, total in usage.items():
        number = None if unnumbered else numbers[key.account_id][key.kind]
        adds.setdefault(usage_item_key(key, number), {})[number] = total
    for item_key, totals in adds.items():
        yield Update(table=Table.USAGE, key=item_key, add=usage_add(totals))


def _numbers(usage: Mapping[UsageKey, Total]) -> dict[str, dict[UsageKind, int]]:
    """Account -> the number of each kind, in order of appearance."""
    numbers: dict[str, dict[UsageKind, int]] = {}
    for key in usage:
        of_account = numbers.setdefault(key.account_id, {})
        of_account.setdefault(key.kind, len(of_account))
    return numbers
