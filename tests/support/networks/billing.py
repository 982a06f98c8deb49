"""The true charge of one side of a hop: account and usage type. The table is independent, from AWS's price pages.

The table shares nothing with the rules of the service (`metering/onramps/rules`, `metering/usage/usage_types.py`), so
if both agree, this is evidence. Derive changes from the price pages and the contract, not from those modules.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import NamedTuple

from tests.support.networks.inventory import Family, Interface, Kind

_BEFORE = {"us-east-1": "", "us-west-2": "USW2-", "eu-west-1": "EU-"}
_NAMES = {"us-east-1": "USE1", "us-west-2": "USW2", "eu-west-1": "EU"}
_WAYS = {"out": "Out", "in": "In"}
# Within a region, traffic with these resources is free, in any zone.
_FREE = frozenset((Kind.ALB, Kind.TGW, Kind.ENDPOINT))
# 2025-04-01T00:00:00Z: from then on, a bill has separate lines for peering between zones.
PEERING_APART_FROM_S = 1_743_465_600
_PEERING = "VpcPeering-"
NOTHING = "-"
"""Usage type of what is charged as nothing, and stands on no bill."""
_SERVICES = {Kind.ALB: "AWSELB", Kind.NLB: "AWSELB"}


class Movement(NamedTuple):
    """The charge of one side of a hop.

    Attributes:
        far: The other side, as precise as AWS has it: `region/zone`, `region`, `internet`, `cloudfront`, `unknown`.
        usage_type: AWS's usage type; empty if no log determines the type.
        hidden: Log versions whose fields do not suffice, even with the whole inventory; `*` for all versions.
        holder_id: Account of unclassified bytes if the payer is unknowable; else empty.
        processing: Usage type under which the same bytes are charged again, as processing; else empty.
        processing_hidden: Log versions that do not tell this, even with the whole inventory.
    """

    account_id: str
    service: str
    resource_id: str
    interface_id: str
    direction: str
    near: str
    far: str
    usage_type: str
    leg: str
    hidden: tuple[str, ...] = ()
    holder_id: str = ""
    processing: str = ""
    processing_hidden: tuple[str, ...] = ()

    @property
    def charged(self) -> bool:
        """Whether a bill lists the charge, or would list it if a log determined its type."""
        return self.usage_type != NOTHING

    @property
    def from_location(self) -> str:
        return self.near if self.direction == "out" else self.far

    @property
    def to_location(self) -> str:
        return self.far if self.direction == "out" else self.near

    def hides(self, fields: str) -> bool:
        return "*" in self.hidden or fields in self.hidden

    def processed(self, fields: str) -> str:
        """Usage type of processing, if a log with these fields tells it; else empty."""
        return "" if fields in self.processing_hidden else self.processing


def within_vpc(own: Interface, other: Interface, direction: str) -> str:
    """Usage type of a hop between interfaces of one VPC; empty in Local Zones, as their rules were not measured."""
    if own.local or other.local:
        return ""
    if own.zone_id == other.zone_id or {own.kind, other.kind} & _FREE:
        return free(own.vpc.region, direction)
    return regional(own.vpc.region)


def over_peering(own: Interface, other: Interface, direction: str, *, ipv6: bool) -> str:
    """Usage type of a hop over a peering connection; empty for IPv6 in one zone, where AWS's pages disagree.

    Between zones, the returned type applies since April 2025; `at` returns the earlier type.
    """
    if own.vpc.region != other.vpc.region:
        return other_region(own.vpc.region, other.vpc.region, direction)
    if own.zone_id == other.zone_id:
        return "" if ipv6 else free(own.vpc.region, direction)
    return f"{_BEFORE[own.vpc.region]}{_PEERING}{_WAYS[direction]}-Bytes"


def at(movement: Movement, hour_s: int) -> Movement:
    """A movement as it is billed in an hour (in epoch seconds)."""
    head, peering, _ = movement.usage_type.partition(_PEERING)
    if not peering or hour_s >= PEERING_APART_FROM_S:
        return movement
    return movement._replace(usage_type=f"{head}DataTransfer-Regional-Bytes", service="AmazonEC2")


def with_outside(own: Interface, family: Family, direction: str) -> str:
    """Usage type of a hop to or from a peer outside all VPCs; empty if no log determines the type."""
    region, way = own.vpc.region, _WAYS[direction]
    if family.location == "unknown":
        return ""
    if family.location == "internet":
        return f"{_BEFORE[region]}DataTransfer-{way}-Bytes"
    if family.location == "cloudfront":
        return f"{_BEFORE[region]}CloudFront-{way}-Bytes"
    if family.location != region:
        return other_region(region, family.location, direction)
    return regional(region) if family.service == "EC2" else free(region, direction)


def regional(region: str) -> str:
    """Usage type between zones, or by public addresses within a region; the same in both directions."""
    return f"{_BEFORE[region]}DataTransfer-Regional-Bytes"


def free(region: str, direction: str) -> str:
    """Usage type of traffic inside a zone, and of other traffic that is free of charge."""
    return f"{_BEFORE[region]}C3DataTransfer-{_WAYS[direction]}-Bytes"


def other_region(region: str, other: str, direction: str) -> str:
    return f"{_NAMES[region]}-{_NAMES[other]}-AWS-{_WAYS[direction]}-Bytes"


def processed(region: str) -> str:
    """Usage type of processing by a transit gateway, charged on top of the transfer."""
    return f"{_BEFORE[region]}TransitGateway-Bytes"


# Interfaces that charge each byte of either direction. A NAT gateway does so on the side of the workloads only.
_PROCESSING = {Kind.NAT: "NatGateway", Kind.REGIONAL_NAT: "RegionalNatGateway", Kind.ENDPOINT: "VpcEndpoint"}


def with_processing(moved: Movement, own: Interface, workload: str) -> Movement:
    """A movement at the side of the workloads, with what the interface charges for processing.

    `workload` is the address at the other end of the line. Without the addresses of the packet, a line tells the side
    of a gateway only if both of its addresses are in the gateway's VPC, which such a log names by its interface.
    """
    name = _PROCESSING.get(own.kind)
    if name is None:
        return moved
    inside = any(ip_address(workload) in ip_network(cidr) for cidr in own.vpc.cidrs)
    hidden = own.kind is Kind.REGIONAL_NAT or (own.kind is Kind.NAT and not inside)
    return moved._replace(
        processing=f"{_BEFORE[own.vpc.region]}{name}-Bytes", processing_hidden=("v2",) if hidden else ()
    )


def processing_service(usage_type: str) -> str:
    """Product under which AWS lists processing."""
    return "AmazonEC2" if usage_type.endswith("NatGateway-Bytes") else "AmazonVPC"


def movement(
    own: Interface, direction: str, far: str, usage_type: str, leg: str, hidden: tuple[str, ...] = ()
) -> Movement:
    return Movement(
        own.account_id,
        "AmazonVPC" if _PEERING in usage_type else _SERVICES.get(own.kind, "AmazonEC2"),
        own.log_resource,
        own.id,
        direction,
        own.place,
        far,
        usage_type,
        leg,
        hidden,
    )
