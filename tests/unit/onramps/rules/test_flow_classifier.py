"""The classifier of flow logs: owners of lines, directions, authority, and conclusions that it must not draw."""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.hours import hour_of
from metering.intake.records import traffic_of
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import StoredContext, Timeline
from metering.onramps.ingest.totals import Measured, measure
from metering.onramps.reading import Block, FileName, FlowHop, Folding
from metering.onramps.reasons import Classified, Outcome, Refused, Shadowed
from metering.onramps.rules import hop_judge
from metering.onramps.rules import hop_judge as flows
from metering.onramps.rules.hop_judge import AddressClasses, FlowClassifier
from metering.onramps.rules.knowledge import Knowledge, knowledge_of
from metering.onramps.transit_gateway import WithTransit
from metering.units import HOUR_S
from tests.support.describing import ACCOUNT, EFFECTIVE_S, PARTNER, REGION, flow_log, interface, peering
from tests.support.flow_logs import VPC_FLOW
from tests.support.networks.description import description
from tests.support.networks.traffic import Network, NetworkPlan
from tests.unit.onramps.readers import log_of
from tests.unit.onramps.rules.test_hop_rules import CASES, booked
from tests.unit.onramps.rules.world import NAME, WORLD, entering, judged, leaving, line, next_hop

if TYPE_CHECKING:
    from metering.onramps.context.document import Context
    from metering.onramps.kinds import LogKind
    from tests.support.networks.files import LogFile

V2 = {"vpc_id": "", "region": "", "flow_direction": ""}


def of_log(source: str) -> FileName:
    """File name of a file of the flow log `source`."""
    return replace(NAME, identity=f"flow:{source}", source=source)


def classified(outcome: Outcome) -> Classified:
    assert isinstance(outcome, Classified), outcome
    return outcome


def changed(**lists: list[dict[str, Any]]) -> dict[str, Any]:
    """`WORLD` with items added to its first region; an empty list removes all items of the list's name."""
    world = copy.deepcopy(WORLD)
    first = world["regions"][0]
    for name, items in lists.items():
        first[name] = [*first[name], *items] if items else []
    return world


# Whose a line is


def test_the_account_is_the_lines_then_the_interfaces_then_the_file_names() -> None:
    world = changed(NetworkInterfaces=[interface("eni-shared", "subnet-1", "10.0.1.70", OwnerId=PARTNER)])
    hops = {
        "111122223333": leaving("eni-shared", "10.0.1.20", "1", account_id="111122223333"),
        PARTNER: leaving("eni-shared", "10.0.1.20", "1", account_id="unknown"),
        ACCOUNT: leaving("eni-new", "10.0.1.20", "1", account_id="unknown"),
    }
    for account_id, hop in hops.items():
        assert classified(judged(hop, world)).traffic.account_id == account_id


def test_a_line_without_account_region_or_resource_is_refused_with_words() -> None:
    nameless = FileName(kind="vpc-flow", identity="sha256:1")
    for hop, reason in (
        (line("eni-new", account_id="12345678901"), "invalid_account"),
        (line("eni-new", account_id="", region=REGION), "invalid_account"),
        (line("eni-new", region="", vpc_id=""), "no_region"),
        (line("", region=REGION), "invalid_value"),
        (leaving("eni-new", "10.0.0.999", "1"), "invalid_address"),
    ):
        outcome = judged(hop, None, name=nameless)
        assert isinstance(outcome, Refused)
        assert outcome.reason == reason
        assert outcome.detail


def test_a_version_2_line_is_placed_by_its_interface() -> None:
    hop = line("eni-private", **V2, source="10.0.1.4", destination="10.0.2.4")
    traffic = classified(judged(hop)).traffic
    assert traffic.direction == "out"
    assert (traffic.from_location, traffic.to_location) == ("us-west-2/usw2-az1", "us-west-2/usw2-az2")


def test_the_resource_is_the_instance_then_the_gateway_then_the_interface() -> None:
    resources = [
        classified(judged(leaving("eni-private", "10.0.1.20", "1", **told))).traffic.resource_id
        for told in ({"instance_id": "i-1", "resource_id": "nat-1"}, {"resource_id": "nat-1"}, {})
    ]
    assert resources == ["i-1", "nat-1", "eni-private"]


def test_a_regional_nat_gateway_is_known_by_the_resource_of_its_log() -> None:
    outcome = classified(judged(entering("", "81.2.0.1"), name=of_log("fl-nat")))
    assert outcome.traffic.resource_id == "nat-1"
    assert (outcome.rule, outcome.traffic.from_location) == ("internet", "internet")


@pytest.mark.parametrize(
    ("interface_id", "service"),
    [("eni-alb", "AWSELB"), ("eni-nlb", "AWSELB"), ("eni-nat", "AmazonEC2"), ("eni-private", "AmazonEC2")],
)
def test_load_balancers_are_of_their_own_service(interface_id: str, service: str) -> None:
    assert classified(judged(entering(interface_id, "10.0.1.20"))).traffic.service == service


# Which way bytes went


def test_without_a_direction_the_own_address_tells_and_for_a_new_interface_the_side_in_its_vpc() -> None:
    hops = (
        line("eni-private", **V2, source="10.0.1.5", destination="81.2.0.1"),
        line("eni-private", **V2, source="81.2.0.1", destination="10.0.1.4"),
        line("eni-new", flow_direction="", source="10.0.1.77", destination="81.2.0.1"),
        line("eni-new", flow_direction="", source="81.2.0.1", destination="10.0.1.77"),
    )
    assert [classified(judged(hop)).traffic.direction for hop in hops] == ["out", "in", "out", "in"]


@pytest.mark.parametrize(("interface_id", "source", "destination"), [
    ("eni-private", "10.9.0.1", "10.9.0.2"),
    ("eni-private", "10.0.1.4", "10.0.1.5"),
    ("eni-private", "", ""),
    ("eni-new", "10.0.1.4", "10.0.1.5"),
    # Both addresses may belong to a VPC.
    ("eni-new", "10.0.1.4", "10.1.1.4"),
    ("eni-new", "10.0.1.4", "192.168.4.4"),
])  # fmt: skip
def test_where_no_address_tells_the_direction_is_unknown(interface_id: str, source: str, destination: str) -> None:
    hop = line(interface_id, flow_direction="", source=source, destination=destination)
    outcome = classified(judged(hop))
    assert outcome.reason == "direction_unknown"
    assert outcome.traffic.usage_type == "USW2-Unclassified-Regional-Bytes"


# Who counts


def test_lines_of_a_log_without_authority_are_shadowed_by_the_one_that_has_it() -> None:
    # For the second line, the VPC is known from the inventory, because the line does not name it.
    by_inventory = line("eni-private", **V2, source="10.0.1.4", destination="10.0.1.20")
    for hop in (leaving("eni-private", "10.0.1.20", "1"), by_inventory):
        assert judged(hop, name=of_log("fl-eni")) == Shadowed("fl-main")


def test_a_log_that_the_context_does_not_list_is_shadowed_where_another_sees_the_same() -> None:
    assert judged(leaving("eni-private", "10.0.1.20", "1"), name=of_log("fl-new")) == Shadowed("fl-main")
    elsewhere = leaving("eni-c", "100.64.1.9", "1", vpc_id="vpc-carrier")
    assert isinstance(judged(elsewhere, name=of_log("fl-new")), Classified)
    # If the name of a file contains no log, the file is never shadowed.
    assert isinstance(judged(leaving("eni-private", "10.0.1.20", "1"), name=of_log("")), Classified)


def test_an_interface_that_is_not_known_yet_is_counted_by_one_of_two_logs() -> None:
    world = changed(FlowLogs=[flow_log("fl-subnet", "subnet-1")])
    new = line("eni-new", **V2, source="10.0.1.70", destination="81.2.0.1")
    assert isinstance(judged(new, world), Classified)
    assert judged(new, world, name=of_log("fl-subnet")) == Shadowed("fl-main")


def test_the_authority_switches_at_the_full_hour() -> None:
    fields = "${version} ${interface-id} ${az-id} ${flow-direction}"
    rich = flow_log("fl-rich", "vpc-main", CreationTime="2026-11-24T12:20:00Z", LogFormat=fields)
    world = changed(FlowLogs=[rich])
    hop = leaving("eni-private", "10.0.1.20", "1")
    asked = product((EFFECTIVE_S, EFFECTIVE_S + HOUR_S), (NAME, of_log("fl-rich")))
    outcomes = [judged(hop, world, name=name, hour_s=hour_s) for hour_s, name in asked]
    assert [getattr(each, "by", "") for each in outcomes] == ["", "fl-main", "fl-rich", ""]


def test_history_of_a_log_that_was_replaced_counts_up_to_the_hour_of_its_replacement() -> None:
    """To change a format, people create a new flow log and delete the old log; contexts then omit the old log."""
    world = changed(FlowLogs=[])
    world["regions"][0]["FlowLogs"] = [flow_log("fl-after", "vpc-main", CreationTime="2026-11-24T12:20:00Z")]
    hop = leaving("eni-private", "10.0.1.20", "1")
    outcomes = [
        judged(hop, world, name=of_log("fl-gone"), hour_s=EFFECTIVE_S + hours * HOUR_S) for hours in (-24, -1, 0, 1)
    ]
    assert [getattr(each, "by", "") for each in outcomes] == ["", "", "fl-after", "fl-after"]


def test_each_hour_is_judged_by_the_context_that_holds_then() -> None:
    without_ranges = {name: value for name, value in WORLD.items() if name != "ip_ranges"}
    next_s = EFFECTIVE_S + HOUR_S
    versions = (EFFECTIVE_S, context_of(without_ranges, EFFECTIVE_S)), (next_s, context_of(WORLD, next_s))
    judge = FlowClassifier(NAME, Timeline(versions))
    hop = leaving("eni-public", "81.2.0.1", "8")
    outcomes = [classified(judge.outcome(hop, EFFECTIVE_S + hours * HOUR_S)) for hours in (0, 1, 0)]
    assert [each.rule for each in outcomes] == ["ranges_unknown", "internet", "ranges_unknown"]


# What is never concluded


def test_without_any_context_only_what_the_line_itself_says_is_classified() -> None:
    sure = leaving("eni-1", "81.2.0.1", "1", zone_id="usw2-az1", **next_hop("usw2-az1", "vpc-main"))
    assert classified(judged(sure, None)).rule == "same_zone"
    for hop in (
        leaving("eni-1", "81.2.0.1", "8"),
        entering("eni-1", "81.2.0.1"),
        leaving("eni-1", "10.0.1.20", "1"),
        leaving("eni-1", "10.1.1.4", "4"),
        leaving("eni-1", "10.0.2.4", "1", zone_id="usw2-az1", **next_hop("usw2-az2", "vpc-main", "interface")),
    ):
        assert classified(judged(hop, None)).reason


def test_an_own_instance_and_a_nat_gateway_are_known_without_a_context() -> None:
    told = next_hop("usw2-az2", "vpc-main", "nat_gateway")
    hop = leaving("eni-1", "81.2.0.1", "1", zone_id="usw2-az1", instance_id="i-1", **told)
    assert classified(judged(hop, None)).rule == "other_zone"


@pytest.mark.parametrize("missing", ["NetworkInterfaces", "VpcPeeringConnections"])
def test_coming_over_a_peering_is_not_concluded_without_interfaces_or_peerings(missing: str) -> None:
    assert classified(judged(entering("eni-private", "10.1.1.4"), changed(**{missing: []}))).reason


def test_coming_over_a_peering_is_not_concluded_if_a_transit_gateway_joins_both_as_well() -> None:
    both = peering("pcx-5", ("vpc-main", "10.0.0.0/16"), ("vpc-spoke", "10.2.0.0/16"))
    outcome = classified(judged(entering("eni-private", "10.2.1.4"), changed(VpcPeeringConnections=[both])))
    assert outcome.reason == "way_unknown"


def test_a_private_nat_gateway_stands_between_instances_and_other_vpcs() -> None:
    private = interface("eni-pnat", "subnet-1", "10.0.1.99", InterfaceType="natGateway")
    outcome = classified(judged(leaving("eni-private", "10.2.1.4", "1"), changed(NetworkInterfaces=[private])))
    assert outcome.reason == "next_hop_unknown"


def test_a_public_load_balancer_may_keep_the_address_of_the_client() -> None:
    kind = "network_load_balancer"
    balancer = interface("eni-nlb2", "subnet-1", "10.0.1.98", public="52.34.0.98", InterfaceType=kind)
    world = changed(NetworkInterfaces=[balancer])
    assert classified(judged(entering("eni-public", "81.2.0.1"), world)).reason
    assert classified(judged(entering("eni-nlb2", "81.2.0.1"), world)).rule == "internet"


def test_ipv6_of_ec2_that_comes_in_may_be_another_vpc() -> None:
    assert classified(judged(entering("eni-private", "2600:1f14:fff::1"))).reason
    assert classified(judged(leaving("eni-private", "2600:1f14:fff::1", "8"))).rule == "public_address_in_region"


def test_a_pod_is_of_the_interface_that_its_block_was_delegated_to() -> None:
    block = [{"Ipv4Prefix": "10.0.2.96/28"}]
    world = changed(NetworkInterfaces=[interface("eni-node", "subnet-2", "10.0.2.90", Ipv4Prefixes=block)])
    assert classified(judged(leaving("eni-private", "10.0.2.99", "1"), world)).rule == "other_zone"
    assert classified(judged(leaving("eni-private", "10.0.2.112", "1"), world)).reason == "kind_unknown"
    classes = AddressClasses([Knowledge(context_of(world, EFFECTIVE_S))], directed=True)
    pod, other_pod, other = classes.alike(["10.0.2.99", "10.0.2.100", "10.0.2.112"])
    assert pod == other_pod != other


_LISTS = [
    (number, name) for number, each in enumerate(WORLD["regions"]) for name in each if isinstance(each[name], list)
]


# A bring-your-own IP address is in no range of AWS, so only its account's inventory knows it. If a line and the ranges
# name different services, each service is accepted where it is the only one named.
_ALONE = ("198.51.100.7", "81.2.0.1", "52.34.9.9")
_HOPS = [case.hop for case in CASES if not (case.hop.destination in _ALONE and case.hop.path == "8")]
_TOLD = [
    *("instance_id", "vpc_id", "subnet_id", "zone_id", "region", "interface_type", "flow_direction", "path"),
    *("source_service", "destination_service", "next_hop_interface_id", "next_hop_zone_id", "next_hop_vpc_id"),
    "next_hop_interface_type",
]


@given(
    st.sampled_from(_HOPS),
    st.sets(st.sampled_from(_TOLD), max_size=3),
    st.sets(st.sampled_from(_LISTS), max_size=4),
    st.sets(st.sampled_from([0, 1, 2]), max_size=2),
    st.booleans(),
)
def test_knowledge_that_is_taken_away_never_makes_another_answer(
    hop: FlowHop, fields: set[str], lists: set[tuple[int, str]], places: set[int], without_ranges: bool
) -> None:
    world = copy.deepcopy(WORLD)
    for number, name in lists:
        world["regions"][number][name] = []
    world["regions"] = [each for number, each in enumerate(world["regions"]) if number not in places]
    if without_ranges:
        del world["ip_ranges"]
    less = classified(judged(hop._replace(**dict.fromkeys(fields, "")), world))
    assert less.reason or booked(less) == booked(classified(judged(hop)))


# Judging is fast, bounded, and always returns.
_TEXTS = st.sampled_from(
    [
        *("", "-", "10.0.1.4", "10.0.2.4", "10.0.2.5", "10.1.1.4", "10.2.1.4", "10.3.1.4", "81.2.0.1", "52.34.9.9"),
        *("2600:1f14:a:1::4", "2a0b::1", "eni-private", "eni-far", "vpc-main", "vpc-peer", "usw2-az1", "usw2-az2"),
        *("use1-az1", "usw2-lax1-az1", "nat_gateway", "transit_gateway", "ingress", "egress", "S3", "EC2"),
        *("1", "8", "4", "unknown", ACCOUNT, REGION, "subnet-1", "x" * 200),
    ]
)


@given(st.builds(FlowHop, **dict.fromkeys(FlowHop._fields, _TEXTS)), st.booleans())
def test_whatever_a_line_says_there_is_an_answer_that_the_service_meters(hop: FlowHop, known: bool) -> None:
    outcome = judged(hop, WORLD if known else None)
    if isinstance(outcome, Classified):
        account_id, service, _, direction, from_location, to_location, usage_type = outcome.traffic
        verdict = traffic_of((account_id, service, direction, from_location, to_location, usage_type or None))
        # A line's own region and zone are used as stated: the contract refuses invalid ones.
        zones = {hop.zone_id, hop.next_hop_zone_id} - {"", "usw2-az1", "usw2-az2", "use1-az1"}
        wrong = bool(zones) or hop.region not in ("", REGION)
        assert wrong or not verdict.problems
        assert bool(outcome.reason) is ("Unclassified-" in verdict.usage_type) or wrong


def test_memory_is_bounded_and_forgetting_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in ((hop_judge, "_REMEMBERED"), (hop_judge, "_VPCS"), (flows, "_OWNERS"), (flows, "_HOURS")):
        monkeypatch.setattr(module, name, 2)
    context = context_of(WORLD, EFFECTIVE_S)
    judge = FlowClassifier(NAME, Timeline(((EFFECTIVE_S, context),)))
    hops = [leaving(f"eni-{n}", f"81.2.0.{n}", "8", vpc_id=f"vpc-{n}") for n in range(9)]
    for hours in range(5):
        for hop in [*hops, *hops]:
            again = judge.outcome(hop, EFFECTIVE_S + hours * HOUR_S)
            assert again == judged(hop)


def test_lines_of_many_hours_in_any_order_ask_for_each_context_once() -> None:
    """Files concatenated by users can span a day. A context is expensive to build, and few contexts are cached."""
    hours = [EFFECTIVE_S + number * HOUR_S for number in range(8)]
    asked: list[int] = []

    def read(hour_s: int) -> Context:
        asked.append(hour_s)
        return context_of(WORLD, hour_s)

    stored = (StoredContext(effective_s=hour_s, sha256=str(hour_s), read=partial(read, hour_s)) for hour_s in hours)
    fields = "account-id interface-id vpc-id srcaddr dstaddr bytes start end flow-direction traffic-path region az-id\n"
    lines = [
        f"{ACCOUNT} eni-public vpc-main 10.0.1.9 81.2.0.{number} 1 {hour_s} {hour_s} egress 8 {REGION} usw2-az1\n"
        for number in range(20)
        for hour_s in hours
    ]
    nameless = FileName(kind="vpc-flow", identity="")
    found = measure(
        io.BytesIO("".join([fields, *lines]).encode()),
        VPC_FLOW,
        nameless,
        Timeline(tuple(zip(hours, stored, strict=True))),
    )
    assert found.balance.metered == len(lines)
    assert asked == hours


_FIRST_S = 1_795_617_000


class _Unfolded:
    """A classifier of flow logs that does not group addresses."""

    def __init__(self, name: FileName, timeline: Timeline) -> None:
        self.outcome = WithTransit(name, timeline).outcome


def _measured(kind: LogKind, name: FileName, file: LogFile, timeline: Timeline) -> tuple[Measured, int]:
    observations = 0

    def watch(block: Block[object]) -> None:
        nonlocal observations
        observations += len(block.observations)

    return measure(io.BytesIO(file.body), kind, name, timeline, watch=watch), observations


@pytest.mark.parametrize("known", [0, 1, 2], ids=["no context", "a context", "two contexts"])
@pytest.mark.parametrize("style", ["v2", "v4", "v5", "v11"])
def test_a_file_is_metered_the_same_with_and_without_folding(style: str, known: int) -> None:
    network = Network(NetworkPlan(first_s=_FIRST_S, lines=6_000, slots=3, variety=20, style=style))
    files = list(network.files())
    hours = (hour_of(_FIRST_S), hour_of(_FIRST_S) + HOUR_S)
    contexts = [(at_s, context_of(description(network.inventory, network.flow_logs, at_s), at_s)) for at_s in hours]
    timeline = Timeline(tuple(contexts[:known]))
    folded_count = plain_count = 0
    for file in files:
        kind, name = log_of(file.key)
        plain_kind = replace(kind, classifier=_Unfolded)
        folded, observations = _measured(kind, name, file, timeline)
        plain, all_observations = _measured(plain_kind, name, file, timeline)
        # The details of a refusal may name an address, but in grouped lines, several addresses have the same details.
        assert replace(folded, refused=()) == replace(plain, refused=())
        folded_count += observations
        plain_count += all_observations
    assert folded_count < plain_count


def test_the_judge_of_flow_logs_folds() -> None:
    found = log_of("012345678901_vpcflowlogs_us-west-2_fl-0a_20261124T1305Z_a.log.gz")
    assert isinstance(found[0].classifier(found[1], Timeline()), Folding)
    assert isinstance(FlowClassifier(found[1], Timeline()), Folding)
    assert not isinstance(_Unfolded(found[1], Timeline()), Folding)


def test_addresses_of_the_internet_are_alike_and_private_ones_are_others() -> None:
    classes = AddressClasses([knowledge_of(None)], directed=True)
    addresses = ["192.0.2.1", "203.0.113.9", "10.0.0.1", "10.9.9.9", "2001:db8::1", "no address"]
    found = classes.alike(addresses)
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert len(set(found)) == 4
    assert found[-1] == "no address"
    assert classes.alike(addresses[1:2]) == found[:1]
