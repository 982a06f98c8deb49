"""Forecasts: bytes by the day of the week, run through the tiers, with an interval."""

from __future__ import annotations

from dataclasses import replace

import pytest

from load_tests.billing.backtest import tried_on
from metering.billing.budgets.budget import Budget, Scope
from metering.billing.budgets.evaluation import Evaluation, period_at
from metering.billing.budgets.forecasts import (
    HISTORY_DAYS,
    DayBytes,
    ExpectedUsage,
    Forecaster,
    HourShares,
    Method,
    PeriodUsage,
    profile_of,
    weekday,
)
from metering.billing.budgets.open_months import OpenMonths, Terms, read_regions
from metering.billing.day_sums.index import DayIndexes
from metering.billing.money import EXACT_A_USD
from metering.billing.prices.store import sample_book
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.usage.months import Sold
from metering.hours import month_bounds_s
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, UsageType
from tests.support.budget_world import GB, REGION, BudgetWorld, OwnSums
from tests.support.lake_world import ACCOUNT, NOW_S
from tests.unit.billing.budgets.test_anomalies import keep

OUT = Sold(Service("AmazonEC2"), UsageType("DataTransfer-Out-Bytes"))
FIRST, AFTER = month_bounds_s("2026-11")
PRICES = PayerPrices(sample_book(), ACCOUNT)


def steady(gb_a_day: int, *, days: int, until_s: int) -> DayBytes:
    return {until_s - back * DAY_S: {OUT: gb_a_day * GB} for back in range(1, days + 1)}


def forecaster(through_s: int) -> Forecaster:
    return Forecaster(month="2026-11", from_s=FIRST, to_s=AFTER, through_s=through_s, shares=HourShares())


def test_steady_usage_is_expected_to_go_on() -> None:
    through_s = FIRST + 15 * DAY_S
    usage = PeriodUsage(mine=steady(10, days=40, until_s=through_s), others={}, account_id=ACCOUNT)
    made = forecaster(through_s).bytes_of(usage)
    assert made.method is Method.WEEKDAYS
    assert (made.value, made.low, made.high) == (300 * GB, 300 * GB, 300 * GB)


def test_expected_bytes_run_through_the_allowance_and_the_tiers() -> None:
    """50 GB by the 15th cost nothing yet. A forecast that is linear in cost would say so for the month, too."""
    through_s = FIRST + 10 * DAY_S
    usage = PeriodUsage(mine=steady(5, days=40, until_s=through_s), others={}, account_id=ACCOUNT)
    made = forecaster(through_s).exact_of(usage, PRICES)
    assert made.value == 50 * 9 * EXACT_A_USD // 100

    large = PeriodUsage(mine=steady(1_000, days=40, until_s=through_s), others={}, account_id=ACCOUNT)
    dear = forecaster(through_s).exact_of(large, PRICES)
    # 30,000 GB: 100 free, 10,240 at 0.09, the rest at 0.085.
    assert dear.value == (10_240 * 900 + 19_660 * 850) * EXACT_A_USD // 10_000


def test_the_rest_of_a_payer_takes_the_allowance_and_the_tiers_along() -> None:
    through_s = FIRST + 10 * DAY_S
    mine, others = steady(5, days=40, until_s=through_s), steady(1_000, days=40, until_s=through_s)
    alone = forecaster(through_s).exact_of(PeriodUsage(mine=mine, others={}, account_id=ACCOUNT), PRICES)
    beside = forecaster(through_s).exact_of(PeriodUsage(mine=mine, others=others, account_id=ACCOUNT), PRICES)
    assert beside.value > 2 * alone.value


@pytest.mark.parametrize(
    ("days", "method"),
    [(0, Method.NONE), (2, Method.NONE), (3, Method.MEAN_DAY), (13, Method.MEAN_DAY), (14, Method.WEEKDAYS)],
)
def test_little_history_says_less(days: int, method: Method) -> None:
    profile = profile_of(steady(1, days=days, until_s=FIRST), FIRST)
    assert (profile.method, profile.days) == (method, days)


def test_days_of_the_week_are_told_apart_and_older_weeks_forgotten() -> None:
    history = {
        FIRST - back * DAY_S: {OUT: (7 if weekday(FIRST - back * DAY_S) == 6 else 1) * GB}
        for back in range(1, HISTORY_DAYS + 1)
    }
    history |= {FIRST - back * DAY_S: {OUT: 1_000 * GB} for back in range(HISTORY_DAYS + 1, 60)}
    profile = profile_of(history, FIRST)
    sunday = next(FIRST + day * DAY_S for day in range(7) if weekday(FIRST + day * DAY_S) == 6)
    assert profile.expected(sunday) == {OUT: 7 * GB}
    assert profile.expected(sunday + DAY_S) == {OUT: GB}


def test_a_day_without_usage_counts_as_one() -> None:
    history = {FIRST - back * DAY_S: {OUT: 10} for back in (1, 5, 10)}
    assert profile_of(history, FIRST).expected(FIRST) == {OUT: 3.0}


def test_days_that_differ_make_the_interval_wide_and_more_days_make_it_narrow() -> None:
    sizes = (5, 10, 15, 20)
    history = {FIRST - back * DAY_S: {OUT: sizes[back // 7] * GB} for back in range(28)} | {FIRST: {OUT: 1}}
    profile = profile_of(history, FIRST)
    low, high = profile.band(1)
    assert low < 1 < high
    assert profile.band(16)[1] - 1 == pytest.approx((high - 1) / 4)


def test_the_rest_of_a_day_is_expected_by_its_hours() -> None:
    """All bytes come before noon, so at noon nothing more is expected of today."""
    world = BudgetWorld()
    for week in (7, 14, 21):
        world.use(24 * GB, start_s=NOW_S - NOW_S % DAY_S - week * DAY_S + 9 * HOUR_S)
    world.keeper().keep(world.deadline())
    shares = months_of(world).shares(NOW_S - NOW_S % DAY_S)
    today_s = NOW_S - NOW_S % DAY_S
    assert shares.rest(OUT, today_s, today_s + 12 * HOUR_S) == 0
    assert shares.rest(OUT, today_s, today_s + 9 * HOUR_S) == 1
    assert shares.rest(OUT, today_s + DAY_S, today_s + DAY_S + 12 * HOUR_S) == pytest.approx(0.5)


def test_no_byte_of_a_day_is_lost_between_its_hours() -> None:
    usage = ExpectedUsage("2026-11", {ACCOUNT: {FIRST: {OUT: 1_000_003}}, "~": {FIRST: {OUT: 7}}}, HourShares())
    lines = list(usage.lines_of(frozenset([OUT]), FIRST))
    assert sum(line.bytes for line in lines) == 1_000_010
    assert lines == sorted(lines)
    assert usage.days() == {OUT: {FIRST: 1_000_010}}


def months_of(world: BudgetWorld, *budgets: Budget) -> OpenMonths:
    sums = OwnSums(region=REGION, objects=world.objects, totals=world.make_jobs().totals)
    regions, _ = read_regions([sums])
    terms = Terms(book=world.book, overrides=world.overrides, organization=world.organization)
    return OpenMonths(objects=world.objects, regions=regions, terms=terms, budgets=budgets)


def test_a_forecast_is_never_less_than_what_is_counted_while_the_watch_is_behind() -> None:
    world = BudgetWorld()
    today_s = NOW_S - NOW_S % DAY_S
    for days in range(1, 21):
        world.use(GB, start_s=today_s - days * DAY_S)
    world.complete_through(today_s - DAY_S)
    world.use(400 * GB, start_s=today_s)
    budget = world.set(amount="250 GB", thresholds=["forecast 100%"])
    world.bill()
    found = Evaluation(months=months_of(world, budget), through_s=today_s - DAY_S).standing(
        budget, period_at(budget, NOW_S), forecast=True
    )
    assert found.actual == 420 * GB
    assert found.forecast is not None
    assert min(found.forecast.value, found.forecast.low, found.forecast.high) >= found.actual
    assert found.crossed == budget.thresholds


def test_a_forecast_alert_is_made_once_and_is_labelled_as_a_forecast() -> None:
    world = BudgetWorld()
    for back in range(21):
        world.use(10 * GB, start_s=NOW_S - back * DAY_S)
    world.set(amount="250 GB", thresholds=["actual 100%", "forecast 100%"])
    world.bill()
    world.bill()
    [alert] = world.topic.sent
    assert alert.fields["threshold"] == "forecast 100%"
    assert alert.fields["forecast_by"] == "the same day of the week in up to four weeks, 20 days"
    assert "to" in str(alert.fields["forecast_10_90_percent"])


def test_a_day_begins_anew_each_day() -> None:
    world = BudgetWorld()
    world.use(3 * GB)
    world.use(9 * GB, start_s=NOW_S - 2 * DAY_S)
    world.set(amount="2 GB", period="day", thresholds=["actual 100%"])
    world.bill()
    assert [alert.fields["period"] for alert in world.topic.sent] == ["2026-11-24"]
    world.use(3 * GB, start_s=NOW_S - DAY_S)
    world.bill()
    assert [alert.fields["period"] for alert in world.topic.sent] == ["2026-11-24", "2026-11-23"]


def test_the_backtest_tries_months_that_have_ended_and_are_counted_whole() -> None:
    """Two months at 10 GB a day: a forecast in the middle of the second is right, in bytes and through the tiers."""
    world = BudgetWorld()
    end_s, _ = month_bounds_s("2026-11")
    keep(world, {end_s - back * DAY_S: {ACCOUNT: 10} for back in range(1, 62)})
    in_bytes = world.set("bytes", amount="1 TB", scope=Scope(account=ACCOUNT))
    in_usd = world.set("usd", amount="5 USD", scope=Scope(account=ACCOUNT))
    months = months_of(world, in_bytes, in_usd)

    size, cost = ({each.month: each for each in tried_on(months, budget, NOW_S)} for budget in (in_bytes, in_usd))
    assert "2026-10" in size.keys() & cost.keys()
    assert (size["2026-10"].forecast.value, size["2026-10"].actual) == (310 * GB, 310 * GB)
    assert cost["2026-10"].actual == cost["2026-10"].forecast.value == 210 * 9 * EXACT_A_USD // 100
    assert size["2026-10"].counted_days == 15


def test_a_month_that_is_not_counted_whole_is_not_tried() -> None:
    world = BudgetWorld()
    end_s, _ = month_bounds_s("2026-11")
    month = keep(world, {end_s - back * DAY_S: {ACCOUNT: 10} for back in range(1, 40)})
    DayIndexes(objects=world.objects).put(replace(month.index, number=2, from_s=end_s - 20 * DAY_S))
    budget = world.set("bytes", amount="1 TB", scope=Scope(account=ACCOUNT))
    assert list(tried_on(months_of(world, budget), budget, NOW_S)) == []


def test_a_payer_without_history_is_in_a_forecast_over_all_with_what_it_used_so_far() -> None:
    """Else less would be expected than is counted already."""
    world = BudgetWorld()
    for back in range(21):
        world.use(10 * GB, start_s=NOW_S - back * DAY_S)
    world.use(500 * GB, account="222222222222")
    scope = Scope(usage_type="DataTransfer-Out-Bytes")
    budget, old = world.set(amount="900 GB", scope=scope), world.set("old", amount="900 GB")
    world.bill()
    months = months_of(world, budget, old)
    evaluation = Evaluation(months=months, through_s=months.through_s)
    both, alone = (evaluation.standing(each, period_at(each, NOW_S), forecast=True) for each in (budget, old))
    assert both.forecast
    assert alone.forecast
    assert both.actual
    assert both.forecast.value == alone.forecast.value + 500 * GB
    assert (both.forecast.payers_without, alone.forecast.payers_without) == (1, 0)
    assert both.forecast.value >= both.actual
