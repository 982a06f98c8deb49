"""The description of a network, as EC2 would describe it: what an inventory is captured from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from metering.replay.network import made_id
from tests.support.networks.gateways import described, gateway_id
from tests.support.networks.inventory import OWNER, PARTNER
from tests.support.networks.outside import ip_ranges
from tests.support.networks.topology import Kind

if TYPE_CHECKING:
    from tests.support.networks.flow_logs import FlowLog, FlowLogs
    from tests.support.networks.inventory import Inventory
    from tests.support.networks.topology import Interface, Subnet, Vpc

# As DescribeNetworkInterfaces says it. A NAT gateway is spelt in two ways: the API's pages, and what it answers.
_TYPES = {
    Kind.ALB: "interface",
    Kind.NLB: "network_load_balancer",
    Kind.TGW: "transit_gateway",
    Kind.ENDPOINT: "vpc_endpoint",
}
_NAT_TYPES = ("nat_gateway", "natGateway")
_REQUESTERS = {
    Kind.ALB: "amazon-elb",
    Kind.NLB: "amazon-elb",
    Kind.TGW: "amazon-aws",
    Kind.NAT: "amazon-aws",
    Kind.ENDPOINT: "amazon-aws",
    Kind.DATABASE: "amazon-rds",
}
_DESCRIPTIONS = {
    Kind.ALB: "ELB app/web/50dc6c495c0c9188",
    Kind.NLB: "ELB net/internal/8d4fbf2a7a1c2f3e",
    Kind.TGW: "Network Interface for Transit Gateway Attachment",
    Kind.NAT: "Interface for NAT Gateway",
    Kind.ENDPOINT: "VPC Endpoint Interface",
    Kind.DATABASE: "RDSNetworkInterface",
}


def description(inventory: Inventory, flow_logs: FlowLogs, captured_s: int) -> dict[str, object]:
    """The whole network, described by both accounts in both regions."""
    places = sorted({(vpc.account_id, vpc.region) for vpc in inventory.vpcs.values()})
    return {
        "schema": "metering.description/1",
        "captured_at": _moment(captured_s),
        "regions": [_region(inventory, flow_logs, *place) for place in places],
        "buckets": {log.bucket: log.region for log in flow_logs.logs},
        "accounts": [OWNER, PARTNER],
        "ip_ranges": ip_ranges(),
    }


def _region(inventory: Inventory, flow_logs: FlowLogs, account_id: str, region: str) -> dict[str, object]:
    vpcs = [vpc for vpc in inventory.vpcs.values() if (vpc.account_id, vpc.region) == (account_id, region)]
    seen = [
        each
        for each in inventory.interfaces
        # The owner of a VPC sees what participants have in it.
        if each.vpc.region == region and account_id in (each.account_id, each.vpc.account_id)
    ]
    logs = [log for log in flow_logs.logs if (log.account_id, log.region) == (account_id, region)]
    return {
        "account_id": account_id,
        "region": region,
        "Vpcs": [_vpc(vpc) for vpc in vpcs],
        "Subnets": [_subnet(vpc, subnet) for vpc in vpcs for subnet in vpc.subnets],
        "NetworkInterfaces": [_interface(each) for each in seen if not each.resource_id],
        "FlowLogs": [_flow_log(log) for log in logs],
        "VpcPeeringConnections": _peerings(inventory, account_id, region),
        "Addresses": [_address(each, inventory.seed) for each in seen if _has_elastic(each, account_id)],
        "TransitGatewayVpcAttachments": _attachments(inventory, account_id, region),
        **described(inventory, account_id, region, flow_logs.changed_s),
    }


def _vpc(vpc: Vpc) -> dict[str, object]:
    state = {"State": "associated"}
    blocks = [{"CidrBlock": cidr, "CidrBlockState": state} for cidr in vpc.cidrs]
    ipv6 = [{"Ipv6CidrBlock": vpc.ipv6_cidr, "Ipv6CidrBlockState": state}] if vpc.ipv6_cidr else []
    return {
        "VpcId": vpc.id,
        "OwnerId": vpc.account_id,
        "CidrBlock": vpc.cidrs[0],
        "State": "available",
        "IsDefault": False,
        "InstanceTenancy": "default",
        "CidrBlockAssociationSet": blocks,
        "Ipv6CidrBlockAssociationSet": ipv6,
    }


def _subnet(vpc: Vpc, subnet: Subnet) -> dict[str, object]:
    state = {"State": "associated"}
    ipv6 = [{"Ipv6CidrBlock": f"{subnet.ipv6}/64", "Ipv6CidrBlockState": state}] if subnet.ipv6 else []
    return {
        "SubnetId": subnet.id,
        "VpcId": vpc.id,
        "OwnerId": vpc.account_id,
        "CidrBlock": subnet.cidr,
        "Ipv6CidrBlockAssociationSet": ipv6,
        "AvailabilityZone": subnet.zone_name,
        "AvailabilityZoneId": subnet.zone_id,
        "State": "available",
    }


def _interface(each: Interface) -> dict[str, object]:
    requester = _REQUESTERS.get(each.kind)
    association = {"PublicIp": each.public, "IpOwnerId": each.account_id if _elastic(each) else "amazon"}
    private = {"Primary": True, "PrivateIpAddress": each.address}
    described: dict[str, object] = {
        "NetworkInterfaceId": each.id,
        "OwnerId": each.account_id,
        "VpcId": each.vpc.id,
        "SubnetId": each.subnet.id,
        "AvailabilityZone": each.subnet.zone_name,
        "InterfaceType": _type(each),
        "Description": _DESCRIPTIONS.get(each.kind, ""),
        "RequesterManaged": requester is not None,
        "Status": "in-use",
        "PrivateIpAddress": each.address,
        "PrivateIpAddresses": [{**private, "Association": association} if each.public else private],
        "Ipv6Addresses": [{"Ipv6Address": each.ipv6}] if each.ipv6 else [],
    }
    if each.pods:
        described["Ipv4Prefixes"] = [{"Ipv4Prefix": each.pods}]
    if requester is not None:
        described["RequesterId"] = requester
    if each.public:
        described["Association"] = association
    if each.instance_id:
        described["Attachment"] = {"InstanceId": each.instance_id, "InstanceOwnerId": each.account_id, "DeviceIndex": 0}
    elif requester == "amazon-elb":
        described["Attachment"] = {"InstanceOwnerId": "amazon-elb", "DeviceIndex": 1}
    return described


def _type(each: Interface) -> str:
    if each.kind is Kind.NAT:
        return _NAT_TYPES[int(each.zone_id[-1]) % len(_NAT_TYPES)]
    return _TYPES.get(each.kind, "interface")


def _elastic(each: Interface) -> bool:
    """Whether a public address is an elastic one: those of load balancers belong to AWS."""
    return each.kind is not Kind.ALB


def _has_elastic(each: Interface, account_id: str) -> bool:
    return bool(each.public) and each.account_id == account_id and _elastic(each)


def _address(each: Interface, seed: int) -> dict[str, object]:
    described: dict[str, object] = {
        "PublicIp": each.public,
        "AllocationId": made_id("eipalloc", seed, each.public),
        "Domain": "vpc",
        "NetworkBorderGroup": each.vpc.region,
    }
    if not each.resource_id:
        described |= {"NetworkInterfaceId": each.id, "PrivateIpAddress": each.address}
        described["AssociationId"] = made_id("eipassoc", seed, each.public)
    return described


def _flow_log(log: FlowLog) -> dict[str, object]:
    prefix = log.prefix.rstrip("/")
    return {
        "FlowLogId": log.id,
        "ResourceId": log.resource_id,
        "CreationTime": _moment(log.created_s),
        "DeliverLogsStatus": "SUCCESS",
        "FlowLogStatus": "ACTIVE",
        "TrafficType": "ALL",
        "LogDestinationType": "s3",
        "LogDestination": f"arn:aws:s3:::{log.bucket}{f'/{prefix}' if prefix else ''}",
        "LogFormat": " ".join(f"${{{name}}}" for name in log.fields),
        "MaxAggregationInterval": 600,
        "DestinationOptions": {
            "FileFormat": "parquet" if log.parquet else "plain-text",
            "HiveCompatiblePartitions": log.hive,
            "PerHourPartition": log.hourly,
        },
    }


def _peerings(inventory: Inventory, account_id: str, region: str) -> list[dict[str, object]]:
    main = inventory.vpcs["main"]
    return [
        {
            "VpcPeeringConnectionId": made_id("pcx", inventory.seed, "main", name),
            "Status": {"Code": "active", "Message": "Active"},
            "RequesterVpcInfo": _peered(main),
            "AccepterVpcInfo": _peered(inventory.vpcs[name]),
        }
        for name in ("peer", "east")
        if (account_id, region) in {(vpc.account_id, vpc.region) for vpc in (main, inventory.vpcs[name])}
    ]


def _peered(vpc: Vpc) -> dict[str, object]:
    return {
        "VpcId": vpc.id,
        "OwnerId": vpc.account_id,
        "Region": vpc.region,
        "CidrBlock": vpc.cidrs[0],
        "CidrBlockSet": [{"CidrBlock": cidr} for cidr in vpc.cidrs],
        "Ipv6CidrBlockSet": [{"Ipv6CidrBlock": vpc.ipv6_cidr}] if vpc.ipv6_cidr else [],
    }


def _attachments(inventory: Inventory, account_id: str, region: str) -> list[dict[str, object]]:
    attached = [inventory.vpcs[name] for name in ("main", "spoke", "far")]
    return [
        {
            "TransitGatewayAttachmentId": made_id("tgw-attach", inventory.seed, vpc.name),
            "TransitGatewayId": gateway_id(inventory.seed, region),
            "VpcId": vpc.id,
            "VpcOwnerId": vpc.account_id,
            "State": "available",
            "SubnetIds": [
                each.subnet.id for each in inventory.interfaces if each.kind is Kind.TGW and each.vpc.id == vpc.id
            ],
        }
        for vpc in attached
        # The owner of the transit gateway sees all attachments, the owner of a VPC its own.
        if vpc.region == region and account_id in (OWNER, vpc.account_id)
    ]


def _moment(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
