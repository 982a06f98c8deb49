"""Small price books, lists of payers' usage, and sizes in GB, for tests of rating."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from metering.billing.money import price_of
from metering.billing.payers import Membership, Organization, Payer
from metering.billing.prices.book import (
    Allowance,
    AllowanceOrder,
    NotSold,
    PriceBook,
    PriceVersion,
    Product,
    Services,
    Tier,
)
from metering.billing.rating.rater import Rater, positions
from metering.billing.usage.months import Accounts, Late, PayerUsage, Sold, Solds, UsageLine, merged
from metering.hours import month_bounds_s
from metering.units import DAY_S, GIB, HOUR_S
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.rating.payer_prices import PayerPrices

MONTH = "2026-11"
BEGIN_S, END_S = month_bounds_s(MONTH)
TERM = "JRTCKXETXF"

US_TIERS = (("10240", "0.09"), ("51200", "0.085"), ("153600", "0.07"), (None, "0.05"))
"""Internet out of us-east-1: the end of each tier in GB, and its price."""


def gb(size: str) -> int:
    """Size in GB as bytes, rounded to a whole byte."""
    return round(Fraction(size) * GIB)


def usd(text: str) -> int:
    """An amount of USD in decimal text, such as `0.0000000009`, in units of 1e-10 USD."""
    return int(Decimal(text) * 10**10)


def tiers_of(sku: str, steps: Iterable[tuple[str | None, str]]) -> tuple[Tier, ...]:
    """Tiers of `(end in GB or None, price)`."""
    tiers, begin = [], 0
    for number, (end, price) in enumerate(steps):
        end_bytes = None if end is None else gb(end)
        rate_code = f"{sku}.{TERM}.RATE{number}"
        tiers.append(Tier(from_bytes=begin, to_bytes=end_bytes, price=price_of(price), rate_code=rate_code))
        begin = end_bytes or 0
    return tuple(tiers)


def product(
    sku: str,
    usage_type: str,
    steps: Sequence[tuple[str | None, str]],
    *later: tuple[int, Sequence[tuple[str | None, str]]],
    services: Services | None = None,
) -> Product:
    """A product with its first prices, and with prices that apply from later hours."""
    versions = [PriceVersion(from_s=0, tiers=tiers_of(sku, steps))]
    versions += (PriceVersion(from_s=from_s, tiers=tiers_of(sku, each)) for from_s, each in later)
    return Product(
        sku=sku,
        usage_type=usage_type,
        services=services or Services(),
        transfer="AWS Outbound",
        from_location="",
        to_location="",
        versions=tuple(versions),
    )


def sold(usage_type: str, service: str = "AmazonEC2") -> Sold:
    return Sold(Service(service), UsageType(usage_type))


def allowance(size_gb: str, *skus: str, order: AllowanceOrder = "dearest-first", name: str = "free") -> Allowance:
    """An allowance that never ends."""
    codes = {sku: f"{sku}.A429C66SYZ.FREE" for sku in skus}
    return Allowance(id=name, bytes=gb(size_gb), skus=skus, order=order, from_s=0, to_s=None, rate_codes=codes)


def book(products: Iterable[Product], *allowances: Allowance, not_sold: tuple[NotSold, ...] = ()) -> PriceBook:
    return PriceBook(
        name="test",
        version=1,
        currency="USD",
        products=tuple(products),
        allowances=allowances,
        not_sold=not_sold,
        sha256="5e",
    )


def paid_by(payer_id: str, accounts: Iterable[str]) -> Organization:
    """An organization with one payer, and `accounts` as members from the first hour on."""
    members = tuple(Membership(account, 0, None) for account in accounts)
    return Organization(payers=(Payer(payer_id=payer_id, name="Example", issuer="Metering", members=members),))


def exact_total(prices: PayerPrices, usage: PayerUsage) -> int:
    """Exact cost (L0) of a payer's month, line by line."""
    rater, days = Rater(prices, positions(prices, usage)), usage.days()
    lines = (
        usage.lines_of(frozenset(days), day_s) for day_s in sorted({day_s for of in days.values() for day_s in of})
    )
    return sum(each.exact for of_day in lines for each in rater.rated(of_day))


def used(
    size_bytes: int,
    hour: int = 0,
    *,
    account: str = "111111111111",
    usage_type: str = "DataTransfer-Out-Bytes",
    service: str = "AmazonEC2",
) -> UsageLine:
    """Usage of an account in an hour of the month; hours are counted from 0."""
    return UsageLine(
        BEGIN_S + hour * HOUR_S, account, Service(service), UsageType(usage_type), "us-east-1", "internet", size_bytes
    )


@dataclass
class ListedUsage:
    """A payer's usage, from a list. Lines with equal key and hour are merged; the days that are read are recorded."""

    given: Iterable[UsageLine]
    month: str = MONTH
    read: list[tuple[frozenset[Sold], int]] = field(default_factory=list)
    streamed: int = 0

    def __post_init__(self) -> None:
        sums: dict[tuple[object, ...], UsageLine] = {}
        for line in self.given:
            known = sums.get(line[:6])
            sums[line[:6]] = line if known is None else line._replace(bytes=known.bytes + line.bytes)
        self._lines = sorted(sums.values())

    def days(self) -> Mapping[Sold, Mapping[int, int]]:
        days: dict[Sold, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for line in self._lines:
            days[line.sold][line.hour_s - line.hour_s % DAY_S] += line.bytes
        return days

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        self.read.append((sold, day_s))
        return (line for line in self._lines if line[2:4] in sold and day_s <= line.hour_s < day_s + DAY_S)

    def lines(self) -> Iterator[UsageLine]:
        self.streamed += 1
        return iter(self._lines)


class HourlyListedUsage(ListedUsage):
    """A payer's usage, from a list, that also offers hourly sums."""

    def hours(self, sold: frozenset[Sold], day_s: int) -> Mapping[int, int]:
        hours: dict[int, int] = defaultdict(int)
        for line in self._lines:
            if line[2:4] in sold and day_s <= line.hour_s < day_s + DAY_S:
                hours[line.hour_s] += line.bytes
        return hours

    def lines_of_hour(self, sold: frozenset[Sold], hour_s: int) -> Iterator[UsageLine]:
        return (line for line in self._lines if line[2:4] in sold and line.hour_s == hour_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMonth:
    """A `RegionMonth`.

    Attributes:
        usage: Hourly lines, in any order; keys may repeat.
        late_lines: Lines of corrections, with their own hours.
        booked_s: The hour in which `late_lines` are booked.
        digest: Digest of a closed month; any text will do.
    """

    region: str = "us-east-1"
    month: str = "2026-11"
    usage: tuple[UsageLine, ...] = ()
    late_lines: tuple[UsageLine, ...] = ()
    booked_s: int = 0
    digest: str = ""

    def accounts(self) -> Iterator[str]:
        return iter(sorted({line.account_id for line in (*self.usage, *self.late_lines)}))

    def day_lines(self, accounts: Accounts = None) -> Iterator[UsageLine]:
        by_day = (line._replace(hour_s=_day(line.hour_s)) for line in self._of(self.usage, accounts))
        return merged(sorted(by_day))

    def hour_lines(
        self, accounts: Accounts = None, *, day_s: int | None = None, sold: Solds = None
    ) -> Iterator[UsageLine]:
        return merged(
            sorted(
                line
                for line in self._of(self.usage, accounts)
                if (day_s is None or _day(line.hour_s) == day_s) and (sold is None or line.sold in sold)
            )
        )

    def late(self, accounts: Accounts = None) -> Iterator[Late]:
        return (Late(self.booked_s or line.hour_s, line) for line in self._of(self.late_lines, accounts))

    @staticmethod
    def _of(lines: tuple[UsageLine, ...], accounts: Accounts) -> Iterator[UsageLine]:
        return (line for line in lines if accounts is None or line.account_id in accounts)


def _day(hour_s: int) -> int:
    return hour_s - hour_s % DAY_S
