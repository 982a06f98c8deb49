"""Fills the new usage table with what format 1 counted, an account's month at a time.

An item is a function of the old table as it was read, and its revision is the sum of the old ones. So it can be put
again, and what was read later wins, until a run of the roll-up or a repair has written to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.errors import ConditionFailedError, OperationFailedError
from metering.hours import hour_label
from metering.ledger.notes.canary_batches import of_canary
from metering.ledger.usage.items import REVISION, newest_run_of, usage_add, usage_item_key
from metering.ledger.usage.kinds import KindNumbers
from metering.ledger.usage.reading import UsageReading
from metering.stores.writes import Absent, AllOf, AnyOf, LessThan, Put, Table, key_of
from metering.upgrade.usage_items import usage_before
from metering.usage.totals import ZERO, add_totals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.stores.items import ItemStore
    from metering.stores.retrying import Retrier
    from metering.stores.writes import Condition, Item, Key, Value
    from metering.upgrade.usage_items import OldUsage
    from metering.usage.totals import Kind, Total, UsageKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Filling:
    """Writes the new usage table.

    Attributes:
        kinds_per_account: Most kinds of an account that get a number.
        usage_generation: Generation of the new usage table.
        shards: Shards whose runs may have written to an item.
    """

    items: ItemStore
    retrier: Retrier
    kinds_per_account: int
    usage_generation: int
    shards: range

    def fill(self, account_id: str, month: str) -> dict[int, Total]:
        """Fill an account's month, and compare every total of it; returns its total of each booked hour.

        Raises:
            OperationFailedError: The new table says something else than the old one.
            LedgerCorruptError: An item cannot be read.
            UnavailableError: A table gives no answer; whoever comes next goes on.
        """
        old = self.retrier.call(lambda: usage_before(self.items, account_id, month))
        for item in self._items(account_id, month, old):
            self._put(item)
        expected = {key: counted.total for key, counted in old.items() if counted.total != ZERO}
        found = self.retrier.call(lambda: _by_name(self.items, account_id, month))
        for key in sorted(expected.keys() | found.keys(), key=str):
            if expected.get(key, ZERO) != found.get(key, ZERO):
                raise _different(key, expected.get(key, ZERO), found.get(key, ZERO))
        hours: dict[int, Total] = {}
        for key, total in expected.items():
            add_totals(hours, {key.hour_s: total})
        return hours

    def _items(self, account_id: str, month: str, old: Mapping[UsageKey, OldUsage]) -> list[Item]:
        """The items to be put, with totals of zero, too: a later reading may have found others."""
        reading = UsageReading(self.items)
        there = self.retrier.call(lambda: list(reading.of_month(account_id, month)))
        revised = {item.key: item.revision or 0 for item in there}
        claimed = KindNumbers(
            self.items,
            retrier=self.retrier,
            cap=self.kinds_per_account,
            generation=self.usage_generation,
            names=reading.names,
        )
        # The canary of format 1 had a usage type a minute: they would fill its account's dictionary.
        named = {key.kind for key in old if of_canary(key.usage_type)}
        numbers: dict[Kind, int | None] = dict.fromkeys(named)
        numbers |= claimed.claim(account_id, {key.kind for key in old} - named)
        parts: dict[Key, dict[int | None, Total]] = {}
        revisions: dict[Key, int] = {}
        for key, counted in old.items():
            number = numbers[key.kind]
            place = usage_item_key(key, number)
            parts.setdefault(place, {})[number] = counted.total
            revisions[place] = revisions.get(place, 0) + counted.revisions
        items = [_item(place, totals, max(1, revisions[place])) for place, totals in parts.items()]
        # What an earlier upgrade wrote, or a later reading, needs no call.
        return [item for item in items if revised.get(key_of(item), 0) < _revision(item)]

    def _put(self, item: Item) -> None:
        put = Put(table=Table.USAGE, item=item, condition=self._older_than(item))
        try:
            self.retrier.call(lambda: self.items.put(put))
        except ConditionFailedError:
            # It is there, as it was read now or later.
            return

    def _older_than(self, item: Item) -> Condition:
        untouched = [Absent(attribute=newest_run_of(shard)) for shard in self.shards]
        return AnyOf((Absent(), AllOf((LessThan(attribute=REVISION, value=_revision(item)), *untouched))))


def _item(place: Key, totals: Mapping[int | None, Total], revisions: int) -> Item:
    item: dict[str, Value] = {**place._asdict(), **usage_add(totals)}
    item[REVISION] = revisions
    return item


def _revision(item: Item) -> int:
    revision = item[REVISION]
    if not isinstance(revision, int):
        raise TypeError("a revision is a number")
    return revision


def _by_name(items: ItemStore, account_id: str, month: str) -> dict[UsageKey, Total]:
    reading = UsageReading(items)
    found: dict[UsageKey, Total] = {}
    for item in reading.of_month(account_id, month):
        add_totals(found, dict(reading.totals(item)))
    return {key: total for key, total in found.items() if total != ZERO}


def _different(key: UsageKey, before: Total, after: Total) -> OperationFailedError:
    what = f"{' '.join(key.kind)} of account {key.account_id} in {hour_label(key.hour_s)}"
    return OperationFailedError(
        f"{what} has {before.bytes} bytes of {before.records} records in the old usage table, and {after.bytes} of "
        f"{after.records} in the new one.",
        "Nothing was switched over. Another process may have written to the new table: run it again.",
    )
