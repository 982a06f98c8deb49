"""Times of records: RFC 3339 text or epoch seconds, decoded to epoch microseconds (`_us`)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US

# The years 1 to 9999. RFC 3339 can write no others.
MIN_EPOCH_S = -62_135_596_800
MAX_EPOCH_S = 253_402_300_799

# RFC 3339 does not limit the digits of a fraction. Real writers stay far below this.
MAX_TIME_CHARS = 64

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TO_23 = "(?:[01][0-9]|2[0-3])"
_TO_59 = "[0-5][0-9]"
# The pattern bounds every number, because versions of Python differ in the other texts that they take (`24:00`,
# `+00:60`).
_RFC3339 = re.compile(
    "([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]"
    rf"({_TO_23}:{_TO_59}:{_TO_59})(?:\.([0-9]+))?"
    f"([Zz]|[+-]{_TO_23}:{_TO_59})"
)


def rfc3339_us(text: str) -> int | None:
    """Epoch microseconds of an RFC 3339 time, finer digits cut off; None if `text` is not one.

    A leap second has no epoch second, so `23:59:60` is not a time here.
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
