"""What is left behind by runs of the roll-up that are long over."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from metering.ledger.notes.lake import Cleaning, cleanings
from metering.ledger.runs import Run, newest_first, newest_run
from metering.rollup import cleaner
from metering.rollup.cleaner import RollupCleaner
from metering.stores.clock import Retrier
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from tests.unit.rollup.interruptions import AtCall, KilledError, die
from tests.unit.rollup.small_region import SmallRegion, row

if TYPE_CHECKING:
    import pytest

_LIFE_S = 50 * DAY_S


def _cleaner(region: SmallRegion) -> RollupCleaner:
    retrier = Retrier(clock=region.clock, entropy=region.entropy, attempts=4)
    return RollupCleaner(
        items=region.items,
        objects=region.objects,
        clock=region.clock,
        retrier=retrier,
        shards=1,
        run_life_s=_LIFE_S,
    )


def _run(region: SmallRegion, number: int) -> None:
    region.commit(f"c{number}", [row(number)])
    region.rollup().run(region.deadline())


def _plans(region: SmallRegion) -> list[str]:
    return [info.key for info in region.objects.list("runs/")]


def test_plans_of_runs_that_are_over_for_a_day_go_also_those_that_no_run_names() -> None:
    region = SmallRegion()
    for number in range(1, 4):
        _run(region, number)
    lost_race = "runs/U0/000000000002-lost.json"
    region.objects.put(lost_race, b"{}", if_absent=True)
    region.clock.sleep_ms(DAY_S * 1000)
    _run(region, 4)
    # Its number is not taken yet: whoever put it may still announce it.
    not_taken = "runs/U0/000000000005-early.json"
    region.objects.put(not_taken, b"{}", if_absent=True)

    cleaned = _cleaner(region).run(region.deadline())

    assert (cleaned.plans, cleaned.runs) == (4, 3)
    kept = _plans(region)
    assert [key.partition("-")[0] for key in kept] == ["runs/U0/000000000004", "runs/U0/000000000005"]
    assert not_taken in kept
    again = _cleaner(region).run(region.deadline())
    assert (again.plans, again.runs) == (0, 0)


def test_all_run_items_but_the_newest_expire() -> None:
    region = SmallRegion()
    for number in range(1, 4):
        _run(region, number)
    region.clock.sleep_ms(DAY_S * 1000)
    now_s = region.clock.now_ms() // 1000
    assert _cleaner(region).run(region.deadline()).plans == 2
    runs = list(newest_first(region.items, "U0"))
    assert [(run.number, run.expires_at_s) for run in runs] == [
        (3, None),
        (2, now_s + _LIFE_S),
        (1, now_s + _LIFE_S),
    ]
    # Once it is not the newest any more, it expires like them.
    _run(region, 4)
    assert _cleaner(region).run(region.deadline()).plans == 1
    assert [run.expires_at_s is None for run in newest_first(region.items, "U0")] == [True, False, False, False]


def test_a_run_that_ended_lately_keeps_its_plan() -> None:
    region = SmallRegion()
    _run(region, 1)
    region.clock.sleep_ms(23 * HOUR_S * 1000)
    _run(region, 2)
    assert _cleaner(region).run(region.deadline()).plans == 0
    assert len(_plans(region)) == 2


def test_a_run_that_ended_by_a_clock_that_is_days_ahead_does_not_keep_its_plan_and_all_later_ones() -> None:
    region = SmallRegion()
    region.clock.advance_s(30 * DAY_S)
    _run(region, 1)
    region.clock.advance_s(-30 * DAY_S)
    _run(region, 2)
    region.clock.sleep_ms(DAY_S * 1000)
    _run(region, 3)
    _cleaner(region).run(region.deadline())
    assert len(_plans(region)) == 1, "plans are left until the clock is as far"


def test_a_clock_that_is_ahead_makes_no_plan_go_before_its_time() -> None:
    region = SmallRegion()
    region.clock.advance_s(30 * DAY_S)
    _run(region, 1)
    region.clock.advance_s(-30 * DAY_S)
    _run(region, 2)
    _run(region, 3)
    _cleaner(region).run(region.deadline())
    assert len(_plans(region)) == 3, "nobody knows that run 1 ended a day ago"
    region.clock.sleep_ms(2 * DAY_S * 1000)
    _cleaner(region).run(region.deadline())
    assert len(_plans(region)) == 1, "it ended before run 2"


def test_a_planned_run_keeps_its_plan_however_old_it_is() -> None:
    region = SmallRegion()
    _run(region, 1)
    region.objects.put("runs/U0/000000000002-ours.json", b"{}", if_absent=True)
    planned = Run(chain="U0", number=2, state="planned", plan_key="runs/U0/000000000002-ours.json", planned_at_ms=1_000)
    region.items.put(Put(table=Table.LEDGER, item=planned.to_item()))
    region.clock.sleep_ms(5 * DAY_S * 1000)
    assert _cleaner(region).run(region.deadline()).plans == 1
    assert _plans(region) == [planned.plan_key]
    assert newest_run(region.items, "U0") == planned


def test_a_process_without_time_leaves_it_to_the_next() -> None:
    region = SmallRegion()
    _run(region, 1)
    _run(region, 2)
    region.clock.sleep_ms(2 * DAY_S * 1000)
    assert _cleaner(region).run(region.deadline(time_s=5)).plans == 0
    assert _cleaner(region).run(region.deadline()).plans == 1


def test_a_cleaner_writes_down_since_when_the_oldest_run_that_it_left_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    region = SmallRegion()
    for number in range(1, 5):
        _run(region, number)
        region.clock.sleep_ms(HOUR_S * 1000)
    region.clock.sleep_ms(2 * DAY_S * 1000)
    now_ms = region.clock.now_ms()
    second = next(run for run in newest_first(region.items, "U0") if run.number == 2)
    assert _cleaner(region).run(region.deadline(time_s=5)).plans == 0
    assert cleanings(region.items) == {}

    monkeypatch.setattr(cleaner, "_MOST_RUNS", 2)
    due_ms = (second.done_at_ms or 0) + DAY_S * 1000
    for runs, left_ms in ((2, due_ms), (1, None), (0, None)):
        assert _cleaner(region).run(region.deadline()).runs == runs
        assert cleanings(region.items) == {"U0": Cleaning(chain="U0", looked_s=now_ms // 1000, due_ms=left_ms)}


def test_a_process_that_dies_between_items_and_plans_leaves_both_to_the_next() -> None:
    for number in range(8):
        region = SmallRegion()
        for each in range(1, 4):
            _run(region, each)
        region.clock.sleep_ms(2 * DAY_S * 1000)
        with AtCall(region, number, die), suppress(KilledError):
            _cleaner(region).run(region.deadline())
        _cleaner(region).run(region.deadline())
        assert [run.expires_at_s is None for run in newest_first(region.items, "U0")] == [True, False, False]
        assert len(_plans(region)) == 1
