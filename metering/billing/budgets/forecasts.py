"""Forecast of a budget: usage so far plus expected usage in the rest of the period, rated by the payer's tiers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from statistics import quantiles
from typing import TYPE_CHECKING

from metering.billing.rating.rater import Rater, positions, rated_by_days
from metering.billing.usage.months import Sold, UsageLine, days_of
from metering.hours import month_bounds_s
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.billing.rating import payer_prices

# Forecasts are of bytes and not of cost, because cost jumps where a tier begins. A forecast may be a float.


WEEKS = 4
HISTORY_DAYS = 7 * WEEKS
# Two whole weeks show how weekdays differ; from fewer days, only the daily mean is used.
_WEEKDAYS_FROM = 14
_DAYS_FROM = 3
# The epoch began on a Thursday, weekday 3 if Monday is 0.
_EPOCH_WEEKDAY = 3
_HOURS = DAY_S // HOUR_S


class Method(StrEnum):
    """Method of a forecast."""

    WEEKDAYS = "the same day of the week in up to four weeks"
    MEAN_DAY = "the mean day"
    NONE = "not enough history"


def weekday(day_s: int) -> int:
    """Day of the week, 0 is Monday."""
    return (day_s // DAY_S + _EPOCH_WEEKDAY) % 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Expected bytes of a day, estimated from whole days of history.

    Attributes:
        means: Mean bytes of a day, by day of the week and product.
        low, high: 10th and 90th percentile of the ratio of actual to expected bytes over the days.
    """

    method: Method
    days: int
    means: Mapping[int, Mapping[Sold, float]]
    low: float = 1.0
    high: float = 1.0

    def expected(self, day_s: int) -> Mapping[Sold, float]:
        return self.means.get(weekday(day_s), {})

    def band(self, days: int) -> tuple[float, float]:
        """The 10th and 90th percentile of the ratio of actual to expected bytes over `days` independent days."""
        root = max(days, 1) ** 0.5
        return max(0.0, 1 + (self.low - 1) / root), max(0.0, 1 + (self.high - 1) / root)


def profile_of(history: Mapping[int, Mapping[Sold, int]], before_s: int) -> Profile:
    """The profile of the four weeks before a given day. Days missing from `history` had no bytes."""
    first_s = before_s - HISTORY_DAYS * DAY_S
    begun = (day_s for day_s in history if first_s <= day_s < before_s and any(history[day_s].values()))
    days = list(range(min(begun, default=before_s), before_s, DAY_S))
    if len(days) < _DAYS_FROM:
        return Profile(method=Method.NONE, days=len(days), means={})
    if len(days) < _WEEKDAYS_FROM:
        mean = _mean(history, days)
        return _with_band(Method.MEAN_DAY, history, days, dict.fromkeys(range(7), mean))
    by_weekday = {number: _mean(history, [day for day in days if weekday(day) == number]) for number in range(7)}
    return _with_band(Method.WEEKDAYS, history, days, by_weekday)


def _mean(history: Mapping[int, Mapping[Sold, int]], days: list[int]) -> dict[Sold, float]:
    sums: dict[Sold, int] = defaultdict(int)
    for day_s in days:
        for sold, size in history.get(day_s, {}).items():
            sums[sold] += size
    return {sold: size / len(days) for sold, size in sums.items()}


def _with_band(
    method: Method, history: Mapping[int, Mapping[Sold, int]], days: list[int], means: dict[int, dict[Sold, float]]
) -> Profile:
    expected = {day_s: sum(means[weekday(day_s)].values()) for day_s in days}
    parts = [sum(history.get(day_s, {}).values()) / size for day_s, size in expected.items() if size]
    if len(parts) < _DAYS_FROM:
        return Profile(method=method, days=len(days), means=means)
    tenths = quantiles(parts, n=10, method="inclusive")
    # The band of a forecast always contains the expected value, however the days are distributed.
    return Profile(method=method, days=len(days), means=means, low=min(tenths[0], 1.0), high=max(tenths[-1], 1.0))


class HourShares:
    """Each hour's share of a product's bytes, by day of the week. Mutable, because days are added one by one."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Sold, int], list[int]] = {}

    def add(self, day_s: int, hours: Mapping[int, Mapping[Sold, int]]) -> None:
        """Add a whole day's bytes by hour and product."""
        for hour_s, solds in hours.items():
            for sold, size in solds.items():
                sums = self._sums.setdefault((sold, weekday(day_s)), [0] * _HOURS)
                sums[(hour_s - day_s) // HOUR_S] += size

    def of(self, sold: Sold, day_s: int) -> list[float]:
        """Share of each hour of a day; equal shares for an unknown product."""
        sums = self._sums.get((sold, weekday(day_s)))
        total = sum(sums) if sums else 0
        return [size / total for size in sums] if sums and total else [1 / _HOURS] * _HOURS

    def rest(self, sold: Sold, day_s: int, from_s: int) -> float:
        """Total share of a day's hours that begin at `from_s` or later."""
        hour = min(max((from_s - day_s + HOUR_S - 1) // HOUR_S, 0), _HOURS)
        return sum(self.of(sold, day_s)[hour:])


DayBytes = dict[int, dict[Sold, int]]
"""Bytes by day and by what is sold."""
# Placeholder account for the payer's other accounts, whose usage takes tiers from the budget's account.
_REST = "~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Forecast of a budget's value at the end of a period.

    Attributes:
        history_days: Days of history on which the forecast is based.
        value, low, high: Exact cost (L0) or bytes: expected value and 80 % interval. Without enough history, counted
            values. payers_without: Number of payers without enough history; their forecast is only their usage so far.
    """

    method: Method
    history_days: int
    value: int = 0
    low: int = 0
    high: int = 0
    payers_without: int = 0

    @property
    def known(self) -> bool:
        return self.method is not Method.NONE

    def at_least(self, actual: int) -> Forecast:
        """This forecast, with its values raised to at least the counted usage, because counted usage never shrinks."""
        if not self.known:
            return self
        low, value, high = (max(each, actual) for each in (self.low, self.value, self.high))
        return replace(self, low=low, value=value, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodUsage:
    """A payer's usage in the month so far and in the weeks before it, inside and outside a budget's scope.

    Attributes:
        account_id: Account in the budget's scope, which may have its own prices.
    """

    mine: DayBytes
    others: DayBytes
    account_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecaster:
    """Makes forecasts of one period.

    Attributes:
        month: The month whose tiers apply.
        from_s, to_s: The period, which lies within `month`.
        through_s: Time up to which the usage is counted.
    """

    month: str
    from_s: int
    to_s: int
    through_s: int
    shares: HourShares

    def bytes_of(self, usage: PeriodUsage) -> Forecast:
        profile = self._profile(usage.mine)
        made = [
            sum(size for day_s, solds in each.items() if self.from_s <= day_s < self.to_s for size in solds.values())
            for each in self._futures(usage.mine, profile)
        ]
        return self._forecast(profile, made)

    def exact_of(self, usage: PeriodUsage, prices: payer_prices.PayerPrices) -> Forecast:
        profile = self._profile(usage.mine)
        others = self._futures(usage.others, self._profile(usage.others))
        made = [
            self._cost(ExpectedUsage(self.month, {usage.account_id: mine, _REST: rest}, self.shares), prices)
            for mine, rest in zip(self._futures(usage.mine, profile), others, strict=True)
        ]
        return self._forecast(profile, made)

    def _profile(self, history: DayBytes) -> Profile:
        return profile_of(history, self._today_s)

    def _forecast(self, profile: Profile, made: list[int]) -> Forecast:
        low, value, high = made
        return Forecast(method=profile.method, history_days=profile.days, value=value, low=low, high=high)

    def _futures(self, so_far: DayBytes, profile: Profile) -> list[DayBytes]:
        """Bytes by day from the start of the month to the period's end, in a low, an expected and a high variant."""
        left = max((self.to_s - self._today_s) // DAY_S, 1)
        low, high = profile.band(left)
        return [self._future(so_far, profile, part) for part in (low, 1.0, high)]

    def _future(self, so_far: DayBytes, profile: Profile, part: float) -> DayBytes:
        first_s, _ = month_bounds_s(self.month)
        days = {day_s: dict(solds) for day_s, solds in so_far.items() if first_s <= day_s < self.to_s}
        for day_s in range(max(self._today_s, first_s), self.to_s, DAY_S):
            solds = days.setdefault(day_s, {})
            for sold, size in profile.expected(day_s).items():
                share = self.shares.rest(sold, day_s, self.through_s) if day_s == self._today_s else 1.0
                solds[sold] = solds.get(sold, 0) + round(size * share * part)
        return days

    @property
    def _today_s(self) -> int:
        """First second of the day that is counted in part."""
        return self.through_s - self.through_s % DAY_S

    def _cost(self, usage: ExpectedUsage, prices: payer_prices.PayerPrices) -> int:
        rater = Rater(prices, positions(prices, usage))
        found = rated_by_days(rater, {"": usage.of_first()}, needs=lambda _part, line: line.hour_s >= self.from_s)
        return sum(rated.exact for _, rated in found)


class ExpectedUsage:
    """A `PayerUsage` of some accounts, computed from daily sums and hourly shares."""

    def __init__(self, month: str, parts: Mapping[str, DayBytes], shares: HourShares) -> None:
        self.month = month
        self._parts = parts
        self._shares = shares

    def of_first(self) -> ExpectedUsage:
        return ExpectedUsage(self.month, dict(islice(self._parts.items(), 1)), self._shares)

    def days(self) -> Mapping[Sold, Mapping[int, int]]:
        return days_of(self.day_lines())

    def day_lines(self, of_day_s: int | None = None) -> Iterator[UsageLine]:
        for account_id, days in self._parts.items():
            for day_s in days if of_day_s is None else days.keys() & {of_day_s}:
                for sold, size in days[day_s].items():
                    yield UsageLine(day_s, account_id, sold.service, sold.usage_type, "", "", size)

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        lines = (line for line in self.day_lines(day_s) if line.sold in sold)
        return iter(sorted(each for line in lines for each in self._hours_of(line)))

    def _hours_of(self, line: UsageLine) -> Iterator[UsageLine]:
        """Split a day's line into hourly lines. The last hour gets the rounding remainder."""
        shares = self._shares.of(line.sold, line.hour_s)
        left = line.bytes
        for hour, share in enumerate(shares):
            size = left if hour == len(shares) - 1 else min(left, round(line.bytes * share))
            left -= size
            if size:
                yield line._replace(hour_s=line.hour_s + hour * HOUR_S, bytes=size)
