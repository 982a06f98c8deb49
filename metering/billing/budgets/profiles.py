"""What usage is expected: bytes of each day of the week, and how they are spread over its hours.

Bytes are foretold and never cost: a month's cost jumps where a tier begins. Who rates the expected bytes runs them
through the tiers. A forecast is labelled as one, so that its parts may be floats.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from statistics import quantiles
from typing import TYPE_CHECKING

from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.billing.usage.ports import Sold

WEEKS = 4
HISTORY_DAYS = 7 * WEEKS
# Two whole weeks say how days of the week differ; less says only the mean day, and less than three days nothing.
_WEEKDAYS_FROM = 14
_DAYS_FROM = 3
# The epoch began on a Thursday, the fourth day of a week that begins on Monday.
_EPOCH_WEEKDAY = 3
_HOURS = DAY_S // HOUR_S


class Method(StrEnum):
    """How the bytes of a day are expected."""

    WEEKDAYS = "the same day of the week in up to four weeks"
    MEAN_DAY = "the mean day"
    NONE = "not enough history"


def weekday(day_s: int) -> int:
    """Day of the week, 0 is Monday."""
    return (day_s // DAY_S + _EPOCH_WEEKDAY) % 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Expected bytes of a day.

    Attributes:
        days: Whole days that it is made of.
        means: Day of the week -> what is sold -> mean bytes of a day.
        low, high: Parts of the expected bytes of a day that 10 % and 90 % of the days lay below.
    """

    method: Method
    days: int
    means: Mapping[int, Mapping[Sold, float]]
    low: float = 1.0
    high: float = 1.0

    def expected(self, day_s: int) -> Mapping[Sold, float]:
        """Expected bytes of a whole day, by what is sold."""
        return self.means.get(weekday(day_s), {})

    def band(self, days: int) -> tuple[float, float]:
        """Parts of the expected bytes of so many days that 10 % and 90 % lie below, if days are independent."""
        root = max(days, 1) ** 0.5
        return max(0.0, 1 + (self.low - 1) / root), max(0.0, 1 + (self.high - 1) / root)


def profile_of(history: Mapping[int, Mapping[Sold, int]], before_s: int) -> Profile:
    """The profile of the last four weeks before a day.

    Args:
        history: Bytes by day and by what is sold; a day that is missing had none.
        before_s: First hour of the day. It and later days are not looked at.
    """
    first_s = before_s - HISTORY_DAYS * DAY_S
    begun = [day_s for day_s in history if first_s <= day_s < before_s and any(history[day_s].values())]
    if not begun:
        return Profile(method=Method.NONE, days=0, means={})
    days = list(range(min(begun), before_s, DAY_S))
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
    method: Method,
    history: Mapping[int, Mapping[Sold, int]],
    days: list[int],
    means: dict[int, dict[Sold, float]],
) -> Profile:
    parts = []
    for day_s in days:
        expected = sum(means[weekday(day_s)].values())
        if expected:
            parts.append(sum(history.get(day_s, {}).values()) / expected)
    if len(parts) < _DAYS_FROM:
        return Profile(method=method, days=len(days), means=means)
    tenths = quantiles(parts, n=10, method="inclusive")
    # A band holds what is expected, however the days lie.
    return Profile(method=method, days=len(days), means=means, low=min(tenths[0], 1.0), high=max(tenths[-1], 1.0))


class HourShares:
    """How the bytes of what is sold are spread over the hours of a day of the week. Mutable while days are added."""

    def __init__(self) -> None:
        self._sums: dict[tuple[Sold, int], list[int]] = {}

    def add(self, day_s: int, hours: Mapping[int, Mapping[Sold, int]]) -> None:
        """Add a whole day: bytes by hour and by what is sold."""
        for hour_s, solds in hours.items():
            for sold, size in solds.items():
                sums = self._sums.setdefault((sold, weekday(day_s)), [0] * _HOURS)
                sums[(hour_s - day_s) // HOUR_S] += size

    def of(self, sold: Sold, day_s: int) -> list[float]:
        """Share of each hour of a day; equal shares where nothing is known."""
        sums = self._sums.get((sold, weekday(day_s)))
        total = sum(sums) if sums else 0
        return [size / total for size in sums] if sums and total else [1 / _HOURS] * _HOURS

    def rest(self, sold: Sold, day_s: int, from_s: int) -> float:
        """Share of the hours of a day that begin at `from_s` or later."""
        hour = min(max((from_s - day_s + HOUR_S - 1) // HOUR_S, 0), _HOURS)
        return sum(self.of(sold, day_s)[hour:])
