"""Usage hours and months, all in UTC.

An hour is the epoch second of its start (`hour_s`, a multiple of 3,600); keys and paths use its label.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from metering.units import HOUR_S

# A ledger item names its hours many times over, and a commit or a report touches few different ones.
_REMEMBERED = 4096


def hour_of(epoch_s: int) -> int:
    """Start of the hour that `epoch_s` lies in, in epoch seconds."""
    return epoch_s - epoch_s % HOUR_S


@lru_cache(maxsize=_REMEMBERED)
def hour_label(hour_s: int) -> str:
    """`2026-11-24T13`: sorts as time does."""
    return datetime.fromtimestamp(hour_s, UTC).strftime("%Y-%m-%dT%H")


@lru_cache(maxsize=_REMEMBERED)
def parse_hour(label: str) -> int:
    """Inverse of `hour_label`. Raises ValueError on anything else."""
    hour_s = int(datetime.strptime(label, "%Y-%m-%dT%H").replace(tzinfo=UTC).timestamp())
    # Also on `2026-9-1T7`: hours are ledger keys, and each has one name.
    if hour_label(hour_s) != label:
        raise ValueError(f"{label!r} is no hour")
    return hour_s


@lru_cache(maxsize=_REMEMBERED)
def month_of(hour_s: int) -> str:
    """`2026-11`: the billing month that an hour lies in."""
    return hour_label(hour_s)[:7]


@lru_cache(maxsize=_REMEMBERED)
def month_bounds_s(month: str) -> tuple[int, int]:
    """First second of `month` (`2026-11`) and of the month after it. Raises ValueError on anything else."""
    first = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    # Also on `2026-9`: months are ledger keys, and each has one name.
    if first.strftime("%Y-%m") != month:
        raise ValueError(f"{month!r} is no month")
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp()), int(after.timestamp())


def date_of(epoch_s: int) -> str:
    """`2026-11-24`: the day that `epoch_s` lies in."""
    return hour_label(hour_of(epoch_s))[:10]


def rfc3339(epoch_s: int) -> str:
    """`2026-11-24T13:00:00Z`."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
