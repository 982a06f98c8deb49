"""Usage of a booked hour, the part of it that can be compared with rows (P37), and equality of large sets of totals."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from metering.errors import EarlyEndError
from metering.hours import month_of
from metering.ledger import commits
from metering.ledger.runs import Contradictions, newest_done, rollup_chain
from metering.stores import clock
from metering.usage.totals import ZERO, Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    from metering.ledger.usage.items import UsageItem
    from metering.ledger.usage.reading import UsageReading
    from metering.stores.writes import ItemStore, Key, Value

EMPTY: Mapping[str, Value] = MappingProxyType({})


class AccountHour(NamedTuple):
    """The usage items that settle together: those of one account, booked hour and corrected hour."""

    hour_s: int
    account_id: str
    corrects_s: int | None = None

    @classmethod
    def of(cls, key: UsageKey) -> AccountHour:
        """Return the account hour to which a usage key belongs."""
        return cls(key.hour_s, key.account_id, key.corrects_s)


class SeenItem(NamedTuple):
    """State of a usage item when it was read.

    Attributes:
        revision: Revision of the item; None if it has none.
        runs: Shard -> number of the newest run in the item.
        odd: Attributes that no release writes.
        oddities: Descriptions of the odd and missing attributes.
    """

    revision: int | None
    runs: Mapping[int, int]
    odd: Mapping[str, Value] = EMPTY
    oddities: tuple[str, ...] = ()


def settled_runs(items: ItemStore, shards: int) -> dict[int, int]:
    """Number of the newest done run of each shard's roll-up. Read these runs before the rows, never after (P37).

    Raises:
        LedgerCorruptError: A run cannot be read.
        UnavailableError: The ledger does not answer.
    """
    return {shard: newest_done(items, rollup_chain(shard)) for shard in commits.known_shards(items, shards)}


def is_settled(runs: Mapping[int, int], done: Mapping[int, int]) -> bool:
    """Whether all runs in an item are done. A newly added shard has no done run."""
    return all(number <= done.get(shard, 0) for shard, number in runs.items())


@dataclass(slots=True)
class HourUsage:
    """Usage items of one booked hour.

    Attributes:
        totals: By usage key. The totals of a kind that got its number late, and may be in two items, are summed.
        seen: State of each item when it was read, by account hour and item key.
    """

    totals: dict[UsageKey, Total] = field(default_factory=dict)
    seen: dict[AccountHour, dict[Key, SeenItem]] = field(default_factory=dict)

    @property
    def total(self) -> Total:
        return sum_totals(self.totals.values())

    def add(self, item: UsageItem, totals: Iterable[tuple[UsageKey, Total]]) -> None:
        """Add an item and its totals."""
        place = AccountHour(item.hour_s, item.account_id, item.corrects_s)
        self.seen.setdefault(place, {})[item.key] = SeenItem(item.revision, item.runs, item.odd, item.oddities)
        for key, total in totals:
            self.totals[key] = self.totals.get(key, ZERO).plus(total)

    def unsettled(self, done: Mapping[int, int]) -> frozenset[AccountHour]:
        """Account hours with bookings of an unfinished run."""
        return frozenset(
            place for place, seen in self.seen.items() if not all(is_settled(item.runs, done) for item in seen.values())
        )

    def odd(self) -> Iterator[tuple[AccountHour, Key, SeenItem]]:
        """Items with missing attributes, or with attributes that no release writes (P49)."""
        for place, items in sorted(self.seen.items(), key=str):
            yield from ((place, key, item) for key, item in sorted(items.items()) if item.oddities)


def read_accounts(
    reading: UsageReading, accounts: Iterable[str], *, from_s: int, to_s: int, threads: int = 1
) -> dict[int, HourUsage]:
    """Usage of some accounts by hour, for the hours in `[from_s, to_s)` of one month: one query per account.

    Unreadable items and items with an unknown kind number are left out; only a table scan reports such items.

    Raises:
        UnavailableError: The table does not answer.
    """
    left_out = Contradictions()

    def read(account_id: str) -> list[tuple[UsageItem, list[tuple[UsageKey, Total]]]]:
        items = reading.found(account_id, month_of(from_s), left_out, from_s=from_s, to_s=to_s)
        return [(item, list(reading.totals(item, left_out))) for item in items]

    hours: dict[int, HourUsage] = {}
    for found in clock.side_by_side(read, sorted(accounts), threads=threads):
        for item, totals in found:
            hours.setdefault(item.hour_s, HourUsage()).add(item, totals)
    return hours


T = TypeVar("T")
K = TypeVar("K")

# The time limit is checked once per this many items.
_LIMIT_EVERY = 1_000


class ScanTooLongError(EarlyEndError):
    """A table is too large to be scanned in the remaining time."""


def no_limit() -> None:
    """Impose no limit on a scan."""


def differing(expected: Mapping[K, Total], found: Mapping[K, Total]) -> Iterator[tuple[K, Total, Total]]:
    """Keys whose totals differ between two mappings, in order, with both totals; a missing key counts as zero."""
    for key in sorted(expected.keys() | found.keys(), key=str):
        one, other = expected.get(key, ZERO), found.get(key, ZERO)
        if one != other:
            yield key, one, other


def limited(found: Iterable[T], limit: Callable[[], None]) -> Iterator[T]:
    """Yield the elements of `found` unchanged, and call `limit` periodically."""
    for number, item in enumerate(found):
        if number % _LIMIT_EVERY == 0:
            limit()
        yield item


# Two fingerprints tell whether two sets of totals are equal. A fingerprint has a fixed size, however large its set is.
# A fingerprint multiplies bytes and records of each total by numbers hashed from its key, and adds the products modulo
# a 127-bit prime. Order does not matter. Different sets have equal fingerprints with a probability of 2^-126.
_PRIME = 2**127 - 1
_HALF = 2**128 - 1


def name_of(key: Hashable) -> bytes:
    """Encode a key as bytes that are unique among keys of its type."""
    if type(key) is str:
        return key.encode()
    if type(key) is UsageKey:
        # Fields are length-prefixed, because a text may contain any separator. This function runs once per usage key.
        hour_s, account_id, usage_type, service, from_location, to_location, corrects_s = key
        return (
            f"{hour_s},{corrects_s},{len(account_id)},{len(usage_type)},{len(service)},{len(from_location)},"
            f"{account_id}{usage_type}{service}{from_location}{to_location}"
        ).encode()
    return repr(key).encode()


@dataclass(slots=True)
class Fingerprint:
    """Sum of totals, and a combined fingerprint of all keys' totals. Mutable."""

    total: Total = ZERO
    value: int = 0

    def add(self, key: Hashable, total: Total) -> None:
        """Add a key's total, or a part of that total."""
        size, records = total
        of_both = int.from_bytes(blake2b(name_of(key), digest_size=32).digest())
        # The two multipliers of a key are the upper and lower halves of its digest.
        self.value = (self.value + (of_both >> 128) * size + (of_both & _HALF) * records) % _PRIME
        self.total = Total(self.total[0] + size, self.total[1] + records)

    def merge(self, other: Fingerprint) -> None:
        """Add another fingerprint."""
        self.value = (self.value + other.value) % _PRIME
        self.total = self.total.plus(other.total)


def fingerprint(entries: Iterable[tuple[Hashable, Total]]) -> Fingerprint:
    """Fingerprint of some totals."""
    made = Fingerprint()
    for key, total in entries:
        made.add(key, total)
    return made
