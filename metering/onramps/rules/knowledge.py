"""A context, indexed for look-ups: owner of an address, place of an interface, paths between two VPCs.

A missing fact proves nothing, with one guarded exception: see `Knowledge.surely_peered`.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from metering.onramps.context import document
from metering.onramps.context.interfaces import INSPECTION_ENDPOINT, NAT_GATEWAY, NETWORK_LOAD_BALANCER, TRANSIT_GATEWAY

_KEPT = 4


class VpcFacts(NamedTuple):
    """Facts about a VPC.

    Attributes:
        zones: Zone ids by the blocks of the VPC's subnets; None if the VPC is known only from a peering.
        kinds: Kinds of the VPC's interfaces by address; `delegated` has kinds by delegated block.
        transit: Whether a transit gateway is attached to the VPC, according to attachments or interfaces.
        seen_inside: Whether at least one interface of the VPC is known.
        hands_on: Whether the VPC has a private NAT gateway, which sits between its instances and other networks.
        inspected: Whether the VPC has inspection endpoints, which sit between its interfaces and the internet.
        balances_public: Whether the VPC has a network load balancer with a public address, which may preserve the
            client's address, so that a target sees public peers.
    """

    region: str
    zones: document.PrefixMap[str] | None
    kinds: Mapping[document.Address, str]
    delegated: document.PrefixMap[str]
    transit: bool
    seen_inside: bool
    hands_on: bool
    inspected: bool
    balances_public: bool
    peers: frozenset[str]


class Knowledge:
    """Facts of one context. Creation is expensive: `knowledge_of` remembers it."""

    def __init__(self, context: document.Context | None) -> None:
        self.interfaces: Mapping[str, document.Interface] = {}
        self.subnets: Mapping[str, document.Subnet] = {}
        self.flow_logs: Mapping[str, document.FlowLog] = {}
        self.vpcs: Mapping[str, VpcFacts] = {}
        self.zone_regions: Mapping[str, str] = {}
        self.public: Mapping[document.Address, str] = {}
        self.ranges: document.PrefixMap[document.AddressRange] = document.address_ranges(())
        self.blocks: document.PrefixMap[tuple[str, ...]] = document.PrefixMap((), _all_of)
        self.authorities: document.Authorities | None = None
        self.attachments: Mapping[tuple[str, str], document.Attachment] = {}
        self.policies: Mapping[str, tuple[document.MeteringPolicy, ...]] = {}
        self.policy_places: frozenset[tuple[str, str]] = frozenset()
        if context is not None:
            self._arrange(context)
        self.knows_ranges = len(self.ranges) > 0

    def _arrange(self, context: document.Context) -> None:
        self.interfaces = {each.id: each for each in context.interfaces}
        self.subnets = {each.id: each for each in context.subnets}
        self.flow_logs = context.flow_logs
        self.vpcs = _vpcs(context)
        self.zone_regions = {each.zone_id: self.vpcs[each.vpc_id].region for each in context.subnets}
        self.public = {_address(each.address): each.region for each in context.public_addresses}
        self.ranges = document.address_ranges(context.prefixes)
        self.blocks = document.PrefixMap(_blocks(context), _all_of)
        self.authorities = document.Authorities(context)
        self.attachments = {(each.gateway_id, each.id): each for each in context.attachments}
        policies: dict[str, tuple[document.MeteringPolicy, ...]] = {}
        for policy in context.metering_policies:
            policies[policy.gateway_id] = (*policies.get(policy.gateway_id, ()), policy)
        self.policies = policies
        self.policy_places = frozenset(context.policy_places)

    def surely_peered(self, one: str, other: str) -> bool:
        """Whether traffic between two VPCs can only use their peering.

        The VPCs are peered, and one of them surely has no transit gateway. This is concluded only for a VPC whose
        interfaces are known, because a transit gateway has interfaces in it, and the list of attachments confirms this.
        """
        facts, others = self.vpcs.get(one), self.vpcs.get(other)
        if facts is None or others is None or other not in facts.peers:
            return False
        return any(each.seen_inside and not each.transit for each in (facts, others))

    def may_be_in_transit(self, one: str, other: str) -> bool:
        """Whether a transit gateway may join two VPCs, according to the known facts."""
        both = (self.vpcs.get(one), self.vpcs.get(other))
        return all(facts is None or facts.transit or not facts.seen_inside for facts in both)


@lru_cache(maxsize=_KEPT)
def knowledge_of(context: document.Context | None) -> Knowledge:
    """Index a context; the last few results are cached."""
    return Knowledge(context)


def _vpcs(context: document.Context) -> dict[str, VpcFacts]:
    zones: dict[str, list[tuple[str, str]]] = defaultdict(list)
    vpc_of: dict[str, str] = {}
    for subnet in context.subnets:
        vpc_of[subnet.id] = subnet.vpc_id
        zones[subnet.vpc_id] += [(cidr, subnet.zone_id) for cidr in subnet.cidrs]
    inside: dict[str, list[document.Interface]] = defaultdict(list)
    for interface in context.interfaces:
        inside[vpc_of[interface.subnet_id]].append(interface)
    peers: dict[str, set[str]] = defaultdict(set)
    regions = _peer_regions(context.peerings, peers) | {vpc.id: vpc.region for vpc in context.vpcs}
    described = {vpc.id for vpc in context.vpcs}
    return {
        vpc_id: VpcFacts(
            region=region,
            zones=document.PrefixMap(zones[vpc_id], _narrowest) if vpc_id in described else None,
            kinds={_address(text): each.kind for each in inside[vpc_id] for text in each.addresses},
            delegated=document.PrefixMap(
                ((cidr, each.kind) for each in inside[vpc_id] for cidr in each.prefixes), _narrowest
            ),
            transit=vpc_id in context.transit_vpcs or _has(inside[vpc_id], TRANSIT_GATEWAY),
            seen_inside=bool(inside[vpc_id]),
            hands_on=any(each.kind == NAT_GATEWAY and not each.public for each in inside[vpc_id]),
            inspected=_has(inside[vpc_id], INSPECTION_ENDPOINT),
            balances_public=any(each.kind == NETWORK_LOAD_BALANCER and each.public for each in inside[vpc_id]),
            peers=frozenset(peers[vpc_id]),
        )
        for vpc_id, region in regions.items()
    }


def _peer_regions(peerings: Sequence[document.Peering], peers: dict[str, set[str]]) -> dict[str, str]:
    """Regions of the VPCs of peerings; also adds each VPC's peered VPCs to `peers`."""
    regions: dict[str, str] = {}
    for peering in peerings:
        one, other = peering.vpc_ids
        peers[one].add(other)
        peers[other].add(one)
        regions |= dict(zip(peering.vpc_ids, peering.regions, strict=True))
    return regions


def _blocks(context: document.Context) -> list[tuple[str, tuple[str, ...]]]:
    cidrs: dict[str, set[str]] = defaultdict(set)
    for vpc in context.vpcs:
        cidrs[vpc.id].update(vpc.cidrs)
    for peering in context.peerings:
        for vpc_id, blocks in zip(peering.vpc_ids, peering.cidrs, strict=True):
            cidrs[vpc_id].update(blocks)
    return [(cidr, (vpc_id,)) for vpc_id in sorted(cidrs) for cidr in sorted(cidrs[vpc_id])]


def _has(interfaces: Sequence[document.Interface], kind: str) -> bool:
    return any(each.kind == kind for each in interfaces)


def _address(text: str) -> document.Address:
    address = document.address_of(text)
    if address is None:
        raise ValueError(f"{text!r} is no address")
    return address


def _narrowest(values: Sequence[str]) -> str:
    return values[-1]


def _all_of(values: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(sorted({vpc_id for each in values for vpc_id in each}))
