"""Full hours and months that options of money name. They may lie in the future, as prices and payers do."""

from __future__ import annotations

import re

from metering.cli.failures import WrongUsageError
from metering.hours import month_bounds_s, parse_hour

_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_HOUR = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2})(:00(:00)?)?Z")
# Labels of hours have years of four digits, and the end of a range needs one too.
_LAST_YEAR = "9998"
WRITE_HOUR = "Write a full hour in UTC: 2026-11-01T00:00:00Z, 2026-11-01 or 2026-11."


def full_hour(text: str, option: str) -> int:
    """The full hour that an option names, or the first one of a day or a month.

    Raises:
        WrongUsageError: It names none.
    """
    try:
        hour_s = _hour(text)
    except ValueError:
        hour_s = -1
    if hour_s < 0:
        raise WrongUsageError(f"{option} {text} is no full hour.", WRITE_HOUR)
    return hour_s


def _hour(text: str) -> int:
    if text[:4] > _LAST_YEAR:
        raise ValueError(text)
    if _MONTH.fullmatch(text):
        return parse_hour(f"{text}-01T00")
    if _DAY.fullmatch(text):
        return parse_hour(f"{text}T00")
    found = _HOUR.fullmatch(text)
    if found is None:
        raise ValueError(text)
    return parse_hour(found[1])


def month_named(month: str) -> tuple[int, int]:
    """First second of a month, and of the month after it.

    Raises:
        WrongUsageError: It is none.
    """
    try:
        bounds = month_bounds_s(month)
    except (ValueError, OverflowError) as error:
        raise WrongUsageError(f"{month} is not a month.", "Write it as 2026-11.") from error
    if bounds[0] < 0:
        raise WrongUsageError(f"{month} lies before 1970.", "Write it as 2026-11.")
    return bounds
