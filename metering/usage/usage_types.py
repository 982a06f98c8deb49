"""AWS usage types of data transfer, by the table in docs/contract.md (usage type).

`metering/replay/records.py` contains the same table a second time, and literal results copied from AWS's pages. Both
are independent of this module, so agreement is evidence. To add a usage type, follow `metering/usage/README.md`.
"""

import json
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import resources
from typing import NamedTuple, cast

# Locations, the two sides of a transfer: a region, a zone of a region, the internet, CloudFront, or unknown.
#
# To add a kind of location, follow `metering/usage/README.md`.


INTERNET = "internet"
CLOUDFRONT = "cloudfront"
# The side of a transfer that a log does not state. Only the side that is not metered may be unknown.
UNKNOWN = "unknown"

_NAMES = frozenset({INTERNET, CLOUDFRONT, UNKNOWN})

# A usage key contains up to four region names and must fit into the 1,024 bytes of a DynamoDB sort key. The longest
# existing name has 14 characters.
MAX_REGION_CHARS = 64

_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")
_ZONE_ID = re.compile(r"[a-z0-9-]{1,32}")
# Matches a whole valid location; it is for queries, which need no reason for a refusal.
LOCATION = re.compile(
    rf"{INTERNET}|{CLOUDFRONT}|{UNKNOWN}|(?=[a-z0-9-]{{1,{MAX_REGION_CHARS}}}(?:/|$)){_REGION.pattern}(?:/{_ZONE_ID.pattern})?"
)
_ZONE_NAME = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+[a-z]")

# All partitions except the commercial partition, by the prefix of their regions' names (equal to the regular
# expressions in botocore's partitions.json). The table serves only classification, including unknown regions; endpoints
# and ARNs are never derived from it. `metering/replay/records.py` deliberately has an independent table.
_PARTITIONS = (
    ("cn-", "aws-cn"),
    ("us-gov-", "aws-us-gov"),
    ("us-isob-", "aws-iso-b"),
    ("us-isof-", "aws-iso-f"),
    ("us-iso-", "aws-iso"),
    ("eu-isoe-", "aws-iso-e"),
    ("eusc-", "aws-eusc"),
)


class Location(NamedTuple):
    """One side of a transfer. `region` is empty if the side is not a region; `zone` is empty without a given zone."""

    name: str
    region: str
    zone: str


def parse_location(text: str) -> Location | str:
    """Parse a location in the contract's form; for an invalid location, return the problem as a string."""
    if text in _NAMES:
        return Location(text, "", "")
    region, slash, zone = text.partition("/")
    if len(region) > MAX_REGION_CHARS:
        return f"the region's name has more than {MAX_REGION_CHARS} characters"
    if _REGION.fullmatch(region) is None:
        return "neither a region, a region with a zone, internet, cloudfront nor unknown"
    if not slash:
        return Location(text, region, "")
    if _ZONE_ID.fullmatch(zone) is None:
        return "the zone is no zone id"
    if _ZONE_NAME.fullmatch(zone) is not None:
        return "the zone is a name, which differs by account; give the zone id"
    return Location(text, region, zone)


def is_region(name: str) -> bool:
    """Whether `name` has the form of a region's name; the region may be unknown."""
    return len(name) <= MAX_REGION_CHARS and _REGION.fullmatch(name) is not None


def is_zone_id(text: str) -> bool:
    """Whether `text` has the form of a zone id, and not of a zone's name."""
    return _ZONE_ID.fullmatch(text) is not None and _ZONE_NAME.fullmatch(text) is None


def partition_of(region: str) -> str:
    """Partition of a region, determined by the prefix of the region's name; `aws` for all other prefixes."""
    return next((partition for prefix, partition in _PARTITIONS if region.startswith(prefix)), "aws")


# An AWS product code.
SERVICE = re.compile(r"[A-Za-z0-9]{1,64}")
# Records of this service may be metered at an edge.
CLOUDFRONT_SERVICE = "AmazonCloudFront"
EXPLICIT_USAGE_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,127}")

# At the start of a usage type, AWS omits this region's prefix.
_BARE_REGION = "us-east-1"
# A real bill has `APS1-UGW1-AWS-Out-Bytes` and `APS1-UGW1-AWS-In-Bytes`: GovCloud is another partition.
_BILLED_TOGETHER = {"aws", "aws-us-gov"}


class Classified(NamedTuple):
    """A usage type, and those of its regions whose names replace an unknown billing prefix."""

    usage_type: str
    unknown_regions: frozenset[str]


@cache
def billing_prefixes() -> Mapping[str, str]:
    """Billing prefix of each known region (`us-west-2`: `USW2`), as the data-transfer pages of AWS list them."""
    text = resources.files("metering.usage").joinpath("billing_prefixes.json").read_text(encoding="utf-8")
    return cast("dict[str, str]", json.loads(text))


def classify(direction: str, from_location: Location, to_location: Location) -> Classified:
    """Usage type of a transfer; the metered side, a region, is the first side for `out`, the second side for `in`."""
    metered, peer = (from_location, to_location) if direction == "out" else (to_location, from_location)
    way = "Out" if direction == "out" else "In"
    if peer.name == UNKNOWN:
        return usage_type_of(metered.region, f"Unclassified-{way}-Bytes")
    if peer.name == CLOUDFRONT:
        return usage_type_of(metered.region, f"CloudFront-{way}-Bytes")
    if not peer.region or not _billed_as_pair(metered.region, peer.region):
        return usage_type_of(metered.region, f"DataTransfer-{way}-Bytes")
    if peer.region != metered.region:
        pair = f"{_prefix(metered.region)}-{_prefix(peer.region)}"
        return Classified(f"{pair}-AWS-{way}-Bytes", _unknown(metered.region, peer.region))
    if peer.zone and metered.zone and peer.zone != metered.zone:
        return usage_type_of(metered.region, "DataTransfer-Regional-Bytes")
    return usage_type_of(metered.region, f"C3DataTransfer-{way}-Bytes")


def _billed_as_pair(metered: str, peer: str) -> bool:
    """Whether AWS bills two regions as a pair, not as internet: regions of one partition, and GovCloud with `aws`."""
    own, other = partition_of(metered), partition_of(peer)
    return own == other or {own, other} == _BILLED_TOGETHER


def usage_type_of(region: str, traffic: str) -> Classified:
    """Usage type of one region: the traffic's name after the region's billing prefix (`DataTransfer-Out-Bytes`)."""
    if region == _BARE_REGION:
        return Classified(traffic, frozenset())
    return Classified(f"{_prefix(region)}-{traffic}", _unknown(region))


def _prefix(region: str) -> str:
    return billing_prefixes().get(region, region)


def _unknown(*regions: str) -> frozenset[str]:
    return frozenset(region for region in regions if region not in billing_prefixes())


# Usage types of processing by gateways and endpoints: a second count of bytes that are also transfer, as on AWS's bill.
# Sums over usage types leave processing out, and name it beside the sum.
PROCESSING = frozenset({
    "TransitGateway-Bytes",
    "NatGateway-Bytes",
    "RegionalNatGateway-Bytes",
    "VpcEndpoint-Bytes",
    "VpcEndpoint-GWLBE-Bytes",
})  # fmt: skip
# Usage types of a region that AWS bills in addition to the transfer itself: processing, and peering between zones.
#
# The prices are in the offers AmazonVPC and AmazonEC2, not in AWSDataTransfer.
TRAFFIC = PROCESSING | {"VpcPeering-In-Bytes", "VpcPeering-Out-Bytes"}
_PROCESSING = re.compile(rf"(?:[A-Za-z0-9-]+-)?(?:{'|'.join(sorted(PROCESSING))})")
_PREFIX = "USE1-"


@lru_cache(maxsize=4_096)
def is_processing(usage_type: str) -> bool:
    """Whether a usage type is processing, in any region: `NatGateway-Bytes`, `USW2-NatGateway-Bytes`."""
    return _PROCESSING.fullmatch(usage_type) is not None


def contract_name(usage_type: str) -> str:
    """A usage type in the form of `docs/contract.md`, where us-east-1 has no prefix.

    AWS's offers and bills add a prefix to some types: `USE1-TransitGateway-Bytes`, and yet `NatGateway-Bytes`.
    """
    bare = usage_type.removeprefix(_PREFIX)
    return bare if bare in TRAFFIC else usage_type
