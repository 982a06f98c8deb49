"""What is accepted is in the sums or told as not counted: once, wherever roll-up, compactor and biller stand."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from metering.billing.day_sums import keeper as keeping
from metering.billing.day_sums.index import DayIndex, DayIndexes, Reach, Uncounted, list_unpublished, reach_of
from metering.units import DAY_S
from metering.usage.totals import ZERO, Total
from tests.support.budget_world import BudgetWorld
from tests.support.lake_world import NOW_S, record
from tests.unit.billing.day_sums.test_accounts import MONTH, kept

if TYPE_CHECKING:
    import pytest

# Bytes of each batch -> when it was accepted, in seconds after the first one. No two of them have a bit in common.
BATCHES = {1: 0, 2: 60, 4 + 8: 120, 16: 180}


def waiting_world() -> BudgetWorld:
    """1 byte is counted; 2 are published and not counted; 4 and 8 are pending, of two days; 16 wait."""
    world = BudgetWorld()
    world.use(1)
    world.keeper().keep(world.deadline())
    world.clock.advance_s(60)
    world.use(2)
    world.clock.advance_s(60)
    world.send([record(4), record(8, start_s=NOW_S - 3 * DAY_S)])
    world.clock.advance_s(60)
    world.send([record(16)], rolled_up=False)
    return world


def counted(world: BudgetWorld) -> Total:
    """What is in the sums."""
    if MONTH not in DayIndexes(objects=world.objects).newest().accounts:
        return ZERO
    sums = kept(world)
    return Total(sum(each.bytes for each in sums), sum(each.records for each in sums))


def everything_again(world: BudgetWorld) -> None:
    """Roll-up, compactor and biller, each once."""
    jobs = world.make_jobs()
    jobs.rollup.run(world.deadline(10_000), only_waiting=True)
    jobs.compactor_of(jobs.policy.everything()).run(world.deadline(10_000))
    world.keeper().keep(world.deadline())


def test_published_pending_and_waiting_bytes_are_told_as_not_counted() -> None:
    assert waiting_world().keeper().reach() == Reach(through_s=NOW_S, left=Uncounted(total=Total(2 + 4 + 8 + 16, 4)))


def check(world: BudgetWorld) -> Reach:
    """Sums and what they lack are all that was accepted; what was accepted before the time that is told is in them."""
    reach, have = world.keeper().reach(), counted(world)
    assert reach.left is not None
    told = have.plus(reach.left.total)
    assert told == Total(31, 5) if not reach.left.at_least else told.bytes <= 31
    for size, after_s in BATCHES.items():
        assert have.bytes & size == size or NOW_S + after_s >= reach.through_s
    return reach


def test_counted_and_not_counted_are_all_that_was_accepted_at_every_step() -> None:
    for calls in count():
        world = waiting_world()
        died = world.dies_after(calls, lambda world=world: everything_again(world))  # type: ignore[misc]  # of this turn
        check(world)
        # The biller comes while a run of the compactor may be half done.
        world.keeper().keep(world.deadline())
        reach = check(world)
        if not died:
            break
    assert calls > 20
    assert (counted(world), reach) == (Total(31, 5), Reach(through_s=NOW_S + 180, left=Uncounted()))


def test_the_index_says_how_far_it_goes_and_what_it_lacked() -> None:
    world = waiting_world()
    world.keeper().keep(world.deadline())
    index = DayIndexes(objects=world.objects).newest()
    assert index.reach == Reach(through_s=NOW_S + 120, left=Uncounted(total=Total(4 + 8 + 16, 3)))
    assert DayIndex.from_json(index.to_json(), "key") == index


def test_a_commit_is_listed_once_while_it_moves_from_one_list_to_the_next() -> None:
    for calls in count():
        world = waiting_world()
        died = world.dies_after(calls, lambda world=world: world.make_jobs().rollup.run(world.deadline()))  # type: ignore[misc]  # of this turn
        assert list_unpublished(world.items, world.settings.shards).total == Total(4 + 8 + 16, 3)
        if not died:
            break


def test_beyond_what_a_question_lists_it_says_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    world = waiting_world()
    monkeypatch.setattr(keeping, "MOST_LISTED", 1)
    left = world.keeper().reach().left
    assert left is not None
    assert left.at_least
    assert left.total.bytes < 30


def test_a_question_lists_no_more_than_it_says_however_many_commits_are_pending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keeping, "MOST_LISTED", 4)
    made = []
    for batches in (5, 30):
        world = BudgetWorld()
        world.use(1)
        world.keeper().keep(world.deadline())
        for _ in range(batches):
            world.send([record(1)])
        # In memory each entry of a list is a call of its own.
        calls: list[str] = []
        world.items.on_call = world.objects.on_call = calls.append
        world.keeper().reach()
        made.append(len(calls))
    assert made[0] == made[1] < 20


def test_several_regions_go_as_far_as_the_one_that_goes_least_far() -> None:
    one = Reach(through_s=7, left=Uncounted(total=Total(1, 1)))
    other = Reach(through_s=5, left=Uncounted(total=Total(2, 1), at_least=True))
    assert reach_of([one, other]) == Reach(through_s=5, left=Uncounted(total=Total(3, 2), at_least=True))
    assert reach_of([one, Reach(through_s=9)]) == Reach(through_s=7)
    assert reach_of([]) == Reach(through_s=0, left=Uncounted())
