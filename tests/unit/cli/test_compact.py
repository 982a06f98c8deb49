"""What `metering compact` does before it compacts."""

from __future__ import annotations

import pytest

from metering.cli.commands.analyst.lake import compact_now
from metering.errors import LedgerCorruptError
from metering.ledger.booked_hours import Pending, pending_in
from metering.ledger.commits import waiting_in, waiting_key
from metering.stores.writes import Table, Update
from tests.support.lake_world import World, record


def test_what_waits_is_rolled_up_also_if_its_rows_are_not_due() -> None:
    world = World()
    world.send([record(5), record(7)], rolled_up=False)
    assert compact_now(world.jobs, due=True).rows == 0
    assert list(waiting_in(world.items, 0)) == []
    assert [len(Pending.from_item(item).hours) for item in pending_in(world.items, 0)] == [1]
    assert sum(total.bytes for total in world.usage().values()) == 12


def test_a_roll_up_that_stops_is_named_and_everything_else_is_done() -> None:
    world = World()
    world.send([record(5)])
    world.send([record(7)], rolled_up=False)
    [item] = waiting_in(world.items, 0)
    commit_id = str(item["sk"])
    world.items.update(Update(table=Table.LEDGER, key=waiting_key(0, commit_id), remove=("totals",)))
    with pytest.raises(LedgerCorruptError, match=commit_id):
        compact_now(world.jobs)
    assert len(world.objects.keys("lake/")) == 1


def test_commits_that_never_stop_do_not_keep_it_from_compacting() -> None:
    world = World()
    world.send([record(5)], rolled_up=False)
    came = busy = 0

    def come(call: str) -> None:
        nonlocal came, busy
        # Another commit before each transaction that places one. The limit ends a test that fails.
        if call == "items.transact" and not busy and came < 50:
            came, busy = came + 1, 1
            world.send([record(1)], rolled_up=False)
            busy = 0

    world.items.on_call = come
    assert compact_now(world.jobs).rows == 1
    assert 0 < came < 10
