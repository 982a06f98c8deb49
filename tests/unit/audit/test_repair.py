"""Repair of one hour: kinds without a number, items that change, and outcomes that nobody knows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.audit.repair import Repaired, UsageRepair, planned_later
from metering.audit.settling import AccountHour, settled_runs
from metering.errors import UnavailableError
from metering.ledger.runs import newest_first, rollup_chain
from metering.ledger.shards import UsedShards
from metering.ledger.usage.kinds import kind_items
from metering.stores.writes import Put, Table
from metering.usage.totals import Total
from tests.support.lake_world import ACCOUNT, HOUR, World, record
from tests.support.usage_items import change, lose, usage_of

LOCATIONS = ("internet", "us-east-1/use1-az1", "us-east-1/use1-az4", "us-east-1/use1-az6")


def world_beyond_the_cap() -> World:
    """An account with four kinds of usage, of which two got a number."""
    world = World(kinds_per_account=2)
    world.send([record(5 + n, to=to) for n, to in enumerate(LOCATIONS)])
    assert sorted(entry.number is None for entry in usage_of(world.items)) == [False, False, True, True]
    return world


def prepared(world: World) -> UsageRepair:
    """A repair that has read everything, and has written nothing yet."""
    jobs = world.jobs
    runs = settled_runs(world.items, world.settings.shards)
    rows = jobs.figures.placed(HOUR).by_key
    jobs.rollup.numbers.claim(ACCOUNT, {key.kind for key in rows})
    usage = jobs.figures.used(HOUR, [ACCOUNT])
    return UsageRepair(
        items=world.items, objects=world.objects, numbers=jobs.rollup.numbers, runs=runs, usage=usage, rows=rows
    )


def run(world: World, repair: UsageRepair) -> Repaired:
    return repair.run({ACCOUNT: world.jobs.rollup.numbers.claim(ACCOUNT, {key.kind for key in repair.rows})})


def test_kinds_with_and_without_a_number_are_put_right() -> None:
    world = world_beyond_the_cap()
    before = world.usage()
    for entry in usage_of(world.items):
        lose(world.items, entry)
    result = run(world, prepared(world))
    assert (len(result.repairs), result.left) == (4, frozenset())
    assert world.usage() == before


def test_a_kind_that_got_a_number_meanwhile_is_left_to_the_next_look() -> None:
    """Another repair may have corrected it in the item of its number."""
    world = world_beyond_the_cap()
    [named, *_] = [entry for entry in usage_of(world.items) if entry.number is None]
    change(world.items, named, 7)
    repair = prepared(world)
    claimed = world.jobs.rollup.numbers.claim(ACCOUNT, {key.kind for key in repair.rows})
    for item in kind_items(ACCOUNT, 2, named.key.kind):
        world.items.put(Put(table=Table.LEDGER, item=item))
    result = repair.run({ACCOUNT: claimed})
    assert result.repairs == ()
    assert result.left == {ACCOUNT}


def test_an_item_that_was_written_since_is_left_to_the_next_look() -> None:
    world = world_beyond_the_cap()
    [entry, *_] = [entry for entry in usage_of(world.items) if entry.number is not None]
    change(world.items, entry, 7)
    repair = prepared(world)
    change(world.items, entry, -7)
    result = run(world, repair)
    assert (result.repairs, result.left) == ((), frozenset({ACCOUNT}))
    assert run(world, prepared(world)).left == frozenset()


@pytest.mark.parametrize("applied", [False, True])
def test_an_outcome_that_nobody_knows_is_measured_and_not_repeated(applied: bool) -> None:
    world = world_beyond_the_cap()
    before = world.usage()
    entry = next(entry for entry in usage_of(world.items) if entry.number == 0)
    change(world.items, entry, 7)
    repair, update, calls = prepared(world), world.items.update, 0

    def lost(action: object) -> object:
        nonlocal calls
        calls += 1
        if applied:
            update(action)  # type: ignore[arg-type]  # as it was called
        raise UnavailableError("items.update", "no reply")

    world.items.update = lost  # type: ignore[method-assign, assignment]  # a store whose reply is lost
    assert run(world, repair).left == {ACCOUNT}
    assert calls == 1
    world.items.update = update  # type: ignore[method-assign]  # it answers again
    assert len(run(world, prepared(world)).repairs) == (0 if applied else 1)
    assert world.usage() == before


def test_what_usage_has_and_no_row_is_taken_back_in_its_own_item() -> None:
    world = world_beyond_the_cap()
    rows = prepared(world).rows
    spare = next(key for key in rows if key.kind in {e.key.kind for e in usage_of(world.items) if e.number is None})
    repair = prepared(world)
    kept = {key: total for key, total in rows.items() if key != spare}
    repair = UsageRepair(
        items=repair.items,
        objects=repair.objects,
        numbers=repair.numbers,
        runs=repair.runs,
        usage=repair.usage,
        rows=kept,
    )
    [corrected] = run(world, repair).repairs
    assert (corrected.key, corrected.after) == (spare, Total(0, 0))
    assert world.usage().get(spare, Total(0, 0)) == Total(0, 0)


def test_what_a_run_of_a_shard_that_was_added_since_has_in_its_plan_is_left() -> None:
    world = world_beyond_the_cap()
    items, objects = world.items, world.objects
    assert planned_later(items, objects, settled_runs(items, 1)) == frozenset()
    items.put(Put(table=Table.LEDGER, item=UsedShards(number=2).to_item()))
    [run] = newest_first(items, rollup_chain(0))
    items.put(Put(table=Table.LEDGER, item=replace(run, chain=rollup_chain(1), number=1).to_item()))
    assert planned_later(items, objects, {0: run.number}) == frozenset({AccountHour(HOUR, ACCOUNT)})
