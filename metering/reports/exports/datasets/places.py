"""Names that exports use for places and services: AWS's own, and FOCUS's categories."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, cast

from metering.usage.locations import CLOUDFRONT, INTERNET, is_region

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.billing.usage.ports import UsageLine

_UNKNOWN_SERVICE = ("Other", "Other (Other)")
# By what the ids of resources begin with, as logs have them.
_RESOURCES = {
    "i-": "Instance", "eni-": "Network Interface", "nat-": "NAT Gateway", "vpce-": "VPC Endpoint",
    "tgw-": "Transit Gateway", "app/": "Load Balancer", "net/": "Load Balancer", "gwy/": "Load Balancer",
    "restapis/": "API",
}  # fmt: skip
_ANY_RESOURCE = "Resource"
# What AWS's price lists call them.
_OUTSIDE = {INTERNET: "External", CLOUDFRONT: "Amazon CloudFront"}


def region_name(region: str) -> str:
    """`US East (N. Virginia)`; the region's own name if AWS's is not known."""
    return _table("regions.json").get(region, region)


def location_name(location: str) -> str:
    """How AWS's price lists call a location: the long name of a region, or `External` for the internet."""
    region = location.partition("/")[0]
    return _OUTSIDE.get(region) or region_name(region)


def location_type(location: str) -> str:
    """`AWS Region` or `Other`."""
    return "AWS Region" if region_code(location) else "Other"


def region_code(location: str) -> str | None:
    """The region of a location, with or without a zone; None if it is in none."""
    region = location.partition("/")[0]
    return region if is_region(region) else None


def zone_of(line: UsageLine, region: str) -> str | None:
    """The zone of the metered side; None if it is not known.

    Between two zones of one region, both sides are metered under one usage type, and a line does not say which it is.
    """
    zones = [
        zone
        for name, _, zone in (each.partition("/") for each in (line.from_location, line.to_location))
        if name == region
    ]
    return zones[0] or None if len(zones) == 1 else None


def resource_type(resource_id: str) -> str | None:
    """What a resource is, by its id; None without one."""
    if not resource_id:
        return None
    name = resource_id.rpartition(":")[2]
    return next((kind for begin, kind in _RESOURCES.items() if name.startswith(begin)), _ANY_RESOURCE)


def service_category(service: str) -> tuple[str, str]:
    """FOCUS's ServiceCategory and ServiceSubcategory of an AWS product code."""
    found = _lists("services.json").get(service)
    return (found[0], found[1]) if found else _UNKNOWN_SERVICE


@cache
def cur_names() -> tuple[str, ...]:
    """Names of the columns of a CUR 2.0 export without resource ids, in AWS's order; the file names its source."""
    return tuple(line for line in _text("cur_columns.txt").splitlines() if line and not line.startswith("#"))


@cache
def _table(name: str) -> Mapping[str, str]:
    return cast("dict[str, str]", _read(name))


@cache
def _lists(name: str) -> Mapping[str, Sequence[str]]:
    return cast("dict[str, list[str]]", _read(name))


def _read(name: str) -> object:
    return json.loads(_text(name))


def _text(name: str) -> str:
    return resources.files("metering.reports.exports.datasets").joinpath(name).read_text("utf-8")
