"""Kinds of network interfaces: names of the rule file, `metering/onramps/rules/hop_rules.json`.

An interface's type, requester and description show which service created it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metering.onramps.context.description import InterfaceItem

INTERFACE = "interface"
APPLICATION_LOAD_BALANCER = "application_load_balancer"
CLASSIC_LOAD_BALANCER = "classic_load_balancer"
NETWORK_LOAD_BALANCER = "network_load_balancer"
GATEWAY_LOAD_BALANCER = "gateway_load_balancer"
NAT_GATEWAY = "nat_gateway"
# A NAT gateway of all zones, which has no interface. Rules of the hop do not distinguish it from other NAT gateways.
REGIONAL_NAT_GATEWAY = "regional_nat_gateway"
TRANSIT_GATEWAY = "transit_gateway"
ENDPOINT = "vpc_endpoint"
# The interface belongs to an inspection appliance, such as Network Firewall.
INSPECTION_ENDPOINT = "gateway_load_balancer_endpoint"
CLIENT_VPN = "client_vpn"
DATABASE = "database"
OTHER = "other"

# Interface types in DescribeNetworkInterfaces, and types that a flow log writes as `interface-type`.
_BY_TYPE = {
    "interface": INTERFACE,
    "efa": INTERFACE,
    "efa-only": INTERFACE,
    "trunk": INTERFACE,
    "branch": INTERFACE,
    "lambda": INTERFACE,
    "natGateway": NAT_GATEWAY,
    "nat_gateway": NAT_GATEWAY,
    REGIONAL_NAT_GATEWAY: NAT_GATEWAY,
    "network_load_balancer": NETWORK_LOAD_BALANCER,
    "gateway_load_balancer": GATEWAY_LOAD_BALANCER,
    "transit_gateway": TRANSIT_GATEWAY,
    "vpc_endpoint": ENDPOINT,
    "gateway_load_balancer_endpoint": INSPECTION_ENDPOINT,
}
# Prefixes of the interface descriptions of load balancers. A Classic Load Balancer's is `ELB <name>`, without a slash.
_LOAD_BALANCERS = (
    ("ELB app/", APPLICATION_LOAD_BALANCER),
    ("ELB net/", NETWORK_LOAD_BALANCER),
    ("ELB gwy/", GATEWAY_LOAD_BALANCER),
)


def kind_of_type(interface_type: str) -> str:
    """Kind by an interface type alone; empty for `interface` or no type, because several kinds share these."""
    kind = _BY_TYPE.get(interface_type, OTHER if interface_type else "")
    return "" if kind == INTERFACE else kind


def kind_of(item: InterfaceItem) -> str:
    """Kind of an interface of the inventory."""
    if item.requester_id == "amazon-elb" or item.description.startswith("ELB "):
        return _load_balancer(item)
    if item.requester_id == "amazon-rds" or item.description == "RDSNetworkInterface":
        return DATABASE
    if item.description.startswith("ClientVPN Endpoint"):
        return CLIENT_VPN
    return _BY_TYPE.get(item.interface_type, OTHER)


def _load_balancer(item: InterfaceItem) -> str:
    for beginning, kind in _LOAD_BALANCERS:
        if item.description.startswith(beginning):
            return kind
    if item.interface_type in ("network_load_balancer", "gateway_load_balancer"):
        return _BY_TYPE[item.interface_type]
    if item.description.startswith("ELB ") and "/" not in item.description:
        return CLASSIC_LOAD_BALANCER
    return OTHER
