"""Rows of closed months in plain Python: those of a manifest that has its totals in it, and batches of days."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from metering.lake.ports import DayBatch
from metering.lake.usage_digest import row_place
from metering.units import DAY_S
from metering.usage.totals import Total, UsageKey

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from metering.ledger.frozen_months import FrozenMonth

# Rows of a batch of days.
_BATCH_ROWS = 64 * 1024


def usage_in_manifest(frozen: FrozenMonth) -> list[tuple[UsageKey, Total]]:
    """All rows of a month of the form `metering.closed/1`, sorted by account. Its manifest is in memory anyway."""
    rows = [entry for hour in frozen.hours for entry in (hour.usage or {}).items()]
    return sorted(rows, key=lambda row: row_place(row[0]))


def of_accounts(
    rows: Iterable[tuple[UsageKey, Total]], accounts: Collection[str] | None
) -> Iterator[tuple[UsageKey, Total]]:
    """The rows of some accounts; of all, if `accounts` is None."""
    return (row for row in rows if accounts is None or row[0].account_id in accounts)


def day_batches(rows: Iterable[tuple[UsageKey, Total]]) -> Iterator[DayBatch]:
    """Batches of rows that are sorted by `row_place`, summed by day."""
    days = by_day(rows)
    while part := list(islice(days, _BATCH_ROWS)):
        yield _batch(part)


def rows_of_days(batches: Iterable[DayBatch]) -> Iterator[tuple[UsageKey, Total]]:
    """The rows of batches one by one; the hour of a key is the first of its day."""
    for batch in batches:
        columns = (batch.account_id, batch.key, batch.corrects_s, batch.day_s, batch.bytes, batch.records)
        for account_id, place, corrects_s, day_s, size, records in zip(*columns, strict=True):
            service, usage_type, from_location, to_location = batch.keys[place]
            key = UsageKey(day_s, account_id, usage_type, service, from_location, to_location, corrects_s)
            yield key, Total(size, records)


def by_day(rows: Iterable[tuple[UsageKey, Total]]) -> Iterator[tuple[UsageKey, Total]]:
    """Sums by day of rows that are sorted by `row_place`; the hour of a key is the first of its day."""
    current: UsageKey | None = None
    size = records = 0
    for key, total in rows:
        day = key.of_day()
        if day != current:
            if current is not None:
                yield current, Total(size, records)
            current, size, records = day, 0, 0
        size += total.bytes
        records += total.records
    if current is not None:
        yield current, Total(size, records)


def _batch(rows: list[tuple[UsageKey, Total]]) -> DayBatch:
    places: dict[tuple[str, str, str, str], int] = {}
    kinds = [places.setdefault((k.service, k.usage_type, k.from_location, k.to_location), len(places)) for k, _ in rows]
    return DayBatch(
        keys=tuple(places),
        account_id=[key.account_id for key, _ in rows],
        key=kinds,
        corrects_s=[key.corrects_s for key, _ in rows],
        day_s=[key.hour_s - key.hour_s % DAY_S for key, _ in rows],
        bytes=[total.bytes for _, total in rows],
        records=[total.records for _, total in rows],
    )
