"""What was metered in the time of a bill, in the keys of its lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import parse_hour
from metering.onramps.compare.lines import LineKey
from metering.reports.query import UsageQuery
from metering.reports.source import report_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.onramps.compare.lines import Wanted
    from metering.reports.source import ReportSource

_HOUR_LABEL_CHARS = len("2026-11-24T13")


def metered_bytes(
    sources: Iterable[ReportSource],
    wanted: Wanted,
    *,
    accounts: frozenset[str],
    range_s: tuple[int, int],
    now_s: int,
) -> dict[LineKey, int]:
    """Bytes by account, usage type and day or month. What came late counts in its own hour, as it does for AWS.

    Args:
        sources: The regions.
        wanted: Says whether days or months are compared.
        accounts: The accounts of the bill.
        range_s: Hours that start in this half-open range count.
        now_s: The time now: corrections may be booked until then.

    Raises:
        UnavailableError: An hour could not be read.
    """
    from_s, to_s = range_s
    query = UsageQuery(
        from_s=from_s,
        to_s=to_s,
        group_by=("account_id", "usage_type", "day", "corrects"),
        accounts=accounts,
        with_corrections=True,
    )
    found: dict[LineKey, int] = {}
    for row in report_rows(sources, query, now_s=now_s):
        account_id, usage_type, day, corrects = row.values
        moment_s = parse_hour(corrects[:_HOUR_LABEL_CHARS]) if corrects else parse_hour(f"{day}T00")
        # A correction that is booked in the range may be of an hour before it.
        if not corrects or from_s <= moment_s < to_s:
            key = LineKey(account_id, usage_type, wanted.period_of(moment_s))
            found[key] = found.get(key, 0) + row.total.bytes
    return found
