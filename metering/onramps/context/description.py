"""The input of a context: results of EC2's Describe calls, and AWS's list of address ranges.

Only members that contexts need are modelled here; all others are ignored. The schemas are AWS's (EC2 API, `Describe*`;
`ip-ranges.json` of the AWS General Reference).
"""

# The decoder reads the annotations at run time.
from collections.abc import Mapping
from datetime import datetime

import msgspec

from metering.errors import OperationFailedError

SCHEMA = "metering.description/1"
_ADVICE = "Capture it again. A description that you wrote yourself must agree with itself, or it would bill wrongly."


class DescriptionError(OperationFailedError):
    """A description is invalid; `problems` lists up to twenty problems."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        listed = "; ".join(problems)
        super().__init__(f"The description does not become a context: {listed}.", _ADVICE)
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        return (DescriptionError, (self.problems,))


class _Aws(msgspec.Struct, kw_only=True, frozen=True, rename="pascal"):
    """An item of a Describe call."""


class BlockState(_Aws, kw_only=True, frozen=True):
    """State of a block: Only `associated` blocks count."""

    state: str = "associated"


class Block(_Aws, kw_only=True, frozen=True):
    """CIDR block of a VPC or a subnet, IPv4 or IPv6."""

    cidr_block: str = ""
    ipv6_cidr_block: str = ""
    cidr_block_state: BlockState = BlockState()
    ipv6_cidr_block_state: BlockState = BlockState()


class VpcItem(_Aws, kw_only=True, frozen=True):
    """An item of DescribeVpcs."""

    vpc_id: str
    cidr_block: str = ""
    owner_id: str = ""
    cidr_block_association_set: tuple[Block, ...] = ()
    ipv6_cidr_block_association_set: tuple[Block, ...] = ()


class SubnetItem(_Aws, kw_only=True, frozen=True):
    """An item of DescribeSubnets."""

    subnet_id: str
    vpc_id: str
    availability_zone_id: str = ""
    cidr_block: str = ""
    ipv6_cidr_block_association_set: tuple[Block, ...] = ()


class Association(_Aws, kw_only=True, frozen=True):
    """Public address associated with a private address."""

    public_ip: str = ""


class PrivateAddress(_Aws, kw_only=True, frozen=True):
    """A private IPv4 address of an interface."""

    private_ip_address: str = ""
    association: Association = Association()


class Ipv6Address(msgspec.Struct, kw_only=True, frozen=True):
    """An IPv6 address of an interface."""

    ipv6_address: str = msgspec.field(name="Ipv6Address", default="")


class Delegated(msgspec.Struct, kw_only=True, frozen=True):
    """Prefix delegated to an interface, IPv4 or IPv6."""

    ipv4_prefix: str = msgspec.field(name="Ipv4Prefix", default="")
    ipv6_prefix: str = msgspec.field(name="Ipv6Prefix", default="")


class InterfaceAttachment(_Aws, kw_only=True, frozen=True):
    """Attachment of an interface; without an instance, `instance_id` is empty."""

    instance_id: str = ""


class InterfaceItem(_Aws, kw_only=True, frozen=True):
    """An item of DescribeNetworkInterfaces."""

    network_interface_id: str
    owner_id: str = ""
    subnet_id: str = ""
    interface_type: str = "interface"
    description: str = ""
    requester_id: str = ""
    private_ip_address: str = ""
    private_ip_addresses: tuple[PrivateAddress, ...] = ()
    ipv6_addresses: tuple[Ipv6Address, ...] = ()
    ipv4_prefixes: tuple[Delegated, ...] = ()
    ipv6_prefixes: tuple[Delegated, ...] = ()
    association: Association = Association()
    attachment: InterfaceAttachment = InterfaceAttachment()


class EndpointItem(_Aws, kw_only=True, frozen=True):
    """An item of DescribeVpcEndpoints."""

    vpc_endpoint_id: str
    service_name: str = ""
    network_interface_ids: tuple[str, ...] = ()


class TagItem(_Aws, kw_only=True, frozen=True):
    """An item of DescribeTags."""

    resource_id: str
    key: str
    value: str = ""


class FlowLogItem(_Aws, kw_only=True, frozen=True):
    """An item of DescribeFlowLogs."""

    flow_log_id: str
    resource_id: str = ""
    creation_time: datetime
    flow_log_status: str = "ACTIVE"
    traffic_type: str = "ALL"
    log_format: str = ""
    log_destination: str = ""
    log_destination_type: str = "cloud-watch-logs"
    log_group_name: str = ""
    deliver_logs_status: str = ""


class PeeringStatus(_Aws, kw_only=True, frozen=True):
    """State of a peering."""

    code: str = ""


class PeeringVpc(_Aws, kw_only=True, frozen=True):
    """One side of a VPC peering connection."""

    vpc_id: str = ""
    region: str = ""
    cidr_block: str = ""
    cidr_block_set: tuple[Block, ...] = ()
    ipv6_cidr_block_set: tuple[Block, ...] = ()


class PeeringItem(_Aws, kw_only=True, frozen=True):
    """An item of DescribeVpcPeeringConnections."""

    vpc_peering_connection_id: str
    requester_vpc_info: PeeringVpc = PeeringVpc()
    accepter_vpc_info: PeeringVpc = PeeringVpc()
    status: PeeringStatus = PeeringStatus()


class AddressItem(_Aws, kw_only=True, frozen=True):
    """An item of DescribeAddresses."""

    public_ip: str = ""
    network_interface_id: str = ""


class VpcAttachmentItem(_Aws, kw_only=True, frozen=True):
    """An item of DescribeTransitGatewayVpcAttachments."""

    transit_gateway_attachment_id: str = ""
    transit_gateway_id: str = ""
    vpc_id: str = ""
    vpc_owner_id: str = ""
    state: str = "available"


class AttachmentItem(_Aws, kw_only=True, frozen=True):
    """An item of DescribeTransitGatewayAttachments."""

    transit_gateway_attachment_id: str
    transit_gateway_id: str
    transit_gateway_owner_id: str = ""
    resource_owner_id: str = ""
    resource_type: str = ""
    resource_id: str = ""
    state: str = "available"


class PeerGateway(_Aws, kw_only=True, frozen=True):
    """One side of a transit gateway peering attachment."""

    transit_gateway_id: str = ""
    owner_id: str = ""
    region: str = ""


class PeeringAttachmentItem(_Aws, kw_only=True, frozen=True):
    """An item of DescribeTransitGatewayPeeringAttachments."""

    transit_gateway_attachment_id: str
    accepter_transit_gateway_attachment_id: str = ""
    requester_tgw_info: PeerGateway = PeerGateway()
    accepter_tgw_info: PeerGateway = PeerGateway()


class MeteringPolicyRuleItem(_Aws, kw_only=True, frozen=True):
    """Conditions of a metering policy entry; an empty condition matches everything."""

    source_transit_gateway_attachment_id: str = ""
    source_transit_gateway_attachment_type: str = ""
    source_cidr_block: str = ""
    source_port_range: str = ""
    destination_transit_gateway_attachment_id: str = ""
    destination_transit_gateway_attachment_type: str = ""
    destination_cidr_block: str = ""
    destination_port_range: str = ""
    protocol: str = ""


class MeteringPolicyEntryItem(_Aws, kw_only=True, frozen=True):
    """An item of GetTransitGatewayMeteringPolicyEntries."""

    policy_rule_number: str
    metered_account: str = ""
    state: str = "available"
    update_effective_at: datetime | None = None
    metering_policy_rule: MeteringPolicyRuleItem = MeteringPolicyRuleItem()


class MeteringPolicyItem(_Aws, kw_only=True, frozen=True):
    """An item of DescribeTransitGatewayMeteringPolicies, with its entries; None if unknown."""

    transit_gateway_metering_policy_id: str
    transit_gateway_id: str
    middlebox_attachment_ids: tuple[str, ...] = ()
    state: str = ""
    update_effective_at: datetime | None = None
    transit_gateway_metering_policy_entries: tuple[MeteringPolicyEntryItem, ...] | None = None


class Place(msgspec.Struct, kw_only=True, frozen=True):
    """Results of the Describe calls in one account and region.

    `metering_policies`, `endpoints` and `tags` are None if not requested, or not allowed.
    """

    account_id: str
    region: str
    vpcs: tuple[VpcItem, ...] = msgspec.field(name="Vpcs", default=())
    subnets: tuple[SubnetItem, ...] = msgspec.field(name="Subnets", default=())
    interfaces: tuple[InterfaceItem, ...] = msgspec.field(name="NetworkInterfaces", default=())
    flow_logs: tuple[FlowLogItem, ...] = msgspec.field(name="FlowLogs", default=())
    peerings: tuple[PeeringItem, ...] = msgspec.field(name="VpcPeeringConnections", default=())
    addresses: tuple[AddressItem, ...] = msgspec.field(name="Addresses", default=())
    vpc_attachments: tuple[VpcAttachmentItem, ...] = msgspec.field(name="TransitGatewayVpcAttachments", default=())
    attachments: tuple[AttachmentItem, ...] = msgspec.field(name="TransitGatewayAttachments", default=())
    peering_attachments: tuple[PeeringAttachmentItem, ...] = msgspec.field(
        name="TransitGatewayPeeringAttachments", default=()
    )
    metering_policies: tuple[MeteringPolicyItem, ...] | None = msgspec.field(
        name="TransitGatewayMeteringPolicies", default=None
    )
    endpoints: tuple[EndpointItem, ...] | None = msgspec.field(name="VpcEndpoints", default=None)
    tags: tuple[TagItem, ...] | None = msgspec.field(name="Tags", default=None)


class RangeItem(msgspec.Struct, kw_only=True, frozen=True):
    """An IPv4 prefix of ip-ranges.json."""

    ip_prefix: str
    region: str
    service: str


class Ipv6RangeItem(msgspec.Struct, kw_only=True, frozen=True):
    """An IPv6 prefix of ip-ranges.json."""

    ipv6_prefix: str
    region: str
    service: str


class IpRanges(msgspec.Struct, kw_only=True, frozen=True):
    """ip-ranges.json, as AWS publishes it."""

    prefixes: tuple[RangeItem, ...]
    ipv6_prefixes: tuple[Ipv6RangeItem, ...]


class DistributionItem(msgspec.Struct, kw_only=True, frozen=True):
    """A CloudFront distribution; `log` names the metered log, `legacy` or `v2`, if both logs are on."""

    account_id: str
    log: str = ""


class NetworkItem(msgspec.Struct, kw_only=True, frozen=True):
    """A destination that people named, as a book of owners has it."""

    name: str
    cidrs: tuple[str, ...]


class Description(msgspec.Struct, kw_only=True, frozen=True):
    """A whole description. Without address ranges, public addresses stay unclassified.

    `buckets` maps buckets to regions, `bucket_owners` to accounts; `distributions` maps ids to distributions.
    """

    schema: str
    regions: tuple[Place, ...] = ()
    buckets: dict[str, str] = {}
    bucket_owners: dict[str, str] = {}
    distributions: dict[str, DistributionItem] = {}
    accounts: tuple[str, ...] = ()
    networks: tuple[NetworkItem, ...] = ()
    ip_ranges: IpRanges | None = None


def read_description(description: Mapping[str, object]) -> Description:
    """Parse and validate a description.

    Raises:
        DescriptionError: The description does not match the schema; the message names the first invalid path.
    """
    schema = description.get("schema")
    if schema != SCHEMA:
        raise DescriptionError((f"its schema is {str(schema)[:60]!r}, and this release reads {SCHEMA}",))
    try:
        return msgspec.convert(dict(description), Description)
    except msgspec.ValidationError as error:
        raise DescriptionError((str(error),)) from error


def read_ip_ranges(body: bytes) -> dict[str, object]:
    """Check an ip-ranges.json as AWS publishes it, and decode it for a description.

    Raises:
        DescriptionError: The document is not JSON, or does not match the schema.
    """
    try:
        msgspec.json.decode(body, type=IpRanges)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DescriptionError(
            (f"the address ranges are not what AWS publishes as ip-ranges.json: {error}",)
        ) from error
    ranges: dict[str, object] = msgspec.json.decode(body, type=dict[str, object])
    return ranges
