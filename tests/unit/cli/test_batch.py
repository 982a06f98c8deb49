"""`metering batch show`: the story of a batch, or how to find it when its marker is gone."""

from __future__ import annotations

import json

import pytest

from metering.cli.commands.operator.quarantine import show_batch
from metering.cli.failures import CommandFailedError
from metering.ledger.booked_hours import totals_value
from metering.ledger.markers import marker_key
from metering.reports.time_range import InvalidParametersError
from metering.stores.writes import Put, Table
from metering.usage.totals import Total
from tests.support.here import HereSession
from tests.support.lake_world import HOUR
from tests.unit.reports.batches.test_story import BATCH, world_with_batch


def test_a_batch_is_shown_by_its_id(capsys: pytest.CaptureFixture[str]) -> None:
    show_batch(HereSession(world_with_batch()), BATCH)
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["proof"]["equal"]) == ("accepted", True)


def test_a_batch_without_a_marker_is_not_called_unknown_and_a_range_finds_its_rows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = world_with_batch()
    world.items.remove(Table.LEDGER, marker_key(BATCH))
    with pytest.raises(CommandFailedError) as raised:
        show_batch(HereSession(world), BATCH)
    assert "decided more than 50 days ago" in raised.value.advice
    assert "--from and --to" in raised.value.advice
    show_batch(HereSession(world), BATCH, start="2026-11")
    assert json.loads(capsys.readouterr().out)["marker"] == "expired"


def test_a_marker_that_differs_from_the_rows_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    world = world_with_batch()
    item = world.items.get(Table.LEDGER, marker_key(BATCH))
    assert item is not None
    world.items.put(Put(table=Table.LEDGER, item={**item, "hours": totals_value({HOUR: Total(1, 1)})}))
    with pytest.raises(CommandFailedError, match="not equal"):
        show_batch(HereSession(world), BATCH)
    assert json.loads(capsys.readouterr().out)["proof"]["equal"] is False


def test_what_is_no_batch_id_is_refused() -> None:
    with pytest.raises(InvalidParametersError):
        show_batch(HereSession(world_with_batch()), "no batch")
