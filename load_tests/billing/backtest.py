"""Forecasts of past months, made as if in the middle of each month, compared with the actual totals.

`python -m load_tests.billing.backtest NAME` tests a budget's forecasts for the given --stage and --region.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from metering.billing.budgets.evaluation import BudgetPeriod, Evaluation
from metering.cli.billing.costing import judged
from metering.cli.billing.home import billing_home
from metering.cli.command import Session, command
from metering.cli.commands.finance.budget import NameArgument
from metering.hours import month_bounds_s, month_of
from metering.reports.budgets import number_text
from metering.units import DAY_S, HOUR_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from metering.billing.budgets.budget import Budget
    from metering.billing.budgets.forecasts import Forecast
    from metering.billing.budgets.open_months import OpenMonths

app = typer.Typer()
MONTHS = 6
_KNOWN_DAYS = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A forecast, and the total that it is compared with."""

    month: str
    counted_days: int
    forecast: Forecast
    actual: int


def tried_on(months: OpenMonths, budget: Budget, now_s: int) -> Iterator[Tried]:
    """Forecasts of the last six completed months, oldest first, without months whose day sums are incomplete."""
    for month in _ended(now_s):
        from_s, to_s = month_bounds_s(month)
        known = [region for region in months.regions if region.index.of_month(month)]
        if not known or any(region.index.from_s > from_s for region in known):
            continue
        evaluation = Evaluation(months=months, through_s=from_s + _KNOWN_DAYS * DAY_S)
        period = BudgetPeriod(name=month, from_s=from_s, to_s=to_s)
        forecast = evaluation.expected(budget, period)
        actual = evaluation.standing(budget, period, forecast=False).actual
        if forecast.known and actual is not None:
            yield Tried(month=month, counted_days=_KNOWN_DAYS, forecast=forecast, actual=actual)


def _ended(now_s: int) -> list[str]:
    found: list[str] = []
    first_s, _ = month_bounds_s(month_of(now_s - now_s % HOUR_S))
    for _ in range(MONTHS):
        month = month_of(first_s - HOUR_S)
        found.append(month)
        first_s, _ = month_bounds_s(month)
    return found[::-1]


@command(app, "backtest", reads=False, everywhere=True)
def backtest(session: Session, name: NameArgument) -> None:
    """Print forecasts of the last six months and the months' totals, at today's prices."""
    view = judged(session, billing_home(session), name)
    [budget] = [each for each in view.months.budgets if each.name == name]
    for each in tried_on(view.months, budget, int(time.time())):
        values = (each.forecast.value, each.forecast.low, each.forecast.high, each.actual)
        value, low, high, actual = (number_text(value, budget.amount.unit) for value in values)
        print(f"{each.month}: expected {value} ({low} to {high}) after {each.counted_days} days, was {actual}")


if __name__ == "__main__":
    app()
