"""Lines of S3 server access logs.

Fields are separated by single blanks; the time stands in brackets, and three fields in quotes. AWS has appended fields
over the years, from 18 to 26 and more, and says that readers have to expect others at the end. Any field may be `-`.
Texts of clients stand inside the quotes as they came, so a quote inside is not the end of the field.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from metering.onramps.reasons import LineReason
from metering.onramps.rows.tally import MAX_BYTES

# From the bucket's owner to the turn-around time, 15 fields. The request ends where a status follows.
_HEAD = re.compile(
    r"(?P<owner>\S+) (?P<bucket>\S+) \[(?P<time>[^\]]*)\] (?P<remote_ip>\S+) (?P<requester>\S+) (?P<request_id>\S+)"
    r" (?P<operation>\S+) (?P<key>\S+) (?:-|\"[^\"]*(?:\"(?! (?:[0-9]{3}|-) )[^\"]*)*\") (?P<status>[0-9]{3}|-)"
    r" (?P<error>\S+) (?P<sent>\S+) (?P<size>\S+) (?P<total_ms>\S+) (?P<turn_ms>\S+) "
)
_USED = ("bucket", "time", "remote_ip", "operation", "status", "sent", "size")
# Version id, and what was appended since.
_TAIL = re.compile(r" (?P<version>\S+)(?P<appended>(?: \S+)*)")
_HOST_FIELD = 4
"""Place of the Host header among the appended fields: host id, signature, cipher, authentication, host."""

_HOST_REGION = re.compile(
    r"(?:^|\.)s3(?:-website|-fips|-accesspoint|-accesspoint-fips|-object-lambda|-outposts)?[.-](?:dualstack\.)?"
    r"([a-z]{2,}(?:-[a-z]+)+-[0-9]+)\.(?:vpce\.)?amazonaws\.com(?:\.cn)?(?::[0-9]+)?"
)
_TIME = re.compile(r"([0-9]{2})/([A-Z][a-z]{2})/([0-9]{4}):([0-9]{2}):([0-9]{2}):([0-9]{2}) \+0000")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DIGITS = re.compile(r"[0-9]{1,20}")

# What came in with a request is the size of its object. `REST.POST.UPLOAD` completes a multipart upload, and states
# the size of the whole object, whose parts stand in lines of their own: it brings nothing in.
_UPLOADS = frozenset({"REST.PUT.OBJECT", "REST.PUT.PART", "REST.POST.OBJECT"})
_COPY = ".COPY."


class Request(NamedTuple):
    """What a line says of a transfer.

    Attributes:
        bucket: The bucket.
        time_s: When the request came, in epoch seconds.
        remote_ip: Address of the client as S3 saw it; `-` if S3 itself or another service of AWS asked.
        region: Region that the Host header names; empty if it names none.
        copy: Whether the line is one side of a copy inside S3.
        sent_bytes: Bytes that went out, without the overhead of the protocol.
        received_bytes: Bytes of the object that came in.
    """

    bucket: str
    time_s: int
    remote_ip: str
    region: str
    copy: bool
    sent_bytes: int
    received_bytes: int


class Misfit(NamedTuple):
    """Why a line cannot be metered, and the bytes that it states all the same."""

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
    sent, size = _number(sent_text), _number(size_text)
    if sent is None or size is None:
        return Misfit(LineReason.INVALID_NUMBER, "bytes sent or object size is no number from 0 to 2^63-1", sent or 0)
    received = size if operation in _UPLOADS and status.startswith("2") else 0
    time_s = _epoch_s(time)
    if time_s is None:
        return Misfit(LineReason.INVALID_TIME, f"[{time[:64]}] is no time", sent + received)
    return Request(bucket, time_s, remote_ip, _region(tail["appended"]), _COPY in operation, sent, received)


def _client_end(text: str, start: int) -> int:
    """Where the user agent ends that follows the referer at `start`; the end of the line if these are not there.

    The user agent goes to the last quote that a blank follows. Clients write both as they like, so the line is searched
    and never tried in several ways: that takes minutes where thousands of quotes stand in a user agent.
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


def _number(text: str) -> int | None:
    if text == "-":
        return 0
    if _DIGITS.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number <= MAX_BYTES else None


@lru_cache(maxsize=4096)
def _epoch_s(text: str) -> int | None:
    found = _TIME.fullmatch(text)
    if found is None or found[2] not in _MONTHS:
        return None
    day, month, year, hour, minute, second = found.groups()
    try:
        moment = datetime(
            int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC
        )
    except ValueError:
        return None
    return int(moment.timestamp())


def _region(appended: str) -> str:
    fields = appended.split(" ")[1:]
    return _region_of_host(fields[_HOST_FIELD]) if len(fields) > _HOST_FIELD else ""


@lru_cache(maxsize=1024)
def _region_of_host(host: str) -> str:
    found = _HOST_REGION.search(host)
    return found[1] if found is not None else ""
