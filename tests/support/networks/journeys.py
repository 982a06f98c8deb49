"""Journeys of traffic: each journey makes the sides of all hops of a request and its response."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from metering.replay.network import nth_address
from tests.support.networks.billing import (
    Movement,
    movement,
    other_region,
    over_peering,
    regional,
    with_outside,
    with_processing,
    within_vpc,
)
from tests.support.networks.causes import End, Named, of_pass, of_side
from tests.support.networks.gateways import FIREWALL, PEERING, VPN, Pass, passes
from tests.support.networks.inventory import (
    EAST,
    ECHO,
    LOCAL,
    PODS,
    WEST,
    Interface,
    Inventory,
    Kind,
    Packet,
    Peer,
    peer,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

# Values of `traffic-path`.
IN_VPC = "1"
VIRTUAL_GATEWAY = "3"
PEERED = "4"
PEERING_ELSEWHERE = "5"
GATEWAY_ENDPOINT = "7"
INTERNET_GATEWAY = "8"

# If the next hop is missing, a log does not show who forwarded a packet with a public address.
_NEED_NEXT_HOP: tuple[str, ...] = ("v2", "v3", "v4", "v5")
NOBODY_KNOWS = ("*",)


class Side(NamedTuple):
    """One side of a hop, as one interface sees it.

    Attributes:
        answer: Whether the side carries the response.
        source: `srcaddr` of the line; `destination` is its `dstaddr`.
        path: `traffic-path`; empty on ingress.
        next_hop: The next hop in the log; None if the log names no next hop.
        named: The true cause and destination.
    """

    own: Interface
    answer: bool
    source: str
    destination: str
    packet: Packet
    path: str
    next_hop: Interface | None
    movement: Movement
    named: Named


@dataclass(slots=True)
class Trip:
    """The sides of a journey, added hop by hop: to the request, or to the response if `answer` is set.

    `ends` are the sender and the receiver of the request, by which causes are named.
    """

    name: str
    sides: list[Side | Pass] = field(default_factory=list)
    answer: bool = False
    ends: tuple[End, End] | None = None

    def inside(self, sender: Interface, receiver: Interface, packet: Packet, *, told: bool = True) -> None:
        """Add a hop within a VPC; `told` means that logs name the next hop."""
        seen_out = packet.destination in (receiver.address, receiver.ipv6)
        seen_in = packet.source in (sender.address, sender.ipv6)
        for own, other, direction, seen in ((sender, receiver, "out", seen_out), (receiver, sender, "in", seen_in)):
            public = _is_public_side(packet, direction)
            hidden: tuple[str, ...] = _hidden(told=told) if public and not seen else ()
            usage_type = within_vpc(own, other, direction)
            hidden = hidden if usage_type else NOBODY_KNOWS
            moved = self._moved(own, direction, other.place, usage_type, other.kind, hidden)
            moved = with_processing(moved, own, packet.destination if direction == "out" else packet.source)
            self._add(own, packet, IN_VPC, other if told else None, moved, (sender, receiver))

    def through(self, inventory: Inventory, packet: Packet, *names: str) -> None:
        """Add the records of a path through one or more transit gateways, given by attachment names."""
        assert self.ends is not None, self.name
        self.sides += passes(inventory, names, packet, self.name, of_pass(*self._way(self.ends)), answer=self.answer)

    def peered(self, sender: Interface, receiver: Interface, packet: Packet) -> None:
        """Add a hop over a peering connection. Logs do not name the next hop."""
        path = PEERED if sender.vpc.region == receiver.vpc.region else PEERING_ELSEWHERE
        ipv6 = ":" in packet.source
        for own, other, direction in ((sender, receiver, "out"), (receiver, sender, "in")):
            usage_type = over_peering(own, other, direction, ipv6=ipv6)
            hidden = () if usage_type else NOBODY_KNOWS
            moved = self._moved(own, direction, other.place, usage_type, f"peered {other.kind}", hidden)
            self._add(own, packet, path, None, moved, (sender, receiver))

    def public(self, sender: Interface, receiver: Interface) -> None:
        """Add a hop between two interfaces of the network that use public addresses."""
        here = sender.vpc.region == receiver.vpc.region
        for own, other, direction in ((sender, receiver, "out"), (receiver, sender, "in")):
            region = own.vpc.region
            usage_type = regional(region) if here else other_region(region, other.vpc.region, direction)
            moved = self._moved(own, direction, other.place, usage_type, f"public {other.kind}")
            # Each side sees its own private address and the other side's public address.
            ends = (own.address, other.public) if direction == "out" else (other.public, own.address)
            services = ("-", "EC2") if direction == "out" else ("EC2", "-")
            self._add(own, Packet(*ends, *services), INTERNET_GATEWAY, None, moved, (sender, receiver), public=True)

    def leaves(self, own: Interface, peer: Peer, path: str) -> None:
        packet = Packet(own.ipv6 if ":" in peer.address else own.address, peer.address, "-", peer.family.service)
        self._add(own, packet, path, None, self._outer(own, peer, "out", ()), (own, peer))

    def enters(self, own: Interface, peer: Peer, hidden: tuple[str, ...] = ()) -> None:
        packet = Packet(peer.address, own.ipv6 if ":" in peer.address else own.address, peer.family.service, "-")
        self._add(own, packet, "", None, self._outer(own, peer, "in", hidden), (peer, own))

    def _outer(self, own: Interface, peer: Peer, direction: str, hidden: tuple[str, ...]) -> Movement:
        usage_type = with_outside(own, peer.family, direction)
        hidden = hidden if usage_type else NOBODY_KNOWS
        return self._moved(own, direction, peer.family.location, usage_type, peer.family.name, hidden)

    def _moved(
        self, own: Interface, direction: str, far: str, usage_type: str, other: str, hidden: tuple[str, ...] = ()
    ) -> Movement:
        way = "to" if direction == "out" else "from"
        return movement(own, direction, far, usage_type, f"{self.name}: {own.kind} {way} {other}", hidden)

    def _way(self, ends: tuple[End, End]) -> tuple[End, End]:
        """Sender and receiver of the bytes that are on their way now."""
        return (ends[1], ends[0]) if self.answer else ends

    def _add(
        self,
        own: Interface,
        packet: Packet,
        path: str,
        next_hop: Interface | None,
        moved: Movement,
        hop: tuple[End, End],
        *,
        public: bool = False,
    ) -> None:
        """Add a side of a hop between two ends. The ends of the journey, if given, are those of its bytes."""
        ends = hop if self.ends is None else self._way(self.ends)
        address = own.ipv6 if ":" in packet.source else own.address
        outward = moved.direction == "out"
        self.sides.append(
            Side(
                own=own,
                answer=self.answer,
                source=address if outward else packet.source,
                destination=packet.destination if outward else address,
                packet=packet,
                path=path if outward else "",
                next_hop=next_hop,
                movement=moved,
                named=of_side(own, *ends, moved.direction, public=public),
            )
        )


def _hidden(*, told: bool) -> tuple[str, ...]:
    return _NEED_NEXT_HOP if told else (*_NEED_NEXT_HOP, "v11")


def _is_public_side(packet: Packet, direction: str) -> bool:
    """Whether the other side's address is outside the network's VPCs."""
    far = packet.destination if direction == "out" else packet.source
    return not far.startswith(("10.", "100.64.", "11.0.", "2600:1f14:", "2600:1f18:"))


# Number of different peers drawn from a family's block.
_PEERS = 900


class Journey(NamedTuple):
    """A kind of journey: `make` adds sides to a trip; `answer` is the response's part of all bytes, in percent."""

    make: Callable[[Trip, Inventory, random.Random], None]
    answer: int


def there_and_back(
    trip: Trip,
    chain: tuple[Interface, ...],
    here: str,
    there: str,
    service: str = "-",
    *,
    net: Inventory | None = None,
    gateways: tuple[str, ...] = (),
    ends: tuple[End, End] | None = None,
) -> None:
    """Add the hops of a request and its response between two addresses, along a chain of interfaces.

    Hops between two VPCs use the transit gateway attachments `gateways`. The ends are by default those of the chain.
    """
    trip.ends = ends or (chain[0], chain[-1])
    there_packet, back_packet = Packet(here, there, "-", service), Packet(there, here, service, "-")
    for packet, way in ((there_packet, chain), (back_packet, chain[::-1])):
        trip.answer = way is not chain
        for sender, receiver in pairwise(way):
            if sender.vpc.id == receiver.vpc.id:
                trip.inside(sender, receiver, packet)
        if net is not None:
            trip.through(net, packet, *(gateways[::-1] if trip.answer else gateways))


def _inside(vpc: str, *, same_zone: bool) -> Callable[[Trip, Inventory, random.Random], None]:
    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        one, other = net.pair(rng, vpc, same_zone=same_zone)
        # According to field reports, the next hop within a subnet is sometimes named and sometimes not.
        told = one.subnet.id != other.subnet.id or rng.random() < 1 / 2
        trip.inside(one, other, Packet(one.address, other.address), told=told)
        trip.answer = True
        trip.inside(other, one, Packet(other.address, one.address), told=told)

    return make


def _to(vpc: str, kind: Kind) -> Callable[[Trip, Inventory, random.Random], None]:
    """From an instance to an internal database, endpoint or load balancer."""

    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        one, other = net.some(rng, vpc), net.some(rng, vpc, kind)
        there_and_back(trip, (one, other), one.address, other.address)

    return make


def _nat(
    vpc: str, family: str, kind: Kind = Kind.NAT, role: str = ""
) -> Callable[[Trip, Inventory, random.Random], None]:
    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        through_nat(trip, net, net.some(rng, role or vpc), peer(rng, family, _PEERS), kind)

    return make


def through_nat(trip: Trip, net: Inventory, one: Interface, there: Peer, kind: Kind = Kind.NAT) -> None:
    """From an instance through the NAT gateway of its zone to a peer, and the answer."""
    gateway = net.gateway(one, kind)
    trip.ends = one, there
    trip.inside(one, gateway, Packet(one.address, there.address, "-", there.family.service))
    trip.leaves(gateway, there, INTERNET_GATEWAY)
    trip.answer = True
    trip.enters(gateway, there)
    trip.inside(gateway, one, Packet(there.address, one.address, there.family.service, "-"))


def _unasked(vpc: str, family: str) -> Callable[[Trip, Inventory, random.Random], None]:
    """Unasked packets to a NAT gateway. The gateway drops them, but its log has them as accepted."""

    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        trip.enters(net.gateway(net.some(rng, vpc), Kind.NAT), peer(rng, family, _PEERS))

    return make


def _balanced(family: str) -> Callable[[Trip, Inventory, random.Random], None]:
    """From an external client through an application load balancer to a target in any zone."""

    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        client, node = peer(rng, family, _PEERS), net.some(rng, "main", Kind.ALB, public=True)
        target = net.some(rng, "main")
        trip.enters(node, client)
        trip.inside(node, target, Packet(node.address, target.address))
        trip.answer = True
        trip.inside(target, node, Packet(target.address, node.address))
        trip.leaves(node, client, INTERNET_GATEWAY)

    return make


def _network_balanced(trip: Trip, net: Inventory, rng: random.Random) -> None:
    """From an internal client through a network load balancer in its zone to a target in any zone."""
    client, target = net.some(rng, "main"), net.some(rng, "main")
    node = net.some(rng, "main", Kind.NLB, zone=client.zone_id)
    there_and_back(trip, (client, node), client.address, node.address)
    trip.answer = False
    there_and_back(trip, (node, target), node.address, target.address)


def _client_kept(trip: Trip, net: Inventory, rng: random.Random) -> None:
    """A network load balancer that preserves client addresses: an internal one, yet the target sees a public peer."""
    node, target = net.some(rng, "main", Kind.NLB), net.some(rng, "main")
    there_and_back(trip, (target, node), target.address, peer(rng, "internet", _PEERS).address)


def _client_kept_outside(trip: Trip, net: Inventory, rng: random.Random) -> None:
    """As `_client_kept`, with an internet-facing load balancer."""
    node, target = net.some(rng, "edge", Kind.NLB, public=True), net.some(rng, "edge")
    client = peer(rng, "internet", _PEERS)
    trip.enters(node, client)
    trip.inside(node, target, Packet(client.address, target.address))
    trip.answer = True
    trip.inside(target, node, Packet(target.address, client.address))
    trip.leaves(node, client, INTERNET_GATEWAY)


def _pods(trip: Trip, net: Inventory, rng: random.Random) -> None:
    """Between pods on two instances; no interface lists the pods' addresses."""
    one, other = rng.sample([net.some(rng, PODS, zone=f"usw2-az{zone}") for zone in (1, 2, 3)], 2)
    here, there = nth_address(one.pods, rng.randrange(16)), nth_address(other.pods, rng.randrange(16))
    there_and_back(trip, (one, other), here, there)


def _local_zone(trip: Trip, net: Inventory, rng: random.Random) -> None:
    one, other = net.some(rng, LOCAL), net.some(rng, "edge")
    there_and_back(trip, (one, other), one.address, other.address)


def _transit(trip: Trip, net: Inventory, rng: random.Random) -> None:
    one, other = net.some(rng, "main"), net.some(rng, "spoke")
    chain = (one, net.gateway(one, Kind.TGW), net.gateway(other, Kind.TGW), other)
    there_and_back(trip, chain, one.address, other.address, net=net, gateways=("main", "spoke"))


def _peered_gateways(vpc: str) -> Callable[[Trip, Inventory, random.Random], None]:
    """From a VPC through two transit gateways to a VPC in another region."""

    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        one, other = net.some(rng, vpc), net.some(rng, "far")
        chain = (one, net.gateway(one, Kind.TGW), net.gateway(other, Kind.TGW), other)
        gateways = (vpc, f"{PEERING} {WEST}", f"{PEERING} {EAST}", "far")
        there_and_back(trip, chain, one.address, other.address, net=net, gateways=gateways)

    return make


def _inspected(trip: Trip, net: Inventory, rng: random.Random) -> None:
    """Between two VPCs through a firewall that is attached to the transit gateway, outside all VPCs."""
    one, other = net.some(rng, "main"), net.some(rng, "spoke")
    chain = (one, net.gateway(one, Kind.TGW), net.gateway(other, Kind.TGW), other)
    trip.answer, trip.ends = False, (one, other)
    for sender, receiver in ((chain[0], chain[1]), (chain[2], chain[3])):
        trip.inside(sender, receiver, Packet(one.address, other.address))
    trip.through(net, Packet(one.address, other.address), "main", FIREWALL, FIREWALL, "spoke")


def _vpn(trip: Trip, net: Inventory, rng: random.Random) -> None:
    """Between an instance and an on-premises network, over a VPN attachment."""
    one, there = net.some(rng, "main"), peer(rng, "on-premises", _PEERS)
    chain, ends = (one, net.gateway(one, Kind.TGW)), (one, there)
    there_and_back(trip, chain, one.address, there.address, net=net, gateways=("main", VPN), ends=ends)


def _central_egress_to(
    family: str, vpc: str = "spoke", role: str = ""
) -> Callable[[Trip, Inventory, random.Random], None]:
    """From a VPC through a transit gateway to another VPC's NAT gateway."""

    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        one, there = net.some(rng, role or vpc), peer(rng, family, _PEERS)
        near = net.gateway(one, Kind.TGW)
        far = net.some(rng, "main", Kind.TGW)
        gateway = net.gateway(far, Kind.NAT)
        chain, service = (one, near, far, gateway), there.family.service
        there_and_back(
            trip, chain, one.address, there.address, service, net=net, gateways=(vpc, "main"), ends=(one, there)
        )
        trip.answer = False
        trip.leaves(gateway, there, INTERNET_GATEWAY)
        trip.answer = True
        trip.enters(gateway, there)

    return make


def _peered(vpc: str, *, ipv6: bool = False) -> Callable[[Trip, Inventory, random.Random], None]:
    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        one, other = net.some(rng, "main"), net.some(rng, vpc)
        here, there = (one.ipv6, other.ipv6) if ipv6 else (one.address, other.address)
        trip.peered(one, other, Packet(here, there))
        trip.answer = True
        trip.peered(other, one, Packet(there, here))

    return make


def _direct(vpc: str, family: str) -> Callable[[Trip, Inventory, random.Random], None]:
    """Between an instance with a public address and an external peer."""

    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        one, there = net.some(rng, vpc, public=True), peer(rng, family, _PEERS)
        trip.leaves(one, there, INTERNET_GATEWAY)
        trip.answer = True
        trip.enters(one, there)

    return make


def _gateway_endpoint(family: str) -> Callable[[Trip, Inventory, random.Random], None]:
    """To S3 or DynamoDB through a gateway endpoint. The response could also come from a NAT gateway."""

    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        one, there = net.some(rng, "main"), peer(rng, family, _PEERS)
        trip.leaves(one, there, GATEWAY_ENDPOINT)
        trip.answer = True
        trip.enters(one, there, hidden=NOBODY_KNOWS)

    return make


def _on_premises(trip: Trip, net: Inventory, rng: random.Random) -> None:
    one, there = net.some(rng, "main"), peer(rng, "on-premises", _PEERS)
    trip.leaves(one, there, VIRTUAL_GATEWAY)
    trip.answer = True
    trip.enters(one, there)


def _elastic(trip: Trip, net: Inventory, rng: random.Random) -> None:
    """Between two instances of a region by elastic addresses, which is regional traffic, even in one zone."""
    one, other = net.some(rng, "main", public=True), net.some(rng, "carrier", public=True)
    _by_public(trip, one, other)


def _elastic_elsewhere(trip: Trip, net: Inventory, rng: random.Random) -> None:
    _by_public(trip, net.some(rng, "main", public=True), net.some(rng, "east", public=True))


def _by_public(trip: Trip, one: Interface, other: Interface) -> None:
    trip.public(one, other)
    trip.answer = True
    trip.public(other, one)


JOURNEYS: dict[str, Journey] = {
    "web": Journey(_balanced("internet"), 90),
    "cloudfront origin": Journey(_balanced("cloudfront"), 92),
    "partner over public address": Journey(_balanced("ec2-here"), 80),
    "service in zone": Journey(_inside("main", same_zone=True), 50),
    "service across zones": Journey(_inside("main", same_zone=False), 50),
    "database": Journey(_to("main", Kind.DATABASE), 70),
    "network load balancer": Journey(_network_balanced, 60),
    "client address kept": Journey(_client_kept, 20),
    "client address kept outside": Journey(_client_kept_outside, 80),
    "interface endpoint": Journey(_to("main", Kind.ENDPOINT), 30),
    "nat": Journey(_nat("main", "internet"), 80),
    "nat to other region": Journey(_nat("main", "ec2-ireland"), 30),
    "regional nat": Journey(_nat("apps", "internet", Kind.REGIONAL_NAT), 80),
    "transit gateway": Journey(_transit, 50),
    "central egress": Journey(_central_egress_to("internet"), 80),
    "peered gateways": Journey(_peered_gateways("main"), 40),
    "peered gateways from a partner": Journey(_peered_gateways("spoke"), 60),
    "inspected by a firewall": Journey(_inspected, 0),
    "vpn by gateway": Journey(_vpn, 40),
    "far across zones": Journey(_inside("far", same_zone=False), 50),
    "peering": Journey(_peered("peer"), 50),
    "peering ipv6": Journey(_peered("peer", ipv6=True), 50),
    "peering elsewhere": Journey(_peered("east"), 20),
    "public instance": Journey(_direct("main", "internet"), 30),
    "public instance ipv6": Journey(_direct("main", "internet-ipv6"), 30),
    "public instance to s3": Journey(_direct("main", "s3-here"), 50),
    "public instance to s3 elsewhere": Journey(_direct("main", "s3-east"), 10),
    "public instance to ec2": Journey(_direct("main", "ec2-here"), 50),
    "public instance to ec2 elsewhere": Journey(_direct("main", "ec2-east"), 20),
    "accelerator": Journey(_direct("main", "accelerator"), 80),
    "s3 by endpoint": Journey(_gateway_endpoint("s3-here"), 40),
    "dynamodb by endpoint": Journey(_gateway_endpoint("dynamodb-here"), 60),
    "on premises": Journey(_on_premises, 40),
    "elastic address": Journey(_elastic, 40),
    "elastic address elsewhere": Journey(_elastic_elsewhere, 40),
    "apps across zones": Journey(_inside("apps", same_zone=False), 50),
    "carrier in zone": Journey(_inside("carrier", same_zone=True), 50),
    "carrier across zones": Journey(_inside("carrier", same_zone=False), 50),
    "carrier nat": Journey(_nat("carrier", "internet"), 80),
    "carrier s3 by nat": Journey(_nat("carrier", "s3-here"), 60),
    "s3 by nat": Journey(_nat("main", "s3-here"), 60),
    "unasked at nat": Journey(_unasked("main", "internet"), 0),
    "central egress to s3": Journey(_central_egress_to("s3-here"), 60),
    "spoke across zones": Journey(_inside("spoke", same_zone=False), 50),
    "peer across zones": Journey(_inside("peer", same_zone=False), 50),
    "east across zones": Journey(_inside("east", same_zone=False), 50),
    "east public": Journey(_direct("east", "internet"), 70),
    "pods across zones": Journey(_pods, 50),
    "local zone": Journey(_local_zone, 50),
    "edge across zones": Journey(_inside("edge", same_zone=False), 50),
    "twin across zones": Journey(_inside("twin", same_zone=False), 50),
    "twin public": Journey(_direct("twin", "internet"), 20),
}


# Journeys of networks with hostile events: see `inventory.build_inventory`.
HOSTILE: dict[str, Journey] = {
    "nat by a reused address": Journey(_nat("main", "internet", role="main reused"), 80),
    "nat by an interface in no capture": Journey(_nat("main", "s3-here", role="main unseen"), 60),
    "central egress by a reused address": Journey(_central_egress_to("internet", role="spoke reused"), 80),
    "central egress by an interface in no capture": Journey(_central_egress_to("internet", role="spoke unseen"), 80),
    "central egress of a second spoke": Journey(_central_egress_to("internet", ECHO), 80),
}
