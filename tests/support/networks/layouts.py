"""Layouts of flow logs: fields by version, and a line's value for each field."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.networks.topology import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.networks.hops import Side
    from tests.support.networks.topology import Interface

_BY_VERSION: Mapping[int, str] = {
    2: (
        "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
        "log-status"
    ),
    3: "vpc-id subnet-id instance-id tcp-flags type pkt-srcaddr pkt-dstaddr",
    4: "region az-id sublocation-type sublocation-id",
    5: "pkt-src-aws-service pkt-dst-aws-service flow-direction traffic-path",
    9: "resource-id",
    11: (
        "interface-type next-hop-interface-id next-hop-subnet-id next-hop-az-id next-hop-vpc-id next-hop-interface-type"
    ),
}
_VERSION_OF = {name: version for version, names in _BY_VERSION.items() for name in names.split()}
# The useful fields of version 11: no ports, and no fields about a connection's state.
_RECOMMENDED = (
    "version account-id interface-id srcaddr dstaddr bytes start end action log-status vpc-id subnet-id instance-id "
    "pkt-srcaddr pkt-dstaddr region az-id sublocation-type pkt-src-aws-service pkt-dst-aws-service flow-direction "
    "traffic-path resource-id interface-type next-hop-interface-id next-hop-az-id next-hop-vpc-id "
    "next-hop-interface-type"
)
RECOMMENDED = tuple(_RECOMMENDED.split())
# Fields that differ between lines of one side of a hop.
CHANGING = ("srcport", "dstport", "packets", "bytes", "start", "end", "action", "log-status")
_TYPES = {
    Kind.NAT: "nat_gateway",
    Kind.REGIONAL_NAT: "regional_nat_gateway",
    Kind.NLB: "network_load_balancer",
    Kind.TGW: "transit_gateway",
    Kind.ENDPOINT: "vpc_endpoint",
}


def fields_of(version: int) -> tuple[str, ...]:
    return tuple(name for each, names in _BY_VERSION.items() if each <= version for name in names.split())


def version_of(fields: tuple[str, ...]) -> int:
    """The version of lines with these fields: the highest version of a field."""
    return max(_VERSION_OF[name] for name in fields)


def values_of(side: Side, fields: tuple[str, ...]) -> dict[str, str]:
    """The values of each line of one side of a hop, except those that vary between lines."""
    own, packet = side.own, side.packet
    values = {
        **_of_interface(own, fields),
        "srcaddr": side.source,
        "dstaddr": side.destination,
        "protocol": "6",
        "tcp-flags": "3",
        "type": "IPv6" if ":" in side.source else "IPv4",
        "pkt-srcaddr": packet.source,
        "pkt-dstaddr": packet.destination,
        "pkt-src-aws-service": packet.source_service,
        "pkt-dst-aws-service": packet.destination_service,
        "flow-direction": "egress" if side.movement.direction == "out" else "ingress",
        "traffic-path": side.path or "-",
        **_of_next_hop(side.next_hop),
    }
    return {name: values[name] for name in fields if name not in CHANGING}


def quiet_values_of(own: Interface, fields: tuple[str, ...]) -> dict[str, str]:
    """The values of a line without traffic (NODATA, SKIPDATA): only its owner."""
    known = _of_interface(own, fields)
    return {name: known.get(name, "-") for name in fields if name not in CHANGING}


def _of_interface(own: Interface, fields: tuple[str, ...]) -> dict[str, str]:
    return {
        "version": str(version_of(fields)),
        "account-id": own.told_account_id,
        "interface-id": own.id,
        "vpc-id": own.vpc.id,
        "subnet-id": own.subnet.id if own.kind is not Kind.REGIONAL_NAT else "-",
        "instance-id": own.instance_id or "-",
        "region": own.vpc.region,
        "az-id": "-" if own.local else own.zone_id,
        "sublocation-type": "localzone" if own.local else "-",
        "sublocation-id": own.subnet.zone_name if own.local else "-",
        "resource-id": own.resource_id or "-",
        "interface-type": _TYPES.get(own.kind, "-"),
    }


def _of_next_hop(next_hop: Interface | None) -> dict[str, str]:
    if next_hop is None:
        return dict.fromkeys((name for name in _BY_VERSION[11].split() if name.startswith("next-hop-")), "-")
    return {
        "next-hop-interface-id": next_hop.id,
        "next-hop-subnet-id": next_hop.subnet.id if next_hop.kind is not Kind.REGIONAL_NAT else "-",
        "next-hop-az-id": "-" if next_hop.local else next_hop.zone_id,
        "next-hop-vpc-id": next_hop.vpc.id,
        "next-hop-interface-type": _TYPES.get(next_hop.kind, "-"),
    }
