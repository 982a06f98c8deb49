"""Closed months and totals of lake files without Parquet, for simulations and fast tests."""

from __future__ import annotations

import marshal
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import cast

from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.lake import ports
from metering.ledger.booked_hours import LakeFile
from metering.ledger.periods import FrozenHour, FrozenMonth, FrozenRows
from metering.stores.objects import (
    ObjectStore,
    closed_accounts_key,
    closed_days_key,
    closed_hour_key,
    closed_month_key,
    hour_of_lake_key,
    lake_file_key,
    summary_key,
)
from metering.units import DAY_S
from metering.usage.totals import Total, UsageKey, UsageKind, add_totals, sum_totals

# Number of rows in a batch of days.
_BATCH_ROWS = 64 * 1024
_Rows = list[tuple[UsageKey, Total]]


def merge(parts: Iterable[Mapping[UsageKey, Total]]) -> dict[UsageKey, Total]:
    merged: dict[UsageKey, Total] = {}
    for part in parts:
        add_totals(merged, part)
    return merged


def of_day(key: UsageKey) -> UsageKey:
    """A usage key with the first hour of its day instead of its hour."""
    return key._replace(hour_s=key.hour_s - key.hour_s % DAY_S)


class PlainFrozenFiles:
    """`FrozenFiles` of plain rows."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def hour_file(self, rows: ports.UsageRows) -> ports.UsageFile:
        return _file(rows)

    @contextmanager
    def month_files(self, hours: Iterable[FrozenHour]) -> Iterator[ports.MonthFiles]:
        rows: _Rows = []
        for hour in hours:
            found = self._rows(hour.key)
            if ports.usage_digest(found) != hour.frozen.digest:
                raise ObjectDamagedError(hour.key, "its rows are not those of its digest")
            rows += found
        rows.sort(key=lambda row: ports.row_place(row[0]))
        days = merge({of_day(key): total} for key, total in rows)
        yield ports.MonthFiles(accounts=_file(rows), days=_file(ports.in_order(days)))

    def measured(self, key: str) -> ports.UsageMeasure:
        rows = self._rows(key)
        total = sum_totals(total for _, total in rows)
        return ports.UsageMeasure(rows=len(rows), digest=ports.usage_digest(rows), total=total)

    def hour(
        self, frozen: FrozenMonth, hour_s: int, accounts: Collection[str] | None = None
    ) -> Iterator[tuple[UsageKey, Total]]:
        hour = frozen.hour(hour_s)
        if hour is not None:
            yield from _of_accounts(self._rows(hour.key), accounts)

    def account_rows(self, frozen: FrozenMonth, account_ids: Collection[str]) -> Iterator[tuple[UsageKey, Total]]:
        return _of_accounts(self._rows(frozen.accounts.key), account_ids)

    def days(self, frozen: FrozenMonth, accounts: Collection[str] | None = None) -> Iterator[ports.DayBatch]:
        return _day_batches(_of_accounts(self._rows(frozen.days.key), accounts))

    def _rows(self, key: str) -> _Rows:
        return decode_usage(self._objects.get(key), key)


class PlainTotals:
    """`TotalsReader` of plain rows."""

    def __init__(self, objects: ObjectStore, lake: ports.LakeReader) -> None:
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

    def summed(self, files: Sequence[LakeFile]) -> ports.UsageRows:
        return ports.in_order(merge(dict(self.of(file)) for file in files))


def encode_usage(rows: Iterable[tuple[UsageKey, Total]]) -> bytes:
    return marshal.dumps([(tuple(key), tuple(total)) for key, total in rows])


def decode_usage(body: bytes, key: str) -> _Rows:
    """Inverse of `encode_usage`; `key` is the key of the object, for errors."""
    try:
        values = cast("list[tuple[UsageKey, Total]]", marshal.loads(body))  # noqa: S302 - what this process wrote itself
        return [(UsageKey(*key), Total(*total)) for key, total in values]
    except (ValueError, EOFError, TypeError) as error:
        raise ObjectDamagedError(key, str(error)) from error


def _file(rows: Iterable[tuple[UsageKey, Total]]) -> ports.UsageFile:
    kept = list(chain(rows))
    return ports.UsageFile(content=encode_usage(kept), rows=len(kept), digest=ports.usage_digest(kept))


def _of_accounts(
    rows: Iterable[tuple[UsageKey, Total]], accounts: Collection[str] | None
) -> Iterator[tuple[UsageKey, Total]]:
    """The rows of some accounts, or of all accounts if `accounts` is None."""
    return (row for row in rows if accounts is None or row[0].account_id in accounts)


def _day_batches(rows: Iterable[tuple[UsageKey, Total]]) -> Iterator[ports.DayBatch]:
    """Daily sums in batches, from rows sorted by `row_place`."""
    days = by_day(rows)
    while part := list(islice(days, _BATCH_ROWS)):
        yield _batch(part)


def by_day(rows: Iterable[tuple[UsageKey, Total]]) -> Iterator[tuple[UsageKey, Total]]:
    """Daily sums of rows sorted by `row_place`; the hour in a key is the first of the day."""
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


def _batch(rows: list[tuple[UsageKey, Total]]) -> ports.DayBatch:
    places: dict[UsageKind, int] = {}
    kinds = [places.setdefault(key.kind, len(places)) for key, _ in rows]
    return ports.DayBatch(
        keys=tuple(places),
        account_id=[key.account_id for key, _ in rows],
        key=kinds,
        corrects_s=[key.corrects_s for key, _ in rows],
        day_s=[key.hour_s - key.hour_s % DAY_S for key, _ in rows],
        bytes=[total.bytes for _, total in rows],
        records=[total.records for _, total in rows],
    )


def freeze(
    objects: ObjectStore, files: ports.FrozenFiles, month: str, hours: Mapping[int, Mapping[UsageKey, Total]]
) -> FrozenMonth:
    """Put the objects of a closed month whose usage is `hours`. Its lake files are not put."""

    def put(key: str, file: ports.UsageFile) -> FrozenRows:
        assert objects.put(key, file.content, if_absent=True)
        return FrozenRows(key=key, rows=file.rows, digest=file.digest)

    made = []
    for hour_s, usage in sorted(hours.items()):
        rows = put(closed_hour_key(month, hour_s), files.hour_file(ports.in_order(usage)))
        made.append(FrozenHour(hour_s=hour_s, files=lake_files(hour_s, usage), frozen=rows))
    with files.month_files(made) as whole:
        accounts = put(closed_accounts_key(month), whole.accounts)
        days = put(closed_days_key(month), whole.days)
    closed = FrozenMonth(month=month, hours=tuple(made), accounts=accounts, days=days)
    assert objects.put(closed_month_key(month), closed.to_json(), if_absent=True)
    return closed.closed()


def lake_files(hour_s: int, usage: Mapping[UsageKey, Total]) -> tuple[LakeFile, ...]:
    """The one lake file (not put) that has the rows of an hour's usage."""
    total = sum_totals(usage.values())
    return (LakeFile(key=lake_file_key(hour_s, 0, 1, 0), rows=total.records, bytes=total.bytes),)
