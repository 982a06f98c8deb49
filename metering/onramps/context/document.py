"""A context: inventory, address ranges and flow logs at one time, as one immutable document.

The name of a context is the SHA-256 of its canonical JSON, so `gunzip -c FILE | sha256sum` checks a file. Facts are
named tuples, because a context holds many of them and writes them as JSON lists.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from metering.errors import MeteringError
from metering.units import HOUR_S


class Vpc(NamedTuple):
    """A VPC with all of its IPv4 and IPv6 blocks, sorted."""

    id: str
    account_id: str
    region: str
    cidrs: tuple[str, ...]


class Subnet(NamedTuple):
    """A subnet. `zone_id` is a zone id such as `use1-az2`, never a zone name."""

    id: str
    vpc_id: str
    zone_id: str
    cidrs: tuple[str, ...]


class Interface(NamedTuple):
    """A network interface.

    Attributes:
        account_id: Account that owns the interface; another account may own the VPC.
        kind: A kind of `metering.onramps.context.interfaces`.
        addresses: Private IPv4 addresses and IPv6 addresses of the interface, sorted.
        prefixes: Delegated prefixes, sorted: nodes of container clusters assign addresses from them to pods.
    """

    id: str
    account_id: str
    subnet_id: str
    kind: str
    addresses: tuple[str, ...]
    public: bool
    prefixes: tuple[str, ...] = ()


class Holder(NamedTuple):
    """Resource that holds an interface: an instance, a gateway, an endpoint, a load balancer."""

    interface_id: str
    resource_id: str


class Group(NamedTuple):
    """Workload of an interface or of a resource: `ecs:prod/indexer`, `asg:ci-runners`, `lambda:thumbnails`."""

    id: str
    workload: str


class Network(NamedTuple):
    """Destination that people know by a name, such as a service of others, with its CIDR blocks."""

    name: str
    cidrs: tuple[str, ...]


class Peering(NamedTuple):
    """An active peering of two VPCs, sorted by id, with the CIDR blocks of each VPC."""

    id: str
    vpc_ids: tuple[str, str]
    regions: tuple[str, str]
    cidrs: tuple[tuple[str, ...], tuple[str, ...]]


class Attachment(NamedTuple):
    """An attachment of a transit gateway.

    Attributes:
        id: Its id. Both sides of a peering may have the same id.
        kind: Type of the attached resource, in AWS's terms: `vpc`, `vpn`, `direct-connect-gateway`, `peering`, and
            others.
        owner_id: Account of the attached resource; empty if unknown. So for `gateway_owner_id`.
        peer_region: Region of the peer gateway; empty if unknown, or not a peering.
    """

    id: str
    gateway_id: str
    kind: str
    owner_id: str = ""
    gateway_owner_id: str = ""
    peer_region: str = ""


class MeteringRule(NamedTuple):
    """An entry of a metering policy. Empty conditions match all traffic; the lowest matching entry decides.

    Attributes:
        payer: `source-attachment-owner`, `destination-attachment-owner` or `transit-gateway-owner`.
        effective_s: Time when the entry takes effect, or ends if it was removed, in epoch seconds; 0 if unknown.
    """

    number: int
    payer: str
    effective_s: int
    removed: bool
    source_id: str = ""
    source_kind: str = ""
    source_cidr: str = ""
    source_ports: str = ""
    destination_id: str = ""
    destination_kind: str = ""
    destination_cidr: str = ""
    destination_ports: str = ""
    protocol: str = ""


class MeteringPolicy(NamedTuple):
    """Metering policy of a transit gateway, which decides who pays for the gateway's processing.

    Attributes:
        state: As AWS says it: `available`, `pending`, `modifying`, `deleting`, `deleted`.
        effective_s: Time when the policy's last change takes effect, in epoch seconds; 0 if unknown.
        middleboxes: Ids of the middlebox (appliance) attachments, sorted.
        rules: Entries of the policy, by number; None if unknown.
    """

    id: str
    gateway_id: str
    state: str
    effective_s: int
    middleboxes: tuple[str, ...]
    rules: tuple[MeteringRule, ...] | None


class PublicAddress(NamedTuple):
    """Public IPv4 address of a captured account; AWS's address ranges may lack the address, because it may be BYOIP."""

    address: str
    region: str


class Prefix(NamedTuple):
    """An address prefix of AWS. `region` is `GLOBAL` for services without a region; `services` are sorted."""

    cidr: str
    region: str
    services: tuple[str, ...]


class Distribution(NamedTuple):
    """A CloudFront distribution. `log` names the metered standard log if both logs are on: `legacy` or `v2`."""

    id: str
    account_id: str
    log: str


class FlowLog(NamedTuple):
    """A flow log.

    Attributes:
        resource_id: Logged VPC, subnet, interface, transit gateway or regional NAT gateway.
        resource_type: Resource kind, by the prefix of its id: `vpc`, `subnet`, `eni`, `tgw`, `tgw-attach`, `nat`.
        created_s: Time when the flow log was created, in epoch seconds.
        fields: Names of the logged fields, as AWS writes them (`az-id`), in file order.
        traffic_type: `ACCEPT`, `REJECT` or `ALL`.
        destination: ARN of a bucket with a prefix, or a log group.
        destination_type: `s3`, `cloud-watch-logs` or `kinesis-data-firehose`.
        delivery_status: `SUCCESS` or `FAILED`; empty if unknown.
    """

    id: str
    resource_id: str
    resource_type: str
    created_s: int
    fields: tuple[str, ...]
    traffic_type: str
    destination: str
    destination_type: str
    account_id: str
    region: str
    delivery_status: str = ""


MAX_PROBLEMS = 20
MAX_NOTES = 100


class Findings:
    """Findings about a description: problems cause its rejection; notes are stored in the resulting context."""

    def __init__(self) -> None:
        self._problems: list[str] = []
        self._notes: set[str] = set()

    def problem(self, text: str) -> None:
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(text)

    def note(self, text: str) -> None:
        self._notes.add(text)

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(self._problems)

    @property
    def notes(self) -> tuple[str, ...]:
        notes = sorted(self._notes)
        if len(notes) <= MAX_NOTES:
            return tuple(notes)
        return (*notes[:MAX_NOTES], f"{len(notes) - MAX_NOTES:,} more notes were left out")

    def network(self, text: str, owner: str) -> IPv4Network | IPv6Network | None:
        """Parse a CIDR block of `owner`; None with a problem if it is invalid."""
        try:
            return ip_network(text)
        except ValueError:
            self.problem(f"{owner} has {text[:60]!r}, which is no CIDR block")
            return None

    def address(self, text: str, owner: str) -> IPv4Address | IPv6Address | None:
        """Parse an address of `owner`; None with a problem if it is invalid."""
        try:
            return ip_address(text)
        except ValueError:
            self.problem(f"{owner} has {text[:60]!r}, which is no address")
            return None


# Facts about an address, looked up by the prefixes that contain the address. Prefixes never overlap partly: they are
# nested or disjoint. So prefixes are converted to disjoint intervals once, and a look-up is one `bisect`. With AWS's
# 17,000 prefixes, 1.7 M look-ups/s were measured, as many as with radix trees written in C.

T = TypeVar("T")


class Address(NamedTuple):
    """An address as a number, with its family."""

    version: int
    number: int


def address_of(text: str) -> Address | None:
    """Parse an IP address; None for any other text."""
    try:
        if ":" in text:
            return Address(6, int.from_bytes(inet_pton(AF_INET6, text)))
        return Address(4, int.from_bytes(inet_pton(AF_INET, text)))
    except (OSError, ValueError):
        return None


class PrefixMap(Generic[T]):
    """Maps addresses to values by CIDR prefixes.

    Args:
        items: CIDR blocks with their values, in any order. A block may occur several times.
        choose: Chooses an address's value from the values of all blocks containing the address, widest block first.
    """

    __slots__ = ("_starts", "_values")

    def __init__(self, items: Iterable[tuple[str, T]], choose: Callable[[Sequence[T]], T]) -> None:
        spans: dict[int, list[tuple[int, int, T]]] = {4: [], 6: []}
        for cidr, value in items:
            network = ip_network(cidr)
            # Ends are negated, so that among blocks with the same start, the widest sorts first.
            spans[network.version].append((int(network.network_address), -int(network.broadcast_address) - 1, value))
        self._starts: dict[int, list[int]] = {}
        self._values: dict[int, list[T | None]] = {}
        for version, found in spans.items():
            found.sort(key=lambda span: span[:2])
            self._starts[version], self._values[version] = _flattened(found, choose)

    def __len__(self) -> int:
        return sum(value is not None for values in self._values.values() for value in values)

    def at(self, address: Address) -> T | None:
        """Value of an address; None if no block contains it."""
        index = bisect_right(self._starts[address.version], address.number) - 1
        return self._values[address.version][index] if index >= 0 else None


def _flattened(
    spans: Iterable[tuple[int, int, T]], choose: Callable[[Sequence[T]], T]
) -> tuple[list[int], list[T | None]]:
    """Starts of disjoint intervals in order, each with its value, or None outside of all blocks."""
    starts: list[int] = []
    values: list[T | None] = []
    open_spans: list[tuple[int, T]] = []

    def begin(start: int) -> None:
        value = choose([value for _, value in open_spans]) if open_spans else None
        if starts and starts[-1] == start:
            values[-1] = value
        else:
            starts.append(start)
            values.append(value)

    def close(before: int) -> None:
        while open_spans and open_spans[-1][0] <= before:
            end, _ = open_spans.pop()
            begin(end)

    for start, negative_end, value in spans:
        close(start)
        open_spans.append((-negative_end, value))
        begin(start)
    close(1 << 129)
    return starts, values


# Addresses that no internet peer can have (RFC 6890 and RFC 4193). A VPC may use these and any other addresses, so an
# address does not show its owner.
_NOT_PUBLIC: PrefixMap[bool] = PrefixMap(
    (
        (cidr, True)
        for cidr in (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/3"),
            *("::/8", "64:ff9b::/96", "64:ff9b:1::/48", "fc00::/7", "fe80::/10", "ff00::/8"),
        )
    ),
    lambda values: values[-1],
)


def is_public(address: Address) -> bool:
    """Whether an address can be a public internet address."""
    return _NOT_PUBLIC.at(address) is None


# Address ranges of AWS (ip-ranges.json), flattened: they show the region and the services of an address. The narrowest
# prefix decides the region, because some 150 prefixes are inside a prefix of another region. `AMAZON` lists nearly all
# prefixes, so a prefix only in `AMAZON` does not show the service: the next wider one of the same region does.

_UMBRELLA = ("AMAZON",)


class AddressRange(NamedTuple):
    """AWS's range of an address: sorted services of the deciding prefix, and of all prefixes that contain the address.

    `region` is `GLOBAL` for services without a region.
    """

    region: str
    services: tuple[str, ...]
    all_services: tuple[str, ...]


NOT_OF_AWS = AddressRange("", (), ())


def address_ranges(prefixes: Iterable[Prefix]) -> PrefixMap[AddressRange]:
    """Region and services of each address. Addresses with equal values share one object."""
    known: dict[AddressRange, AddressRange] = {}

    def choose(values: Sequence[AddressRange]) -> AddressRange:
        narrowest = values[-1]
        telling = (each for each in reversed(values) if each.region == narrowest.region and each.services != _UMBRELLA)
        everything = {service for each in values for service in each.services}
        found = AddressRange(narrowest.region, next(telling, narrowest).services, tuple(sorted(everything)))
        return known.setdefault(found, found)

    return PrefixMap(((each.cidr, AddressRange(each.region, each.services, ())) for each in prefixes), choose)


SCHEMA = "metering.context/1"


class ContextUnreadableError(MeteringError):
    """A stored object is not a context, or its content does not match its name."""


class _Document(msgspec.Struct, kw_only=True, frozen=True, gc=False, omit_defaults=True):
    """The JSON of a context. Lists are sorted, so that equal contexts have equal bytes.

    New members need a default, so that older contexts keep their bytes and names.
    """

    schema: str
    effective_s: int
    accounts: tuple[str, ...]
    places: tuple[tuple[str, str], ...]
    vpcs: tuple[Vpc, ...]
    subnets: tuple[Subnet, ...]
    interfaces: tuple[Interface, ...]
    peerings: tuple[Peering, ...]
    transit_vpcs: tuple[str, ...]
    public_addresses: tuple[PublicAddress, ...]
    flow_logs: tuple[FlowLog, ...]
    buckets: tuple[tuple[str, str], ...]
    prefixes: tuple[Prefix, ...]
    notes: tuple[str, ...]
    bucket_owners: tuple[tuple[str, str], ...] = ()
    distributions: tuple[Distribution, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    metering_policies: tuple[MeteringPolicy, ...] = ()
    policy_places: tuple[tuple[str, str], ...] = ()
    holders: tuple[Holder, ...] = ()
    groups: tuple[Group, ...] = ()
    networks: tuple[Network, ...] = ()


_decode = msgspec.json.Decoder(_Document).decode
# Members of a context that are keyed by id, and members that are pairs of a name and a text.
_BY_ID = ("flow_logs", "distributions")
_PAIRS = ("buckets", "bucket_owners")


# Contexts are compared and cached by identity, because they are large and a store returns one object per version.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Context:
    """Networks, address ranges and flow logs at one time. `context_of` creates a context from a description.

    Attributes:
        effective_s: Hour from which the context holds, in epoch seconds.
        vpcs: VPCs, sorted; subnets, interfaces, attachments and policies are also sorted.
        flow_logs: Flow logs by id, of all kinds and destinations.
        buckets: Region of each known bucket; `bucket_owners` has the accounts.
        prefixes: Address prefixes of AWS; empty if unknown.
        policy_places: Account and region of each capture that lists all metering policies: gateways missing there have
            no policy.
        holders: Resources that hold interfaces, by interface; `groups` has workloads by interface or resource. Contexts
            of earlier releases have neither.
        networks: Destinations that people named, by the book of owners at the time of the capture.
    """

    sha256: str
    effective_s: int
    accounts: frozenset[str] = frozenset()
    places: tuple[tuple[str, str], ...] = ()
    vpcs: tuple[Vpc, ...] = ()
    subnets: tuple[Subnet, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    peerings: tuple[Peering, ...] = ()
    transit_vpcs: tuple[str, ...] = ()
    public_addresses: tuple[PublicAddress, ...] = ()
    flow_logs: Mapping[str, FlowLog] = field(default_factory=dict)
    buckets: Mapping[str, str] = field(default_factory=dict)
    prefixes: tuple[Prefix, ...] = ()
    notes: tuple[str, ...] = ()
    bucket_owners: Mapping[str, str] = field(default_factory=dict)
    distributions: Mapping[str, Distribution] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    metering_policies: tuple[MeteringPolicy, ...] = ()
    policy_places: tuple[tuple[str, str], ...] = ()
    holders: tuple[Holder, ...] = ()
    groups: tuple[Group, ...] = ()
    networks: tuple[Network, ...] = ()

    def encode(self) -> bytes:
        """Canonical JSON of the context: equal contexts have equal bytes."""
        return msgspec.json.encode(_document(self))

    @staticmethod
    def decode(body: bytes) -> Context:
        """Decode a context from canonical JSON; the inverse of `encode`.

        Raises:
            ContextUnreadableError: The body is not a context, or has a schema unknown to this release.
        """
        try:
            document = _decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ContextUnreadableError(f"it is no context: {error}") from error
        if document.schema != SCHEMA:
            raise ContextUnreadableError(f"its schema is {document.schema[:60]!r}, and this release knows {SCHEMA}")
        return _context(document, hashlib.sha256(body).hexdigest())

    def named(self) -> Context:
        """The same context, named by the hash of its content."""
        document = _document(self)
        return _context(document, hashlib.sha256(msgspec.json.encode(document)).hexdigest())

    def says_the_same(self, other: Context) -> bool:
        """Whether both contexts hold the same facts, regardless of their hours."""
        return msgspec.structs.replace(_document(self), effective_s=0) == msgspec.structs.replace(
            _document(other), effective_s=0
        )


def _document(context: Context) -> _Document:
    listed: dict[str, Any] = {
        name: getattr(context, name) for name in _Document.__struct_fields__ if name not in ("schema", *_BY_ID, *_PAIRS)
    }
    listed |= {name: tuple(each for _, each in sorted(getattr(context, name).items())) for name in _BY_ID}
    listed |= {name: tuple(sorted(getattr(context, name).items())) for name in _PAIRS}
    return _Document(schema=SCHEMA, **listed | {"accounts": tuple(sorted(context.accounts))})


def _context(document: _Document, sha256: str) -> Context:
    known: dict[str, Any] = {name: getattr(document, name) for name in document.__struct_fields__ if name != "schema"}
    known |= {name: MappingProxyType({each.id: each for each in known[name]}) for name in _BY_ID}
    known |= {name: MappingProxyType(dict(known[name])) for name in _PAIRS}
    return Context(sha256=sha256, **known | {"accounts": frozenset(document.accounts)})


# Authority: which flow log counts if several flow logs record the same interface. Of the logs that deliver to S3 and
# see a resource in an hour, the broadest log has authority, then the log with the most informative fields, then the
# oldest log. Authority is decided for whole hours: a log is considered from the first full hour after its creation,
# unless no other log existed at the start of the hour. A log has no records before its creation. For those hours, files
# of a log that was deleted since and is in no context count.


# The broadest first. A regional NAT gateway has its own log, which no VPC's log covers. Neither log contains what the
# logs of a transit gateway or its attachments contain.
_BREADTH = {"vpc": 0, "subnet": 1, "eni": 2, "nat": 3, "tgw": 4, "tgw-attach": 5}
_TELLING = frozenset(
    (
        *(
            "flow-direction",
            "traffic-path",
            "az-id",
            "vpc-id",
            "subnet-id",
            "instance-id",
            "region",
            "sublocation-type",
        ),
        *("pkt-srcaddr", "pkt-dstaddr", "pkt-src-aws-service", "pkt-dst-aws-service", "resource-id", "interface-type"),
        *("next-hop-interface-id", "next-hop-az-id", "next-hop-vpc-id", "next-hop-interface-type"),
    )
)


class Overlap(NamedTuple):
    """Flow log with the authority over a resource that other logs also see.

    If the authority is not ingested, traffic seen only by `shadowed` logs is not metered.
    """

    authority: str
    shadowed: tuple[str, ...]


class Authorities:
    """Finds the flow log with the authority over a resource in an hour."""

    def __init__(self, context: Context) -> None:
        self._logs: dict[str, list[FlowLog]] = defaultdict(list)
        for log in context.flow_logs.values():
            if log.destination_type == "s3" and log.traffic_type != "REJECT" and log.resource_type in _BREADTH:
                self._logs[log.resource_id].append(log)
        self._subnets = {subnet.id: (subnet.id, subnet.vpc_id) for subnet in context.subnets}
        # Keeps only interfaces that have their own log, which are few.
        self._interfaces = {
            each.id: (each.id, *self._subnets[each.subnet_id]) for each in context.interfaces if each.id in self._logs
        }

    def over(self, resource_ids: Iterable[str], hour_s: int) -> FlowLog | None:
        """Flow log with the authority over a resource in an hour, by ids that contain the resource; None if unknown."""
        known = (log for resource_id in resource_ids for log in self._logs.get(resource_id, ()))
        seen = [log for log in known if log.created_s < hour_s + HOUR_S]
        there = [log for log in seen if log.created_s <= hour_s] or seen
        return min(there, key=_rank, default=None)

    def overlaps(self, hour_s: int) -> tuple[Overlap, ...]:
        """Logs that have the authority over resources that other logs also see, by id of the log.

        A broader log sees all traffic that a narrower log sees, so only resources named by logs are checked.
        """
        shadowed: dict[str, set[str]] = defaultdict(set)
        for resource_id in self._logs:
            ids = self._interfaces.get(resource_id) or self._subnets.get(resource_id) or (resource_id,)
            seen = {log.id for each in ids for log in self._logs.get(each, ())}
            authority = self.over(ids, hour_s)
            if authority is not None and len(seen) > 1:
                shadowed[authority.id] |= seen - {authority.id}
        return tuple(Overlap(each, tuple(sorted(shadowed[each]))) for each in sorted(shadowed))


def _rank(log: FlowLog) -> tuple[int, int, int, str]:
    return _BREADTH[log.resource_type], -len(_TELLING.intersection(log.fields)), log.created_s, log.id
