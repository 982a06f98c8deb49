"""Conditions of the rules of a hop, by their names in `hop_rules.json`.

A condition holds only if it is known to hold. So a rule never stands on what is missing, and `not known` has no name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.onramps.rules.hop_rules import hop_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.onramps.rules.hop import Hop
    from metering.onramps.rules.other_side import Peer

_INSTANCES = frozenset({"AMAZON", "EC2"})
_CLOUDFRONT = frozenset({"CLOUDFRONT", "CLOUDFRONT_ORIGIN_FACING"})
_GLOBAL = "GLOBAL"


def _peer_is(test: Callable[[Peer], bool]) -> Callable[[Hop], bool]:
    return lambda hop: hop.peer is not None and test(hop.peer)


def _on_path(path: str) -> Callable[[Hop], bool]:
    return lambda hop: hop.path == path


def _zones_equal(hop: Hop) -> bool:
    return bool(hop.own.zone_id) and hop.zone_id == hop.own.zone_id


def _zones_differ(hop: Hop) -> bool:
    return bool(hop.own.zone_id) and bool(hop.zone_id) and hop.zone_id != hop.own.zone_id


def _attachment_side(hop: Hop) -> bool:
    return not hop_rules().free_always.isdisjoint((hop.own.kind, hop.kind))


def _load_balancer_side(hop: Hop) -> bool:
    return not hop_rules().free_over_ipv4.isdisjoint((hop.own.kind, hop.kind))


def _charged_sides(hop: Hop) -> bool:
    return hop_rules().charged.issuperset((hop.own.kind, hop.kind))


def _peered(hop: Hop) -> bool:
    return not hop.within_vpc and (bool(hop.other_vpc_id) or (not hop.next_hop.named and hop.path in ("4", "5")))


def _hop_inside_region(hop: Hop) -> bool:
    return hop.within_vpc or (hop.next_hop.named and hop.region == hop.own.region) or hop.path in ("1", "4")


def _behind_transit_gateway(hop: Hop) -> bool:
    """Whether the peer's VPC and the own one have transit gateways, and nothing else inside hands on."""
    own = hop.own_vpc
    if own is None or hop.next_hop.named or hop.peer is None or not (own.transit and own.seen_inside):
        return False
    return not own.hands_on and any(hop.knowledge.vpcs[each].transit for each in hop.peer.vpc_ids)


def _is_instance(hop: Hop) -> bool:
    if hop.peer is None or hop.service not in ("", *_INSTANCES):
        return False
    return hop.peer.own_public or ("EC2" in hop.peer.services and _INSTANCES.issuperset(hop.peer.services))


def _contradicts(hop: Hop) -> bool:
    """Whether the log names a service of the peer's address, and the address ranges name others only."""
    if hop.peer is None or not hop.service or not hop.peer.all_services:
        return False
    return hop.service not in hop.peer.all_services


CONDITIONS: Mapping[str, Callable[[Hop], bool]] = {
    "in_local_zone": lambda hop: hop.in_local_zone,
    "hop_inside_region": _hop_inside_region,
    "within_vpc": lambda hop: hop.within_vpc,
    "next_hop_named": lambda hop: hop.next_hop.named,
    "zones_equal": _zones_equal,
    "zones_differ": _zones_differ,
    "ipv4": _peer_is(lambda peer: peer.version == 4),
    "ipv6": _peer_is(lambda peer: peer.version == 6),
    "attachment_side": _attachment_side,
    "load_balancer_side": _load_balancer_side,
    "charged_sides": _charged_sides,
    "peered": _peered,
    "peering_billed_apart": lambda hop: hop.peering_billed_apart,
    "peer_in_region": lambda hop: hop.region == hop.own.region,
    "other_region_known": lambda hop: hop.region not in ("", hop.own.region),
    "path_inside_vpc": _on_path("1"),
    "path_virtual_gateway": _on_path("3"),
    "path_local_gateway": _on_path("6"),
    "path_gateway_endpoint": _on_path("7"),
    "peer_behind_transit_gateway": _behind_transit_gateway,
    "leaves_vpc": lambda hop: hop.leaves_vpc,
    "may_be_handed_on": lambda hop: hop.may_be_handed_on,
    "service_contradicts_ranges": _contradicts,
    "peer_is_cloudfront": _peer_is(lambda peer: not _CLOUDFRONT.isdisjoint(peer.services)),
    "peer_is_instance": _is_instance,
    "peer_is_global": _peer_is(lambda peer: peer.region == _GLOBAL),
    "peer_is_public": _peer_is(lambda peer: peer.public),
    "peer_is_private": _peer_is(lambda peer: not peer.public),
    "peer_in_no_range": _peer_is(lambda peer: not peer.region),
    "peer_in_other_vpc": _peer_is(lambda peer: bool(peer.vpc_ids)),
    "ranges_known": lambda hop: hop.knowledge.knows_ranges,
    "no_service_named": lambda hop: not hop.service,
    "own_is_private": lambda hop: hop.own.public is False and hop.peer is not None and hop.peer.version == 4,
}
