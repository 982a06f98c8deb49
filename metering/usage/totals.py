"""Usage: exact totals an hour and key. Sums are Python ints, so they hold any number of bytes (I8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

K = TypeVar("K")


class UsageKey(NamedTuple):
    """What a total is kept for. A NamedTuple, because the aggregation hashes millions of them.

    `hour_s` is the booked hour. `corrects_s` is None, except for a late record of a closed month, which is booked in
    the hour it was processed and names its own hour here (I6).
    """

    hour_s: int
    account_id: str
    usage_type: str
    service: str
    from_location: str
    to_location: str
    corrects_s: int | None = None

    def of_day(self) -> UsageKey:
        """The same for the first hour of its day: an item of the usage table holds all hours of one."""
        return UsageKey(self.hour_s - self.hour_s % DAY_S, *self[1:])


class Total(NamedTuple):
    """A sum over records: exact number of bytes and of records. Deltas may be negative (repair)."""

    bytes: int
    records: int

    def plus(self, other: Total) -> Total:
        """Sum of both."""
        return Total(self.bytes + other.bytes, self.records + other.records)

    def minus(self, other: Total) -> Total:
        """Difference of both."""
        return Total(self.bytes - other.bytes, self.records - other.records)


ZERO = Total(0, 0)


def add_totals(into: dict[K, Total], totals: Mapping[K, Total]) -> None:
    """Add totals, key by key, to those already there."""
    for key, total in totals.items():
        before = into.get(key)
        into[key] = total if before is None else before.plus(total)


def merge(parts: Iterable[Mapping[UsageKey, Total]]) -> dict[UsageKey, Total]:
    """Sum of several usages, key by key."""
    merged: dict[UsageKey, Total] = {}
    for part in parts:
        add_totals(merged, part)
    return merged


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
