"""A hop with all known facts about it, for the conditions of the rules."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from metering.onramps.context.document import NOT_OF_AWS, Address, AddressRange, Interface, address_of, is_public
from metering.onramps.context.interfaces import (
    INTERFACE,
    NAT_GATEWAY,
    REGIONAL_NAT_GATEWAY,
    TRANSIT_GATEWAY,
    kind_of_type,
)
from metering.onramps.reasons import LineReason, Refused

if TYPE_CHECKING:
    from metering.onramps.reading import FileName, FlowHop
    from metering.onramps.rules.knowledge import Knowledge, VpcFacts

# AWS writes this value for interfaces that AWS itself created.
_UNTOLD = "unknown"
_ACCOUNT_ID = re.compile(r"[0-9]{12}")
# The id of an Availability Zone. Zone ids of Local Zones and of Wavelength also name a place: `usw2-lax1-az1`.
_AVAILABILITY_ZONE = re.compile(r"[a-z0-9]+-az[0-9]+")


class OwnSide(NamedTuple):
    """Own side of a line: the line's owner, and the owner's location. Empty strings and None mean unknown.

    `processor` is the kind that processing is charged by. It is the line's for NAT gateways, but otherwise that of the
    inventory, because lines name interface endpoints and Gateway Load Balancer endpoints alike.
    """

    account_id: str
    resource_id: str
    region: str
    zone_id: str
    vpc_id: str
    kind: str
    public: bool | None
    addresses: frozenset[Address]
    local: bool
    processor: str


def own_side(hop: FlowHop, name: FileName, knowledge: Knowledge) -> OwnSide | Refused:
    """Own side of a hop, from the line, else the file's name, else the inventory."""
    log = knowledge.flow_logs.get(name.source)
    gateway_id = log.resource_id if log is not None and log.resource_type == "nat" else ""
    interface = knowledge.interfaces.get(hop.interface_id)
    subnet = knowledge.subnets.get(hop.subnet_id or (interface.subnet_id if interface is not None else ""))
    vpc_id = hop.vpc_id or (subnet.vpc_id if subnet is not None else "")
    region = hop.region or name.region or (knowledge.vpcs[vpc_id].region if vpc_id in knowledge.vpcs else "")
    account_id = _account_id(hop, name, interface)
    resource_id = hop.instance_id or hop.resource_id or gateway_id or hop.interface_id
    refused = _refusal(account_id, region, resource_id)
    if refused is not None:
        return refused
    zone_id = hop.zone_id or (subnet.zone_id if subnet is not None else "")
    kind = _kind(hop, interface, gateway_id)
    return OwnSide(
        account_id=account_id,
        resource_id=resource_id,
        region=region,
        zone_id=zone_id,
        vpc_id=vpc_id,
        kind=kind,
        public=_public(hop, interface, gateway_id),
        addresses=_addresses(interface),
        local=bool(hop.sublocation_type) or is_local(zone_id),
        processor=_processor(hop, interface, kind),
    )


def is_local(zone_id: str) -> bool:
    """Whether a zone id belongs to a Local Zone or a Wavelength Zone."""
    return bool(zone_id) and _AVAILABILITY_ZONE.fullmatch(zone_id) is None


def _account_id(hop: FlowHop, name: FileName, interface: Interface | None) -> str:
    if hop.account_id and hop.account_id != _UNTOLD:
        return hop.account_id
    return interface.account_id if interface is not None else name.account_id


def _refusal(account_id: str, region: str, resource_id: str) -> Refused | None:
    if _ACCOUNT_ID.fullmatch(account_id) is None:
        return Refused(LineReason.INVALID_ACCOUNT, f"{account_id[:40]!r} is no account: it has not 12 digits")
    if not region:
        return Refused(LineReason.NO_REGION, "neither the line, the file's name nor the inventory has the region")
    if not resource_id:
        return Refused(LineReason.INVALID_VALUE, "the line names no interface, instance or resource")
    return None


def _kind(hop: FlowHop, interface: Interface | None, gateway_id: str) -> str:
    told = kind_of_type(hop.interface_type)
    if told:
        return told
    if gateway_id and not hop.interface_id:
        return NAT_GATEWAY
    # Load balancers, gateways and endpoints do not have an instance id.
    return INTERFACE if hop.instance_id else interface.kind if interface is not None else ""


def _processor(hop: FlowHop, interface: Interface | None, kind: str) -> str:
    if kind == NAT_GATEWAY:
        return kind if hop.interface_id and hop.interface_type != REGIONAL_NAT_GATEWAY else REGIONAL_NAT_GATEWAY
    return interface.kind if interface is not None else ""


def _public(hop: FlowHop, interface: Interface | None, gateway_id: str) -> bool | None:
    if interface is not None:
        return interface.public
    # A regional NAT gateway is always public (NAT gateways, regional availability mode).
    regional = hop.interface_type == REGIONAL_NAT_GATEWAY or (gateway_id and not hop.interface_id)
    return True if regional else None


def _addresses(interface: Interface | None) -> frozenset[Address]:
    if interface is None:
        return frozenset()
    parsed = (address_of(text) for text in interface.addresses)
    return frozenset(address for address in parsed if address is not None)


class Peer(NamedTuple):
    """Address on the other side. Many internet addresses count as one peer.

    Attributes:
        in_own_vpc: Whether the address is in a block of the own VPC; if so, `zone_id` and `kind` describe it within
            that VPC.
        vpc_ids: Other VPCs that have a block with the address.
        vpc_zones: Zones of the address's subnets in `vpc_ids`, in the same order; empty if unknown.
        region: Region of the AWS prefix or own public address; `GLOBAL` for a service without a region.
        all_services: Services of the AWS prefix and of all prefixes that contain the address.
    """

    version: int
    public: bool
    in_own_vpc: bool
    zone_id: str
    kind: str
    vpc_ids: tuple[str, ...]
    vpc_zones: tuple[str, ...]
    region: str
    services: tuple[str, ...]
    all_services: tuple[str, ...]
    own_public: bool


class NextHop(NamedTuple):
    """The next hop of a line. Empty strings mean unknown, and `-` proves nothing."""

    named: bool
    vpc_id: str
    zone_id: str
    kind: str


def peer_of(address: Address, own_vpc_id: str, knowledge: Knowledge) -> Peer:
    """The peer at an address, as an interface of a VPC sees it."""
    vpc_ids = knowledge.blocks.at(address)
    if vpc_ids is None and address not in knowledge.public:
        # By far the most addresses are known only by their range.
        return _of_range(address.version, is_public(address), knowledge.ranges.at(address) or NOT_OF_AWS)
    vpc_ids = vpc_ids or ()
    others = tuple(each for each in vpc_ids if each != own_vpc_id)
    found = knowledge.ranges.at(address) or NOT_OF_AWS
    own_region = knowledge.public.get(address, "")
    in_own_vpc = bool(own_vpc_id) and own_vpc_id in vpc_ids
    return Peer(
        version=address.version,
        public=is_public(address),
        in_own_vpc=in_own_vpc,
        zone_id=zone_in(address, own_vpc_id, knowledge) if in_own_vpc else "",
        kind=kind_in(address, own_vpc_id, knowledge) if in_own_vpc else "",
        vpc_ids=others,
        vpc_zones=tuple(zone_in(address, each, knowledge) for each in others),
        region=own_region or found.region,
        services=found.services,
        all_services=found.all_services,
        own_public=bool(own_region),
    )


@lru_cache(maxsize=4_096)
def _of_range(version: int, public: bool, found: AddressRange) -> Peer:  # A cached function takes no keyword arguments.
    return Peer(version, public, False, "", "", (), (), found.region, found.services, found.all_services, False)


def zone_in(address: Address, vpc_id: str, knowledge: Knowledge) -> str:
    """Zone of an address in a VPC; empty if its subnet is unknown."""
    facts = knowledge.vpcs.get(vpc_id)
    return "" if facts is None or facts.zones is None else facts.zones.at(address) or ""


def kind_in(address: Address, vpc_id: str, knowledge: Knowledge) -> str:
    """Kind of the interface that has the address in a known VPC; empty if unknown."""
    facts = knowledge.vpcs[vpc_id]
    return facts.kinds.get(address) or facts.delegated.at(address) or ""


def next_hop_of(line: FlowHop, own: OwnSide, knowledge: Knowledge) -> NextHop:
    """The next hop of a line."""
    zone_id, vpc_id = line.next_hop_zone_id, line.next_hop_vpc_id
    interface = knowledge.interfaces.get(line.next_hop_interface_id)
    subnet = knowledge.subnets.get(interface.subnet_id) if interface is not None else None
    kind = kind_of_type(line.next_hop_interface_type) or (interface.kind if interface is not None else "")
    if subnet is not None:
        zone_id, vpc_id = zone_id or subnet.zone_id, vpc_id or subnet.vpc_id
    # Traffic from a VPC to a transit gateway goes to the gateway's interface in that VPC.
    if not vpc_id and TRANSIT_GATEWAY in (kind, own.kind):
        vpc_id = own.vpc_id
    return NextHop(any(line[18:]), vpc_id, zone_id, kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One side of one hop.

    Attributes:
        path: Value of `traffic-path`, which only egress lines have; empty if unknown.
        peer: Address on the other side; None if the log has no address.
        service: Service of the peer's address in the log; empty if the log names no service.
    """

    own: OwnSide
    out: bool
    path: str
    peer: Peer | None
    next_hop: NextHop
    service: str
    knowledge: Knowledge
    peering_billed_apart: bool

    @property
    def own_vpc(self) -> VpcFacts | None:
        return self.knowledge.vpcs.get(self.own.vpc_id)

    @property
    def by_address(self) -> bool:
        """Whether the hop ends at the peer's address: the line names no next hop, and no path to another target."""
        return not self.next_hop.named and self.peer is not None and self.peer.in_own_vpc and self.path in ("", "1")

    @property
    def within_vpc(self) -> bool:
        if self.next_hop.named:
            return bool(self.own.vpc_id) and self.next_hop.vpc_id == self.own.vpc_id
        return self.by_address

    @property
    def other_vpc_id(self) -> str:
        """VPC on the other side of a peering, if known, and if the hop surely uses the peering; else empty."""
        if self.next_hop.named:
            known = self.own.vpc_id and self.next_hop.vpc_id not in ("", self.own.vpc_id)
            return self.next_hop.vpc_id if known else ""
        vpc_ids = self.peer.vpc_ids if self.peer is not None else ()
        facts = self.own_vpc
        peered = [each for each in vpc_ids if facts is not None and each in facts.peers]
        if len(peered) != 1 or (self.peer is not None and self.peer.in_own_vpc):
            return ""
        return peered[0] if self._surely_peered(peered[0], vpc_ids) else ""

    def _surely_peered(self, vpc_id: str, vpc_ids: tuple[str, ...]) -> bool:
        if self.path in ("4", "5"):
            return True
        others = (each for each in vpc_ids if each != vpc_id)
        return (
            not self.path
            and self.knowledge.surely_peered(self.own.vpc_id, vpc_id)
            and not any(self.knowledge.may_be_in_transit(self.own.vpc_id, each) for each in others)
        )

    @property
    def zone_id(self) -> str:
        if self.next_hop.named:
            return self.next_hop.zone_id
        if self.by_address and self.peer is not None:
            return self.peer.zone_id
        other = self.other_vpc_id
        if not other or self.peer is None:
            return ""
        return self.peer.vpc_zones[self.peer.vpc_ids.index(other)]

    @property
    def kind(self) -> str:
        if self.next_hop.named:
            return self.next_hop.kind
        return self.peer.kind if self.by_address and self.peer is not None else ""

    @property
    def region(self) -> str:
        """Region of the other side, if it is certain; otherwise empty."""
        if self.within_vpc or self.path in ("1", "4", "7"):
            return self.own.region
        other = self.knowledge.vpcs.get(self.other_vpc_id)
        if other is not None:
            return other.region
        if self.next_hop.named:
            return self._region_of_zone(self.next_hop.zone_id)
        # If the VPC at the other end is unknown, a peering connection may lead to any region.
        return "" if self.path == "5" else self._region_by_address()

    def _region_by_address(self) -> str:
        if self.peer is None:
            return ""
        regions = {self.knowledge.vpcs[each].region for each in self.peer.vpc_ids}
        if regions and not self.leaves_vpc:
            return regions.pop() if len(regions) == 1 else ""
        return self.peer.region if self.peer.region != "GLOBAL" else ""

    def _region_of_zone(self, zone_id: str) -> str:
        known = self.knowledge.zone_regions.get(zone_id, "")
        if known or not zone_id or not self.own.zone_id:
            return known
        # All zone ids of a region have the same beginning: `usw2-az1`, `usw2-lax1-az1`.
        return self.own.region if zone_id.split("-")[0] == self.own.zone_id.split("-")[0] else ""

    @property
    def leaves_vpc(self) -> bool:
        """Whether the hop certainly crosses the VPC's border directly, without an appliance inside that forwards it."""
        if self.next_hop.named or self.peer is None:
            return False
        if self.path:
            return self.path in ("2", "7", "8")
        facts = self.own_vpc
        if facts is None or not self.peer.public or self.peer.in_own_vpc or self.peer.vpc_ids:
            return False
        if self.may_be_handed_on:
            return False
        if self.peer.version == 4:
            return self.own.public is True
        # An IPv6 address of EC2 may be in another, unknown VPC, behind a transit gateway.
        return bool(self.own.addresses) and "EC2" not in self.peer.services

    @property
    def may_be_handed_on(self) -> bool:
        """Whether an appliance in the VPC may be between interface and internet, although the address is public."""
        facts = self.own_vpc
        if facts is None:
            return False
        return facts.inspected or (facts.balances_public and self.own.kind == INTERFACE)

    @property
    def in_local_zone(self) -> bool:
        return self.own.local or is_local(self.zone_id)
