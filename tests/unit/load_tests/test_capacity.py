"""A day with provisioned capacity is simulated as AWS documents auto scaling, and each thing that it shows can fail."""

from collections import Counter
from dataclasses import replace

import pytest

from load_tests.capacity import PROVISIONED, SCENARIOS, Curve, Day, Lags, Scaler, judged, simulated
from metering.fleet.stage import StageConfig
from metering.units import DAY_S, HOUR_S, MINUTE_S

# The peak begins after twenty minutes, in which the bucket of burst is filled.
SOON = Curve(begin_s=20 * MINUTE_S, end_s=140 * MINUTE_S)
SHORT_S = 70 * MINUTE_S


def scaler(lags: Lags | None = None, *, capacity: int = 1_000) -> Scaler:
    return Scaler(config=PROVISIONED, lags=lags or Lags(), capacity=capacity)


def minutes(table: Scaler, units_per_s: float, count: int) -> None:
    """Consume so much a second for some minutes, as far as the table has it."""
    for _ in range(count):
        for _ in range(MINUTE_S):
            table.second()
            table.take(units_per_s)
        table.minute()


def test_the_mean_of_the_curve_is_the_target() -> None:
    assert sum(map(Curve().at, range(DAY_S))) == pytest.approx(12_000_000)
    assert Curve().at(13 * HOUR_S) == pytest.approx(3 * 12_000_000 / DAY_S)


def test_a_peak_of_two_hours_throttles_some_commits_and_makes_no_dead_letter() -> None:
    day = simulated(Lags(), SOON, seconds=SHORT_S)
    assert 0 < day.throttled < day.commits / 100
    assert day.dead == 0
    assert max(day.receives) < PROVISIONED.max_receives - 2
    assert day.throttled_min <= 5
    assert day.batches - day.accepted < 2_000


def test_capacity_that_can_never_suffice_makes_dead_letters() -> None:
    # A peak of 160 batches/s takes 350 units a second.
    curve = Curve(mean=20, times=8, begin_s=0)
    limits = {"ledger_max_writes_per_s": 200, "max_concurrency": 8, "max_receives": 4}
    too_small = StageConfig.load("prod", {"billing": "provisioned", **limits})
    assert simulated(Lags(), curve, config=too_small, seconds=30 * MINUTE_S).dead > 0


def test_dead_letters_of_a_day_as_aws_describes_it_fail_and_those_of_a_slower_one_are_shown() -> None:
    good = simulated(Lags(), Curve(), seconds=MINUTE_S)
    bad = replace(good, dead=1)
    assert judged(dict.fromkeys(SCENARIOS, good)) == 0
    assert judged({name: good if lags == Lags() else bad for name, (lags, _) in SCENARIOS.items()}) == 0
    assert [judged({name: bad}) for name in SCENARIOS] == [1, 0, 0, 1]


def test_a_price_is_that_of_the_units_and_half_used_capacity_costs_twice() -> None:
    day = Day(
        batches=0, accepted=0, dead=0, commits=0, throttled=0, throttled_min=0, receives=Counter(), longest_s=0,
        units=3_600_000.0, capacity=7_200_000.0, most=0,
    )  # fmt: skip
    assert day.use == 0.5
    assert day.usd == pytest.approx((2.25, 7_200_000 / 3_600 * 0.00065))


def test_capacity_rises_after_two_minutes_above_the_target_and_as_late_as_a_change_takes() -> None:
    table = scaler()
    minutes(table, 800, 2 + 1 + 2)
    assert table.capacities == [1_000] * 5
    minutes(table, 800, 2)
    assert table.capacities[-1] == 1_143  # 800 / 0.7


def test_one_minute_above_the_target_changes_nothing() -> None:
    table = scaler()
    for _ in range(10):
        minutes(table, 800, 1)
        minutes(table, 650, 1)
    assert set(table.capacities) == {1_000}


def test_capacity_falls_after_fifteen_minutes_far_below_the_target_and_never_below_the_least() -> None:
    table = scaler()
    minutes(table, 400, 17)
    assert set(table.capacities) == {1_000}
    minutes(table, 400, 3)
    assert table.capacity == 572  # 400 / 0.7
    minutes(table, 1, 40)
    assert table.capacity == PROVISIONED.ledger_min_writes_per_s


def test_a_day_has_four_decreases_and_one_more_for_each_hour_without_one() -> None:
    table = scaler(Lags(low_min=1, update_min=0, metric_min=0), capacity=4_000)
    used = 1_600.0
    for _ in range(5):
        minutes(table, used, 4)
        used *= 0.6
    assert len(table._decreased) == 4
    minutes(table, used, 61)
    assert len(table._decreased) == 5


def test_unused_capacity_of_five_minutes_is_kept_and_no_more() -> None:
    table = scaler()
    minutes(table, 0, 10)
    assert table.take(1_000 * 300)
    assert not table.take(1_001)


def test_a_table_that_throttles_shows_auto_scaling_no_more_than_it_has() -> None:
    table = scaler(Lags(burst_s=0))
    minutes(table, 1_000, 7)
    # Demand of 3,000 a second would be seen as 1,000.
    assert table.capacity == 1_429  # 1,000 / 0.7
