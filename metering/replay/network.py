"""A small network with traffic: a VPC, a flow log of one slot in AWS's format, and the bytes that must be metered.

The expected bytes are counted while the traffic is generated, without code of the service's rules.
`tests/support/networks` has larger networks, with logs of every format and the usage type of each line.
"""

import gzip
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from itertools import pairwise
from typing import NamedTuple

from metering.hours import rfc3339
from metering.units import DAY_S, MINUTE_S

SLOT_S = 5 * MINUTE_S
# The first account id begins with a zero, so as a number it would have eleven digits.
OWNER = "012345678901"
PARTNER = "444455556666"
_REGION = "us-west-2"
_BUCKET = f"acme-logs-{_REGION}"
_ZONES = (1, 2, 3)
# Flow log fields that describe a hop: no ports, and no field that only describes the connection's state.
_TEXT = (
    "version account-id interface-id srcaddr dstaddr bytes start end action log-status vpc-id subnet-id instance-id "
    "pkt-srcaddr pkt-dstaddr region az-id sublocation-type pkt-src-aws-service pkt-dst-aws-service flow-direction "
    "traffic-path resource-id interface-type next-hop-interface-id next-hop-az-id next-hop-vpc-id "
    "next-hop-interface-type"
)
_FIELDS = tuple(_TEXT.split())
# Values of `traffic-path`.
_IN_VPC, _VIRTUAL_GATEWAY, _PEERING, _GATEWAY_ENDPOINT, _INTERNET_GATEWAY = "1", "3", "4", "7", "8"
_INSTANCES = 6
# Auto Scaling groups of the instances.
_GROUPS = ("web", "indexer", "ci-runners")
_LEAST_BYTES, _MOST_BYTES = 2_000, 2_000_000
_LONGEST_S = 10 * MINUTE_S
# Per 1,000 lines: rejected lines, lines without the next hop (which AWS adds on a best-effort basis), and equal lines
# (from two connections with the same bytes).
_REJECTED, _UNTOLD, _EQUAL = 20, 10, 5
_QUIET = 5


class _Kind(NamedTuple):
    """Kind of interface: type in a log and in the EC2 API, requester, and description in EC2."""

    logged: str = "-"
    described: str = "interface"
    requester: str = ""
    description: str = ""


_INSTANCE = _Kind()
_DATABASE = _Kind(requester="amazon-rds", description="RDSNetworkInterface")
_ALB = _Kind(requester="amazon-elb", description="ELB app/web/50dc6c495c0c9188")
_NLB = _Kind("network_load_balancer", "network_load_balancer", "amazon-elb", "ELB net/internal/8d4fbf2a7a1c2f3e")
_NAT = _Kind("nat_gateway", "nat_gateway", "amazon-aws", "Interface for NAT Gateway")
_ENDPOINT = _Kind("vpc_endpoint", "vpc_endpoint", "amazon-aws", "VPC Endpoint Interface")


class _Vpc(NamedTuple):
    id: str
    account_id: str
    cidr: str

    def subnet(self, zone: int, *, public: bool) -> tuple[str, str]:
        """Id and CIDR block of the subnet of a zone."""
        number = zone + len(_ZONES) * public
        return f"subnet-{self.id[4:-1]}{number}", nth_address(self.cidr, number << 12) + "/20"


class _Interface(NamedTuple):
    id: str
    kind: _Kind
    account_id: str
    vpc: _Vpc
    zone: int
    subnet_id: str
    address: str
    public: str
    instance_id: str
    group: str = ""

    @property
    def zone_id(self) -> str:
        return f"usw2-az{self.zone}"


class _Outside(NamedTuple):
    """Addresses outside all VPCs, with service and region if AWS publishes these addresses."""

    block: str
    service: str = "-"
    region: str = ""


_INTERNET = _Outside("81.2.0.0/16")
_ON_PREMISES = _Outside("172.20.0.0/20")
_CLOUDFRONT = _Outside("64.252.64.0/18", "CLOUDFRONT", "GLOBAL")
_ACCELERATOR = _Outside("13.248.0.0/19", "GLOBALACCELERATOR", "GLOBAL")
_EC2_HERE, _S3_HERE = _Outside("52.36.0.0/15", "EC2", _REGION), _Outside("52.218.128.0/18", "S3", _REGION)
_EC2_EAST = _Outside("3.80.0.0/13", "EC2", "us-east-1")
_EC2_IRELAND = _Outside("34.240.0.0/14", "EC2", "eu-west-1")
_PUBLISHED = (_CLOUDFRONT, _ACCELERATOR, _EC2_HERE, _S3_HERE, _EC2_EAST, _EC2_IRELAND)
_OWN_PUBLIC = "52.36.0.0/24"


class _Side(NamedTuple):
    """A hop as one of its interfaces sees it: one line of the log. `there` is the service of the packet's other end.

    `destination` is the name of the far end, where a NAT gateway sees a workload.
    """

    own: _Interface
    outward: bool
    answer: bool
    packet: tuple[str, str]
    there: str = "-"
    path: str = _IN_VPC
    next_hop: _Interface | None = None
    destination: str = ""

    @property
    def processed(self) -> bool:
        """Whether a gateway charges for the line: an endpoint always, a NAT gateway on the side of the workloads."""
        return self.own.kind is _ENDPOINT or (self.own.kind is _NAT and self.next_hop is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """An object in a log bucket.

    Attributes:
        metered_bytes: Sum of the object's lines that must be metered.
        processed_bytes: Bytes of these lines that the NAT gateways and endpoints charge for processing.
        nat_bytes: Those of the NAT gateways, by workload (an Auto Scaling group) and destination.
    """

    bucket: str
    key: str
    body: bytes
    metered_bytes: int
    processed_bytes: int
    nat_bytes: Mapping[tuple[str, str], int]


class SmallNetwork:
    """A VPC with instances, load balancers, gateways and a database, peered with a VPC of another account.

    Args:
        seed: Seed of all draws. The same arguments give the same file on every machine.
        first_s: Start of the 5-minute slot, in epoch seconds.
    """

    def __init__(self, seed: int, first_s: int) -> None:
        self._seed = seed
        self._first_s = first_s
        self._rng = random.Random(f"{seed}/{first_s}")  # noqa: S311
        self._main = _Vpc(made_id("vpc", seed, "main"), OWNER, "10.0.0.0/16")
        self._peer = _Vpc(made_id("vpc", seed, "peer"), PARTNER, "10.1.0.0/16")
        self._log_id = made_id("fl", seed)
        self._interfaces: list[_Interface] = []
        for zone in _ZONES:
            for _ in range(_INSTANCES):
                self._add(self._main, _INSTANCE, zone)
            self._add(self._main, _INSTANCE, zone, public=True)
            # A participant is an instance of another account in a subnet that the VPC's owner shares.
            self._add(self._main, _INSTANCE, zone, account_id=PARTNER)
            self._add(self._peer, _INSTANCE, zone)
            for kind in (_ALB, _NLB, _NAT, _ENDPOINT, _DATABASE):
                self._add(self._main, kind, zone, public=kind in (_ALB, _NAT))

    def _add(self, vpc: _Vpc, kind: _Kind, zone: int, *, public: bool = False, account_id: str = "") -> None:
        number = len(self._interfaces) + 10
        subnet_id, block = vpc.subnet(zone, public=public)
        self._interfaces.append(
            _Interface(
                id=made_id("eni", self._seed, number),
                kind=kind,
                account_id=account_id or vpc.account_id,
                vpc=vpc,
                zone=zone,
                subnet_id=subnet_id,
                address=nth_address(block, number),
                public=nth_address(_OWN_PUBLIC, number) if public else "",
                instance_id=made_id("i", self._seed, number) if kind is _INSTANCE else "",
                group=_GROUPS[number % len(_GROUPS)] if kind is _INSTANCE else "",
            )
        )

    def file(self, lines: int) -> LogFile:
        """The slot's log file with about `lines` lines of traffic."""
        texts, metered_bytes, processed_bytes = [" ".join(_FIELDS)], 0, 0
        nat_bytes: Counter[tuple[str, str]] = Counter()
        while len(texts) <= lines:
            make, answer_percent = self._rng.choice(_JOURNEYS)
            size_bytes = self._rng.randint(_LEAST_BYTES, _MOST_BYTES)
            answer_bytes = size_bytes * answer_percent // 100
            for side in make(self):
                # Each side of a flow counts its own bytes. The counts differ by acknowledgements and retransmissions.
                own_bytes = (answer_bytes if side.answer else size_bytes - answer_bytes) + self._rng.randrange(100)
                rejected = self._rng.randrange(1_000) < _REJECTED
                equal = [self._line(side, own_bytes, "REJECT" if rejected else "ACCEPT")]
                equal *= 2 if self._rng.randrange(1_000) < _EQUAL else 1
                texts += equal
                metered_bytes += 0 if rejected else own_bytes * len(equal)
                processed_bytes += own_bytes * len(equal) if side.processed and not rejected else 0
                if side.destination and side.next_hop is not None and not rejected:
                    nat_bytes[f"asg:{side.next_hop.group}", side.destination] += own_bytes * len(equal)
        texts += [self._quiet_line(own) for own in self._rng.sample(self._logged(), _QUIET)]
        body = gzip.compress("\n".join([*texts, ""]).encode(), 6, mtime=0)
        return LogFile(
            bucket=_BUCKET,
            key=self._key(),
            body=body,
            metered_bytes=metered_bytes,
            processed_bytes=processed_bytes,
            nat_bytes=nat_bytes,
        )

    def _logged(self) -> list[_Interface]:
        return [each for each in self._interfaces if each.vpc is self._main]

    def _key(self) -> str:
        moment = datetime.fromtimestamp(self._first_s, UTC)
        name = f"{OWNER}_vpcflowlogs_{_REGION}_{self._log_id}_{moment:%Y%m%dT%H%MZ}_{self._log_id[-8:]}.log.gz"
        return f"AWSLogs/{OWNER}/vpcflowlogs/{_REGION}/{moment:%Y/%m/%d}/{name}"

    def _line(self, side: _Side, own_bytes: int, action: str) -> str:
        (source, destination), own, hop = side.packet, side.own, side.next_hop
        if self._rng.randrange(1_000) < _UNTOLD:
            hop = None
        end_s = self._first_s + self._rng.randrange(SLOT_S)
        return _text(
            own,
            {
                "srcaddr": own.address if side.outward else source,
                "dstaddr": destination if side.outward else own.address,
                "bytes": str(own_bytes),
                "start": str(end_s - self._rng.randrange(1, _LONGEST_S)),
                "end": str(end_s),
                "action": action,
                "log-status": "OK",
                "pkt-srcaddr": source,
                "pkt-dstaddr": destination,
                f"pkt-{'dst' if side.outward else 'src'}-aws-service": side.there,
                "flow-direction": "egress" if side.outward else "ingress",
                "traffic-path": side.path if side.outward else "-",
                "next-hop-interface-id": hop.id if hop else "-",
                "next-hop-az-id": hop.zone_id if hop else "-",
                "next-hop-vpc-id": hop.vpc.id if hop else "-",
                "next-hop-interface-type": hop.kind.logged if hop else "-",
            },
        )

    def _quiet_line(self, own: _Interface) -> str:
        """A `NODATA` line (no traffic) or a `SKIPDATA` line (the log lost records)."""
        status = "SKIPDATA" if self._rng.randrange(10) == 0 else "NODATA"
        start, end = str(self._first_s), str(self._first_s + MINUTE_S)
        return _text(own, {"start": start, "end": end, "log-status": status})

    def some(self, kind: _Kind = _INSTANCE, *, public: bool = False, peered: bool = False) -> _Interface:
        """A random interface of a kind."""
        vpc = self._peer if peered else self._main
        return self._rng.choice(
            [each for each in self._interfaces if (each.kind, each.vpc, bool(each.public)) == (kind, vpc, public)]
        )

    def outside(self, place: _Outside) -> str:
        """A random address in a block outside all VPCs."""
        return nth_address(place.block, 300 + 7 * self._rng.randrange(900))

    def description(self, captured_s: int) -> dict[str, object]:
        """The network as EC2 describes it to both accounts; a context is made from this description."""
        return {
            "schema": "metering.description/1",
            "captured_at": rfc3339(captured_s),
            "regions": [self._region(vpc) for vpc in (self._main, self._peer)],
            "buckets": {_BUCKET: _REGION},
            "accounts": [OWNER, PARTNER],
            "ip_ranges": {
                "prefixes": [
                    {"ip_prefix": place.block, "region": place.region, "service": service}
                    for place in _PUBLISHED
                    for service in ("AMAZON", place.service)
                ],
                "ipv6_prefixes": [],
            },
        }

    def _region(self, vpc: _Vpc) -> dict[str, object]:
        seen = [each for each in self._interfaces if vpc.account_id in (each.account_id, each.vpc.account_id)]
        return {
            "account_id": vpc.account_id,
            "region": _REGION,
            "Vpcs": [{"VpcId": vpc.id, "OwnerId": vpc.account_id, "CidrBlock": vpc.cidr}],
            "Subnets": [
                {"SubnetId": name, "VpcId": vpc.id, "CidrBlock": block, "AvailabilityZoneId": f"usw2-az{zone}"}
                for zone in _ZONES
                for name, block in (vpc.subnet(zone, public=False), vpc.subnet(zone, public=True))
            ],
            "NetworkInterfaces": [_described(each) for each in seen],
            "Tags": [
                {"ResourceId": each.instance_id, "Key": "aws:autoscaling:groupName", "Value": each.group}
                for each in seen
                if each.group
            ],
            "FlowLogs": [self._flow_log()] if vpc is self._main else [],
            "VpcPeeringConnections": [
                {
                    "VpcPeeringConnectionId": made_id("pcx", self._seed),
                    "Status": {"Code": "active"},
                    "RequesterVpcInfo": _peered(self._main),
                    "AccepterVpcInfo": _peered(self._peer),
                }
            ],
            "TransitGatewayMeteringPolicies": [],
        }

    def _flow_log(self) -> dict[str, object]:
        return {
            "FlowLogId": self._log_id,
            "ResourceId": self._main.id,
            "CreationTime": rfc3339(self._first_s - 90 * DAY_S),
            "DeliverLogsStatus": "SUCCESS",
            "LogDestinationType": "s3",
            "LogDestination": f"arn:aws:s3:::{_BUCKET}",
            "LogFormat": " ".join(f"${{{name}}}" for name in _FIELDS),
        }


def _chain(way: tuple[_Interface, ...], here: str, there: str, service: str = "-") -> Iterator[_Side]:
    """Hops of packets between two addresses across interfaces of one VPC, and the hops of the response."""
    for answer, passed, packet in ((False, way, (here, there)), (True, way[::-1], (there, here))):
        for sender, receiver in pairwise(passed):
            yield _Side(sender, True, answer, packet, "-" if answer else service, next_hop=receiver)
            yield _Side(receiver, False, answer, packet, service if answer else "-", next_hop=sender)


def _direct(own: _Interface, address: str, place: _Outside, path: str = _INTERNET_GATEWAY) -> Iterator[_Side]:
    """A hop to an address outside the VPC, and the response."""
    yield _Side(own, True, False, (own.address, address), place.service, path)
    yield _Side(own, False, True, (address, own.address), place.service)


def _inside(kind: _Kind) -> Callable[[SmallNetwork], Iterator[_Side]]:
    def make(net: SmallNetwork) -> Iterator[_Side]:
        one, other = net.some(), net.some(kind)
        yield from () if one is other else _chain((one, other), one.address, other.address)

    return make


def _out(place: _Outside, path: str = "") -> Callable[[SmallNetwork], Iterator[_Side]]:
    """Traffic that leaves from an instance with its own public address, or over another egress path."""
    return lambda net: _direct(net.some(public=not path), net.outside(place), place, path or _INTERNET_GATEWAY)


def _by_nat(place: _Outside) -> Callable[[SmallNetwork], Iterator[_Side]]:
    def make(net: SmallNetwork) -> Iterator[_Side]:
        one, gateway, address = net.some(), net.some(_NAT, public=True), net.outside(place)
        destination = f"{place.service}.{place.region}" if place.region else "internet"
        for side in _chain((one, gateway), one.address, address, place.service):
            yield side._replace(destination=destination) if side.own is gateway else side
        yield from _direct(gateway, address, place)

    return make


def _balanced(place: _Outside) -> Callable[[SmallNetwork], Iterator[_Side]]:
    """Traffic from an outside client through an Application Load Balancer to a target in any zone."""

    def make(net: SmallNetwork) -> Iterator[_Side]:
        client, node, target = net.outside(place), net.some(_ALB, public=True), net.some()
        yield _Side(node, False, False, (client, node.address), place.service)
        yield from _chain((node, target), node.address, target.address)
        yield _Side(node, True, True, (node.address, client), place.service, _INTERNET_GATEWAY)

    return make


def _client_kept(net: SmallNetwork) -> Iterator[_Side]:
    """A Network Load Balancer that preserves client IPs: the target sees a public peer inside the VPC."""
    node, target = net.some(_NLB), net.some()
    return _chain((target, node), target.address, net.outside(_INTERNET))


def _over_peering(net: SmallNetwork) -> Iterator[_Side]:
    """A hop to the peered VPC, whose log is separate. Logs do not name the next hop."""
    own, address = net.some(), net.some(peered=True).address
    yield _Side(own, True, False, (own.address, address), path=_PEERING)
    yield _Side(own, False, True, (address, own.address))


# Journeys, each with the percentage of the bytes that the response has.
_JOURNEYS: tuple[tuple[Callable[[SmallNetwork], Iterator[_Side]], int], ...] = (
    (_inside(_INSTANCE), 50),
    (_inside(_INSTANCE), 50),
    (_inside(_DATABASE), 70),
    (_inside(_ENDPOINT), 30),
    (_balanced(_INTERNET), 90),
    (_balanced(_CLOUDFRONT), 92),
    (_balanced(_EC2_HERE), 80),
    (_client_kept, 20),
    (_by_nat(_INTERNET), 80),
    (_by_nat(_EC2_IRELAND), 30),
    (_over_peering, 50),
    (_out(_INTERNET), 30),
    (_out(_S3_HERE), 50),
    (_out(_EC2_HERE), 50),
    (_out(_EC2_EAST), 20),
    (_out(_ACCELERATOR), 80),
    (_out(_S3_HERE, _GATEWAY_ENDPOINT), 40),
    (_out(_ON_PREMISES, _VIRTUAL_GATEWAY), 40),
)


def replica(file: LogFile) -> LogFile:
    """A copy of a file in a folder of another bucket, recompressed as two gzip members."""
    return replace(
        file,
        bucket=f"replica-of-{file.bucket}",
        key=f"copied/{file.key.rpartition('/')[2]}",
        body=in_two_members(gzip.decompress(file.body)),
    )


def in_two_members(text: bytes) -> bytes:
    """Compress text as two gzip members, one for each half."""
    half = len(text) // 2
    return b"".join(gzip.compress(part, 9, mtime=0) for part in (text[:half], text[half:]))


def made_id(prefix: str, seed: int, *names: object) -> str:
    """A resource id in AWS's format, `eni-0123456789abcdef0`; the same arguments always give the same id."""
    digest = hashlib.sha256(f"{seed}/{prefix}/{'/'.join(map(str, names))}".encode()).hexdigest()
    return f"{prefix}-0{digest[:16]}"


def nth_address(block: str, number: int) -> str:
    """The n-th address of a CIDR block; after the last address, counting continues at the first."""
    network = ip_network(block)
    return str(ip_address(int(network.network_address) + number % network.num_addresses))


def _text(own: _Interface, values: dict[str, str]) -> str:
    """A log line: the fields of the line's interface, and the given values."""
    of_interface = {
        "version": "11",
        "account-id": own.account_id,
        "interface-id": own.id,
        "vpc-id": own.vpc.id,
        "subnet-id": own.subnet_id,
        "instance-id": own.instance_id or "-",
        "region": _REGION,
        "az-id": own.zone_id,
        "interface-type": own.kind.logged,
    }
    return " ".join((of_interface | values).get(name, "-") for name in _FIELDS)


def _described(each: _Interface) -> dict[str, object]:
    association = {"Association": {"PublicIp": each.public}} if each.public else {}
    return {
        "NetworkInterfaceId": each.id,
        "OwnerId": each.account_id,
        "VpcId": each.vpc.id,
        "SubnetId": each.subnet_id,
        "InterfaceType": each.kind.described,
        "Description": each.kind.description,
        "RequesterId": each.kind.requester,
        "PrivateIpAddress": each.address,
        "PrivateIpAddresses": [{"PrivateIpAddress": each.address, **association}],
        **association,
        **({"Attachment": {"InstanceId": each.instance_id}} if each.instance_id else {}),
    }


def _peered(vpc: _Vpc) -> dict[str, object]:
    return {"VpcId": vpc.id, "OwnerId": vpc.account_id, "Region": _REGION, "CidrBlock": vpc.cidr}
