"""Usage of a month over all regions, payer by payer.

Regions' ledgers do not know each other, and tiers count over all of them: whoever rates a payer needs all its regions.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from metering.hours import month_bounds_s, month_of
from metering.ledger.usage.reading import UsageReading
from metering.units import DAY_S
from metering.usage.totals import Service, Total, UsageKey, UsageKind, UsageType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.billing.organization import Organization
    from metering.ledger.usage.items import UsageItem
    from metering.stores.items import ItemStore


if TYPE_CHECKING:
    HoursDone = Callable[[str, int, int], None]
    """Told a region, how many of its hours are read, and how many there are."""


# Of so few accounts, one partition each of the usage table is read, and lines are rated; of more, the lake and columns.
FEW_ACCOUNTS = 200


class Sold(NamedTuple):
    """What a price is found by."""

    service: Service
    usage_type: UsageType


LineKey = tuple[int, str, Service, UsageType, str, str]
"""Hour, account, service, usage type, from and to."""


class UsageLine(NamedTuple):
    """Usage of one key in one hour, or in a day if that is the grain. The order of its fields is the order of rating.

    Attributes:
        hour_s: The hour of use, epoch seconds: of a correction its own hour, not the one that books it.
    """

    hour_s: int
    account_id: str
    service: Service
    usage_type: UsageType
    from_location: str
    to_location: str
    bytes: int

    @property
    def key(self) -> LineKey:
        """Everything but its bytes."""
        return self[:6]

    @property
    def kind(self) -> UsageKind:
        """Its kind of usage."""
        return UsageKind(self.usage_type, self.service, self.from_location, self.to_location)


class Correction(NamedTuple):
    """Usage of an earlier month that is booked in this one: it came after that month was closed.

    Attributes:
        payer_id: Who pays for it: the account's payer in the hour of use.
        month: The month of use, `2026-10`.
        line: Its hour is the hour of use.
        region, booked_s: Whose ledger books it, and in which hour.
    """

    payer_id: str
    month: str
    line: UsageLine
    region: str
    booked_s: int


class Late(NamedTuple):
    """A correction as one region's ledger has it.

    Attributes:
        booked_s: The hour that books it.
        line: Its hour is the hour of use.
    """

    booked_s: int
    line: UsageLine


class RegionMonth(Protocol):
    """Usage that is booked in one month of one region's ledger.

    Every call sees the same rows, whatever comes meanwhile.

    The canary is left out. Corrections of other months stand apart: only `corrections` has them.
    """

    @property
    def region(self) -> str: ...

    @property
    def month(self) -> str:
        """`2026-11`."""
        ...

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the closed month's manifest; empty while the month is not closed."""
        ...

    def accounts(self) -> Iterator[str]:
        """Accounts with any usage or correction, in order, each once."""
        ...

    def day_lines(self, accounts: frozenset[str] | None = None) -> Iterator[UsageLine]:
        """Lines by the day, in any order; `hour_s` is the first hour of the day. None: of all accounts.

        Raises:
            UnavailableError: The region gives no answer.
        """
        ...

    def hour_lines(
        self,
        accounts: frozenset[str] | None = None,
        *,
        day_s: int | None = None,
        sold: frozenset[Sold] | None = None,
    ) -> Iterator[UsageLine]:
        """Lines by the hour, in the order of rating: hour by hour. Of one day, only that day is read.

        Raises:
            UnavailableError: The region gives no answer.
        """
        ...

    def late(self, accounts: frozenset[str] | None = None) -> Iterator[Late]:
        """Usage of earlier months that is booked in this one; one line for each key and hour that books it."""
        ...


class PayerUsage(Protocol):
    """One payer's usage of one month over all its accounts and all regions, corrections of other months left out.

    An account's hours count for the payer that it belongs to in that hour.
    """

    @property
    def month(self) -> str:
        """`2026-11`."""
        ...

    def days(self) -> Mapping[Sold, Mapping[int, int]]:
        """Bytes by day (epoch second of its first hour). Few: what is sold times the days of a month."""
        ...

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        """Lines of one day by the hour, in the order of rating; nothing of other days is read."""
        ...


class StreamedUsage(PayerUsage, Protocol):
    """Usage that is read in one pass."""

    def lines(self) -> Iterator[UsageLine]:
        """All lines of the month by the hour, in any order, streamed."""
        ...


@runtime_checkable
class HourlyUsage(PayerUsage, Protocol):
    """Usage that has sums of hours without reading lines: then only the lines of an hour are read to find a cut."""

    def hours(self, sold: frozenset[Sold], day_s: int) -> Mapping[int, int]:
        """Bytes by hour (epoch seconds) of one day, of all that is sold together."""
        ...

    def lines_of_hour(self, sold: frozenset[Sold], hour_s: int) -> Iterator[UsageLine]:
        """Lines of one hour, in the order of rating."""
        ...


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


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthUsage:
    """Usage of one month.

    Attributes:
        regions: One for each region that holds data of the stage. Each may be open or closed.
        month: `2026-11`, that of all regions.
        organization: Who pays for whom.
    """

    regions: Sequence[RegionMonth]
    month: str
    organization: Organization

    @property
    def closed(self) -> Mapping[str, str]:
        """Region -> digest of its frozen month, of the regions whose month is closed."""
        return {each.region: each.digest for each in self.regions if each.digest}

    @property
    def is_closed(self) -> bool:
        """Whether the month is closed in every region."""
        return all(each.digest for each in self.regions)

    def accounts(self) -> Iterator[str]:
        """Accounts with usage or corrections in any region, in order, each once."""
        return (account_id for account_id, _ in groupby(heapq.merge(*(each.accounts() for each in self.regions))))

    def payers(self) -> Iterator[str]:
        """Payers that have usage or corrections in the month, in order, each once.

        Memory grows with the number of payers, not with usage.
        """
        found: set[str] = set()
        for account_id in self.accounts():
            found |= self.payers_of(account_id)
        for each in self.corrections():
            found.add(each.payer_id)
        return iter(sorted(found))

    def of(self, payer_id: str) -> MergedUsage:
        """The usage of a payer; empty if it has none."""
        return MergedUsage(
            regions=tuple(self.regions), month=self.month, organization=self.organization, payer_id=payer_id
        )

    def corrections(self, payer_id: str | None = None) -> Iterator[Correction]:
        """Usage of earlier months that is booked in this one, of one payer or of all; region by region.

        Args:
            payer_id: Only the corrections that this payer pays.
        """
        accounts = None if payer_id is None else self.organization.accounts_of(payer_id)
        for region in self.regions:
            for booked_s, line in region.late(accounts):
                payer = self.organization.payer_of(line.account_id, line.hour_s)
                if payer_id is None or payer == payer_id:
                    yield Correction(payer, month_of(line.hour_s), line, region.region, booked_s)

    def payers_of(self, account_id: str) -> set[str]:
        """Who pays for an account in any hour of the month."""
        first_s, after_s = month_bounds_s(self.month)
        hours = (first_s, *(hour_s for hour_s in self.organization.changes(account_id) if first_s < hour_s < after_s))
        return {self.organization.payer_of(account_id, hour_s) for hour_s in hours}


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
