"""Closed months and totals of lake files without Parquet, for simulations and fast tests."""

from __future__ import annotations

import marshal
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, cast

from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.lake.ports import (
    DayBatch,
    LakeReader,
    MonthFiles,
    UsageFile,
    UsageMeasure,
    UsageRows,
    in_order,
    row_place,
    usage_digest,
)
from metering.stores.objects import ObjectStore, hour_of_lake_key, summary_key
from metering.units import DAY_S
from metering.usage.totals import Total, UsageKey, UsageKind, add_totals, sum_totals

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from metering.ledger.booked_hours import LakeFile
    from metering.ledger.periods import FrozenHour, FrozenMonth

# Number of rows in a batch of days.
_BATCH_ROWS = 64 * 1024
_Rows = list[tuple[UsageKey, Total]]


def merge(parts: Iterable[Mapping[UsageKey, Total]]) -> dict[UsageKey, Total]:
    """Sum of several usages, key by key."""
    merged: dict[UsageKey, Total] = {}
    for part in parts:
        add_totals(merged, part)
    return merged


def of_day(key: UsageKey) -> UsageKey:
    """The key for the first hour of its day."""
    return key._replace(hour_s=key.hour_s - key.hour_s % DAY_S)


class PlainFrozenFiles:
    """`FrozenFiles` of plain rows."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def hour_file(self, rows: UsageRows) -> UsageFile:
        return _file(rows)

    @contextmanager
    def month_files(self, hours: Iterable[FrozenHour]) -> Iterator[MonthFiles]:
        rows: _Rows = []
        for hour in hours:
            found = self._rows(hour.key)
            if usage_digest(found) != hour.frozen.digest:
                raise ObjectDamagedError(hour.key, "its rows are not those of its digest")
            rows += found
        rows.sort(key=lambda row: row_place(row[0]))
        days = merge({of_day(key): total} for key, total in rows)
        yield MonthFiles(accounts=_file(rows), days=_file(in_order(days)))

    def measured(self, key: str) -> UsageMeasure:
        rows = self._rows(key)
        total = sum_totals(total for _, total in rows)
        return UsageMeasure(rows=len(rows), digest=usage_digest(rows), total=total)

    def hour(
        self, frozen: FrozenMonth, hour_s: int, accounts: Collection[str] | None = None
    ) -> Iterator[tuple[UsageKey, Total]]:
        hour = frozen.hour(hour_s)
        if hour is not None:
            yield from _of_accounts(self._rows(hour.key), accounts)

    def account_rows(self, frozen: FrozenMonth, account_ids: Collection[str]) -> Iterator[tuple[UsageKey, Total]]:
        return _of_accounts(self._rows(frozen.accounts.key), account_ids)

    def days(self, frozen: FrozenMonth, accounts: Collection[str] | None = None) -> Iterator[DayBatch]:
        return _day_batches(_of_accounts(self._rows(frozen.days.key), accounts))

    def _rows(self, key: str) -> _Rows:
        return decode_usage(self._objects.get(key), key)


class PlainTotals:
    """`TotalsReader` of plain rows.

    Args:
        objects: Store of the lake files and their totals.
        lake: Reads the rows of files whose totals are missing.
    """

    def __init__(self, objects: ObjectStore, lake: LakeReader) -> None:
        self._objects = objects
        self._lake = lake

    def of(self, file: LakeFile) -> Iterator[tuple[UsageKey, Total]]:
        key = summary_key(file.key)
        try:
            rows = decode_usage(self._objects.get(key), key)
        except (ObjectMissingError, ObjectDamagedError):
            rows = []
        if sum_totals(total for _, total in rows) != Total(file.bytes, file.rows):
            hour_s = hour_of_lake_key(file.key) or 0
            rows = list(self._lake.hour_usage(hour_s, [file.source(hour_s)]))
        yield from rows

    def summed(self, files: Sequence[LakeFile]) -> UsageRows:
        return in_order(merge(dict(self.of(file)) for file in files))


def encode_usage(rows: Iterable[tuple[UsageKey, Total]]) -> bytes:
    """Encode rows in the given order."""
    return marshal.dumps([(tuple(key), tuple(total)) for key, total in rows])


def decode_usage(body: bytes, key: str) -> _Rows:
    """Inverse of `encode_usage`; `key` is the object's.

    Raises:
        ObjectDamagedError: The body has another form.
    """
    try:
        values = cast("list[tuple[UsageKey, Total]]", marshal.loads(body))  # noqa: S302 - what this process wrote itself
        return [(UsageKey(*key), Total(*total)) for key, total in values]
    except (ValueError, EOFError, TypeError) as error:
        raise ObjectDamagedError(key, str(error)) from error


def _file(rows: Iterable[tuple[UsageKey, Total]]) -> UsageFile:
    kept = list(chain(rows))
    return UsageFile(content=encode_usage(kept), rows=len(kept), digest=usage_digest(kept))


def _of_accounts(
    rows: Iterable[tuple[UsageKey, Total]], accounts: Collection[str] | None
) -> Iterator[tuple[UsageKey, Total]]:
    """The rows of some accounts, or of all if `accounts` is None."""
    return (row for row in rows if accounts is None or row[0].account_id in accounts)


def _day_batches(rows: Iterable[tuple[UsageKey, Total]]) -> Iterator[DayBatch]:
    """Batches of rows that are sorted by `row_place`, summed by day."""
    days = by_day(rows)
    while part := list(islice(days, _BATCH_ROWS)):
        yield _batch(part)


def by_day(rows: Iterable[tuple[UsageKey, Total]]) -> Iterator[tuple[UsageKey, Total]]:
    """Sums by day of rows that are sorted by `row_place`; the hour of a key is the first of its day."""
    current: UsageKey | None = None
    size = records = 0
    for key, total in rows:
        day = of_day(key)
        if day != current:
            if current is not None:
                yield current, Total(size, records)
            current, size, records = day, 0, 0
        size += total.bytes
        records += total.records
    if current is not None:
        yield current, Total(size, records)


def _batch(rows: list[tuple[UsageKey, Total]]) -> DayBatch:
    places: dict[UsageKind, int] = {}
    kinds = [places.setdefault(key.kind, len(places)) for key, _ in rows]
    return DayBatch(
        keys=tuple(places),
        account_id=[key.account_id for key, _ in rows],
        key=kinds,
        corrects_s=[key.corrects_s for key, _ in rows],
        day_s=[key.hour_s - key.hour_s % DAY_S for key, _ in rows],
        bytes=[total.bytes for _, total in rows],
        records=[total.records for _, total in rows],
    )
