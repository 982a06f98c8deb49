"""A closed month, from its frozen totals: whatever is read of it never changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.usage.columns import SCHEMA, lines_of, only
from metering.billing.usage.merged import merged
from metering.billing.usage.ports import Late, Sold
from metering.billing.usage.table_month import line_of
from metering.ledger.notes.canary_batches import CANARY_ACCOUNT_ID
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from typing import Protocol

    from metering.billing.usage.ports import UsageLine
    from metering.lake.ports import FrozenReader
    from metering.ledger.frozen_months import FrozenMonth
    from metering.usage.totals import UsageKey

    class FrozenTables(FrozenReader, Protocol):
        """Reads closed months in columns, too: names, `hour`, `corrects` and `bytes`."""

        def day_tables(
            self,
            frozen: FrozenMonth,
            accounts: Collection[str] | None = None,
            columns: Sequence[str] | None = None,
        ) -> Iterator[pa.Table]: ...

        def hour_tables(
            self,
            frozen: FrozenMonth,
            hour_s: int,
            accounts: Collection[str] | None = None,
            columns: Sequence[str] | None = None,
        ) -> Iterator[pa.Table]: ...


# Rows of so few accounts are read whole and sorted: an account has some ten thousand in a month.
_FEW_ACCOUNTS = 20
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMonth:
    """A `RegionMonth` that is closed.

    Attributes:
        frozen: Its manifest.
        reader: Reads its totals.
    """

    region: str
    frozen: FrozenMonth
    reader: FrozenTables

    @property
    def month(self) -> str:
        return self.frozen.month

    @property
    def digest(self) -> str:
        return self.frozen.digest

    def accounts(self) -> Iterator[str]:
        found: set[str] = set()
        for table in self.reader.day_tables(self.frozen, None, ("account_id",)):
            found.update(pc.unique(table.column("account_id").cast(pa.string())).to_pylist())
        return iter(sorted(found - {CANARY_ACCOUNT_ID}))

    def day_lines(self, accounts: frozenset[str] | None = None) -> Iterator[UsageLine]:
        for batch in self.day_batches(accounts):
            yield from lines_of(batch)

    def day_batches(
        self, accounts: frozenset[str] | None = None, columns: Sequence[str] = SCHEMA.names
    ) -> Iterator[pa.RecordBatch]:
        """The same in columns."""
        for table in self.reader.day_tables(self.frozen, accounts, _stored(columns)):
            yield from _own(table, columns)

    def hour_lines(
        self,
        accounts: frozenset[str] | None = None,
        *,
        day_s: int | None = None,
        sold: frozenset[Sold] | None = None,
    ) -> Iterator[UsageLine]:
        if accounts is not None and len(accounts) <= _FEW_ACCOUNTS:
            yield from merged(sorted(self._of_accounts(accounts, day_s, sold)))
            return
        for hour_s in self._hours(day_s):
            lines = [line for batch in self._hour(hour_s, accounts, sold) for line in lines_of(batch)]
            yield from merged(sorted(lines))

    def hour_batches(
        self,
        accounts: frozenset[str] | None = None,
        *,
        day_s: int | None = None,
        sold: frozenset[Sold] | None = None,
        hour_s: int | None = None,
        columns: Sequence[str] = SCHEMA.names,
    ) -> Iterator[pa.RecordBatch]:
        """The same in columns, hour by hour."""
        for each_s in self._hours(day_s):
            if hour_s in {None, each_s}:
                yield from self._hour(each_s, accounts, sold, columns)

    def late(self, accounts: frozenset[str] | None = None) -> Iterator[Late]:
        # Sums of days say in a moment whether there is anything.
        days = self._late_days(accounts)
        for hour in self.frozen.hours:
            if hour.hour_s - hour.hour_s % DAY_S in days:
                for key, total in self.reader.hour(self.frozen, hour.hour_s, accounts):
                    if key.corrects_s is not None and key.account_id != CANARY_ACCOUNT_ID:
                        yield Late(hour.hour_s, line_of(key, total))

    def _late_days(self, accounts: frozenset[str] | None) -> frozenset[int]:
        found: set[int] = set()
        for table in self.reader.day_tables(self.frozen, accounts, ("account_id", "hour", "corrects")):
            late = table.filter(pc.is_valid(table.column("corrects")))
            found.update(_seconds(late).to_pylist())
        return frozenset(found)

    def _of_accounts(
        self, accounts: frozenset[str], day_s: int | None, sold: frozenset[Sold] | None
    ) -> Iterator[UsageLine]:
        for key, total in self.reader.account_rows(self.frozen, accounts):
            if _counts(key, day_s) and (sold is None or Sold(key.service, key.usage_type) in sold):
                yield line_of(key, total)

    def _hours(self, day_s: int | None) -> Iterator[int]:
        for hour in self.frozen.hours:
            if day_s is None or day_s <= hour.hour_s < day_s + DAY_S:
                yield hour.hour_s

    def _hour(
        self,
        hour_s: int,
        accounts: frozenset[str] | None,
        sold: frozenset[Sold] | None,
        columns: Sequence[str] = SCHEMA.names,
    ) -> Iterator[pa.RecordBatch]:
        for table in self.reader.hour_tables(self.frozen, hour_s, accounts, _stored(columns)):
            narrow = table if sold is None else _of_types(table, {each.usage_type for each in sold})
            for batch in _own(narrow, columns):
                yield only(batch, None, sold)


def _counts(key: UsageKey, day_s: int | None) -> bool:
    if key.corrects_s is not None or key.account_id == CANARY_ACCOUNT_ID:
        return False
    return day_s is None or day_s <= key.hour_s < day_s + DAY_S


def _of_types(table: pa.Table, usage_types: set[str]) -> pa.Table:
    """Rows of some usage types. Names are compared once each, before any text is made of them."""
    place = table.column_names.index("usage_type")
    parts = []
    for batch in table.to_batches():
        column = batch.column(place)
        wanted = [number for number, name in enumerate(column.dictionary.to_pylist()) if name in usage_types]
        parts.append(batch.filter(pc.is_in(column.indices, value_set=pa.array(wanted, column.indices.type))))
    return pa.Table.from_batches(parts, schema=table.schema)


def _stored(columns: Sequence[str]) -> list[str]:
    """Columns of the month's objects that give columns of lines."""
    names = {"account_id", "corrects", *("hour" if name == "hour_s" else name for name in columns)}
    return sorted(names)


def _own(table: pa.Table, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Rows that correct nothing, with columns of lines; without those of the canary."""
    if table.column("corrects").null_count < table.num_rows:
        table = table.filter(pc.is_null(table.column("corrects")))
    accounts = table.column("account_id")
    if any(CANARY_ACCOUNT_ID in chunk.dictionary.to_pylist() for chunk in accounts.chunks):
        table = table.filter(pc.not_equal(accounts.cast(pa.string()), CANARY_ACCOUNT_ID))
    values = [_seconds(table) if name == "hour_s" else table.column(name) for name in columns]
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    yield from pa.Table.from_arrays(values, names=list(columns)).cast(schema).to_batches()


def _seconds(table: pa.Table) -> pa.ChunkedArray:
    return pc.divide(table.column("hour").cast(pa.int64()), _MICROSECONDS)
