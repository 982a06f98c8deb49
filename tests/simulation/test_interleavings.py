"""Runs a complete job between any two calls of another job: all cases, of which some are rare in random tests."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import pytest

from metering.audit.incremental import AccountDays
from metering.hours import hour_of, month_bounds_s, month_of
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total, sum_totals
from tests.simulation.checks.checker import check
from tests.simulation.region import jobs
from tests.simulation.region.faults import HOUR_MS, MINUTE_MS, Fault
from tests.simulation.region.scheduler import KilledError
from tests.simulation.scenario import NOW_MS, DiesHalfway, content_of
from tests.simulation.stories import POLICY, SETTINGS, Between, compact, meter, play, roll_up, visible, world_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.audit.hour_check import HourCheck
    from tests.simulation.region.ports import Process
    from tests.simulation.region.world import World


class _Between(Between):
    """Can lose the fences that `orphans` puts, and kills the process `dying` before its first delete."""

    def __init__(self, number: int, *, fences_lost: bool = False) -> None:
        super().__init__(number)
        self._fences_lost = fences_lost

    def fault(self, process: str, call: str, _choices: tuple[Fault, ...]) -> Fault | None:
        if process == "dying" and call == "items.delete":
            return Fault.KILLED_BEFORE
        return Fault.REQUEST_LOST if self._fences_lost and process == "orphans" and call == "items.put" else None


def _rolled_up_and_compacted(world: World) -> None:
    roll_up(world)
    compact(world)


def _remove_orphans(world: World) -> None:
    process = world.process("orphans")
    jobs.orphan_cleaner(process, age_s=-1).run(jobs.deadline(process, HOUR_MS))


def _must_be_sound(world: World, *, shards: int = 1) -> None:
    roll_up(world, "last", settings=jobs.settings(shards, 200))
    assert not check(world, visible(world, shards=shards))


def _interrupted_calls(
    story: Callable[[World, _Between], None], *, hours: int = 1, fences_lost: bool = False, limit_ms: int = HOUR_MS
) -> int:
    """Run a story repeatedly, with the other job before its first call, then before its second call, and so on."""
    for number in count(1):
        between = _Between(number, fences_lost=fences_lost)
        starts = [NOW_MS // 1000 - HOUR_S * (n % hours) for n in range(2)]
        world = world_of([content_of(f"b{n}", 0, starts) for n in range(6)], between)
        play(world, partial(story, world, between), limit_ms=limit_ms)
        if between.calls < number:
            break
    return number - 1


def test_a_compaction_between_any_two_calls_of_a_reader_shows_it_every_row_once() -> None:
    def story(world: World, between: _Between) -> None:
        meter(world, "b0.0", "b1.0", "b2.0")
        between.then = lambda: _rolled_up_and_compacted(world)
        view = jobs.lake_view(world.process("first"), shards=1)
        [hour_s] = world.watch.visible_since
        seen = view.hour_totals(hour_s, jobs.BY_ROW)
        assert sorted(total.records for total in seen.values()) == [1] * 6

    assert _interrupted_calls(story) >= 9


def test_a_roll_up_between_any_two_calls_of_a_reader_shows_it_every_row_once() -> None:
    """A commit moves from the waiting list to its hours between a reader's reads of the two."""

    def story(world: World, between: _Between) -> None:
        meter(world, "b0.0", "b1.0", "b2.0")
        between.then = lambda: roll_up(world)
        view = jobs.lake_view(world.process("first"), shards=1)
        [hour_s] = world.watch.visible_since
        seen = view.hour_totals(hour_s, jobs.BY_ROW)
        assert sorted(total.records for total in seen.values()) == [1] * 6

    assert _interrupted_calls(story) >= 9


@pytest.mark.parametrize("blocks", [0, 1])
def test_a_commit_and_its_roll_up_between_any_two_calls_of_a_roll_up_are_booked_once(blocks: int) -> None:
    settings = jobs.settings(1, 200, rollup_blocks=blocks)

    def story(world: World, between: _Between) -> None:
        def meanwhile() -> None:
            meter(world, "b3.0", "b4.0", by="another worker")
            roll_up(world)

        meter(world, "b0.0", "b1.0", "b2.0")
        between.then = meanwhile
        roll_up(world, "first", settings=settings)
        _must_be_sound(world)

    assert _interrupted_calls(story) >= 20


@pytest.mark.parametrize("kinds", [1, 2, 50])
def test_kinds_that_another_shard_numbers_between_any_two_calls_of_a_roll_up_stay_apart(kinds: int) -> None:
    """Two shards claim numbers of kinds of one account; some kinds are beyond the account's cap."""
    settings = jobs.settings(2, 200, kinds=kinds)

    def story(world: World, between: _Between) -> None:
        def other_shard(shard: int) -> None:
            roll_up(world, settings=settings, shard=shard)

        for name in ("b0.0", "b1.0", "b2.0", "b3.0"):
            meter(world, name, settings=settings)
        assert {str(item["pk"]) for item in world.items.everything(Table.LEDGER)} >= {"U#0", "U#1"}
        between.then = lambda: other_shard(1)
        roll_up(world, "first", settings=settings, shard=0)
        other_shard(1)
        _must_be_sound(world, shards=2)

    assert _interrupted_calls(story) >= 15


def test_a_roll_up_between_any_two_calls_of_a_reader_of_usage_as_of_now_shows_it_every_batch_once() -> None:
    """A usage item contains an unfinished run of one shard while the other shard is rolled up."""
    settings = jobs.settings(2, 200)

    def story(world: World, between: _Between, meanwhile: int | None) -> None:
        for name in ("b0.0", "b1.0", "b2.0", "b3.0"):
            meter(world, name, settings=settings)
        halfway = world.process("halfway")
        halfway.items = DiesHalfway(halfway)
        with pytest.raises(KilledError):
            jobs.rollup(halfway, settings).run(jobs.deadline(halfway, HOUR_MS), shard=0)
        between.then = lambda: roll_up(world, settings=settings, shard=meanwhile)
        months = [month_of(NOW_MS // 1000)]
        totals = jobs.usage_now(world.process("first"), shards=2).usage(["111111111111"], months)
        assert sum_totals(totals.values()).records == 8

    for meanwhile in (0, 1, None):
        assert _interrupted_calls(partial(story, meanwhile=meanwhile), hours=2) >= 9


def test_a_comparison_between_any_two_calls_of_a_roll_up_finds_nothing() -> None:
    """P37: commits of a run are not settled until the run has placed all its commits and is finished."""

    def story(world: World, between: _Between) -> None:
        found: list[object] = []

        def compare() -> None:
            process = world.process("second")
            checks = jobs.reconciler(process, shards=1).check(from_s=0, to_s=NOW_MS // 1000 + DAY_S, deep=True)
            found.extend(checks.different)

        meter(world, "b0.0", "b1.0")
        roll_up(world)
        meter(world, "b2.0", "b3.0")
        between.then = compare
        roll_up(world, "first")
        assert not found

    assert _interrupted_calls(story) >= 12


@pytest.mark.parametrize("by_account", [True, False])
def test_a_roll_up_between_any_two_calls_of_one_look_is_no_difference(by_account: bool) -> None:
    """P37: an item is settled if its runs were done before the rows were collected."""
    hour_s = hour_of(NOW_MS // 1000)

    def look(process: Process) -> HourCheck:
        if by_account:
            return AccountDays(figures=jobs.figures(process, shards=1)).look([hour_s])[hour_s]
        return jobs.reconciler(process, shards=1).look(hour_s, frozenset(["111111111111"]))

    def story(world: World, between: _Between) -> None:
        meter(world, "b0.0", "b1.0")
        roll_up(world)
        meter(world, "b2.0", "b3.0")
        between.then = lambda: roll_up(world)
        assert look(world.process("first")).differences == ()

    assert _interrupted_calls(story) >= 8


def test_a_commit_and_its_compaction_between_any_two_calls_of_a_compactor_are_in_the_lake_once() -> None:
    def story(world: World, between: _Between) -> None:
        def meanwhile() -> None:
            meter(world, "b3.0", "b4.0", by="another worker")
            _rolled_up_and_compacted(world)

        meter(world, "b0.0", "b1.0", "b2.0")
        roll_up(world)
        between.then = meanwhile
        compact(world, "first")
        _must_be_sound(world)

    assert _interrupted_calls(story) >= 20


def test_a_commit_that_is_placed_and_still_waits_between_any_two_calls_of_a_compactor_is_left_out() -> None:
    """The roll-up was killed before it removed the waiting entry; the next roll-up places the commit again."""

    def story(world: World, between: _Between) -> None:
        def meanwhile() -> None:
            meter(world, "b3.0", "b4.0", by="another worker")
            dying = world.process("dying")
            with suppress(KilledError):
                jobs.rollup(dying, SETTINGS).run(jobs.deadline(dying, HOUR_MS))

        meter(world, "b0.0", "b1.0", "b2.0")
        roll_up(world)
        between.then = meanwhile
        compact(world, "first")
        _rolled_up_and_compacted(world)
        _must_be_sound(world)

    assert _interrupted_calls(story) >= 20


def test_a_compaction_between_any_two_calls_of_a_roll_up_takes_each_row_once() -> None:
    """Commits are placed one by one, and a waiting commit is not compacted."""

    def story(world: World, between: _Between) -> None:
        def meanwhile() -> None:
            process = world.process("second")
            jobs.compactor(process, POLICY, shards=1).run(jobs.deadline(process, HOUR_MS))
            jobs.cleaner(process, shards=1, wait_s=-1).run(jobs.deadline(process, HOUR_MS))

        meter(world, "b0.0", "b1.0", "b2.0")
        between.then = meanwhile
        roll_up(world, "first")
        _rolled_up_and_compacted(world)
        _must_be_sound(world)

    assert _interrupted_calls(story) >= 12


def test_an_orphan_cleaner_between_any_two_calls_of_a_worker_takes_nothing_that_is_accepted() -> None:
    def story(world: World, between: _Between) -> None:
        between.then = lambda: _remove_orphans(world)
        meter(world, "b0.0", by="first")
        _must_be_sound(world)

    assert _interrupted_calls(story, fences_lost=False) >= 2
    assert _interrupted_calls(story, fences_lost=True) >= 2


def test_a_commit_that_lands_between_any_two_calls_of_an_orphan_cleaner_keeps_its_rows() -> None:
    """The commit's objects are listed as orphans, but its transaction succeeds before the fence is put."""

    def story(world: World, between: _Between) -> None:
        worker = world.process("worker")
        transact = worker.items.transact
        cleaner = world.process("first")

        def clean_first(actions: object) -> None:
            # Only the first attempt runs concurrently with a cleaning.
            worker.items.transact = transact  # type: ignore[method-assign]  # as it was
            landed: list[bool] = []

            def land() -> None:
                transact(actions)  # type: ignore[arg-type]  # what it was called with
                landed.append(True)

            between.then = land
            jobs.orphan_cleaner(cleaner, age_s=-1).run(jobs.deadline(cleaner, HOUR_MS))
            if not landed:
                transact(actions)  # type: ignore[arg-type]  # what it was called with

        worker.items.transact = clean_first  # type: ignore[method-assign]  # one call, delayed
        world.queue.send("b0.0", "S1")
        deliveries = world.queue.receive(10)
        jobs.aggregator(worker, SETTINGS).handle(deliveries, jobs.deadline(worker, MINUTE_MS))
        accepted = world.watch.accepted.get("b0")
        if accepted is not None:
            commit = next(i for i in world.items.everything(Table.LEDGER) if i["pk"] == f"C#{accepted[1]}")
            assert world.objects.peek(str(commit["staging"])) is not None

    assert _interrupted_calls(story) >= 3


def test_a_roll_up_between_any_two_calls_of_a_close_is_in_the_closed_month() -> None:
    """Commits move between two lists while the close reads both."""
    month = month_of(NOW_MS // 1000)
    wait_ms = (month_bounds_s(month)[1] + 3 * DAY_S) * 1000 - NOW_MS + HOUR_MS

    def story(world: World, between: _Between) -> None:
        meter(world, "b0.0", "b1.0", "b2.0")
        world.scheduler.wait(wait_ms)
        between.then = lambda: roll_up(world)
        process = world.process("first")
        closer = jobs.period_closer(process, POLICY, SETTINGS, shards=1)
        assert closer.close(month, jobs.deadline(process, HOUR_MS)).total.records == 6

    assert _interrupted_calls(story, limit_ms=wait_ms + HOUR_MS) >= 40


def test_a_whole_close_between_any_two_calls_of_a_close_freezes_the_same_month_once() -> None:
    month = month_of(NOW_MS // 1000)
    wait_ms = (month_bounds_s(month)[1] + 3 * DAY_S) * 1000 - NOW_MS + HOUR_MS
    totals: set[Total] = set()

    def close(world: World, name: str) -> None:
        process = world.process(name)
        closer = jobs.period_closer(process, POLICY, SETTINGS, shards=1)
        closed = closer.close(month, jobs.deadline(process, HOUR_MS))
        totals.add(closed.total)
        assert closer.frozen(month) == closed

    def story(world: World, between: _Between) -> None:
        meter(world, "b0.0", "b1.0", "b2.0")
        world.scheduler.wait(wait_ms)
        between.then = lambda: close(world, "second")
        close(world, "first")
        assert jobs.period_closer(world.process("reader"), POLICY, SETTINGS, shards=1).verify(month) == []
        assert not world.alerts.sent

    assert _interrupted_calls(story, limit_ms=wait_ms + HOUR_MS) >= 40
    # Commit ids and file names are random, but the totals are the same each time.
    assert len(totals) == 1
