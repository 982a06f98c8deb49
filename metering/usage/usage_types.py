"""AWS usage types of data transfer, by the table in docs/contract.md (usage type).

`metering/replay/expectation.py` states the same table a second time, and `metering/replay/flows.py` writes its results
out: both are independent of this module, so that their agreement proves something. To add a usage type, follow
`metering/usage/README.md`.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple, cast

from metering.usage.locations import CLOUDFRONT, UNKNOWN, partition_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.usage.locations import Location

# An AWS product code.
SERVICE = re.compile(r"[A-Za-z0-9]{1,64}")
# Its own records may be metered at its edge.
CLOUDFRONT_SERVICE = "AmazonCloudFront"
EXPLICIT_USAGE_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,127}")

# Where the prefix of this region would stand alone, AWS leaves it out.
_BARE_REGION = "us-east-1"
# A real bill has `APS1-UGW1-AWS-Out-Bytes` and `APS1-UGW1-AWS-In-Bytes`: GovCloud is another partition, and yet a pair.
_BILLED_TOGETHER = {"aws", "aws-us-gov"}


class Classified(NamedTuple):
    """A usage type, and its regions without a known billing prefix, whose names stand in for it."""

    usage_type: str
    unknown_regions: frozenset[str]


@cache
def billing_prefixes() -> Mapping[str, str]:
    """Billing prefix of each known region (`us-west-2`: `USW2`), as the data-transfer pages of AWS list them."""
    text = resources.files("metering.usage").joinpath("billing_prefixes.json").read_text(encoding="utf-8")
    return cast("dict[str, str]", json.loads(text))


def classify(direction: str, from_location: Location, to_location: Location) -> Classified:
    """Usage type of a transfer, seen from its metered side, which must be a region.

    Args:
        direction: `out` if `from_location` is metered, `in` if `to_location` is.
        from_location: Origin of the bytes.
        to_location: Destination of the bytes.
    """
    metered, peer = (from_location, to_location) if direction == "out" else (to_location, from_location)
    way = "Out" if direction == "out" else "In"
    if peer.name == UNKNOWN:
        return usage_type_of(metered.region, f"Unclassified-{way}-Bytes")
    if peer.name == CLOUDFRONT:
        return usage_type_of(metered.region, f"CloudFront-{way}-Bytes")
    if not peer.region or not _billed_as_pair(metered.region, peer.region):
        return usage_type_of(metered.region, f"DataTransfer-{way}-Bytes")
    if peer.region != metered.region:
        return _pair(metered.region, peer.region, f"AWS-{way}-Bytes")
    if peer.zone and metered.zone and peer.zone != metered.zone:
        return usage_type_of(metered.region, "DataTransfer-Regional-Bytes")
    return usage_type_of(metered.region, f"C3DataTransfer-{way}-Bytes")


def _billed_as_pair(metered: str, peer: str) -> bool:
    """Whether AWS bills two regions by the pair, not as internet: those of one partition, and GovCloud with `aws`."""
    own, other = partition_of(metered), partition_of(peer)
    return own == other or {own, other} == _BILLED_TOGETHER


def usage_type_of(region: str, traffic: str) -> Classified:
    """Usage type of one region: the traffic's name after the region's billing prefix (`DataTransfer-Out-Bytes`)."""
    if region == _BARE_REGION:
        return Classified(traffic, frozenset())
    return Classified(f"{_prefix(region)}-{traffic}", _unknown(region))


def _pair(metered: str, peer: str, traffic: str) -> Classified:
    return Classified(f"{_prefix(metered)}-{_prefix(peer)}-{traffic}", _unknown(metered, peer))


def _prefix(region: str) -> str:
    return billing_prefixes().get(region, region)


def _unknown(*regions: str) -> frozenset[str]:
    return frozenset(region for region in regions if region not in billing_prefixes())
