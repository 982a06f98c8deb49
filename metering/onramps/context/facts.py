"""What a context knows, thing by thing. Named tuples, because a context holds many and writes them as JSON lists."""

from __future__ import annotations

from typing import NamedTuple


class Vpc(NamedTuple):
    """A VPC. `cidrs` are all of its blocks, of both families, sorted."""

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
        id: Its id.
        account_id: Its owner, who may be another than the VPC's.
        subnet_id: Its subnet, which the context has.
        kind: One of `metering.onramps.context.interfaces.KINDS`.
        addresses: Its private IPv4 addresses and its IPv6 addresses, sorted.
        public: Whether a public IPv4 address is associated with it.
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
    """An active peering of two VPCs, in the order of their ids, with the CIDR blocks that it tells of each."""

    id: str
    vpc_ids: tuple[str, str]
    regions: tuple[str, str]
    cidrs: tuple[tuple[str, ...], tuple[str, ...]]


class Attachment(NamedTuple):
    """An attachment of a transit gateway.

    Attributes:
        id: Its id. Both sides of a peering may have the same one.
        gateway_id: The transit gateway.
        kind: What is attached, as AWS calls the types: `vpc`, `vpn`, `direct-connect-gateway`, `peering`, and others.
        owner_id: Account that owns it; empty if that is not known.
        gateway_owner_id: Account that owns the gateway; empty if that is not known.
        peer_region: Region of the other gateway of a peering; empty for all others, and if it is not known.
    """

    id: str
    gateway_id: str
    kind: str
    owner_id: str = ""
    gateway_owner_id: str = ""
    peer_region: str = ""


class MeteringRule(NamedTuple):
    """An entry of a metering policy. What it does not ask of a flow is empty; the lowest number that fits decides.

    Attributes:
        number: Its place in the order.
        payer: Who is charged: `source-attachment-owner`, `destination-attachment-owner` or `transit-gateway-owner`.
        effective_s: When it takes effect, or ends if it is removed, in epoch seconds; 0 if AWS does not say.
        removed: Whether it was removed.
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
    """The metering policy of a transit gateway: who is charged for what it processes.

    Attributes:
        id: Its id.
        gateway_id: The transit gateway.
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
    """A CloudFront distribution.

    Attributes:
        id: Its id.
        account_id: Its owner.
        log: `legacy` or `v2`, the standard log that is metered if both are on; empty if only one is.
    """

    id: str
    account_id: str
    log: str


class FlowLog(NamedTuple):
    """A flow log.

    Attributes:
        id: Its id.
        resource_id: What it logs: a VPC, a subnet, an interface, a transit gateway or a regional NAT gateway.
        resource_type: Kind of that, by the beginning of its id: `vpc`, `subnet`, `eni`, `tgw`, `tgw-attach`, `nat`.
        created_s: When it was created, in epoch seconds.
        fields: Names of its fields, as AWS writes them (`az-id`), in their order.
        traffic_type: `ACCEPT`, `REJECT` or `ALL`.
        destination: Where it delivers to: an ARN of a bucket with a prefix, or a log group.
        destination_type: `s3`, `cloud-watch-logs` or `kinesis-data-firehose`.
        account_id: Account that it was described in.
        region: Region that it was described in.
        delivery_status: `SUCCESS` or `FAILED`, as AWS says of its deliveries; empty if AWS does not say.
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
