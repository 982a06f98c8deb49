"""Rules of S3 server access logs: where the client was, by its address.

Between a bucket and anything in its own region nothing is charged, so addresses of the region need no zone. What a
service of AWS asks for, or an endpoint of a VPC, has no address or a private one: both are in the region.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metering.onramps.bills import GIVE_ACCOUNT
from metering.onramps.context.prefixes import address_of, is_public
from metering.onramps.reasons import LineReason
from metering.onramps.rules.knowledge import knowledge_of
from metering.onramps.traffic import Classified, Refused, Traffic, Unmetered
from metering.usage.locations import CLOUDFRONT, INTERNET, UNKNOWN

if TYPE_CHECKING:
    from metering.onramps.context.address_ranges import AddressRange
    from metering.onramps.context.document import Context
    from metering.onramps.context.prefixes import Address
    from metering.onramps.context.timeline import Timeline
    from metering.onramps.names import FileName
    from metering.onramps.rules.knowledge import Knowledge
    from metering.onramps.s3_access.reader import BucketTransfer
    from metering.onramps.traffic import Outcome

COPY = "s3_copy"
INSIDE, OWN_ADDRESS, EDGE, OTHER_REGION, SAME_REGION = (
    "inside_region",
    "own_address",
    "cloudfront",
    "other_region",
    "service_in_region",
)
GLOBAL_SERVICE, NO_RANGES, NO_AWS = "global_service", "ranges_unknown", "internet"

_SERVICE = "AmazonS3"
_GLOBAL = "GLOBAL"
_EDGE_SERVICES = frozenset({"CLOUDFRONT", "CLOUDFRONT_ORIGIN_FACING"})
_NO_ADDRESS = "-"


class Peer(NamedTuple):
    """Where the other side is, and how that is known.

    Attributes:
        location: A location of the contract.
        rule: The rule that decided.
        reason: Why it is unclassified; empty if it is not.
    """

    location: str
    rule: str
    reason: str = ""


class S3AccessClassifier:
    """Judges transfers of buckets for one file (`Classifier`)."""

    def __init__(self, name: FileName, timeline: Timeline) -> None:
        self._name = name
        self._timeline = timeline

    def outcome(self, subject: BucketTransfer, hour_s: int) -> Outcome:
        """Judge a transfer in an hour."""
        if subject.copy:
            return Unmetered(COPY)
        context = self._timeline.at(hour_s)
        region = self._name.region or subject.region or (context.buckets.get(subject.bucket, "") if context else "")
        account_id = self._name.account_id or _owner(subject.bucket, context)
        if not region:
            detail = f"neither the key, the Host header nor a context says the region of {subject.bucket[:64]}"
            return Refused(LineReason.NO_REGION, detail)
        if not account_id:
            detail = f"the log does not say whose bucket {subject.bucket[:64]} is: {GIVE_ACCOUNT}"
            return Refused(LineReason.INVALID_ACCOUNT, detail)
        address = address_of(subject.remote_ip)
        if address is None and subject.remote_ip != _NO_ADDRESS:
            return Refused(LineReason.INVALID_ADDRESS, f"{subject.remote_ip[:64]!r} is no address")
        peer = _peer(address, region, context)
        out = subject.direction == "out"
        traffic = Traffic(
            account_id=account_id,
            service=_SERVICE,
            resource_id=subject.bucket,
            direction=subject.direction,
            from_location=region if out else peer.location,
            to_location=peer.location if out else region,
        )
        return Classified(traffic, peer.rule, peer.reason)


def _owner(bucket: str, context: Context | None) -> str:
    """Account of a bucket that a context knows. A line has only the owner's canonical id, which is no account."""
    if context is None:
        return ""
    only = next(iter(context.accounts)) if bucket in context.buckets and len(context.accounts) == 1 else ""
    return context.bucket_owners.get(bucket, only)


def _peer(address: Address | None, region: str, context: Context | None) -> Peer:
    if address is None or not is_public(address):
        return Peer(region, INSIDE)
    knowledge = knowledge_of(context)
    own_region = _own_region(address, region, knowledge)
    if own_region:
        return Peer(own_region, OWN_ADDRESS)
    found = knowledge.ranges.at(address)
    if found is not None:
        return _peer_in(found, region)
    return Peer(INTERNET, NO_AWS) if knowledge.knows_ranges else Peer(UNKNOWN, NO_RANGES, NO_RANGES)


def _own_region(address: Address, region: str, knowledge: Knowledge) -> str:
    """Region of an address that the owner has: in a VPC, which may use any addresses, or brought along."""
    vpc_ids = knowledge.blocks.at(address)
    if vpc_ids:
        regions = sorted({knowledge.vpcs[vpc_id].region for vpc_id in vpc_ids})
        return region if region in regions else regions[0]
    return knowledge.public.get(address, "")


def _peer_in(found: AddressRange, region: str) -> Peer:
    if not _EDGE_SERVICES.isdisjoint(found.services):
        return Peer(CLOUDFRONT, EDGE)
    if found.region == _GLOBAL:
        return Peer(UNKNOWN, GLOBAL_SERVICE, GLOBAL_SERVICE)
    if found.region == region:
        return Peer(region, SAME_REGION)
    return Peer(found.region, OTHER_REGION)
