"""How documents of money write hours, prices and sizes, and how these texts are read."""

from __future__ import annotations

import re

from metering.hours import parse_hour, rfc3339
from metering.units import GIB, HOUR_S

_HOUR = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}):00:00Z")
_GB = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,30}))?")
_PERCENT = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,3}))?")
_PERCENT_UNITS = 1_000
MOST_PERCENT = 100 * _PERCENT_UNITS


def hour_of_text(text: str) -> int:
    """Full hour of `2026-08-01T00:00:00Z`.

    Raises:
        ValueError: It is none, or it lies before 1970.
    """
    found = _HOUR.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no full hour in UTC, such as 2026-08-01T00:00:00Z")
    try:
        hour_s = parse_hour(found[1])
    except ValueError as error:
        raise ValueError(f"{text!r} is no full hour in UTC, such as 2026-08-01T00:00:00Z") from error
    if hour_s < 0:
        raise ValueError(f"{text!r} lies before 1970")
    return hour_s


def hour_text(hour_s: int) -> str:
    """Text of a full hour."""
    return rfc3339(hour_s - hour_s % HOUR_S)


def bytes_of_gb(text: str) -> int:
    """Bytes of a decimal number of GB (2^30 bytes).

    Raises:
        ValueError: It is no such number, or no whole number of bytes.
    """
    found = _GB.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no number of GB: digits, and decimals after a point")
    part = found[2] or ""
    unit: int = 10 ** len(part)
    total, rest = divmod(int(found[1] + part) * GIB, unit)
    if rest:
        raise ValueError(f"{text} GB are no whole number of bytes")
    return total


def gb_text(total_bytes: int) -> str:
    """Bytes in GB, with all digits."""
    whole, rest = divmod(total_bytes, GIB)
    # 1 / 2^30 has 30 decimals.
    part = f"{rest * 5**30:030d}".rstrip("0") if rest else ""
    return f"{whole}.{part}" if part else str(whole)


def percent_of(text: str) -> int:
    """Thousandths of a percent of a text such as `12.5`.

    Raises:
        ValueError: It is no number from 0 to 100 with at most three decimals.
    """
    found = _PERCENT.fullmatch(text)
    units = int(found[1]) * _PERCENT_UNITS + int((found[2] or "").ljust(3, "0")) if found is not None else -1
    if not 0 <= units <= MOST_PERCENT:
        raise ValueError(f"{text!r} is no percentage from 0 to 100 with at most three decimals")
    return units


def percent_text(units: int) -> str:
    """Text of thousandths of a percent, without zeros at its end."""
    whole, part = divmod(units, _PERCENT_UNITS)
    return f"{whole}.{part:03d}".rstrip("0").rstrip(".")
