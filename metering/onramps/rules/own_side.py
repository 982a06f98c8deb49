"""The own side of a hop: the interface that a line is of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from metering.onramps.context.interfaces import INTERFACE, NAT_GATEWAY, kind_of_type
from metering.onramps.context.prefixes import Address, address_of
from metering.onramps.reasons import LineReason
from metering.onramps.traffic import Refused

if TYPE_CHECKING:
    from metering.onramps.context.facts import Interface
    from metering.onramps.names import FileName
    from metering.onramps.observations import FlowHop
    from metering.onramps.rules.knowledge import Knowledge

# What AWS writes for interfaces that it made itself.
_UNTOLD = "unknown"
_ACCOUNT_ID = re.compile(r"[0-9]{12}")
# The zone id of an Availability Zone. Those of Local Zones and Wavelength name a place as well: `usw2-lax1-az1`.
_AVAILABILITY_ZONE = re.compile(r"[a-z0-9]+-az[0-9]+")


class OwnSide(NamedTuple):
    """Whose a line is, and where that is. Empty texts are unknown.

    Attributes:
        public: Whether it has a public IPv4 address; None if that is not known.
        addresses: Its own addresses, if the interface is known.
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


def own_side(hop: FlowHop, name: FileName, knowledge: Knowledge) -> OwnSide | Refused:
    """The own side of a hop, from the line, then the file's name, then the inventory."""
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
    return OwnSide(
        account_id=account_id,
        resource_id=resource_id,
        region=region,
        zone_id=zone_id,
        vpc_id=vpc_id,
        kind=_kind(hop, interface, gateway_id),
        public=_public(hop, interface, gateway_id),
        addresses=_addresses(interface),
        local=bool(hop.sublocation_type) or is_local(zone_id),
    )


def is_local(zone_id: str) -> bool:
    """Whether a zone id is that of a Local Zone or of Wavelength."""
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
    # Load balancers, gateways and endpoints have no instance.
    return INTERFACE if hop.instance_id else interface.kind if interface is not None else ""


def _public(hop: FlowHop, interface: Interface | None, gateway_id: str) -> bool | None:
    if interface is not None:
        return interface.public
    # A regional NAT gateway is always public (NAT gateways, regional availability mode).
    regional = hop.interface_type == "regional_nat_gateway" or (gateway_id and not hop.interface_id)
    return True if regional else None


def _addresses(interface: Interface | None) -> frozenset[Address]:
    if interface is None:
        return frozenset()
    parsed = (address_of(text) for text in interface.addresses)
    return frozenset(address for address in parsed if address is not None)
