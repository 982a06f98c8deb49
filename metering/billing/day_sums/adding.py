"""Adds the totals of lake files to the sums of their day. Nothing but what is added is held."""

from __future__ import annotations

import heapq
from itertools import groupby
from typing import TYPE_CHECKING

from metering.billing.day_sums.days import EMPTY_HOURS, AccountDay, DayHead
from metering.ledger.notes.canary_batches import CANARY_ACCOUNT_ID
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.ledger.booked_hours import LakeFile
    from metering.usage.totals import Total, UsageKey, UsageKind


class DayAddition:
    """What is added to one day. Mutable: fill it, then ask for the day's new sums.

    Corrections of closed months are left out, because they count in the month of their use. So is the canary.
    """

    def __init__(self, head: DayHead) -> None:
        self._head = head
        self._files: dict[int, tuple[LakeFile, ...]] = dict(head.files)
        self._places: dict[UsageKind, int] = {kind: place for place, kind in enumerate(head.kinds)}
        self._hours: list[list[int]] = [list(sizes) for sizes in head.hours]
        self._accounts: dict[str, dict[int, int]] = {}

    def add(self, hour_s: int, file: LakeFile, totals: Iterable[tuple[UsageKey, Total]]) -> None:
        """Add the totals of a lake file of an hour of this day."""
        hour = (hour_s - self._head.day_s) // HOUR_S
        self._files[hour_s] = (*self._files.get(hour_s, ()), file)
        for key, total in totals:
            if key.corrects_s is not None or key.account_id == CANARY_ACCOUNT_ID:
                continue
            place = self._place(key.kind)
            sums = self._accounts.setdefault(key.account_id, {})
            sums[place] = sums.get(place, 0) + total.bytes
            self._hours[place][hour] += total.bytes

    def head(self) -> DayHead:
        """Head of the new sums."""
        return DayHead(
            day_s=self._head.day_s,
            files=self._files,
            kinds=tuple(self._places),
            hours=tuple(map(tuple, self._hours)),
        )

    def accounts(self, before: Iterable[AccountDay]) -> Iterator[AccountDay]:
        """Accounts of the new sums, in order: those of the old ones with what was added."""
        added = (AccountDay(account_id, sums) for account_id, sums in sorted(self._accounts.items()))
        both = heapq.merge(before, added, key=lambda account: account.account_id)
        for account_id, parts in groupby(both, key=lambda account: account.account_id):
            yield AccountDay(account_id, _sum(part.sums for part in parts))

    def _place(self, kind: UsageKind) -> int:
        place = self._places.setdefault(kind, len(self._places))
        if place == len(self._hours):
            self._hours.append(list(EMPTY_HOURS))
        return place


def _sum(parts: Iterable[Mapping[int, int]]) -> Mapping[int, int]:
    first, *others = parts
    if not others:
        return first
    summed = dict(first)
    for part in others:
        for place, size in part.items():
            summed[place] = summed.get(place, 0) + size
    return summed
