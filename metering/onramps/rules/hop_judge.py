"""Judge of hops against one context, at one time of AWS's rules: the first rule that holds decides.

It is called for each distinct subject of a block. What it works out is remembered by the own side and by what is known
of the peer, because a file has few interfaces, and most of its peers are alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metering.onramps.context.prefixes import Address, address_of, is_public
from metering.onramps.reasons import LineReason
from metering.onramps.rules.conditions import CONDITIONS
from metering.onramps.rules.hop import Hop
from metering.onramps.rules.hop_rules import hop_rules
from metering.onramps.rules.other_side import next_hop_of, peer_of
from metering.onramps.rules.own_side import OwnSide, own_side
from metering.onramps.traffic import Classified, Refused, Traffic
from metering.usage.locations import UNKNOWN
from metering.usage.usage_types import usage_type_of

if TYPE_CHECKING:
    from metering.onramps.names import FileName
    from metering.onramps.observations import FlowHop
    from metering.onramps.rules.knowledge import Knowledge
    from metering.onramps.rules.other_side import Peer
    from metering.onramps.traffic import Outcome

# Entries of each memory, which is emptied when it is full: about 50 MB each at most.
_REMEMBERED = 100_000
_VPCS = 200
_DIRECTIONS = {"egress": "out", "ingress": "in"}
DIRECTION_UNKNOWN = "direction_unknown"
"""Rule and reason of lines that do not say which way their bytes went."""


class Owner(NamedTuple):
    """An interface that lines are of.

    Attributes:
        own: What is known of it.
        place: The same without whose it is: many interfaces have one place, and rules ask for no more.
        number: Its own within a judge.
    """

    own: OwnSide
    place: OwnSide
    number: int


class HopJudge:
    """Judges hops against one context.

    Args:
        name: What the file's name says.
        knowledge: What the context knows.
        peering_billed_apart: Whether AWS bills peering between zones under usage types of its own then.
    """

    def __init__(self, name: FileName, knowledge: Knowledge, *, peering_billed_apart: bool) -> None:
        self.knowledge = knowledge
        self._peering_billed_apart = peering_billed_apart
        self._name = name
        # By VPC and address. Peers are few, and their addresses many: equal peers are one object.
        self._peers: dict[str, dict[str, Peer]] = {}
        self._same_peers: dict[Peer, Peer] = {}
        self._outcomes: dict[tuple[object, ...], Outcome] = {}
        self._alike: dict[tuple[object, ...], Classified] = {}
        self._owners = 0

    def owner(self, subject: FlowHop) -> Owner | Refused:
        """Whose a line is, by the ten fields that say it."""
        own = own_side(subject, self._name, self.knowledge)
        self._owners += 1
        if isinstance(own, Refused):
            return own
        # Rules ask whether an interface has addresses, and not for them.
        addresses = frozenset((Address(4, 0),)) if own.addresses else own.addresses
        return Owner(own, own._replace(account_id="", resource_id="", addresses=addresses), self._owners)

    def outcome(self, owner: Owner, subject: FlowHop) -> Outcome:
        """Judge a hop of an owner."""
        own, place, number = owner
        direction = _DIRECTIONS.get(subject.flow_direction) or self._direction_of(subject, own)
        if direction == "out":
            text, service = subject.destination or subject.packet_destination, subject.destination_service
            path = subject.path
        elif direction == "in":
            text, service, path = subject.source or subject.packet_source, subject.source_service, ""
        else:
            return _without_direction(own)
        peer = self._peer(own.vpc_id, text) if text else None
        if peer is None and text:
            return Refused(LineReason.INVALID_ADDRESS, f"{text[:60]!r} is no address")
        # The fields from 18 on are those of the next hop.
        key = (number, direction, id(peer), path, service, subject[18:])
        outcome = self._outcomes.get(key)
        if outcome is None:
            if len(self._outcomes) >= _REMEMBERED:
                self._outcomes.clear()
            alike = self._judged((place, direction, id(peer), path, service, subject[18:]), subject, peer)
            outcome = self._outcomes[key] = alike._replace(
                traffic=alike.traffic._replace(account_id=own.account_id, resource_id=own.resource_id)
            )
        return outcome

    def _judged(
        self, key: tuple[OwnSide, str, int, str, str, tuple[str, ...]], subject: FlowHop, peer: Peer | None
    ) -> Classified:
        """The hop of some interface of a place; whose it is stays empty."""
        found = self._alike.get(key)
        if found is None:
            if len(self._alike) >= _REMEMBERED:
                self._alike.clear()
            place, direction, _, path, service, _ = key
            hop = Hop(
                own=place,
                out=direction == "out",
                path=path,
                peer=peer,
                next_hop=next_hop_of(subject, place, self.knowledge),
                service=service,
                knowledge=self.knowledge,
                peering_billed_apart=self._peering_billed_apart,
            )
            found = self._alike[key] = judged(hop)
        return found

    def _peer(self, vpc_id: str, text: str) -> Peer | None:
        peers = self._peers.get(vpc_id)
        if peers is None:
            if len(self._peers) >= _VPCS:
                self._peers.clear()
            peers = self._peers[vpc_id] = {}
        peer = peers.get(text)
        if peer is None:
            address = address_of(text)
            if address is None:
                return None
            if len(peers) >= _REMEMBERED:
                peers.clear()
            peer = peer_of(address, vpc_id, self.knowledge)
            # Outcomes are remembered by the identity of peers, so these are kept: there are as many as there are
            # different answers, and not as many as there are addresses.
            peer = peers[text] = self._same_peers.setdefault(peer, peer)
        return peer

    def _direction_of(self, subject: FlowHop, own: OwnSide) -> str:
        """Direction by whose address is whose; empty if that says nothing.

        A line has an address of the interface itself on its own side. Where the interface is not known, the side that
        is in the VPC is the own one, if the other side is a public address and no VPC's.
        """
        source, destination = address_of(subject.source), address_of(subject.destination)
        if source is None or destination is None:
            return ""
        if own.addresses:
            inside = source in own.addresses, destination in own.addresses
        else:
            inside = self._is_inside(source, destination, own.vpc_id), self._is_inside(destination, source, own.vpc_id)
        if inside[0] == inside[1]:
            return ""
        return "out" if inside[0] else "in"

    def _is_inside(self, address: Address, other: Address, vpc_id: str) -> bool:
        blocks = self.knowledge.blocks
        return vpc_id in (blocks.at(address) or ()) and is_public(other) and not blocks.at(other)


def judged(hop: Hop) -> Classified:
    """The hop by the first rule whose conditions all hold."""
    rule = next(each for each in hop_rules().rules if all(CONDITIONS[name](hop) for name in each.when))
    way = "Out" if hop.out else "In"
    usage_type = usage_type_of(hop.own.region, rule.usage.format(way=way)).usage_type if rule.usage else ""
    traffic = _traffic(hop.own, _far(rule.peer, hop), usage_type, out=hop.out)
    if rule.service:
        traffic = traffic._replace(service=rule.service)
    return Classified(traffic, rule.name, rule.reason)


def _without_direction(own: OwnSide) -> Classified:
    # A record has a direction, and this usage type has none. Both are by intent: the bytes are counted, and not rated.
    usage_type = usage_type_of(own.region, "Unclassified-Regional-Bytes").usage_type
    return Classified(_traffic(own, UNKNOWN, usage_type, out=True), DIRECTION_UNKNOWN, DIRECTION_UNKNOWN)


def _traffic(own: OwnSide, far: str, usage_type: str, *, out: bool) -> Traffic:
    near = _place(own.region, own.zone_id)
    return Traffic(
        account_id=own.account_id,
        service="AWSELB" if own.kind in hop_rules().load_balancers else "AmazonEC2",
        resource_id=own.resource_id,
        direction="out" if out else "in",
        from_location=near if out else far,
        to_location=far if out else near,
        usage_type=usage_type,
    )


def _far(peer: str, hop: Hop) -> str:
    if peer in ("zone", "zone_or_region"):
        return _place(hop.region or hop.own.region, hop.zone_id)
    if peer == "region":
        return hop.own.region
    return hop.region if peer == "peer_region" else peer


def _place(region: str, zone_id: str) -> str:
    return f"{region}/{zone_id}" if zone_id else region
