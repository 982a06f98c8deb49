"""Causes of bytes: the workload on whose behalf bytes moved, their destination and their path.

A line names the cause of its own hop. At a gateway, a line only has the address of the workload. Three witnesses name
the interface at an address: the line itself (`told`), lines of that interface in the same file (`seen`), and the
inventory. If witnesses disagree, bytes are unattributed with a reason. `docs/causes.md` has all names and reasons.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from metering.hours import hour_of
from metering.onramps.context import interfaces
from metering.onramps.context.document import Address, Context, PrefixMap, address_of, is_public
from metering.onramps.rules.hop import next_hop_of
from metering.onramps.rules.hop_judge import KnownTexts, Owner
from metering.onramps.rules.knowledge import knowledge_of
from metering.units import HOUR_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from metering.onramps.context.store import Timeline
    from metering.onramps.reading import FileName, FlowHop, Shown
    from metering.onramps.reasons import Classified
    from metering.onramps.rules.hop import OwnSide
    from metering.onramps.rules.hop_judge import AddressClasses, FlowClassifier

TOLD, SEEN, INVENTORY = "told", "seen", "inventory"
PRIVATE, INTERNET, CLOUDFRONT = "private", "internet", "cloudfront"
NO_CONTEXT, PUBLIC_SIDE, SIDE_UNKNOWN, BELOW_NODE = "no_context", "public_side", "side_unknown", "below_node"
ADDRESS_UNKNOWN, AMBIGUOUS, OF_TWO, REUSED = "address_unknown", "ambiguous_address", "address_of_two", "address_reused"
INTERFACE_UNKNOWN, DIRECTION_UNKNOWN = "interface_unknown", "direction_unknown"

# Kinds of interfaces that forward bytes for others, with the name of the path.
_FORWARDING = {
    interfaces.NAT_GATEWAY: "nat_gateway",
    interfaces.TRANSIT_GATEWAY: "transit_gateway",
    interfaces.ENDPOINT: "vpc_endpoint",
    interfaces.INSPECTION_ENDPOINT: "gateway_load_balancer_endpoint",
}
_BALANCING = frozenset(
    {
        interfaces.APPLICATION_LOAD_BALANCER,
        interfaces.CLASSIC_LOAD_BALANCER,
        interfaces.NETWORK_LOAD_BALANCER,
        interfaces.GATEWAY_LOAD_BALANCER,
    }
)
# Kinds that charge for the bytes of others. What the log of a VPC has of a transit gateway is free.
_CUT = _FORWARDING.keys() - {interfaces.TRANSIT_GATEWAY}
# The packet keeps its far end beyond these next hops.
_PASSING = frozenset({interfaces.NAT_GATEWAY, interfaces.TRANSIT_GATEWAY, interfaces.INSPECTION_ENDPOINT})
_PATHS = {"3": "virtual_private_gateway", "6": "local_gateway", "7": "gateway_endpoint"}
# Rules of the hop by which bytes surely leave the VPC, so that the peer of the line is the far end.
_LEAVING = frozenset(
    {"internet", "cloudfront", "other_region", "public_address_in_region", "service_in_region", "global_service"}
)
FREE = "C3DataTransfer-"
"""In usage types of free traffic, whose causes are not cut further."""
_OUTWARD, _PEERED = "internet_gateway", "peering"
_HOURS = 4
# Number of remembered addresses.
_REMEMBERED = 200_000
_Places = tuple[tuple[str, str, str], ...]
_UMBRELLA, _INSTANCES, _GLOBAL = "AMAZON", "EC2", "GLOBAL"


class Cause(NamedTuple):
    """Cause, destination and path of bytes.

    Attributes:
        cause: Resource id of the workload; empty if the bytes are unattributed.
        destination: Name with few values: `S3.us-west-2`, `internet`, a workload or subnet of own networks; empty if
            unknown.
        basis: Witness of the cause: `told`, `seen` or `inventory`; empty if the bytes are unattributed.
        reason: Reason why the bytes are unattributed, or why the workload behind the cause is unknown.
        direction: Direction of the lines, if it differs from that of the record: processing counts both ways.
    """

    cause: str
    destination: str
    path: str
    basis: str
    reason: str
    direction: str = ""


class Ends(NamedTuple):
    """Ends of a subject's bytes, which all lines of the file together resolve to a cause.

    Attributes:
        told: Resource id of the cause; empty if `near` is the address of the cause.
        near: Address of the cause.
        far: Address of the far end; empty if unknown.
        service: Service of the far end in the log.
        destination: Name of the destination; empty if `far` decides.
        vpc_id: VPC from which the addresses are seen; `far_vpc_id` is that of the far end, if it differs.
    """

    told: str = ""
    near: str = ""
    far: str = ""
    service: str = ""
    destination: str = ""
    vpc_id: str = ""
    path: str = ""
    reason: str = ""
    far_vpc_id: str = ""


class Networks:
    """Networks of a context, indexed by address."""

    def __init__(self, context: Context) -> None:
        self.knowledge = knowledge_of(context)
        self._groups, self._holders = dict(context.groups), dict(context.holders)
        vpc_of = {each.id: each.vpc_id for each in context.subnets}
        subnets: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for subnet in context.subnets:
            subnets[subnet.vpc_id] += [(cidr, subnet.id) for cidr in subnet.cidrs]
        self._subnets = {vpc_id: PrefixMap(blocks, _narrowest) for vpc_id, blocks in subnets.items()}
        self.interfaces: dict[tuple[str, Address], str] = {}
        self._twice: set[tuple[str, Address]] = set()
        delegated: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for each in context.interfaces:
            vpc_id = vpc_of[each.subnet_id]
            delegated[vpc_id] += [(cidr, each.id) for cidr in each.prefixes]
            for address in filter(None, map(address_of, each.addresses)):
                if self.interfaces.setdefault((vpc_id, address), each.id) != each.id:
                    self._twice.add((vpc_id, address))
        self._delegated = {vpc_id: PrefixMap(blocks, _narrowest) for vpc_id, blocks in delegated.items() if blocks}
        self.named = PrefixMap(((cidr, each.name) for each in context.networks for cidr in each.cidrs), _narrowest)
        described = {account_id for account_id, _ in context.places}
        known = {vpc.id for vpc in context.vpcs}
        # Only the owner of a transit gateway sees all of its attachments. Another VPC could have the same addresses.
        self._all_joined = (
            bool(context.attachments)
            and known.issuperset(context.transit_vpcs)
            and all(each.gateway_owner_id in described for each in context.attachments)
        )

    def logged_vpc(self, log_id: str) -> str:
        """VPC that a flow log is of; empty if it is unknown, or the log is of something else."""
        log = self.knowledge.flow_logs.get(log_id)
        if log is None:
            return ""
        subnet = self.knowledge.subnets.get(log.resource_id)
        return subnet.vpc_id if subnet is not None else log.resource_id if log.resource_type == "vpc" else ""

    def joined(self, address: Address, vpc_id: str) -> tuple[str, ...]:
        """VPCs that an address may be in, as a VPC reaches it; several if that is ambiguous, empty if unknown."""
        found = self.knowledge.blocks.at(address) or ()
        if vpc_id in found:
            return (vpc_id,)
        facts = self.knowledge.vpcs.get(vpc_id)
        if facts is None:
            return ()
        others = [each for each in found if each in facts.peers]
        over_gateway = [each for each in found if facts.transit and self.knowledge.vpcs[each].transit]
        if over_gateway and not self._all_joined:
            return (*others, *over_gateway, "")
        return tuple(sorted({*others, *over_gateway}))

    def at(self, vpc_id: str, address: Address) -> tuple[str, bool]:
        """Interface at an address of a VPC, empty if unknown; and whether a node assigned the address to a pod."""
        found = self.interfaces.get((vpc_id, address), "")
        if found:
            return found, False
        blocks = self._delegated.get(vpc_id)
        node = blocks.at(address) or "" if blocks is not None else ""
        return node, bool(node)

    def is_twice(self, vpc_id: str, address: Address) -> bool:
        """Whether the inventory has several interfaces at an address."""
        return (vpc_id, address) in self._twice

    def resource(self, interface_id: str) -> str:
        """Resource that holds an interface, else the interface."""
        return self._holders.get(interface_id, interface_id)

    def group(self, interface_id: str) -> str:
        """Workload of an interface; empty if no group is known."""
        return self._groups.get(interface_id) or self._groups.get(self.resource(interface_id), "")

    def place(self, vpc_id: str, address: Address) -> tuple[str, str]:
        """Workload at an address of a VPC, and the subnet (else the VPC) of the address. Empty texts are unknown."""
        interface_id, _ = self.at(vpc_id, address)
        blocks = self._subnets.get(vpc_id)
        subnet_id = blocks.at(address) if blocks is not None else None
        return self.group(interface_id) if interface_id else "", subnet_id or vpc_id

    def is_outside(self, address: Address) -> bool:
        """Whether an address is surely in no VPC, known or unknown, unless a VPC has public addresses of others."""
        if not is_public(address) or self.knowledge.blocks.at(address):
            return False
        found = self.knowledge.ranges.at(address)
        return address.version == 4 or (
            self.knowledge.knows_ranges and _INSTANCES not in (found.services if found else ())
        )

    def public_name(self, address: Address, service: str) -> str:
        """Name of a public address; empty if the address ranges are unknown, or contradict the log."""
        if not self.knowledge.knows_ranges:
            return ""
        own_region = self.knowledge.public.get(address)
        if own_region:
            return f"{_INSTANCES}.{own_region}"
        found = self.knowledge.ranges.at(address)
        if found is None or not found.region:
            return "" if service else INTERNET
        if service and service not in found.all_services:
            return ""
        services = sorted(found.services, key=lambda each: (each == _UMBRELLA, each == _INSTANCES, each))
        name = service if service in found.services and service not in (_UMBRELLA, _INSTANCES) else services[0]
        if name.startswith("CLOUDFRONT"):
            return CLOUDFRONT
        return name if found.region == _GLOBAL else f"{name}.{found.region}"


def _narrowest(values: Sequence[str]) -> str:
    return values[-1]


@lru_cache(maxsize=4)
def networks_of(context: Context) -> Networks:
    """Index the networks of a context; the last few results are cached."""
    return Networks(context)


class _Groups:
    """Groups of addresses in some contexts: `alike` for most lines, `apart` for those of gateways."""

    def __init__(self, classes: AddressClasses | None, known: Sequence[Networks], log_id: str) -> None:
        self._told: Callable[[str], str] = str if classes is None else classes.one
        # Lines of the log of a VPC see addresses from that VPC, so other VPCs with the same addresses do not matter.
        self._known = [(each, each.logged_vpc(log_id)) for each in known]
        self._named = [each.named for each in known if len(each.named)]
        self._firsts: dict[tuple[str, _Places, tuple[str | None, ...]], str] = {}
        self.alike, self.apart = KnownTexts(self._alike), KnownTexts(self._apart)

    def _alike(self, text: str) -> str:
        told, places = self._told(text), self._places(text)
        if not places and not self._named:
            return told
        # What stands for a class of addresses may have a name of its own, so it does not stand for those without one.
        address = address_of(text)
        names = tuple(each.at(address) for each in self._named) if address is not None else ()
        return self._firsts.setdefault((told, places, names), text)

    def _apart(self, text: str) -> str:
        return text if self._places(text) else self._alike(text)

    def _places(self, text: str) -> _Places:
        """VPC, workload and subnet of an address in each VPC of each context; empty for addresses outside."""
        address = address_of(text)
        if address is None:
            return ()
        return tuple(
            (vpc_id, *each.place(vpc_id, address))
            for each, logged in self._known
            for vpc_id in (each.joined(address, logged) if logged else each.knowledge.blocks.at(address) or ())
        )


@runtime_checkable
class Naming(Protocol):
    """Classifier that can also name causes (`Causes`)."""

    def causes(self, *, later: bool) -> Causes:
        """Causes of one file; `later` means that captures of later hours take names back."""


class Causes:
    """Names the causes of one file. Groups addresses less than its classifier, so that names can tell them apart.

    Args:
        flows: Classifier of the file.
        name: Name of the file.
        timeline: Contexts of the file.
        later: Whether contexts of later hours take names back. A plan does not pin them, so only a dry run uses them.
    """

    def __init__(self, flows: FlowClassifier, name: FileName, timeline: Timeline, *, later: bool) -> None:
        self.flows = flows
        self._name = name
        self.timeline = timeline
        self._later = later
        self._hours: dict[int, Networks | None] = {}
        self._peers: dict[tuple[str, str, int], tuple[bool, str]] = {}
        self._destinations: dict[tuple[str, str, str, int], str] = {}
        self._groups: dict[tuple[tuple[int, ...], bool], _Groups] = {}
        self._numbers: dict[Ends, int] = {}
        self._numbered: list[Ends] = []
        self._resolved: dict[tuple[int, int], Cause] = {}
        # Hour, VPC and address -> interfaces whose own lines show the address; an unknown VPC is empty.
        self._shown: dict[tuple[int, Address], dict[str, bool]] = defaultdict(dict)
        self._counts: dict[tuple[int, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._own: dict[str, tuple[str, str]] = {}
        self._contested: dict[int, frozenset[tuple[str, str, str]]] = {}

    def _networks(self, hour_s: int) -> Networks | None:
        full_s = hour_of(hour_s)
        if full_s not in self._hours:
            # A context is large, and an hour needs its own and the two after it.
            if len(self._hours) >= _HOURS:
                self._hours.clear()
            context = self.timeline.at(full_s)
            self._hours[full_s] = None if context is None else networks_of(context)
        return self._hours[full_s]

    # Grouping of addresses before lines are added up (`metering.onramps.reading.Detail`).

    def alike(self, addresses: Sequence[str], hours: Iterable[int], *, directed: bool) -> Sequence[str]:
        """For each address, an address with the same verdicts and the same destination names."""
        return list(map(self._group(hours, directed=directed).alike.__getitem__, addresses))

    def apart(self, addresses: Sequence[str], hours: Iterable[int], *, directed: bool) -> Sequence[str]:
        """As `alike`, but each address of a known network stands for itself: it may be a cause."""
        return list(map(self._group(hours, directed=directed).apart.__getitem__, addresses))

    def _group(self, hours: Iterable[int], *, directed: bool) -> _Groups:
        full = tuple(sorted({hour_of(hour_s) for hour_s in hours}))
        groups = self._groups.get((full, directed))
        if groups is None or len(groups.alike) > _REMEMBERED:
            self._groups.clear()
            classes = self.flows.classes(full, directed=directed)
            groups = self._groups[full, directed] = _Groups(classes, self._each(full), self._name.source)
        return groups

    def _each(self, hours: Iterable[int]) -> list[Networks]:
        found = (self._networks(hour_s) for hour_s in sorted({hour_of(hour_s) for hour_s in hours}))
        return list(dict.fromkeys(each for each in found if each is not None))

    def forwarding(self, interface_ids: Sequence[str], hours: Iterable[int]) -> list[bool]:
        """Whether each interface forwards bytes for others, by the contexts of any of these hours."""
        known = [each.knowledge.interfaces for each in self._each(hours)]
        return [any(each in found and found[each].kind in _CUT for found in known) for each in interface_ids]

    def forwards(self, interface_types: Sequence[str]) -> list[bool]:
        """Whether interfaces of each type forward bytes for others."""
        return [interfaces.kind_of_type(each) in _CUT for each in interface_types]

    def is_known(self, interface_ids: Sequence[str], hours: Iterable[int]) -> list[bool]:
        """Whether each interface has addresses in the contexts of all of these hours."""
        known = [each.knowledge.interfaces for each in self._each(hours)]
        return [bool(known) and all(each in found for found in known) for each in interface_ids]

    # Evidence of the lines.

    def learn(self, shown: Iterable[Shown]) -> None:
        """Note which interfaces' own lines show which addresses."""
        for each in shown:
            address = address_of(each.address)
            if each.lines:
                self._counts[each.hour_s, each.interface_id][each.address] += each.lines
            elif address is not None:
                self._shown[each.hour_s, address][each.interface_id] = True

    def number(self, subject: FlowHop, hour_s: int, outcome: Classified, usage_type: str) -> int:
        """Number of the ends of a classified subject's bytes; equal ends have equal numbers."""
        ends = self.ends(subject, hour_s, outcome, usage_type)
        number = self._numbers.setdefault(ends, len(self._numbers))
        if number == len(self._numbered):
            self._numbered.append(ends)
        return number

    def ends(self, subject: FlowHop, hour_s: int, outcome: Classified, usage_type: str) -> Ends:
        """Ends of the bytes of a classified subject."""
        owner = self.flows.owner(subject, hour_s)
        if not isinstance(owner, Owner):
            return Ends(reason=INTERFACE_UNKNOWN)
        own = owner.own
        if subject.interface_id and subject.interface_id not in self._own:
            self._own[subject.interface_id] = (own.vpc_id, subject.instance_id)
        if outcome.rule == DIRECTION_UNKNOWN:
            return Ends(reason=DIRECTION_UNKNOWN)
        if own.kind in _CUT:
            return self._at_gateway(subject, own, outcome, hour_s)
        if not own.kind:
            return Ends(reason=INTERFACE_UNKNOWN)
        return self._own_hop(subject, own, outcome, hour_s, free=FREE in usage_type)

    def is_in(self, text: str, vpc_id: str, hour_s: int) -> bool:
        """Whether an address is in a block of a VPC."""
        networks, address = self._networks(hour_s), address_of(text)
        if networks is None or address is None or not vpc_id:
            return False
        return vpc_id in (networks.knowledge.blocks.at(address) or ())

    def is_outside(self, text: str, hour_s: int) -> bool:
        """Whether an address is surely in no VPC."""
        networks, address = self._networks(hour_s), address_of(text)
        return networks is not None and address is not None and networks.is_outside(address)

    def is_joined(self, text: str, vpc_id: str, hour_s: int) -> bool:
        """Whether an address is in a known network that a VPC reaches."""
        networks, address = self._networks(hour_s), address_of(text)
        return networks is not None and address is not None and bool(networks.joined(address, vpc_id))

    def _at_gateway(self, hop: FlowHop, own: OwnSide, outcome: Classified, hour_s: int) -> Ends:
        networks, path = self._networks(hour_s), _FORWARDING[own.kind]
        if networks is None:
            return Ends(path=path, reason=NO_CONTEXT)
        out = outcome.traffic.direction == "out"
        source, destination = hop.packet_source or hop.source, hop.packet_destination or hop.destination
        services = hop.source_service, hop.destination_service
        if own.kind == interfaces.ENDPOINT:
            name = networks.group(hop.interface_id) or networks.resource(hop.interface_id)
            return Ends(near=destination if out else source, destination=name, vpc_id=own.vpc_id, path=path)
        if own.kind == interfaces.NAT_GATEWAY:
            near = hop.destination if out else hop.source
            far, service = (hop.packet_source, services[0]) if out else (hop.packet_destination, services[1])
            if outcome.processed is None:
                # The far end is the peer of the line. A gateway's port mappings are in no log.
                far, service = (destination, services[1]) if out else (source, services[0])
                peer = address_of(far)
                if peer is None or not is_public(peer) or networks.knowledge.blocks.at(peer):
                    return Ends(path=path, reason=SIDE_UNKNOWN)
                return Ends(far=far, service=service, vpc_id=own.vpc_id, path=path, reason=PUBLIC_SIDE)
            return Ends(near=near, far=far, service=service, vpc_id=own.vpc_id, path=path)
        return self._between(networks, (source, services[0]), (destination, services[1]), own.vpc_id, path)

    def _between(
        self, networks: Networks, source: tuple[str, str], destination: tuple[str, str], vpc_id: str, path: str
    ) -> Ends:
        """The workload is the sender, or the receiver if the sender is surely outside."""
        for (near, _), (far, service) in ((source, destination), (destination, source)):
            address = address_of(near)
            if address is not None and networks.joined(address, vpc_id):
                return Ends(near=near, far=far, service=service, vpc_id=vpc_id, path=path)
            if address is None or not networks.is_outside(address):
                break
        return Ends(path=path, reason=ADDRESS_UNKNOWN)

    def _own_hop(self, hop: FlowHop, own: OwnSide, outcome: Classified, hour_s: int, *, free: bool) -> Ends:
        networks = self._networks(hour_s)
        told = own.resource_id
        if networks is not None and told == hop.interface_id:
            told = networks.resource(told)
        if free or own.kind == interfaces.TRANSIT_GATEWAY:
            return Ends(told=told)
        out = outcome.traffic.direction == "out"
        far, service = (
            (hop.packet_destination or hop.destination, hop.destination_service)
            if out
            else (hop.packet_source or hop.source, hop.source_service)
        )
        if networks is None:
            # Without a context, no address is known.
            return Ends(told=told, path=_PATHS.get(hop.path, ""))
        outside, kind = self._peer(far, own.vpc_id, networks)
        named = any(hop[18:])
        if named:
            kind = next_hop_of(hop, own, networks.knowledge).kind
        path = _FORWARDING.get(kind) or _PATHS.get(hop.path) or _path(outcome.rule, kind)
        if outside:
            if named and kind in _BALANCING and hop.next_hop_interface_id:
                name = networks.group(hop.next_hop_interface_id) or networks.resource(hop.next_hop_interface_id)
                return Ends(told=told, destination=name, path=path)
            if not (outcome.rule in _LEAVING or hop.path == "7" or (named and kind in _PASSING)):
                far = ""
        return Ends(told=told, far=far, service=service, vpc_id=own.vpc_id, path=path)

    def _peer(self, text: str, vpc_id: str, networks: Networks) -> tuple[bool, str]:
        """Whether an address is public and in no network that the VPC reaches; and the kind of interface at it."""
        key = (text, vpc_id, id(networks))
        found = self._peers.get(key)
        if found is None:
            if len(self._peers) >= _REMEMBERED:
                self._peers.clear()
            address, kind = address_of(text), ""
            if address is not None and vpc_id in (networks.knowledge.blocks.at(address) or ()):
                interface_id, _ = networks.at(vpc_id, address)
                kind = networks.knowledge.interfaces[interface_id].kind if interface_id else ""
            outside = address is not None and is_public(address) and not networks.joined(address, vpc_id)
            found = self._peers[key] = outside, kind
        return found

    # Names, once all lines of the file are read.

    def resolved(self, number: int, hour_s: int) -> Cause:
        """Cause of bytes in an hour, by the number of their ends. Call after all lines of the file were read."""
        found = self._resolved.get((number, hour_s))
        if found is None:
            found = self._resolved[number, hour_s] = self._cause(self._numbered[number], hour_s)
        return found

    def _cause(self, ends: Ends, hour_s: int) -> Cause:
        networks = self._networks(hour_s)
        destination = ends.destination
        if ends.far and not destination:
            key = (ends.far, ends.far_vpc_id or ends.vpc_id, ends.service, hour_s)
            known = self._destinations.get(key)
            if known is None:
                if len(self._destinations) >= _REMEMBERED:
                    self._destinations.clear()
                known = self._destinations[key] = self._destination(ends, networks, hour_s)
            destination = known
        if ends.told:
            return Cause(ends.told, destination, ends.path, TOLD, "")
        if not ends.near or networks is None:
            return Cause("", destination, ends.path, "", ends.reason or ADDRESS_UNKNOWN)
        cause, basis, reason = self._named(ends.near, ends.vpc_id, hour_s, networks)
        return Cause(cause, destination, ends.path, basis, reason)

    def _named(self, text: str, vpc_id: str, hour_s: int, networks: Networks) -> tuple[str, str, str]:
        """Resource id, basis and reason for the workload at an address."""
        address = address_of(text)
        if address is None:
            return "", "", ADDRESS_UNKNOWN
        within = networks.joined(address, vpc_id)
        if len(within) != 1:
            return "", "", AMBIGUOUS if within else ADDRESS_UNKNOWN
        found, below = networks.at(within[0], address)
        shown = self._shown_at(hour_s, within[0], address, networks)
        holders = {*shown, found} - {""}
        if len(holders) > 1 or networks.is_twice(within[0], address):
            return "", "", OF_TWO
        if not holders or (not found and not shown.get(next(iter(holders)))):
            return "", "", ADDRESS_UNKNOWN
        holder = holders.pop()
        if self._later_holders(within[0], address, hour_s) - {holder}:
            return "", "", REUSED
        resource = self._own.get(holder, ("", ""))[1] or networks.resource(holder)
        return resource, SEEN if shown.get(holder) else INVENTORY, BELOW_NODE if below and not shown else ""

    def _shown_at(self, hour_s: int, vpc_id: str, address: Address, networks: Networks) -> dict[str, bool]:
        """Interfaces that show an address of a VPC by their own lines, and whether this is certain."""
        self._count_shown()
        found = {}
        for interface_id, sure in self._shown.get((hour_s, address), {}).items():
            its_vpc = self._vpc_of(interface_id, networks)
            if its_vpc in ("", vpc_id):
                found[interface_id] = sure and bool(its_vpc)
        return found

    def _vpc_of(self, interface_id: str, networks: Networks) -> str:
        interface = networks.knowledge.interfaces.get(interface_id)
        subnet = networks.knowledge.subnets.get(interface.subnet_id) if interface is not None else None
        return subnet.vpc_id if subnet is not None else self._own.get(interface_id, ("", ""))[0]

    def _count_shown(self) -> None:
        """Of lines without a direction, the own address of an interface is in all lines of the interface."""
        for (hour_s, interface_id), counts in self._counts.items():
            lines = counts.pop("", 0)
            always = [address for text, count in counts.items() if count >= lines and (address := address_of(text))]
            for address in always:
                self._shown[hour_s, address].setdefault(interface_id, len(always) == 1)
        self._counts.clear()

    def _later_holders(self, vpc_id: str, address: Address, hour_s: int) -> set[str]:
        """Interfaces at an address by the captures of this hour and the next: a capture is for the hour after it."""
        if not self._later:
            return set()
        later = self._each((hour_s + HOUR_S, hour_s + 2 * HOUR_S))
        return {each.at(vpc_id, address)[0] for each in later} - {""}

    def _destination(self, ends: Ends, networks: Networks | None, hour_s: int) -> str:
        address = address_of(ends.far)
        if address is None or networks is None:
            return ""
        within = networks.joined(address, ends.far_vpc_id or ends.vpc_id)
        if len(within) == 1:
            group, subnet_id = networks.place(within[0], address)
            if group and (within[0], group, subnet_id) not in self._contested_in(hour_s, networks):
                return group
            return subnet_id
        if within:
            return ""
        public = is_public(address)
        if not public and networks.knowledge.blocks.at(address):
            return ""
        return networks.named.at(address) or (networks.public_name(address, ends.service) if public else PRIVATE)

    def _contested_in(self, hour_s: int, networks: Networks) -> frozenset[tuple[str, str, str]]:
        """Workloads with their VPC and subnet of which an address may have changed hands in the hour.

        Lines are added up by workload and subnet, so one such address makes all of them uncertain.
        """
        known = self._contested.get(hour_s)
        if known is not None:
            return known
        found = set()
        self._count_shown()
        for at_s, address in self._shown:
            for vpc_id in networks.knowledge.blocks.at(address) or () if at_s == hour_s else ():
                holder, _ = networks.at(vpc_id, address)
                if holder and set(self._shown_at(hour_s, vpc_id, address, networks)) - {holder}:
                    found.add((vpc_id, *networks.place(vpc_id, address)))
        for later in self._each((hour_s + HOUR_S, hour_s + 2 * HOUR_S)) if self._later else ():
            for (vpc_id, address), holder in networks.interfaces.items() if later is not networks else ():
                if later.interfaces.get((vpc_id, address), holder) != holder:
                    found.add((vpc_id, *networks.place(vpc_id, address)))
        self._contested[hour_s] = frozenset(found)
        return self._contested[hour_s]


def _path(rule: str, kind: str) -> str:
    if rule in _LEAVING:
        return _OUTWARD
    if rule.startswith("peered"):
        return _PEERED
    return "load_balancer" if kind in _BALANCING else "vpc"
