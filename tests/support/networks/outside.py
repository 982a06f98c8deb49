"""The outside of all VPCs: (invented) address ranges in AWS's published form, and peers in them.

The ranges have the traps of the real file: prefixes of both S3 and EC2, a prefix of one region inside a prefix of
another, services that are not in AMAZON, prefixes without a region.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metering.replay.network import nth_address

if TYPE_CHECKING:
    import random


class Family(NamedTuple):
    """A kind of external peer, drawn from blocks. `service` is that of a version 5 log, or `-`."""

    name: str
    location: str
    service: str
    blocks: tuple[str, ...]


class Peer(NamedTuple):
    family: Family
    address: str


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("internet", "internet", "-", ("81.2.0.0/16", "91.198.0.0/17", "185.60.0.0/18")),
        Family("internet-ipv6", "internet", "-", ("2a0b:4140::/48",)),
        Family("cloudfront", "cloudfront", "CLOUDFRONT", ("64.252.64.0/18",)),
        Family("ec2-here", "us-west-2", "EC2", ("52.36.0.0/15",)),
        Family("ec2-east", "us-east-1", "EC2", ("3.80.0.0/13", "52.40.16.0/20")),
        Family("ec2-ireland", "eu-west-1", "EC2", ("34.240.0.0/14",)),
        Family("s3-here", "us-west-2", "S3", ("52.218.128.0/18", "52.92.0.0/19")),
        Family("s3-east", "us-east-1", "S3", ("3.5.0.0/20",)),
        Family("dynamodb-here", "us-west-2", "DYNAMODB", ("52.119.224.0/22",)),
        Family("accelerator", "unknown", "GLOBALACCELERATOR", ("13.248.0.0/19",)),
        Family("on-premises", "unknown", "-", ("192.168.40.0/22", "172.20.0.0/20")),
    )
}

# Prefix, region, services. EC2 of us-west-2 contains a us-east-1 block; S3 is within EC2; one block is not in AMAZON.
_RANGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("52.32.0.0/11", "us-west-2", ("AMAZON", "EC2")),
    ("52.40.16.0/20", "us-east-1", ("AMAZON", "EC2")),
    ("52.218.128.0/17", "us-west-2", ("AMAZON", "S3", "EC2")),
    ("52.92.0.0/18", "us-west-2", ("AMAZON", "S3")),
    ("52.119.224.0/21", "us-west-2", ("AMAZON", "DYNAMODB")),
    ("44.242.0.0/24", "us-west-2", ("API_GATEWAY",)),
    ("3.80.0.0/12", "us-east-1", ("AMAZON", "EC2")),
    ("3.5.0.0/19", "us-east-1", ("AMAZON", "S3", "EC2")),
    ("34.240.0.0/13", "eu-west-1", ("AMAZON", "EC2")),
    ("64.252.64.0/18", "GLOBAL", ("AMAZON", "CLOUDFRONT", "CLOUDFRONT_ORIGIN_FACING")),
    ("13.248.0.0/18", "GLOBAL", ("AMAZON", "GLOBALACCELERATOR")),
)
_RANGES_IPV6: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("2600:1f14::/36", "us-west-2", ("AMAZON", "EC2")),
    ("2600:1f18::/36", "us-east-1", ("AMAZON", "EC2")),
    ("2600:9000::/28", "GLOBAL", ("AMAZON", "CLOUDFRONT")),
)
# Public addresses of this network's own interfaces are in ranges of EC2, apart from those of other customers.
OWN_PUBLIC = {"us-west-2": "52.34.0.0/20", "us-east-1": "3.92.0.0/20"}


def peer(rng: random.Random, family: str, most: int) -> Peer:
    """A peer of a family, one of `most` for each of its blocks."""
    chosen = FAMILIES[family]
    return Peer(chosen, nth_address(rng.choice(chosen.blocks), 5 + 7 * rng.randrange(most)))


def ip_ranges() -> dict[str, object]:
    return {
        "syncToken": "1790000000",
        "createDate": "2026-09-21-14-13-20",
        "prefixes": [{"ip_prefix": prefix, **rest} for prefix, rest in _entries(_RANGES)],
        "ipv6_prefixes": [{"ipv6_prefix": prefix, **rest} for prefix, rest in _entries(_RANGES_IPV6)],
    }


def _entries(ranges: tuple[tuple[str, str, tuple[str, ...]], ...]) -> list[tuple[str, dict[str, str]]]:
    return [
        (prefix, {"region": region, "service": service, "network_border_group": region})
        for prefix, region, services in ranges
        for service in services
    ]
