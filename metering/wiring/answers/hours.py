"""One hour: its rows, its usage and its markers beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.audit.reconcile.one_hour import OneHour
from metering.hours import month_of
from metering.ledger.periods import periods_of
from metering.reports.operators.hour_answer import hour_answer
from metering.reports.source import naming

if TYPE_CHECKING:
    from metering.reports.answer import Answer
    from metering.wiring.answers.ports import ReadableRegion


def hour_of_region(region: ReadableRegion, hour_s: int, *, now_s: int) -> Answer:
    """The figures of an hour, compared without a scan.

    Args:
        region: The region.
        hour_s: Start of the hour, epoch seconds.
        now_s: The time now.

    Raises:
        UnavailableError: The hour could not be read; the error names the region.
        LedgerCorruptError: A marker cannot be read, or a file that the hour needs is gone.
    """
    with naming(region.region):
        hour = OneHour(items=region.items, view=region.view, marker_life_s=region.settings.marker_life_s)
        month = month_of(hour_s)
        known = periods_of(region.items, [month])
        period = known[month].state if month in known else "open"
        return hour_answer(hour.look(hour_s, now_s=now_s), period=period, as_of_s=now_s)
