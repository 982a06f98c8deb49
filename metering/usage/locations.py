"""Locations, the two sides of a transfer: a region, a zone of a region, the internet, CloudFront, or unknown.

To add a kind of location, follow `metering/usage/README.md`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

INTERNET = "internet"
CLOUDFRONT = "cloudfront"
# What a log cannot say. Only the side that is not metered may be it.
UNKNOWN = "unknown"

_NAMES = frozenset({INTERNET, CLOUDFRONT, UNKNOWN})

# A usage key holds up to four region names and has to fit into the 1,024 bytes of a DynamoDB sort key. The longest real
# name has 14 characters.
MAX_REGION_CHARS = 64

_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")
_ZONE_ID = re.compile(r"[a-z0-9-]{1,32}")
# What a location looks like, whole: for questions, which need no reason.
LOCATION = re.compile(
    rf"{INTERNET}|{CLOUDFRONT}|{UNKNOWN}|(?=[a-z0-9-]{{1,{MAX_REGION_CHARS}}}(?:/|$)){_REGION.pattern}(?:/{_ZONE_ID.pattern})?"
)
_ZONE_NAME = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+[a-z]")

# Partitions other than the commercial one, by the prefix of their regions' names (botocore's partitions.json has the
# same, as regular expressions). The table only serves classification, also of regions that are not known here;
# endpoints and ARNs never come from it. `metering/replay/expectation.py` has a second table on purpose.
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
    """One side of a transfer. `region` is empty unless it is one, `zone` unless one was given."""

    name: str
    region: str
    zone: str


def parse_location(text: str) -> Location | str:
    """Parse a location of the contract; returns its problem, as a text, if it is not one."""
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
    """Whether `name` has the form of a region's name; the region need not be known."""
    return len(name) <= MAX_REGION_CHARS and _REGION.fullmatch(name) is not None


def is_zone_id(text: str) -> bool:
    """Whether `text` has the form of a zone id, and not of a zone's name."""
    return _ZONE_ID.fullmatch(text) is not None and _ZONE_NAME.fullmatch(text) is None


def partition_of(region: str) -> str:
    """Partition of a region by the prefix of its name; `aws` for every other name."""
    return next((partition for prefix, partition in _PARTITIONS if region.startswith(prefix)), "aws")
