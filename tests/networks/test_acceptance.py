"""A network's logs are metered once: each byte with its true direction and usage type, despite copies and changes."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import pytest

from metering.ledger.markers import CONFLICT_PK, conflict_of
from metering.onramps.reasons import Classified, Classifier, Outcome
from metering.operations.alarms import ALARMS, Figure
from metering.stores.objects import LOG_PARTS_PREFIX, QUARANTINE_PREFIX
from metering.stores.writes import Table
from metering.units import HOUR_S
from tests.networks.exam import FIRST_S, reference_plan
from tests.networks.world import (
    NOW_S,
    NetworkWorld,
    differences,
    metered,
    shadowed_of,
    shuffled,
    tally_of,
    unclassified_bytes,
)
from tests.support.flow_logs import VPC_FLOW
from tests.support.memory.queues import MemoryQueue
from tests.support.networks.description import description
from tests.support.networks.files import LogFile, replica
from tests.support.networks.flow_logs import MIXED
from tests.support.networks.traffic import Network, NetworkPlan

if TYPE_CHECKING:
    from metering.onramps.context.store import Timeline
    from metering.onramps.reading import FileName, FlowHop

_PERCENT = 100
# Eight slots extend across the start of an hour.
PLAN = NetworkPlan(first_s=FIRST_S, lines=5_000, slots=8, variety=6, edge_requests=300)


@cache
def made(plan_style: str = MIXED) -> tuple[Network, tuple[LogFile, ...]]:
    network = Network(replace(PLAN, style=plan_style))
    return network, tuple(network.files())


@cache
def first() -> NetworkWorld:
    return metered(*made())


@pytest.mark.parametrize("style", [MIXED, "v2"])  # The reference network contains the other styles.
def test_every_byte_is_counted_once_in_its_direction_and_none_wrongly(style: str) -> None:
    network, files = made(style)
    world = first() if style == MIXED else metered(network, files)
    assert not differences(network, world.rows())
    assert world.verified()
    lines, sizes = tally_of(world.plans())
    assert lines == network.truth.tally.lines
    assert sizes == {outcome: each for outcome, each in network.truth.tally.bytes.items() if each}


def test_a_shadowed_log_is_named_with_its_lines_and_bytes() -> None:
    network, _ = made()
    assert shadowed_of(first().plans()) == network.truth.shadowed
    assert len(network.truth.shadowed) == 4


def test_copies_in_other_buckets_and_all_files_again_change_nothing() -> None:
    network, files = made()
    world = metered(network, files)
    before = world.report()
    copies = world.put(replica(file) for file in files)
    assert set(world.take_all(copies)) <= {"repeated", "empty"}
    assert set(world.take_all(world.put(files))) <= {"repeated", "empty"}
    world.work()
    assert world.report() == before
    assert not differences(network, world.rows())


@pytest.mark.parametrize("seed", range(2))
def test_in_random_order_and_killed_at_random_the_report_is_byte_for_byte_the_same(seed: int) -> None:
    network, files = made()
    world = NetworkWorld()
    world.know_all(network)
    rng = random.Random(seed)
    originals = world.put(files)
    waiting = shuffled([*originals, *world.put(replica(file) for file in files), *originals], seed)
    deaths = 0
    while waiting:
        place = waiting.pop()
        if world.dies_after(rng.randrange(12), lambda place=place: world.take(place)):  # type: ignore[misc]  # bound now
            deaths += 1
            waiting.insert(rng.randrange(len(waiting) + 1), place)
        if rng.randrange(20) == 0:
            world.work()
    world.work()
    assert deaths > len(files) / 4
    assert world.report() == first().report()


def test_other_address_ranges_and_another_inventory_change_nothing_of_what_was_metered() -> None:
    network, files = made()
    world = metered(network, files)
    before = world.report()
    described = _changed(network)
    world.know(described, FIRST_S - FIRST_S % HOUR_S)
    world.know(described, FIRST_S - FIRST_S % HOUR_S + HOUR_S)
    # Parts are objects that messages point to. If they are deleted when a file arrives again, the plan makes them anew.
    world.objects.delete([info.key for info in world.objects.list(LOG_PARTS_PREFIX)])
    places = world.put(files)
    assert set(world.take_all([*places, *world.put(replica(file) for file in files)])) <= {"repeated", "empty"}
    world.work()
    assert world.report() == before


def test_a_file_that_was_planned_and_never_sent_is_judged_by_the_contexts_of_its_plan() -> None:
    network, files = made()
    some = files[::4]
    world = NetworkWorld()
    world.know_all(network)
    places = world.put(some)
    assert set(world.take_all(places)) <= {"metered", "empty"}
    # Nothing was booked, because the messages and the parts are lost.
    world.queue = MemoryQueue(world.clock)
    world.objects.delete([info.key for info in world.objects.list(LOG_PARTS_PREFIX)])
    world.know(_changed(network), FIRST_S - FIRST_S % HOUR_S)
    assert set(world.take_all(places)) <= {"repeated", "empty"}
    world.work()
    assert world.report() == metered(network, some).report()


def test_with_a_context_each_hour_a_new_log_gets_the_authority_at_a_full_hour_and_nothing_counts_twice() -> None:
    network, files = made()
    whole = description(network.inventory, network.flow_logs, NOW_S)
    hour_s = FIRST_S - FIRST_S % HOUR_S
    new = max(network.flow_logs.logs, key=lambda log: log.created_s)
    assert new.created_s > hour_s
    world = NetworkWorld()
    # One context was captured before the new log was created, and one after.
    world.know(_without_flow_log(whole, new.id), hour_s)
    world.know(whole, hour_s + HOUR_S)
    places = world.put(files)
    assert set(world.take_all(shuffled(places, 1))) <= {"metered", "empty"}
    world.work()
    assert not differences(network, world.rows())
    assert shadowed_of(world.plans()) == network.truth.shadowed


def test_a_changed_line_under_the_same_name_is_one_conflict_kept_and_alerted() -> None:
    network, files = made()
    world = metered(network, files)
    before, objects = world.report(), set(world.objects.keys())
    victim = next(file for file in files if not file.log.parquet and file.tally.lines.get("metered", 0) > 20)
    world.buckets[victim.bucket].put(victim.key, _with_a_changed_line(victim.body), if_absent=False)
    for _ in range(2):
        assert world.take((victim.bucket, victim.key)).verdict == "conflict"
        world.work()
    assert world.report() == before
    assert [key for key in set(world.objects.keys()) - objects if key.startswith(QUARANTINE_PREFIX)]
    # The figure on which the alarm on conflicts is based.
    conflicts = {conflict_of(item) for item in world.items.query(Table.LEDGER, CONFLICT_PK)}
    assert len(conflicts) == 1
    assert Figure.CONFLICTS in {alarm.metric for alarm in ALARMS}


@pytest.mark.parametrize(("style", "most_percent"), [("v11", 6), ("v5", 12)])
def test_the_reference_network_leaves_little_unclassified_and_every_byte_of_it_has_a_reason(
    style: str, most_percent: int
) -> None:
    network = Network(reference_plan(style))
    world = metered(network, tuple(network.files()))
    rows = world.rows()
    assert not differences(network, rows)
    shares = [share for plan in world.plans() for share in plan.shares]
    reasons: Counter[str] = Counter()
    for share in shares:
        reasons[share.reason] += share.bytes if share.reason else 0
    unclassified = unclassified_bytes(rows)
    assert sum(reasons.values()) == unclassified
    processed_bytes = sum(network.truth.processed().values())
    assert sum(share.bytes for share in shares) == network.truth.metered_bytes + processed_bytes
    assert sum(plan.balance.processed_bytes for plan in world.plans()) == processed_bytes > 0
    print(f"{style}: {_PERCENT * unclassified / network.truth.metered_bytes:.2f} % unclassified: {reasons}")
    assert _PERCENT * unclassified <= most_percent * network.truth.metered_bytes
    assert unclassified >= network.truth.hidden_bytes()


def _with_a_changed_line(body: bytes) -> bytes:
    """A copy of a log file in which one line states one more byte."""
    header, *lines = gzip.decompress(body).decode().splitlines()
    place = header.split(" ").index("bytes")
    number = next(number for number, line in enumerate(lines) if " ACCEPT " in line)
    words = lines[number].split(" ")
    words[place] = str(int(words[place]) + 1)
    lines[number] = " ".join(words)
    return gzip.compress("\n".join([header, *lines, ""]).encode())


def _without_flow_log(described: dict[str, object], log_id: str) -> dict[str, object]:
    places = described["regions"]
    assert isinstance(places, list)
    lessened = [
        {**place, "FlowLogs": [each for each in place["FlowLogs"] if each["FlowLogId"] != log_id]} for place in places
    ]
    return {**described, "regions": lessened}


def _changed(network: Network) -> dict[str, object]:
    """The description of the network with different address ranges, and without one subnet and its resources."""
    described = description(network.inventory, network.flow_logs, NOW_S)
    ranges = described["ip_ranges"]
    assert isinstance(ranges, dict)
    kept = (each for each in ranges["prefixes"] if not each["ip_prefix"].startswith("64.252."))
    moved = {"region": "eu-west-1"}
    ranges["prefixes"] = [each | (moved if each["ip_prefix"].startswith("52.218.") else {}) for each in kept]

    places = described["regions"]
    assert isinstance(places, list)
    gone = places[0]["Subnets"].pop(0)["SubnetId"]
    for place in places:
        for name in ("NetworkInterfaces", "FlowLogs"):
            place[name] = [each for each in place[name] if gone not in (each.get("SubnetId"), each.get("ResourceId"))]
    return described


class _Before:
    """The rules before `hops/2`: without processing, and peering between zones is always regional transfer."""

    def __init__(self, now: Classifier[FlowHop]) -> None:
        self._now = now

    def outcome(self, subject: FlowHop, hour_s: int) -> Outcome:
        outcome = self._now.outcome(subject, hour_s)
        if isinstance(outcome, Classified):
            outcome = outcome._replace(processed=None)
        if isinstance(outcome, Classified) and outcome.rule == "peered_other_zone":
            return outcome._replace(traffic=outcome.traffic._replace(service="AmazonEC2", usage_type=""))
        return outcome


def _classifier_before(name: FileName, timeline: Timeline) -> _Before:
    return _Before(VPC_FLOW.classifier(name, timeline))


def _changed_by_rules() -> tuple[Network, NetworkWorld]:
    mix = {"peering": 1, "nat": 1, "interface endpoint": 1}
    network, world = Network(NetworkPlan(first_s=FIRST_S, mix=mix, lines=600, variety=6)), NetworkWorld()
    world.know_all(network)
    return network, world


def _metered_by_the_rules_before() -> tuple[NetworkWorld, Network]:
    network, world = _changed_by_rules()
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
    assert b"NatGateway-Bytes" not in before
    assert differences(network, world.rows())
    if parts == "deleted":
        world.objects.delete([info.key for info in world.objects.list(LOG_PARTS_PREFIX)])
    places = [(bucket, key) for bucket in world.buckets for key in world.buckets[bucket].keys("")]
    assert set(world.take_all(places)) <= {"repeated", "empty"}
    world.work()
    assert world.report() == before


def test_a_file_that_comes_first_under_the_new_rules_has_the_new_usage_type() -> None:
    network, world = _changed_by_rules()
    world.take_all(world.put(network.files()))
    world.work()
    assert not differences(network, world.rows())
    assert b"VpcPeering-Out-Bytes" in world.report()
    assert b"NatGateway-Bytes" in world.report()
    assert b"VpcEndpoint-Bytes" in world.report()
