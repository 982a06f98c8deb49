"""Packing: groups batches into commits, and gives each commit its shape.

A transaction has 100 actions at most: the commit and its pending item, a check for each ended month, a pointer for
each hour, a marker for each batch, an alias and the marker of its original for each retry under another id, and in a
narrow commit an update for each usage item. A wide commit writes its usage ahead and applies it in chunks; one batch
with more hours than fit writes its pointers ahead, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from metering.hours import month_bounds_s, month_of
from metering.stores.writes import DYNAMODB_LIMITS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from metering.usage.totals import UsageKey

# The commit and its pending item.
_OWN_ACTIONS = 2
# A wide commit costs one more object and one more transaction than its chunks, so two narrow ones are cheaper.
_NARROW_INSTEAD_OF_WIDE = 2


class Shape(StrEnum):
    """Ways to spread a commit's actions over transactions."""

    NARROW = "narrow"
    WIDE = "wide"
    WIDE_POINTERS = "wide_pointers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Most that one commit holds. A single batch may exceed all of it but `actions`, the limit of a transaction."""

    records: int
    bytes: int
    keys: int
    actions: int = DYNAMODB_LIMITS.transaction


class Packable(Protocol):
    """Properties of a booked batch that packing works with.

    `actions` is the number of actions of the batch itself; `markers` are the batch ids whose markers they write.
    """

    @property
    def records(self) -> int: ...
    @property
    def decoded_bytes(self) -> int: ...
    @property
    def usage_items(self) -> Collection[UsageKey]: ...
    @property
    def hours(self) -> Collection[int]: ...
    @property
    def actions(self) -> int: ...
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

    shape: Shape
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
        self.keys = set(first.usage_items)
        self.hours = set(first.hours)
        self._budget = budget
        self._markers = set(first.markers)
        self._actions = first.actions
        self._now_s = now_s
        self._months = len(ended_months(self.hours, now_s))
        self._records = first.records
        self._bytes = first.decoded_bytes

    def fits(self, *, narrow: bool) -> bool:
        """Whether it is one transaction of that shape."""
        keys = len(self.keys) if narrow else 0
        return _actions(len(self.hours), self._months, self._actions, keys) <= self._budget.actions

    def take(self, batch: P, *, narrow: bool) -> bool:
        """Add a batch, unless that is too much or writes an item twice. Returns whether the batch was added."""
        if not self._markers.isdisjoint(batch.markers):
            return False
        budget = self._budget
        records, size = self._records + batch.records, self._bytes + batch.decoded_bytes
        keys = len(self.keys) + sum(key not in self.keys for key in batch.usage_items)
        if records > budget.records or size > budget.bytes or keys > budget.keys:
            return False
        hours, months = self.hours, self._months
        if not hours.issuperset(batch.hours):
            hours = hours.union(batch.hours)
            months = len(ended_months(hours, self._now_s))
        actions = self._actions + batch.actions
        if _actions(len(hours), months, actions, keys if narrow else 0) > budget.actions:
            return False
        self.batches.append(batch)
        self.keys.update(batch.usage_items)
        self._markers.update(batch.markers)
        self.hours, self._months, self._actions, self._records, self._bytes = hours, months, actions, records, size
        return True


def _actions(hours: int, months: int, batches: int, keys: int) -> int:
    """Number of actions in a commit's transaction.

    Args:
        hours: Number of hours, each with a pointer.
        months: Number of ended months, each with a check.
        batches: Number of actions that the batches need for themselves.
        keys: Number of usage items of a narrow commit, else 0.
    """
    return _OWN_ACTIONS + hours + months + batches + keys


def plan_commits(batches: Sequence[P], *, budget: Budget, now_ms: int) -> list[CommitPlan[P]]:
    """Put every batch into exactly one commit, in the order given.

    Args:
        batches: Batches of distinct ids.
        budget: What one commit holds at most.
        now_ms: The worker's clock: a month that has ended by then needs a check.
    """
    return [
        CommitPlan(shape=shape, now_ms=now_ms, batches=tuple(load.batches))
        for filled in _filled(batches, budget, now_ms // 1000, narrow=False)
        for shape, load in _shaped(filled, budget, now_ms // 1000)
    ]


def _filled(batches: Sequence[P], budget: Budget, now_s: int, *, narrow: bool) -> list[_Load[P]]:
    loads: list[_Load[P]] = []
    for batch in batches:
        if not loads or not loads[-1].take(batch, narrow=narrow):
            loads.append(_Load(batch, budget, now_s))
    return loads


def _shaped(load: _Load[P], budget: Budget, now_s: int) -> list[tuple[Shape, _Load[P]]]:
    if load.fits(narrow=True):
        return [(Shape.NARROW, load)]
    if not load.fits(narrow=False):
        return [(Shape.WIDE_POINTERS, load)]
    parts = _filled(load.batches, budget, now_s, narrow=True)
    if len(parts) <= _NARROW_INSTEAD_OF_WIDE and all(part.fits(narrow=True) for part in parts):
        return [(Shape.NARROW, part) for part in parts]
    return [(Shape.WIDE, load)]
