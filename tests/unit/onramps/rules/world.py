"""A network in which a case exists for every rule of a hop."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import Timeline
from metering.onramps.reading import FileName, FlowHop
from metering.onramps.rules.hop_judge import FlowClassifier
from tests.support.describing import (
    ACCOUNT,
    EFFECTIVE_S,
    PARTNER,
    REGION,
    described,
    flow_log,
    interface,
    peering,
    place,
    ranges,
    subnet,
    vpc,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.onramps.reasons import Outcome

NAME = FileName(kind="vpc-flow", identity="flow:a", account_id=ACCOUNT, region=REGION, source="fl-main")

_ELB = {"RequesterId": "amazon-elb"}
MAIN = place(
    Vpcs=[
        vpc("vpc-main", "10.0.0.0/16", ipv6="2600:1f14:a::/56"),
        vpc("vpc-spoke", "10.2.0.0/16"),
        vpc("vpc-carrier", "100.64.0.0/16"),
        vpc("vpc-inspected", "10.5.0.0/16"),
    ],
    Subnets=[
        subnet("subnet-1", "vpc-main", "10.0.1.0/24", "usw2-az1", ipv6="2600:1f14:a:1::/64"),
        subnet("subnet-2", "vpc-main", "10.0.2.0/24", "usw2-az2", ipv6="2600:1f14:a:2::/64"),
        subnet("subnet-l", "vpc-main", "10.0.9.0/24", "usw2-lax1-az1"),
        subnet("subnet-s", "vpc-spoke", "10.2.1.0/24", "usw2-az1"),
        subnet("subnet-i", "vpc-inspected", "10.5.1.0/24", "usw2-az1"),
        subnet("subnet-c", "vpc-carrier", "100.64.1.0/24", "usw2-az1"),
    ],
    NetworkInterfaces=[
        interface("eni-private", "subnet-1", "10.0.1.4", "10.0.1.5", ipv6="2600:1f14:a:1::4"),
        interface("eni-public", "subnet-1", "10.0.1.9", public="52.34.0.9"),
        interface("eni-near", "subnet-1", "10.0.1.20"),
        interface("eni-far", "subnet-2", "10.0.2.4", ipv6="2600:1f14:a:2::4"),
        interface("eni-alb", "subnet-2", "10.0.2.5", public="52.34.0.5", Description="ELB app/web/1", **_ELB),
        interface("eni-nlb", "subnet-2", "10.0.2.6", InterfaceType="network_load_balancer", **_ELB),
        interface("eni-nat", "subnet-2", "10.0.2.7", public="52.34.0.7", InterfaceType="natGateway"),
        interface("eni-tgw", "subnet-2", "10.0.2.8", InterfaceType="transit_gateway"),
        interface("eni-endpoint", "subnet-2", "10.0.2.10", InterfaceType="vpc_endpoint"),
        interface("eni-odd", "subnet-2", "10.0.2.11", InterfaceType="of the future"),
        interface("eni-tgw-s", "subnet-s", "10.2.1.8", InterfaceType="transit_gateway"),
        interface("eni-c", "subnet-c", "100.64.1.4"),
        interface("eni-i", "subnet-i", "10.5.1.4", public="52.34.0.54"),
        interface("eni-fw", "subnet-i", "10.5.1.5", InterfaceType="gateway_load_balancer_endpoint"),
    ],
    FlowLogs=[flow_log("fl-main", "vpc-main"), flow_log("fl-eni", "eni-private"), flow_log("fl-nat", "nat-1")],
    VpcPeeringConnections=[
        peering("pcx-1", ("vpc-main", "10.0.0.0/16"), ("vpc-peer", "10.1.0.0/16")),
        peering("pcx-2", ("vpc-main", "10.0.0.0/16"), ("vpc-east", "10.3.0.0/16"), "us-east-1"),
        peering("pcx-3", ("vpc-main", "10.0.0.0/16"), ("vpc-stranger", "10.8.0.0/16")),
        peering("pcx-4", ("vpc-carrier", "100.64.0.0/16"), ("vpc-spoke", "10.2.0.0/16")),
    ],
    TransitGatewayVpcAttachments=[{"VpcId": "vpc-main"}, {"VpcId": "vpc-spoke"}],
)
_PEER = place(
    account_id=PARTNER,
    Vpcs=[vpc("vpc-peer", "10.1.0.0/16", ipv6="2600:1f14:b::/56", owner=PARTNER)],
    Subnets=[
        subnet("subnet-p1", "vpc-peer", "10.1.1.0/24", "usw2-az1", ipv6="2600:1f14:b:1::/64"),
        subnet("subnet-p2", "vpc-peer", "10.1.2.0/24", "usw2-az2"),
    ],
    NetworkInterfaces=[interface("eni-peer", "subnet-p1", "10.1.1.4", OwnerId=PARTNER)],
)
_EAST = place(
    region="us-east-1",
    Vpcs=[vpc("vpc-east", "10.3.0.0/16"), vpc("vpc-twin", "10.1.0.0/16")],
    Subnets=[
        subnet("subnet-e", "vpc-east", "10.3.1.0/24", "use1-az1"),
        subnet("subnet-t", "vpc-twin", "10.1.1.0/24", "use1-az1"),
    ],
    NetworkInterfaces=[
        interface("eni-e", "subnet-e", "10.3.1.4", public="198.51.100.7"),
        interface("eni-t", "subnet-t", "10.1.1.9"),
    ],
)
_RANGES = ranges(
    *((prefix, REGION, "EC2") for prefix in ("52.32.0.0/11", "52.218.0.0/17", "2600:1f14::/36")),
    *((prefix, REGION, "S3") for prefix in ("52.218.0.0/17", "2600:1fa0::/36")),
    ("52.32.0.0/11", REGION, "AMAZON"),
    ("52.40.16.0/20", "us-east-1", "EC2"),
    ("44.242.0.0/24", REGION, "API_GATEWAY"),
    ("64.252.64.0/18", "GLOBAL", "CLOUDFRONT"),
    ("13.248.0.0/19", "GLOBAL", "GLOBALACCELERATOR"),
)
WORLD = described(MAIN, _PEER, _EAST, ip_ranges=_RANGES)


def _timeline(world: Mapping[str, Any]) -> Timeline:
    return Timeline(((EFFECTIVE_S, context_of(world, EFFECTIVE_S)),))


@cache
def whole() -> Timeline:
    return _timeline(WORLD)


def judged(
    hop: FlowHop, world: Mapping[str, Any] | None = WORLD, *, name: FileName = NAME, hour_s: int = EFFECTIVE_S
) -> Outcome:
    """The outcome for a hop; if `world` is None, only the log line is known."""
    timeline = Timeline() if world is None else whole() if world is WORLD else _timeline(world)
    return FlowClassifier(name, timeline).outcome(hop, hour_s)


def line(interface_id: str = "eni-private", **fields: str) -> FlowHop:
    """A log line (version 5 or later) of an interface in VPC `main`."""
    told = {"account_id": ACCOUNT, "vpc_id": "vpc-main", "region": REGION, "flow_direction": "egress"}
    return FlowHop(interface_id=interface_id, **(told | fields))


def leaving(interface_id: str, peer: str, path: str = "", **fields: str) -> FlowHop:
    return line(interface_id, source="10.0.1.4", destination=peer, path=path, **fields)


def entering(interface_id: str, peer: str, **fields: str) -> FlowHop:
    return line(interface_id, **({"flow_direction": "ingress", "source": peer, "destination": "10.0.1.4"} | fields))


def next_hop(zone: str = "", vpc_id: str = "", kind: str = "", interface_id: str = "") -> dict[str, str]:
    """Fields of version 11."""
    return {
        "next_hop_interface_id": interface_id,
        "next_hop_zone_id": zone,
        "next_hop_vpc_id": vpc_id,
        "next_hop_interface_type": kind,
    }
