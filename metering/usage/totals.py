"""Usage: exact totals by hour and key. Sums are Python ints, so they hold any number of bytes (I8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, NewType, TypeVar

K = TypeVar("K")

# In place of an account: all accounts of the region together. No account id is like this.
REGION = "region"

# Usage is keyed by strings, in one order here and in another in billing. Distinct types let mypy notice a swap.
UsageType = NewType("UsageType", str)
Service = NewType("Service", str)


class UsageKind(NamedTuple):
    """Kind of usage: a usage key without account and hour. Two kinds never have the same four strings."""

    usage_type: UsageType
    service: Service
    from_location: str
    to_location: str


class UsageKey(NamedTuple):
    """Key of a total. Keys are NamedTuples, because aggregation hashes millions of them.

    `account_id` is `REGION` in totals of all accounts together.

    `hour_s` is the booked hour. `corrects_s` is None, except for a late record of a closed month. A late record is
    booked in its processing hour, and `corrects_s` is the hour of use (I6).
    """

    hour_s: int
    account_id: str
    usage_type: UsageType
    service: Service
    from_location: str
    to_location: str
    corrects_s: int | None = None

    @property
    def kind(self) -> UsageKind:
        """Its kind of usage."""
        return UsageKind(self.usage_type, self.service, self.from_location, self.to_location)


class Total(NamedTuple):
    """Exact sums over records: bytes and record count. A repair's delta may be negative."""

    bytes: int
    records: int

    def plus(self, other: Total) -> Total:
        """Sum of two totals."""
        return Total(self.bytes + other.bytes, self.records + other.records)

    def minus(self, other: Total) -> Total:
        """Difference of two totals."""
        return Total(self.bytes - other.bytes, self.records - other.records)


ZERO = Total(0, 0)


class Moved(NamedTuple):
    """Sums over usage types: bytes and records without processing, and the bytes that were processed beside them."""

    bytes: int
    records: int
    processed_bytes: int = 0

    @property
    def total(self) -> Total:
        """The sums without processing."""
        return Total(self.bytes, self.records)

    def plus(self, other: Moved) -> Moved:
        """Sum of two sums."""
        return Moved(*self.total.plus(other.total), self.processed_bytes + other.processed_bytes)


def moved(total: Total, *, processing: bool) -> Moved:
    """A total of a usage type, which is processing or not, as a part of sums over usage types."""
    return Moved(0, 0, total.bytes) if processing else Moved(*total)


def add_totals(into: dict[K, Total], totals: Mapping[K, Total]) -> None:
    """Add `totals` to `into`, key by key."""
    for key, total in totals.items():
        before = into.get(key)
        into[key] = total if before is None else before.plus(total)


def by_hour(usage: Mapping[UsageKey, Total]) -> dict[int, Total]:
    """Totals of each booked hour."""
    hours: dict[int, Total] = {}
    for key, total in usage.items():
        before = hours.get(key.hour_s)
        hours[key.hour_s] = total if before is None else before.plus(total)
    return hours


def sum_totals(totals: Iterable[Total]) -> Total:
    """Exact sum of totals."""
    summed = Total(0, 0)
    for total in totals:
        summed = summed.plus(total)
    return summed
