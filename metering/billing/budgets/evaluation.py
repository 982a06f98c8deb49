"""Standings of budgets, with their crossed thresholds; and days of unusual usage."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.budgets.forecasts import HISTORY_DAYS, DayBytes, Forecast, Forecaster, Method, PeriodUsage
from metering.billing.budgets.open_months import OpenMonths, in_scope
from metering.billing.money import EXACT_A_USD
from metering.billing.prices.book import PriceBook, Product
from metering.billing.rating.payer_prices import find
from metering.billing.usage.months import Sold
from metering.hours import date_of, month_bounds_s, month_of
from metering.units import DAY_S
from metering.usage.usage_types import is_processing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.billing.budgets.budget import Budget, Threshold
    from metering.billing.day_sums.days import DayReader, SummedMonth
    from metering.billing.day_sums.index import DayIndex
    from metering.usage.totals import UsageKind


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPeriod:
    """A month or a day: `2026-11`, `2026-11-24`."""

    name: str
    from_s: int
    to_s: int

    @property
    def month(self) -> str:
        return self.name[:7]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Standing of a budget in a period.

    Attributes:
        actual: Exact cost (L0) or bytes so far; None without a price book.
        forecast: Forecast; None if the period has ended, or no forecast was requested.
        processed_bytes: Bytes of processing beside `actual`, which are a second count; None for a budget in USD or of a
            usage type.
    """

    budget: Budget
    period: BudgetPeriod
    actual: int | None
    forecast: Forecast | None
    crossed: tuple[Threshold, ...]
    processed_bytes: int | None = None


def period_at(budget: Budget, epoch_s: int) -> BudgetPeriod:
    """The budget period that contains a given second."""
    if budget.period == "day":
        day_s = epoch_s - epoch_s % DAY_S
        return BudgetPeriod(name=date_of(day_s), from_s=day_s, to_s=day_s + DAY_S)
    month = month_of(epoch_s - epoch_s % 3_600)
    from_s, to_s = month_bounds_s(month)
    return BudgetPeriod(name=month, from_s=from_s, to_s=to_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Evaluates budgets by counted usage. Counted usage only grows, so a crossed threshold remains crossed.

    Attributes:
        through_s: Time up to which usage is counted; forecasts cover the rest of the period.
    """

    months: OpenMonths
    through_s: int

    def standing(self, budget: Budget, period: BudgetPeriod, *, forecast: bool) -> Standing:
        """Standing of a budget in one of its periods. A forecast is made only before the period ends."""
        actual, processed_bytes = self._actual(budget, period)
        expected = None
        if forecast and actual is not None and period.from_s <= self.through_s < period.to_s:
            expected = self.expected(budget, period).at_least(actual)
        crossed = tuple(each for each in budget.thresholds if _is_crossed(each, budget, actual, expected))
        return Standing(
            budget=budget,
            period=period,
            actual=actual,
            forecast=expected,
            crossed=crossed,
            processed_bytes=processed_bytes,
        )

    def _actual(self, budget: Budget, period: BudgetPeriod) -> tuple[int | None, int | None]:
        """Exact cost or bytes so far, and the bytes of processing beside them."""
        days = None if budget.period == "month" else [period.from_s]
        payers = self.months.payers_of(budget, period.month)
        if budget.amount.unit == "bytes":
            sums = {True: 0, False: 0}
            for payer_id in payers:
                for region, _, group, sold, size in self.months.usage_of(payer_id, period.month).parts(days):
                    if in_scope(budget.scope, region.region, group, sold):
                        sums[_counts(budget, sold)] += size
            return sums[True], None if budget.scope.usage_type else sums[False]
        total = 0
        for payer_id in payers:
            costs = self.months.costs_of(payer_id, period.month)
            if costs is None:
                return None, None
            total += costs.exact_of(budget.scope, days)
        return total, None

    def expected(self, budget: Budget, period: BudgetPeriod) -> Forecast:
        """Sum of the forecasts of a budget's payers. The payers' intervals are added up, so the interval is wide."""
        forecaster = Forecaster(
            month=period.month,
            from_s=period.from_s,
            to_s=period.to_s,
            through_s=self.through_s,
            shares=self.months.shares(self.through_s - self.through_s % DAY_S),
        )
        made = []
        for payer_id in self.months.payers_of(budget, period.month):
            usage = self._usage(budget, period, payer_id)
            prices = self.months.terms.prices_of(payer_id)
            if budget.amount.unit == "bytes":
                made.append(forecaster.bytes_of(usage))
            elif prices is not None:
                made.append(forecaster.exact_of(usage, prices))
        return _sum(made)

    def _usage(self, budget: Budget, period: BudgetPeriod, payer_id: str) -> PeriodUsage:
        """A payer's usage in the month so far and in the weeks before it, inside and outside the budget's scope."""
        mine: DayBytes = defaultdict(dict)
        others: DayBytes = defaultdict(dict)
        for day_s in self._days(period):
            for region in self.months.months(month_of(day_s)):
                for group, solds in self.months.summaries.of_payer(region, day_s, payer_id):
                    for sold, size in solds.items():
                        if not _counts(budget, sold):
                            continue
                        into = (mine if in_scope(budget.scope, region.region, group, sold) else others)[day_s]
                        into[sold] = into.get(sold, 0) + size
        return PeriodUsage(mine=mine, others=others, account_id=budget.scope.account)

    def _days(self, period: BudgetPeriod) -> Iterator[int]:
        first_s, _ = month_bounds_s(period.month)
        today_s = self.through_s - self.through_s % DAY_S
        # A partly counted day is included if any of its usage is counted; otherwise the forecast covers the day.
        until_s = today_s + DAY_S if self.through_s > today_s else today_s
        yield from range(min(first_s, today_s - HISTORY_DAYS * DAY_S), until_s, DAY_S)


def _counts(budget: Budget, sold: Sold) -> bool:
    """Whether a budget counts a usage type: in bytes, processing counts only in a budget of that usage type."""
    return budget.amount.unit == "USD" or bool(budget.scope.usage_type) or not is_processing(sold.usage_type)


def _is_crossed(threshold: Threshold, budget: Budget, actual: int | None, expected: Forecast | None) -> bool:
    if threshold.measure == "actual":
        return actual is not None and threshold.crossed(actual, budget.amount.value)
    return expected is not None and expected.known and threshold.crossed(expected.value, budget.amount.value)


def _sum(forecasts: list[Forecast]) -> Forecast:
    """Sum of forecasts. Payers without enough history contribute their usage so far."""
    known = [each for each in forecasts if each.known]
    if not known:
        return Forecast(method=Method.NONE, history_days=max((each.history_days for each in forecasts), default=0))
    shortest = min(known, key=lambda each: each.history_days)
    return Forecast(
        method=shortest.method,
        history_days=shortest.history_days,
        value=sum(each.value for each in forecasts),
        low=sum(each.low for each in forecasts),
        high=sum(each.high for each in forecasts),
        payers_without=len(forecasts) - len(known),
    )


# Anomalies compare bytes and not cost, because cost jumps where a tier begins. A day is unusual if its bytes are more
# than four deviations and more than a quarter above the median of up to eight weeks, and their cost at first prices
# exceeds a floor.


WEEKS = 8
LEAST_WEEKS = 3
# The median absolute deviation times this factor estimates the standard deviation of a normal distribution.
_NORMAL = 1.4826


class Series(NamedTuple):
    """Key of the usage that is compared from week to week."""

    account_id: str
    usage_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalyRules:
    """Limits of usual usage: deviations and percent above the median, and exact cost (L0) of the excess bytes."""

    deviations: float = 4.0
    percent: int = 25
    floor: int = 10 * EXACT_A_USD


RULES = AnomalyRules()


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """An unusual day of a series.

    Attributes:
        kind: The usage kind of the series with the most bytes.
        expected: Median bytes of the same weekday in earlier weeks.
        excess: Exact cost (L0), at list prices, of the bytes above the median.
        weeks: Number of earlier weeks whose usage is known.
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
    """Series with unusual usage on a whole day of a region, most expensive first.

    Memory grows with the number of series of a day.
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
    found = (
        _judged(month.region, day_s, series, today, weeks, book, rules)
        for series in today.sums
        if len(weeks := _with_weeks_of_none(series, before[series], len(known))) >= LEAST_WEEKS
    )
    return sorted((each for each in found if each is not None), key=lambda each: (-each.excess, each.series))


def _with_weeks_of_none(series: Series, before: list[int], known: int) -> list[int]:
    """Bytes of earlier weeks. A week without usage has 0 bytes.

    Of processing such a week is unknown: processing also begins with a release that meters it, or with a flow log.
    """
    return before if is_processing(series.usage_type) else before + [0] * (known - len(before))


def _weeks(index: DayIndex, day_s: int) -> list[int]:
    """Days of the same weekday in earlier weeks, with or without usage, as far back as the region has sums."""
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


def _judged(
    region: str, day_s: int, series: Series, today: _Day, before: list[int], book: PriceBook, rules: AnomalyRules
) -> Anomaly | None:
    size, (_, kind) = today.sums[series], today.largest[series]
    usual = median(before)
    if not is_unusual(size, before, rules):
        return None
    product = find(book, Sold(kind.service, kind.usage_type))
    excess = int(size - usual) * (product.versions[-1].first_price if isinstance(product, Product) else 0)
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
    """Whether a day's bytes are far above those of earlier weeks, regardless of cost."""
    usual = median(before)
    above = size - usual
    deviation = _NORMAL * median(abs(each - usual) for each in before)
    return above > 0 and above > rules.deviations * deviation and above * 100 > usual * rules.percent


def query_of(anomaly: Anomaly) -> str:
    """SQL for `metering query` that names the three largest resources of an anomaly."""
    # Producers choose these names: the contract forbids quotes in them, and doubling escapes any quote anyway.
    account_id, usage_type = (text.replace("'", "''") for text in anomaly.series)
    return (
        "SELECT resource_id, from_location, to_location, sum(bytes) AS bytes FROM transfers "  # noqa: S608  # people type it
        f"WHERE account_id = '{account_id}' AND usage_type = '{usage_type}' "
        "GROUP BY ALL ORDER BY bytes DESC LIMIT 3"
    )
