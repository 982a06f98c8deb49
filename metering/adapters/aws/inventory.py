"""Description of networks and flow logs, from EC2's read-only Describe calls in several accounts and regions.

Only the members that contexts need are kept of each item: no user data and no keys. Tags are described for given keys.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import NamedTuple, Protocol, cast

from botocore.exceptions import ClientError

from metering.adapters.aws import log_buckets
from metering.adapters.aws.errors import is_denied, is_unknown_call, translated
from metering.adapters.aws.session import Clients, account_of, assumed, in_region
from metering.errors import OperationFailedError
from metering.onramps.context.description import SCHEMA
from metering.onramps.context.holders import SERVICE_TAGS

# Largest page that EC2 allows (EC2 API, DescribeNetworkInterfaces).
_PAGE_ITEMS = 1_000


_ALL: Mapping[str, object] = MappingProxyType({})


class _Call(NamedTuple):
    """A read-only call, the name of the list in its response, and the members to keep of each item.

    A capture succeeds without optional calls, because an earlier release's roles may not allow them.
    """

    operation: str
    items: str
    kept: frozenset[str]
    optional: bool = False

    @property
    def permission(self) -> str:
        return "ec2:" + "".join(word.capitalize() for word in self.operation.split("_"))


def _call(operation: str, items: str, kept: str, *, optional: bool = False) -> _Call:
    return _Call(operation, items, frozenset(kept.split()), optional)


_CALLS = (
    _call("describe_vpcs", "Vpcs", "VpcId OwnerId CidrBlock CidrBlockAssociationSet Ipv6CidrBlockAssociationSet"),
    _call("describe_subnets", "Subnets", "SubnetId VpcId AvailabilityZoneId CidrBlock Ipv6CidrBlockAssociationSet"),
    _call(
        "describe_network_interfaces",
        "NetworkInterfaces",
        "NetworkInterfaceId OwnerId VpcId SubnetId InterfaceType Description RequesterId RequesterManaged "
        "PrivateIpAddress PrivateIpAddresses Ipv6Addresses Ipv4Prefixes Ipv6Prefixes Association Attachment",
    ),
    _call(
        "describe_flow_logs",
        "FlowLogs",
        "FlowLogId ResourceId CreationTime FlowLogStatus TrafficType LogFormat LogDestination LogDestinationType "
        "LogGroupName DeliverLogsStatus DestinationOptions MaxAggregationInterval",
    ),
    _call(
        "describe_vpc_peering_connections",
        "VpcPeeringConnections",
        "VpcPeeringConnectionId Status RequesterVpcInfo AccepterVpcInfo",
    ),
    _call("describe_addresses", "Addresses", "PublicIp NetworkInterfaceId NetworkInterfaceOwnerId"),
    _call(
        "describe_transit_gateway_vpc_attachments",
        "TransitGatewayVpcAttachments",
        "TransitGatewayAttachmentId TransitGatewayId VpcId VpcOwnerId State",
    ),
    _call(
        "describe_transit_gateway_attachments",
        "TransitGatewayAttachments",
        "TransitGatewayAttachmentId TransitGatewayId TransitGatewayOwnerId ResourceOwnerId ResourceType ResourceId "
        "State",
        optional=True,
    ),
    _call(
        "describe_transit_gateway_peering_attachments",
        "TransitGatewayPeeringAttachments",
        "TransitGatewayAttachmentId AccepterTransitGatewayAttachmentId RequesterTgwInfo AccepterTgwInfo State",
        optional=True,
    ),
    _call(
        "describe_transit_gateway_metering_policies",
        "TransitGatewayMeteringPolicies",
        "TransitGatewayMeteringPolicyId TransitGatewayId MiddleboxAttachmentIds State UpdateEffectiveAt",
        optional=True,
    ),
    _call("describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId ServiceName NetworkInterfaceIds", optional=True),
    _call("describe_tags", "Tags", "ResourceId Key Value", optional=True),
)
_TAGS = "Tags"
# Kinds of resources whose tags show whose an interface is (EC2 API, DescribeTags).
_TAGGED = ("instance", "network-interface", "subnet", "vpc", "natgateway", "vpc-endpoint", "transit-gateway-attachment")
_POLICIES, _POLICY_ID = "TransitGatewayMeteringPolicies", "TransitGatewayMeteringPolicyId"
# Asked for each policy.
_ENTRIES = _call(
    "get_transit_gateway_metering_policy_entries",
    "TransitGatewayMeteringPolicyEntries",
    "PolicyRuleNumber MeteredAccount State UpdatedAt UpdateEffectiveAt MeteringPolicyRule",
    optional=True,
)
PERMISSIONS = tuple(call.permission for call in (*_CALLS, _ENTRIES))
"""What a role needs to be captured with."""


class _Paginator(Protocol):
    def paginate(self, **kwargs: object) -> Iterable[Mapping[str, object]]: ...


class _Ec2(Protocol):
    def can_paginate(self, operation_name: str) -> bool: ...

    def get_paginator(self, operation_name: str) -> _Paginator: ...


class Step(NamedTuple):
    """Progress of a capture: `number` calls out of `of` have been made."""

    number: int
    of: int
    what: str


class AwsInventory:
    """Describes networks.

    Args:
        role_arns: Roles in other accounts, whose networks are described in the same regions.
        tag_keys: Keys of the tags to describe, beside those of AWS's services that show a workload.
        buckets: Known regions of buckets, by bucket name.
        asks_for_buckets: Whether to ask S3 for the regions and owners of all buckets. A denial by S3 is not an error.
        ip_ranges: Returns AWS's list of address ranges; None leaves the ranges out.
    """

    def __init__(
        self,
        clients: Clients,
        *,
        regions: Sequence[str],
        role_arns: Sequence[str] = (),
        tag_keys: Sequence[str] = (),
        buckets: Mapping[str, str] | None = None,
        asks_for_buckets: bool = False,
        ip_ranges: Callable[[], Mapping[str, object]] | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> None:
        self._clients = clients
        self._regions = tuple(dict.fromkeys(regions))
        self._role_arns = tuple(dict.fromkeys(role_arns))
        keys = list(dict.fromkeys((*SERVICE_TAGS, *tag_keys)))
        filters = [{"Name": "key", "Values": keys}, {"Name": "resource-type", "Values": list(_TAGGED)}]
        self._asked: Mapping[str, Mapping[str, object]] = {_TAGS: {"Filters": filters}}
        self._buckets = dict(buckets or {})
        self._owners: dict[str, str] = {}
        self._asks_for_buckets = asks_for_buckets
        self._skipped: list[str] = []
        self._ip_ranges = ip_ranges
        self._on_step = on_step
        self._done = 0

    @property
    def skipped(self) -> tuple[str, ...]:
        """Optional calls that were denied during the last description."""
        return tuple(self._skipped)

    def describe(self) -> dict[str, object]:
        """The current description (`metering.onramps.context.description`).

        Raises:
            OperationFailedError: Calls were denied; the error names each missing permission, with account and region.
            UnavailableError: A service did not answer.
        """
        self._done = 0
        self._skipped.clear()
        denied: list[str] = []
        places = []
        for account_id, clients in self._accounts(denied):
            places += [self._place(clients, account_id, region, denied) for region in self._regions]
            if self._asks_for_buckets:
                self._take_buckets(clients, account_id)
        if denied:
            raise OperationFailedError(
                f"{len(denied)} calls were denied: {'; '.join(denied[:10])}.",
                f"Allow these actions to the caller, or to the role: {', '.join(PERMISSIONS)}.",
            )
        description: dict[str, object] = {
            "schema": SCHEMA,
            "captured_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "regions": places,
            "buckets": self._buckets,
            "bucket_owners": self._owners,
            "accounts": sorted({str(place["account_id"]) for place in places}),
        }
        if self._ip_ranges is not None:
            description["ip_ranges"] = self._ip_ranges()
        return description

    def _accounts(self, denied: list[str]) -> Iterator[tuple[str, Clients]]:
        yield account_of(self._clients), self._clients
        for role_arn in self._role_arns:
            try:
                clients = assumed(self._clients, role_arn)
                account_id = account_of(clients)
            except ClientError as error:
                if not is_denied(error):
                    raise
                denied.append(f"sts:AssumeRole of {role_arn}")
                continue
            yield account_id, clients

    def _place(self, clients: Clients, account_id: str, region: str, denied: list[str]) -> dict[str, object]:
        place: dict[str, object] = {"account_id": account_id, "region": region}
        ec2 = cast("_Ec2", in_region(clients, region).client("ec2"))
        where = f"{region} of account {account_id}"
        for call in _CALLS:
            found = self._described(ec2, call, where, denied, self._asked.get(call.items, _ALL))
            if found is not None:
                place[call.items] = found
            self._step(f"{where}: {call.permission.partition(':')[2]}")
        for policy in cast("Sequence[dict[str, object]]", place.get(_POLICIES, ())):
            entries = self._described(ec2, _ENTRIES, where, denied, {_POLICY_ID: policy[_POLICY_ID]})
            if entries is not None:
                policy[_ENTRIES.items] = entries
        return place

    def _described(
        self, ec2: _Ec2, call: _Call, where: str, denied: list[str], asked: Mapping[str, object] = _ALL
    ) -> list[dict[str, object]] | None:
        try:
            with translated(f"ec2.{call.permission.partition(':')[2]}"):
                return [_kept(item, call.kept) for item in _items(ec2, call, asked)]
        except ClientError as error:
            if is_denied(error):
                (self._skipped if call.optional else denied).append(f"{call.permission} in {where}")
            elif not is_unknown_call(error):
                raise
            return None

    def _take_buckets(self, clients: Clients, account_id: str) -> None:
        try:
            regions = log_buckets.bucket_regions(clients.s3)
        except ClientError as error:
            if not is_denied(error):
                raise
            self._skipped.append(f"s3:ListAllMyBuckets in account {account_id}")
            return
        self._buckets |= regions
        self._owners |= dict.fromkeys(regions, account_id)

    def _step(self, what: str) -> None:
        self._done += 1
        if self._on_step is not None:
            of = len(_CALLS) * len(self._regions) * (1 + len(self._role_arns))
            self._on_step(Step(self._done, of, what))


def _items(ec2: _Ec2, call: _Call, asked: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    pages = (
        ec2.get_paginator(call.operation).paginate(**asked, PaginationConfig={"PageSize": _PAGE_ITEMS})
        if ec2.can_paginate(call.operation)
        else _pages(cast("Callable[..., Mapping[str, object]]", getattr(ec2, call.operation)), asked)
    )
    for page in pages:
        yield from cast("Sequence[Mapping[str, object]]", page.get(call.items, ()))


def _pages(
    describe: Callable[..., Mapping[str, object]], asked: Mapping[str, object]
) -> Iterator[Mapping[str, object]]:
    """Pages of a call that the SDK has no paginator for."""
    page = describe(**asked)
    yield page
    while page.get("NextToken"):
        page = describe(**asked, NextToken=page["NextToken"])
        yield page


def _kept(item: Mapping[str, object], names: frozenset[str]) -> dict[str, object]:
    return {name: _as_json(value) for name, value in item.items() if name in names and value is not None}


def _as_json(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _as_json(each) for name, each in value.items()}
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value
