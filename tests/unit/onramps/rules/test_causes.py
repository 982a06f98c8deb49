"""Names of causes and destinations, case by case; tests/networks/test_causes.py has whole networks."""

from __future__ import annotations

import copy
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from metering.onramps.context.document import address_of
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import Timeline
from metering.onramps.reading import FlowHop, Shown
from metering.onramps.reasons import Classified
from metering.onramps.rules.causes import Causes, networks_of
from metering.onramps.rules.hop_judge import FlowClassifier
from metering.units import HOUR_S
from tests.support.describing import ACCOUNT, EFFECTIVE_S, interface
from tests.unit.onramps.rules.world import NAME, WORLD, entering, leaving, line, next_hop

if TYPE_CHECKING:
    from metering.onramps.rules.causes import Cause

NEAR = {"Attachment": {"InstanceId": "i-near"}}
ASG = "aws:autoscaling:groupName"


def world(*more: dict[str, Any], gone: tuple[str, ...] = ()) -> dict[str, Any]:
    """The network of the rules, with an instance in a group, and more interfaces."""
    made = copy.deepcopy(WORLD)
    main = made["regions"][0]
    kept = [each for each in main["NetworkInterfaces"] if each["NetworkInterfaceId"] not in gone]
    main["NetworkInterfaces"] = [each | NEAR if each["NetworkInterfaceId"] == "eni-near" else each for each in kept]
    main["NetworkInterfaces"] += more
    main["Tags"] = [{"ResourceId": "i-near", "Key": ASG, "Value": "web"}]
    return made


def causes(*worlds: dict[str, Any], later: bool = True) -> Causes:
    """Causes by contexts of one hour after the other."""
    versions = ((EFFECTIVE_S + n * HOUR_S, context_of(each, EFFECTIVE_S + n * HOUR_S)) for n, each in enumerate(worlds))
    return of(Timeline(tuple(versions)), later=later)


def of(timeline: Timeline, *, later: bool = True) -> Causes:
    return Causes(FlowClassifier(NAME, timeline), NAME, timeline, later=later)


def named(hop: FlowHop, found: Causes, *shown: tuple[str, str]) -> Cause:
    found.learn(Shown(EFFECTIVE_S, *each) for each in shown)
    outcome = found.flows.outcome(hop, EFFECTIVE_S)
    assert isinstance(outcome, Classified), outcome
    usage_type = outcome.traffic.usage_type or "DataTransfer-Out-Bytes"
    return found.resolved(found.number(hop, EFFECTIVE_S, outcome, usage_type), EFFECTIVE_S)


def at_nat(workload: str, far: str, service: str = "") -> FlowHop:
    """A line of the private side of a NAT gateway."""
    return line(
        "eni-nat", flow_direction="ingress", source=workload, destination="10.0.2.7", packet_source=workload,
        packet_destination=far, destination_service=service,
    )  # fmt: skip


def test_at_a_nat_gateway_the_inventory_names_the_workload_and_the_packet_the_destination() -> None:
    found = named(at_nat("10.0.1.20", "52.218.0.9", "S3"), causes(world()))
    assert found == ("i-near", "S3.us-west-2", "nat_gateway", "inventory", "", "")
    assert named(at_nat("10.0.1.20", "81.2.3.4"), causes(world())).destination == "internet"
    assert named(at_nat("10.0.1.20", "81.2.3.4", "S3"), causes(world())).destination == ""


def test_the_public_side_of_a_nat_gateway_names_no_workload() -> None:
    public = line("eni-nat", flow_direction="ingress", source="81.2.3.4", destination="10.0.2.7",
                  packet_source="81.2.3.4", packet_destination="10.0.2.7")  # fmt: skip
    assert named(public, causes(world())) == ("", "internet", "nat_gateway", "", "public_side", "")


def test_lines_of_an_interface_go_before_the_inventory_and_if_they_disagree_nobody_is_named() -> None:
    hop = at_nat("10.0.1.20", "81.2.3.4")
    assert named(hop, causes(world()), ("eni-near", "10.0.1.20"))[3:5] == ("seen", "")
    assert named(hop, causes(world()), ("eni-new", "10.0.1.20"))[3:5] == ("", "address_of_two")
    gone = world(gone=("eni-near",))
    told = causes(gone)
    named(leaving("eni-new", "10.0.1.4", instance_id="i-new"), told)
    assert named(hop, told, ("eni-new", "10.0.1.20")) == ("i-new", "internet", "nat_gateway", "seen", "", "")
    assert named(hop, causes(gone)).reason == "address_unknown"


def test_an_address_that_changed_hands_between_captures_names_neither_holder() -> None:
    before, after = world(), world(interface("eni-second", "subnet-1", "10.0.1.20"), gone=("eni-near",))
    hop = at_nat("10.0.1.20", "81.2.3.4")
    # The capture for an hour is made ten minutes before it, so a change may be of the hour or of the one before.
    assert named(hop, causes(before, after)).reason == "address_reused"
    assert named(hop, causes(before, before, after)).reason == "address_reused"
    assert named(hop, causes(before, before, before, after)).cause == "i-near"
    # A plan does not pin later contexts, so a real pass leaves it to the keeper.
    assert named(hop, causes(before, after, later=False)).cause == "i-near"


def test_lines_without_a_direction_show_the_address_that_all_of_them_have() -> None:
    hop = at_nat("10.0.1.20", "81.2.3.4")
    found = causes(world())
    counts = {"": 3, "10.0.1.20": 3, "10.0.1.4": 2, "10.0.1.9": 1}
    found.learn(Shown(EFFECTIVE_S, "eni-new", address, lines) for address, lines in counts.items())
    assert named(hop, found).reason == "address_of_two"


def test_an_endpoint_names_its_client_and_its_service() -> None:
    made = world()
    endpoint = {"VpcEndpointId": "vpce-1", "ServiceName": "com.amazonaws.us-west-2.sqs"}
    made["regions"][0]["VpcEndpoints"] = [endpoint | {"NetworkInterfaceIds": ["eni-endpoint"]}]
    hop = line("eni-endpoint", flow_direction="ingress", source="10.0.1.20", destination="10.0.2.10")
    assert named(hop, causes(made))[:3] == ("i-near", "endpoint:com.amazonaws.us-west-2.sqs", "vpc_endpoint")


def test_a_workload_is_the_cause_of_its_own_hop_and_the_destination_is_a_workload_or_a_subnet() -> None:
    found = causes(world())
    assert named(leaving("eni-far", "10.0.1.20", **next_hop("usw2-az1", "vpc-main")), found) == (
        "eni-far", "asg:web", "vpc", "told", "", "",
    )  # fmt: skip
    assert named(leaving("eni-private", "10.0.2.4"), found).destination == "subnet-2"
    # A public address beyond an unknown next hop may be that of a balancer's client.
    assert named(leaving("eni-private", "81.2.3.4"), found).destination == ""
    by_nat = next_hop("usw2-az2", "vpc-main", "nat_gateway")
    assert named(leaving("eni-private", "81.2.3.4", **by_nat), found)[1:3] == ("internet", "nat_gateway")
    balanced = next_hop("usw2-az2", "vpc-main", "network_load_balancer", "eni-nlb")
    assert named(entering("eni-private", "81.2.3.4", **balanced), found).destination == "eni-nlb"


def test_an_address_that_may_have_changed_hands_makes_its_destination_the_subnet() -> None:
    found = causes(world())
    hop = leaving("eni-far", "10.0.1.20", **next_hop("usw2-az1", "vpc-main"))
    assert named(hop, found, ("eni-new", "10.0.1.20")).destination == "subnet-1"


def test_without_a_context_nothing_is_named_at_a_gateway() -> None:
    found = of(Timeline())
    hop = at_nat("10.0.1.20", "81.2.3.4")._replace(interface_type="nat_gateway")
    assert named(hop, found, ("eni-near", "10.0.1.20")) == ("", "", "nat_gateway", "", "no_context", "")
    assert named(leaving("eni-near", "10.0.2.4", instance_id="i-near"), found)[:2] == ("i-near", "")


NAMES = {
    "64.252.64.9": "cloudfront", "44.242.0.9": "API_GATEWAY.us-west-2", "52.40.16.9": "EC2.us-east-1",
    "13.248.0.9": "GLOBALACCELERATOR", "52.34.0.5": "EC2.us-west-2", "81.2.3.4": "internet", "192.168.7.7": "private",
    # A peered VPC that is described, and one that is known by the peering only.
    "10.1.2.9": "subnet-p2", "10.8.0.1": "vpc-stranger",
    # A VPC behind a transit gateway: its attachments are not described, so another VPC may have the address.
    "10.2.1.4": "",
}  # fmt: skip


# Networks that people named, one within another, over addresses of services and of VPCs.
PEOPLE = [
    {"name": "office", "cidrs": ["192.168.7.0/24"]},
    {"name": "datadog", "cidrs": ["81.2.3.0/24", "2a0b:4140::/48"]},
    {"name": "datadog-eu", "cidrs": ["81.2.3.4/32"]},
    {"name": "mirror", "cidrs": ["52.218.0.0/24", "64.252.64.0/24"]},
    {"name": "inside", "cidrs": ["10.0.0.0/8"]},
]
NAMED = NAMES | {
    "192.168.7.7": "office", "192.168.8.7": "private", "81.2.3.4": "datadog-eu", "81.2.3.5": "datadog",
    "2a0b:4140::1": "datadog", "81.2.4.4": "internet", "52.218.0.9": "mirror", "52.218.1.9": "S3.us-west-2",
    "64.252.64.9": "mirror", "10.9.0.1": "inside",
    # A known VPC that nothing joins.
    "10.5.1.4": "",
}  # fmt: skip


@pytest.mark.parametrize("address", NAMED)
def test_names_of_people_go_before_those_of_aws_and_after_those_of_networks(address: str) -> None:
    found = causes(world() | {"networks": PEOPLE})
    assert named(at_nat("10.0.1.4", address), found).destination == NAMED[address]


def test_names_of_people_are_of_addresses_whatever_service_a_line_says_and_never_of_own_workloads() -> None:
    found = causes(world() | {"networks": PEOPLE})
    assert named(at_nat("10.0.1.4", "81.2.3.5", "S3"), found).destination == "datadog"
    inside = leaving("eni-far", "10.0.1.20", **next_hop("usw2-az1", "vpc-main"))
    assert named(inside, found)[:2] == ("eni-far", "asg:web")


@pytest.mark.parametrize("order", list(permutations(("81.2.3.4", "81.2.3.5", "81.2.3.9", "81.2.4.4"))))
def test_addresses_with_several_names_are_never_added_up(order: tuple[str, ...]) -> None:
    """All are of the internet: only their names tell them apart. The second hour has other names."""
    later = [PEOPLE[0], {"name": "eu", "cidrs": ["81.2.3.9/32"]}]
    found = causes(world() | {"networks": PEOPLE}, world() | {"networks": later})
    hours = [EFFECTIVE_S, EFFECTIVE_S + HOUR_S]
    for group in (found.alike, found.apart):
        assert len(set(group(order, hours[:1], directed=True))) == 3
        assert len(set(group(order, hours[1:], directed=True))) == 2
        for chosen in (hours[:1], hours[1:], hours):
            for address, stands in zip(order, group(order, chosen, directed=True), strict=True):
                for hour_s in chosen:
                    names = [
                        networks_of(found.timeline.at(hour_s)).named.at(address_of(each) or pytest.fail(each))
                        for each in (address, stands)
                    ]
                    assert names[0] == names[1]


def test_names_of_people_hold_in_the_hours_of_their_context() -> None:
    found = causes(world(), world() | {"networks": PEOPLE})
    hop = at_nat("10.0.1.4", "81.2.3.4")
    names = []
    for hour_s in (EFFECTIVE_S, EFFECTIVE_S + HOUR_S):
        outcome = found.flows.outcome(hop, hour_s)
        assert isinstance(outcome, Classified)
        names.append(found.resolved(found.number(hop, hour_s, outcome, "NatGateway-Bytes"), hour_s).destination)
    assert names == ["internet", "datadog-eu"]


@pytest.mark.parametrize("address", NAMES)
def test_destinations_have_few_names(address: str) -> None:
    assert named(at_nat("10.0.1.20", address), causes(world())).destination == NAMES[address]


def test_an_address_behind_a_transit_gateway_is_named_if_the_owner_of_the_gateway_described_all_attachments() -> None:
    made = world()
    item = {"TransitGatewayId": "tgw-1", "ResourceType": "vpc", "TransitGatewayOwnerId": ACCOUNT}
    made["regions"][0]["TransitGatewayAttachments"] = [
        item | {"TransitGatewayAttachmentId": f"tgw-attach-{name}", "ResourceId": f"vpc-{name}"}
        for name in ("main", "spoke")
    ]
    assert named(at_nat("10.0.1.20", "10.2.1.4"), causes(made)).destination == "subnet-s"
    made["regions"][0]["TransitGatewayAttachments"].append(
        item | {"TransitGatewayAttachmentId": "tgw-attach-x", "ResourceId": "vpc-that-nobody-described"}
    )
    assert named(at_nat("10.0.1.20", "10.2.1.4"), causes(made)).destination == ""
