"""Day sums as of now have all accepted usage, by day and by hour, at every step on its way into the biller's sums."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from metering.billing.budgets.open_months import ReadRegion
from metering.billing.day_sums import keeper as keeping
from metering.billing.day_sums.now import sums_now
from metering.hours import month_bounds_s
from metering.units import DAY_S, HOUR_S
from tests.support.budget_world import BudgetWorld
from tests.support.lake_world import ACCOUNT, NOW_S, dying, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from metering.billing.day_sums.days import SummedMonth
    from metering.billing.usage.months import UsageLine

OTHER, CANARY = "210987654321", "000000000000"
YESTERDAY_S = NOW_S - DAY_S
OCTOBER_S = month_bounds_s("2026-10")[1] - HOUR_S


def region_now(world: BudgetWorld) -> ReadRegion:
    keeper = world.keeper()
    index = keeper.begun()
    lacking = keeper.days_lacking(index)
    assert lacking is not None
    reader = world.source().as_of_now
    assert reader is not None
    sums = world.sums()
    now = sums_now(index, lacking, sums.totals, reader, now_s=NOW_S, through_s=0)
    return ReadRegion(sums=sums, index=now.index, now=now)


def summed(lines: Iterable[UsageLine]) -> Counter[tuple[int, str, str]]:
    found: Counter[tuple[int, str, str]] = Counter()
    for line in lines:
        found[line.hour_s, line.account_id, line.usage_type] += line.bytes
    return found


def expected(world: BudgetWorld, grain_s: int) -> Counter[tuple[int, str, str]]:
    found: Counter[tuple[int, str, str]] = Counter()
    for key, total in world.visible().items():
        if key.account_id != CANARY and key.corrects_s is None:
            found[key.hour_s - key.hour_s % grain_s, key.account_id, key.usage_type] += total.bytes
    return found


def by_day(month: SummedMonth) -> Counter[tuple[int, str, str]]:
    return summed(month.day_lines())


def some_usage() -> BudgetWorld:
    """Usage in a biller's sums, in a lake file, in a placed commit and in waiting ones."""
    world = BudgetWorld()
    world.send([record(5, start_s=YESTERDAY_S), record(7, start_s=NOW_S - 3 * DAY_S), record(3, account=CANARY)])
    world.compact_all()
    world.keep()
    world.send([record(11), record(13, account=OTHER), record(29, start_s=NOW_S - 2 * DAY_S)])
    world.compact_all()
    world.send([record(17, start_s=YESTERDAY_S + HOUR_S)])
    world.send([record(19, account=OTHER, start_s=YESTERDAY_S), record(23, account=CANARY)], rolled_up=False)
    return world


@pytest.mark.parametrize("work", [BudgetWorld.roll_up, BudgetWorld.compact_all, BudgetWorld.keep])
def test_they_are_all_accepted_usage_at_every_step(work: Callable[[BudgetWorld], object]) -> None:
    for world in dying(some_usage, work, least=3):
        month = region_now(world).month("2026-11")
        assert by_day(month) == expected(world, DAY_S)
        assert summed(month.hour_lines()) == expected(world, HOUR_S)


def test_they_are_known_before_the_first_run_of_a_biller_and_of_a_compactor() -> None:
    world = BudgetWorld()
    world.roll_up()
    world.send([record(5), record(7, account=OTHER)], rolled_up=False)
    assert by_day(region_now(world).month("2026-11")) == expected(world, DAY_S)


def test_a_day_that_lacks_nothing_is_the_billers() -> None:
    region = region_now(some_usage())
    assert region.now is not None
    made = set(region.now.bodies) & set(region.index.days.values())
    assert sorted(day_s for day_s, key in region.index.days.items() if key in made) == [
        each - each % DAY_S for each in (NOW_S - 2 * DAY_S, YESTERDAY_S, NOW_S)
    ]
    assert NOW_S - 3 * DAY_S - NOW_S % DAY_S in region.index.days


def test_nothing_is_stored() -> None:
    world = some_usage()
    before = world.objects.keys("")
    by_day(region_now(world).month("2026-11"))
    assert world.objects.keys("") == before


@pytest.mark.parametrize("limit", ["_MOST_ENTRIES", "_FEW_RUNS"])
def test_where_too_much_is_uncounted_it_is_not_read(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = some_usage()
    monkeypatch.setattr(keeping, limit, 1)
    keeper = world.keeper()
    assert keeper.days_lacking(keeper.begun()) is None


def test_a_correction_of_a_closed_month_is_in_no_sums_of_days() -> None:
    world = BudgetWorld()
    world.send([record(5, start_s=OCTOBER_S, account=ACCOUNT)])
    world.compact_all()
    world.jobs.closer.close("2026-10", world.deadline())
    world.send([record(9, start_s=OCTOBER_S, account=ACCOUNT)], rolled_up=False)
    found = by_day(region_now(world).month("2026-11"))
    assert not found
    assert sum(total.bytes for key, total in world.visible().items() if key.corrects_s is not None) == 9
