"""Unusual days: far above the median of earlier weeks, in bytes, and dear enough to look."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.billing.budgets.biller import MOST_MESSAGES
from metering.billing.budgets.evaluation import AnomalyRules, anomalies_of, is_unusual
from metering.billing.day_sums.days import DayAddition, SummedMonth, day_body, digest_of, empty_day
from metering.billing.day_sums.index import DayIndex, DayIndexes
from metering.billing.money import EXACT_A_USD
from metering.billing.prices.store import sample_book
from metering.ledger.booked_hours import LakeFile
from metering.stores.objects import rated_day_key
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageType
from tests.support.budget_world import GB, REGION, BudgetWorld
from tests.support.lake_world import ACCOUNT, NOW_S

if TYPE_CHECKING:
    from collections.abc import Mapping

TODAY = NOW_S - NOW_S % DAY_S
YESTERDAY = TODAY - DAY_S
NOISE = [90, 110, 100, 95, 105, 100, 98, 102]


@pytest.mark.parametrize(
    ("size", "before", "unusual"),
    [
        (1_000, NOISE, True),
        (124, NOISE, False),
        (126, NOISE, True),
        (10, NOISE, False),
        (100, [100] * 8, False),
        (125, [100] * 8, False),
        (126, [100] * 8, True),
        (5, [0] * 8, True),
        (0, [0] * 8, False),
        (1_000, [1, 900, 1, 1_100, 1, 1_000, 1, 950], False),
    ],
)
def test_a_day_is_unusual_if_it_is_far_above_the_median(size: int, before: list[int], unusual: bool) -> None:
    assert is_unusual(size, before) is unusual


def test_one_outlier_in_the_past_hides_nothing() -> None:
    assert is_unusual(1_000, [*NOISE[:-1], 1_000_000])


def keep(world: BudgetWorld, days: Mapping[int, Mapping[str, int]], *, through_s: int = TODAY) -> SummedMonth:
    """Day sums of one usage type, as the biller keeps them: day -> account -> GB."""
    keys: dict[int, str] = {}
    for day_s, accounts in days.items():
        addition = DayAddition(empty_day(day_s))
        totals = [
            (
                UsageKey(
                    day_s, account, UsageType("DataTransfer-Out-Bytes"), Service("AmazonEC2"), "us-east-1", "internet"
                ),
                Total(gb * GB, 1),
            )
            for account, gb in accounts.items()
        ]
        addition.add(day_s, LakeFile(key=f"lake/{day_s}", rows=1, bytes=1), totals)
        body = day_body(addition.head(), addition.accounts(()))
        keys[day_s] = rated_day_key(day_s, digest_of(body))
        world.objects.put(keys[day_s], body, if_absent=False)
    index = DayIndex(number=1, counted_s=through_s + 3 * HOUR_S, complete_through_s=through_s, days=keys)
    DayIndexes(objects=world.objects).put(index)
    return SummedMonth(
        region=REGION, month="2026-11", index=index, objects=world.objects, totals=world.make_jobs().totals
    )


def weeks(last_gb: int, *, count: int = 8, account: str = ACCOUNT) -> dict[int, dict[str, int]]:
    return {YESTERDAY: {account: last_gb}} | {
        YESTERDAY - week * 7 * DAY_S: {account: NOISE[week - 1]} for week in range(1, count + 1)
    }


def test_an_unusual_day_is_found_with_what_is_usual_and_what_it_costs() -> None:
    month = keep(BudgetWorld(), weeks(1_100))
    [found] = anomalies_of(month, YESTERDAY, sample_book())
    assert (found.series.account_id, found.bytes, found.expected) == (ACCOUNT, 1_100 * GB, 100 * GB)
    assert found.excess == 1_000 * 9 * EXACT_A_USD // 100
    assert (found.weeks, found.kind.to_location) == (8, "internet")


def test_what_is_cheap_is_left_out_by_the_floor() -> None:
    month = keep(BudgetWorld(), weeks(200))
    assert anomalies_of(month, YESTERDAY, sample_book()) == []
    assert anomalies_of(month, YESTERDAY, sample_book(), AnomalyRules(floor=8 * EXACT_A_USD))


def test_of_few_weeks_nothing_is_said() -> None:
    month = keep(BudgetWorld(), weeks(5_000, count=2))
    assert anomalies_of(month, YESTERDAY, sample_book()) == []


def test_a_new_account_is_unusual_if_it_is_dear() -> None:
    days = weeks(100)
    days[YESTERDAY] = {ACCOUNT: 100, "999999999999": 5_000}
    [found] = anomalies_of(keep(BudgetWorld(), days), YESTERDAY, sample_book())
    assert (found.series.account_id, found.expected) == ("999999999999", 0)


def test_one_message_for_a_series_and_day_however_often_the_job_runs() -> None:
    world = BudgetWorld()
    keep(world, weeks(1_100))
    world.complete_through(TODAY)
    world.clock.sleep_ms(4 * HOUR_S * 1000)
    for _ in range(3):
        world.bill()
    [alert] = world.topic.sent
    assert alert.subject == f"unusual usage: account {ACCOUNT}, DataTransfer-Out-Bytes on 2026-11-23"
    assert alert.fields["usual"] == "107,374,182,400 bytes = 100 GB (median of the same day of 8 weeks)"
    assert "metering query --from 2026-11-23 --to 2026-11-24 --stage local --region us-east-1" in str(
        alert.fields["look"]
    )
    assert "LIMIT 3" in str(alert.fields["look"])


def test_many_unusual_series_are_told_in_one_more_message() -> None:
    world = BudgetWorld()
    days = weeks(100)
    days[YESTERDAY] = {f"{number:012d}": 5_000 for number in range(1, MOST_MESSAGES + 6)}
    keep(world, days)
    world.complete_through(TODAY)
    world.clock.sleep_ms(4 * HOUR_S * 1000)
    world.bill()
    assert len(world.topic.sent) == MOST_MESSAGES + 1
    assert sum(alert.fields.get("count") == "5" for alert in world.topic.sent) == 1


def test_a_day_is_looked_at_when_all_of_it_is_counted() -> None:
    world = BudgetWorld()
    keep(world, weeks(1_100), through_s=TODAY - HOUR_S)
    world.complete_through(TODAY - HOUR_S)
    world.bill()
    assert not world.topic.sent
