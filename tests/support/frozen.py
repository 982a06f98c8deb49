"""Small closed months for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.lake.ports import FrozenFiles, UsageFile, in_order
from metering.ledger.booked_hours import LakeFile
from metering.ledger.periods import FrozenHour, FrozenMonth, FrozenRows
from metering.stores.objects import (
    ObjectStore,
    closed_accounts_key,
    closed_days_key,
    closed_hour_key,
    closed_month_key,
    lake_file_key,
)
from metering.usage.totals import Total, UsageKey, sum_totals

if TYPE_CHECKING:
    from collections.abc import Mapping


def freeze(
    objects: ObjectStore, files: FrozenFiles, month: str, hours: Mapping[int, Mapping[UsageKey, Total]]
) -> FrozenMonth:
    """Put the objects of a closed month with this usage by hour. The month's lake files exist only as names."""

    def put(key: str, file: UsageFile) -> FrozenRows:
        assert objects.put(key, file.content, if_absent=True)
        return FrozenRows(key=key, rows=file.rows, digest=file.digest)

    made = []
    for hour_s, usage in sorted(hours.items()):
        rows = put(closed_hour_key(month, hour_s), files.hour_file(in_order(usage)))
        made.append(FrozenHour(hour_s=hour_s, files=lake_files(hour_s, usage), frozen=rows))
    with files.month_files(made) as whole:
        accounts = put(closed_accounts_key(month), whole.accounts)
        days = put(closed_days_key(month), whole.days)
    closed = FrozenMonth(month=month, hours=tuple(made), accounts=accounts, days=days)
    assert objects.put(closed_month_key(month), closed.to_json(), if_absent=True)
    return closed.closed()


def lake_files(hour_s: int, usage: Mapping[UsageKey, Total]) -> tuple[LakeFile, ...]:
    """One file with the rows of an hour's usage."""
    total = sum_totals(usage.values())
    return (LakeFile(key=lake_file_key(hour_s, 0, 1, 0), rows=total.records, bytes=total.bytes),)
