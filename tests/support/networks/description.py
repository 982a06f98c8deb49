"""The description of a network in EC2's form, without the members that contexts do not use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.replay.network import made_id
from tests.support.describing import flow_log, interface, subnet, vpc
from tests.support.networks.gateways import attached_vpcs, described, gateway_id, moment
from tests.support.networks.inventory import (
    ENDPOINT_SERVICE,
    OWNER,
    PARTNER,
    Interface,
    Inventory,
    Kind,
    Subnet,
    Vpc,
    ip_ranges,
)

if TYPE_CHECKING:
    from tests.support.networks.flow_logs import FlowLog, FlowLogs

# As DescribeNetworkInterfaces says it. A NAT gateway has two spellings: in the API reference, and in the API's answers.
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
    Kind.NAT: "Interface for NAT Gateway {}",
    Kind.ENDPOINT: "VPC Endpoint Interface {}",
    Kind.DATABASE: "RDSNetworkInterface",
}


def description(inventory: Inventory, flow_logs: FlowLogs, captured_s: int) -> dict[str, object]:
    """Description of the whole network, as both accounts see it in both regions.

    Interfaces whose address changes hands are described as they are at `captured_s`.
    """
    places = sorted({(vpc.account_id, vpc.region) for vpc in inventory.vpcs.values()})
    return {
        "schema": "metering.description/1",
        "captured_at": moment(captured_s),
        "regions": [_region(inventory, flow_logs, *place, captured_s) for place in places],
        "buckets": {log.bucket: log.region for log in flow_logs.logs},
        "accounts": [OWNER, PARTNER],
        "ip_ranges": ip_ranges(),
    }


def _region(
    inventory: Inventory, flow_logs: FlowLogs, account_id: str, region: str, captured_s: int
) -> dict[str, object]:
    gone = "first" if captured_s >= flow_logs.handed_over_s else "second"
    vpcs = [each for each in inventory.vpcs.values() if (each.account_id, each.region) == (account_id, region)]
    seen = [
        each
        for each in inventory.interfaces
        # A VPC's owner sees the resources of participants in the VPC.
        if each.vpc.region == region and account_id in (each.account_id, each.vpc.account_id)
        if each.life not in ("unseen", gone)
    ]
    logs = [log for log in flow_logs.logs if (log.account_id, log.region) == (account_id, region)]
    return {
        "account_id": account_id,
        "region": region,
        "Vpcs": [vpc(each.id, *each.cidrs, ipv6=each.ipv6_cidr, owner=each.account_id) for each in vpcs],
        "Subnets": [_subnet(each, inner) for each in vpcs for inner in each.subnets],
        "NetworkInterfaces": [_interface(each) for each in seen if not each.resource_id],
        "Tags": [tag for each in seen if each.instance_id for tag in _tags(each)],
        "VpcEndpoints": _endpoints(seen),
        "FlowLogs": [_flow_log(log) for log in logs],
        "VpcPeeringConnections": _peerings(inventory, account_id, region),
        "Addresses": [_address(each) for each in seen if _has_elastic(each, account_id)],
        "TransitGatewayVpcAttachments": _attachments(inventory, account_id, region),
        **described(inventory, account_id, region, flow_logs.changed_s),
    }


def _subnet(vpc: Vpc, each: Subnet) -> dict[str, object]:
    ipv6 = f"{each.ipv6}/64" if each.ipv6 else ""
    return subnet(each.id, vpc.id, each.cidr, each.zone_id, ipv6) | {"AvailabilityZone": each.zone_name}


def _interface(each: Interface) -> dict[str, object]:
    made = interface(
        each.id,
        each.subnet.id,
        each.address,
        public=each.public,
        ipv6=each.ipv6,
        OwnerId=each.account_id,
        InterfaceType=_type(each),
        Description=_DESCRIPTIONS.get(each.kind, "").format(each.holder),
        RequesterId=_REQUESTERS.get(each.kind, ""),
    )
    if each.instance_id:
        made["Attachment"] = {"InstanceId": each.instance_id}
    return made | {"Ipv4Prefixes": [{"Ipv4Prefix": each.pods}]} if each.pods else made


def _tags(each: Interface) -> list[dict[str, str]]:
    """Tags of an instance, as its workload's service sets them, and a name of people."""
    kind, _, name = each.group.partition(":")
    found = {"Name": f"{each.vpc.name}-{each.instance_id[-4:]}"}
    if kind == "asg":
        found["aws:autoscaling:groupName"] = name
    elif kind == "eks":
        found |= dict(zip(("eks:cluster-name", "eks:nodegroup-name"), name.split("/"), strict=True))
        found["aws:autoscaling:groupName"] = "eks-blue-0a1b2c3d"
    return [{"ResourceId": each.instance_id, "Key": key, "Value": value} for key, value in found.items()]


def _endpoints(seen: list[Interface]) -> list[dict[str, object]]:
    found: dict[str, list[str]] = {}
    for each in seen:
        if each.kind is Kind.ENDPOINT:
            found.setdefault(each.holder, []).append(each.id)
    return [
        {"VpcEndpointId": holder, "ServiceName": ENDPOINT_SERVICE, "NetworkInterfaceIds": interfaces}
        for holder, interfaces in found.items()
    ]


def _type(each: Interface) -> str:
    if each.kind is Kind.NAT:
        return _NAT_TYPES[int(each.zone_id[-1]) % len(_NAT_TYPES)]
    return _TYPES.get(each.kind, "interface")


def _elastic(each: Interface) -> bool:
    """Whether a public address is elastic; AWS owns the addresses of application load balancers."""
    return each.kind is not Kind.ALB


def _has_elastic(each: Interface, account_id: str) -> bool:
    return bool(each.public) and each.account_id == account_id and _elastic(each)


def _address(each: Interface) -> dict[str, object]:
    return {"PublicIp": each.public, "NetworkInterfaceId": "" if each.resource_id else each.id}


def _flow_log(log: FlowLog) -> dict[str, object]:
    prefix = log.prefix.rstrip("/")
    return flow_log(
        log.id,
        log.resource_id,
        CreationTime=moment(log.created_s),
        DeliverLogsStatus="SUCCESS",
        LogDestination=f"arn:aws:s3:::{log.bucket}{f'/{prefix}' if prefix else ''}",
        LogFormat=" ".join(f"${{{name}}}" for name in log.fields),
    )


def _peerings(inventory: Inventory, account_id: str, region: str) -> list[dict[str, object]]:
    main = inventory.vpcs["main"]
    return [
        {
            "VpcPeeringConnectionId": made_id("pcx", inventory.seed, "main", name),
            "Status": {"Code": "active"},
            "RequesterVpcInfo": peered(main),
            "AccepterVpcInfo": peered(inventory.vpcs[name]),
        }
        for name in ("peer", "east")
        if (account_id, region) in {(vpc.account_id, vpc.region) for vpc in (main, inventory.vpcs[name])}
    ]


def peered(vpc: Vpc) -> dict[str, object]:
    return {
        "VpcId": vpc.id,
        "Region": vpc.region,
        "CidrBlockSet": [{"CidrBlock": cidr} for cidr in vpc.cidrs],
        "Ipv6CidrBlockSet": [{"Ipv6CidrBlock": vpc.ipv6_cidr}] if vpc.ipv6_cidr else [],
    }


def _attachments(inventory: Inventory, account_id: str, region: str) -> list[dict[str, object]]:
    attached = [inventory.vpcs[name] for name in attached_vpcs(inventory)]
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
        # The transit gateway's owner sees all attachments, and a VPC's owner sees only the VPC's own attachments.
        if vpc.region == region and account_id in (OWNER, vpc.account_id)
    ]
