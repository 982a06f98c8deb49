"""Usage of a booked hour, and which of it can be compared with rows (docs/protocol.md, P37).

A usage item settles by itself. Before any rows are collected, the newest done run of each roll-up is read. An item in
which every number is absent or at most that of its shard's run holds exactly what those runs booked, and all of their
commits were placed before the collect. A later run places nothing before its number is in the item, so what it books is
in neither. An item with a larger number is left for the next look.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from metering.hours import month_of
from metering.ledger.contradictions import Contradictions
from metering.ledger.runs import newest_done, rollup_chain
from metering.ledger.shards import known_shards
from metering.stores.threads import side_by_side
from metering.usage.totals import ZERO, Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.ledger.usage.items import UsageItem
    from metering.ledger.usage.reading import UsageReading
    from metering.stores.items import ItemStore
    from metering.stores.writes import Key, Value


EMPTY: Mapping[str, Value] = MappingProxyType({})


class AccountHour(NamedTuple):
    """What settles together: the items of an account in one booked hour, for one hour that they correct."""

    hour_s: int
    account_id: str
    corrects_s: int | None = None

    @classmethod
    def of(cls, key: UsageKey) -> AccountHour:
        """Where a usage key is counted."""
        return cls(key.hour_s, key.account_id, key.corrects_s)


class SeenItem(NamedTuple):
    """State of a usage item when it was read.

    Attributes:
        revision: None if it has none.
        runs: By shard, number of the newest run in it.
        odd: What no release writes, by attribute.
        oddities: The same and what is missing, in words.
    """

    revision: int | None
    runs: Mapping[int, int]
    odd: Mapping[str, Value] = EMPTY
    oddities: tuple[str, ...] = ()


def settled_runs(items: ItemStore, shards: int) -> dict[int, int]:
    """Number of the newest done run of each shard's roll-up. Read it before the rows, never after them (P37).

    Raises:
        LedgerCorruptError: A run cannot be read.
        UnavailableError: The ledger gives no answer.
    """
    return {shard: newest_done(items, rollup_chain(shard)) for shard in known_shards(items, shards)}


def is_settled(runs: Mapping[int, int], done: Mapping[int, int]) -> bool:
    """Whether all runs in an item are among the done ones. A shard that is new since then has none."""
    return all(number <= done.get(shard, 0) for shard, number in runs.items())


@dataclass(slots=True)
class HourUsage:
    """Usage items of one booked hour.

    Attributes:
        totals: By usage key. A kind that got its number late may be in two items; they are summed.
        seen: State of each item, by where it counts and by its key.
    """

    totals: dict[UsageKey, Total] = field(default_factory=dict)
    seen: dict[AccountHour, dict[Key, SeenItem]] = field(default_factory=dict)

    @property
    def total(self) -> Total:
        return sum_totals(self.totals.values())

    def add(self, item: UsageItem, totals: Iterable[tuple[UsageKey, Total]]) -> None:
        """Add an item, and what it counts."""
        place = AccountHour(item.hour_s, item.account_id, item.corrects_s)
        self.seen.setdefault(place, {})[item.key] = SeenItem(item.revision, item.runs, item.odd, item.oddities)
        for key, total in totals:
            self.totals[key] = self.totals.get(key, ZERO).plus(total)

    def unsettled(self, done: Mapping[int, int]) -> frozenset[AccountHour]:
        """Where a run that is not among the done ones has booked."""
        return frozenset(
            place
            for place, items in self.seen.items()
            if not all(is_settled(item.runs, done) for item in items.values())
        )

    def odd(self) -> Iterator[tuple[AccountHour, Key, SeenItem]]:
        """Items in which something is that no release leaves so (P49)."""
        for place, items in sorted(self.seen.items(), key=str):
            yield from ((place, key, item) for key, item in sorted(items.items()) if item.oddities)

    def accounts(self) -> set[str]:
        """Accounts with items."""
        return {place.account_id for place in self.seen}


def read_accounts(
    reading: UsageReading,
    accounts: Iterable[str],
    *,
    from_s: int,
    to_s: int,
    threads: int = 1,
) -> dict[int, HourUsage]:
    """Usage of some accounts by hour, for the hours in `[from_s, to_s)` of one month: one query an account.

    What cannot be read, or has a number that no dictionary has, is left out: a scan of the table names it.

    Raises:
        UnavailableError: The table gives no answer.
    """
    left_out = Contradictions()

    def read(account_id: str) -> list[tuple[UsageItem, list[tuple[UsageKey, Total]]]]:
        items = reading.found(account_id, month_of(from_s), left_out, from_s=from_s, to_s=to_s)
        return [(item, list(reading.totals(item, left_out))) for item in items]

    hours: dict[int, HourUsage] = {}
    for found in side_by_side(read, sorted(accounts), threads=threads):
        for item, totals in found:
            hours.setdefault(item.hour_s, HourUsage()).add(item, totals)
    return hours
