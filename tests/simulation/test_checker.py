"""The checker can fail: each kind of damage to a sound region is found, and called by its name."""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING

import pytest

from metering.ledger.booked_hours import pointer_key
from metering.ledger.markers import marker_key
from metering.stores.writes import Delete, Key, Put, Table, Update
from tests.simulation.checks.checker import check, lake_rows
from tests.simulation.checks.watch import ViolationError
from tests.simulation.matrix import Scenario
from tests.simulation.region.faults import ScriptedFaults
from tests.support.usage_items import change, lose, usage_of

if TYPE_CHECKING:
    from tests.simulation.region.world import World


@pytest.fixture
def world() -> World:
    scenario = Scenario("worker", ScriptedFaults("subject", {}))
    scenario.run()
    assert not check(scenario.world, lake_rows(scenario.world))
    return scenario.world


def test_bytes_counted_twice_are_doubled(world: World) -> None:
    change(world.items, usage_of(world.items)[0], 1)

    assert check(world, lake_rows(world)).doubled


def test_a_usage_item_that_is_gone_is_lost(world: World) -> None:
    lose(world.items, usage_of(world.items)[0])

    assert check(world, lake_rows(world)).lost


def test_a_lake_file_that_is_gone_is_lost(world: World) -> None:
    world.objects.remove(world.objects.keys("lake/")[0])

    assert check(world, lake_rows(world)).lost


def test_a_row_that_is_there_twice_is_doubled(world: World) -> None:
    rows = lake_rows(world)

    assert check(world, [*rows, rows[0]]).doubled


def test_a_row_with_other_bytes_is_unexpected(world: World) -> None:
    rows = lake_rows(world)

    assert check(world, [rows[0]._replace(bytes=rows[0].bytes + 1), *rows[1:]]).unexpected


def test_a_row_in_another_hour_is_unexpected(world: World) -> None:
    rows = lake_rows(world)

    assert check(world, [rows[0]._replace(booked_s=rows[0].booked_s + 3600), *rows[1:]]).unexpected


def test_a_marker_that_does_not_say_what_its_rows_do_is_unexpected(world: World) -> None:
    world.items.update(Update(table=Table.LEDGER, key=marker_key("b5"), set={"hours": {}}))

    assert any("marker of b5" in each for each in check(world, lake_rows(world)).unexpected)


def test_a_marker_that_is_made_anew_although_none_was_lost_is_seen_at_once(world: World) -> None:
    with pytest.raises(ViolationError, match="made anew"):
        world.watch.written(Put(table=Table.LEDGER, item={**marker_key("b5")._asdict(), "verdict": "accepted"}))


def test_a_batch_without_a_verdict_is_lost(world: World) -> None:
    del world.watch.accepted["b5"]

    findings = check(world, [row for row in lake_rows(world) if row.batch_id != "b5"])

    assert any("b5.0: no verdict" in each for each in findings.lost)


def test_an_acknowledgement_without_a_verdict_is_seen_at_once(world: World) -> None:
    del world.watch.accepted["b5"]
    world.items.remove(Table.LEDGER, marker_key("b5"))

    with pytest.raises(ViolationError, match="I4"):
        world.watch.acknowledged(world.contents["b5.0"])


def test_a_published_hour_that_vanishes_is_seen_at_once(world: World) -> None:
    published = next(item for item in world.items.everything(Table.LEDGER) if str(item["sk"]).startswith("1#"))
    delete = Delete(table=Table.LEDGER, key=Key(str(published["pk"]), str(published["sk"])))
    world.items.delete(delete)

    with pytest.raises(ViolationError, match="I3/I5"):
        world.watch.written(delete)


def test_a_write_to_a_closed_month_is_seen_at_once(world: World) -> None:
    world.watch.frozen.add("2026-11")

    with pytest.raises(ViolationError, match="I6"):
        world.watch.written(Update(table=Table.USAGE, key=Key("A#1#2026-11", "x"), add={"bytes": 1}))


def test_a_second_acceptance_is_seen_at_once(world: World) -> None:
    marker = {**marker_key("b5")._asdict(), "verdict": "accepted", "hash": "h", "commit_id": "c"}

    with pytest.raises(ViolationError, match="accepted twice"):
        world.watch.written(Put(table=Table.LEDGER, item=marker))


def test_a_pointer_to_rows_that_are_visible_already_is_seen_at_once(world: World) -> None:
    row = lake_rows(world)[0]
    world.objects.put("staging/again.parquet", marshal.dumps([tuple(row)]), if_absent=True)
    item = {**pointer_key(row.booked_s, "again")._asdict(), "staging": "staging/again.parquet"}

    with pytest.raises(ViolationError, match="I3"):
        world.watch.written(Put(table=Table.LEDGER, item=item))
