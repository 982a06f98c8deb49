"""Preflight names each endpoint that the functions' network lacks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from metering.adapters.aws.networks import network_findings
from metering.adapters.aws.session import Access, Clients
from metering.fleet.regions import Answered, Finding
from metering.fleet.settings.organisation import Network

REGION = "eu-west-1"
CALLED = {"dynamodb": ["aggregator", "watch"], "sqs": ["canary"]}


class Vpc:
    """A VPC with two subnets and nothing else."""

    def __init__(self) -> None:
        self.clients = Clients(Access(region=REGION, access_key=("test", "test")))
        self.ec2 = cast("Any", self.clients.client("ec2"))
        self.id = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.ec2.modify_vpc_attribute(VpcId=self.id, EnableDnsSupport={"Value": True})
        self.subnets = [
            self.ec2.create_subnet(VpcId=self.id, CidrBlock=f"10.0.{n}.0/24")["Subnet"]["SubnetId"] for n in (1, 2)
        ]
        self.group = self.ec2.create_security_group(VpcId=self.id, GroupName="out", Description="out")["GroupId"]
        self.tables = [self._table(subnet) for subnet in self.subnets]

    def _table(self, subnet: str) -> str:
        table: str = self.ec2.create_route_table(VpcId=self.id)["RouteTable"]["RouteTableId"]
        self.ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
        return table

    def endpoint(self, service: str, **options: Any) -> None:
        name = f"com.amazonaws.{REGION}.{service}"
        self.ec2.create_vpc_endpoint(VpcId=self.id, ServiceName=name, **options)

    def interface(self, service: str, *, private: bool = True) -> None:
        options = {"SubnetIds": self.subnets, "PrivateDnsEnabled": private}
        self.endpoint(service, VpcEndpointType="Interface", **options)

    def gateway(self, service: str, tables: list[str]) -> None:
        self.endpoint(service, VpcEndpointType="Gateway", RouteTableIds=tables)

    def route(self, destination: str, **target: str) -> None:
        for table in self.tables:
            self.ec2.create_route(RouteTableId=table, DestinationCidrBlock=destination, **target)

    def findings(self, **changes: Any) -> dict[str, Finding]:
        own = {"region": REGION, "subnets": self.subnets, "security_groups": [self.group], **changes}
        network = Network.model_validate(own)
        return {each.check: each for each in network_findings(self.clients, network, CALLED)}


@pytest.fixture
def vpc() -> Iterator[Vpc]:
    with mock_aws():
        yield Vpc()


def test_a_missing_endpoint_is_named_with_the_functions_that_call_it(vpc: Vpc) -> None:
    found = vpc.findings()["network endpoint sqs"]
    assert found.answered is Answered.FAILED
    assert found.detail == f"canary call it: make com.amazonaws.{REGION}.sqs in {vpc.id}"


def test_a_network_with_all_endpoints_passes(vpc: Vpc) -> None:
    vpc.gateway("dynamodb", vpc.tables)
    vpc.interface("sqs")
    assert {each.answered for each in vpc.findings().values()} == {Answered.PASSED}


def test_an_interface_without_private_dns_and_a_gateway_that_a_subnet_lacks_are_named(vpc: Vpc) -> None:
    vpc.gateway("dynamodb", vpc.tables[:1])
    vpc.interface("sqs", private=False)
    found = vpc.findings()
    assert "switch on private DNS" in found["network endpoint sqs"].detail
    assert vpc.tables[1] in found["network endpoint dynamodb"].detail
    assert {each.answered for each in found.values()} == {Answered.FAILED}


def test_a_default_route_to_a_nat_gateway_does_instead(vpc: Vpc) -> None:
    address = vpc.ec2.allocate_address(Domain="vpc")["AllocationId"]
    nat = vpc.ec2.create_nat_gateway(SubnetId=vpc.subnets[0], AllocationId=address)["NatGateway"]["NatGatewayId"]
    vpc.route("0.0.0.0/0", NatGatewayId=nat)
    found = vpc.findings()["network endpoint sqs"]
    assert (found.answered, found.detail) == (Answered.PASSED, f"no endpoint; over {nat}")


def test_an_internet_gateway_is_no_way_out_for_a_function(vpc: Vpc) -> None:
    gateway = vpc.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    vpc.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc.id)
    vpc.route("0.0.0.0/0", GatewayId=gateway)
    assert vpc.findings()["network endpoint sqs"].answered is Answered.FAILED


def test_behind_a_transit_gateway_an_endpoint_of_another_vpc_may_do(vpc: Vpc) -> None:
    transit = vpc.ec2.create_transit_gateway()["TransitGateway"]["TransitGatewayId"]
    vpc.route("10.8.0.0/16", TransitGatewayId=transit)
    found = vpc.findings()["network endpoint sqs"]
    assert found.answered is Answered.UNKNOWN
    assert transit in found.detail


def test_a_group_that_lets_no_https_out_fails(vpc: Vpc) -> None:
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    vpc.ec2.revoke_security_group_egress(GroupId=vpc.group, IpPermissions=everything)
    assert "let nothing out on port 443" in vpc.findings()["network"].detail
    https = [{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}]
    vpc.ec2.authorize_security_group_egress(GroupId=vpc.group, IpPermissions=https)
    assert "network" not in vpc.findings()


def test_subnets_of_two_vpcs_or_of_none_fail(vpc: Vpc) -> None:
    other = Vpc()
    assert "are in" in vpc.findings(security_groups=[other.group])["network"].detail
    found = vpc.findings(subnets=["subnet-00000000000000000"])["network"]
    assert found.answered is Answered.FAILED
    assert "subnet-00000000000000000" in found.detail


class Denied(Clients):
    """Clients of a caller who may describe nothing."""

    def client(self, service: str) -> object:
        raise ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}, service)


def test_a_network_that_may_not_be_read_is_unknown(vpc: Vpc) -> None:
    vpc.clients = Denied(vpc.clients.access)
    assert vpc.findings()["network"].answered is Answered.UNKNOWN
