"""A closed month of a given size, computed from its numbers: for the benchmark of its reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.freezing import MonthFreezer
from metering.hours import month_bounds_s
from metering.lake.parquet.frozen_months import ParquetFrozenFiles
from metering.lake.ports import in_order, usage_digest
from metering.ledger.booked_hours import LakeFile
from metering.ledger.periods import FrozenMonth, Period
from metering.stores.clock import Retrier
from metering.stores.objects import closed_month_key, lake_file_key
from metering.stores.writes import Put, Table
from metering.units import HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageType, sum_totals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.wiring.connection import RegionConnection


def hour_usage(accounts: Sequence[str], hour_s: int, number: int, usage_types: int) -> Iterator[tuple[UsageKey, Total]]:
    """Usage of some accounts in an hour. It depends only on the arguments."""
    for account_id in accounts:
        for kind in range(usage_types):
            key = UsageKey(
                hour_s,
                account_id,
                UsageType(f"USW2-Type{kind:02d}-Out-Bytes"),
                Service(("AmazonEC2", "AmazonS3")[kind % 2]),
                "us-west-2/usw2-az1",
                ("internet", "us-east-1", "us-west-2/usw2-az2")[kind % 3],
            )
            yield key, Total(11_700_000_000 * (number + 1) + kind, 100 + number)


def freeze_month(
    region: RegionConnection, month: str, accounts: Sequence[str], *, hours: int, usage_types: int
) -> FrozenMonth:
    """Freeze a month as a close does after its checks, and mark it closed. Its lake files exist only as names."""
    first_s, _ = month_bounds_s(month)
    freezer = MonthFreezer(
        objects=region.objects,
        files=ParquetFrozenFiles(region.objects),
        retrier=Retrier(clock=region.clock, entropy=region.entropy, attempts=4),
        alerts=region.alerts,
    )
    frozen = []
    for number in range(hours):
        hour_s = first_s + number * HOUR_S
        rows = in_order(dict(hour_usage(accounts, hour_s, number, usage_types)))
        total = sum_totals(usage for _, usage in rows)
        file = LakeFile(key=lake_file_key(hour_s, 0, 1, 0), rows=total.records, bytes=total.bytes)
        compared = usage_digest(rows)
        frozen.append(freezer.hour(month, hour_s, files=(file,), kept=rows, counted=rows.copy, compared=compared))
    closed = freezer.month(month, frozen)
    period = Period(month=month, state="closed", frozen_key=closed_month_key(month))
    region.items.put(Put(table=Table.LEDGER, item=period.to_item()))
    return closed
