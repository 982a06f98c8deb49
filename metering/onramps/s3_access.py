"""S3 server access logs: their lines, their reader, and the rules that locate the client."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from metering.onramps import sources
from metering.onramps.context.document import Address, AddressRange, Context, address_of, is_public
from metering.onramps.formats.rows import Moved, Tally, number_of, read_lines
from metering.onramps.reading import Block, FileName, ReadSettings, epoch_s_of
from metering.onramps.reasons import Classified, LineReason, Outcome, Refused, Traffic, Unmetered
from metering.onramps.rules.knowledge import Knowledge, knowledge_of
from metering.usage.usage_types import CLOUDFRONT, INTERNET, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.onramps.context import store

# Lines of S3 server access logs. Fields are separated by single spaces; the time is in brackets, and three fields are
# in quotes. AWS has appended fields over the years, from 18 to 26 and more, and says that readers must expect more at
# the end. Any field may be `-`. Texts from clients are not escaped inside the quotes, so a field may contain a quote.


# Matches 15 fields, from the bucket owner to the turn-around time. The request field ends before the status field.
_HEAD = re.compile(
    r"(?P<owner>\S+) (?P<bucket>\S+) \[(?P<time>[^\]]*)\] (?P<remote_ip>\S+) (?P<requester>\S+) (?P<request_id>\S+)"
    r" (?P<operation>\S+) (?P<key>\S+) (?:-|\"[^\"]*(?:\"(?! (?:[0-9]{3}|-) )[^\"]*)*\") (?P<status>[0-9]{3}|-)"
    r" (?P<error>\S+) (?P<sent>\S+) (?P<size>\S+) (?P<total_ms>\S+) (?P<turn_ms>\S+) "
)
_USED = ("bucket", "time", "remote_ip", "operation", "status", "sent", "size")
# Matches the version id and all fields that AWS has appended since.
_TAIL = re.compile(r" (?P<version>\S+)(?P<appended>(?: \S+)*)")
_HOST_FIELD = 4
"""Place of the Host header among the appended fields: host id, signature, cipher, authentication, host."""

_HOST_REGION = re.compile(
    r"(?:^|\.)s3(?:-website|-fips|-accesspoint|-accesspoint-fips|-object-lambda|-outposts)?[.-](?:dualstack\.)?"
    r"([a-z]{2,}(?:-[a-z]+)+-[0-9]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?(?::[0-9]+)?"
)
_TIME = re.compile(r"[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}(?::[0-9]{2}){3} \+0000")

# The number of bytes received with these requests is the size of the object. `REST.POST.UPLOAD` completes a multipart
# upload without receiving bytes: it states the size of the whole object, whose parts have lines of their own.
_UPLOADS = frozenset({"REST.PUT.OBJECT", "REST.PUT.PART", "REST.POST.OBJECT"})
_COPY = ".COPY."


class Request(NamedTuple):
    """Transfer stated by a line. Sent bytes exclude protocol overhead; received bytes are the object's size.

    Attributes:
        remote_ip: Address of the client as seen by S3; `-` for requests of S3 itself or of another AWS service.
    """

    bucket: str
    time_s: int
    remote_ip: str
    region: str
    copy: bool
    sent_bytes: int
    received_bytes: int


class Misfit(NamedTuple):
    """Line that cannot be metered, with its stated bytes."""

    reason: LineReason
    detail: str
    bytes: int = 0


def parse(text: str) -> Request | Misfit:
    """Parse a line."""
    head = _HEAD.match(text)
    tail = _TAIL.fullmatch(text, _client_end(text, head.end())) if head is not None else None
    if head is None or tail is None:
        return Misfit(
            LineReason.FIELD_COUNT, "not the fields of an S3 server access log, of which there are 18 or more"
        )
    bucket, time, remote_ip, operation, status, sent_text, size_text = head.group(*_USED)
    sent = 0 if sent_text == "-" else number_of(sent_text)
    size = 0 if size_text == "-" else number_of(size_text)
    if sent is None or size is None:
        return Misfit(LineReason.INVALID_NUMBER, "bytes sent or object size is no number from 0 to 2^63-1", sent or 0)
    received = size if operation in _UPLOADS and status.startswith("2") else 0
    time_s = _epoch_s(time)
    if time_s is None:
        return Misfit(LineReason.INVALID_TIME, f"[{time[:64]}] is no time", sent + received)
    return Request(bucket, time_s, remote_ip, _region(tail["appended"]), _COPY in operation, sent, received)


def _client_end(text: str, start: int) -> int:
    """Index of the end of the user agent, which follows the referer at `start`; end of the line if both are absent.

    The user agent ends at the last quote before a blank. Clients may send any text in both fields. With backtracking,
    thousands of quotes would take minutes, so the line is searched once without backtracking.
    """
    if text.startswith("- - ", start):
        return start + 3
    end = text.rfind('" ', start) + 1
    if text.startswith('- "', start):
        return end if end - start >= len('- ""') else len(text)
    if not text.startswith('"', start) or end - start < len('""'):
        return len(text)
    between = text.find('" "', start + 1, end)
    if 0 <= between < end - len('" "'):
        return end
    return end + 2 if text.startswith(" - ", end) else len(text)


@lru_cache(maxsize=4096)
def _epoch_s(text: str) -> int | None:
    return epoch_s_of(text, "%d/%b/%Y:%H:%M:%S +0000") if _TIME.fullmatch(text) else None


def _region(appended: str) -> str:
    fields = appended.split(" ")[1:]
    return _region_of_host(fields[_HOST_FIELD]) if len(fields) > _HOST_FIELD else ""


@lru_cache(maxsize=1024)
def _region_of_host(host: str) -> str:
    found = _HOST_REGION.search(host)
    return found[1] if found is not None else ""


# Repeated lines within one file. AWS states that a record may be delivered twice. Only an identical line within one
# file counts as a repeat. Lines contain the request id, so two requests have different lines. The request id alone
# cannot be the key, because all lines of a multi-object delete have the same id.

REMEMBERED_LINES = 2**18
"""A line that repeats is noticed if no more than so many lines stand between. AWS's files have some thousand lines.

Twice as many hashes are held at most, about 50 MiB, whatever the size of the file.
"""

_HASH_BYTES = 16
"""Two different lines have the same hash of 128 bits about never, also if somebody tries."""


class Repeats:
    """Detects repeated lines of one file."""

    def __init__(self, *, remembered_lines: int = REMEMBERED_LINES) -> None:
        self._remembered_lines = remembered_lines
        self._newest: set[bytes] = set()
        self._older: set[bytes] = set()

    def seen(self, line: str) -> bool:
        """Record a line; return whether it occurred before."""
        key = blake2b(line.encode(), digest_size=_HASH_BYTES).digest()
        if key in self._newest or key in self._older:
            return True
        if len(self._newest) >= self._remembered_lines:
            self._older, self._newest = self._newest, set()
        self._newest.add(key)
        return False


class BucketTransfer(NamedTuple):
    """Transfer of a bucket, `out` or `in`, without time and size. The region is taken from the Host header, or empty.

    `copy` is one side of a copy inside S3. `remote_ip` is `-` if the log has no address.
    """

    bucket: str
    region: str
    remote_ip: str
    direction: str
    copy: bool


def read_s3_access_log(
    stream: BinaryIO, _name: FileName, settings: ReadSettings, *, digest: Callable[[bytes], object]
) -> Iterator[Block[BucketTransfer]]:
    """Read a file (`LogReader`)."""
    return read_lines(stream, settings, digest, _Lines())


class _Lines:
    """`LineJudge` of one file."""

    def __init__(self) -> None:
        self._repeats = Repeats()

    def judge(self, number: int, line: str, tally: Tally[BucketTransfer]) -> None:
        found = parse(line)
        if isinstance(found, Misfit):
            tally.refuse(number, found.reason, found.detail, line, found.bytes)
            return
        stated_bytes = found.sent_bytes + found.received_bytes
        if self._repeats.seen(line):
            tally.refuse(number, LineReason.REPEATED_LINE, "the same line came before in this file", line, stated_bytes)
            return
        moves = [
            Moved(BucketTransfer(found.bucket, found.region, found.remote_ip, direction, found.copy), size_bytes)
            for direction, size_bytes in (("out", found.sent_bytes), ("in", found.received_bytes))
            if size_bytes
        ]
        if moves:
            tally.metered(moves, found.time_s, found.time_s)
        elif found.copy:
            tally.rejected()
        else:
            tally.nodata()


# Rules of S3 server access logs: the client's location follows from its address. Traffic between a bucket and its own
# region is free, so the region's addresses need no zone. Requests by AWS services or through VPC endpoints have no
# address or a private address. In both cases the client is in the region.

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
    """Other side of a transfer: a location of the contract. `reason` is empty if the transfer is classified."""

    location: str
    rule: str
    reason: str = ""


class S3AccessClassifier:
    """Classifies the transfers of one file (`Classifier`)."""

    def __init__(self, name: FileName, timeline: store.Timeline) -> None:
        self._name = name
        self._timeline = timeline

    def outcome(self, subject: BucketTransfer, hour_s: int) -> Outcome:
        if subject.copy:
            return Unmetered(COPY)
        context = self._timeline.at(hour_s)
        region = self._name.region or subject.region or (context.buckets.get(subject.bucket, "") if context else "")
        account_id = self._name.account_id or _owner(subject.bucket, context)
        if not region:
            detail = f"neither the key, the Host header nor a context says the region of {subject.bucket[:64]}"
            return Refused(LineReason.NO_REGION, detail)
        if not account_id:
            detail = f"the log does not say whose bucket {subject.bucket[:64]} is: {sources.GIVE_ACCOUNT}"
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
    """Account of a bucket. A line has only the owner's canonical user ID, which is not an account id."""
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
    """Region of an owner's address: in a VPC (which may use any addresses), or a public address of its accounts."""
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
