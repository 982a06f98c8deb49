"""Hops: each has two sides, and each side is a flow log line and a movement of the truth.

A line names its own side by the interface's primary private address, and the other side by the packet's address
(Logging IP traffic using VPC Flow Logs, examples of NAT gateways and transit gateways).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from tests.support.networks.billing import (
    Movement,
    movement,
    other_region,
    over_peering,
    regional,
    with_outside,
    within_vpc,
)
from tests.support.networks.gateways import passes
from tests.support.networks.topology import Packet

if TYPE_CHECKING:
    from tests.support.networks.gateways import Pass
    from tests.support.networks.inventory import Inventory
    from tests.support.networks.outside import Peer
    from tests.support.networks.topology import Interface

# Values of `traffic-path`.
IN_VPC = "1"
VIRTUAL_GATEWAY = "3"
PEERING = "4"
PEERING_ELSEWHERE = "5"
GATEWAY_ENDPOINT = "7"
INTERNET_GATEWAY = "8"

# Without the next hop, a log does not tell who forwarded a packet with a public address.
_NEED_NEXT_HOP: tuple[str, ...] = ("v2", "v3", "v4", "v5")
NOBODY_KNOWS = ("*",)


class Side(NamedTuple):
    """One interface's side of one hop.

    Attributes:
        answer: Whether the response's bytes pass here.
        source: `srcaddr` of the line; `destination` likewise.
        path: `traffic-path`; empty on ingress.
        next_hop: The next hop in the log; None if the log names none.
    """

    own: Interface
    answer: bool
    source: str
    destination: str
    packet: Packet
    path: str
    next_hop: Interface | None
    movement: Movement


@dataclass(slots=True)
class Trip:
    """The sides of a journey, added hop by hop; those of the response once `answer` is set."""

    name: str
    sides: list[Side | Pass] = field(default_factory=list)
    answer: bool = False

    def inside(self, sender: Interface, receiver: Interface, packet: Packet, *, told: bool = True) -> None:
        """A hop within a VPC; `told` says whether logs name the next hop."""
        seen_out = packet.destination in (receiver.address, receiver.ipv6)
        seen_in = packet.source in (sender.address, sender.ipv6)
        for own, other, direction, seen in ((sender, receiver, "out", seen_out), (receiver, sender, "in", seen_in)):
            public = _is_public_side(packet, direction)
            hidden: tuple[str, ...] = _hidden(told=told) if public and not seen else ()
            usage_type = within_vpc(own, other, direction)
            hidden = hidden if usage_type else NOBODY_KNOWS
            moved = self._moved(own, direction, other.place, usage_type, other.kind, hidden)
            self._add(own, packet, IN_VPC, other if told else None, moved)

    def through(self, inventory: Inventory, packet: Packet, *names: str) -> None:
        """From one attachment of a transit gateway to another, and further over peered gateways."""
        self.sides += passes(inventory, names, packet, self.name, answer=self.answer)

    def peered(self, sender: Interface, receiver: Interface, packet: Packet) -> None:
        """A hop over a peering connection. Logs name no next hop."""
        path = PEERING if sender.vpc.region == receiver.vpc.region else PEERING_ELSEWHERE
        ipv6 = ":" in packet.source
        for own, other, direction in ((sender, receiver, "out"), (receiver, sender, "in")):
            usage_type = over_peering(own, other, direction, ipv6=ipv6)
            hidden = () if usage_type else NOBODY_KNOWS
            moved = self._moved(own, direction, other.place, usage_type, f"peered {other.kind}", hidden)
            self._add(own, packet, path, None, moved)

    def public(self, sender: Interface, receiver: Interface) -> None:
        """A hop between two interfaces of this network by their public addresses."""
        here = sender.vpc.region == receiver.vpc.region
        for own, other, direction in ((sender, receiver, "out"), (receiver, sender, "in")):
            region = own.vpc.region
            usage_type = regional(region) if here else other_region(region, other.vpc.region, direction)
            moved = self._moved(own, direction, other.place, usage_type, f"public {other.kind}")
            # Each side sees its own private address and the other side's public address.
            ends = (own.address, other.public) if direction == "out" else (other.public, own.address)
            services = ("-", "EC2") if direction == "out" else ("EC2", "-")
            self._add(own, Packet(*ends, *services), INTERNET_GATEWAY, None, moved)

    def leaves(self, own: Interface, peer: Peer, path: str) -> None:
        packet = Packet(own.ipv6 if ":" in peer.address else own.address, peer.address, "-", peer.family.service)
        self._add(own, packet, path, None, self._outer(own, peer, "out", ()))

    def enters(self, own: Interface, peer: Peer, hidden: tuple[str, ...] = ()) -> None:
        packet = Packet(peer.address, own.ipv6 if ":" in peer.address else own.address, peer.family.service, "-")
        self._add(own, packet, "", None, self._outer(own, peer, "in", hidden))

    def _outer(self, own: Interface, peer: Peer, direction: str, hidden: tuple[str, ...]) -> Movement:
        usage_type = with_outside(own, peer.family, direction)
        hidden = hidden if usage_type else NOBODY_KNOWS
        return self._moved(own, direction, peer.family.location, usage_type, peer.family.name, hidden)

    def _moved(
        self, own: Interface, direction: str, far: str, usage_type: str, other: str, hidden: tuple[str, ...] = ()
    ) -> Movement:
        way = "to" if direction == "out" else "from"
        return movement(own, direction, far, usage_type, f"{self.name}: {own.kind} {way} {other}", hidden)

    def _add(self, own: Interface, packet: Packet, path: str, next_hop: Interface | None, moved: Movement) -> None:
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
            )
        )


def _hidden(*, told: bool) -> tuple[str, ...]:
    return _NEED_NEXT_HOP if told else (*_NEED_NEXT_HOP, "v11")


def _is_public_side(packet: Packet, direction: str) -> bool:
    """Whether the other side's address is in no VPC here."""
    far = packet.destination if direction == "out" else packet.source
    return not far.startswith(("10.", "100.64.", "11.0.", "2600:1f14:", "2600:1f18:"))
