"""Usage hours and months, all in UTC.

An hour is identified by the epoch second of its start (`hour_s`, a multiple of 3,600), in keys and paths by its label.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache

from metering.units import HOUR_S

# A ledger item repeats its hours many times, but a commit or a report has few distinct hours.
_REMEMBERED = 4096


def hour_of(epoch_s: int) -> int:
    """Start of the hour that contains `epoch_s`, in epoch seconds."""
    return epoch_s - epoch_s % HOUR_S


@lru_cache(maxsize=_REMEMBERED)
def hour_label(hour_s: int) -> str:
    """Label of an hour, `2026-11-24T13`. Labels sort chronologically."""
    return datetime.fromtimestamp(hour_s, UTC).strftime("%Y-%m-%dT%H")


@lru_cache(maxsize=_REMEMBERED)
def parse_hour(label: str) -> int:
    """Parse the label of an hour; the inverse of `hour_label`.

    Raises:
        ValueError: The text is not a label in canonical form.
    """
    hour_s = int(datetime.strptime(label, "%Y-%m-%dT%H").replace(tzinfo=UTC).timestamp())
    # strptime also accepts `2026-9-1T7`, but hours are ledger keys, so each hour has one spelling.
    if hour_label(hour_s) != label:
        raise ValueError(f"{label!r} is not an hour")
    return hour_s


@lru_cache(maxsize=_REMEMBERED)
def month_of(hour_s: int) -> str:
    """Billing month of an hour, `2026-11`."""
    return hour_label(hour_s)[:7]


@lru_cache(maxsize=_REMEMBERED)
def month_bounds_s(month: str) -> tuple[int, int]:
    """First second of `month` (`2026-11`), and first second of the next month.

    Raises:
        ValueError: The text is not a month in canonical form.
    """
    first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    # strptime also accepts `2026-9`, but months are ledger keys, so each month has one spelling.
    if first.strftime("%Y-%m") != month:
        raise ValueError(f"{month!r} is not a month")
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp()), int(after.timestamp())


def months_between(earlier: str, later: str) -> Iterator[str]:
    """Months strictly between two months, in order; may be empty."""
    month = month_of(month_bounds_s(earlier)[1])
    while month < later:
        yield month
        month = month_of(month_bounds_s(month)[1])


def date_of(epoch_s: int) -> str:
    """Day that contains `epoch_s`, `2026-11-24`."""
    return hour_label(hour_of(epoch_s))[:10]


def rfc3339(epoch_s: int) -> str:
    """RFC 3339 text of a second, `2026-11-24T13:00:00Z`."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
