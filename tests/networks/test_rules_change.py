"""A release's new rules apply from now on. Usage metered by older rules stays as it was booked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.onramps.reasons import Classified, Classifier, Outcome
from metering.stores.objects import LOG_PARTS_PREFIX
from tests.networks.exam import FIRST_S
from tests.networks.world import NetworkWorld, differences
from tests.support.flow_logs import VPC_FLOW
from tests.support.networks.files import replica
from tests.support.networks.traffic import Network, NetworkPlan

if TYPE_CHECKING:
    from metering.onramps.context.store import Timeline
    from metering.onramps.reading import FileName, FlowHop


class _Before:
    """The rules before `hops/2`: peering between zones is regional transfer in every month."""

    def __init__(self, now: Classifier[FlowHop]) -> None:
        self._now = now

    def outcome(self, subject: FlowHop, hour_s: int) -> Outcome:
        outcome = self._now.outcome(subject, hour_s)
        if isinstance(outcome, Classified) and outcome.rule == "peered_other_zone":
            return outcome._replace(traffic=outcome.traffic._replace(service="AmazonEC2", usage_type=""))
        return outcome


def _classifier_before(name: FileName, timeline: Timeline) -> _Before:
    return _Before(VPC_FLOW.classifier(name, timeline))


def _metered_by_the_rules_before() -> tuple[NetworkWorld, Network]:
    network, world = Network(NetworkPlan(first_s=FIRST_S, mix={"peering": 1}, lines=300, variety=6)), NetworkWorld()
    world.know_all(network)
    world.kinds = (replace(VPC_FLOW, classifier=_classifier_before, rules="hops/1"),)
    files = list(network.files())
    world.take_all(world.put(files))
    world.work()
    world.kinds = ()
    world.put(replica(file) for file in files)
    return world, network


@pytest.mark.parametrize("parts", ["stored", "deleted"])
def test_a_file_that_older_rules_metered_is_not_counted_twice_under_another_usage_type(parts: str) -> None:
    world, network = _metered_by_the_rules_before()
    before = world.report()
    assert b"DataTransfer-Regional-Bytes" in before
    assert b"VpcPeering-" not in before
    assert differences(network, world.rows())
    if parts == "deleted":
        world.objects.delete([info.key for info in world.objects.list(LOG_PARTS_PREFIX)])
    places = [(bucket, key) for bucket in world.buckets for key in world.buckets[bucket].keys("")]
    assert set(world.take_all(places)) <= {"repeated", "empty"}
    world.work()
    assert world.report() == before


def test_a_file_that_comes_first_under_the_new_rules_has_the_new_usage_type() -> None:
    network, world = Network(NetworkPlan(first_s=FIRST_S, mix={"peering": 1}, lines=300, variety=6)), NetworkWorld()
    world.know_all(network)
    world.take_all(world.put(network.files()))
    world.work()
    assert not differences(network, world.rows())
    assert b"VpcPeering-Out-Bytes" in world.report()
