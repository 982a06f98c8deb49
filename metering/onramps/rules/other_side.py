"""The other side of a hop: where it goes next, or comes from."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from metering.onramps.context.address_ranges import NOT_OF_AWS, AddressRange
from metering.onramps.context.interfaces import TRANSIT_GATEWAY, kind_of_type
from metering.onramps.context.prefixes import is_public

if TYPE_CHECKING:
    from metering.onramps.context.prefixes import Address
    from metering.onramps.observations import FlowHop
    from metering.onramps.rules.knowledge import Knowledge
    from metering.onramps.rules.own_side import OwnSide

_NOWHERE = "", ""


class Peer(NamedTuple):
    """What is known of the address on the other side. Many addresses of the internet are one peer.

    Attributes:
        version: 4 or 6.
        public: Whether it can be an address of the internet.
        in_own_vpc: Whether it is in a block of the own VPC.
        zone_id: Zone of its subnet there.
        kind: Kind of the interface there.
        vpc_ids: Other VPCs that have it in a block.
        vpc_zones: Zones of its subnets there, in the same order; empty texts where they are not known.
        region: Region of AWS's prefix that contains it, or of the account's own public address; `GLOBAL` for none.
        services: Services of that prefix.
        all_services: Services of that prefix and of all that contain it.
        own_public: Whether it is a public address of a captured account.
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
    """The next hop that a line names. Empty texts are unknown, and `-` is never evidence."""

    named: bool
    vpc_id: str
    zone_id: str
    kind: str


def peer_of(address: Address, own_vpc_id: str, knowledge: Knowledge) -> Peer:
    """What is known of an address, as an interface of a VPC sees it."""
    vpc_ids = knowledge.blocks.at(address)
    if vpc_ids is None and address not in knowledge.public:
        # By far the most addresses: nothing but their range is known of them.
        return _of_range(address.version, is_public(address), knowledge.ranges.at(address) or NOT_OF_AWS)
    vpc_ids = vpc_ids or ()
    others = tuple(each for each in vpc_ids if each != own_vpc_id)
    found = knowledge.ranges.at(address) or NOT_OF_AWS
    own_region = knowledge.public.get(address, "")
    in_own_vpc = bool(own_vpc_id) and own_vpc_id in vpc_ids
    zone_id, kind = _inside(address, own_vpc_id, knowledge) if in_own_vpc else _NOWHERE
    return Peer(
        version=address.version,
        public=is_public(address),
        in_own_vpc=in_own_vpc,
        zone_id=zone_id,
        kind=kind,
        vpc_ids=others,
        vpc_zones=tuple(zone_in(address, each, knowledge) for each in others),
        region=own_region or found.region,
        services=found.services,
        all_services=found.all_services,
        own_public=bool(own_region),
    )


@lru_cache(maxsize=4_096)
def _of_range(version: int, public: bool, found: AddressRange) -> Peer:  # a cache takes no names
    return Peer(version, public, False, "", "", (), (), found.region, found.services, found.all_services, False)


def zone_in(address: Address, vpc_id: str, knowledge: Knowledge) -> str:
    """Zone of an address in a VPC; empty if its subnet is not known."""
    facts = knowledge.vpcs.get(vpc_id)
    return "" if facts is None or facts.zones is None else facts.zones.at(address) or ""


def kind_in(address: Address, vpc_id: str, knowledge: Knowledge) -> str:
    """Kind of the interface that has an address in a known VPC; empty if none is known."""
    facts = knowledge.vpcs[vpc_id]
    return facts.kinds.get(address) or facts.delegated.at(address) or ""


def _inside(address: Address, vpc_id: str, knowledge: Knowledge) -> tuple[str, str]:
    return zone_in(address, vpc_id, knowledge), kind_in(address, vpc_id, knowledge)


def next_hop_of(line: FlowHop, own: OwnSide, knowledge: Knowledge) -> NextHop:
    """The next hop that a line names."""
    zone_id, vpc_id = line.next_hop_zone_id, line.next_hop_vpc_id
    interface = knowledge.interfaces.get(line.next_hop_interface_id)
    subnet = knowledge.subnets.get(interface.subnet_id) if interface is not None else None
    kind = kind_of_type(line.next_hop_interface_type) or (interface.kind if interface is not None else "")
    if subnet is not None:
        zone_id, vpc_id = zone_id or subnet.zone_id, vpc_id or subnet.vpc_id
    # What a VPC sends to a transit gateway goes to the gateway's interface in the same VPC.
    if not vpc_id and TRANSIT_GATEWAY in (kind, own.kind):
        vpc_id = own.vpc_id
    return NextHop(any(line[18:]), vpc_id, zone_id, kind)
