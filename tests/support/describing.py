"""A small description of networks, and changes to it."""

from __future__ import annotations

import copy
from typing import Any

from metering.onramps.context.description import SCHEMA

ACCOUNT = "012345678901"
PARTNER = "444455556666"
REGION = "us-west-2"
EFFECTIVE_S = 1_795_521_600


def block(cidr: str, state: str = "associated") -> dict[str, Any]:
    return {"CidrBlock": cidr, "CidrBlockState": {"State": state}}


def vpc(vpc_id: str, *cidrs: str, ipv6: str = "", owner: str = ACCOUNT) -> dict[str, Any]:
    ipv6_blocks = [{"Ipv6CidrBlock": ipv6, "Ipv6CidrBlockState": {"State": "associated"}}] if ipv6 else []
    return {
        "VpcId": vpc_id,
        "OwnerId": owner,
        "CidrBlock": cidrs[0],
        "CidrBlockAssociationSet": [block(cidr) for cidr in cidrs],
        "Ipv6CidrBlockAssociationSet": ipv6_blocks,
    }


def subnet(subnet_id: str, vpc_id: str, cidr: str, zone: str = "usw2-az1", ipv6: str = "") -> dict[str, Any]:
    ipv6_blocks = [{"Ipv6CidrBlock": ipv6, "Ipv6CidrBlockState": {"State": "associated"}}] if ipv6 else []
    return {
        "SubnetId": subnet_id,
        "VpcId": vpc_id,
        "CidrBlock": cidr,
        "AvailabilityZone": "us-west-2a",
        "AvailabilityZoneId": zone,
        "Ipv6CidrBlockAssociationSet": ipv6_blocks,
    }


def interface(
    interface_id: str, subnet_id: str, *addresses: str, public: str = "", ipv6: str = "", **others: object
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "NetworkInterfaceId": interface_id,
        "OwnerId": ACCOUNT,
        "SubnetId": subnet_id,
        "InterfaceType": "interface",
        "PrivateIpAddress": addresses[0],
        "PrivateIpAddresses": [{"PrivateIpAddress": address} for address in addresses],
        "Ipv6Addresses": [{"Ipv6Address": ipv6}] if ipv6 else [],
    }
    if public:
        described["Association"] = {"PublicIp": public}
    return described | others


def flow_log(log_id: str, resource_id: str, **others: object) -> dict[str, Any]:
    return {
        "FlowLogId": log_id,
        "ResourceId": resource_id,
        "CreationTime": "2026-01-01T00:00:00Z",
        "FlowLogStatus": "ACTIVE",
        "TrafficType": "ALL",
        "LogDestinationType": "s3",
        "LogDestination": "arn:aws:s3:::acme-logs/flow",
        "LogFormat": "${version} ${interface-id} ${srcaddr} ${dstaddr} ${bytes}",
    } | others


def peering(peering_id: str, one: tuple[str, str], other: tuple[str, str], region: str = REGION) -> dict[str, Any]:
    return {
        "VpcPeeringConnectionId": peering_id,
        "Status": {"Code": "active"},
        "RequesterVpcInfo": {"VpcId": one[0], "Region": REGION, "CidrBlock": one[1]},
        "AccepterVpcInfo": {"VpcId": other[0], "Region": region, "CidrBlock": other[1]},
    }


def ranges(*prefixes: tuple[str, str, str]) -> dict[str, Any]:
    """Content of ip-ranges.json with these prefixes: `(prefix, region, service)`."""
    v4 = [
        {"ip_prefix": cidr, "region": region, "service": service}
        for cidr, region, service in prefixes
        if ":" not in cidr
    ]
    v6 = [
        {"ipv6_prefix": cidr, "region": region, "service": service} for cidr, region, service in prefixes if ":" in cidr
    ]
    return {"syncToken": "1", "createDate": "2026-09-21-14-13-20", "prefixes": v4, "ipv6_prefixes": v6}


def place(region: str = REGION, account_id: str = ACCOUNT, **lists: list[dict[str, Any]]) -> dict[str, Any]:
    return {"account_id": account_id, "region": region, **lists}


def described(*places: dict[str, Any], **others: object) -> dict[str, Any]:
    return copy.deepcopy({"schema": SCHEMA, "captured_at": "2026-11-24T10:17:00Z", "regions": list(places)} | others)


SMALL = described(
    place(
        Vpcs=[vpc("vpc-1", "10.0.0.0/16", "100.64.0.0/16", ipv6="2600:1f14:abc::/56")],
        Subnets=[
            subnet("subnet-1", "vpc-1", "10.0.0.0/24", ipv6="2600:1f14:abc::/64"),
            subnet("subnet-2", "vpc-1", "100.64.1.0/24", zone="usw2-az2"),
        ],
        NetworkInterfaces=[
            interface("eni-1", "subnet-1", "10.0.0.5", "10.0.0.6", public="52.34.0.1", ipv6="2600:1f14:abc::5"),
            interface("eni-2", "subnet-2", "100.64.1.7", InterfaceType="natGateway"),
        ],
        FlowLogs=[flow_log("fl-1", "vpc-1")],
        VpcPeeringConnections=[peering("pcx-1", ("vpc-1", "10.0.0.0/16"), ("vpc-9", "10.9.0.0/16"))],
        Addresses=[{"PublicIp": "52.34.0.9", "NetworkInterfaceId": "eni-2"}],
        TransitGatewayVpcAttachments=[{"VpcId": "vpc-1", "State": "available"}],
    ),
    buckets={"acme-logs": REGION},
    accounts=[PARTNER],
    ip_ranges=ranges(
        ("52.34.0.0/15", REGION, "EC2"), ("52.34.0.0/15", REGION, "AMAZON"), ("2600:1f14::/36", REGION, "EC2")
    ),
)
