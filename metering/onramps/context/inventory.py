"""Create a context from a description.

A contradictory description is refused with every problem: a wrong inventory would misclassify traffic unnoticed. Facts
that changed between two calls are incomplete, so they are left out and noted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.onramps.context import document
from metering.onramps.context.description import (
    Block,
    Description,
    DescriptionError,
    FlowLogItem,
    InterfaceItem,
    IpRanges,
    MeteringPolicyEntryItem,
    MeteringPolicyItem,
    PeeringAttachmentItem,
    PeeringItem,
    Place,
    read_description,
)
from metering.onramps.context.holders import groups_of, holders_of
from metering.onramps.context.interfaces import kind_of
from metering.units import HOUR_S
from metering.usage.usage_types import is_region, is_zone_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

# Each process that judges lines has a context in memory, with about 0.7 KB per interface.
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
    places: Iterable[Place], subnets: Mapping[str, document.Subnet], bound: frozenset[str], findings: document.Findings
) -> dict[str, document.Interface]:
    """Interfaces in known subnets, by id. Interfaces in `bound` have an elastic IP address."""
    interfaces: dict[str, document.Interface] = {}
    for place in places:
        for item in place.interfaces:
            if item.subnet_id not in subnets:
                what = item.subnet_id or "subnet"
                findings.note(f"{item.network_interface_id} was left out: its {what} was not described")
                continue
            interface = _interface(item, place.account_id, bound, findings)
            known = interfaces.get(interface.id)
            interfaces[interface.id] = interface if known is None else _with_gateways(known, interface, findings)
    if len(interfaces) > MAX_INTERFACES:
        findings.problem(
            f"{len(interfaces):,} interfaces are more than the {MAX_INTERFACES:,} of a context; capture fewer regions"
        )
    return interfaces


def _with_gateways(
    one: document.Interface, other: document.Interface, findings: document.Findings
) -> document.Interface:
    """Merge descriptions of an interface by VPC owner and participant. Addresses may change between the two calls."""
    if one[:4] != other[:4]:
        findings.problem(f"{one.id} is described twice, and differs")
    addresses = tuple(sorted({*one.addresses, *other.addresses}))
    prefixes = tuple(sorted({*one.prefixes, *other.prefixes}))
    return one._replace(addresses=addresses, public=one.public and other.public, prefixes=prefixes)


def _interface(
    item: InterfaceItem, account_id: str, bound: frozenset[str], findings: document.Findings
) -> document.Interface:
    texts = {item.private_ip_address, *(each.private_ip_address for each in item.private_ip_addresses)}
    texts |= {each.ipv6_address for each in item.ipv6_addresses}
    parsed = [findings.address(text, item.network_interface_id) for text in sorted(texts) if text]
    blocks = {each.ipv4_prefix or each.ipv6_prefix for each in (*item.ipv4_prefixes, *item.ipv6_prefixes)}
    delegated = [findings.network(text, item.network_interface_id) for text in sorted(blocks) if text]
    public = item.network_interface_id in bound or bool(item.association.public_ip)
    return document.Interface(
        id=item.network_interface_id,
        account_id=item.owner_id or account_id,
        subnet_id=item.subnet_id,
        kind=kind_of(item),
        addresses=tuple(sorted(str(address) for address in parsed if address is not None)),
        public=public or any(each.association.public_ip for each in item.private_ip_addresses),
        prefixes=tuple(sorted(str(network) for network in delegated if network is not None)),
    )


def bound_interfaces(places: Iterable[Place]) -> frozenset[str]:
    """Ids of interfaces that have an elastic IP address."""
    return frozenset(
        item.network_interface_id for place in places for item in place.addresses if item.network_interface_id
    )


def public_addresses_of(places: Iterable[Place], findings: document.Findings) -> tuple[document.PublicAddress, ...]:
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
    return tuple(document.PublicAddress(address, region) for address, region in sorted(regions.items()))


def transit_vpcs_of(places: Iterable[Place]) -> tuple[str, ...]:
    """Ids of VPCs with an attachment of a transit gateway, sorted."""
    attached = set()
    for place in places:
        attached |= {item.vpc_id for item in place.vpc_attachments if item.state in _ATTACHED}
        attached |= {
            item.resource_id for item in place.attachments if item.resource_type == VPC and item.state in _ATTACHED
        }
    return tuple(sorted(attached - {""}))


def attachments_of(places: Iterable[Place], findings: document.Findings) -> tuple[document.Attachment, ...]:
    """Attachments of transit gateways, in any state: a line names the attachment at the time of writing.

    A gateway's owner describes all attachments, other accounts only theirs, so an attachment may occur several times.
    """
    found: dict[tuple[str, str], document.Attachment] = {}
    for place in places:
        for each in _attachments(place):
            if not each.id or not each.gateway_id:
                continue
            key = (each.gateway_id, each.id)
            known = found.setdefault(key, each)
            if known.kind != each.kind:
                findings.problem(f"{each.id} of {each.gateway_id} is a {known.kind}, and a {each.kind}")
            found[key] = document.Attachment(*(one or other for one, other in zip(known, each, strict=True)))
    return tuple(found[key] for key in sorted(found))


def _attachments(place: Place) -> Iterator[document.Attachment]:
    for vpc in place.vpc_attachments:
        yield document.Attachment(vpc.transit_gateway_attachment_id, vpc.transit_gateway_id, VPC, vpc.vpc_owner_id)
    for item in place.attachments:
        kind = _kind(item.resource_type)
        # A peering attachment's resource is the other gateway, so the resource's owner does not matter.
        owner_id = "" if kind == PEERING else item.resource_owner_id
        yield document.Attachment(
            item.transit_gateway_attachment_id, item.transit_gateway_id, kind, owner_id, item.transit_gateway_owner_id
        )
    for peering in place.peering_attachments:
        yield from _peering_sides(peering)


def _peering_sides(item: PeeringAttachmentItem) -> Iterator[document.Attachment]:
    one, other = item.requester_tgw_info, item.accepter_tgw_info
    its_id = item.transit_gateway_attachment_id
    for attachment_id, own, peer in (
        (its_id, one, other),
        (item.accepter_transit_gateway_attachment_id or its_id, other, one),
    ):
        # AWS does not state a peering attachment's owner. The owner is certain only if the gateways have one owner.
        owner_id = own.owner_id if own.owner_id == peer.owner_id else ""
        region = peer.region if is_region(peer.region) else ""
        yield document.Attachment(attachment_id, own.transit_gateway_id, PEERING, owner_id, own.owner_id, region)


def metering_policies_of(places: Iterable[Place], findings: document.Findings) -> tuple[document.MeteringPolicy, ...]:
    """Metering policies of transit gateways by id. If a policy is described twice, both descriptions must be equal."""
    found: dict[str, document.MeteringPolicy] = {}
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


def _metering_policy(item: MeteringPolicyItem, findings: document.Findings) -> document.MeteringPolicy:
    entries = item.transit_gateway_metering_policy_entries
    rules = None if entries is None else [_metering_rule(item, entry, findings) for entry in entries]
    return document.MeteringPolicy(
        id=item.transit_gateway_metering_policy_id,
        gateway_id=item.transit_gateway_id,
        state=item.state,
        effective_s=_seconds(item.update_effective_at),
        middleboxes=tuple(sorted(item.middlebox_attachment_ids)),
        rules=None if rules is None else tuple(sorted(rules)),
    )


def _metering_rule(
    policy: MeteringPolicyItem, item: MeteringPolicyEntryItem, findings: document.Findings
) -> document.MeteringRule:
    number, asked = item.policy_rule_number, item.metering_policy_rule
    if not (number.isascii() and number.isdecimal()):
        findings.problem(f"{policy.transit_gateway_metering_policy_id} has a rule whose number is {number[:40]!r}")
        number = "0"
    return document.MeteringRule(
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


def flow_logs_of(places: Iterable[Place], findings: document.Findings) -> dict[str, document.FlowLog]:
    """Active flow logs by id. If a flow log is described twice, both descriptions must be equal."""
    flow_logs: dict[str, document.FlowLog] = {}
    for place in places:
        for item in place.flow_logs:
            if item.flow_log_status != "ACTIVE":
                continue
            flow_log = _flow_log(item, place)
            known = flow_logs.setdefault(flow_log.id, flow_log)
            if known != flow_log._replace(delivery_status=known.delivery_status):
                findings.problem(f"flow log {flow_log.id} is described twice, and differs")
    return flow_logs


def _flow_log(item: FlowLogItem, place: Place) -> document.FlowLog:
    return document.FlowLog(
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


_ACTIVE = "active"
# A block in state `disassociating` still has addresses.
_HOLDING = frozenset({"associated", "disassociating"})


def vpcs_of(places: Iterable[Place], findings: document.Findings) -> dict[str, document.Vpc]:
    """VPCs by id. A shared VPC is the union of the descriptions of its owner and participants."""
    vpcs: dict[str, document.Vpc] = {}
    for place in places:
        for item in place.vpcs:
            blocks = (*item.cidr_block_association_set, *item.ipv6_cidr_block_association_set)
            cidrs = _cidrs(item.vpc_id, [item.cidr_block], blocks, findings)
            vpc = document.Vpc(item.vpc_id, item.owner_id or place.account_id, place.region, cidrs)
            known = vpcs.get(vpc.id)
            if known is not None and (known.region, known.account_id) != (vpc.region, vpc.account_id):
                findings.problem(
                    f"{vpc.id} is in {known.region} of account {known.account_id}, "
                    f"and in {vpc.region} of account {vpc.account_id}"
                )
            both = vpc.cidrs if known is None else tuple(sorted({*known.cidrs, *vpc.cidrs}))
            vpcs[vpc.id] = vpc._replace(cidrs=both)
    return vpcs


def subnets_of(
    places: Iterable[Place], vpcs: Mapping[str, document.Vpc], findings: document.Findings
) -> dict[str, document.Subnet]:
    """Subnets of known VPCs, by id. Overlapping subnets of one VPC are a contradiction."""
    subnets: dict[str, document.Subnet] = {}
    for place in places:
        for item in place.subnets:
            cidrs = _cidrs(item.subnet_id, [item.cidr_block], item.ipv6_cidr_block_association_set, findings)
            subnet = document.Subnet(item.subnet_id, item.vpc_id, item.availability_zone_id, cidrs)
            if subnet.vpc_id not in vpcs:
                findings.note(f"{subnet.id} was left out: its {subnet.vpc_id} was not described")
                continue
            if not is_zone_id(subnet.zone_id):
                findings.problem(
                    f"{subnet.id} has the zone {subnet.zone_id[:40]!r}; give AvailabilityZoneId, a zone id"
                )
            if subnets.setdefault(subnet.id, subnet) != subnet:
                findings.problem(f"{subnet.id} is described twice, and differs")
    _refuse_overlaps(subnets, findings)
    return subnets


def peerings_of(places: Iterable[Place], findings: document.Findings) -> dict[str, document.Peering]:
    """Active peerings by id. Both sides describe a peering; either description may lack details."""
    peerings: dict[str, document.Peering] = {}
    for place in places:
        for item in place.peerings:
            if item.status.code != _ACTIVE:
                continue
            peering = _peering(item, place.region, findings)
            known = peerings.get(peering.id)
            if known is not None and known.vpc_ids != peering.vpc_ids:
                findings.problem(
                    f"{peering.id} joins {' and '.join(known.vpc_ids)}, and {' and '.join(peering.vpc_ids)}"
                )
            elif known is not None:
                peering = _joined(known, peering)
            peerings[peering.id] = peering
    return peerings


def _peering(item: PeeringItem, region: str, findings: document.Findings) -> document.Peering:
    sides = []
    for side in sorted((item.requester_vpc_info, item.accepter_vpc_info), key=lambda side: side.vpc_id):
        blocks = (*side.cidr_block_set, *side.ipv6_cidr_block_set)
        cidrs = _cidrs(item.vpc_peering_connection_id, [side.cidr_block], blocks, findings)
        sides.append((side.vpc_id, side.region or region, cidrs))
        if not side.vpc_id or not is_region(side.region or region):
            findings.problem(f"{item.vpc_peering_connection_id} does not say which VPCs and regions it joins")
    (first, first_region, first_cidrs), (second, second_region, second_cidrs) = sides
    return document.Peering(
        item.vpc_peering_connection_id, (first, second), (first_region, second_region), (first_cidrs, second_cidrs)
    )


def _joined(one: document.Peering, other: document.Peering) -> document.Peering:
    first, second = (tuple(sorted({*one.cidrs[side], *other.cidrs[side]})) for side in (0, 1))
    return one._replace(cidrs=(first, second))


def _cidrs(owner: str, plain: list[str], blocks: Iterable[Block], findings: document.Findings) -> tuple[str, ...]:
    texts = {*plain}
    for block in blocks:
        texts.add(block.cidr_block if block.cidr_block_state.state in _HOLDING else "")
        texts.add(block.ipv6_cidr_block if block.ipv6_cidr_block_state.state in _HOLDING else "")
    networks = [findings.network(text, owner) for text in sorted(texts) if text]
    return tuple(sorted(str(network) for network in networks if network is not None))


def _refuse_overlaps(subnets: Mapping[str, document.Subnet], findings: document.Findings) -> None:
    by_vpc: dict[tuple[str, int], list[tuple[int, int, str]]] = defaultdict(list)
    for subnet in subnets.values():
        for cidr in subnet.cidrs:
            network: IPv4Network | IPv6Network = ip_network(cidr)
            span = (int(network.network_address), int(network.broadcast_address), subnet.id)
            by_vpc[subnet.vpc_id, network.version].append(span)
    for (vpc_id, _), spans in sorted(by_vpc.items()):
        spans.sort()
        for (_, end, one), (start, _, other) in pairwise(spans):
            if start <= end:
                findings.problem(f"{one} and {other} of {vpc_id} overlap")


MAX_PREFIXES = 200_000
GLOBAL = "GLOBAL"
DISTRIBUTION_LOGS = ("", "legacy", "v2")

_ACCOUNT_ID = re.compile(r"[0-9]{12}")


def context_of(description: Mapping[str, object], effective_s: int) -> document.Context:
    """Create the context of a description (`metering.onramps.context.description`), valid from a full hour.

    Raises:
        DescriptionError: The description is invalid or contradictory; up to twenty problems are named.
    """
    if effective_s % HOUR_S:
        raise DescriptionError((f"a context holds from a full hour, and {rfc3339(effective_s)} is none",))
    described = read_description(description)
    findings = document.Findings()
    context = _gathered(described, effective_s, findings)
    if findings.problems:
        raise DescriptionError(findings.problems)
    return context


def _gathered(described: Description, effective_s: int, findings: document.Findings) -> document.Context:
    places = described.regions
    accounts = frozenset({*described.accounts, *(place.account_id for place in places)})
    _judge_names(described, accounts, findings)
    vpcs = vpcs_of(places, findings)
    subnets = subnets_of(places, vpcs, findings)
    interfaces = interfaces_of(places, subnets, bound_interfaces(places), findings)
    peerings = peerings_of(places, findings)
    flow_logs = flow_logs_of(places, findings)
    attachments, policies = attachments_of(places, findings), metering_policies_of(places, findings)
    holders = holders_of(places, interfaces)
    return document.Context(
        sha256="",
        effective_s=effective_s,
        accounts=accounts,
        places=tuple(sorted((place.account_id, place.region) for place in places)),
        vpcs=tuple(vpcs[each] for each in sorted(vpcs)),
        subnets=tuple(subnets[each] for each in sorted(subnets)),
        interfaces=tuple(interfaces[each] for each in sorted(interfaces)),
        peerings=tuple(peerings[each] for each in sorted(peerings)),
        transit_vpcs=transit_vpcs_of(places),
        public_addresses=public_addresses_of(places, findings),
        flow_logs=MappingProxyType(flow_logs),
        buckets=MappingProxyType(described.buckets),
        prefixes=() if described.ip_ranges is None else _prefixes(described.ip_ranges, findings),
        notes=findings.notes,
        bucket_owners=MappingProxyType(described.bucket_owners),
        distributions=MappingProxyType(_distributions(described, findings)),
        attachments=attachments,
        metering_policies=policies,
        policy_places=policy_places_of(places),
        holders=holders,
        groups=groups_of(places, interfaces, holders),
        networks=_networks(described, findings),
    ).named()


def _networks(described: Description, findings: document.Findings) -> tuple[document.Network, ...]:
    found: dict[str, set[str]] = defaultdict(set)
    for each in described.networks:
        blocks = (findings.network(text, f"network {each.name[:60]}") for text in each.cidrs)
        found[each.name].update(str(block) for block in blocks if block is not None)
    return tuple(document.Network(name, tuple(sorted(found[name]))) for name in sorted(found))


def _judge_names(described: Description, accounts: frozenset[str], findings: document.Findings) -> None:
    for account_id in sorted({*accounts, *described.bucket_owners.values()}):
        if _ACCOUNT_ID.fullmatch(account_id) is None:
            findings.problem(f"{account_id[:40]!r} is no account: it has not 12 digits")
    regions = {place.region for place in described.regions} | set(described.buckets.values())
    for region in sorted(regions):
        if not is_region(region):
            findings.problem(f"{region[:60]!r} is no region")


def _distributions(described: Description, findings: document.Findings) -> dict[str, document.Distribution]:
    for name, item in sorted(described.distributions.items()):
        if _ACCOUNT_ID.fullmatch(item.account_id) is None:
            findings.problem(f"{item.account_id[:40]!r} of distribution {name[:40]} is no account of 12 digits")
        if item.log not in DISTRIBUTION_LOGS:
            findings.problem(f"log of distribution {name[:40]} is {item.log[:40]!r}, and neither legacy nor v2")
    return {
        name: document.Distribution(name, item.account_id, item.log) for name, item in described.distributions.items()
    }


def _prefixes(ranges: IpRanges, findings: document.Findings) -> tuple[document.Prefix, ...]:
    services: dict[str, set[str]] = defaultdict(set)
    regions: dict[str, str] = {}
    items = [(item.ip_prefix, item.region, item.service) for item in ranges.prefixes]
    items += [(item.ipv6_prefix, item.region, item.service) for item in ranges.ipv6_prefixes]
    if len(items) > MAX_PREFIXES:
        findings.problem(f"the address ranges have {len(items):,} prefixes, more than {MAX_PREFIXES:,}")
        return ()
    for text, region, service in items:
        network = findings.network(text, "the list of address ranges")
        if network is None:
            continue
        if regions.setdefault(str(network), region) != region:
            findings.problem(f"the address range {network} is in {regions[str(network)]}, and in {region}")
        if region != GLOBAL and not is_region(region):
            findings.problem(f"the address range {network} is in {region[:60]!r}, which is no region")
        services[str(network)].add(service)
    return tuple(document.Prefix(cidr, regions[cidr], tuple(sorted(services[cidr]))) for cidr in sorted(services))
