"""The flow logs of a network, with real-world traps: overlaps, a format change, copies, other layouts."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.replay.network import made_id
from metering.units import DAY_S, HOUR_S, MINUTE_S
from tests.support.networks.gateways import FIELDS, KNOWS, Pass, attachments, gateway_id
from tests.support.networks.inventory import EAST, ECHO, OWNER, WEST, Interface, Inventory, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.networks.journeys import Side

_BY_VERSION: Mapping[int, str] = {
    2: (
        "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action "
        "log-status"
    ),
    3: "vpc-id subnet-id instance-id tcp-flags type pkt-srcaddr pkt-dstaddr",
    4: "region az-id sublocation-type sublocation-id",
    5: "pkt-src-aws-service pkt-dst-aws-service flow-direction traffic-path",
    9: "resource-id",
    11: (
        "interface-type next-hop-interface-id next-hop-subnet-id next-hop-az-id next-hop-vpc-id next-hop-interface-type"
    ),
}
_VERSION_OF = {name: version for version, names in _BY_VERSION.items() for name in names.split()}
# The useful fields of version 11: no ports, and no fields about a connection's state.
_RECOMMENDED = (
    "version account-id interface-id srcaddr dstaddr bytes start end action log-status vpc-id subnet-id instance-id "
    "pkt-srcaddr pkt-dstaddr region az-id sublocation-type pkt-src-aws-service pkt-dst-aws-service flow-direction "
    "traffic-path resource-id interface-type next-hop-interface-id next-hop-az-id next-hop-vpc-id "
    "next-hop-interface-type"
)
RECOMMENDED = tuple(_RECOMMENDED.split())
# Fields that differ between lines from one side of a hop.
CHANGING = ("srcport", "dstport", "packets", "bytes", "start", "end", "action", "log-status")
_TYPES = {
    Kind.NAT: "nat_gateway",
    Kind.REGIONAL_NAT: "regional_nat_gateway",
    Kind.NLB: "network_load_balancer",
    Kind.TGW: "transit_gateway",
    Kind.ENDPOINT: "vpc_endpoint",
}


def fields_of(version: int) -> tuple[str, ...]:
    return tuple(name for each, names in _BY_VERSION.items() if each <= version for name in names.split())


def version_of(fields: tuple[str, ...]) -> int:
    """The version of lines with these fields: the highest version of any of the fields."""
    return max(_VERSION_OF[name] for name in fields)


def values_of(side: Side, fields: tuple[str, ...]) -> dict[str, str]:
    """Field values that all lines of one side of a hop share."""
    own, packet = side.own, side.packet
    values = {
        **_of_interface(own, fields),
        "srcaddr": side.source,
        "dstaddr": side.destination,
        "protocol": "6",
        "tcp-flags": "3",
        "type": "IPv6" if ":" in side.source else "IPv4",
        "pkt-srcaddr": packet.source,
        "pkt-dstaddr": packet.destination,
        "pkt-src-aws-service": packet.source_service,
        "pkt-dst-aws-service": packet.destination_service,
        "flow-direction": "egress" if side.movement.direction == "out" else "ingress",
        "traffic-path": side.path or "-",
        **_of_next_hop(side.next_hop),
    }
    return {name: values[name] for name in fields if name not in CHANGING}


def quiet_values_of(own: Interface, fields: tuple[str, ...]) -> dict[str, str]:
    """Field values of a line without traffic (NODATA, SKIPDATA), which names only its interface."""
    known = _of_interface(own, fields)
    return {name: known.get(name, "-") for name in fields if name not in CHANGING}


def _of_interface(own: Interface, fields: tuple[str, ...]) -> dict[str, str]:
    return {
        "version": str(version_of(fields)),
        "account-id": own.told_account_id,
        "interface-id": own.id,
        "vpc-id": own.vpc.id,
        "subnet-id": own.subnet.id if own.kind is not Kind.REGIONAL_NAT else "-",
        "instance-id": own.instance_id or "-",
        "region": own.vpc.region,
        "az-id": "-" if own.local else own.zone_id,
        "sublocation-type": "localzone" if own.local else "-",
        "sublocation-id": own.subnet.zone_name if own.local else "-",
        "resource-id": own.resource_id or "-",
        "interface-type": _TYPES.get(own.kind, "-"),
    }


def _of_next_hop(next_hop: Interface | None) -> dict[str, str]:
    if next_hop is None:
        return dict.fromkeys((name for name in _BY_VERSION[11].split() if name.startswith("next-hop-")), "-")
    return {
        "next-hop-interface-id": next_hop.id,
        "next-hop-subnet-id": next_hop.subnet.id if next_hop.kind is not Kind.REGIONAL_NAT else "-",
        "next-hop-az-id": "-" if next_hop.local else next_hop.zone_id,
        "next-hop-vpc-id": next_hop.vpc.id,
        "next-hop-interface-type": _TYPES.get(next_hop.kind, "-"),
    }


# Seconds after a full hour at which the VPC `peer` gets a second log in a newer format.
_CHANGE_S = 20 * MINUTE_S
MIXED = "mixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLog:
    """One flow log.

    Attributes:
        resource_id: Logged resource: a VPC, a subnet or a regional NAT gateway.
        knows: The version whose fields the log has: `v2` to `v11`.
        prefix: Key prefix of the log's files, empty or ending with a slash.
    """

    id: str
    account_id: str
    region: str
    resource_id: str
    created_s: int
    fields: tuple[str, ...]
    knows: str
    parquet: bool = False
    hive: bool = False
    hourly: bool = False
    bucket: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class FlowLogs:
    """All flow logs of a network. At `changed_s`, the first full hour of the traffic, the metering policy changes."""

    logs: tuple[FlowLog, ...]
    changed_s: int

    @property
    def handed_over_s(self) -> int:
        """Time at which addresses change hands in networks with hostile events."""
        return self.changed_s - 22 * MINUTE_S

    def of(self, interface: Interface) -> tuple[FlowLog, ...]:
        """The logs that cover an interface: those of the widest resource first, and per resource the oldest first."""
        if interface.resource_id:
            return tuple(log for log in self.logs if log.resource_id == interface.resource_id)
        resources = (interface.vpc.id, interface.subnet.id)
        return tuple(log for resource in resources for log in self.logs if log.resource_id == resource)

    def of_gateway(self, record: Pass) -> tuple[FlowLog, ...]:
        return tuple(log for resource in record.resources for log in self.logs if log.resource_id == resource)

    @staticmethod
    def authority(seen_by: tuple[FlowLog, ...], hour_s: int) -> FlowLog:
        """The authoritative log: of the widest logs that exist at the hour's start, the log of the highest version."""
        widest = [log for log in seen_by if log.resource_id == seen_by[0].resource_id]
        return max([log for log in widest if log.created_s <= hour_s], key=lambda log: int(log.knows[1:]))


def build_flow_logs(
    inventory: Inventory, style: str, first_s: int, fields: tuple[str, ...] = (), *, overlaps: bool = True
) -> FlowLogs:
    """Flow logs in a style: `mixed`, or `v2` to `v11` for one format everywhere; `fields` replace the style's."""
    makers = {
        "main": _spec("v11"),
        "apps": _spec("v11"),
        "carrier": _spec("v2"),
        "peer": _spec("v5"),
        "spoke": _spec("v11", parquet=True, hive=True, hourly=True),
        "east": _spec("v11", parquet=True),
        "twin": _spec("v5", hive=True),
        "edge": _spec("v5"),
        "far": _spec("v11"),
    }
    if ECHO in inventory.vpcs:
        makers[ECHO] = _spec("v11")
    old_s = first_s - first_s % HOUR_S - 90 * DAY_S
    logs = []
    for name, (knows, layout) in makers.items():
        logs.append(_log(inventory, inventory.vpcs[name].id, name, style, knows, fields, old_s, layout))
    regional = next(each for each in inventory.interfaces if each.resource_id)
    logs.append(_log(inventory, regional.resource_id, "apps", style, "v11", fields, old_s, {}))
    logs += _gateway_logs(inventory, old_s, overlaps=overlaps)
    if overlaps:
        logs.append(_log(inventory, inventory.vpcs["main"].subnets[0].id, "main", style, "v5", fields, old_s, {}))
        changed_s = first_s - first_s % HOUR_S + _CHANGE_S
        logs.append(_log(inventory, inventory.vpcs["peer"].id, "peer", style, "v11", fields, changed_s, {}))
    return FlowLogs(tuple(logs), first_s - first_s % HOUR_S + HOUR_S)


def _gateway_logs(inventory: Inventory, created_s: int, *, overlaps: bool) -> list[FlowLog]:
    """One log per gateway, and with `overlaps` one log of an attachment, whose traffic the gateway's log has, too."""
    seen = {gateway_id(inventory.seed, region): region for region in (WEST, EAST)}
    if overlaps:
        seen[next(each.id for each in attachments(inventory) if each.name == "spoke")] = WEST
    return [
        FlowLog(
            id=made_id("fl", inventory.seed, resource_id),
            account_id=OWNER,
            region=region,
            resource_id=resource_id,
            created_s=created_s,
            fields=FIELDS,
            knows=KNOWS,
            parquet=region == EAST,
            hourly=True,
            bucket=f"acme-logs-{region}",
        )
        for resource_id, region in seen.items()
    ]


def _spec(knows: str, **layout: bool) -> tuple[str, dict[str, bool]]:
    return knows, layout


def _log(
    inventory: Inventory,
    resource_id: str,
    vpc_name: str,
    style: str,
    knows: str,
    fields: tuple[str, ...],
    created_s: int,
    layout: dict[str, bool],
) -> FlowLog:
    vpc = inventory.vpcs[vpc_name]
    knows = knows if style == MIXED else style
    chosen = fields or (RECOMMENDED if knows == "v11" else fields_of(int(knows[1:])))
    if knows == "v5" and not fields:
        # A custom format may have its fields in any order.
        chosen = tuple(random.Random(f"{inventory.seed}/{resource_id}").sample(chosen, len(chosen)))
    return FlowLog(
        id=made_id("fl", inventory.seed, resource_id, created_s, knows),
        account_id=vpc.account_id,
        region=vpc.region,
        resource_id=resource_id,
        created_s=created_s,
        fields=chosen,
        knows=knows,
        bucket=f"acme-logs-{vpc.region}",
        prefix="" if vpc.account_id == "012345678901" else "partner/network/",
        **(layout if style == MIXED else {}),
    )
