"""Times of records: decoded to epoch microseconds, and checked against the admission window (decision 0003)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from metering.units import DAY_S

if TYPE_CHECKING:
    from metering.settings import Policy


# A clock may be wrong by a day before a marker expires too early.
_MARKER_MARGIN_S = DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The admission window in force at processing time.

    Attributes:
        window_s: Maximum time by which a record's `start` may precede the message's SentTimestamp.
        ahead_s: Maximum time by which `start` may follow the SentTimestamp.
        floor_s: Records that start before this epoch second are too late even inside the window; 0 in a new stage. Set
            when the window is widened, and never lowered, because markers of older batches may have expired.
    """

    window_s: int
    ahead_s: int
    floor_s: int

    @classmethod
    def of(cls, policy: Policy) -> Admission:
        """Admission window of a stage's policy."""
        return cls(window_s=policy.window_s, ahead_s=policy.ahead_s, floor_s=policy.admission_floor_s)

    def refusal(self, start_s: int, sent_at_ms: int) -> str | None:
        """Reason to refuse a record that starts at `start_s` (`too_late`, `in_the_future`); None if it is admitted."""
        sent_at_s = sent_at_ms // 1000
        if start_s < max(sent_at_s - self.window_s, self.floor_s):
            return "too_late"
        if start_s > sent_at_s + self.ahead_s:
            return "in_the_future"
        return None


def shortest_marker_life_s(window_s: int, retention_s: int) -> int:
    """Minimum lifetime of a marker, so that the marker outlives the last copy of its batch by a margin.

    Args:
        window_s: Admission window, after which a copy is refused as too late.
        retention_s: A queue's retention: the maximum time that a copy stays there. A redrive starts a new full period.
    """
    return window_s + retention_s + _MARKER_MARGIN_S


SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US

# The years 1 to 9999. RFC 3339 cannot express other years.
MIN_EPOCH_S = -62_135_596_800
MAX_EPOCH_S = 253_402_300_799

# RFC 3339 does not limit the digits of a fraction. The length of a real timestamp is far below this limit.
MAX_TIME_CHARS = 64

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TO_23 = "(?:[01][0-9]|2[0-3])"
_TO_59 = "[0-5][0-9]"
# The pattern limits every number, because Python versions differ in which other texts they accept (`24:00`, `+00:60`).
_RFC3339 = re.compile(
    "([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]"
    rf"({_TO_23}:{_TO_59}:{_TO_59})(?:\.([0-9]+))?"
    f"([Zz]|[+-]{_TO_23}:{_TO_59})"
)


def rfc3339_us(text: str) -> int | None:
    """Epoch microseconds of an RFC 3339 time, truncated; None if `text` is not such a time.

    A leap second has no epoch second, so `23:59:60` is not accepted.
    """
    return _parse(text) if len(text) <= MAX_TIME_CHARS else None


def epoch_us(epoch_s: int) -> int | None:
    """Epoch microseconds of an epoch second; None outside the years 1 to 9999."""
    return epoch_s * SECOND_US if MIN_EPOCH_S <= epoch_s <= MAX_EPOCH_S else None


def _parse(text: str) -> int | None:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    date, time, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{'+00:00' if zone in 'Zz' else zone}")
    except ValueError:
        return None
    instant_us = (moment - _EPOCH) // _MICROSECOND + int((fraction or "")[:6].ljust(6, "0"))
    return instant_us if MIN_EPOCH_S <= instant_us // SECOND_US <= MAX_EPOCH_S else None
