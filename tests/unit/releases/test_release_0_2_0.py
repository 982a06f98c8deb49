"""A region that release 0.2.0 left is read exactly, and its work continues (`record.py` lists its content)."""

import base64
import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from metering.adapters.aws.items import from_attributes
from metering.stores.writes import Put, Table
from tests.support.lake_world import World, record
from tests.unit.releases.record import deliver, read_at_rest

RECORDED = Path(__file__).with_name("release_0_2_0.json.gz")


@cache
def recorded() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(RECORDED.read_bytes()))
    return found


@pytest.fixture
def region() -> World:
    """The recorded region, an hour after the release's last call."""
    held, world = recorded(), World(now_s=0, shards=2)
    for table, name in ((Table.LEDGER, "ledger"), (Table.USAGE, "usage")):
        for attributes in held[name]:
            world.items.put(Put(table=table, item=from_attributes(attributes)))
    for key, (modified_s, text) in sorted(held["objects"].items(), key=lambda each: int(each[1][0])):
        world.clock.sleep_ms(modified_s * 1000 - world.clock.now_ms())
        world.objects.put(key, base64.b85decode(text), if_absent=True)
    world.clock.sleep_ms((held["now_s"] + 3_600) * 1000 - world.clock.now_ms())
    return world


def test_what_it_left_planned_waiting_and_pending_is_finished_to_the_same_totals(region: World) -> None:
    found = read_at_rest(region)
    assert found == recorded()["read"]
    assert found["lake"] == found["usage"] != []


def test_its_closed_month_is_whole(region: World) -> None:
    assert region.jobs.closer.verify("2026-10") == []
    [month] = [each for each in region.jobs.closer.months() if each.month == "2026-10"]
    assert month.state == "closed"


def test_its_region_is_compared_in_all_hours_without_a_difference(region: World) -> None:
    read_at_rest(region)
    from_s, to_s = min(region.jobs.view.hours()), max(region.jobs.view.hours()) + 3_600
    result = region.jobs.reconciler.run(from_s=from_s, to_s=to_s, deep=True)
    assert (result.different, result.unstable) == ((), ())
    assert len(result.checks) > 5


def test_what_it_accepted_is_not_counted_again(region: World) -> None:
    for size in (4_321, 4_322):
        deliver(region, "told-twice", record(size, start_s=int(recorded()["now_s"])))
    assert read_at_rest(region) == recorded()["read"]
