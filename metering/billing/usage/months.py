"""Usage of a month over all regions, payer by payer.

Tiers count the usage of all regions, but each region's ledger has only its own region's usage.
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

    from metering.billing.payers import Organization
    from metering.ledger.usage.items import UsageItem
    from metering.stores.writes import ItemStore

    HoursDone = Callable[[str, int, int], None]
    """Told a region, how many of its hours are read, and how many there are."""

# For up to this many accounts, usage table lines are rated, one partition per account; for more, lake columns.
FEW_ACCOUNTS = 200


class Sold(NamedTuple):
    """Service and usage type, the key by which a price is looked up."""

    service: Service
    usage_type: UsageType


Accounts = frozenset[str] | None
"""Some accounts, or all."""
Solds = frozenset[Sold] | None
"""Some products, or all."""
LineKey = tuple[int, str, Service, UsageType, str, str]
"""Hour, account, service, usage type, from and to."""


class UsageLine(NamedTuple):
    """Usage of one key in one hour or on one day. Lines are ordered as they are rated.

    Attributes:
        hour_s: The hour of use in epoch seconds, also for a correction.
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
        return self[:6]

    @property
    def kind(self) -> UsageKind:
        return UsageKind(self.usage_type, self.service, self.from_location, self.to_location)

    @property
    def sold(self) -> Sold:
        return Sold(self.service, self.usage_type)


class Correction(NamedTuple):
    """Usage of a closed earlier month, booked in this month.

    Attributes:
        payer_id: The payer of the account in the hour of use.
        month: The month of use, `2026-10`.
        region, booked_s: The region and hour in which the correction is booked.
    """

    payer_id: str
    month: str
    line: UsageLine
    region: str
    booked_s: int


class Late(NamedTuple):
    """A correction in one region's ledger: the hour in which it is booked, and its line with the hour of use."""

    booked_s: int
    line: UsageLine


class RegionMonth(Protocol):
    """Usage booked in one month of one region's ledger, without the canary.

    Every call sees the same rows, even if further rows arrive between calls. Only `late` returns corrections of other
    months.
    """

    @property
    def region(self) -> str: ...

    @property
    def month(self) -> str: ...

    @property
    def digest(self) -> str:
        """Hex SHA-256 of the closed month's manifest; empty while the month is open."""

    def accounts(self) -> Iterator[str]:
        """Accounts with any usage or correction, in order, without repetition."""

    def day_lines(self, accounts: Accounts = None) -> Iterator[UsageLine]:
        """Lines with one day's usage each, in any order; `hour_s` is the first hour of the day. None: of all accounts.

        Raises:
            UnavailableError: The region does not answer.
        """

    def hour_lines(
        self, accounts: Accounts = None, *, day_s: int | None = None, sold: Solds = None
    ) -> Iterator[UsageLine]:
        """Lines with one hour's usage each, in the order of rating: hour by hour. With `day_s`, only that day is read.

        Raises:
            UnavailableError: The region does not answer.
        """

    def late(self, accounts: Accounts = None) -> Iterator[Late]:
        """Usage of earlier months booked in this month; one line per key and booking hour."""


class PayerUsage(Protocol):
    """One payer's usage in one month, of all its accounts and regions, without corrections of other months.

    An account's usage in an hour counts for the account's payer in that hour.
    """

    @property
    def month(self) -> str: ...

    def days(self) -> Mapping[Sold, Mapping[int, int]]:
        """Bytes by day; the key of a day is the epoch second at which it begins."""

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        """Lines of one day by the hour, in the order of rating; no other day is read."""


class StreamedUsage(PayerUsage, Protocol):
    """A payer's usage that can be read in one pass."""

    def lines(self) -> Iterator[UsageLine]:
        """All lines of the month by the hour, in any order."""


@runtime_checkable
class HourlyUsage(PayerUsage, Protocol):
    """A payer's usage with hourly sums, so that only one hour's lines are read to find a cut."""

    def hours(self, sold: frozenset[Sold], day_s: int) -> Mapping[int, int]:
        """Bytes of each hour (epoch seconds) of one day."""

    def lines_of_hour(self, sold: frozenset[Sold], hour_s: int) -> Iterator[UsageLine]:
        """Lines of one hour, in the order of rating."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedUsage:
    """A `PayerUsage` of several regions, without lines of 0 bytes. Lines of one key in two regions become one line.

    Attributes:
        only: Accounts of the payer to which usage is limited; None for all accounts.
    """

    regions: tuple[RegionMonth, ...]
    month: str
    organization: Organization
    payer_id: str
    only: frozenset[str] | None = None

    def of_accounts(self, accounts: frozenset[str]) -> MergedUsage:
        return replace(self, only=accounts)

    def of_region(self, region: RegionMonth) -> MergedUsage:
        return replace(self, regions=(region,))

    def days(self) -> Mapping[Sold, Mapping[int, int]]:
        return days_of(self.day_lines())

    def day_lines(self) -> Iterator[UsageLine]:
        """Lines by the day, in any order, one per key, day and region."""
        accounts, moving = self.accounts, self._moving()
        for region in self.regions:
            for line in region.day_lines(accounts):
                if (line.account_id, line.hour_s) not in moving and self._pays(line):
                    yield line
            for account_id, day_s in sorted(moving):
                yield from by_day(filter(self._pays, region.hour_lines(frozenset([account_id]), day_s=day_s)))

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        return self._hours(day_s=day_s, sold=sold)

    def lines(self) -> Iterator[UsageLine]:
        return self._hours()

    def _hours(self, *, day_s: int | None = None, sold: Solds = None) -> Iterator[UsageLine]:
        accounts = self.accounts
        regions = [region.hour_lines(accounts, day_s=day_s, sold=sold) for region in self.regions]
        return merged(filter(self._pays, heapq.merge(*regions)))

    @property
    def accounts(self) -> frozenset[str]:
        """Accounts that the payer pays for at any time; if `only` is set, limited to `only`."""
        accounts = self.organization.accounts_of(self.payer_id)
        return accounts if self.only is None else accounts & self.only

    @property
    def moves(self) -> bool:
        """Whether an account joins or leaves the payer within the month."""
        first_s, after_s = month_bounds_s(self.month)
        return any(
            not self.pays_for(account_id, first_s)
            or any(first_s < hour_s < after_s for hour_s in self.organization.changes(account_id))
            for account_id in self.accounts
        )

    def pays_for(self, account_id: str, hour_s: int) -> bool:
        return self.organization.payer_of(account_id, hour_s) == self.payer_id

    def _pays(self, line: UsageLine) -> bool:
        return self.pays_for(line.account_id, line.hour_s)

    def _moving(self) -> frozenset[tuple[str, int]]:
        """(Account, day) pairs of this month for which the account's payer changes within the day."""
        first_s, after_s = month_bounds_s(self.month)
        return frozenset(
            (account_id, hour_s - hour_s % DAY_S)
            for account_id in self.accounts
            for hour_s in self.organization.changes(account_id)
            if first_s < hour_s < after_s and hour_s % DAY_S
        )


def merged(lines: Iterable[UsageLine]) -> Iterator[UsageLine]:
    """Merge lines that are in the order of rating, to one line per key and hour; lines of 0 bytes are omitted."""
    for _, group in groupby(lines, key=lambda line: line.key):
        same = list(group)
        total = sum(line.bytes for line in same)
        if total:
            yield same[0] if len(same) == 1 else same[0]._replace(bytes=total)


def days_of(lines: Iterable[UsageLine]) -> dict[Sold, dict[int, int]]:
    """Sum the bytes of lines by product and day."""
    found: dict[Sold, dict[int, int]] = {}
    for line in lines:
        days = found.setdefault(line.sold, {})
        days[line.hour_s] = days.get(line.hour_s, 0) + line.bytes
    return found


def by_day(lines: Iterable[UsageLine]) -> Iterator[UsageLine]:
    """Merge hourly lines into daily lines, in order. The memory needed grows with the number of keys and days."""
    sums: dict[UsageLine, int] = {}
    for line in lines:
        key = line._replace(hour_s=line.hour_s - line.hour_s % DAY_S, bytes=0)
        sums[key] = sums.get(key, 0) + line.bytes
    return (key._replace(bytes=total) for key, total in sorted(sums.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthUsage:
    """Usage of one month.

    Attributes:
        regions: The month in each region that holds data of the stage, whether the month is open or closed there.
    """

    regions: Sequence[RegionMonth]
    month: str
    organization: Organization

    @property
    def is_closed(self) -> bool:
        return all(each.digest for each in self.regions)

    def accounts(self) -> Iterator[str]:
        """Accounts with usage or corrections in any region, in order."""
        return (account_id for account_id, _ in groupby(heapq.merge(*(each.accounts() for each in self.regions))))

    def payers(self) -> Iterator[str]:
        """Payers with usage or corrections in the month, in order."""
        found = {each.payer_id for each in self.corrections()}.union(*map(self.payers_of, self.accounts()))
        return iter(sorted(found))

    def of(self, payer_id: str) -> MergedUsage:
        return MergedUsage(
            regions=tuple(self.regions), month=self.month, organization=self.organization, payer_id=payer_id
        )

    def corrections(self, payer_id: str | None = None) -> Iterator[Correction]:
        """Usage of earlier months that is booked in this month, of one payer or of all payers; region by region."""
        accounts = None if payer_id is None else self.organization.accounts_of(payer_id)
        for region in self.regions:
            for booked_s, line in region.late(accounts):
                payer = self.organization.payer_of(line.account_id, line.hour_s)
                if payer_id is None or payer == payer_id:
                    yield Correction(payer, month_of(line.hour_s), line, region.region, booked_s)

    def payers_of(self, account_id: str) -> frozenset[str]:
        return self.organization.payers_between(account_id, *month_bounds_s(self.month))


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMonth:
    """A `RegionMonth` of some accounts, read from the usage table.

    Attributes:
        reading: Reads items, and resolves the kind numbers in them. Kinds are only ever added, so a number always means
            the same kind.
        items: Usage items by account, in the order of their hours.
    """

    region: str
    month: str
    reading: UsageReading
    items: Mapping[str, tuple[UsageItem, ...]]
    digest: str = ""

    @classmethod
    def read(cls, store: ItemStore, *, region: str, month: str, accounts: Iterable[str]) -> TableMonth:
        """Read the usage items of some accounts; each account's items are in one partition.

        Raises:
            LedgerCorruptError: An item cannot be read.
            UnavailableError: The region does not answer.
        """
        reading = UsageReading(store)
        read = {account_id: tuple(reading.of_month(account_id, month)) for account_id in sorted(accounts)}
        return cls(region=region, month=month, reading=reading, items=read)

    def accounts(self) -> Iterator[str]:
        return (account_id for account_id, items in self.items.items() if items)

    def day_lines(self, accounts: Accounts = None) -> Iterator[UsageLine]:
        for items in self._of(accounts):
            own = (item for item in items if item.corrects_s is None)
            yield from by_day(self._lines(own))

    def hour_lines(
        self, accounts: Accounts = None, *, day_s: int | None = None, sold: Solds = None
    ) -> Iterator[UsageLine]:
        lines: list[UsageLine] = []
        for items in self._of(accounts):
            own = (item for item in items if item.corrects_s is None)
            of_day = (item for item in own if day_s is None or day_s <= item.hour_s < day_s + DAY_S)
            lines += (line for line in self._lines(of_day) if sold is None or line.sold in sold)
        return merged(sorted(lines))

    def late(self, accounts: Accounts = None) -> Iterator[Late]:
        for items in self._of(accounts):
            for item in items:
                if item.corrects_s is not None:
                    yield from (Late(item.hour_s, line) for line in self._lines([item]))

    def _lines(self, items: Iterable[UsageItem]) -> Iterator[UsageLine]:
        for item in items:
            yield from (line_of(key, total) for key, total in self.reading.totals(item))

    def _of(self, accounts: Accounts) -> Iterator[tuple[UsageItem, ...]]:
        return (items for account_id, items in self.items.items() if accounts is None or account_id in accounts)


def line_of(key: UsageKey, total: Total) -> UsageLine:
    """A usage line with the total of one key. The line has the hour of use for a correction, else the booked hour."""
    hour_s = key.hour_s if key.corrects_s is None else key.corrects_s
    return UsageLine(
        hour_s, key.account_id, key.service, key.usage_type, key.from_location, key.to_location, total.bytes
    )
