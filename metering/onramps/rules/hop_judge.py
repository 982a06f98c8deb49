"""Classifies hops by one context and one version of AWS's rules: the first matching rule decides.

The classifier is called for each distinct subject of a block. Results are cached by own side and facts about the peer,
because a file has few interfaces, and most peers are alike.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from metering.hours import hour_of
from metering.onramps.context.document import Address, address_of, is_public
from metering.onramps.context.interfaces import NAT_GATEWAY
from metering.onramps.reasons import Classified, LineReason, Outcome, Processed, Refused, Shadowed, Traffic
from metering.onramps.rules.hop import Hop, OwnSide, Peer, kind_in, next_hop_of, own_side, peer_of, zone_in
from metering.onramps.rules.knowledge import Knowledge, knowledge_of
from metering.usage.usage_types import UNKNOWN, usage_type_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from metering.onramps.context import store
    from metering.onramps.reading import FileName, FlowHop

# The rules of a hop: ordered data in `hop_rules.json`. The first matching rule applies. To change the rules, change the
# file and its version: a plan states the version with which its file was judged.


class HopRule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule.

    Attributes:
        when: Conditions, all of which must hold.
        peer: Location of the other side: a zone, the own or the peer's region, or a name of the contract.
        usage: Usage type without billing prefix, `{way}` being `Out` or `In`; empty if the contract's table decides.
        reason: Reason why the traffic is unclassified; empty if the traffic is classified.
        service: AWS product code under which the traffic is billed; empty for the code of the own interface.
    """

    name: str
    when: tuple[str, ...]
    peer: str
    source: str
    usage: str = ""
    reason: str = ""
    service: str = ""


class ProcessingRule(msgspec.Struct, frozen=True, kw_only=True):
    """Charge for each byte that an interface of a kind processes, in addition to the hop.

    Attributes:
        kind: Kind of the interface.
        usage: Usage type without billing prefix.
        service: AWS product code under which the processing is billed.
    """

    name: str
    kind: str
    usage: str
    service: str
    source: str


class FreeKinds(msgspec.Struct, frozen=True, kw_only=True):
    """Kinds whose hops inside a VPC are free in all zones: `any` over IPv4 and IPv6, `ipv4` over IPv4 only."""

    any: frozenset[str]
    ipv4: frozenset[str]


class HopRules(msgspec.Struct, frozen=True, kw_only=True):
    """All rules, and the kinds of interfaces that the rules distinguish.

    Attributes:
        rules: The rules in order. The last rule always matches.
        processing: What interfaces charge for processing; at most one rule for each kind.
        charged_across_zones: Interface kinds: a hop between zones is charged if both sides are of these kinds.
        elb_kinds: Kinds that belong to the service AWSELB.
        peering_apart_from: Hour from which AWS bills peering between zones under separate usage types.
    """

    version: str
    peering_apart_from: datetime
    free_across_zones: FreeKinds
    charged_across_zones: frozenset[str]
    elb_kinds: frozenset[str]
    processing: tuple[ProcessingRule, ...]
    rules: tuple[HopRule, ...]

    def processing_at(self, own: OwnSide) -> ProcessingRule | None:
        """Charge for processing at an interface; None if nothing is charged, or (in Local Zones) no rule is known."""
        return None if own.local else next((each for each in self.processing if each.kind == own.processor), None)

    @property
    def peering_apart_from_s(self) -> int:
        return int(self.peering_apart_from.timestamp())


@cache
def hop_rules() -> HopRules:
    """The rules of this release."""
    return msgspec.json.decode(
        resources.files("metering.onramps.rules").joinpath("hop_rules.json").read_bytes(), type=HopRules
    )


# Conditions of the rules of a hop, by their names in `hop_rules.json`. A condition is met only if it is known to be
# true. So no rule depends on missing data, and no condition can mean `not known`.

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
    return not hop_rules().free_across_zones.any.isdisjoint((hop.own.kind, hop.kind))


def _load_balancer_side(hop: Hop) -> bool:
    return not hop_rules().free_across_zones.ipv4.isdisjoint((hop.own.kind, hop.kind))


def _charged_sides(hop: Hop) -> bool:
    return hop_rules().charged_across_zones.issuperset((hop.own.kind, hop.kind))


def _peered(hop: Hop) -> bool:
    return not hop.within_vpc and (bool(hop.other_vpc_id) or (not hop.next_hop.named and hop.path in ("4", "5")))


def _hop_inside_region(hop: Hop) -> bool:
    return hop.within_vpc or (hop.next_hop.named and hop.region == hop.own.region) or hop.path in ("1", "4")


def _behind_transit_gateway(hop: Hop) -> bool:
    """Whether the own VPC and a VPC of the peer have transit gateways, and no private NAT gateway forwards inside."""
    own = hop.own_vpc
    if own is None or hop.next_hop.named or hop.peer is None or not (own.transit and own.seen_inside):
        return False
    return not own.hands_on and any(hop.knowledge.vpcs[each].transit for each in hop.peer.vpc_ids)


def _is_instance(hop: Hop) -> bool:
    if hop.peer is None or hop.service not in ("", *_INSTANCES):
        return False
    return hop.peer.own_public or ("EC2" in hop.peer.services and _INSTANCES.issuperset(hop.peer.services))


def _contradicts(hop: Hop) -> bool:
    """Whether the log names a service for the peer's address, but the address ranges name only other services."""
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


# Maximum number of entries in each cache, about 50 MB. When a cache is full, it is emptied.
_REMEMBERED = 100_000
_VPCS = 200
_DIRECTIONS = {"egress": "out", "ingress": "in"}
DIRECTION_UNKNOWN = "direction_unknown"
"""Rule and reason of lines that do not say which way their bytes went."""


class Owner(NamedTuple):
    """An interface of lines. `place` holds all that rules use except account and id; many interfaces share a place."""

    own: OwnSide
    place: OwnSide
    number: int
    processing: ProcessingRule | None


class HopJudge:
    """Classifies hops by one context."""

    def __init__(self, name: FileName, knowledge: Knowledge, *, peering_billed_apart: bool) -> None:
        self.knowledge = knowledge
        self._peering_billed_apart = peering_billed_apart
        self._name = name
        # By VPC and address. Many addresses have equal peers, so equal peers share one object.
        self._peers: dict[str, dict[str, Peer]] = {}
        self._same_peers: dict[Peer, Peer] = {}
        self._outcomes: dict[tuple[object, ...], Outcome] = {}
        self._alike: dict[tuple[object, ...], Classified] = {}
        self._owners = 0

    def owner(self, subject: FlowHop) -> Owner | Refused:
        """Owner of a line, from its first ten fields."""
        own = own_side(subject, self._name, self.knowledge)
        self._owners += 1
        if isinstance(own, Refused):
            return own
        # Rules need to know whether an interface has addresses, but not the addresses themselves.
        addresses = frozenset((Address(4, 0),)) if own.addresses else own.addresses
        place = own._replace(account_id="", resource_id="", addresses=addresses)
        return Owner(own, place, self._owners, hop_rules().processing_at(own))

    def outcome(self, owner: Owner, subject: FlowHop) -> Outcome:
        own, place, number, _ = owner
        processed = self._processed(owner, subject)
        direction = _DIRECTIONS.get(subject.flow_direction) or self._direction_of(subject, own)
        if direction == "out":
            text, service = subject.destination or subject.packet_destination, subject.destination_service
            path = subject.path
        elif direction == "in":
            text, service, path = subject.source or subject.packet_source, subject.source_service, ""
        else:
            return _without_direction(own)._replace(processed=processed)
        peer = self._peer(own.vpc_id, text) if text else None
        if peer is None and text:
            return Refused(LineReason.INVALID_ADDRESS, f"{text[:60]!r} is no address")
        # Subject fields from index 18 belong to the next hop.
        key = (number, direction, id(peer), path, service, subject[18:], processed)
        outcome = self._outcomes.get(key)
        if outcome is None:
            if len(self._outcomes) >= _REMEMBERED:
                self._outcomes.clear()
            alike = self._judged((place, direction, id(peer), path, service, subject[18:]), subject, peer)
            outcome = self._outcomes[key] = alike._replace(
                traffic=alike.traffic._replace(account_id=own.account_id, resource_id=own.resource_id),
                processed=processed,
            )
        return outcome

    def _processed(self, owner: Owner, subject: FlowHop) -> Processed | None:
        rule, own = owner.processing, owner.own
        if rule is None or (own.kind == NAT_GATEWAY and not self._on_private_side(own, subject)):
            return None
        usage_type = usage_type_of(own.region, rule.usage).usage_type
        place = own.region
        return Processed(
            Traffic(own.account_id, rule.service, own.resource_id, "out", place, place, usage_type), rule.name
        )

    def _on_private_side(self, own: OwnSide, subject: FlowHop) -> bool:
        """Whether a line of a NAT gateway is surely one of the side of the workloads.

        On this side a packet has the address of the far end where the line has the gateway's. On the other side, both
        have the gateway's, and the log also has, as accepted, unasked packets that the gateway drops.
        """
        ends = (subject.source, subject.packet_source), (subject.destination, subject.packet_destination)
        if any(packet for _, packet in ends):
            return any(self._is_far_end(own.vpc_id, *end) for end in ends)
        # The other side of a private gateway may be any private address.
        peers = [self._peer(own.vpc_id, text) if text else None for text, _ in ends]
        return own.public is True and all(peer is not None and peer.in_own_vpc for peer in peers)

    def _is_far_end(self, vpc_id: str, line: str, packet: str) -> bool:
        """Whether the packet's address surely differs from each address of the gateway; a line names only the first."""
        one, other = self._peer(vpc_id, line) if line else None, self._peer(vpc_id, packet) if packet else None
        if one is None or other is None or one == other:
            return False
        facts = self.knowledge.vpcs.get(vpc_id)
        if facts is None or facts.zones is None:
            return other.public and not one.public
        return not other.in_own_vpc

    def _judged(
        self, key: tuple[OwnSide, str, int, str, str, tuple[str, ...]], subject: FlowHop, peer: Peer | None
    ) -> Classified:
        """Classify the hop of any interface with this place; account and id stay empty."""
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
            # Outcomes are cached by the identity of peer objects, so the peer objects are kept: one per distinct peer,
            # and there are fewer peers than addresses.
            peer = peers[text] = self._same_peers.setdefault(peer, peer)
        return peer

    def _direction_of(self, subject: FlowHop, own: OwnSide) -> str:
        """Direction by the owners of the addresses; empty if inconclusive.

        The own side of a line has an address of the interface. For an unknown interface, the side in the VPC is the own
        side if the other side is public and in no VPC.
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
    """Classify the hop by the first rule whose conditions all hold."""
    rule = next(each for each in hop_rules().rules if all(CONDITIONS[name](hop) for name in each.when))
    way = "Out" if hop.out else "In"
    usage_type = usage_type_of(hop.own.region, rule.usage.format(way=way)).usage_type if rule.usage else ""
    traffic = _traffic(hop.own, _far(rule.peer, hop), usage_type, out=hop.out)
    if rule.service:
        traffic = traffic._replace(service=rule.service)
    return Classified(traffic, rule.name, rule.reason)


def _without_direction(own: OwnSide) -> Classified:
    # A record has a direction, but this usage type has none. This is intended: these bytes are counted but not rated.
    usage_type = usage_type_of(own.region, "Unclassified-Regional-Bytes").usage_type
    return Classified(_traffic(own, UNKNOWN, usage_type, out=True), DIRECTION_UNKNOWN, DIRECTION_UNKNOWN)


def _traffic(own: OwnSide, far: str, usage_type: str, *, out: bool) -> Traffic:
    near = _place(own.region, own.zone_id)
    return Traffic(
        account_id=own.account_id,
        service="AWSELB" if own.kind in hop_rules().elb_kinds else "AmazonEC2",
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


# Groups addresses that the judge of flow logs cannot distinguish, so that a reader can sum their lines before judging.
# Most internet peers are in one group, and so are most addresses of one subnet. A judge uses only the address
# properties that are compared here, so a group has one result. A test compares both ways over whole networks. In a
# measurement, a million lines with 40,000 addresses gave about ten thousand subjects, not several hundred thousand.


# Addresses that are remembered. A full cache is emptied; this only costs time.
_REMEMBERED_ROWS = 200_000


class KnownTexts(dict[str, str]):
    """Texts by text, such as alike addresses by address. A known text is found without a Python call."""

    def __init__(self, first: Callable[[str], str]) -> None:
        super().__init__()
        self._first = first

    def __missing__(self, text: str) -> str:
        found = self[text] = self._first(text)
        return found


class AddressClasses:
    """Classes of addresses with equal treatment in several contexts.

    If some lines lack a direction, interfaces' own addresses determine it, so each such address is a separate class.
    """

    def __init__(self, knowledges: Iterable[Knowledge], *, directed: bool) -> None:
        self._knowledges = tuple(knowledges)
        self._own: frozenset[Address | None] = frozenset()
        if not directed:
            self._own = frozenset(
                address_of(text)
                for knowledge in self._knowledges
                for interface in knowledge.interfaces.values()
                for text in interface.addresses
            )
        self._firsts: dict[Hashable, str] = {}
        self._known = KnownTexts(self._first)

    def alike(self, addresses: Sequence[str]) -> list[str]:
        """For each address, return the representative of its class."""
        if len(self._known) > _REMEMBERED_ROWS:
            self._known.clear()
            self._firsts.clear()
        return list(map(self._known.__getitem__, addresses))

    def one(self, address: str) -> str:
        """The representative of an address's class."""
        return self._known[address]

    def _first(self, text: str) -> str:
        address = address_of(text)
        if address is None or address in self._own:
            return text
        key = (address.version, is_public(address), *(_asked(address, each) for each in self._knowledges))
        return self._firsts.setdefault(key, text)


def _asked(address: Address, knowledge: Knowledge) -> Hashable:
    """All facts about an address that affect its verdict: see `peer_of`, and the directions of `flow_classifier`."""
    vpc_ids = knowledge.blocks.at(address) or ()
    inside = tuple((zone_in(address, each, knowledge), kind_in(address, each, knowledge)) for each in vpc_ids)
    return vpc_ids, inside, knowledge.ranges.at(address), knowledge.public.get(address, "")


# A file usually covers an hour or two. If a file's lines cover many hours, it is judged correctly, but more slowly.
_HOURS = 48
_CONTEXTS = 4
_OWNERS = 50_000
# If more than this many contexts judge a block's hours, the addresses of the block are not grouped.
_TOLD_APART = 2


class FlowClassifier:
    """Classifies hops, each by the context of its hour. Only one thread uses the classifier of a file."""

    def __init__(self, name: FileName, timeline: store.Timeline) -> None:
        self._name = name
        self._timeline = timeline
        self._hours: dict[int, _HourJudge] = {}
        self._judges: dict[tuple[int, bool], HopJudge] = {}
        self._classes: dict[tuple[frozenset[int], bool], AddressClasses] = {}

    def outcome(self, subject: FlowHop, hour_s: int) -> Outcome:
        judge = self._hours.get(hour_s)
        if judge is None:
            judge = self._begin(hour_s)
        return judge.outcome(subject)

    def owner(self, subject: FlowHop, hour_s: int) -> Owner | Refused | Shadowed:
        """Owner of a line in an hour, or the reason why its bytes are not metered here."""
        return (self._hours.get(hour_s) or self._begin(hour_s)).owner(subject)

    def alike(self, addresses: Sequence[str], hours: Iterable[int], *, directed: bool) -> Sequence[str]:
        """For each address, return an address with the same verdicts in all of these hours (`Folding`)."""
        classes = self.classes(hours, directed=directed)
        return addresses if classes is None else classes.alike(addresses)

    def classes(self, hours: Iterable[int], *, directed: bool) -> AddressClasses | None:
        """Classes of addresses in these hours; None if too many contexts judge them."""
        full = sorted({hour_of(hour) for hour in hours})
        # Contexts are counted by name only, because loading a context takes a second, and the cache holds only a few.
        if len(self._timeline.pins(full)) > _TOLD_APART:
            return None
        knowledges = {id(each): each for each in (knowledge_of(self._timeline.at(hour_s)) for hour_s in full)}
        key = (frozenset(knowledges), directed)
        classes = self._classes.get(key)
        if classes is None:
            if len(self._classes) >= _CONTEXTS:
                self._classes.clear()
            classes = self._classes[key] = AddressClasses(knowledges.values(), directed=directed)
        return classes

    def _begin(self, hour_s: int) -> _HourJudge:
        if len(self._hours) >= _HOURS:
            self._hours.clear()
        knowledge = knowledge_of(self._timeline.at(hour_of(hour_s)))
        apart = hour_s >= hop_rules().peering_apart_from_s
        judge = self._judges.get((id(knowledge), apart))
        if judge is None:
            if len(self._judges) >= _CONTEXTS:
                self._hours.clear()
                self._judges.clear()
            judge = HopJudge(self._name, knowledge, peering_billed_apart=apart)
            self._judges[id(knowledge), apart] = judge
        hour = self._hours[hour_s] = _HourJudge(judge, self._name.source, hour_s)
        return hour


class _HourJudge:
    """Decides which log has the authority in one hour; all else is left to the classifier of the hour's context."""

    def __init__(self, judge: HopJudge, log_id: str, hour_s: int) -> None:
        self._judge = judge
        self._log_id = log_id
        self._hour_s = hour_s
        # A line's own side -> its owner, or the reason why its bytes are not metered here.
        self._known: dict[tuple[str, ...], Owner | Refused | Shadowed] = {}

    def outcome(self, subject: FlowHop) -> Outcome:
        known = self.owner(subject)
        return self._judge.outcome(known, subject) if isinstance(known, Owner) else known

    def owner(self, subject: FlowHop) -> Owner | Refused | Shadowed:
        told = subject[:10]
        known = self._known.get(told)
        if known is None:
            if len(self._known) >= _OWNERS:
                self._known.clear()
            known = self._known[told] = self._shadow(subject) or self._judge.owner(subject)
        return known

    def _shadow(self, subject: FlowHop) -> Shadowed | None:
        """The other log that has the authority over the line's interface; None without such a log."""
        knowledge = self._judge.knowledge
        if knowledge.authorities is None or not self._log_id:
            return None
        # The log's resource covers each line of the log, even for an interface that is not known yet.
        log = knowledge.flow_logs.get(self._log_id)
        own = {log.resource_type: log.resource_id} if log is not None else {}
        if subject.interface_id:
            interface = knowledge.interfaces.get(subject.interface_id)
            subnet_id = subject.subnet_id or (interface.subnet_id if interface is not None else own.get("subnet", ""))
            subnet = knowledge.subnets.get(subnet_id)
            vpc_id = subject.vpc_id or (subnet.vpc_id if subnet is not None else own.get("vpc", ""))
            resources: tuple[str, ...] = (subject.interface_id, subnet_id, vpc_id)
        else:
            # A regional NAT gateway has its own log and no interface.
            resources = (subject.resource_id or own.get("nat", ""),)
        authority = knowledge.authorities.over(resources, self._hour_s)
        return None if authority is None or authority.id == self._log_id else Shadowed(authority.id)
