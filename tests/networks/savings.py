"""Networks with planted wastes, and the same networks with the same flows after each waste is mended as advised.

Both versions of a network move the same bytes between the same ends. So the cost of the mended network, metered from
its own logs, is the cost that a rule of `metering.reports.savings` has to foretell.
"""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.owners import Attributes
from metering.billing.payers import Membership, Payer
from metering.billing.prices.book import NOT_SOLD
from metering.billing.usage.months import UsageLine
from metering.onramps.context.description import read_description
from metering.onramps.context.holders import Workloads, tags_of
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import Timeline
from metering.onramps.ingest.totals import Who, measure
from metering.onramps.kinds import recognised
from metering.replay.network import made_id
from metering.reports.savings.rewriting import Row
from metering.units import GIB
from tests.networks.causes import FIRST_HOUR_S
from tests.networks.exam import FIRST_S
from tests.support.networks.description import description, peered
from tests.support.networks.inventory import OWNER, PARTNER, Interface, Inventory, Kind, Packet, peer
from tests.support.networks.journeys import (
    GATEWAY_ENDPOINT,
    INTERNET_GATEWAY,
    NOBODY_KNOWS,
    Journey,
    Trip,
    there_and_back,
    through_nat,
)
from tests.support.networks.traffic import Network, NetworkPlan, Piles
from tests.support.priced import allowance, book, product

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.billing.prices.book import PriceBook

MONTH = "2026-11"
PAYER = "111122223333"
WEST = "us-west-2"


def prices() -> PriceBook:
    """Prices of a region, with tiers and allowances that the savings of these networks cross."""
    flat = {
        "NatGateway-Bytes": "0.045",
        "RegionalNatGateway-Bytes": "0.045",
        "TransitGateway-Bytes": "0.03",
        "VpcPeering-In-Bytes": "0.01",
        "VpcPeering-Out-Bytes": "0.01",
        "DataTransfer-Regional-Bytes": "0.01",
        "DataTransfer-In-Bytes": "0",
    }
    steps: dict[str, list[tuple[str | None, str]]] = {name: [(None, price)] for name, price in flat.items()}
    steps["VpcEndpoint-Bytes"] = [("512", "0.01"), ("5242880", "0.006"), (None, "0.004")]
    steps["DataTransfer-Out-Bytes"] = [("1024", "0.09"), (None, "0.05")]
    sold = [product(_sku(name), f"USW2-{name}", each) for name, each in steps.items()]
    sold.append(product("EAST", "DataTransfer-Regional-Bytes", steps["DataTransfer-Regional-Bytes"]))
    free = allowance("300", _sku("DataTransfer-Regional-Bytes"), "EAST", name="regional")
    egress = allowance("100", _sku("DataTransfer-Out-Bytes"))
    return replace(book(sold, free, egress, not_sold=NOT_SOLD), name="aws-list")


def _sku(usage_type: str) -> str:
    return usage_type.replace("-", "").upper()


# The wastes, each with the journey that wastes, and the journey of the same flows as advised.


def _member(
    net: Inventory, rng: random.Random, vpc: str, group: str, *, zone: str = "", public: bool = False
) -> Interface:
    """A random instance of a group, perhaps in a zone."""
    return rng.choice([
        each for each in net.interfaces
        if each.vpc.name == vpc and each.kind is Kind.INSTANCE and each.group == group and each.account_id == OWNER
        if each.zone_id == zone or not zone
        if not each.public
    ])  # fmt: skip


_Make = Callable[[Trip, Inventory, random.Random], None]


def _by_nat(vpc: str, family: str, kind: Kind = Kind.NAT) -> _Make:
    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        through_nat(trip, net, net.some(rng, vpc), peer(rng, family, 50), kind)

    return make


def _central(family: str) -> _Make:
    """From a VPC through a transit gateway to the NAT gateway of another."""

    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        one, there = net.some(rng, "spoke"), peer(rng, family, 50)
        near, far = net.gateway(one, Kind.TGW), net.some(rng, "main", Kind.TGW)
        gateway = net.gateway(far, Kind.NAT)
        chain, service, by = (one, near, far, gateway), there.family.service, ("spoke", "main")
        there_and_back(trip, chain, one.address, there.address, service, net=net, gateways=by, ends=(one, there))
        trip.answer = False
        trip.leaves(gateway, there, INTERNET_GATEWAY)
        trip.answer = True
        trip.enters(gateway, there)

    return make


def _by_gateway_endpoint(vpc: str) -> _Make:
    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        one, there = net.some(rng, vpc), peer(rng, "s3-here", 50)
        trip.leaves(one, there, GATEWAY_ENDPOINT)
        trip.answer = True
        trip.enters(one, there, hidden=NOBODY_KNOWS)

    return make


def _by_interface_endpoint(vpc: str) -> _Make:
    def make(trip: Trip, net: Inventory, rng: random.Random) -> None:
        one = net.some(rng, vpc)
        node = net.gateway(one, Kind.ENDPOINT)
        there_and_back(trip, (one, node), one.address, node.address)

    return make


def _nat_elsewhere(trip: Trip, net: Inventory, rng: random.Random) -> None:
    """By the NAT gateway of another zone, until the third zone has its own."""
    through_nat(trip, net, net.some(rng, "main", zone="usw2-az3"), peer(rng, "internet", 50))


def _nat_here(trip: Trip, net: Inventory, rng: random.Random) -> None:
    through_nat(trip, net, net.some(rng, "main", zone="usw2-az2"), peer(rng, "internet", 50))


def _nat_here_to_ec2(trip: Trip, net: Inventory, rng: random.Random) -> None:
    """The public side is regional transfer by public addresses, and no hop between zones."""
    through_nat(trip, net, net.some(rng, "main", zone="usw2-az2"), peer(rng, "ec2-here", 50))


def _to_group(trip: Trip, net: Inventory, rng: random.Random, *, across: bool) -> None:
    zones = ["usw2-az1", "usw2-az2"]
    rng.shuffle(zones)
    one = _member(net, rng, "main", "asg:main-web", zone=zones[0])
    # The same other end, whichever zone it is in: the number of draws is the same.
    other = _member(net, rng, "main", "asg:main-jobs", zone=zones[1] if across else zones[0])
    there_and_back(trip, (one, other), one.address, other.address)


def _across_zones(trip: Trip, net: Inventory, rng: random.Random) -> None:
    _to_group(trip, net, rng, across=True)


def _in_zone(trip: Trip, net: Inventory, rng: random.Random) -> None:
    _to_group(trip, net, rng, across=False)


def _neighbours(net: Inventory, rng: random.Random) -> tuple[Interface, Interface]:
    one = net.some(rng, "main", public=True)
    other = rng.choice([
        each for each in net.interfaces
        if each.vpc.name == "main" and each.kind is Kind.INSTANCE and each.public and each.zone_id == one.zone_id
        if each is not one
    ])  # fmt: skip
    return one, other


def _by_public_address(trip: Trip, net: Inventory, rng: random.Random) -> None:
    one, other = _neighbours(net, rng)
    trip.public(one, other)
    trip.answer = True
    trip.public(other, one)


def _by_private_address(trip: Trip, net: Inventory, rng: random.Random) -> None:
    one, other = _neighbours(net, rng)
    there_and_back(trip, (one, other), one.address, other.address)


def _ends_of_vpcs(net: Inventory, rng: random.Random) -> tuple[Interface, Interface]:
    """Two instances that belong to no group, so that their zones are known; often in two zones."""
    one = _member(net, rng, "main", "")
    others = [
        each for each in net.interfaces if each.vpc.name == "spoke" and each.kind is Kind.INSTANCE and not each.group
    ]
    return one, rng.choice([each for each in others if not each.public])


def _over_gateway(trip: Trip, net: Inventory, rng: random.Random) -> None:
    one, other = _ends_of_vpcs(net, rng)
    chain = (one, net.gateway(one, Kind.TGW), net.gateway(other, Kind.TGW), other)
    there_and_back(trip, chain, one.address, other.address, net=net, gateways=("main", "spoke"))


def _over_peering(trip: Trip, net: Inventory, rng: random.Random) -> None:
    one, other = _ends_of_vpcs(net, rng)
    trip.peered(one, other, Packet(one.address, other.address))
    trip.answer = True
    trip.peered(other, one, Packet(other.address, one.address))


def _database(trip: Trip, net: Inventory, rng: random.Random) -> None:
    """Across zones, to a database that is in one zone only: nothing can be saved."""
    one, other = net.some(rng, "east"), net.some(rng, "east", Kind.DATABASE)
    there_and_back(trip, (one, other), one.address, other.address)


class Waste(NamedTuple):
    """A planted waste: the rule that has to find it, its journey, and the journey as advised."""

    rule: str
    planted: Journey
    mended: Journey


WASTES = {
    "S3 through a NAT gateway": Waste(
        "gateway-endpoint", Journey(_by_nat("main", "s3-here"), 60), Journey(_by_gateway_endpoint("main"), 60)
    ),
    "S3 through a regional NAT gateway": Waste(
        "gateway-endpoint",
        Journey(_by_nat("apps", "s3-here", Kind.REGIONAL_NAT), 60),
        Journey(_by_gateway_endpoint("apps"), 60),
    ),
    "S3 through central egress": Waste(
        "gateway-endpoint", Journey(_central("s3-here"), 60), Journey(_by_gateway_endpoint("spoke"), 60)
    ),
    "AWS's services through a NAT gateway": Waste(
        "interface-endpoint", Journey(_by_nat("main", "amazon-here"), 30), Journey(_by_interface_endpoint("main"), 30)
    ),
    "AWS's services through a regional NAT gateway": Waste(
        "interface-endpoint",
        Journey(_by_nat("apps", "amazon-here", Kind.REGIONAL_NAT), 30),
        Journey(_by_interface_endpoint("apps"), 30),
    ),
    "AWS's services through central egress": Waste(
        "interface-endpoint", Journey(_central("amazon-here"), 30), Journey(_by_interface_endpoint("spoke"), 30)
    ),
    "NAT gateway in another zone": Waste("nat-per-zone", Journey(_nat_elsewhere, 70), Journey(_nat_elsewhere, 70)),
    "two groups across zones": Waste("same-zone", Journey(_across_zones, 50), Journey(_in_zone, 50)),
    "public addresses in a zone": Waste(
        "private-address", Journey(_by_public_address, 40), Journey(_by_private_address, 40)
    ),
    "VPCs over a transit gateway": Waste("peering", Journey(_over_gateway, 50), Journey(_over_peering, 50)),
}
# Traffic beside the wastes, of which nothing can be saved.
CLEAN = {
    "NAT gateway in the own zone": Journey(_nat_here, 70),
    "database in one zone": Journey(_database, 70),
    "EC2 of the region by the NAT gateway of the zone": Journey(_nat_here_to_ec2, 40),
}
_NAMES = (*WASTES, *CLEAN)
FLOWS = 24


class Flows(Network):
    """A network whose flows are the same, whichever of its wastes are mended."""

    def __init__(self, *, wastes: Iterable[str], mended: Iterable[str], style: str, first_s: int = FIRST_S) -> None:
        self.mended = frozenset(mended)
        super().__init__(
            NetworkPlan(
                first_s=first_s, mix=dict.fromkeys((*wastes, *CLEAN), 1), style=style, slots=1, variety=8, untold=0,
                overlaps=False, rejected=0, equal=0, file_lines=1_000_000, flow_bytes=(20 * GIB, 60 * GIB),
            )
        )  # fmt: skip

    def _build(self) -> Inventory:
        net = super()._build()
        for vpc in ("apps", "spoke"):
            net.add(vpc, Kind.ENDPOINT, net.vpcs[vpc].subnets[0])
        if "NAT gateway in another zone" in self.mended:
            # The public subnet of the third zone.
            net.add("main", Kind.NAT, net.vpcs["main"].subnets[5], public=True)
        return net

    def _journey(self, name: str) -> Journey:
        if name in CLEAN:
            return CLEAN[name]
        return WASTES[name].mended if name in self.mended else WASTES[name].planted

    def _chance(self, name: str, number: int) -> random.Random:
        return random.Random(f"{name}/{number}")

    def _fill(self, rng: random.Random, slot_s: int, lines: int, piles: Piles) -> None:
        for name in self._journeys:
            for number in range(FLOWS):
                self._travel(random.Random(f"{slot_s}/{name}/{number}"), slot_s, name, piles)

    def captured(self) -> tuple[Timeline, Workloads]:
        """The context of the network's hours, and who holds its interfaces."""
        told = description(self.inventory, self.flow_logs, FIRST_HOUR_S)
        if "VPCs over a transit gateway" in self.mended:
            self._peer(told["regions"])
        context = context_of(told, FIRST_HOUR_S)
        return Timeline(((FIRST_HOUR_S, context),)), Workloads(context, tags_of(read_description(told), FIRST_HOUR_S))

    def _peer(self, places: object) -> None:
        """Describe a peering between the two VPCs, and that the one has left the transit gateway."""
        assert isinstance(places, list)
        main, spoke = self.inventory.vpcs["main"], self.inventory.vpcs["spoke"]
        pair = {
            "VpcPeeringConnectionId": made_id("pcx", 1, "main", "spoke"),
            "Status": {"Code": "active"},
            "RequesterVpcInfo": peered(main),
            "AccepterVpcInfo": peered(spoke),
        }
        for place in places:
            if place["region"] == WEST:
                place["VpcPeeringConnections"].append(pair)
            for name, key in (("TransitGatewayVpcAttachments", "VpcId"), ("TransitGatewayAttachments", "ResourceId")):
                place[name] = [each for each in place[name] if each[key] != spoke.id]
            subnets = {each.id for each in spoke.subnets}
            place["NetworkInterfaces"] = [
                each
                for each in place["NetworkInterfaces"]
                if each["InterfaceType"] != "transit_gateway" or each["SubnetId"] not in subnets
            ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metered:
    """A network's month as metered: its usage, its cause rows in a region, and what is known of causes."""

    usage: tuple[UsageLine, ...]
    rows: tuple[Row, ...]
    workloads: Workloads

    def named(self, cause: str, _hour_s: int) -> Attributes:
        of, at = self.workloads.of(cause), self.workloads.location(cause)
        return Attributes(at.account_id, of.resource_id, of.workload, at.vpc_id, at.subnet_id, of.tags)


@cache
def metered(wastes: tuple[str, ...], mended: tuple[str, ...] = (), style: str = "v11") -> Metered:
    """Meter the logs of a network with some wastes, of which some are mended."""
    network = Flows(wastes=wastes, mended=mended, style=style)
    timeline, workloads = network.captured()
    usage: Counter[tuple[object, ...]] = Counter()
    rows: Counter[tuple[object, ...]] = Counter()
    for file in network.files():
        kind, name = recognised(file.key) or (None, None)
        assert kind is not None
        assert name is not None
        found = measure(io.BytesIO(file.body), kind, name, timeline, who=Who.PINNED)
        for (traffic, hour_s, usage_type), causes in found.causes.items():
            own = traffic.from_location, traffic.to_location
            for cause, size in causes.items():
                usage[hour_s, traffic.account_id, traffic.service, usage_type, *own] += size.bytes
                rows[
                    hour_s, traffic.account_id, traffic.service, usage_type, traffic.resource_id, cause.cause,
                    cause.destination, cause.path, traffic.direction, *own, cause.basis,
                ] += size.bytes  # fmt: skip
    return Metered(
        usage=tuple(sorted(UsageLine(*key, size) for key, size in usage.items())),  # type: ignore[arg-type,call-arg]  # its fields
        rows=tuple(Row(*key, size) for key, size in sorted(rows.items())),  # type: ignore[arg-type,call-arg]  # as above
        workloads=workloads,
    )


def payer() -> Payer:
    """The payer of both accounts of the network."""
    members = tuple(Membership(account, 0, None) for account in (OWNER, PARTNER))
    return Payer(payer_id=PAYER, name="Acme", issuer="Example Metering", members=members)
