"""Packing: groups batches into commits (P14).

A transaction has 100 actions and 4 MB of items at most: the commit and its waiting entry, a check for each ended month,
a marker for each batch, and an alias and the marker of its original for each retry under another id. Hours and usage
keys cost no action, so every batch fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from metering.hours import month_bounds_s, month_of
from metering.stores.writes import DYNAMODB_LIMITS
from metering.units import MIB

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

# The commit and its waiting entry.
_OWN_ACTIONS = 2
# DynamoDB takes 4 MB of items a transaction. Sizes here are estimates from above; if one were too low, the transaction
# would be refused as too large, and its batches halved.
_ITEMS_BYTES = 3 * MIB
# An hour of a marker or of a waiting entry: a label of 13 characters and two numbers of up to 38 digits (21 bytes each,
# and one for its type), in a list in a map.
_HOUR_BYTES = 13 + 2 * 22 + 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Most that one commit holds. A single batch may exceed its records and bytes."""

    records: int
    bytes: int
    actions: int = DYNAMODB_LIMITS.transaction
    items_bytes: int = _ITEMS_BYTES


class Packable(Protocol):
    """Properties of a booked batch that packing works with.

    `actions` is the number of actions of the batch itself; `markers` are the batch ids whose markers they write;
    `fixed_bytes` is the size of their items, the hours left out.
    """

    @property
    def records(self) -> int: ...
    @property
    def decoded_bytes(self) -> int: ...
    @property
    def hours(self) -> Collection[int]: ...
    @property
    def actions(self) -> int: ...
    @property
    def fixed_bytes(self) -> int: ...
    @property
    def markers(self) -> Collection[str]: ...


P = TypeVar("P", bound=Packable)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitPlan(Generic[P]):
    """Batches of one commit.

    Attributes:
        now_ms: The worker's clock when it was planned. The commit is built with the same time, because at a later time
            another month may have ended, and its check would not have been counted.
    """

    now_ms: int
    batches: tuple[P, ...]


def ended_months(hours: Iterable[int], now_s: int) -> list[str]:
    """Months of `hours` that have ended by `now_s`, so that an operator may have closed them."""
    months = sorted({month_of(hour_s) for hour_s in hours})
    return [month for month in months if month_bounds_s(month)[1] <= now_s]


class _Load(Generic[P]):
    """A commit while it is filled; never empty."""

    def __init__(self, first: P, budget: Budget, now_s: int) -> None:
        self.batches = [first]
        self._budget = budget
        self._now_s = now_s
        self._hours = set(first.hours)
        self._months = len(ended_months(self._hours, now_s))
        self._markers = set(first.markers)
        self._actions = first.actions
        self._records = first.records
        self._bytes = first.decoded_bytes
        self._item_bytes = _item_bytes(first)

    def take(self, batch: P) -> bool:
        """Add a batch, unless that is too much or writes an item twice. Returns whether the batch was added."""
        if not self._markers.isdisjoint(batch.markers):
            return False
        budget = self._budget
        records, size = self._records + batch.records, self._bytes + batch.decoded_bytes
        actions = self._actions + batch.actions
        item_bytes = self._item_bytes + _item_bytes(batch)
        hours, months = self._hours, self._months
        if not hours.issuperset(batch.hours):
            hours = hours.union(batch.hours)
            months = len(ended_months(hours, self._now_s))
        if (
            records > budget.records
            or size > budget.bytes
            or _OWN_ACTIONS + months + actions > budget.actions
            or item_bytes + 2 * len(hours) * _HOUR_BYTES > budget.items_bytes
        ):
            return False
        self.batches.append(batch)
        self._markers.update(batch.markers)
        self._hours, self._months = hours, months
        self._actions, self._records, self._bytes, self._item_bytes = actions, records, size, item_bytes
        return True


def _item_bytes(batch: Packable) -> int:
    return batch.fixed_bytes + len(batch.hours) * _HOUR_BYTES


def plan_commits(batches: Sequence[P], *, budget: Budget, now_ms: int) -> list[CommitPlan[P]]:
    """Put every batch into exactly one commit, in the order given.

    Args:
        batches: Batches of distinct ids.
        budget: What one commit holds at most.
        now_ms: The worker's clock: a month that has ended by then needs a check.
    """
    loads: list[_Load[P]] = []
    for batch in batches:
        if not loads or not loads[-1].take(batch):
            loads.append(_Load(batch, budget, now_ms // 1000))
    return [CommitPlan(now_ms=now_ms, batches=tuple(load.batches)) for load in loads]
