"""Gateways of the inventory without a line are named: their processing is not metered."""

from __future__ import annotations

from metering.billing.causes.gateways import gateways_without_lines
from metering.units import DAY_S, HOUR_S
from tests.support.cause_world import CauseWorld, network_of
from tests.support.lake_world import HOUR


def test_gateways_with_and_without_lines() -> None:
    network = network_of(lines=400)
    world = CauseWorld(network)
    context = world.contexts.newest()
    assert context is not None
    whole = {"from_s": HOUR - DAY_S, "to_s": HOUR + HOUR_S}
    assert gateways_without_lines(world.objects, context, **whole) is None
    files = list(network.files())
    world.meter(files)
    world.keep_causes()
    silent = gateways_without_lines(world.objects, context, **whole)
    assert silent is not None
    seen = {str(row["resource_id"]) for row in world.cause_rows()}
    kinds = {each.id: each.kind for each in context.interfaces}
    gateways = {each for each, kind in kinds.items() if kind in ("nat_gateway", "vpc_endpoint")}
    assert gateways & seen
    assert not {each for pair in silent for each in pair} & seen
    holders = dict(context.holders)
    assert {each for _, each in silent} >= {each for each in gateways if not {each, holders.get(each, "")} & seen}
    assert gateways_without_lines(world.objects, context, from_s=HOUR + DAY_S, to_s=HOUR + 2 * DAY_S) is None

    other = CauseWorld(network)
    other.meter(files[:1])
    other.keep_causes()
    assert len(gateways_without_lines(other.objects, context, **whole) or ()) > len(silent)
