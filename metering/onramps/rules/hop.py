"""A hop with all that is known of it: what the conditions of the rules ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.onramps.context.interfaces import INTERFACE
from metering.onramps.rules.own_side import is_local

if TYPE_CHECKING:
    from metering.onramps.rules.knowledge import Knowledge, VpcFacts
    from metering.onramps.rules.other_side import NextHop, Peer
    from metering.onramps.rules.own_side import OwnSide


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One side of one hop.

    Attributes:
        own: The interface that logs it.
        out: Whether the bytes leave it.
        path: `traffic-path`, which only lines of bytes that leave have; empty if it is not known.
        peer: The address on the other side; None if the log has none.
        next_hop: The interface on the other side, if the log names it.
        service: Service of the peer's address, as the log names it; empty if it names none.
        knowledge: What the context knows.
        peering_billed_apart: Whether AWS bills peering between zones under usage types of its own at that time.
    """

    own: OwnSide
    out: bool
    path: str
    peer: Peer | None
    next_hop: NextHop
    service: str
    knowledge: Knowledge
    peering_billed_apart: bool

    @property
    def own_vpc(self) -> VpcFacts | None:
        return self.knowledge.vpcs.get(self.own.vpc_id)

    @property
    def by_address(self) -> bool:
        """Whether the peer's address says where the hop ends: no next hop is named, and no path leads elsewhere."""
        return not self.next_hop.named and self.peer is not None and self.peer.in_own_vpc and self.path in ("", "1")

    @property
    def within_vpc(self) -> bool:
        """Whether the hop surely stays in the own VPC."""
        if self.next_hop.named:
            return bool(self.own.vpc_id) and self.next_hop.vpc_id == self.own.vpc_id
        return self.by_address

    @property
    def other_vpc_id(self) -> str:
        """The VPC on the other side of a peering, if that is surely the way and the VPC is known; else empty."""
        if self.next_hop.named:
            known = self.own.vpc_id and self.next_hop.vpc_id not in ("", self.own.vpc_id)
            return self.next_hop.vpc_id if known else ""
        vpc_ids = self.peer.vpc_ids if self.peer is not None else ()
        facts = self.own_vpc
        peered = [each for each in vpc_ids if facts is not None and each in facts.peers]
        if len(peered) != 1 or (self.peer is not None and self.peer.in_own_vpc):
            return ""
        return peered[0] if self._surely_peered(peered[0], vpc_ids) else ""

    def _surely_peered(self, vpc_id: str, vpc_ids: tuple[str, ...]) -> bool:
        if self.path in ("4", "5"):
            return True
        others = (each for each in vpc_ids if each != vpc_id)
        return (
            not self.path
            and self.knowledge.surely_peered(self.own.vpc_id, vpc_id)
            and not any(self.knowledge.may_be_in_transit(self.own.vpc_id, each) for each in others)
        )

    @property
    def zone_id(self) -> str:
        """Zone of the other side; empty if it is not known."""
        if self.next_hop.named:
            return self.next_hop.zone_id
        if self.by_address and self.peer is not None:
            return self.peer.zone_id
        other = self.other_vpc_id
        if not other or self.peer is None:
            return ""
        return self.peer.vpc_zones[self.peer.vpc_ids.index(other)]

    @property
    def kind(self) -> str:
        """Kind of the interface on the other side; empty if it is not known."""
        if self.next_hop.named:
            return self.next_hop.kind
        return self.peer.kind if self.by_address and self.peer is not None else ""

    @property
    def region(self) -> str:
        """Region of the other side, by what is surely its place; empty if it is not known."""
        if self.within_vpc or self.path in ("1", "4", "7"):
            return self.own.region
        other = self.knowledge.vpcs.get(self.other_vpc_id)
        if other is not None:
            return other.region
        if self.next_hop.named:
            return self._region_of_zone(self.next_hop.zone_id)
        # A peering to a VPC that is not known may lead to any region.
        return "" if self.path == "5" else self._region_by_address()

    def _region_by_address(self) -> str:
        if self.peer is None:
            return ""
        regions = {self.knowledge.vpcs[each].region for each in self.peer.vpc_ids}
        if regions and not self.leaves_vpc:
            return regions.pop() if len(regions) == 1 else ""
        return self.peer.region if self.peer.region != "GLOBAL" else ""

    def _region_of_zone(self, zone_id: str) -> str:
        known = self.knowledge.zone_regions.get(zone_id, "")
        if known or not zone_id or not self.own.zone_id:
            return known
        # Zone ids of one region begin alike: `usw2-az1`, `usw2-lax1-az1`.
        return self.own.region if zone_id.split("-")[0] == self.own.zone_id.split("-")[0] else ""

    @property
    def leaves_vpc(self) -> bool:
        """Whether the hop surely goes straight out of the VPC, or comes straight in: nothing inside hands it on."""
        if self.next_hop.named or self.peer is None:
            return False
        if self.path:
            return self.path in ("2", "7", "8")
        facts = self.own_vpc
        if facts is None or not self.peer.public or self.peer.in_own_vpc or self.peer.vpc_ids:
            return False
        if self.may_be_handed_on:
            return False
        if self.peer.version == 4:
            return self.own.public is True
        # IPv6 of EC2 may be another VPC that is not known, over a transit gateway.
        return bool(self.own.addresses) and "EC2" not in self.peer.services

    @property
    def may_be_handed_on(self) -> bool:
        """Whether something in the VPC may stand between the interface and the internet, though it has an address."""
        facts = self.own_vpc
        if facts is None:
            return False
        return facts.inspected or (facts.balances_public and self.own.kind == INTERFACE)

    @property
    def in_local_zone(self) -> bool:
        return self.own.local or is_local(self.zone_id)
