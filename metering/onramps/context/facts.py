"""Facts of a context. Named tuples, because a context holds many and writes them as JSON lists."""

from __future__ import annotations

from bisect import bisect_right
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class Vpc(NamedTuple):
    """A VPC with all of its blocks, of both families, sorted."""

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
        account_id: Its owner, who need not own the VPC.
        kind: A kind of `metering.onramps.context.interfaces`.
        addresses: Its private IPv4 addresses and its IPv6 addresses, sorted.
        prefixes: Blocks that were delegated to it, sorted: nodes of container clusters give their addresses to pods.
    """

    id: str
    account_id: str
    subnet_id: str
    kind: str
    addresses: tuple[str, ...]
    public: bool
    prefixes: tuple[str, ...] = ()


class Peering(NamedTuple):
    """An active peering of two VPCs, in the order of their ids, with the CIDR blocks of each."""

    id: str
    vpc_ids: tuple[str, str]
    regions: tuple[str, str]
    cidrs: tuple[tuple[str, ...], tuple[str, ...]]


class Attachment(NamedTuple):
    """An attachment of a transit gateway.

    Attributes:
        id: Its id. Both sides of a peering may have the same one.
        kind: Type of the attached resource, as AWS names it: `vpc`, `vpn`, `direct-connect-gateway`, `peering`, and
            others.
        owner_id: Its account; empty if that is not known. So for `gateway_owner_id`.
        peer_region: Region of the other gateway of a peering; empty for others, and if it is not known.
    """

    id: str
    gateway_id: str
    kind: str
    owner_id: str = ""
    gateway_owner_id: str = ""
    peer_region: str = ""


class MeteringRule(NamedTuple):
    """An entry of a metering policy. Empty conditions ask nothing; the lowest number that fits decides.

    Attributes:
        payer: `source-attachment-owner`, `destination-attachment-owner` or `transit-gateway-owner`.
        effective_s: When it takes effect, or ends if it was removed, in epoch seconds; 0 if AWS does not say.
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
    """The metering policy of a transit gateway, which says whom its processing is charged to.

    Attributes:
        state: As AWS says it: `available`, `pending`, `modifying`, `deleting`, `deleted`.
        effective_s: When its last change takes effect, in epoch seconds; 0 if AWS does not say.
        middleboxes: Ids of attachments that lead through appliances, sorted.
        rules: Its entries by number; None if they are not known.
    """

    id: str
    gateway_id: str
    state: str
    effective_s: int
    middleboxes: tuple[str, ...]
    rules: tuple[MeteringRule, ...] | None


class PublicAddress(NamedTuple):
    """A public IPv4 address of an account that was captured; it may be brought along, so address ranges may lack it."""

    address: str
    region: str


class Prefix(NamedTuple):
    """An address prefix of AWS. `region` is `GLOBAL` for services without one; `services` are sorted."""

    cidr: str
    region: str
    services: tuple[str, ...]


class Distribution(NamedTuple):
    """A CloudFront distribution. `log` is the metered one if both standard logs are on: `legacy` or `v2`."""

    id: str
    account_id: str
    log: str


class FlowLog(NamedTuple):
    """A flow log.

    Attributes:
        resource_id: The VPC, subnet, interface, transit gateway or regional NAT gateway that it logs.
        resource_type: Its kind, by the beginning of its id: `vpc`, `subnet`, `eni`, `tgw`, `tgw-attach`, `nat`.
        created_s: When it was created, in epoch seconds.
        fields: Names of its fields, as AWS writes them (`az-id`), in their order.
        traffic_type: `ACCEPT`, `REJECT` or `ALL`.
        destination: ARN of a bucket with a prefix, or a log group.
        destination_type: `s3`, `cloud-watch-logs` or `kinesis-data-firehose`.
        delivery_status: `SUCCESS` or `FAILED`; empty if AWS does not say.
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
    """Problems refuse a description; notes stand in its context."""

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


# Facts about an address, by the prefixes that contain it. Prefixes are nested or disjoint and never overlap partly, so
# they become disjoint intervals once, and a look-up is one `bisect`. With AWS's 17,000 prefixes it was measured at 1.7
# M look-ups/s, as fast as radix trees in C.

T = TypeVar("T")


class Address(NamedTuple):
    """An address as a number, with its family."""

    version: int
    number: int


def address_of(text: str) -> Address | None:
    """Parse an address; None of any other text."""
    try:
        if ":" in text:
            return Address(6, int.from_bytes(inet_pton(AF_INET6, text)))
        return Address(4, int.from_bytes(inet_pton(AF_INET, text)))
    except (OSError, ValueError):
        return None


class PrefixMap(Generic[T]):
    """Values of addresses, by prefixes.

    Args:
        items: CIDR blocks with their values, in any order. A block may stand there several times.
        choose: From the values of all blocks that contain an address, the widest block first, the value of the address.
    """

    __slots__ = ("_starts", "_values")

    def __init__(self, items: Iterable[tuple[str, T]], choose: Callable[[Sequence[T]], T]) -> None:
        spans: dict[int, list[tuple[int, int, T]]] = {4: [], 6: []}
        for cidr, value in items:
            network = ip_network(cidr)
            # Ends are negated, so that of blocks with the same start the widest sorts first.
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
    """Starts of disjoint intervals in order, each with its value, or None where no block is."""
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


# Addresses that no internet peer can have (RFC 6890 and RFC 4193). A VPC may use these and any other addresses, so they
# do not tell the owner of an address.
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
    """Whether an address can be one of the internet."""
    return _NOT_PUBLIC.at(address) is None


# Address ranges of AWS (ip-ranges.json), flattened: region and services of an address. The narrowest prefix decides the
# region, because some 150 prefixes are inside a prefix of another region. A prefix that is only in `AMAZON`, which
# lists nearly all prefixes, does not tell the service: the next wider prefix of the same region does.

_UMBRELLA = ("AMAZON",)


class AddressRange(NamedTuple):
    """AWS's range of an address, with the services of the prefix that decides, and of all that contain it, sorted.

    `region` is `GLOBAL` for services without one.
    """

    region: str
    services: tuple[str, ...]
    all_services: tuple[str, ...]


NOT_OF_AWS = AddressRange("", (), ())


def address_ranges(prefixes: Iterable[Prefix]) -> PrefixMap[AddressRange]:
    """Region and services of each address. Equal answers are one object."""
    known: dict[AddressRange, AddressRange] = {}

    def choose(values: Sequence[AddressRange]) -> AddressRange:
        narrowest = values[-1]
        telling = (each for each in reversed(values) if each.region == narrowest.region and each.services != _UMBRELLA)
        everything = {service for each in values for service in each.services}
        found = AddressRange(narrowest.region, next(telling, narrowest).services, tuple(sorted(everything)))
        return known.setdefault(found, found)

    return PrefixMap(((each.cidr, AddressRange(each.region, each.services, ())) for each in prefixes), choose)
