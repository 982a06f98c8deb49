"""What would make unclassified bytes known: for each reason, why it is unclassified, and what to add."""

from __future__ import annotations

from typing import NamedTuple

_HOPS = ("next-hop-az-id", "next-hop-interface-id", "next-hop-vpc-id", "next-hop-interface-type")
_PATHS = ("flow-direction", "traffic-path")
_PEERS = ("pkt-srcaddr", "pkt-dstaddr", "pkt-src-aws-service", "pkt-dst-aws-service")


class Advice(NamedTuple):
    """Why bytes are unclassified, and what helps.

    Attributes:
        why: The cause, as the end of a sentence that begins with `because`.
        fields: Fields of logs that tell it; empty if no field does.
        context: Whether a context tells it.
    """

    why: str
    fields: tuple[str, ...] = ()
    context: bool = False


ADVICE = {
    "zone_unknown": Advice("the zone of one side is not known", ("az-id", "next-hop-az-id"), context=True),
    "kind_unknown": Advice("what the other side is (an interface, a load balancer…) is not known", _HOPS, context=True),
    "next_hop_unknown": Advice("the log does not name the next hop", _HOPS, context=True),
    "region_unknown": Advice("the region of the other side is not known", _HOPS, context=True),
    "way_unknown": Advice("whether peering or a transit gateway carried it is not known", _HOPS, context=True),
    "interface_unknown": Advice("whether the interface has a public address is not known", _PATHS, context=True),
    "ranges_unknown": Advice("the address ranges of AWS are not known", context=True),
    "network_unknown": Advice("the other side is a private address of no network that is known", context=True),
    "nothing_known": Advice("the log has no fields that tell", (*_PATHS, *_PEERS, *_HOPS), context=True),
    "ipv6_peering_contested": Advice("AWS's pages disagree whether IPv6 over a peering is free in one zone"),
    "attachment_unknown": Advice("the type of the transit gateway's attachment is not known", context=True),
    "peer_region_unknown": Advice("the region behind the transit gateway's peering is not known", context=True),
    "payer_unknown": Advice(
        "who pays for the transit gateway is not known: its metering policy, or an attachment that it means",
        context=True,
    ),
    "on_premises": Advice("it is with networks outside AWS, which VPN and Direct Connect bill"),
    "local_zone": Advice("it is of a Local Zone, Wavelength or Outpost, for which there is no rule yet"),
    "global_service": Advice("it is with a service of AWS that has no region"),
    "direction_unknown": Advice("neither the log nor a context says which way it went", _PATHS, context=True),
    "edge_unknown": Advice("the edge is in no billing area that is known"),
    "edge_not_logged": Advice("the CloudFront log lacks the field x-edge-location"),
    "method_not_logged": Advice("the CloudFront log lacks the field cs-method, so uploads to the origin are not told"),
    "origin_unknown": Advice("the CloudFront log does not say whether an upload went on to the origin"),
    "peer_not_stated": Advice("the mapping leaves the other side unknown"),
    "contradiction": Advice("the log and the address ranges do not agree"),
}
_OTHER = Advice("the log does not say more")


def advice_of(reason: str) -> Advice:
    """Why bytes of a reason are unclassified, and what helps. A reason without words of its own gets general ones."""
    return ADVICE.get(reason, _OTHER)
