"""Forecast of a budget: the usage so far exactly, and the expected rest of the period run through the payer's tiers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.billing.budgets.profiles import Method, profile_of
from metering.billing.rating.positions import positions
from metering.billing.rating.rater import Rater
from metering.billing.usage.ports import Sold, UsageLine
from metering.hours import month_bounds_s
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.billing.budgets.profiles import HourShares, Profile
    from metering.billing.rating.payer_prices import PayerPrices

DayBytes = dict[int, dict[Sold, int]]
"""Bytes by day and by what is sold."""
# Accounts of the expected usage: what a budget is about, and the rest of its payer, which takes tiers from it.
_REST = "~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a period is expected to end with. It is no promise.

    Attributes:
        method: How the bytes of the days to come are expected.
        history_days: Days that they are expected by.
        value, low, high: Exact cost (L0) or bytes at the end of the period: expected, and an interval of 80 %.
            Without enough history nothing is expected, so that it is what is counted.
        payers_without: Payers in a sum who have not enough history, and are in it with what they used so far.
    """

    method: Method
    history_days: int
    value: int = 0
    low: int = 0
    high: int = 0
    payers_without: int = 0

    @property
    def known(self) -> bool:
        """Whether there is enough history for one."""
        return self.method is not Method.NONE

    def at_least(self, actual: int) -> Forecast:
        """The same, and no less than what is counted: usage that came in while the watch was behind is known already.

        Usage never shrinks.
        """
        if not self.known:
            return self
        low, value, high = (max(each, actual) for each in (self.low, self.value, self.high))
        return replace(self, low=low, value=value, high=high)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodUsage:
    """Usage of one payer, as a forecast is made from it.

    Attributes:
        mine: What the budget is about: of the month so far, and of the weeks before.
        others: The rest of the payer's usage in the same days.
        account_id: Account of a budget that is about one; it may have prices of its own.
    """

    mine: DayBytes
    others: DayBytes
    account_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecaster:
    """Makes forecasts of one period.

    Attributes:
        month: The month whose tiers count.
        from_s, to_s: The period, which lies in that month.
        through_s: Up to when the usage is counted; what comes after it is expected.
        shares: How bytes are spread over the hours of a day.
    """

    month: str
    from_s: int
    to_s: int
    through_s: int
    shares: HourShares

    def bytes_of(self, usage: PeriodUsage) -> Forecast:
        """Forecast of bytes."""
        profile = self._profile(usage.mine)
        made = [
            sum(size for day_s, solds in each.items() if self.from_s <= day_s < self.to_s for size in solds.values())
            for each in self._futures(usage.mine, profile)
        ]
        return self._forecast(profile, made)

    def exact_of(self, usage: PeriodUsage, prices: PayerPrices) -> Forecast:
        """Forecast of the exact cost (L0)."""
        profile = self._profile(usage.mine)
        others = self._futures(usage.others, self._profile(usage.others))
        made = [
            self._cost(ExpectedUsage(self.month, mine, rest, usage.account_id, self.shares), prices)
            for mine, rest in zip(self._futures(usage.mine, profile), others, strict=True)
        ]
        return self._forecast(profile, made)

    def _profile(self, history: DayBytes) -> Profile:
        return profile_of(history, self._today_s)

    def _forecast(self, profile: Profile, made: list[int]) -> Forecast:
        low, value, high = made
        return Forecast(method=profile.method, history_days=profile.days, value=value, low=low, high=high)

    def _futures(self, so_far: DayBytes, profile: Profile) -> list[DayBytes]:
        """Bytes of all days of the month up to the end of the period: few, expected and many of those to come."""
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
        """The day that is counted in part."""
        return self.through_s - self.through_s % DAY_S

    def _cost(self, usage: ExpectedUsage, prices: PayerPrices) -> int:
        rater = Rater(prices, positions(prices, usage))
        exact = 0
        for line in usage.day_lines():
            if self.from_s <= line.hour_s < self.to_s:
                sold = usage.sold_of(line)
                lines = usage.hours_of(line) if rater.needs_hours(sold, line.hour_s) else iter((line,))
                exact += sum(rated.exact for each in lines for rated in rater.rate(each))
        return exact


class ExpectedUsage:
    """A `PayerUsage` of two accounts, made of days: what a budget is about, and the rest."""

    def __init__(self, month: str, mine: DayBytes, others: DayBytes, account_id: str, shares: HourShares) -> None:
        self.month = month
        self._parts = ((account_id, mine), (_REST, others))
        self._mine = mine
        self._account_id = account_id
        self._shares = shares

    def days(self) -> Mapping[Sold, Mapping[int, int]]:
        found: dict[Sold, dict[int, int]] = defaultdict(dict)
        for _, days in self._parts:
            for day_s, solds in days.items():
                for sold, size in solds.items():
                    found[sold][day_s] = found[sold].get(day_s, 0) + size
        return found

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        lines = [
            line
            for account_id, days in self._parts
            for each, size in days.get(day_s, {}).items()
            if each in sold
            for line in self.hours_of(_line(day_s, account_id, each, size))
        ]
        return iter(sorted(lines))

    def lines(self) -> Iterator[UsageLine]:
        days = sorted({day_s for _, each in self._parts for day_s in each})
        sold = frozenset(self.days())
        for day_s in days:
            yield from self.lines_of(sold, day_s)

    def day_lines(self) -> Iterator[UsageLine]:
        """What the budget is about, by the day."""
        for day_s, solds in self._mine.items():
            for sold, size in solds.items():
                yield _line(day_s, self._account_id, sold, size)

    def hours_of(self, line: UsageLine) -> Iterator[UsageLine]:
        """The line of a day by the hour. No byte is lost: the last hour has what rounding leaves."""
        shares = self._shares.of(self.sold_of(line), line.hour_s)
        left = line.bytes
        for hour, share in enumerate(shares):
            size = left if hour == len(shares) - 1 else min(left, round(line.bytes * share))
            left -= size
            if size:
                yield line._replace(hour_s=line.hour_s + hour * HOUR_S, bytes=size)

    @staticmethod
    def sold_of(line: UsageLine) -> Sold:
        """What a line is sold as."""
        return Sold(line.service, line.usage_type)


def _line(day_s: int, account_id: str, sold: Sold, size: int) -> UsageLine:
    return UsageLine(day_s, account_id, sold.service, sold.usage_type, "", "", size)
