"""Whether the functions reach the services that they call from the subnets of a stage. It only describes networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from botocore.exceptions import BotoCoreError, ClientError

from metering.fleet.regions import Answered, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.adapters.aws.session import Clients
    from metering.fleet.settings.organisation import Network

_HTTPS = 443
_EVERYWHERE = "0.0.0.0/0"
# Routes that may lead to another network, which may have endpoints for this one (VPC user guide, route tables).
_ELSEWHERE = ("TransitGatewayId", "VpcPeeringConnectionId", "CoreNetworkArn", "NetworkInterfaceId")
_OUT = ("NatGatewayId", *_ELSEWHERE)


class _Ec2(Protocol):
    """Calls of the SDK's EC2 client, which has no type stubs here."""

    def describe_subnets(self, **arguments: object) -> Mapping[str, Sequence[Mapping[str, Any]]]: ...
    def describe_security_groups(self, **arguments: object) -> Mapping[str, Sequence[Mapping[str, Any]]]: ...
    def describe_route_tables(self, **arguments: object) -> Mapping[str, Sequence[Mapping[str, Any]]]: ...
    def describe_vpc_endpoints(self, **arguments: object) -> Mapping[str, Sequence[Mapping[str, Any]]]: ...


def network_findings(clients: Clients, network: Network, called: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Findings on subnets, security groups and each needed endpoint.

    Args:
        clients: Clients of the network's region.
        network: Subnets and security groups of the functions.
        called: Services that functions call, by the name of their endpoint (`sqs`), with the functions.
    """
    try:
        return list(_look(cast("_Ec2", clients.client("ec2")), network, called))
    except ClientError as error:
        missing = "NotFound" in error.response.get("Error", {}).get("Code", "")
        answered = Answered.FAILED if missing else Answered.UNKNOWN
        return [Finding(check="network", answered=answered, detail=str(error)[:200])]
    except BotoCoreError as error:
        return [Finding(check="network", answered=Answered.UNKNOWN, detail=str(error)[:200])]


def _look(ec2: _Ec2, network: Network, called: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    subnets = ec2.describe_subnets(SubnetIds=list(network.subnets))["Subnets"]
    groups = ec2.describe_security_groups(GroupIds=list(network.security_groups))["SecurityGroups"]
    vpcs = sorted({str(each["VpcId"]) for each in (*subnets, *groups)})
    if len(vpcs) > 1:
        detail = f"subnets and security groups are in {' and '.join(vpcs)}: a function is in one VPC"
        yield Finding(check="network", answered=Answered.FAILED, detail=detail)
        return
    if not any(_lets_https_out(rule) for group in groups for rule in group.get("IpPermissionsEgress", [])):
        detail = f"{', '.join(network.security_groups)} let nothing out on port {_HTTPS}: every call needs it"
        yield Finding(check="network", answered=Answered.FAILED, detail=detail)
    here = [{"Name": "vpc-id", "Values": vpcs}]
    routes = _Routes.of(ec2.describe_route_tables(Filters=here)["RouteTables"], network.subnets)
    endpoints = [
        each
        for each in ec2.describe_vpc_endpoints(Filters=here)["VpcEndpoints"]
        if str(each.get("State", "")).lower() == "available"
    ]
    for service, functions in sorted(called.items()):
        name = f"{network.region}.{service}"
        found = [each for each in endpoints if str(each["ServiceName"]).endswith(f".{name}")]
        answered, detail = _judged(found, routes)
        if answered is not Answered.PASSED:
            detail = f"{', '.join(functions)} call it: {detail} com.amazonaws.{name} in {vpcs[0]}"
        yield Finding(check=f"network endpoint {service}", answered=answered, detail=detail)


def _judged(found: Sequence[Mapping[str, Any]], routes: _Routes) -> tuple[Answered, str]:
    if any(each.get("VpcEndpointType") == "Interface" and each.get("PrivateDnsEnabled") for each in found):
        return Answered.PASSED, ""
    covered = {table for each in found for table in each.get("RouteTableIds", [])}
    if covered >= routes.tables:
        return Answered.PASSED, ""
    if routes.out:
        return Answered.PASSED, f"no endpoint; over {routes.out}"
    if covered:
        return Answered.FAILED, f"{', '.join(sorted(routes.tables - covered))} of its subnets lack the route to"
    if found:
        return Answered.FAILED, "switch on private DNS of"
    if routes.elsewhere:
        return Answered.UNKNOWN, f"{routes.elsewhere} may lead to an endpoint in another VPC; else make"
    return Answered.FAILED, "make"


def _lets_https_out(rule: Mapping[str, Any]) -> bool:
    if rule.get("IpProtocol") == "-1":
        return True
    return rule.get("IpProtocol") == "tcp" and rule.get("FromPort", 0) <= _HTTPS <= rule.get("ToPort", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Routes:
    """Ways out of the subnets.

    Attributes:
        tables: Ids of their route tables; a subnet without an association has the main table of its VPC.
        out: Target of a default route, if all tables have a default route; otherwise empty.
        elsewhere: Target of a route to another network; empty without such a route.
    """

    tables: frozenset[str]
    out: str
    elsewhere: str

    @classmethod
    def of(cls, tables: Sequence[Mapping[str, Any]], subnets: Sequence[str]) -> _Routes:
        own = {link.get("SubnetId"): table for table in tables for link in table.get("Associations", [])}
        main = next((t for t in tables for link in t.get("Associations", []) if link.get("Main")), None)
        used = [table for subnet in subnets if (table := own.get(subnet, main)) is not None]
        outs = [_target(table, _OUT, _EVERYWHERE) for table in used]
        return cls(
            tables=frozenset(str(table["RouteTableId"]) for table in used),
            out=outs[0] if outs and all(outs) else "",
            elsewhere=next(filter(None, (_target(table, _ELSEWHERE) for table in used)), ""),
        )


def _target(table: Mapping[str, Any], kinds: Sequence[str], destination: str = "") -> str:
    for route in table.get("Routes", []):
        fits = not destination or route.get("DestinationCidrBlock") == destination
        if fits and route.get("State") == "active" and (found := [route[kind] for kind in kinds if kind in route]):
            return str(found[0])
    return ""
