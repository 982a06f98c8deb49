"""Knowledge beyond the logs: all of it, none, and all except one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import hour_of
from metering.onramps.context.inventory import context_of
from metering.onramps.context.store import Timeline
from tests.networks.exam import FIRST_S, Exam
from tests.support.networks.inventory import EAST, OWNER, PARTNER, WEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def context_timeline(described: Mapping[str, object], effective_s: int = hour_of(FIRST_S)) -> Timeline:
    return Timeline(((effective_s, context_of(described, effective_s)),))


def without(described: Mapping[str, object], *names: str, account: str = "", region: str = "") -> dict[str, object]:
    """A description without some of its lists, or without an account or a region."""
    places = described["regions"]
    assert isinstance(places, list)
    kept = [place for place in places if place["account_id"] != account and place["region"] != region]
    lessened = {name: value for name, value in described.items() if name not in names}
    lessened["regions"] = [{name: value for name, value in place.items() if name not in names} for place in kept]
    return lessened


LISTS = (
    "NetworkInterfaces",
    "VpcPeeringConnections",
    "Addresses",
    "TransitGatewayVpcAttachments",
    "TransitGatewayAttachments",
    "TransitGatewayPeeringAttachments",
    "TransitGatewayMeteringPolicies",
    "FlowLogs",
    "ip_ranges",
    "buckets",
)


def layers(described: Mapping[str, object]) -> Iterator[tuple[str, Timeline]]:
    """Complete knowledge beyond the logs, then none, then all except each single piece."""
    yield "all known", context_timeline(described)
    yield "nothing known", Timeline()
    for name in LISTS:
        yield f"without {name}", context_timeline(without(described, name))
    in_subnets = ("Subnets", "NetworkInterfaces", "TransitGatewayVpcAttachments")
    yield "without Subnets and what lies in them", context_timeline(without(described, *in_subnets))
    for account in (OWNER, PARTNER):
        yield f"without account {account}", context_timeline(without(described, account=account))
    for region in (WEST, EAST):
        yield f"without region {region}", context_timeline(without(described, region=region))


def lacking_one(exam_of: Exam) -> Iterator[tuple[str, Timeline]]:
    """An inventory without one non-instance interface, or without one subnet: they were created after the capture."""
    described = exam_of.description
    for each in exam_of.network.inventory.interfaces:
        if not each.instance_id and each.id != "-":
            yield f"without one {each.kind}", context_timeline(_lacking(described, "NetworkInterfaceId", each.id))
    for vpc in exam_of.network.inventory.vpcs.values():
        for subnet in vpc.subnets:
            lessened = _lacking(described, "SubnetId", subnet.id)
            yield f"without the subnet {subnet.cidr} of {vpc.name}", context_timeline(lessened)


def _lacking(described: Mapping[str, object], name: str, value: str) -> dict[str, object]:
    """A description without the items that have a given value under a name."""
    places = described["regions"]
    assert isinstance(places, list)
    kept = [{list_name: _items(items, name, value) for list_name, items in place.items()} for place in places]
    return {**described, "regions": kept}


def _items(items: object, name: str, value: str) -> object:
    if not isinstance(items, list):
        return items
    return [_without_subnet(item, value) for item in items if value not in (item.get(name), item.get("ResourceId"))]


def _without_subnet(item: dict[str, object], value: str) -> dict[str, object]:
    ids = item.get("SubnetIds")
    return {**item, "SubnetIds": [each for each in ids if each != value]} if isinstance(ids, list) else item
