"""Where budgets stand, and which of their thresholds are crossed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.budgets.costs import in_scope
from metering.billing.budgets.forecasts import Forecast, Forecaster, PeriodUsage
from metering.billing.budgets.profiles import HISTORY_DAYS, Method
from metering.hours import date_of, month_bounds_s, month_of
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.billing.budgets.budget import Budget, Threshold
    from metering.billing.budgets.forecasts import DayBytes
    from metering.billing.budgets.open_months import OpenMonths


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPeriod:
    """A month or a day in which a budget begins anew: `2026-11`, `2026-11-24`."""

    name: str
    from_s: int
    to_s: int

    @property
    def month(self) -> str:
        return self.name[:7]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a budget stands in a period.

    Attributes:
        actual: Exact cost (L0) or bytes so far; None if there is no price book to rate by.
        forecast: What the period is expected to end with; None if it has ended, or was not asked for.
        crossed: Thresholds that are reached.
    """

    budget: Budget
    period: BudgetPeriod
    actual: int | None
    forecast: Forecast | None
    crossed: tuple[Threshold, ...]


def period_at(budget: Budget, epoch_s: int) -> BudgetPeriod:
    """The period of a budget that a moment lies in."""
    if budget.period == "day":
        day_s = epoch_s - epoch_s % DAY_S
        return BudgetPeriod(name=date_of(day_s), from_s=day_s, to_s=day_s + DAY_S)
    month = month_of(epoch_s - epoch_s % 3_600)
    from_s, to_s = month_bounds_s(month)
    return BudgetPeriod(name=month, from_s=from_s, to_s=to_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Judges budgets by what is counted.

    Usage only grows, so that a threshold that is reached by what is counted stays reached.

    Attributes:
        through_s: Up to when usage is counted; forecasts expect what comes after it.
    """

    months: OpenMonths
    through_s: int

    def standing(self, budget: Budget, period: BudgetPeriod, *, forecast: bool) -> Standing:
        """Where a budget stands.

        Args:
            budget: One of those that the sums were made for.
            period: One of its periods.
            forecast: Whether a forecast is wanted. It is made only for a period that has not ended.
        """
        actual = self._actual(budget, period)
        expected = None
        if forecast and actual is not None and period.from_s <= self.through_s < period.to_s:
            expected = self.expected(budget, period).at_least(actual)
        crossed = tuple(each for each in budget.thresholds if _is_crossed(each, budget, actual, expected))
        return Standing(budget=budget, period=period, actual=actual, forecast=expected, crossed=crossed)

    def _actual(self, budget: Budget, period: BudgetPeriod) -> int | None:
        days = None if budget.period == "month" else [period.from_s]
        total = 0
        for payer_id in self.months.payers_of(budget, period.month):
            if budget.amount.unit == "bytes":
                usage = self.months.usage_of(payer_id, period.month)
                total += sum(
                    size
                    for region, _, group, sold, size in usage.parts(days)
                    if in_scope(budget.scope, region.region, group, sold)
                )
                continue
            costs = self.months.costs_of(payer_id, period.month)
            if costs is None:
                return None
            total += costs.exact_of(budget.scope, days)
        return total

    def expected(self, budget: Budget, period: BudgetPeriod) -> Forecast:
        """The sum of the forecasts of its payers; their intervals are added up, which makes it wide."""
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
        """Usage of a payer in the month so far and in the weeks before, by what the budget is about and the rest."""
        mine: DayBytes = defaultdict(dict)
        others: DayBytes = defaultdict(dict)
        for day_s in self._days(period):
            for region in self.months.months(month_of(day_s)):
                for group, solds in self.months.summaries.of_payer(region, day_s, payer_id):
                    for sold, size in solds.items():
                        into = (mine if in_scope(budget.scope, region.region, group, sold) else others)[day_s]
                        into[sold] = into.get(sold, 0) + size
        return PeriodUsage(mine=mine, others=others, account_id=budget.scope.account)

    def _days(self, period: BudgetPeriod) -> Iterator[int]:
        first_s, _ = month_bounds_s(period.month)
        today_s = self.through_s - self.through_s % DAY_S
        # A day that is counted in part is left out if nothing of it is: its bytes are those that are to be foretold.
        until_s = today_s + DAY_S if self.through_s > today_s else today_s
        yield from range(min(first_s, today_s - HISTORY_DAYS * DAY_S), until_s, DAY_S)


def _is_crossed(threshold: Threshold, budget: Budget, actual: int | None, expected: Forecast | None) -> bool:
    if threshold.measure == "actual":
        return actual is not None and threshold.crossed(actual, budget.amount.value)
    return expected is not None and expected.known and threshold.crossed(expected.value, budget.amount.value)


def _sum(forecasts: list[Forecast]) -> Forecast:
    """Payers without enough history are in it with what they used so far: a sum is never below what is counted."""
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
