"""What one turn of the keeper adds to the accounts of months: the same files as to the sums of days.

A month's accounts cover whole days, which the index names beside their key. A day that they do not cover yet, because
an earlier release summed it or the object was lost, is filled in from the lake files that the sums of that day name.
"""

from __future__ import annotations

import heapq
from contextlib import suppress
from typing import TYPE_CHECKING

from metering.billing.day_sums.accounts import AccountsReader, AccountSum, accounts_body, accounts_key, merged
from metering.billing.day_sums.days import head_of
from metering.billing.day_sums.index import KeptAccounts
from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.hours import month_of
from metering.units import DAY_S
from metering.usage.totals import ZERO, Total, add_totals, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.billing.day_sums.index import DayIndex
    from metering.lake.ports import TotalsReader
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import UsageKey

    Entries = Iterable[tuple[UsageKey, Total]]


# Of so many newest months it is seen each time whether their accounts are still there. Whoever deletes them has them
# made anew.
_LOOKED_AFTER = 3


class MonthAddition:
    """What is added to the accounts of one month. Mutable.

    Args:
        before: The accounts so far; None if there are none.
        days: First hours of the days that they cover.
    """

    def __init__(self, before: AccountsReader | None, days: frozenset[int]) -> None:
        self.days = set(days)
        self.changed = False
        self._before = before
        self._hours: dict[int, Total] = {} if before is None else dict(before.hours)
        self._sums: dict[str, AccountSum] = {}

    def add(self, hour_s: int, totals: Mapping[str, Total]) -> None:
        """Add what accounts have in one lake file of an hour. Its day is covered."""
        self.changed = True
        for account_id, total in totals.items():
            added = AccountSum(account_id, total.bytes, total.records, hour_s, hour_s)
            known = self._sums.get(account_id)
            self._sums[account_id] = added if known is None else known.plus(added)
        self._hours[hour_s] = self._hours.get(hour_s, ZERO).plus(sum_totals(totals.values()))

    def cover(self, day_s: int, day: MonthAddition) -> None:
        """Add a whole day that was not covered."""
        self.changed = True
        self.days.add(day_s)
        add_totals(self._hours, day._hours)
        for account_id, added in day._sums.items():
            known = self._sums.get(account_id)
            self._sums[account_id] = added if known is None else known.plus(added)

    def body(self, month: str) -> bytes:
        """Content of the new object."""
        before = () if self._before is None else self._before.accounts()
        both = heapq.merge(before, (self._sums[account_id] for account_id in sorted(self._sums)))
        return accounts_body(month, self._hours, merged(both))


class AccountTurn:
    """Adds to the accounts of months. Mutable: fill it, then `put`.

    Args:
        index: The index in force.
        objects: Where the accounts are.
        totals: Reads what is in a lake file.
    """

    def __init__(self, index: DayIndex, objects: ObjectStore, totals: TotalsReader) -> None:
        self._index = index
        self._objects = objects
        self._totals = totals
        self._months: dict[str, MonthAddition] = {}
        newest = sorted(index.accounts.items())[-_LOOKED_AFTER:]
        self._lost = {kept.key for _, kept in newest if objects.head(kept.key) is None}

    def counting(self, hour_s: int, totals: Entries) -> Entries:
        """The totals of a lake file, as they are; they are added if the accounts of the month cover its day."""
        day_s = hour_s - hour_s % DAY_S
        month = self._month(day_s)
        if day_s not in self._index.days:
            # Nothing of the day is counted yet, so that this file is the first of it.
            month.days.add(day_s)
        return _told(month, hour_s, totals) if day_s in month.days else totals

    def fill(self, days: Mapping[int, str], *, most_files: int) -> bool:
        """Add days that are not covered; returns whether all are.

        Args:
            days: First hour of each day of the region -> key of its sums, those of this turn among them.
            most_files: No further day is begun after so many lake files.
        """
        for day_s, key in sorted(days.items(), reverse=True):
            if self._covers(day_s):
                continue
            if most_files <= 0:
                return False
            with suppress(ObjectMissingError, ObjectDamagedError):
                # Sums of days have a retention. A day that is gone is not filled in, and its month is not listed.
                most_files -= self._add_day(key)
        return True

    def put(self) -> dict[str, KeptAccounts]:
        """Put the accounts of the months that have changed; returns them all, as the index names them."""
        made: dict[str, KeptAccounts] = dict(self._index.accounts)
        for month, addition in self._months.items():
            before = made.get(month)
            if not addition.changed and before is not None and before.days == addition.days:
                continue
            body = addition.body(month)
            key = accounts_key(month, body)
            self._objects.put(key, body, if_absent=False)
            made[month] = KeptAccounts(key=key, days=frozenset(addition.days))
        return made

    def _covers(self, day_s: int) -> bool:
        month = month_of(day_s)
        if month in self._months:
            return day_s in self._months[month].days
        kept = self._index.accounts.get(month)
        return kept is not None and day_s in kept.days and kept.key not in self._lost

    def _add_day(self, key: str) -> int:
        """Add the day of these sums, whole or not at all; returns the number of its lake files."""
        with self._objects.open(key) as body:
            head = head_of(body, key)
        day = MonthAddition(None, frozenset())
        for hour_s, files in head.files.items():
            for file in files:
                for _ in _told(day, hour_s, self._totals.of(file)):
                    pass
        self._month(head.day_s).cover(head.day_s, day)
        return sum(map(len, head.files.values()))

    def _month(self, day_s: int) -> MonthAddition:
        month = month_of(day_s)
        if month not in self._months:
            self._months[month] = self._begun(month)
        return self._months[month]

    def _begun(self, month: str) -> MonthAddition:
        kept = self._index.accounts.get(month)
        if kept is not None:
            try:
                return MonthAddition(AccountsReader(self._objects.get(kept.key), kept.key), kept.days)
            except (ObjectMissingError, ObjectDamagedError):
                # It is derived: all of its days are filled in again.
                pass
        return MonthAddition(None, frozenset())


def _told(month: MonthAddition, hour_s: int, totals: Entries) -> Iterator[tuple[UsageKey, Total]]:
    """The totals, which are added to a month when all of them were read."""
    sums: dict[str, Total] = {}
    for entry in totals:
        key, total = entry
        known = sums.get(key.account_id)
        sums[key.account_id] = total if known is None else known.plus(total)
        yield entry
    month.add(hour_s, sums)
