"""VPCs, subnets and peerings of a description."""

from __future__ import annotations

from collections import defaultdict
from ipaddress import ip_network
from itertools import pairwise
from typing import TYPE_CHECKING

from metering.onramps.context.facts import Peering, Subnet, Vpc
from metering.usage.locations import is_region, is_zone_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from ipaddress import IPv4Network, IPv6Network

    from metering.onramps.context.description import Block, PeeringItem, PeeringVpc, Place, VpcItem
    from metering.onramps.context.findings import Findings

_ACTIVE = "active"
# A block that is being taken away still has addresses until it is gone.
_HOLDING = frozenset({"associated", "disassociating"})


def vpcs_of(places: Iterable[Place], findings: Findings) -> dict[str, Vpc]:
    """VPCs by id. A shared one is described by its owner and by its participants, and is the union of what they say."""
    vpcs: dict[str, Vpc] = {}
    for place in places:
        for item in place.vpcs:
            vpc = Vpc(item.vpc_id, item.owner_id or place.account_id, place.region, _vpc_cidrs(item, findings))
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
    """Subnets by id, of VPCs that are known. Two that overlap in one VPC contradict each other."""
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
        sides.append((side.vpc_id, side.region or region, _peering_cidrs(item, side, findings)))
        if not side.vpc_id or not is_region(side.region or region):
            findings.problem(f"{item.vpc_peering_connection_id} does not say which VPCs and regions it joins")
    (first, first_region, first_cidrs), (second, second_region, second_cidrs) = sides
    return Peering(
        item.vpc_peering_connection_id, (first, second), (first_region, second_region), (first_cidrs, second_cidrs)
    )


def _joined(one: Peering, other: Peering) -> Peering:
    first, second = (tuple(sorted({*one.cidrs[side], *other.cidrs[side]})) for side in (0, 1))
    return one._replace(cidrs=(first, second))


def _peering_cidrs(item: PeeringItem, side: PeeringVpc, findings: Findings) -> tuple[str, ...]:
    name = item.vpc_peering_connection_id
    return _cidrs(name, [side.cidr_block], (*side.cidr_block_set, *side.ipv6_cidr_block_set), findings)


def _vpc_cidrs(item: VpcItem, findings: Findings) -> tuple[str, ...]:
    blocks = (*item.cidr_block_association_set, *item.ipv6_cidr_block_association_set)
    return _cidrs(item.vpc_id, [item.cidr_block], blocks, findings)


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
