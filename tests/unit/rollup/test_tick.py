"""A tick of the roll-up function goes on until the next one begins."""

import random
from dataclasses import dataclass, replace

import pytest

from metering.ledger.commits import waiting_in
from metering.ledger.runs import newest_first
from metering.rollup.rollup import RollupTick
from metering.stores.clock import Clock
from metering.units import DAY_S, HOUR_S, MINUTE_S
from tests.unit.rollup.small_region import SmallRegion, row


def _tick(region: SmallRegion, *, every_s: int = 15, commits: int = 2_000) -> RollupTick:
    rollup = region.rollup(commits=commits)
    return RollupTick(rollup=rollup, clock=region.clock, every_s=every_s, tick_s=MINUTE_S)


def _busy(region: SmallRegion) -> None:
    """Let a commit come while each other one is placed."""
    new = iter(range(100))

    def came(call: str) -> None:
        if call == "items.delete":
            region.commit(f"c{next(new)}", [row(1)])

    region.items.on_call = came


def _starts(region: SmallRegion) -> list[int]:
    runs = [run.planned_at_ms for run in newest_first(region.items, "U0")]
    return [(run - runs[-1]) // 1000 for run in reversed(runs)]


def test_under_load_there_is_a_run_each_few_seconds_until_the_next_tick_begins() -> None:
    region = SmallRegion()
    region.commit("c", [row(1)])
    _busy(region)
    began_ms = region.clock.now_ms()
    result = _tick(region).run(region.deadline())
    assert _starts(region) == [0, 15, 30, 45]
    assert result.runs == 4
    assert region.clock.now_ms() - began_ms == 45_000
    # The next tick continues in step, and does not begin with a run of its own.
    region.clock.sleep_ms(12_000)
    _tick(region).run(region.deadline())
    assert _starts(region) == [0, 15, 30, 45, 60, 75, 90, 105]


def test_when_nothing_waits_it_ends() -> None:
    region = SmallRegion()
    began_ms = region.clock.now_ms()
    assert _tick(region).run(region.deadline()).finished
    assert region.clock.now_ms() == began_ms
    region.commit("c1", [row(1)])
    result = _tick(region).run(region.deadline())
    assert (result.runs, result.finished) == (1, True)
    assert region.clock.now_ms() == began_ms


def test_a_tick_that_is_behind_stops_when_the_next_begins_and_leaves_it_the_rest() -> None:
    region = SmallRegion()
    for number in range(9):
        region.commit(f"c{number}", [row(1)])
    # Each call takes a second.
    region.items.on_call = lambda _: region.clock.sleep_ms(1_000)
    began_ms = region.clock.now_ms()
    result = _tick(region, commits=2).run(region.deadline())
    assert not result.finished
    assert 60_000 <= region.clock.now_ms() - began_ms < 75_000
    region.items.on_call = lambda _: None
    assert _tick(region, commits=2, every_s=0).run(region.deadline()).finished
    assert list(waiting_in(region.items, 0)) == []
    assert region.usage() == region.committed


def test_the_end_of_the_process_comes_before_that_of_the_tick() -> None:
    region = SmallRegion()
    region.commit("c1", [row(1)])
    region.items.on_call = lambda _: region.clock.sleep_ms(1_000)
    began_ms = region.clock.now_ms()
    assert not _tick(region).run(region.deadline(time_s=20)).finished
    assert region.clock.now_ms() - began_ms < 20_000


@dataclass(frozen=True, slots=True)
class WrongClock:
    """The clock of a process: it is ahead of the true one."""

    true: Clock
    ahead_ms: int

    def now_ms(self) -> int:
        return self.true.now_ms() + self.ahead_ms

    def sleep_ms(self, duration_ms: int) -> None:
        self.true.sleep_ms(duration_ms)


def _waited_ms(region: SmallRegion, *, minutes: int) -> int:
    """How long a commit waits that comes just now, with a tick each minute; or all these minutes."""
    began_ms = region.clock.now_ms()
    region.commit("now", [row(1)])
    for minute in range(minutes):
        region.clock.sleep_ms(max(0, began_ms + minute * MINUTE_S * 1000 - region.clock.now_ms()))
        _tick(region).run(region.deadline())
        if not list(waiting_in(region.items, 0)):
            return region.clock.now_ms() - began_ms
    return minutes * MINUTE_S * 1000


@pytest.mark.parametrize("ahead_s", [-DAY_S, -20, 0, 5, 14, 16, 40, 6 * HOUR_S, 5 * DAY_S])
def test_a_run_that_a_wrong_clock_planned_holds_up_usage_no_longer_than_two_runs(ahead_s: int) -> None:
    region = SmallRegion()
    region.commit("before", [row(1)])
    replace(region.rollup(), clock=WrongClock(region.clock, ahead_s * 1000)).run(region.deadline())
    assert _waited_ms(region, minutes=5) <= 2 * 15_000, f"a run of a clock {ahead_s} s ahead stops the roll-up"


@pytest.mark.parametrize("ahead_s", [1, 6 * HOUR_S])
def test_a_call_that_waits_for_nothing_is_not_held_up_by_a_clock_that_is_ahead(ahead_s: int) -> None:
    region = SmallRegion()
    region.commit("c1", [row(1)])
    replace(region.rollup(), clock=WrongClock(region.clock, ahead_s * 1000)).run(region.deadline())
    region.commit("c2", [row(2)])
    assert region.rollup().run(region.deadline()).finished, "`compact` leaves it until its clock is as far"
    assert region.usage() == region.committed


@pytest.mark.parametrize("seed", range(20))
def test_among_processes_whose_clocks_differ_none_waits_for_another_longer_than_two_runs(seed: int) -> None:
    chance, region = random.Random(seed), SmallRegion(seed=seed)
    clocks = [WrongClock(region.clock, 1000 * chance.randint(-DAY_S, DAY_S)) for _ in range(3)]
    for number in range(30):
        region.commit(f"c{number}", [row(1)])
        result = replace(region.rollup(), clock=chance.choice(clocks)).run(region.deadline(), every_s=15)
        assert result.due_in_ms <= 2 * 15_000
        region.clock.sleep_ms(chance.choice((500, 5_000, 30_000)))
    assert region.rollup().run(region.deadline()).finished
    assert region.usage() == region.committed
