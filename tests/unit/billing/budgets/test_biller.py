"""The biller: one alert per threshold and period, retried until the topic accepts it, wherever a process is killed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import pytest

from load_tests.billing.backtest import tried_on
from metering.billing.budgets.budget import Scope
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
from metering.billing.budgets.open_months import read_positions
from metering.billing.day_sums.index import DayIndexes
from metering.billing.money import EXACT_A_USD
from metering.billing.prices.store import sample_book
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.usage.months import Sold
from metering.errors import UnavailableError
from metering.hours import month_bounds_s, rfc3339
from metering.ledger.notes.money import BILLER_KEY, BillerFigures
from metering.ledger.periods import Period
from metering.stores.objects import RATED_PREFIX
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, UsageType
from tests.support.budget_world import GB, BudgetWorld, CalledAlerts
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, record
from tests.support.priced import book, paid_by, product
from tests.support.small_world import Calls, KilledError
from tests.unit.billing.budgets.test_budgets import keep

OTHER = "210987654321"
PAYER = "999999999999"


def figures(world: BudgetWorld) -> BillerFigures:
    item = world.items.peek(Table.LEDGER, BILLER_KEY)
    assert item is not None
    return BillerFigures.from_item(item)


def crossing() -> BudgetWorld:
    world = BudgetWorld()
    # 100 GB are free, and each further GB costs 0.09 USD: 10 GB cost 0.90.
    world.use(110 * GB)
    world.set(thresholds=["actual 80%", "actual 0.9 USD", "actual 100%"])
    return world


def test_a_message_says_up_to_when_it_counted_and_what_it_does_not_have() -> None:
    """H-F2: budget messages stated the completeness of reports, which have more usage than budgets."""
    world = crossing()
    world.clock.advance_s(60)
    world.send([record(349 * GB)])
    world.bill()
    said = world.topic.sent[0].fields
    assert said.get("not_counted") == "374,735,896,576 bytes = 349 GB"
    assert said["counted_through"] == rfc3339(NOW_S + 60)
    world = crossing()
    world.bill()
    said = world.topic.sent[0].fields
    assert (said["counted_through"], "not_counted" in said) == (rfc3339(NOW_S), False)


def test_a_crossed_threshold_makes_one_alert_and_one_message() -> None:
    world = crossing()
    first = world.bill()

    assert (first.made, first.sent) == (2, 2)
    by_threshold = {alert.fields["threshold"]: alert for alert in world.topic.sent}
    assert set(by_threshold) == {"actual 80%", "actual 0.9 USD"}
    said = by_threshold["actual 80%"]
    assert (said.severity, said.subject) == ("ticket", "budget egress: actual 80% of 1 USD in 2026-11")
    assert said.fields["actual"] == "0.9000000000 USD"
    assert said.fields["prices"] == f"aws-list {sample_book().version}"
    assert said.fields["look"] == "metering budget check egress --stage local --region us-east-1"
    for _ in range(3):
        again = world.bill()
        assert (again.made, again.sent) == (0, 0)
    assert len(world.topic.sent) == 2
    assert {alert.state for alert in world.alerts_made()} == {"sent"}


def test_after_a_restore_without_the_old_ledger_passed_thresholds_are_not_told_again_but_later_ones_are() -> None:
    world = crossing()
    quiet = BillerFigures(first_s=1, finished_s=0, counted_s=0, quiet=True)
    world.items.put(Put(table=Table.LEDGER, item=quiet.to_item()))
    first = world.bill()
    assert (first.behind_s, first.made, first.sent) == (0, 2, 0)
    assert {alert.state for alert in world.alerts_made()} == {"sent"}
    world.use(108 * GB)
    world.set(thresholds=["actual 100%"])
    assert world.bill().sent == 1


def test_below_every_threshold_nobody_hears_anything() -> None:
    world = BudgetWorld()
    world.use(108 * GB)
    world.set(thresholds=["actual 80%"], severity="page")
    assert world.bill().budgets == 1
    assert not world.topic.sent

    world.use(GB)
    assert world.bill().made == 1
    assert [alert.severity for alert in world.topic.sent] == ["page"], "the severity chooses the topic"


@pytest.mark.parametrize("seed", range(50))
def test_fifty_runs_with_kills_between_tell_each_threshold_once_or_again_with_its_id(seed: int) -> None:
    """Each run is killed before or after a different call, and then restarted."""
    world, calls, topic = watched()
    deaths_after_a_message = 0
    for turn in range(8):
        place = (seed * 7 + turn * 13) % 60
        calls.names.clear()
        calls.before, calls.after = ({place: KilledError()}, {}) if (seed + turn) % 2 else ({}, {place: KilledError()})
        sent = len(topic.sent)
        try:
            world.bill()
        except KilledError:
            deaths_after_a_message += len(topic.sent) > sent
    calls.before, calls.after = {}, {}
    calls.names.clear()
    world.bill()

    check_sent(world, topic, f"seed {seed}")
    assert 2 <= len(topic.sent) <= 2 + deaths_after_a_message


def check_sent(world: BudgetWorld, topic: CalledAlerts, where: str) -> None:
    """Check that both alerts exist and were sent with their ids."""
    made = world.alerts_made()
    assert [alert.state for alert in made] == ["sent", "sent"], where
    assert {alert.fields["id"] for alert in topic.sent} == {alert.id for alert in made}, where


def watched() -> tuple[BudgetWorld, Calls, CalledAlerts]:
    """A region with due alerts, and the recorded calls of the next process."""
    world, calls = crossing(), Calls()
    topic = CalledAlerts(calls.on_call, calls.on_reply)
    for store in (world.items, world.objects):
        store.on_call, store.on_reply = calls.on_call, calls.on_reply
    world.topic = topic
    return world, calls, topic


def test_every_call_of_the_job_may_be_its_last() -> None:
    """A message repeats, with the same id, only after a kill between its sending and its marking as sent."""
    world, calls, topic = watched()
    world.bill()
    names = list(calls.names)
    assert len(topic.sent) == 2
    messages = [place for place, name in enumerate(names) if name == "alerts.send"]
    # The biller is killed after a message was sent and before its mark was written; the mark or the reply may be lost.
    between = {(place, True) for place in messages} | {(place + 1, False) for place in messages}

    for place in range(len(names)):
        for after in (False, True):
            world, calls, topic = watched()
            (calls.after if after else calls.before)[place] = KilledError()
            # Some calls have no reply to lose.
            with suppress(KilledError):
                world.bill()
            calls.before, calls.after = {}, {}
            world.bill()
            world.bill()

            where = f"{'after' if after else 'before'} call {place}, {names[place]}"
            check_sent(world, topic, where)
            assert len(topic.sent) == (3 if (place, after) in between else 2), where


def test_an_alert_that_the_topic_did_not_take_is_sent_by_the_next_run() -> None:
    class Mute(CalledAlerts):
        def send(self, severity: str, subject: str, fields: Mapping[str, str | int]) -> None:
            raise UnavailableError("sns.Publish", "throttled")

    world = crossing()
    topic, world.topic = world.topic, Mute(lambda _: None, lambda _: None)
    with pytest.raises(UnavailableError):
        world.bill()
    assert {alert.state for alert in world.alerts_made()} == {"new"}

    world.topic = topic
    world.bill()
    assert len(topic.sent) == 2
    assert {alert.state for alert in world.alerts_made()} == {"sent"}


class NoCauses:
    """A keeper of causes that cannot count."""

    def keep(self, _deadline: object, _kept: object) -> None:
        raise UnavailableError("s3.GetObject", "gone", may_have_applied=False)


def test_causes_that_cannot_be_counted_delay_no_alert_and_the_biller_counts_as_behind() -> None:
    world = BudgetWorld()
    world.set(amount="0.0000000001 USD")
    world.bill()
    counted_s = figures_of(world).counted_s
    world.clock.sleep_ms(60_000)
    world.use(200 * GB)
    with pytest.raises(UnavailableError):
        replace(world.biller(), causes=NoCauses()).run(world.deadline())  # type: ignore[arg-type]  # what the biller calls
    assert len(world.topic.sent) == 1
    assert figures_of(world).counted_s == counted_s
    world.bill()
    assert figures_of(world).counted_s > counted_s


def figures_of(world: BudgetWorld) -> BillerFigures:
    item = world.items.get(Table.LEDGER, BILLER_KEY)
    assert item is not None
    return BillerFigures.from_item(item)


def test_another_month_begins_anew_and_a_changed_budget_is_another_one() -> None:
    world = crossing()
    world.bill()
    world.set(amount="0.5 USD", thresholds=["actual 80%"])
    world.bill()
    assert [alert.fields["amount"] for alert in world.topic.sent] == ["1 USD", "1 USD", "0.5 USD"]

    world.clock.sleep_ms(14 * DAY_S * 1000)
    world.use(200 * GB, start_s=NOW_S + 14 * DAY_S)
    world.bill()
    assert [alert.fields["period"] for alert in world.topic.sent] == ["2026-11"] * 3 + ["2026-12"]


def test_a_budget_in_bytes_needs_no_prices() -> None:
    world = BudgetWorld()
    world.book = None
    world.use(3 * GB)
    world.set(amount="4 GB", thresholds=["actual 75%", "actual 4 GB"], scope=Scope(usage_type="DataTransfer-Out-Bytes"))
    world.set("money", thresholds=["actual 1%"])
    world.bill()
    assert [alert.fields["actual"] for alert in world.topic.sent] == ["3,221,225,472 bytes = 3.00 GB"]


def test_a_budget_in_bytes_leaves_processing_out_and_names_it_unless_it_is_about_it() -> None:
    world = BudgetWorld()
    world.use(3 * GB)
    world.send([record(2 * GB) | {"usage_type": "NatGateway-Bytes"}])
    world.compact_all()
    world.keep()
    found = []
    for scope in (Scope(account=ACCOUNT), Scope(usage_type="NatGateway-Bytes")):
        budget = world.set(amount="5 GB", thresholds=["actual 100%"], scope=scope)
        evaluation = Evaluation(months=world.months(budget), through_s=NOW_S)
        standing = evaluation.standing(budget, period_at(budget, NOW_S), forecast=False)
        found.append((standing.actual, standing.processed_bytes, standing.crossed))
    assert found == [(3 * GB, 2 * GB, ()), (2 * GB, None, ())]


def test_tiers_and_the_allowance_of_an_account_are_those_of_its_payer() -> None:
    """Both accounts used 60 GB: 20 GB exceed the 100 free GB, and count for the account that used them later."""
    world = BudgetWorld(organization=replace(paid_by(PAYER, (ACCOUNT, OTHER)), version=1))
    world.use(60 * GB, start_s=NOW_S - 3_600)
    world.use(60 * GB, account=OTHER)
    world.set("first", scope=Scope(account=ACCOUNT), amount="0.0000000001 USD")
    world.set("later", scope=Scope(account=OTHER), amount="1.8 USD", thresholds=["actual 100%"])
    world.set("payer", scope=Scope(payer=PAYER), amount="1.8 USD", thresholds=["actual 100%"])
    world.set("region", scope=Scope(region="us-east-1"), amount="1.8 USD", thresholds=["actual 100%"])
    world.set("elsewhere", scope=Scope(region="eu-west-1"), amount="0.01 USD")
    world.bill()
    assert {alert.fields["budget"] for alert in world.topic.sent} == {"later", "payer", "region"}

    kept = read_positions(world.objects, "2026-11", PAYER)
    assert kept is not None
    assert world.book is not None
    assert kept.fits(world.book, 0, 1)
    assert not kept.fits(world.book, 1, 1)
    assert kept.positions.skus


def test_usage_that_the_book_does_not_know_or_has_no_price_for_yet_is_counted_and_costs_nothing() -> None:
    unknown = BudgetWorld()
    unknown.use(5 * GB, to="ap-southeast-9")
    unknown.set(amount="0.01 USD")
    out = product("OUT", "DataTransfer-Out-Bytes", ((None, "0.09"),))
    since = replace(out, versions=(replace(out.versions[0], from_s=HOUR),))
    early = BudgetWorld(book=replace(book((since,)), name="aws-list"))
    early.use(GB)
    early.use(5 * GB, start_s=NOW_S - 2 * HOUR_S)
    for world in (unknown, early):
        world.bill()
        assert (figures(world).unpriced_bytes, figures(world).unpriced_types) == (5 * GB, 1)
        assert not world.topic.sent


def test_a_region_that_is_not_home_keeps_sums_and_judges_nothing() -> None:
    world = crossing()
    result = world.biller(at_home=False).run(world.deadline())
    assert (result.files, result.budgets, result.made) == (1, 0, 0)
    assert [info.key for info in world.objects.list(RATED_PREFIX)]
    assert not world.alerts_made()


def test_a_region_that_gives_no_answer_is_named() -> None:
    world = crossing()
    gone = BudgetWorld()

    def refuse(_call: str) -> None:
        raise UnavailableError("s3", "no answer")

    gone.objects.on_call = refuse
    world.others = [gone.sums("eu-west-1")]
    result = world.bill()
    assert result.left_out == ("eu-west-1",)
    assert world.topic.sent[0].fields["left_out"] == "eu-west-1"
    assert figures(world).left_out == ("eu-west-1",)


def test_days_that_did_not_change_are_not_read_again() -> None:
    world = crossing()
    for days in range(1, 6):
        world.use(GB, start_s=NOW_S - days * DAY_S)
    world.bill()
    read: list[str] = []
    world.objects.on_call = read.append
    world.bill()
    world.objects.on_call = lambda _: None
    assert read.count("objects.get") <= 8, read


def test_a_month_that_is_closed_in_every_region_is_not_judged() -> None:
    world = crossing()
    closed = Period(month="2026-11", state="closed", frozen_key="closed/2026-11.json")
    world.items.put(Put(table=Table.LEDGER, item=closed.to_item()))
    result = world.bill()
    assert (result.budgets, result.made) == (0, 0)


# Forecasts: bytes by weekday, rated through the tiers, with an interval.
OUT = Sold(Service("AmazonEC2"), UsageType("DataTransfer-Out-Bytes"))
FIRST, AFTER = month_bounds_s("2026-11")
PRICES = PayerPrices(sample_book(), ACCOUNT)


def steady(gb_a_day: int, *, days: int, until_s: int) -> DayBytes:
    return {until_s - back * DAY_S: {OUT: gb_a_day * GB} for back in range(1, days + 1)}


def forecaster(through_s: int) -> Forecaster:
    return Forecaster(month="2026-11", from_s=FIRST, to_s=AFTER, through_s=through_s, shares=HourShares())


def usage_of(gb_a_day: int, through_s: int, others: DayBytes | None = None) -> PeriodUsage:
    """An account with 40 days of steady usage."""
    mine = steady(gb_a_day, days=40, until_s=through_s)
    return PeriodUsage(mine=mine, others=others or {}, account_id=ACCOUNT)


def test_steady_usage_is_expected_to_go_on() -> None:
    through_s = FIRST + 15 * DAY_S
    made = forecaster(through_s).bytes_of(usage_of(10, through_s))
    assert made.method is Method.WEEKDAYS
    assert (made.value, made.low, made.high) == (300 * GB, 300 * GB, 300 * GB)


def test_expected_bytes_run_through_the_allowance_and_the_tiers() -> None:
    """The 50 GB used by the 10th day cost nothing yet. A forecast linear in cost would predict 0 for the month."""
    through_s = FIRST + 10 * DAY_S
    made = forecaster(through_s).exact_of(usage_of(5, through_s), PRICES)
    assert made.value == 50 * 9 * EXACT_A_USD // 100

    large = usage_of(1_000, through_s)
    # 30,000 GB: 100 are free, 10,240 at 0.09, the rest at 0.085.
    dear = (10_240 * 900 + 19_660 * 850) * EXACT_A_USD // 10_000
    assert forecaster(through_s).exact_of(large, PRICES).value == dear
    # The payer's other accounts also use the allowance and the tiers.
    beside = forecaster(through_s).exact_of(usage_of(5, through_s, large.mine), PRICES)
    assert beside.value > 2 * made.value


@pytest.mark.parametrize(
    ("days", "method"),
    [(0, Method.NONE), (2, Method.NONE), (3, Method.MEAN_DAY), (13, Method.MEAN_DAY), (14, Method.WEEKDAYS)],
)
def test_little_history_says_less(days: int, method: Method) -> None:
    profile = profile_of(steady(1, days=days, until_s=FIRST), FIRST)
    assert (profile.method, profile.days) == (method, days)


def test_days_of_the_week_are_told_apart_and_older_weeks_forgotten() -> None:
    days = [FIRST - back * DAY_S for back in range(1, HISTORY_DAYS + 1)]
    history = {day_s: {OUT: (7 if weekday(day_s) == 6 else 1) * GB} for day_s in days}
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
    """All bytes of a day arrive before noon, so the forecast at noon adds nothing for the day."""
    world = BudgetWorld()
    today_s = NOW_S - NOW_S % DAY_S
    for week in (7, 14, 21):
        world.use(24 * GB, start_s=today_s - week * DAY_S + 9 * HOUR_S)
    world.keep()
    shares = world.months().shares(today_s)
    assert shares.rest(OUT, today_s, today_s + 12 * HOUR_S) == 0
    assert shares.rest(OUT, today_s, today_s + 9 * HOUR_S) == 1
    assert shares.rest(OUT, today_s + DAY_S, today_s + DAY_S + 12 * HOUR_S) == pytest.approx(0.5)


def test_no_byte_of_a_day_is_lost_between_its_hours() -> None:
    usage = ExpectedUsage("2026-11", {ACCOUNT: {FIRST: {OUT: 1_000_003}}, "~": {FIRST: {OUT: 7}}}, HourShares())
    lines = list(usage.lines_of(frozenset([OUT]), FIRST))
    assert sum(line.bytes for line in lines) == 1_000_010
    assert lines == sorted(lines)
    assert usage.days() == {OUT: {FIRST: 1_000_010}}


def test_a_forecast_is_never_less_than_what_is_counted_while_the_watch_is_behind() -> None:
    world = BudgetWorld()
    today_s = NOW_S - NOW_S % DAY_S
    for days in range(1, 21):
        world.use(GB, start_s=today_s - days * DAY_S)
    world.complete_through(today_s - DAY_S)
    world.use(400 * GB, start_s=today_s)
    budget = world.set(amount="250 GB", thresholds=["forecast 100%"])
    world.bill()
    evaluation = Evaluation(months=world.months(budget), through_s=today_s - DAY_S)
    found = evaluation.standing(budget, period_at(budget, NOW_S), forecast=True)
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
    """Two months with 10 GB a day: a forecast in the middle of the second month is exact, in bytes and over tiers."""
    world = BudgetWorld()
    end_s, _ = month_bounds_s("2026-11")
    keep(world, {end_s - back * DAY_S: {ACCOUNT: 10} for back in range(1, 62)})
    in_bytes = world.set("bytes", amount="1 TB", scope=Scope(account=ACCOUNT))
    in_usd = world.set("usd", amount="5 USD", scope=Scope(account=ACCOUNT))
    months = world.months(in_bytes, in_usd)

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
    assert list(tried_on(world.months(budget), budget, NOW_S)) == []


def test_a_payer_without_history_is_in_a_forecast_over_all_with_what_it_used_so_far() -> None:
    """Otherwise the forecast would be less than the usage counted so far."""
    world = BudgetWorld()
    for back in range(21):
        world.use(10 * GB, start_s=NOW_S - back * DAY_S)
    world.use(500 * GB, account="222222222222")
    scope = Scope(usage_type="DataTransfer-Out-Bytes")
    budget, old = world.set(amount="900 GB", scope=scope), world.set("old", amount="900 GB")
    world.bill()
    months = world.months(budget, old)
    evaluation = Evaluation(months=months, through_s=months.through_s)
    both, alone = (evaluation.standing(each, period_at(each, NOW_S), forecast=True) for each in (budget, old))
    assert both.forecast
    assert alone.forecast
    assert both.actual
    assert both.forecast.value == alone.forecast.value + 500 * GB
    assert (both.forecast.payers_without, alone.forecast.payers_without) == (1, 0)
    assert both.forecast.value >= both.actual
