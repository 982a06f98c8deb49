"""An open month of a few accounts, from the usage table: each account's items are read once and kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.usage.merged import by_day, merged
from metering.billing.usage.ports import Late, Sold, UsageLine
from metering.ledger.usage.reading import UsageReading
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.ledger.usage.items import UsageItem
    from metering.stores.items import ItemStore
    from metering.usage.totals import Total, UsageKey


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMonth:
    """A `RegionMonth` of named accounts.

    Attributes:
        reading: Says what the items count. The accounts' kinds only become more, so every call sees the same names.
        items: Usage items by account, in the order of their hours.
        digest: An open month has none.
    """

    region: str
    month: str
    reading: UsageReading
    items: Mapping[str, tuple[UsageItem, ...]]
    digest: str = ""

    @classmethod
    def read(cls, store: ItemStore, *, region: str, month: str, accounts: Iterable[str]) -> TableMonth:
        """Read the items of some accounts: one partition each.

        Raises:
            LedgerCorruptError: An item cannot be read.
            UnavailableError: The region gives no answer.
        """
        reading = UsageReading(store)
        read = {account_id: tuple(reading.of_month(account_id, month)) for account_id in sorted(accounts)}
        return cls(region=region, month=month, reading=reading, items=read)

    def accounts(self) -> Iterator[str]:
        return (account_id for account_id, items in self.items.items() if items)

    def day_lines(self, accounts: frozenset[str] | None = None) -> Iterator[UsageLine]:
        for items in self._of(accounts):
            own = (item for item in items if item.corrects_s is None)
            yield from by_day(self._lines(own))

    def hour_lines(
        self,
        accounts: frozenset[str] | None = None,
        *,
        day_s: int | None = None,
        sold: frozenset[Sold] | None = None,
    ) -> Iterator[UsageLine]:
        lines: list[UsageLine] = []
        for items in self._of(accounts):
            own = (item for item in items if item.corrects_s is None)
            of_day = (item for item in own if day_s is None or day_s <= item.hour_s < day_s + DAY_S)
            lines += (
                line for line in self._lines(of_day) if sold is None or Sold(line.service, line.usage_type) in sold
            )
        return merged(sorted(lines))

    def late(self, accounts: frozenset[str] | None = None) -> Iterator[Late]:
        for items in self._of(accounts):
            for item in items:
                if item.corrects_s is not None:
                    yield from (Late(item.hour_s, line) for line in self._lines([item]))

    def _lines(self, items: Iterable[UsageItem]) -> Iterator[UsageLine]:
        for item in items:
            yield from (line_of(key, total) for key, total in self.reading.totals(item))

    def _of(self, accounts: frozenset[str] | None) -> Iterator[tuple[UsageItem, ...]]:
        return (items for account_id, items in self.items.items() if accounts is None or account_id in accounts)


def line_of(key: UsageKey, total: Total) -> UsageLine:
    """The line of a total: a correction has its own hour, every other total the hour that books it."""
    hour_s = key.hour_s if key.corrects_s is None else key.corrects_s
    return UsageLine(
        hour_s, key.account_id, key.service, key.usage_type, key.from_location, key.to_location, total.bytes
    )
