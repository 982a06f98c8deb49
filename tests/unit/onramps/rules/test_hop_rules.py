"""The rules of a hop: each rule has a test case, and the rules file is valid."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from metering.onramps.context import interfaces
from metering.onramps.reasons import Classified
from metering.onramps.rules.hop_judge import CONDITIONS, DIRECTION_UNKNOWN, hop_rules
from metering.units import HOUR_S
from metering.usage.usage_types import Location, classify, parse_location
from tests.support.describing import EFFECTIVE_S, interface, ranges
from tests.support.flow_logs import VPC_FLOW
from tests.unit.onramps.rules.world import WORLD, entering, judged, leaving, line, next_hop

if TYPE_CHECKING:
    from metering.onramps.reading import FlowHop

FREE_OUT = "USW2-C3DataTransfer-Out-Bytes"
FREE_IN = "USW2-C3DataTransfer-In-Bytes"
REGIONAL = "USW2-DataTransfer-Regional-Bytes"
UNKNOWN_INSIDE = "USW2-Unclassified-Regional-Bytes"
UNKNOWN_OUT = "USW2-Unclassified-Out-Bytes"
UNKNOWN_IN = "USW2-Unclassified-In-Bytes"
ZONE_1 = "us-west-2/usw2-az1"
ZONE_2 = "us-west-2/usw2-az2"
APRIL_2025_S = 1_743_465_600
MARCH_2025_S = APRIL_2025_S - HOUR_S
NO_ZONE, NO_PLACE = next_hop(kind="nat_gateway"), next_hop(kind="interface")
NAT = next_hop("usw2-az2", "vpc-main", "nat_gateway", "eni-nat")
AMAZON = {"destination_service": "AMAZON"}
UNDIRECTED = {"flow_direction": "", "source": "10.9.0.1", "destination": "10.9.0.2"}
TO_TGW = next_hop("usw2-az2", "vpc-main", "transit_gateway", "eni-tgw")
STRANGE = next_hop("usw2-az2", "vpc-peer")


class Case(NamedTuple):
    """A log line, the rule that decides the line, the other side, and the usage type that is booked."""

    rule: str
    hop: FlowHop
    peer: str
    usage_type: str
    hour_s: int = EFFECTIVE_S


CASES = (
    Case("local_zone_inside", leaving("eni-private", "10.0.9.4", "1"), "us-west-2", UNKNOWN_INSIDE),
    Case("local_zone", leaving("eni-public", "81.2.0.1", "8", sublocation_type="wavelength"), "unknown", UNKNOWN_OUT),
    Case("same_zone", leaving("eni-private", "10.0.1.20", "1"), ZONE_1, FREE_OUT),
    Case("same_zone", entering("eni-private", "10.0.1.20"), ZONE_1, FREE_IN),
    Case("same_zone_next_hop", leaving("eni-private", "81.2.0.1", "1", **next_hop("usw2-az1")), ZONE_1, FREE_OUT),
    Case("attachment", leaving("eni-private", "10.2.1.4", "1", **TO_TGW), ZONE_2, FREE_OUT),
    Case("attachment", leaving("eni-private", "10.0.2.10", "1"), ZONE_2, FREE_OUT),
    Case("attachment", entering("eni-tgw", "10.0.1.4"), ZONE_1, FREE_IN),
    Case("load_balancer", leaving("eni-private", "10.0.2.5", "1"), ZONE_2, FREE_OUT),
    Case("load_balancer", entering("eni-alb", "10.0.1.4"), ZONE_1, FREE_IN),
    Case("other_zone", leaving("eni-private", "10.0.2.4", "1"), ZONE_2, REGIONAL),
    Case("other_zone", leaving("eni-private", "10.0.2.6", "1"), ZONE_2, REGIONAL),
    Case("other_zone", leaving("eni-private", "81.2.0.1", "1", **NAT), ZONE_2, REGIONAL),
    Case("other_zone", entering("eni-private", "2600:1f14:a:2::4"), ZONE_2, REGIONAL),
    Case("other_zone_of_unknown_kind", leaving("eni-private", "10.0.2.99", "1"), ZONE_2, UNKNOWN_INSIDE),
    Case("other_zone_of_unknown_kind", leaving("eni-private", "10.0.2.11", "1"), ZONE_2, UNKNOWN_INSIDE),
    Case("vpc_without_zone", leaving("eni-private", "10.0.77.4", "1"), "us-west-2", UNKNOWN_INSIDE),
    Case("peered_elsewhere", leaving("eni-private", "10.3.1.4", "5"), "us-east-1", "USW2-USE1-AWS-Out-Bytes"),
    Case("peered_elsewhere", entering("eni-private", "10.3.1.4"), "us-east-1", "USW2-USE1-AWS-In-Bytes"),
    Case("peered_ipv6_same_zone", leaving("eni-private", "2600:1f14:b:1::4", "4"), ZONE_1, UNKNOWN_INSIDE),
    Case("peered_same_zone", leaving("eni-private", "10.1.1.4", "4"), ZONE_1, FREE_OUT),
    Case("peered_same_zone", entering("eni-private", "10.1.1.4"), ZONE_1, FREE_IN),
    Case("peered_other_zone", leaving("eni-private", "10.1.2.4", "4"), ZONE_2, "USW2-VpcPeering-Out-Bytes"),
    Case("peered_other_zone", entering("eni-private", "10.1.2.4", **STRANGE), ZONE_2, "USW2-VpcPeering-In-Bytes"),
    Case("peered_other_zone_before_2025_04", leaving("eni-private", "10.1.2.4", "4"), ZONE_2, REGIONAL, MARCH_2025_S),
    Case("peered_without_zone", leaving("eni-private", "10.8.0.4", "4"), "us-west-2", UNKNOWN_INSIDE),
    Case("peered_without_region", leaving("eni-private", "10.99.0.4", "5"), "unknown", UNKNOWN_OUT),
    Case("transit_gateway", leaving("eni-private", "10.2.1.4", "1"), "us-west-2", FREE_OUT),
    Case("next_hop_without_zone", leaving("eni-private", "81.2.0.1", "1", **NO_ZONE), "us-west-2", UNKNOWN_INSIDE),
    Case("next_hop_unknown", leaving("eni-private", "81.2.0.1", "1"), "us-west-2", UNKNOWN_INSIDE),
    Case("next_hop_without_place", entering("eni-private", "81.2.0.1", **NO_PLACE), "unknown", UNKNOWN_IN),
    Case("on_premises", leaving("eni-private", "192.168.4.4", "3"), "unknown", UNKNOWN_OUT),
    Case("local_gateway", leaving("eni-private", "192.168.4.4", "6"), "unknown", UNKNOWN_OUT),
    Case("gateway_endpoint", leaving("eni-private", "52.218.0.4", "7"), "us-west-2", FREE_OUT),
    Case("contradiction", leaving("eni-public", "52.34.9.9", "8", destination_service="S3"), "unknown", UNKNOWN_OUT),
    Case("cloudfront", leaving("eni-public", "64.252.64.4", "8"), "cloudfront", "USW2-CloudFront-Out-Bytes"),
    Case("cloudfront", entering("eni-alb", "64.252.64.4"), "cloudfront", "USW2-CloudFront-In-Bytes"),
    Case("other_region", leaving("eni-public", "52.40.16.4", "8"), "us-east-1", "USW2-USE1-AWS-Out-Bytes"),
    # A bring-your-own IP address is in no range of AWS.
    Case("other_region", leaving("eni-public", "198.51.100.7", "8"), "us-east-1", "USW2-USE1-AWS-Out-Bytes"),
    Case("public_address_in_region", leaving("eni-public", "52.34.9.9", "8"), "us-west-2", REGIONAL),
    Case("public_address_in_region", entering("eni-public", "52.34.9.9"), "us-west-2", REGIONAL),
    # The prefix belongs to S3 and to EC2.
    Case("service_in_region", leaving("eni-public", "52.218.0.4", "8"), "us-west-2", FREE_OUT),
    Case("service_in_region", leaving("eni-public", "44.242.0.4", "2"), "us-west-2", FREE_OUT),
    Case("global_service", leaving("eni-public", "13.248.0.4", "8"), "unknown", UNKNOWN_OUT),
    Case("internet", leaving("eni-nat", "81.2.0.1", "8"), "internet", "USW2-DataTransfer-Out-Bytes"),
    Case("internet", entering("eni-nat", "81.2.0.1"), "internet", "USW2-DataTransfer-In-Bytes"),
    Case("internet", entering("eni-private", "2a0b:4140::1"), "internet", "USW2-DataTransfer-In-Bytes"),
    Case("ranges_unknown", leaving("eni-public", "81.2.0.1", "8", **AMAZON), "unknown", UNKNOWN_OUT),
    # Peering or a transit gateway: the line does not show which of them connects the two VPCs.
    Case("other_vpc_in_region", entering("eni-private", "10.2.1.4"), "us-west-2", UNKNOWN_INSIDE),
    Case("other_vpc", entering("eni-c", "10.3.1.4", vpc_id="vpc-carrier"), "unknown", UNKNOWN_IN),
    Case("unknown_network", entering("eni-private", "192.168.4.4"), "unknown", UNKNOWN_IN),
    Case("handed_on", entering("eni-private", "81.2.0.1"), "us-west-2", UNKNOWN_INSIDE),
    # S3 through a gateway endpoint, or through a NAT gateway in any zone.
    Case("handed_on", entering("eni-private", "52.218.0.4"), "us-west-2", UNKNOWN_INSIDE),
    Case("perhaps_handed_on", entering("eni-i", "81.2.0.1", vpc_id="vpc-inspected"), "unknown", UNKNOWN_IN),
    Case("public_peer", entering("eni-new", "81.2.0.1"), "unknown", UNKNOWN_IN),
    Case("nothing_known", line("eni-private"), "unknown", UNKNOWN_OUT),
    Case(DIRECTION_UNKNOWN, line("eni-private", **UNDIRECTED), "unknown", UNKNOWN_INSIDE),
)


def booked(outcome: Classified) -> str:
    """The usage type that the service books for an outcome."""
    if outcome.traffic.usage_type:
        return outcome.traffic.usage_type
    sides = [parse_location(text) for text in (outcome.traffic.from_location, outcome.traffic.to_location)]
    one, other = sides
    assert isinstance(one, Location)
    assert isinstance(other, Location)
    return classify(outcome.traffic.direction, one, other).usage_type


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.rule}-{case.peer}")
def test_a_line_is_decided_by_its_rule(case: Case) -> None:
    outcome = judged(case.hop, hour_s=case.hour_s)
    assert isinstance(outcome, Classified)
    traffic = outcome.traffic
    near, far = (traffic.from_location, traffic.to_location)[:: 1 if traffic.direction == "out" else -1]
    assert (outcome.rule, far, booked(outcome)) == (case.rule, case.peer, case.usage_type)
    assert near.startswith("us-west-2")
    assert bool(outcome.reason) is ("Unclassified-" in case.usage_type)


@pytest.mark.parametrize(("hour_s", "usage_type", "service"), [
    (APRIL_2025_S, "USW2-VpcPeering-Out-Bytes", "AmazonVPC"), (MARCH_2025_S, REGIONAL, "AmazonEC2"),
])  # fmt: skip
def test_peering_between_zones_has_usage_types_of_its_own_from_april_2025_on(
    hour_s: int, usage_type: str, service: str
) -> None:
    outcome = judged(leaving("eni-private", "10.1.2.4", "4"), hour_s=hour_s)
    assert isinstance(outcome, Classified)
    assert (booked(outcome), outcome.traffic.service) == (usage_type, service)


def test_ipv6_over_a_peering_in_one_zone_is_unclassified_because_aws_contradicts_itself() -> None:
    outcome = judged(leaving("eni-private", "2600:1f14:b:1::4", "4"))
    assert isinstance(outcome, Classified)
    assert (booked(outcome), outcome.reason) == (UNKNOWN_INSIDE, "ipv6_peering_contested")
    [source] = [rule.source for rule in hop_rules().rules if rule.name == outcome.rule]
    assert "EC2's price page" in source
    assert "Demystifying Amazon VPC peering charges" in source


@pytest.mark.parametrize(("own", "peer", "expected"), [
    ("us-west-2", "us-gov-west-1", "USW2-UGW1-AWS-Out-Bytes"),
    ("us-gov-west-1", "us-east-1", "UGW1-USE1-AWS-Out-Bytes"),
    ("us-west-2", "cn-north-1", "USW2-DataTransfer-Out-Bytes"),
    ("cn-north-1", "cn-northwest-1", "CNN1-CNW1-AWS-Out-Bytes"),
    ("cn-northwest-1", "us-gov-west-1", "CNW1-DataTransfer-Out-Bytes"),
])  # fmt: skip
def test_a_peer_of_another_partition_is_the_internet_but_for_govcloud_and_the_commercial_one(
    own: str, peer: str, expected: str
) -> None:
    world = WORLD | {"ip_ranges": ranges(("52.222.0.0/17", peer, "AMAZON"), ("52.222.0.0/17", peer, "EC2"))}
    outcome = judged(leaving("eni-new", "52.222.0.9", "8", region=own), world)
    assert isinstance(outcome, Classified)
    assert (outcome.rule, booked(outcome)) == ("other_region", expected)


_PEERS = {"zone", "zone_or_region", "region", "peer_region", "internet", "cloudfront", "unknown"}


def test_the_rule_file_is_sound() -> None:
    rules = hop_rules().rules
    assert len({rule.name for rule in rules}) == len(rules)
    assert {case.rule for case in CASES} == {rule.name for rule in rules} | {DIRECTION_UNKNOWN}, "each has a case"
    for rule in rules:
        assert set(rule.when) <= set(CONDITIONS), rule.name
        assert rule.peer in _PEERS, rule.name
        assert rule.source, rule.name
        unclassified = rule.peer == "unknown" or rule.usage.startswith("Unclassified-")
        assert bool(rule.reason) is unclassified, rule.name
        assert rule.usage == "" or rule.usage.format(way="Out").endswith("-Bytes"), rule.name


def test_the_last_rule_always_holds_no_other_does_and_every_condition_is_used() -> None:
    assert [rule.name for rule in hop_rules().rules if not rule.when] == ["nothing_known"]
    assert not hop_rules().rules[-1].when
    assert {name for rule in hop_rules().rules for name in rule.when} == set(CONDITIONS)


def test_the_kinds_of_the_rule_file_are_kinds_of_the_inventory() -> None:
    kinds = {value for name, value in vars(interfaces).items() if name.isupper() and isinstance(value, str)}
    rules = hop_rules()
    free = rules.free_across_zones.any | rules.free_across_zones.ipv4
    named = free | rules.charged_across_zones | rules.elb_kinds
    assert named == kinds - {interfaces.OTHER, interfaces.INSPECTION_ENDPOINT, interfaces.REGIONAL_NAT_GATEWAY}
    processing = [rule.kind for rule in rules.processing]
    assert len(set(processing)) == len(processing)
    assert kinds.issuperset(processing)
    assert not free & rules.charged_across_zones


def test_plans_name_the_version_of_the_rules() -> None:
    assert VPC_FLOW.rules == hop_rules().version


# Processing by gateways and endpoints, in addition to the hop

OUTSIDE, WORKLOAD, GATEWAY = "81.2.0.1", "10.0.1.4", "10.0.2.7"
NAT_BYTES = "USW2-NatGateway-Bytes"
FIREWALLED = {"vpc_id": "vpc-inspected"}


def at_nat(source: str, destination: str, packet: tuple[str, str] = ("", ""), **fields: str) -> FlowHop:
    ends = {"packet_source": packet[0], "packet_destination": packet[1]}
    return line("eni-nat", source=source, destination=destination, **(ends | {"flow_direction": ""} | fields))


@pytest.mark.parametrize(("hop", "usage_type"), [
    (at_nat(WORKLOAD, GATEWAY, (WORKLOAD, OUTSIDE)), NAT_BYTES),
    (at_nat(GATEWAY, WORKLOAD, (OUTSIDE, WORKLOAD)), NAT_BYTES),
    (at_nat(GATEWAY, OUTSIDE, (GATEWAY, OUTSIDE)), ""),
    (at_nat(OUTSIDE, GATEWAY, (OUTSIDE, GATEWAY)), ""),
    # A second address of the gateway, of which a line names only the first.
    (at_nat(GATEWAY, OUTSIDE, ("10.0.2.77", OUTSIDE)), ""),
    (at_nat("10.2.1.4", GATEWAY, ("10.2.1.4", OUTSIDE)), NAT_BYTES),
    (at_nat(WORKLOAD, GATEWAY, (WORKLOAD, "172.20.0.1")), NAT_BYTES),
    (at_nat(WORKLOAD, GATEWAY), NAT_BYTES),
    (at_nat(GATEWAY, OUTSIDE), ""),
    # Without the packet's addresses, this may be either side.
    (at_nat("10.2.1.4", GATEWAY), ""),
    (at_nat(WORKLOAD, GATEWAY, (WORKLOAD, OUTSIDE), sublocation_type="wavelength"), ""),
    (entering("eni-endpoint", WORKLOAD, destination="10.0.2.10"), "USW2-VpcEndpoint-Bytes"),
    (leaving("eni-endpoint", WORKLOAD, "1"), "USW2-VpcEndpoint-Bytes"),
    (entering("eni-fw", "10.5.1.4", destination="10.5.1.5", **FIREWALLED), "USW2-VpcEndpoint-GWLBE-Bytes"),
    (entering("eni-fw", "10.5.1.4", interface_type="vpc_endpoint", **FIREWALLED), "USW2-VpcEndpoint-GWLBE-Bytes"),
    (entering("eni-new", WORKLOAD, interface_type="vpc_endpoint"), ""),
    (entering("eni-alb", WORKLOAD), ""),
    (leaving("eni-private", OUTSIDE, "1", **NAT), ""),
    (line("", resource_id="nat-2", interface_type="regional_nat_gateway", source=WORKLOAD, destination="10.0.9.9",
          packet_source=WORKLOAD, packet_destination=OUTSIDE), "USW2-RegionalNatGateway-Bytes"),
])  # fmt: skip
def test_a_gateway_processes_its_private_side_and_an_endpoint_both_ways(hop: FlowHop, usage_type: str) -> None:
    outcome = judged(hop)
    assert isinstance(outcome, Classified)
    assert usage_type == (outcome.processed.traffic.usage_type if outcome.processed else "")


def test_processing_has_the_account_and_the_resource_of_the_gateway_and_no_zone() -> None:
    outcome = judged(at_nat(WORKLOAD, GATEWAY, (WORKLOAD, OUTSIDE)))
    assert isinstance(outcome, Classified)
    place = ("us-west-2", "us-west-2")
    assert outcome.processed == (
        (outcome.traffic.account_id, "AmazonEC2", "eni-nat", "out", *place, NAT_BYTES), "nat_gateway_processing"
    )  # fmt: skip


def test_of_a_gateway_that_no_inventory_has_only_a_public_far_end_tells_the_side() -> None:
    told = {"interface_type": "nat_gateway", "vpc_id": ""}
    for far_end, processed in ((OUTSIDE, True), ("172.20.0.1", False)):
        outcome = judged(at_nat(WORKLOAD, GATEWAY, (WORKLOAD, far_end), **told), None)
        assert isinstance(outcome, Classified)
        assert bool(outcome.processed) is processed


@pytest.mark.parametrize("packet", [("", ""), ("10.0.2.12", "10.8.0.4")])
def test_of_a_private_nat_gateway_only_the_packets_addresses_tell_the_side(packet: tuple[str, str]) -> None:
    first = {**WORLD["regions"][0]}
    first["NetworkInterfaces"] = [
        *first["NetworkInterfaces"], interface("eni-private-nat", "subnet-2", "10.0.2.12", InterfaceType="natGateway")
    ]  # fmt: skip
    world = {**WORLD, "regions": [first, *WORLD["regions"][1:]]}
    ends = {"source": WORKLOAD, "destination": "10.0.2.12", "packet_source": packet[0] and WORKLOAD}
    outcome = judged(line("eni-private-nat", **ends, packet_destination=packet[1], flow_direction="ingress"), world)
    assert isinstance(outcome, Classified)
    assert bool(outcome.processed) is bool(packet[0])
