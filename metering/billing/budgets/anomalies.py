"""Days on which an account used far more of something than on the same day of earlier weeks.

Bytes are compared and never cost: allowances and tiers make cost jump on the first of each month, and at each boundary.
A day is unusual if its bytes are more than four deviations above the median of up to eight weeks, more than a quarter
above it, and cost more than a floor at the first price of the price list. The deviation is the median absolute
deviation, times 1.4826: for normal figures that is the standard deviation. It is no number that one outlier moves.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.money import EXACT_A_USD
from metering.billing.prices.book import Product
from metering.billing.prices.matching import find
from metering.billing.usage.ports import Sold
from metering.units import DAY_S

if TYPE_CHECKING:
    from metering.billing.day_sums.days import DayReader
    from metering.billing.day_sums.index import DayIndex
    from metering.billing.day_sums.region_month import SummedMonth
    from metering.billing.prices.book import PriceBook
    from metering.usage.totals import UsageKind

WEEKS = 8
# Of fewer weeks, nobody can tell what is usual.
LEAST_WEEKS = 3
_NORMAL = 1.4826


class Series(NamedTuple):
    """What is compared from day to day."""

    account_id: str
    usage_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyRules:
    """When a day is unusual.

    Attributes:
        deviations: Deviations above the median.
        percent: Percent above the median.
        floor: Exact cost (L0) at list prices of what is above the median.
    """

    deviations: float = 4.0
    percent: int = 25
    floor: int = 10 * EXACT_A_USD


RULES = AnomalyRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """An unusual day of a series.

    Attributes:
        kind: Its service and locations with the most bytes.
        bytes: Of the day.
        expected: Median of the same day of earlier weeks, bytes.
        excess: Exact cost (L0) at list prices of what is above it.
        weeks: Earlier weeks that are known.
    """

    region: str
    day_s: int
    series: Series
    kind: UsageKind
    bytes: int
    expected: int
    excess: int
    weeks: int


class _Day(NamedTuple):
    sums: dict[Series, int]
    largest: dict[Series, tuple[int, UsageKind]]


def anomalies_of(month: SummedMonth, day_s: int, book: PriceBook, rules: AnomalyRules = RULES) -> list[Anomaly]:
    """Unusual series of a whole day of a region, the dearest first.

    Memory grows with the number of series of a day, and with nothing else.
    """
    day = month.day(day_s)
    known = _weeks(month.index, day_s)
    if day is None or len(known) < LEAST_WEEKS:
        return []
    today = _sums(day)
    before: dict[Series, list[int]] = defaultdict(list)
    for earlier_s in known:
        reader = month.day(earlier_s)
        for series, size in ({} if reader is None else _sums(reader).sums).items():
            if series in today.sums:
                before[series].append(size)
    prices = _FirstPrices(book)
    found = (
        _judged(month.region, day_s, series, today, _filled(before.get(series, []), len(known)), prices, rules)
        for series in today.sums
    )
    return sorted((each for each in found if each is not None), key=lambda each: (-each.excess, each.series))


def _weeks(index: DayIndex, day_s: int) -> list[int]:
    """The same day of earlier weeks, as far as the region's sums go back. A day without usage counts as one."""
    if not index.days:
        return []
    first_s = max(min(index.days), index.from_s)
    days = (day_s - week * 7 * DAY_S for week in range(1, WEEKS + 1))
    return [each for each in days if each >= first_s]


def _sums(day: DayReader) -> _Day:
    kinds = day.head.kinds
    sums: dict[Series, int] = {}
    largest: dict[Series, tuple[int, UsageKind]] = {}
    for account_id, places in day.accounts():
        for place, size in places.items():
            series = Series(account_id, kinds[place].usage_type)
            sums[series] = sums.get(series, 0) + size
            if series not in largest or size > largest[series][0]:
                largest[series] = (size, kinds[place])
    return _Day(sums, largest)


def _filled(sizes: list[int], weeks: int) -> list[int]:
    """Bytes of each week; a week in which there were none has 0."""
    return sizes + [0] * (weeks - len(sizes))


def _judged(
    region: str,
    day_s: int,
    series: Series,
    today: _Day,
    before: list[int],
    prices: _FirstPrices,
    rules: AnomalyRules,
) -> Anomaly | None:
    size, (_, kind) = today.sums[series], today.largest[series]
    usual = median(before)
    above = size - usual
    if not is_unusual(size, before, rules):
        return None
    excess = int(above) * prices.of(kind)
    if excess <= rules.floor:
        return None
    return Anomaly(
        region=region,
        day_s=day_s,
        series=series,
        kind=kind,
        bytes=size,
        expected=int(usual),
        excess=excess,
        weeks=len(before),
    )


def is_unusual(size: int, before: list[int], rules: AnomalyRules = RULES) -> bool:
    """Whether bytes are far above those of earlier weeks, whatever they cost."""
    usual = median(before)
    above = size - usual
    deviation = _NORMAL * median(abs(each - usual) for each in before)
    return above > 0 and above > rules.deviations * deviation and above * 100 > usual * rules.percent


class _FirstPrices:
    """Price of the first tier of what is sold, 1e-10 USD a GB; 0 of what has none."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._known: dict[Sold, int] = {}

    def of(self, kind: UsageKind) -> int:
        sold = Sold(kind.service, kind.usage_type)
        if sold not in self._known:
            product = find(self._book, sold)
            self._known[sold] = product.versions[-1].first_price if isinstance(product, Product) else 0
        return self._known[sold]


def query_of(anomaly: Anomaly) -> str:
    """SQL for `metering query` that names the three largest resources of an anomaly."""
    # Names come from producers: the contract allows no quote in them, and doubling keeps any that would.
    account_id, usage_type = (text.replace("'", "''") for text in anomaly.series)
    return (
        "SELECT resource_id, from_location, to_location, sum(bytes) AS bytes FROM transfers "  # noqa: S608  # people type it
        f"WHERE account_id = '{account_id}' AND usage_type = '{usage_type}' "
        "GROUP BY ALL ORDER BY bytes DESC LIMIT 3"
    )
