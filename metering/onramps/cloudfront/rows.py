"""Rows of CloudFront standard logs: what the named fields of one request say, in whatever form the file has."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from metering.errors import LogFileRefusedError
from metering.onramps.cloudfront.areas import airport_of
from metering.onramps.reasons import FileReason, LineReason
from metering.onramps.rows.tally import MAX_BYTES, Moved

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from metering.onramps.rows.tally import Tally

SENT, RECEIVED, EDGE = "sc-bytes", "cs-bytes", "x-edge-location"
METHOD, RESULT = "cs-method", "x-edge-result-type"
DATE, TIME, SECONDS, MILLISECONDS = "date", "time", "timestamp", "timestamp(ms)"
USED_FIELDS = (SENT, RECEIVED, EDGE, METHOD, RESULT, DATE, TIME, SECONDS, MILLISECONDS)
"""Fields that metering reads. Legacy logs have them all; version 2 has those that its owner chose."""

LEGACY_FIELDS = (
    *("date", "time", "x-edge-location", "sc-bytes", "c-ip", "cs-method", "cs(Host)", "cs-uri-stem", "sc-status"),
    *("cs(Referer)", "cs(User-Agent)", "cs-uri-query", "cs(Cookie)", "x-edge-result-type", "x-edge-request-id"),
    *("x-host-header", "cs-protocol", "cs-bytes", "time-taken", "x-forwarded-for", "ssl-protocol", "ssl-cipher"),
    *("x-edge-response-result-type", "cs-protocol-version", "fle-status", "fle-encrypted-fields", "c-port"),
    *("time-to-first-byte", "x-edge-detailed-result-type", "sc-content-type", "sc-content-len", "sc-range-start"),
    "sc-range-end",
)
"""The 33 fields of a legacy log, in their order (Amazon CloudFront Developer Guide, "Standard log file fields")."""

_NONE = ("", "-")
# What viewers send with these goes on to the origin, and is billed as that (CloudFront's usage report).
_UPLOADS = frozenset({"DELETE", "OPTIONS", "PATCH", "POST", "PUT"})
_READS = frozenset({"GET", "HEAD"})
# The edge answered without the origin. Of an error it does not say whose it was.
_AT_EDGE = frozenset({"Hit", "Redirect", "LimitExceeded", "CapacityExceeded", "FunctionGeneratedResponse"})
_BY_ORIGIN = "Miss"
METHOD_NOT_LOGGED, ORIGIN_UNKNOWN = "method_not_logged", "origin_unknown"
"""Reasons why it is not known whether what a viewer sent went on to the origin."""


class EdgeTransfer(NamedTuple):
    """What rows say of a transfer between an edge and viewers or origins, but for time and size.

    Attributes:
        airport: Airport code of the edge; empty if the row has none.
        edge_logged: Whether the log has edge locations at all.
        direction: `out` to viewers, `in` from viewers, or `origin`: from viewers, and on to the origin.
        version: `legacy` or `v2`, the version of the log.
        doubt: Why it is not known whether what came in went on to the origin; empty if it is.
    """

    airport: str
    edge_logged: bool
    direction: str
    version: str
    doubt: str = ""


class RowJudge:
    """Counts rows of one file.

    Args:
        fields: Fields that the file has.
        version: `legacy` or `v2`.

    Raises:
        LogFileRefusedError: A field is missing without which nothing can be metered.
    """

    def __init__(self, fields: Collection[str], version: str) -> None:
        missing = [] if SENT in fields else [SENT]
        if not ({DATE, TIME} <= set(fields) or SECONDS in fields or MILLISECONDS in fields):
            missing.append("date with time, or timestamp")
        if missing:
            detail = f"the log lacks {' and '.join(missing)}: choose these fields for its delivery"
            raise LogFileRefusedError(FileReason.MISSING_FIELD, detail)
        self._edge_logged = EDGE in fields
        self._version = version

    def judge(self, number: int, text: str, value: Callable[[str], str], tally: Tally[EdgeTransfer]) -> None:
        """Count a row.

        Args:
            number: Its number in the file.
            text: The row, for people.
            value: Value of one of `USED_FIELDS`; empty if the row has none.
            tally: Where it counts.
        """
        sent, received = _number(value(SENT)), _number(value(RECEIVED))
        if sent is None or received is None:
            detail = f"{SENT} or {RECEIVED} is no number from 0 to 2^63-1"
            tally.refuse(number, LineReason.INVALID_NUMBER, detail, text, (sent or 0) + (received or 0))
            return
        time_s = _time_s(value(DATE), value(TIME), value(SECONDS), value(MILLISECONDS))
        if time_s is None:
            detail = "the row has no time that can be read"
            tally.refuse(number, LineReason.INVALID_TIME, detail, text, sent + received)
            return
        airport = airport_of(value(EDGE))
        inward, doubt = _went(value(METHOD), value(RESULT))
        moves = [
            Moved(EdgeTransfer(airport, self._edge_logged, direction, self._version, why), size_bytes)
            for direction, size_bytes, why in (("out", sent, ""), (inward, received, doubt))
            if size_bytes
        ]
        if moves:
            tally.metered(moves, time_s, time_s)
        else:
            tally.nodata()


def _went(method: str, result: str) -> tuple[str, str]:
    """Where the bytes of a request went, and why that is not known if it is not."""
    if method in _NONE:
        return "in", METHOD_NOT_LOGGED
    if method in _READS or result in _AT_EDGE:
        return "in", ""
    if method in _UPLOADS and result == _BY_ORIGIN:
        return "origin", ""
    return "in", ORIGIN_UNKNOWN


def _number(text: str) -> int | None:
    if text in _NONE:
        return 0
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(MAX_BYTES)):
        return None
    number = int(text)
    return number if number <= MAX_BYTES else None


def _time_s(date: str, time: str, seconds: str, milliseconds: str) -> int | None:
    """The time when the response ended, which is all that the log says of times."""
    if date not in _NONE and time not in _NONE:
        return _moment_s(date, time)
    if seconds not in _NONE:
        # Seconds may have a fraction.
        return _number(seconds.partition(".")[0])
    whole = _number(milliseconds)
    return whole // 1000 if whole and milliseconds not in _NONE else None


@lru_cache(maxsize=65_536)
def _moment_s(date: str, time: str) -> int | None:
    try:
        return int(datetime.strptime(f"{date} {time}", "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None
