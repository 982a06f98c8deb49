"""The roll-up in one process: bookings, placing of commits, and the start of a run."""

import random
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count

import pytest

from metering import metric_names
from metering.errors import LedgerCorruptError
from metering.ledger.booked_hours import Pending, Pointer, pending_in, pointers_of
from metering.ledger.commits import waiting_in, waiting_key
from metering.ledger.runs import newest_first, newest_run
from metering.ledger.usage.kinds import BEYOND_CAP_PK, KindsBeyondCap
from metering.rollup.rollup import RollupTick
from metering.stores.clock import Clock
from metering.stores.writes import Table, Update
from metering.units import DAY_S, HOUR_S, MINUTE_S
from tests.unit.rollup.small_region import ACCOUNT, NOW_S, AtCall, KilledError, SmallRegion, die, row


@pytest.fixture
def region() -> SmallRegion:
    return SmallRegion()


def test_a_run_books_each_sum_once_places_each_commit_and_empties_the_list(region: SmallRegion) -> None:
    late_s = NOW_S - 30 * HOUR_S
    region.commit("c1", [row(5), row(7), row(11, hour_s=late_s), row(13, usage_type="Other-Bytes")])
    region.commit("c2", [row(17), row(19, account="999999999999"), row(23, hour_s=late_s, booked_s=NOW_S)])
    result = region.rollup().run(region.deadline())
    assert (result.runs, result.commits, result.finished) == (1, 2, True)
    assert region.usage() == region.committed
    assert list(waiting_in(region.items, 0)) == []
    pending = [Pending.from_item(item) for item in pending_in(region.items, 0)]
    assert {each.commit_id: each.hours for each in pending} == {"c1": {NOW_S, late_s}, "c2": {NOW_S}}
    pointers = [Pointer.from_item(item) for item in pointers_of(region.items, NOW_S)]
    assert [(each.commit_id, each.rows, each.bytes, each.run) for each in pointers] == [
        ("c1", 3, 25, ""),
        ("c2", 3, 59, ""),
    ]
    run = newest_run(region.items, "U0")
    assert run is not None
    assert (run.number, run.state) == (1, "done")


def test_an_item_is_an_accounts_hour_with_the_number_of_its_run(region: SmallRegion) -> None:
    region.commit("c1", [row(5), row(7, usage_type="Other-Bytes")])
    assert region.rollup().run(region.deadline()).items == 1
    region.commit("c2", [row(11)])
    assert region.rollup().run(region.deadline()).items == 1
    [item] = region.usage_items()
    assert item == {
        "pk": f"A#{ACCOUNT}#2026-11",
        "sk": "2026-11-26T00##0",
        "b0": 16,
        "r0": 2,
        "b1": 7,
        "r1": 1,
        "v": 2,
        "n0": 2,
    }


def test_nothing_waits_and_nothing_is_written(region: SmallRegion) -> None:
    result = region.rollup().run(region.deadline())
    assert (result.runs, result.finished) == (0, True)
    assert newest_run(region.items, "U0") is None
    assert list(region.objects.list("runs/")) == []


def test_a_full_run_takes_the_oldest_commits_and_the_next_follows_at_once(region: SmallRegion) -> None:
    for number in range(5):
        # The ids decrease while the times increase.
        region.commit(f"c{9 - number}", [row(number + 1)])
        region.clock.sleep_ms(1000)
    result = region.rollup(commits=2).run(region.deadline(), every_s=15)
    assert (result.runs, result.commits, result.finished) == (3, 5, True)
    assert region.usage() == region.committed


def test_a_run_is_due_when_the_last_began_long_enough_ago(region: SmallRegion) -> None:
    region.commit("c1", [row(1)])
    region.rollup().run(region.deadline(), every_s=15)
    region.commit("c2", [row(2)])
    region.clock.sleep_ms(14_000)
    result = region.rollup().run(region.deadline(), every_s=15)
    assert (result.runs, result.finished, result.due_in_ms) == (0, False, 1_000)
    region.clock.sleep_ms(1_000)
    assert region.rollup().run(region.deadline(), every_s=15).runs == 1
    assert region.usage() == region.committed


def test_a_run_takes_no_more_commits_once_it_has_enough_sums(region: SmallRegion) -> None:
    for number in range(4):
        region.commit(f"c{number}", [row(1, usage_type=f"T{number}-{each}") for each in range(3)])
    result = region.rollup(sums=5).run(region.deadline())
    assert (result.runs, result.commits) == (2, 4)
    assert region.usage() == region.committed


def test_each_shard_has_a_chain_of_its_own_and_items_hold_the_runs_of_both(region: SmallRegion) -> None:
    region.commit("c1", [row(1)], shard=0)
    region.commit("c2", [row(2)], shard=1)
    assert region.rollup(shards=2).run(region.deadline()).runs == 2
    [item] = region.usage_items()
    assert (item["b0"], item["n0"], item["n1"], item["v"]) == (3, 1, 1, 2)
    region.commit("c3", [row(4)], shard=0)
    region.commit("c4", [row(8)], shard=1)
    assert region.rollup(shards=2).run(region.deadline(), shard=1).runs == 1
    assert [each["sk"] for each in waiting_in(region.items, 0)] == ["c3"]


def test_a_commit_of_many_hours_is_placed_by_several_transactions(region: SmallRegion) -> None:
    hours = [NOW_S - hour * HOUR_S for hour in range(23)]
    region.commit("c1", [row(1, hour_s=hour_s) for hour_s in hours])
    region.rollup(actions=10).run(region.deadline())
    assert all(len(list(pointers_of(region.items, hour_s))) == 1 for hour_s in hours)
    [pending] = map(Pending.from_item, pending_in(region.items, 0))
    assert pending.hours == set(hours)


def test_kinds_beyond_the_cap_have_items_of_their_own_and_are_counted(region: SmallRegion) -> None:
    region.commit("c1", [row(each, usage_type=f"T{each}") for each in range(1, 6)])
    region.rollup(cap=3).run(region.deadline())
    region.commit("c2", [row(each, usage_type=f"T{each}") for each in range(1, 6)])
    region.rollup(cap=3).run(region.deadline())
    assert region.usage() == region.committed
    assert region.metrics.counts[metric_names.KINDS_BEYOND_CAP] == 4
    [note] = map(KindsBeyondCap.from_item, region.items.query(Table.LEDGER, BEYOND_CAP_PK))
    assert (note.account_id, note.kinds, note.seen_s) == (ACCOUNT, 2, NOW_S)
    assert note.example.startswith("T4#")
    assert len(region.usage_items()) == 3


def test_blocks_book_the_same(region: SmallRegion) -> None:
    region.commit("c1", [row(each, account=f"{each:012d}") for each in range(1, 250)])
    result = region.rollup(blocks=True).run(region.deadline())
    assert result.items == 249
    assert region.usage() == region.committed


def test_a_process_without_time_begins_nothing_and_the_next_goes_on(region: SmallRegion) -> None:
    region.commit("c1", [row(1)])
    assert not region.rollup().run(region.deadline(time_s=5)).finished
    assert newest_run(region.items, "U0") is None
    assert region.rollup().run(region.deadline()).finished


class _Traffic:
    """Adds a commit before each transaction that places one. At most `most` are added, to end a failing test."""

    def __init__(self, region: SmallRegion, *, most: int = 50) -> None:
        self.came: list[str] = []

        def come(call: str) -> None:
            if call == "items.transact" and len(self.came) < most:
                self.came.append(f"d{len(self.came)}")
                region.commit(self.came[-1], [row(1)])

        region.items.on_call = come


def test_what_waited_as_the_call_began_is_rolled_up_and_later_commits_do_not_keep_the_call(region: SmallRegion) -> None:
    for number in range(5):
        region.commit(f"c{number}", [row(number + 1)])
    traffic = _Traffic(region)
    result = region.rollup(commits=3).run(region.deadline(), only_waiting=True)
    assert result.finished
    left = {item["sk"] for item in waiting_in(region.items, 0)}
    assert left
    assert left <= {*traffic.came}
    assert len(traffic.came) < 10
    region.items.on_call = lambda _call: None
    region.rollup().run(region.deadline())
    assert region.usage() == region.committed


def test_a_call_for_what_waits_ends_in_each_shard_and_at_once_where_nothing_waits(region: SmallRegion) -> None:
    region.commit("c1", [row(1)], shard=1)
    rollup = region.rollup(shards=3)
    assert rollup.run(region.deadline(), only_waiting=True).commits == 1
    assert not list(waiting_in(region.items, 1))
    assert rollup.run(region.deadline(), only_waiting=True).runs == 0


def test_a_run_that_has_placed_what_waited_is_brought_to_its_end() -> None:
    """Until a run is done, the run's usage items are not settled (P37), and a comparison would have to wait."""
    for number in count():
        region = SmallRegion()
        region.commit("c1", [row(1)])
        with AtCall(region, number, die), suppress(KilledError):
            region.rollup().run(region.deadline())
            break
        _Traffic(region)
        assert region.rollup().run(region.deadline(), only_waiting=True).finished
        runs = {item["sk"]: item["state"] for item in region.items.query(Table.LEDGER, "R#U0")}
        assert set(runs.values()) == {"done"}, number
        assert len(runs) == 1, number
        assert not region.items.get(Table.LEDGER, waiting_key(0, "c1"))


def test_another_process_may_roll_up_at_any_call_what_a_call_waits_for() -> None:
    for number in count():
        region = SmallRegion()
        for each in range(3):
            region.commit(f"c{each}", [row(1)])

        def other(region: SmallRegion = region) -> None:
            region.rollup().run(region.deadline())
            region.commit("later", [row(7)])

        with AtCall(region, number, other) as at:
            assert region.rollup(commits=2).run(region.deadline(), only_waiting=True).finished
        assert {item["sk"] for item in waiting_in(region.items, 0)} <= {"later"}
        region.rollup().run(region.deadline())
        assert region.usage() == region.committed
        if not at.done:
            break


def test_an_entry_that_cannot_be_read_does_not_keep_a_call_for_what_waits(region: SmallRegion) -> None:
    region.commit("c1", [row(1)])
    region.commit("c2", [row(2)])
    region.items.update(Update(table=Table.LEDGER, key=waiting_key(0, "c1"), set={"totals": "none"}))
    traffic = _Traffic(region)
    with pytest.raises(LedgerCorruptError):
        region.rollup().run(region.deadline(), only_waiting=True)
    assert len(traffic.came) < 10
    assert not region.items.get(Table.LEDGER, waiting_key(0, "c2"))


# A tick of the roll-up function runs until the next tick begins.


def _tick(region: SmallRegion, *, every_s: int = 15, commits: int = 2_000) -> RollupTick:
    rollup = region.rollup(commits=commits)
    return RollupTick(rollup=rollup, clock=region.clock, every_s=every_s, tick_s=MINUTE_S)


def _busy(region: SmallRegion) -> None:
    """Add a commit whenever another commit was placed."""
    new = iter(range(100))

    def came(call: str) -> None:
        if call == "items.delete":
            region.commit(f"c{next(new)}", [row(1)])

    region.items.on_call = came


def _starts(region: SmallRegion) -> list[int]:
    runs = [run.planned_at_ms for run in newest_first(region.items, "U0")]
    return [(run - runs[-1]) // 1000 for run in reversed(runs)]


def test_under_load_there_is_a_run_each_few_seconds_until_the_next_tick_begins(region: SmallRegion) -> None:
    region.commit("c", [row(1)])
    _busy(region)
    began_ms = region.clock.now_ms()
    result = _tick(region).run(region.deadline())
    assert _starts(region) == [0, 15, 30, 45]
    assert result.runs == 4
    assert region.clock.now_ms() - began_ms == 45_000
    # The next tick continues in the same rhythm, and does not begin with an extra run.
    region.clock.sleep_ms(12_000)
    _tick(region).run(region.deadline())
    assert _starts(region) == [0, 15, 30, 45, 60, 75, 90, 105]


def test_when_nothing_waits_it_ends(region: SmallRegion) -> None:
    began_ms = region.clock.now_ms()
    assert _tick(region).run(region.deadline()).finished
    assert region.clock.now_ms() == began_ms
    region.commit("c1", [row(1)])
    result = _tick(region).run(region.deadline())
    assert (result.runs, result.finished) == (1, True)
    assert region.clock.now_ms() == began_ms


@pytest.mark.parametrize(("every_s", "starts"), [
    (59, [0, 59, 118, 177, 236, 295]), (60, [0, 60, 120, 180, 240]), (61, [0, 120, 240]), (90, [0, 120, 240]),
    (120, [0, 120, 240]), (180, [0, 180]),
])  # fmt: skip
def test_from_a_minute_on_a_tick_ends_after_its_run_and_the_interval_is_in_whole_minutes(
    region: SmallRegion, every_s: int, starts: list[int]
) -> None:
    region.commit("c", [row(1)])
    _busy(region)
    began_ms, asleep_ms = region.clock.now_ms(), 0
    for minute in range(5):
        region.clock.sleep_ms(max(0, began_ms + minute * MINUTE_S * 1000 - region.clock.now_ms()))
        tick_ms = region.clock.now_ms()
        _tick(region, every_s=every_s).run(region.deadline())
        asleep_ms += region.clock.now_ms() - tick_ms
    assert _starts(region) == starts
    assert (asleep_ms > 0) == (every_s < 60), "a function that ends does not sleep on paid time"


@pytest.mark.parametrize("seed", range(10))
def test_ticks_that_come_early_or_late_keep_the_interval_of_a_minute(seed: int) -> None:
    region, chance = SmallRegion(seed=seed), random.Random(seed)
    region.commit("c", [row(1)])
    _busy(region)
    began_ms = region.clock.now_ms()
    for minute in range(20):
        late_ms = chance.randint(0, 14_000)
        region.clock.sleep_ms(began_ms + minute * MINUTE_S * 1000 + late_ms - region.clock.now_ms())
        assert _tick(region, every_s=60).run(region.deadline()).runs == 1, f"nothing in minute {minute}"


def test_a_run_that_was_killed_is_resumed_by_the_next_tick_at_any_interval() -> None:
    for number in count():
        region = SmallRegion()
        region.commit("c1", [row(1)])
        with AtCall(region, number, die) as at, suppress(KilledError):
            _tick(region, every_s=300).run(region.deadline())
        region.clock.sleep_ms(MINUTE_S * 1000)
        _tick(region, every_s=300).run(region.deadline())
        assert region.usage() == region.committed, f"killed at call {number}"
        if not at.done:
            break


def test_two_ticks_at_once_at_an_interval_of_a_minute_book_each_sum_once() -> None:
    for number in count():
        region = SmallRegion()
        region.commit("c1", [row(1)])
        region.commit("c2", [row(2)])

        def other(region: SmallRegion = region) -> None:
            _tick(region, every_s=60, commits=1).run(region.deadline())

        with AtCall(region, number, other) as at:
            _tick(region, every_s=60, commits=1).run(region.deadline())
        assert region.usage() == region.committed
        assert not list(waiting_in(region.items, 0))
        if not at.done:
            break


def test_at_an_interval_of_minutes_a_tick_that_is_behind_goes_on_and_the_next_one_after_it(region: SmallRegion) -> None:
    for number in range(9):
        region.commit(f"c{number}", [row(1)])
    region.items.on_call = lambda _: region.clock.sleep_ms(480)
    ticks = 0
    while list(waiting_in(region.items, 0)):
        ticks += 1
        assert _tick(region, every_s=600, commits=2).run(region.deadline()).commits > 0
        region.clock.sleep_ms(1_000)
    assert ticks > 1
    assert region.usage() == region.committed


def test_a_tick_that_is_behind_stops_when_the_next_begins_and_leaves_it_the_rest(region: SmallRegion) -> None:
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


def test_the_end_of_the_process_comes_before_that_of_the_tick(region: SmallRegion) -> None:
    region.commit("c1", [row(1)])
    region.items.on_call = lambda _: region.clock.sleep_ms(600)
    began_ms = region.clock.now_ms()
    assert not _tick(region).run(region.deadline(time_s=20)).finished
    assert region.clock.now_ms() - began_ms < 20_000


@dataclass(frozen=True, slots=True)
class WrongClock:
    """Clock of a process, ahead of the true time."""

    true: Clock
    ahead_ms: int

    def now_ms(self) -> int:
        return self.true.now_ms() + self.ahead_ms

    def sleep_ms(self, duration_ms: int) -> None:
        self.true.sleep_ms(duration_ms)


def _waited_ms(region: SmallRegion, *, minutes: int) -> int:
    """How long a new commit waits for the roll-up, with a tick each minute, for at most `minutes`."""
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
