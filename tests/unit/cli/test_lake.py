"""Steps of `metering compact` before it compacts, and `reconcile`'s names for differing figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.audit.verification import Difference
from metering.cli.commands.analyst import lake
from metering.cli.commands.analyst.lake import compact_now
from metering.errors import LedgerCorruptError
from metering.ledger.booked_hours import Pending, pending_in
from metering.ledger.commits import waiting_in, waiting_key
from metering.stores.writes import Table, Update
from metering.usage.totals import Total
from tests.support.lake_world import World, record
from tests.support.usage_items import change, usage_of
from tests.unit.audit.test_reconcile import EVERYTHING, world_with_traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.reports.answer import Cell


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
        # Another commit arrives before each transaction that places one. The limit ends a failing test.
        if call == "items.transact" and not busy and came < 50:
            came, busy = came + 1, 1
            world.send([record(1)], rolled_up=False)
            busy = 0

    world.items.on_call = come
    assert compact_now(world.jobs).rows == 1
    assert 0 < came < 10


def test_figures_are_called_by_what_has_them_and_keep_their_first_names() -> None:
    world = world_with_traffic()
    entry = usage_of(world.items)[0]
    after = world.usage()[entry.key]
    change(world.items, entry, -3, 2)
    answer = lake.reconciliation_answer(world.jobs.reconciler.run(**EVERYTHING, deep=True))
    [row] = answer.rows
    assert row["between"] == "usage/rows"
    assert (row["usage_bytes"], row["usage_records"]) == (after.bytes - 3, after.records + 2)
    assert (row["rows_bytes"], row["rows_records"]) == (after.bytes, after.records)
    assert (row["expected_bytes"], row["found_bytes"]) == (after.bytes - 3, after.bytes)
    assert {column.name for column in answer.columns} >= {*row}


@pytest.mark.parametrize(
    ("difference", "named"),
    [
        ("markers/rows", {"markers_bytes": 1, "markers_records": 2, "rows_bytes": 3, "rows_records": 4}),
        # Neither usage nor markers: the ledger's figure is the expected one.
        ("ledger/rows", {"ledger_bytes": 1, "ledger_records": 2, "rows_bytes": 3, "rows_records": 4}),
    ],
)
def test_a_figure_is_never_called_by_what_does_not_have_it(difference: str, named: Mapping[str, Cell]) -> None:
    found = Difference(between=difference, hour_s=0, expected=Total(1, 2), found=Total(3, 4))  # type: ignore[arg-type]  # one of its texts
    row = lake._difference_row(found)
    figures = {name: value for name, value in row.items() if name.endswith(("_bytes", "_records"))}
    again = {"expected_bytes": 1, "expected_records": 2, "found_bytes": 3, "found_records": 4}
    assert figures == {**named, **again}


@pytest.mark.parametrize(("number", "words"), [(1, "1 place"), (2, "2 places")])
def test_places_are_counted_in_english(number: int, words: str) -> None:
    assert lake._places(number) == words
