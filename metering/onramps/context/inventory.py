"""Make a context of a description.

Contradictions are refused, with every problem: a wrong inventory would classify wrongly, and nobody would see.
Incomplete parts, because things came and went between two calls, are left out and noted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.onramps.context.attached import (
    attachments_of,
    bound_interfaces,
    flow_logs_of,
    interfaces_of,
    metering_policies_of,
    policy_places_of,
    public_addresses_of,
    transit_vpcs_of,
)
from metering.onramps.context.description import (
    Block,
    Description,
    DescriptionError,
    IpRanges,
    PeeringItem,
    Place,
    read_description,
)
from metering.onramps.context.document import Context
from metering.onramps.context.facts import Distribution, Findings, Peering, Prefix, Subnet, Vpc
from metering.units import HOUR_S
from metering.usage.usage_types import is_region, is_zone_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_ACTIVE = "active"
# A block that is being disassociated still has addresses.
_HOLDING = frozenset({"associated", "disassociating"})


def vpcs_of(places: Iterable[Place], findings: Findings) -> dict[str, Vpc]:
    """VPCs by id. A shared VPC is the union of what its owner and its participants describe."""
    vpcs: dict[str, Vpc] = {}
    for place in places:
        for item in place.vpcs:
            blocks = (*item.cidr_block_association_set, *item.ipv6_cidr_block_association_set)
            cidrs = _cidrs(item.vpc_id, [item.cidr_block], blocks, findings)
            vpc = Vpc(item.vpc_id, item.owner_id or place.account_id, place.region, cidrs)
            known = vpcs.get(vpc.id)
            if known is not None and (known.region, known.account_id) != (vpc.region, vpc.account_id):
                findings.problem(
                    f"{vpc.id} is in {known.region} of account {known.account_id}, "
                    f"and in {vpc.region} of account {vpc.account_id}"
                )
            both = vpc.cidrs if known is None else tuple(sorted({*known.cidrs, *vpc.cidrs}))
            vpcs[vpc.id] = vpc._replace(cidrs=both)
    return vpcs


def subnets_of(places: Iterable[Place], vpcs: Mapping[str, Vpc], findings: Findings) -> dict[str, Subnet]:
    """Subnets by id, of known VPCs. Overlapping subnets of one VPC are a contradiction."""
    subnets: dict[str, Subnet] = {}
    for place in places:
        for item in place.subnets:
            cidrs = _cidrs(item.subnet_id, [item.cidr_block], item.ipv6_cidr_block_association_set, findings)
            subnet = Subnet(item.subnet_id, item.vpc_id, item.availability_zone_id, cidrs)
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


def peerings_of(places: Iterable[Place], findings: Findings) -> dict[str, Peering]:
    """Active peerings by id. Both sides describe one; either may say less."""
    peerings: dict[str, Peering] = {}
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


def _peering(item: PeeringItem, region: str, findings: Findings) -> Peering:
    sides = []
    for side in sorted((item.requester_vpc_info, item.accepter_vpc_info), key=lambda side: side.vpc_id):
        blocks = (*side.cidr_block_set, *side.ipv6_cidr_block_set)
        cidrs = _cidrs(item.vpc_peering_connection_id, [side.cidr_block], blocks, findings)
        sides.append((side.vpc_id, side.region or region, cidrs))
        if not side.vpc_id or not is_region(side.region or region):
            findings.problem(f"{item.vpc_peering_connection_id} does not say which VPCs and regions it joins")
    (first, first_region, first_cidrs), (second, second_region, second_cidrs) = sides
    return Peering(
        item.vpc_peering_connection_id, (first, second), (first_region, second_region), (first_cidrs, second_cidrs)
    )


def _joined(one: Peering, other: Peering) -> Peering:
    first, second = (tuple(sorted({*one.cidrs[side], *other.cidrs[side]})) for side in (0, 1))
    return one._replace(cidrs=(first, second))


def _cidrs(owner: str, plain: list[str], blocks: Iterable[Block], findings: Findings) -> tuple[str, ...]:
    texts = {*plain}
    for block in blocks:
        texts.add(block.cidr_block if block.cidr_block_state.state in _HOLDING else "")
        texts.add(block.ipv6_cidr_block if block.ipv6_cidr_block_state.state in _HOLDING else "")
    networks = [findings.network(text, owner) for text in sorted(texts) if text]
    return tuple(sorted(str(network) for network in networks if network is not None))


def _refuse_overlaps(subnets: Mapping[str, Subnet], findings: Findings) -> None:
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


def context_of(description: Mapping[str, object], effective_s: int) -> Context:
    """Make the context of a description (`metering.onramps.context.description`) that holds from a full hour.

    Raises:
        DescriptionError: It has another shape, or contradicts itself; every problem is named, up to twenty.
    """
    if effective_s % HOUR_S:
        raise DescriptionError((f"a context holds from a full hour, and {rfc3339(effective_s)} is none",))
    described = read_description(description)
    findings = Findings()
    context = _gathered(described, effective_s, findings)
    if findings.problems:
        raise DescriptionError(findings.problems)
    return context


def _gathered(described: Description, effective_s: int, findings: Findings) -> Context:
    places = described.regions
    accounts = frozenset({*described.accounts, *(place.account_id for place in places)})
    _judge_names(described, accounts, findings)
    vpcs = vpcs_of(places, findings)
    subnets = subnets_of(places, vpcs, findings)
    interfaces = interfaces_of(places, subnets, bound_interfaces(places), findings)
    peerings = peerings_of(places, findings)
    flow_logs = flow_logs_of(places, findings)
    attachments, policies = attachments_of(places, findings), metering_policies_of(places, findings)
    return Context(
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
    ).named()


def _judge_names(described: Description, accounts: frozenset[str], findings: Findings) -> None:
    for account_id in sorted({*accounts, *described.bucket_owners.values()}):
        if _ACCOUNT_ID.fullmatch(account_id) is None:
            findings.problem(f"{account_id[:40]!r} is no account: it has not 12 digits")
    regions = {place.region for place in described.regions} | set(described.buckets.values())
    for region in sorted(regions):
        if not is_region(region):
            findings.problem(f"{region[:60]!r} is no region")


def _distributions(described: Description, findings: Findings) -> dict[str, Distribution]:
    for name, item in sorted(described.distributions.items()):
        if _ACCOUNT_ID.fullmatch(item.account_id) is None:
            findings.problem(f"{item.account_id[:40]!r} of distribution {name[:40]} is no account of 12 digits")
        if item.log not in DISTRIBUTION_LOGS:
            findings.problem(f"log of distribution {name[:40]} is {item.log[:40]!r}, and neither legacy nor v2")
    return {name: Distribution(name, item.account_id, item.log) for name, item in described.distributions.items()}


def _prefixes(ranges: IpRanges, findings: Findings) -> tuple[Prefix, ...]:
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
    return tuple(Prefix(cidr, regions[cidr], tuple(sorted(services[cidr]))) for cidr in sorted(services))
