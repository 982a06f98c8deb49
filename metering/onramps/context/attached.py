"""Interfaces, public addresses, transit gateways and flow logs of a description."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from metering.onramps.context.facts import (
    Attachment,
    Findings,
    FlowLog,
    Interface,
    MeteringPolicy,
    MeteringRule,
    PublicAddress,
    Subnet,
)
from metering.onramps.context.interfaces import kind_of
from metering.usage.usage_types import is_region

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from metering.onramps.context.description import (
        FlowLogItem,
        InterfaceItem,
        MeteringPolicyEntryItem,
        MeteringPolicyItem,
        PeeringAttachmentItem,
        Place,
    )

# Each process that judges lines holds a context in memory; an interface takes about 0.7 KB there.
MAX_INTERFACES = 400_000

# The default format of a flow log (version 2).
DEFAULT_FIELDS = (
    *("version", "account-id", "interface-id", "srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets"),
    *("bytes", "start", "end", "action", "log-status"),
)
_FIELD = re.compile(r"\$\{([a-z0-9-]{1,64})\}")
_ATTACHED = frozenset({"available", "modifying"})
VPC, PEERING = "vpc", "peering"
"""Types of attachments, as AWS names them."""
# An older name of peering attachments.
_KINDS = {"tgw-peering": PEERING}


def interfaces_of(
    places: Iterable[Place], subnets: Mapping[str, Subnet], bound: frozenset[str], findings: Findings
) -> dict[str, Interface]:
    """Interfaces by id, in subnets that are known. Those in `bound` have an elastic address."""
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
    """Join what the owner of a VPC and a participant describe. Addresses may change between their calls."""
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
    attached = set()
    for place in places:
        attached |= {item.vpc_id for item in place.vpc_attachments if item.state in _ATTACHED}
        attached |= {
            item.resource_id for item in place.attachments if item.resource_type == VPC and item.state in _ATTACHED
        }
    return tuple(sorted(attached - {""}))


def attachments_of(places: Iterable[Place], findings: Findings) -> tuple[Attachment, ...]:
    """Attachments of transit gateways, in any state: what a line names was attached when it was written.

    The owner of a gateway describes all of its attachments, and others theirs, so one may come several times.
    """
    found: dict[tuple[str, str], Attachment] = {}
    for place in places:
        for each in _attachments(place):
            if not each.id or not each.gateway_id:
                continue
            key = (each.gateway_id, each.id)
            known = found.setdefault(key, each)
            if known.kind != each.kind:
                findings.problem(f"{each.id} of {each.gateway_id} is a {known.kind}, and a {each.kind}")
            found[key] = Attachment(*(one or other for one, other in zip(known, each, strict=True)))
    return tuple(found[key] for key in sorted(found))


def _attachments(place: Place) -> Iterator[Attachment]:
    for vpc in place.vpc_attachments:
        yield Attachment(vpc.transit_gateway_attachment_id, vpc.transit_gateway_id, VPC, vpc.vpc_owner_id)
    for item in place.attachments:
        kind = _kind(item.resource_type)
        # The resource of a peering attachment is the other gateway, so its owner says nothing.
        owner_id = "" if kind == PEERING else item.resource_owner_id
        yield Attachment(
            item.transit_gateway_attachment_id, item.transit_gateway_id, kind, owner_id, item.transit_gateway_owner_id
        )
    for peering in place.peering_attachments:
        yield from _peering_sides(peering)


def _peering_sides(item: PeeringAttachmentItem) -> Iterator[Attachment]:
    one, other = item.requester_tgw_info, item.accepter_tgw_info
    its_id = item.transit_gateway_attachment_id
    for attachment_id, own, peer in (
        (its_id, one, other),
        (item.accepter_transit_gateway_attachment_id or its_id, other, one),
    ):
        # AWS does not tell who owns a peering attachment. The owner is certain only if both gateways have the same one.
        owner_id = own.owner_id if own.owner_id == peer.owner_id else ""
        region = peer.region if is_region(peer.region) else ""
        yield Attachment(attachment_id, own.transit_gateway_id, PEERING, owner_id, own.owner_id, region)


def metering_policies_of(places: Iterable[Place], findings: Findings) -> tuple[MeteringPolicy, ...]:
    """Metering policies of transit gateways by id. A policy that is described twice must be the same."""
    found: dict[str, MeteringPolicy] = {}
    for place in places:
        if place.metering_policies is None and place.attachments:
            findings.note(
                f"the metering policies of transit gateways in {place.region} of account {place.account_id} were not "
                "described, so who pays for what they process is not known"
            )
        for item in place.metering_policies or ():
            policy = _metering_policy(item, findings)
            if found.setdefault(policy.id, policy) != policy:
                findings.problem(f"metering policy {policy.id} is described twice, and differs")
    return tuple(found[each] for each in sorted(found))


def policy_places_of(places: Iterable[Place]) -> tuple[tuple[str, str], ...]:
    """Account and region of each capture that lists all metering policies, sorted."""
    return tuple(sorted((each.account_id, each.region) for each in places if each.metering_policies is not None))


def _metering_policy(item: MeteringPolicyItem, findings: Findings) -> MeteringPolicy:
    entries = item.transit_gateway_metering_policy_entries
    rules = None if entries is None else [_metering_rule(item, entry, findings) for entry in entries]
    return MeteringPolicy(
        id=item.transit_gateway_metering_policy_id,
        gateway_id=item.transit_gateway_id,
        state=item.state,
        effective_s=_seconds(item.update_effective_at),
        middleboxes=tuple(sorted(item.middlebox_attachment_ids)),
        rules=None if rules is None else tuple(sorted(rules)),
    )


def _metering_rule(policy: MeteringPolicyItem, item: MeteringPolicyEntryItem, findings: Findings) -> MeteringRule:
    number, asked = item.policy_rule_number, item.metering_policy_rule
    if not (number.isascii() and number.isdecimal()):
        findings.problem(f"{policy.transit_gateway_metering_policy_id} has a rule whose number is {number[:40]!r}")
        number = "0"
    return MeteringRule(
        number=int(number),
        payer=item.metered_account,
        effective_s=_seconds(item.update_effective_at),
        removed=item.state == "deleted",
        source_id=asked.source_transit_gateway_attachment_id,
        source_kind=_kind(asked.source_transit_gateway_attachment_type),
        source_cidr=asked.source_cidr_block,
        source_ports=asked.source_port_range,
        destination_id=asked.destination_transit_gateway_attachment_id,
        destination_kind=_kind(asked.destination_transit_gateway_attachment_type),
        destination_cidr=asked.destination_cidr_block,
        destination_ports=asked.destination_port_range,
        protocol=asked.protocol,
    )


def _kind(text: str) -> str:
    return _KINDS.get(text, text)


def _seconds(moment: datetime | None) -> int:
    return 0 if moment is None else int(moment.timestamp())


def flow_logs_of(places: Iterable[Place], findings: Findings) -> dict[str, FlowLog]:
    """Active flow logs by id. A log that is described twice must be the same."""
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
