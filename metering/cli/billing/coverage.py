"""Usage of a month by service and usage type, over all regions of a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.usage.ports import Sold
from metering.reports.prices.coverage import Used
from metering.reports.query import UsageQuery
from metering.reports.source import report_rows
from metering.usage.totals import Service, UsageType
from metering.wiring.reports import report_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.wiring.connection import RegionConnection


def usage_of(regions: Sequence[RegionConnection], from_s: int, to_s: int, *, now_s: int) -> list[Used]:
    """Bytes by service and usage type in a range of hours; those of the canary are left out.

    Raises:
        UnavailableError: A region or an hour of it could not be read.
    """
    query = UsageQuery(from_s=from_s, to_s=to_s, group_by=("service", "usage_type"))
    rows = report_rows([report_source(region) for region in regions], query, now_s=now_s)
    return [Used(Sold(Service(row.values[0]), UsageType(row.values[1])), row.total.bytes) for row in rows]
