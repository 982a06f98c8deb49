"""`metering sources`: what it shows, what a ruling says that it changes, and that the reconciler honours it."""

from __future__ import annotations

import json
import time

import pytest

from metering.cli.commands.platform.producers import accept_gap, forget, sources
from metering.cli.failures import CommandFailedError
from metering.hours import rfc3339
from metering.ledger.notes.reconciliation import RULING_PK, Ruling
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from tests.support.here import CALLER, OperatorSession
from tests.support.lake_world import World, record


def with_gap() -> World:
    """A region that knows that `edge` misses 1 to 4."""
    # The commands use the machine's clock.
    now_s = int(time.time())
    world = World(now_s=now_s - 2 * HOUR_S)
    world.send([record(1, start_s=now_s - 3 * HOUR_S)], source="edge")
    world._sent = 5
    world.send([record(1, start_s=now_s - 3 * HOUR_S)], source="edge")
    for _ in range(2):
        world.clock.advance_s(HOUR_S)
        scan(world)
    return world


def scan(world: World) -> None:
    now_s = world.clock.now_ms() // 1000
    result = world.jobs.reconciler.check(from_s=now_s - DAY_S, to_s=now_s + DAY_S)
    world.jobs.reconciler_state.keep(result)


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_it_shows_sources_as_of_the_last_whole_pass_and_how_far_the_reconciler_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = with_gap()
    sources(OperatorSession(world))
    found = shown(capsys)
    as_of = rfc3339(world.clock.now_ms() // 1000)
    assert found["as_of"] == as_of
    assert found["unkept"] == 0
    assert found["reconciliation"] == {"finished": as_of, "waiting": 0, "waiting_since": None}


def test_it_says_that_a_young_gap_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    sources(OperatorSession(with_gap()))
    assert "Gaps that are younger than 15 minutes are not shown yet." in capsys.readouterr().err


def test_accepting_a_part_of_a_gap_says_what_it_changes_and_is_honoured(capsys: pytest.CaptureFixture[str]) -> None:
    world = with_gap()
    for _ in range(2):
        accept_gap(OperatorSession(world), "edge", "3-9")
        out, err = capsys.readouterr()
        row = json.loads(out)
        assert "2 missing numbers (3-4) of edge are no gap any more" in err
        assert (row["missing"], row["gaps"], row["numbers"]) == (2, "3-4", "3-9")
        assert row["by"] == CALLER
    [item] = world.items.query(Table.LEDGER, RULING_PK)
    ruling = Ruling.from_item(item)
    assert ruling.expires_at > ruling.at_ms // 1000 + 50 * DAY_S
    scan(world)
    assert world.jobs.reconciler_state.sources()[0].gaps == ((1, 2),)


def test_all_can_be_accepted_and_a_source_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    world = with_gap()
    accept_gap(OperatorSession(world), "edge", "all")
    assert shown(capsys)["missing"] == 4
    forget(OperatorSession(world), "edge")
    assert shown(capsys)["ruling"] == "forget"
    scan(world)
    assert world.jobs.reconciler_state.sources() == []


def test_a_source_that_is_not_there_is_no_source(capsys: pytest.CaptureFixture[str]) -> None:
    world = with_gap()
    with pytest.raises(CommandFailedError, match="no source edg"):
        forget(OperatorSession(world), "edg")
    assert capsys.readouterr().out == ""
    assert list(world.items.query(Table.LEDGER, RULING_PK)) == []
