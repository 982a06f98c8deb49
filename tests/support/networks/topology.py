"""Elements of a network: VPCs, subnets and network interfaces, with AWS-like ids."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """Owner kind of a network interface."""

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
        zone_name: Name of its zone, which differs by account.
        ipv6: First address of its IPv6 block; empty without one.
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
    """A network interface, or a zone's part of a regional NAT gateway, which has no interface.

    Attributes:
        account_id: The interface's owner, not always the owner of the VPC.
        resource_id: Gateway without an interface; empty for all others.
        pods: Block of its pods' addresses; empty without one (prefix delegation).
        told_account_id: The account in logs: AWS reports `unknown` for some interfaces that it created itself.
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

    @property
    def zone_id(self) -> str:
        return self.subnet.zone_id

    @property
    def local(self) -> bool:
        """Whether it is in a Local Zone."""
        return "-az" not in self.subnet.zone_id[:8]

    @property
    def place(self) -> str:
        return f"{self.vpc.region}/{self.subnet.zone_id}"

    @property
    def log_resource(self) -> str:
        """The resource on a bill: the instance, the gateway, else the interface."""
        return self.instance_id or self.resource_id or self.id


class Packet(NamedTuple):
    """Addresses of a packet, and their services in a version 5 log."""

    source: str
    destination: str
    source_service: str = "-"
    destination_service: str = "-"
