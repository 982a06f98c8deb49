"""The network for all tests and demonstrations: two accounts, two regions, nine VPCs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_network
from typing import TYPE_CHECKING, NamedTuple

from metering.replay.network import made_id, nth_address

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator


class Kind(StrEnum):
    """Kind of a network interface, by what uses the interface."""

    INSTANCE = "instance"
    DATABASE = "database"
    NAT = "nat gateway"
    REGIONAL_NAT = "regional nat gateway"
    ALB = "application load balancer"
    NLB = "network load balancer"
    TGW = "transit gateway"
    ENDPOINT = "interface endpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """A subnet of a VPC, in one zone.

    Attributes:
        zone_name: Name of the zone, which differs by account.
        ipv6: First address of the IPv6 block; empty if absent.
    """

    id: str
    zone_id: str
    zone_name: str
    cidr: str
    ipv6: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vpc:
    name: str
    id: str
    account_id: str
    region: str
    cidrs: tuple[str, ...]
    ipv6_cidr: str
    subnets: tuple[Subnet, ...]


class Interface(NamedTuple):
    """A network interface, or the part of a regional NAT gateway in one zone (such a gateway has no interface).

    Attributes:
        account_id: The interface's owner, not always the owner of the VPC.
        resource_id: Id of the gateway if it has no interface; else empty.
        pods: Address block for pods (prefix delegation); empty if absent.
        told_account_id: The account in logs: AWS reports `unknown` for some interfaces that it created itself.
        holder: Resource that holds the interface, as descriptions tell it; `group` is the workload that tags or
            descriptions tell. Empty if unknown.
        life: `first` or `second` if the interface has its address only before, or only after, it changes hands;
            `unseen` if no capture has the interface.
    """

    id: str
    kind: Kind
    account_id: str
    vpc: Vpc
    subnet: Subnet
    address: str
    ipv6: str = ""
    public: str = ""
    instance_id: str = ""
    resource_id: str = ""
    pods: str = ""
    told_account_id: str = ""
    holder: str = ""
    group: str = ""
    life: str = ""

    @property
    def zone_id(self) -> str:
        return self.subnet.zone_id

    @property
    def local(self) -> bool:
        """Whether the interface is in a Local Zone."""
        return "-az" not in self.subnet.zone_id[:8]

    @property
    def place(self) -> str:
        return f"{self.vpc.region}/{self.subnet.zone_id}"

    @property
    def log_resource(self) -> str:
        """The resource on a bill: the instance or the gateway if there is one, else the interface."""
        return self.instance_id or self.resource_id or self.id


class Packet(NamedTuple):
    """Addresses of a packet, and the AWS services that a version 5 log names for them."""

    source: str
    destination: str
    source_service: str = "-"
    destination_service: str = "-"


class Family(NamedTuple):
    """A kind of external peer, with its address blocks. `service`: AWS service name in a version 5 log, or `-`."""

    name: str
    location: str
    service: str
    blocks: tuple[str, ...]


class Peer(NamedTuple):
    family: Family
    address: str


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("internet", "internet", "-", ("81.2.0.0/16", "91.198.0.0/17", "185.60.0.0/18")),
        Family("internet-ipv6", "internet", "-", ("2a0b:4140::/48",)),
        Family("cloudfront", "cloudfront", "CLOUDFRONT", ("64.252.64.0/18",)),
        Family("ec2-here", "us-west-2", "EC2", ("52.36.0.0/15",)),
        Family("ec2-east", "us-east-1", "EC2", ("3.80.0.0/13", "52.40.16.0/20")),
        Family("ec2-ireland", "eu-west-1", "EC2", ("34.240.0.0/14",)),
        Family("s3-here", "us-west-2", "S3", ("52.218.128.0/18", "52.92.0.0/19")),
        Family("s3-east", "us-east-1", "S3", ("3.5.0.0/20",)),
        Family("dynamodb-here", "us-west-2", "DYNAMODB", ("52.119.224.0/22",)),
        Family("amazon-here", "us-west-2", "AMAZON", ("52.94.210.0/24",)),
        Family("accelerator", "unknown", "GLOBALACCELERATOR", ("13.248.0.0/19",)),
        Family("on-premises", "unknown", "-", ("192.168.40.0/22", "172.20.0.0/20")),
    )
}

# Prefix, region, services. EC2 of us-west-2 contains a us-east-1 block; S3 is within EC2; one block is not in AMAZON.
_RANGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("52.32.0.0/11", "us-west-2", ("AMAZON", "EC2")),
    ("52.40.16.0/20", "us-east-1", ("AMAZON", "EC2")),
    ("52.218.128.0/17", "us-west-2", ("AMAZON", "S3", "EC2")),
    ("52.92.0.0/18", "us-west-2", ("AMAZON", "S3")),
    ("52.119.224.0/21", "us-west-2", ("AMAZON", "DYNAMODB")),
    ("52.94.208.0/20", "us-west-2", ("AMAZON",)),
    ("44.242.0.0/24", "us-west-2", ("API_GATEWAY",)),
    ("3.80.0.0/12", "us-east-1", ("AMAZON", "EC2")),
    ("3.5.0.0/19", "us-east-1", ("AMAZON", "S3", "EC2")),
    ("34.240.0.0/13", "eu-west-1", ("AMAZON", "EC2")),
    ("64.252.64.0/18", "GLOBAL", ("AMAZON", "CLOUDFRONT", "CLOUDFRONT_ORIGIN_FACING")),
    ("13.248.0.0/18", "GLOBAL", ("AMAZON", "GLOBALACCELERATOR")),
)
_RANGES_IPV6: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("2600:1f14::/36", "us-west-2", ("AMAZON", "EC2")),
    ("2600:1f18::/36", "us-east-1", ("AMAZON", "EC2")),
    ("2600:9000::/28", "GLOBAL", ("AMAZON", "CLOUDFRONT")),
)
# Public addresses of this network's interfaces are in ranges of EC2, separate from those of other customers.
OWN_PUBLIC = {"us-west-2": "52.34.0.0/20", "us-east-1": "3.92.0.0/20"}


def peer(rng: random.Random, family: str, most: int) -> Peer:
    """A random peer of a family, one of `most` addresses in each block."""
    chosen = FAMILIES[family]
    return Peer(chosen, nth_address(rng.choice(chosen.blocks), 5 + 7 * rng.randrange(most)))


def ip_ranges() -> dict[str, object]:
    return {
        "syncToken": "1790000000",
        "createDate": "2026-09-21-14-13-20",
        "prefixes": [{"ip_prefix": prefix, **rest} for prefix, rest in _entries(_RANGES)],
        "ipv6_prefixes": [{"ipv6_prefix": prefix, **rest} for prefix, rest in _entries(_RANGES_IPV6)],
    }


def _entries(ranges: tuple[tuple[str, str, tuple[str, ...]], ...]) -> list[tuple[str, dict[str, str]]]:
    return [
        (prefix, {"region": region, "service": service, "network_border_group": region})
        for prefix, region, services in ranges
        for service in services
    ]


# The first account id begins with a zero, so as a number it would have eleven digits.
OWNER = "012345678901"
PARTNER = "444455556666"
WEST = "us-west-2"
EAST = "us-east-1"
_ZONE_IDS = {WEST: "usw2-az", EAST: "use1-az"}
_ZONES = 3
# Zone names are shuffled per account: a zone id has another letter in the other account.
_LETTERS = {OWNER: "abc", PARTNER: "cab"}
_SUBNET_BITS = 4
_UNTOLD = "unknown"
# Instances that only some journeys use: some have pods, and some are in a Local Zone.
PODS, LOCAL = "pods", "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outline:
    account_id: str
    region: str
    cidr: str
    ipv6_cidr: str = ""
    second_cidr: str = ""
    tiers: tuple[str, ...] = ("private", "public")
    local: bool = False


_OUTLINES = {
    "main": _Outline(
        account_id=OWNER,
        region=WEST,
        cidr="10.0.0.0/16",
        ipv6_cidr="2600:1f14:abc:de00::/56",
        tiers=("private", "public", "data"),
    ),
    "apps": _Outline(account_id=OWNER, region=WEST, cidr="10.4.0.0/16"),
    "carrier": _Outline(account_id=OWNER, region=WEST, cidr="100.64.0.0/16", second_cidr="11.0.0.0/20"),
    "peer": _Outline(account_id=PARTNER, region=WEST, cidr="10.1.0.0/16", ipv6_cidr="2600:1f14:def:1200::/56"),
    "spoke": _Outline(account_id=PARTNER, region=WEST, cidr="10.2.0.0/16"),
    "east": _Outline(account_id=OWNER, region=EAST, cidr="10.3.0.0/16"),
    # The same addresses as in `main`, without a route to them: an address alone does not identify its owner.
    "twin": _Outline(account_id=PARTNER, region=EAST, cidr="10.0.0.0/16"),
    # This VPC has an internet-facing load balancer, and a subnet in a Local Zone.
    "edge": _Outline(account_id=OWNER, region=WEST, cidr="10.5.0.0/16", local=True),
    # This VPC is reached over two peered gateways.
    "far": _Outline(account_id=PARTNER, region=EAST, cidr="10.6.0.0/16"),
}

# A VPC that has addresses of `spoke`, behind the same transit gateway.
ECHO = "echo"
_ECHO = _Outline(account_id=PARTNER, region=WEST, cidr="10.2.32.0/20", tiers=("private",))

# Interfaces that AWS makes: VPC, kind, tier, zones. Gateways in public subnets have a public address.
_GATEWAYS: tuple[tuple[str, Kind, str, tuple[int, ...]], ...] = (
    ("main", Kind.NAT, "public", (1, 2)),
    ("main", Kind.ALB, "public", (1, 2)),
    ("main", Kind.NLB, "private", (1, 2, 3)),
    ("main", Kind.TGW, "private", (1, 2)),
    ("main", Kind.ENDPOINT, "private", (1, 2)),
    ("main", Kind.DATABASE, "data", (1, 2)),
    ("apps", Kind.REGIONAL_NAT, "public", (1, 2, 3)),
    ("carrier", Kind.NAT, "public", (1,)),
    ("spoke", Kind.TGW, "private", (1, 2, 3)),
    ("east", Kind.DATABASE, "private", (2,)),
    ("edge", Kind.NLB, "public", (1, 2)),
    ("far", Kind.TGW, "private", (1, 2)),
)
_PUBLIC_KINDS = frozenset((Kind.NAT, Kind.ALB, Kind.REGIONAL_NAT))
_UNKNOWN_KINDS = frozenset((Kind.NLB, Kind.ENDPOINT))


@dataclass(slots=True)
class Inventory:
    """All VPCs and interfaces of a network, with an index by VPC and kind."""

    seed: int
    vpcs: dict[str, Vpc] = field(default_factory=dict)
    interfaces: list[Interface] = field(default_factory=list)
    _by_role: dict[tuple[str, Kind, bool], list[Interface]] = field(default_factory=dict)
    _public_addresses: dict[str, int] = field(default_factory=dict)

    def some(
        self, rng: random.Random, vpc: str, kind: Kind = Kind.INSTANCE, *, public: bool = False, zone: str = ""
    ) -> Interface:
        """A random interface of a kind in a VPC; `public` requires a public address, `zone` a zone id."""
        return rng.choice([each for each in self._by_role[vpc, kind, public] if not zone or each.zone_id == zone])

    def pair(self, rng: random.Random, vpc: str, *, same_zone: bool) -> tuple[Interface, Interface]:
        """Two private instances of a VPC, in one zone or in two."""
        while True:
            one, other = self.some(rng, vpc), self.some(rng, vpc)
            if one is not other and (one.zone_id == other.zone_id) is same_zone:
                return one, other

    def gateway(self, near: Interface, kind: Kind) -> Interface:
        """The gateway interface for an instance's packets: an interface in the same zone, else the first interface."""
        gateways = self._by_role[near.vpc.name, kind, kind in _PUBLIC_KINDS]
        return next((each for each in gateways if each.zone_id == near.zone_id), gateways[0])

    def add(
        self,
        vpc: str,
        kind: Kind,
        subnet: Subnet,
        *,
        public: bool = False,
        account_id: str = "",
        role: str = "",
        address: str = "",
        life: str = "",
    ) -> Interface:
        """Make an interface. With a `role`, only journeys that ask for this role use the interface."""
        owner, number = self.vpcs[vpc], len(self.interfaces)
        regional = kind is Kind.REGIONAL_NAT
        holder, group = _owned(self.seed, vpc, kind, number, role)
        made = Interface(
            id="-" if regional else made_id("eni", self.seed, number),
            kind=kind,
            account_id=account_id or owner.account_id,
            vpc=owner,
            subnet=subnet,
            address=address or nth_address(subnet.cidr, 10 + number),
            ipv6=nth_address(f"{subnet.ipv6}/64", 0x1000 + number) if subnet.ipv6 else "",
            public=self._next_public(owner.region) if public else "",
            instance_id=made_id("i", self.seed, number) if kind is Kind.INSTANCE else "",
            resource_id=made_id("nat", self.seed, vpc) if regional else "",
            pods=f"{nth_address(subnet.cidr, 2_048 + 16 * (number % 120))}/28" if role == PODS else "",
            told_account_id=_UNTOLD if kind in _UNKNOWN_KINDS else account_id or owner.account_id,
            holder=holder,
            group=group,
            life=life,
        )
        self.interfaces.append(made)
        self._by_role.setdefault((role or vpc, kind, public), []).append(made)
        return made

    def _next_public(self, region: str) -> str:
        number = self._public_addresses[region] = self._public_addresses.get(region, 10) + 1
        return nth_address(OWN_PUBLIC[region], number)


# Workloads of instances: a third of them has only a name.
_GROUPS = ("", "asg:{}-web", "asg:{}-jobs")
_BALANCERS = {Kind.ALB: "app/web/50dc6c495c0c9188", Kind.NLB: "net/internal/8d4fbf2a7a1c2f3e"}
ENDPOINT_SERVICE = "com.amazonaws.us-west-2.sqs"


def _owned(seed: int, vpc: str, kind: Kind, number: int, role: str) -> tuple[str, str]:
    """Holder and group of an interface."""
    if kind is Kind.INSTANCE:
        group = "eks:prod/blue" if role == PODS else _GROUPS[number % len(_GROUPS)].format(vpc)
        return made_id("i", seed, number), group
    if kind in _BALANCERS:
        return _BALANCERS[kind], f"elb:{_BALANCERS[kind].rpartition('/')[0]}"
    if kind is Kind.NAT:
        return made_id("nat", seed, number), ""
    if kind is Kind.ENDPOINT:
        return made_id("vpce", seed, vpc), f"endpoint:{ENDPOINT_SERVICE}"
    return "", ""


def _add_hostile(inventory: Inventory) -> None:
    """Addresses that change hands, interfaces in no capture, and two spokes with the same addresses."""
    for vpc in ("main", "spoke"):
        subnet = _subnet(inventory.vpcs[vpc], "private", 1)
        first = inventory.add(vpc, Kind.INSTANCE, subnet, role=f"{vpc} reused", life="first")
        inventory.add(vpc, Kind.INSTANCE, subnet, role=f"{vpc} reused", life="second", address=first.address)
        inventory.add(vpc, Kind.INSTANCE, subnet, role=f"{vpc} unseen", life="unseen")
    inventory.vpcs[ECHO] = _vpc(inventory.seed, ECHO, _ECHO)
    for zone in (1, 2):
        inventory.add(ECHO, Kind.TGW, inventory.vpcs[ECHO].subnets[zone - 1])
        for _ in range(2):
            inventory.add(ECHO, Kind.INSTANCE, inventory.vpcs[ECHO].subnets[zone - 1])


def build_inventory(seed: int, instances: int, *, hostile: bool = False) -> Inventory:
    """The network with `instances` private instances per subnet, and a third as many public instances."""
    inventory = Inventory(seed=seed)
    for name, outline in _OUTLINES.items():
        inventory.vpcs[name] = _vpc(seed, name, outline)
    for name, kind, tier, zones in _GATEWAYS:
        for zone in zones:
            inventory.add(name, kind, _subnet(inventory.vpcs[name], tier, zone), public=tier == "public")
    for vpc in inventory.vpcs.values():
        _add_instances(inventory, vpc, instances)
    _add_special(inventory)
    if hostile:
        _add_hostile(inventory)
    return inventory


def _add_special(inventory: Inventory) -> None:
    # A participant is an instance of another account in a subnet that the VPC's owner shares.
    for zone in (2, 3):
        inventory.add("main", Kind.INSTANCE, _subnet(inventory.vpcs["main"], "private", zone), account_id=PARTNER)
    for zone in range(1, _ZONES + 1):
        inventory.add("apps", Kind.INSTANCE, _subnet(inventory.vpcs["apps"], "private", zone), role=PODS)
    for _ in range(2):
        inventory.add("edge", Kind.INSTANCE, inventory.vpcs["edge"].subnets[-1], role=LOCAL)


def _add_instances(inventory: Inventory, vpc: Vpc, instances: int) -> None:
    for zone in range(1, _ZONES + 1):
        for number in range(instances):
            inventory.add(vpc.name, Kind.INSTANCE, _subnet(vpc, "private", zone))
            if number % 3 == 0:
                inventory.add(vpc.name, Kind.INSTANCE, _subnet(vpc, "public", zone), public=True)


def _vpc(seed: int, name: str, outline: _Outline) -> Vpc:
    return Vpc(
        name=name,
        id=made_id("vpc", seed, name),
        account_id=outline.account_id,
        region=outline.region,
        cidrs=(outline.cidr, outline.second_cidr) if outline.second_cidr else (outline.cidr,),
        ipv6_cidr=outline.ipv6_cidr,
        subnets=tuple(_subnets(seed, name, outline)),
    )


def _subnets(seed: int, name: str, outline: _Outline) -> Iterator[Subnet]:
    blocks = [str(block) for block in ip_network(outline.cidr).subnets(_SUBNET_BITS)]
    letters = _LETTERS[outline.account_id]
    for place, tier in enumerate(outline.tiers):
        for zone in range(1, _ZONES + 1):
            number = place * _ZONES + zone - 1
            second = outline.second_cidr and tier == "private" and zone == _ZONES
            yield Subnet(
                id=made_id("subnet", seed, name, tier, zone),
                zone_id=f"{_ZONE_IDS[outline.region]}{zone}",
                zone_name=f"{outline.region}{letters[zone - 1]}",
                cidr=outline.second_cidr if second else blocks[number],
                ipv6=outline.ipv6_cidr.replace("00::/56", f"{number:02x}::"),
            )
    if outline.local:
        yield _local_subnet(seed, name, blocks[-1])


def _local_subnet(seed: int, name: str, cidr: str) -> Subnet:
    return Subnet(
        id=made_id("subnet", seed, name, "local"), zone_id="usw2-lax1-az1", zone_name="us-west-2-lax-1a", cidr=cidr
    )


def _subnet(vpc: Vpc, tier: str, zone: int) -> Subnet:
    return vpc.subnets[_OUTLINES[vpc.name].tiers.index(tier) * _ZONES + zone - 1]
