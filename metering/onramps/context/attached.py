"""Interfaces, public addresses, transit gateways and flow logs of a description."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from metering.onramps.context.facts import FlowLog, Interface, PublicAddress
from metering.onramps.context.interfaces import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.onramps.context.description import FlowLogItem, InterfaceItem, Place
    from metering.onramps.context.facts import Subnet
    from metering.onramps.context.findings import Findings

# A context is held in memory by whoever judges lines; an interface takes about 0.7 KB there.
MAX_INTERFACES = 400_000

# The format of a flow log that names none (version 2).
DEFAULT_FIELDS = (
    *("version", "account-id", "interface-id", "srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets"),
    *("bytes", "start", "end", "action", "log-status"),
)
_FIELD = re.compile(r"\$\{([a-z0-9-]{1,64})\}")
_ATTACHED = frozenset({"available", "modifying"})


def interfaces_of(
    places: Iterable[Place], subnets: Mapping[str, Subnet], bound: frozenset[str], findings: Findings
) -> dict[str, Interface]:
    """Interfaces by id, of subnets that are known.

    Args:
        places: What was described.
        subnets: Subnets by id.
        bound: Ids of interfaces that an elastic address names.
        findings: Takes problems and notes.
    """
    interfaces: dict[str, Interface] = {}
    for place in places:
        for item in place.interfaces:
            if item.subnet_id not in subnets:
                what = item.subnet_id or "subnet"
                findings.note(f"{item.network_interface_id} was left out: its {what} was not described")
                continue
            interface = _interface(item, place.account_id, bound, findings)
            known = interfaces.get(interface.id)
            interfaces[interface.id] = interface if known is None else _joined(known, interface, findings)
    if len(interfaces) > MAX_INTERFACES:
        findings.problem(
            f"{len(interfaces):,} interfaces are more than the {MAX_INTERFACES:,} of a context; capture fewer regions"
        )
    return interfaces


def _joined(one: Interface, other: Interface, findings: Findings) -> Interface:
    """An interface that the owner of a VPC and a participant describe. Its addresses may change between their calls."""
    if one[:4] != other[:4]:
        findings.problem(f"{one.id} is described twice, and differs")
    addresses = tuple(sorted({*one.addresses, *other.addresses}))
    prefixes = tuple(sorted({*one.prefixes, *other.prefixes}))
    return one._replace(addresses=addresses, public=one.public and other.public, prefixes=prefixes)


def _interface(item: InterfaceItem, account_id: str, bound: frozenset[str], findings: Findings) -> Interface:
    texts = {item.private_ip_address, *(each.private_ip_address for each in item.private_ip_addresses)}
    texts |= {each.ipv6_address for each in item.ipv6_addresses}
    parsed = [findings.address(text, item.network_interface_id) for text in sorted(texts) if text]
    blocks = {each.ipv4_prefix or each.ipv6_prefix for each in (*item.ipv4_prefixes, *item.ipv6_prefixes)}
    delegated = [findings.network(text, item.network_interface_id) for text in sorted(blocks) if text]
    public = item.network_interface_id in bound or bool(item.association.public_ip)
    return Interface(
        id=item.network_interface_id,
        account_id=item.owner_id or account_id,
        subnet_id=item.subnet_id,
        kind=kind_of(item),
        addresses=tuple(sorted(str(address) for address in parsed if address is not None)),
        public=public or any(each.association.public_ip for each in item.private_ip_addresses),
        prefixes=tuple(sorted(str(network) for network in delegated if network is not None)),
    )


def bound_interfaces(places: Iterable[Place]) -> frozenset[str]:
    """Ids of interfaces that an elastic address names."""
    return frozenset(
        item.network_interface_id for place in places for item in place.addresses if item.network_interface_id
    )


def public_addresses_of(places: Iterable[Place], findings: Findings) -> tuple[PublicAddress, ...]:
    """Public addresses with their regions, sorted."""
    regions: dict[str, str] = {}
    for place in places:
        texts = {item.public_ip for item in place.addresses}
        for item in place.interfaces:
            texts.add(item.association.public_ip)
            texts |= {each.association.public_ip for each in item.private_ip_addresses}
        for text in sorted(texts - {""}):
            address = findings.address(text, f"{place.region} of account {place.account_id}")
            if address is not None and regions.setdefault(str(address), place.region) != place.region:
                findings.problem(f"the public address {address} is in {regions[str(address)]}, and in {place.region}")
    return tuple(PublicAddress(address, region) for address, region in sorted(regions.items()))


def transit_vpcs_of(places: Iterable[Place]) -> tuple[str, ...]:
    """Ids of VPCs with an attachment of a transit gateway, sorted."""
    attached = {item.vpc_id for place in places for item in place.attachments if item.state in _ATTACHED}
    return tuple(sorted(attached - {""}))


def flow_logs_of(places: Iterable[Place], findings: Findings) -> dict[str, FlowLog]:
    """Active flow logs by id. One that is described twice must be the same."""
    flow_logs: dict[str, FlowLog] = {}
    for place in places:
        for item in place.flow_logs:
            if item.flow_log_status != "ACTIVE":
                continue
            flow_log = _flow_log(item, place)
            known = flow_logs.setdefault(flow_log.id, flow_log)
            if known != flow_log._replace(delivery_status=known.delivery_status):
                findings.problem(f"flow log {flow_log.id} is described twice, and differs")
    return flow_logs


def _flow_log(item: FlowLogItem, place: Place) -> FlowLog:
    return FlowLog(
        id=item.flow_log_id,
        resource_id=item.resource_id,
        resource_type=item.resource_id.rpartition("-")[0],
        created_s=int(item.creation_time.timestamp()),
        fields=tuple(_FIELD.findall(item.log_format)) or DEFAULT_FIELDS,
        traffic_type=item.traffic_type,
        destination=item.log_destination or item.log_group_name,
        destination_type=item.log_destination_type,
        account_id=place.account_id,
        region=place.region,
        delivery_status=item.deliver_logs_status,
    )
