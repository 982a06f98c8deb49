"""The usage of one payer, merged over regions and over the accounts that belong to it hour by hour."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from metering.billing.usage.ports import Sold
from metering.hours import month_bounds_s
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from metering.billing.organization.payers import Organization
    from metering.billing.usage.ports import RegionMonth, UsageLine


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedUsage:
    """A `PayerUsage` over regions. Lines without bytes are left out, and lines of one key in two regions are one line.

    Attributes:
        only: Only these accounts of the payer; None for all.
    """

    regions: tuple[RegionMonth, ...]
    month: str
    organization: Organization
    payer_id: str
    only: frozenset[str] | None = None

    def of_accounts(self, accounts: frozenset[str]) -> MergedUsage:
        """The part of some accounts."""
        return replace(self, only=accounts)

    def of_region(self, region: RegionMonth) -> MergedUsage:
        """The part of one region."""
        return replace(self, regions=(region,))

    def days(self) -> Mapping[Sold, Mapping[int, int]]:
        """Bytes by what is sold and by day."""
        found: dict[Sold, dict[int, int]] = {}
        for line in self.day_lines():
            by_day = found.setdefault(Sold(line.service, line.usage_type), {})
            by_day[line.hour_s] = by_day.get(line.hour_s, 0) + line.bytes
        return found

    def day_lines(self) -> Iterator[UsageLine]:
        """Lines by the day, in any order, one for each key, day and region."""
        accounts, moving = self.accounts, self._moving()
        for region in self.regions:
            for line in region.day_lines(accounts):
                if (line.account_id, line.hour_s) not in moving and self._pays(line):
                    yield line
            for account_id, day_s in sorted(moving):
                yield from by_day(filter(self._pays, region.hour_lines(frozenset([account_id]), day_s=day_s)))

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        """Lines of one day by the hour, in the order of rating."""
        return self._hours(day_s=day_s, sold=sold)

    def lines(self) -> Iterator[UsageLine]:
        """All lines by the hour, in the order of rating."""
        return self._hours()

    def _hours(self, *, day_s: int | None = None, sold: frozenset[Sold] | None = None) -> Iterator[UsageLine]:
        accounts = self.accounts
        regions = [region.hour_lines(accounts, day_s=day_s, sold=sold) for region in self.regions]
        return merged(filter(self._pays, heapq.merge(*regions)))

    @property
    def accounts(self) -> frozenset[str]:
        """Accounts that the payer ever pays for, or those of them that are asked for."""
        accounts = self.organization.accounts_of(self.payer_id)
        return accounts if self.only is None else accounts & self.only

    @property
    def moves(self) -> bool:
        """Whether any of its accounts comes to the payer, or leaves it, within the month."""
        first_s, after_s = month_bounds_s(self.month)
        return any(
            not self.pays_for(account_id, first_s)
            or any(first_s < hour_s < after_s for hour_s in self.organization.changes(account_id))
            for account_id in self.accounts
        )

    def pays_for(self, account_id: str, hour_s: int) -> bool:
        """Whether the payer pays for an account in an hour."""
        return self.organization.payer_of(account_id, hour_s) == self.payer_id

    def _pays(self, line: UsageLine) -> bool:
        return self.pays_for(line.account_id, line.hour_s)

    def _moving(self) -> frozenset[tuple[str, int]]:
        """Accounts and the days of this month within which their payer changes."""
        first_s, after_s = month_bounds_s(self.month)
        return frozenset(
            (account_id, hour_s - hour_s % DAY_S)
            for account_id in self.accounts
            for hour_s in self.organization.changes(account_id)
            if first_s < hour_s < after_s and hour_s % DAY_S
        )


def merged(lines: Iterable[UsageLine]) -> Iterator[UsageLine]:
    """Lines in the order of rating, each key and hour once; those whose bytes sum up to 0 are left out."""
    for _, group in groupby(lines, key=lambda line: line.key):
        same = list(group)
        total = sum(line.bytes for line in same)
        if total:
            yield same[0] if len(same) == 1 else same[0]._replace(bytes=total)


def by_day(lines: Iterable[UsageLine]) -> Iterator[UsageLine]:
    """Lines of hours as lines of days, in order. Memory grows with the number of keys and days."""
    sums: dict[UsageLine, int] = {}
    for line in lines:
        key = line._replace(hour_s=line.hour_s - line.hour_s % DAY_S, bytes=0)
        sums[key] = sums.get(key, 0) + line.bytes
    return (key._replace(bytes=total) for key, total in sorted(sums.items()))
