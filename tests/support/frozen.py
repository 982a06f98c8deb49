"""Closed months for tests: small ones that cost nothing, and one as an earlier release closed it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from metering.hours import hour_label
from metering.lake.usage_digest import in_order
from metering.ledger.booked_hours import LakeFile
from metering.ledger.frozen_months import FrozenHour, FrozenMonth, FrozenRows
from metering.ledger.periods import Period
from metering.stores.bucket import (
    closed_accounts_key,
    closed_days_key,
    closed_hour_key,
    closed_month_key,
    lake_file_key,
)
from metering.stores.writes import Put, Table
from metering.usage.totals import sum_totals

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.lake.ports import FrozenFiles, UsageFile
    from metering.stores.items import ItemStore
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import Total, UsageKey


def freeze(
    objects: ObjectStore, files: FrozenFiles, month: str, hours: Mapping[int, Mapping[UsageKey, Total]]
) -> FrozenMonth:
    """Put the objects of a closed month with this usage by hour. Its lake files are names only."""

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
    """One file that holds the rows of an hour's usage."""
    total = sum_totals(usage.values())
    return (LakeFile(key=lake_file_key(hour_s, 0, 1, 0), rows=total.records, bytes=total.bytes),)


def as_of_0_1(
    items: ItemStore,
    objects: ObjectStore,
    month: str,
    hours: Mapping[int, tuple[tuple[LakeFile, ...], Mapping[UsageKey, Total]]],
) -> None:
    """Close a month as release 0.1.0 did: one document with all totals, and no other object."""
    made = tuple(
        FrozenHour(hour_s=hour_s, files=files, usage=usage) for hour_s, (files, usage) in sorted(hours.items())
    )
    key = closed_month_key(month)
    assert objects.put(key, manifest_of_0_1(FrozenMonth(month=month, hours=made)), if_absent=True)
    items.put(Put(table=Table.LEDGER, item=Period(month=month, state="closed", frozen_key=key).to_item()))


def manifest_of_0_1(month: FrozenMonth) -> bytes:
    """The document that release 0.1.0 wrote of a month whose hours have their usage."""
    values = [_hour_value(hour) for hour in month.hours]
    document = {"schema": "metering.closed/1", "month": month.month, **_total(month.total), "hours": values}
    return json.dumps(document, separators=(",", ":")).encode()


def _hour_value(hour: FrozenHour) -> dict[str, object]:
    rows = [
        [
            key.account_id,
            key.usage_type,
            key.service,
            key.from_location,
            key.to_location,
            "" if key.corrects_s is None else hour_label(key.corrects_s),
            str(total.bytes),
            total.records,
        ]
        for key, total in (hour.usage or {}).items()
    ]
    return {
        "hour": hour_label(hour.hour_s),
        "files": [{"key": file.key, "rows": file.rows, "bytes": str(file.bytes)} for file in hour.files],
        **_total(hour.total),
        "usage": sorted(rows),
    }


def _total(total: Total) -> dict[str, object]:
    return {"rows": total.records, "bytes": str(total.bytes)}
