"""An open month of a few accounts, from the usage table: each account's items are read once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.rating.lines import UsageLine
from metering.billing.usage.merged import merged
from metering.billing.usage.ports import Late, Sold
from metering.ledger.usage_items import usage_day, usage_entries, usage_partition
from metering.stores.writes import Item, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.stores.items import ItemStore
    from metering.usage.totals import Total, UsageKey


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMonth:
    """A `RegionMonth` of named accounts.

    Attributes:
        items: Usage items by account. An item has all hours of one key on one day.
        digest: An open month has none.
    """

    region: str
    month: str
    items: Mapping[str, tuple[Item, ...]]
    digest: str = ""

    @classmethod
    def read(cls, store: ItemStore, *, region: str, month: str, accounts: Iterable[str]) -> TableMonth:
        """Read the items of some accounts: one partition each.

        Raises:
            UnavailableError: The region gives no answer.
        """
        read = {
            account_id: tuple(store.query(Table.USAGE, usage_partition(account_id, month)))
            for account_id in sorted(accounts)
        }
        return cls(region=region, month=month, items=read)

    def accounts(self) -> Iterator[str]:
        return (account_id for account_id, items in self.items.items() if items)

    def day_lines(self, accounts: frozenset[str] | None = None) -> Iterator[UsageLine]:
        for item in self._of(accounts):
            key, total = usage_day(item)
            if key.corrects_s is None:
                yield line_of(key, total)

    def hour_lines(
        self,
        accounts: frozenset[str] | None = None,
        *,
        day_s: int | None = None,
        sold: frozenset[Sold] | None = None,
    ) -> Iterator[UsageLine]:
        lines: list[UsageLine] = []
        for item in self._of(accounts):
            first, _ = usage_day(item)
            if first.corrects_s is not None or not (day_s is None or first.hour_s == day_s):
                continue
            if sold is None or Sold(first.service, first.usage_type) in sold:
                lines += (line_of(entry.key, entry.total) for entry in usage_entries(item))
        return merged(sorted(lines))

    def late(self, accounts: frozenset[str] | None = None) -> Iterator[Late]:
        for item in self._of(accounts):
            for entry in usage_entries(item):
                if entry.key.corrects_s is not None:
                    yield Late(entry.key.hour_s, line_of(entry.key, entry.total))

    def _of(self, accounts: frozenset[str] | None) -> Iterator[Item]:
        for account_id, items in self.items.items():
            if accounts is None or account_id in accounts:
                yield from items


def line_of(key: UsageKey, total: Total) -> UsageLine:
    """The line of a total: a correction has its own hour, every other total the hour that books it."""
    hour_s = key.hour_s if key.corrects_s is None else key.corrects_s
    return UsageLine(
        hour_s, key.account_id, key.service, key.usage_type, key.from_location, key.to_location, total.bytes
    )
