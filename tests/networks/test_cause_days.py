"""Causes of a generated network after on-ramp, worker, compactor and keeper: no byte has a wrong name."""

from __future__ import annotations

import io
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from metering.onramps.context.inventory import context_of
from metering.onramps.ingest.totals import Who, measure
from metering.onramps.kinds import recognised
from metering.units import HOUR_S, MINUTE_S
from tests.networks.exam import reference_plan
from tests.support.cause_world import CauseWorld
from tests.support.lake_world import HOUR
from tests.support.networks.causes import NOBODY
from tests.support.networks.description import description
from tests.support.networks.journeys import HOSTILE, JOURNEYS
from tests.support.networks.traffic import Network, NetworkPlan

if TYPE_CHECKING:
    from metering.onramps.context.store import Timeline

FIRST_S = HOUR - 30 * MINUTE_S
# Bytes of the public side that a split may give to another cause than the truth's, in percent.
MOST_ASTRAY = 0.1


class Truth:
    """Bytes by resource, usage type and true cause, and of each cause the ids by which it may be named."""

    def __init__(self, network: Network, timeline: Timeline) -> None:
        self.bytes: Counter[tuple[str, str, tuple[str, ...]]] = Counter()
        for file in network.files():
            kind, name = recognised(file.key) or pytest.fail(file.key)
            found = measure(io.BytesIO(file.body), kind, name, timeline, who=Who.PINNED)
            causes = (file.named or NOBODY).causes
            for key, parts in found.causes.items():
                for part in parts.values():
                    self.bytes[key.traffic.resource_id, key.usage_type, causes] += part.bytes

    def of(self, resource: str, usage_type: str, cause: str) -> int:
        return sum(
            size
            for (its, kind, causes), size in self.bytes.items()
            if (its, kind) == (resource, usage_type) and cause in causes
        )


def kept(network: Network, *, hours: int = 4) -> CauseWorld:
    world = CauseWorld(network)
    for number in range(hours):
        hour_s = HOUR + (number - 1) * HOUR_S
        told = description(network.inventory, network.flow_logs, hour_s - 10 * MINUTE_S)
        world.contexts.put(context_of(told, hour_s))
    world.meter(network.files())
    world.keep_causes()
    assert world.cause_sums() == world.lake_sums()
    return world


def astray(world: CauseWorld, *, split: bool) -> tuple[int, int]:
    """Bytes with another cause than the truth's, and all bytes with a cause; of split rows, or of all others."""
    truth = Truth(world.network, world.contexts.timeline())
    named: Counter[tuple[str, str, str]] = Counter()
    for row in world.cause_rows():
        if row["cause"] and (row["basis"] == "split") == split:
            named[str(row["resource_id"]), str(row["usage_type"]), str(row["cause"])] += row["bytes"]  # type: ignore[operator]  # a number
    return sum(max(0, size - truth.of(*key)) for key, size in named.items()), sum(named.values())


@pytest.mark.parametrize("style", ["v5", *(pytest.param(style, marks=pytest.mark.long) for style in ("v2", "v11"))])
def test_no_byte_has_a_wrong_cause_when_addresses_change_hands(style: str) -> None:
    network = Network(NetworkPlan(
        first_s=FIRST_S, mix=dict.fromkeys(JOURNEYS | HOSTILE, 1), style=style, seed=8, lines=350, slots=4, variety=2,
        overlaps=False, rejected=0, named=True, hostile=True, file_lines=1_000_000,
    ))  # fmt: skip
    world = kept(network)
    wrong, named = astray(world, split=False)
    assert wrong == 0
    assert named
    if style != "v2":
        assert "address_reused" in {row["reason"] for row in world.cause_rows()}


@pytest.mark.parametrize("style", ["v5", pytest.param("v11", marks=pytest.mark.long)])
def test_the_public_side_is_split_by_the_private_side(style: str) -> None:
    plan = reference_plan(style)
    network = Network(NetworkPlan(
        first_s=FIRST_S, mix=plan.mix, style=style, lines=400, slots=1, variety=3, instances=2, overlaps=False,
        named=True, rejected=0, file_lines=1_000_000,
    ))  # fmt: skip
    world = kept(network)
    wrong, split = astray(world, split=True)
    public = sum(
        row["bytes"]  # type: ignore[misc]  # a number
        for row in world.cause_rows()
        if row["basis"] == "split" or row["reason"] == "sides_differ"
    )
    assert split > 0.9 * public > 0
    assert 100 * wrong <= MOST_ASTRAY * public
