"""Stored months: an open month is read once, from lake and staging; a closed month is read from its frozen totals.

Usage lines are stored in columns, so that Arrow can sum them.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from metering.billing.usage.months import Accounts, Late, RegionMonth, Sold, Solds, UsageLine, line_of, merged
from metering.hours import month_bounds_s
from metering.lake.ports import USAGE_COLUMNS, LakeReader, RowQuery, TotalsReader, usage_of
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.units import DAY_S
from metering.usage.totals import Total, UsageKey, add_totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.lake.parquet.frozen_months import ParquetFrozenFiles
    from metering.lake.view import LakeView
    from metering.ledger import booked_hours
    from metering.ledger.periods import FrozenMonth

TEXTS = UsageLine._fields[1:-1]
SCHEMA = pa.schema([
    ("hour_s", pa.int64()),
    *((name, pa.string()) for name in TEXTS),
    ("bytes", pa.decimal128(38, 0)),
])  # fmt: skip
"""Columns of lines: the fields of a usage line, in its order. The hour of a day's line is the day's first."""
# Number of rows or lines that are converted together.
_ROWS = 100_000


@runtime_checkable
class ColumnMonth(Protocol):
    """A `RegionMonth` whose lines are Arrow batches, with the requested columns of `SCHEMA`, in order."""

    def day_batches(self, accounts: Accounts = None, columns: Sequence[str] = SCHEMA.names) -> Iterator[pa.RecordBatch]:
        """`day_lines` in columns. A key can have several rows for one day."""

    def hour_batches(
        self,
        accounts: Accounts = None,
        *,
        day_s: int | None = None,
        sold: Solds = None,
        hour_s: int | None = None,
        columns: Sequence[str] = SCHEMA.names,
    ) -> Iterator[pa.RecordBatch]:
        """The lines of `hour_lines` as columns, hour by hour; with `hour_s`, only those of that hour."""


class _Columns:
    def __init__(self, month: RegionMonth) -> None:
        self._month = month

    def day_batches(self, accounts: Accounts = None, columns: Sequence[str] = SCHEMA.names) -> Iterator[pa.RecordBatch]:
        return _batches(self._month.day_lines(accounts), columns)

    def hour_batches(
        self,
        accounts: Accounts = None,
        *,
        day_s: int | None = None,
        sold: Solds = None,
        hour_s: int | None = None,
        columns: Sequence[str] = SCHEMA.names,
    ) -> Iterator[pa.RecordBatch]:
        read_s = day_s if hour_s is None else hour_s - hour_s % DAY_S
        lines = self._month.hour_lines(accounts, day_s=read_s, sold=sold)
        return _batches((line for line in lines if hour_s is None or line.hour_s == hour_s), columns)


def columns_of(month: RegionMonth) -> ColumnMonth:
    """A region's month whose lines can be read in columns."""
    return month if isinstance(month, ColumnMonth) else _Columns(month)


def table_of(lines: Iterable[UsageLine]) -> pa.Table:
    """Usage lines as columns."""
    columns = tuple(zip(*lines, strict=True)) or tuple(() for _ in SCHEMA)
    return pa.Table.from_arrays(
        [pa.array(values, type=field.type) for values, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def lines_of(batch: pa.RecordBatch) -> Iterator[UsageLine]:
    """Convert rows to usage lines, in chunks."""
    for first in range(0, batch.num_rows, _ROWS):
        piece = batch.slice(first, _ROWS)
        *names, sizes = (column.to_pylist() for column in piece.columns)
        yield from map(UsageLine._make, zip(*names, map(int, sizes), strict=True))


def summed(table: pa.Table) -> pa.Table:
    """Sum the rows of each key into one row; byte totals stay exact."""
    keys = [name for name in SCHEMA.names if name != "bytes"]
    grouped = table.group_by(keys, use_threads=False).aggregate([("bytes", "sum")])
    return grouped.select([*keys, "bytes_sum"]).rename_columns(SCHEMA.names).cast(SCHEMA)


def only(batch: pa.RecordBatch, accounts: Accounts, sold: Solds) -> pa.RecordBatch:
    """Keep only rows whose account and product are among those given."""
    if accounts is not None:
        batch = batch.filter(pc.is_in(batch.column("account_id"), value_set=pa.array(sorted(accounts), pa.string())))
    if sold is None:
        return batch
    services, types = batch.column("service"), batch.column("usage_type")
    wanted = pa.repeat(pa.scalar(value=False), batch.num_rows)
    for each in sorted(sold):
        same = pc.and_(pc.equal(services, each.service), pc.equal(types, each.usage_type))
        wanted = pc.or_(wanted, same)
    return batch.filter(wanted)


def _batches(lines: Iterator[UsageLine], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    while part := list(islice(lines, _ROWS)):
        yield from table_of(part).select(list(columns)).to_batches()


_MEMORY_BYTES = 32 * 1024 * 1024


class Spool:
    """Columns of usage in a temporary file, one part per hour or day. Mutable: add all parts, then read, then `close`.

    Args:
        memory_bytes: Size above which the columns are moved from memory to disk.
    """

    def __init__(self, memory_bytes: int = _MEMORY_BYTES) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=memory_bytes)  # noqa: SIM115  # `close` closes it
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        self._writer: pa.ipc.RecordBatchFileWriter | None = pa.ipc.new_file(self._file, SCHEMA, options=options)
        self._reader: pa.ipc.RecordBatchFileReader | None = None
        self._parts: dict[int, list[int]] = {}
        self._written = 0

    def add(self, part: int, table: pa.Table) -> None:
        """Add rows to a part; `part` is the first second of its hour or day."""
        if self._writer is None:
            raise RuntimeError("a spool that is read takes no more rows")
        for batch in table.cast(SCHEMA).combine_chunks().to_batches():
            self._writer.write_batch(batch)
            self._parts.setdefault(part, []).append(self._written)
            self._written += 1

    def parts(self) -> list[int]:
        return sorted(self._parts)

    def batches(self, part: int) -> Iterator[pa.RecordBatch]:
        for number in self._parts.get(part, ()):
            yield self._read().get_batch(number)

    def lines(self, part: int) -> Iterator[UsageLine]:
        for batch in self.batches(part):
            yield from lines_of(batch)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._reader = None
        self._file.close()

    def _read(self) -> pa.ipc.RecordBatchFileReader:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._reader is None:
            self._file.seek(0)
            self._reader = pa.ipc.open_file(self._file)
        return self._reader


# The rows of a day's hours are summed as soon as there are this many rows.
_DAY_ROWS = 500_000
# Most totals that are sorted in memory, at about 500 bytes each.
_SORTED = 500_000


class LakeMonth:
    """A `RegionMonth` of an open month. The rows are in temporary files; call `close` to remove these."""

    digest = ""

    def __init__(self, *, region: str, month: str) -> None:
        self.region = region
        self.month = month
        self._hours, self._days, self._late = Spool(), Spool(), Spool()
        self._accounts: set[str] = set()

    @classmethod
    def read(
        cls,
        view: LakeView,
        *,
        region: str,
        month: str,
        accounts: frozenset[str] = frozenset(),
        totals: TotalsReader | None = None,
        on_hour: Callable[[int, int], None] = lambda _done, _of: None,
    ) -> LakeMonth:
        """Read the month hour by hour; the rows of each hour are one consistent state.

        Args:
            view: The region's rows.
            region: Its name.
            month: `2026-11`.
            accounts: Accounts to read; empty for all accounts.
            totals: Reads the totals of lake files, which have far fewer entries than the files have rows. None: rows
                are read.
            on_hour: Called with the number of hours read so far and the number of all hours.

        Raises:
            UnavailableError: An hour could not be read.
        """
        usage = partial(_usage, view.reader, totals, accounts)
        first_s, after_s = month_bounds_s(month)
        hours = view.hours(from_s=first_s, to_s=after_s)

        def each() -> Iterator[tuple[int, Mapping[UsageKey, Total]]]:
            for done, hour_s in enumerate(hours):
                on_hour(done, len(hours))
                yield hour_s, view.read(hour_s, usage)

        return cls(region=region, month=month)._kept(each())

    @classmethod
    def of_usage(cls, usage: Iterable[tuple[UsageKey, Total]], *, region: str, month: str) -> LakeMonth | None:
        """The month of usage that was read elsewhere, in any order; None if it is too much to be sorted in memory."""
        hours: dict[int, dict[UsageKey, Total]] = {}
        for number, (key, total) in enumerate(usage):
            if number == _SORTED:
                return None
            add_totals(hours.setdefault(key.hour_s, {}), {key: total})
        return cls(region=region, month=month)._kept(sorted(hours.items()))

    def _kept(self, hours: Iterable[tuple[int, Mapping[UsageKey, Total]]]) -> Self:
        """Keep the usage of hours, which are in order."""
        try:
            for day_s, some in groupby(hours, key=lambda hour: hour[0] - hour[0] % DAY_S):
                day: list[pa.Table] = []
                for hour_s, usage in some:
                    _add_hour(day, day_s, self._keep_hour(hour_s, usage))
                self._days.add(day_s, summed(pa.concat_tables(day)))
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        for spool in (self._hours, self._days, self._late):
            spool.close()

    def accounts(self) -> Iterator[str]:
        return iter(sorted(self._accounts))

    def day_lines(self, accounts: Accounts = None) -> Iterator[UsageLine]:
        for batch in self.day_batches(accounts):
            yield from lines_of(batch)

    def day_batches(self, accounts: Accounts = None, columns: Sequence[str] = SCHEMA.names) -> Iterator[pa.RecordBatch]:
        for day_s in self._days.parts():
            for batch in self._days.batches(day_s):
                yield only(batch, accounts, None).select(list(columns))

    def hour_lines(
        self, accounts: Accounts = None, *, day_s: int | None = None, sold: Solds = None
    ) -> Iterator[UsageLine]:
        for batch in self.hour_batches(accounts, day_s=day_s, sold=sold):
            yield from lines_of(batch)

    def hour_batches(
        self,
        accounts: Accounts = None,
        *,
        day_s: int | None = None,
        sold: Solds = None,
        hour_s: int | None = None,
        columns: Sequence[str] = SCHEMA.names,
    ) -> Iterator[pa.RecordBatch]:
        for part_s in self._hours.parts():
            if hour_s in {None, part_s} and (day_s is None or day_s <= part_s < day_s + DAY_S):
                for batch in self._hours.batches(part_s):
                    yield only(batch, accounts, sold).select(list(columns))

    def late(self, accounts: Accounts = None) -> Iterator[Late]:
        for hour_s in self._late.parts():
            for batch in self._late.batches(hour_s):
                yield from (Late(hour_s, line) for line in lines_of(only(batch, accounts, None)))

    def _keep_hour(self, hour_s: int, usage: Mapping[UsageKey, Total]) -> pa.Table:
        """Keep an hour's rows, in the order of rating; returns those rows that are not corrections."""
        own: list[UsageLine] = []
        late: list[UsageLine] = []
        for key, total in usage.items():
            if key.account_id != CANARY_ACCOUNT_ID:
                self._accounts.add(key.account_id)
                (own if key.corrects_s is None else late).append(line_of(key, total))
        table = table_of(sorted(own))
        self._hours.add(hour_s, table)
        if late:
            self._late.add(hour_s, table_of(sorted(late)))
        return table


def _usage(
    reader: LakeReader, totals: TotalsReader | None, accounts: frozenset[str], state: booked_hours.HourState
) -> dict[UsageKey, Total]:
    """Sum published files (from their totals, if `totals` is given) and the rows of staging objects."""
    query = RowQuery(columns=USAGE_COLUMNS, where=(("account_id", accounts),) if accounts else ())
    if totals is None:
        return usage_of(state.hour_s, reader.totals(state.sources, query))
    staged = [source for source in state.sources if source.staged]
    found = usage_of(state.hour_s, reader.totals(staged, query)) if staged else {}
    for source in state.sources:
        if not source.staged:
            kept = totals.of(source.file)
            add_totals(found, {key: total for key, total in kept if not accounts or key.account_id in accounts})
    return found


def _add_hour(day: list[pa.Table], day_s: int, hour: pa.Table) -> None:
    """Add an hour's rows to its day; if the day has many rows, sum them."""
    day.append(hour.set_column(0, "hour_s", pa.repeat(pa.scalar(day_s, pa.int64()), hour.num_rows)))
    if len(day) > 1 and sum(part.num_rows for part in day) > _DAY_ROWS:
        day[:] = [summed(pa.concat_tables(day))]


# For up to this many accounts, rows are read completely and sorted: one account has about ten thousand rows per month.
_FEW_ACCOUNTS = 20
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMonth:
    """A `RegionMonth` of a closed month, from the manifest and a reader of the month's totals."""

    region: str
    frozen: FrozenMonth
    reader: ParquetFrozenFiles

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

    def day_lines(self, accounts: Accounts = None) -> Iterator[UsageLine]:
        for batch in self.day_batches(accounts):
            yield from lines_of(batch)

    def day_batches(self, accounts: Accounts = None, columns: Sequence[str] = SCHEMA.names) -> Iterator[pa.RecordBatch]:
        for table in self.reader.day_tables(self.frozen, accounts, _stored(columns)):
            yield from _own(table, columns)

    def hour_lines(
        self, accounts: Accounts = None, *, day_s: int | None = None, sold: Solds = None
    ) -> Iterator[UsageLine]:
        if accounts is not None and len(accounts) <= _FEW_ACCOUNTS:
            yield from merged(sorted(self._of_accounts(accounts, day_s, sold)))
            return
        for hour_s in self._hours(day_s):
            lines = [line for batch in self._hour(hour_s, accounts, sold) for line in lines_of(batch)]
            yield from merged(sorted(lines))

    def hour_batches(
        self,
        accounts: Accounts = None,
        *,
        day_s: int | None = None,
        sold: Solds = None,
        hour_s: int | None = None,
        columns: Sequence[str] = SCHEMA.names,
    ) -> Iterator[pa.RecordBatch]:
        for each_s in self._hours(day_s):
            if hour_s in {None, each_s}:
                yield from self._hour(each_s, accounts, sold, columns)

    def late(self, accounts: Accounts = None) -> Iterator[Late]:
        # Day sums show quickly whether there is any late usage.
        days = self._late_days(accounts)
        for hour in self.frozen.hours:
            if hour.hour_s - hour.hour_s % DAY_S in days:
                for key, total in self.reader.hour(self.frozen, hour.hour_s, accounts):
                    if key.corrects_s is not None and key.account_id != CANARY_ACCOUNT_ID:
                        yield Late(hour.hour_s, line_of(key, total))

    def _late_days(self, accounts: Accounts) -> frozenset[int]:
        found: set[int] = set()
        for table in self.reader.day_tables(self.frozen, accounts, ("account_id", "hour", "corrects")):
            late = table.filter(pc.is_valid(table.column("corrects")))
            found.update(_seconds(late).to_pylist())
        return frozenset(found)

    def _of_accounts(self, accounts: frozenset[str], day_s: int | None, sold: Solds) -> Iterator[UsageLine]:
        for key, total in self.reader.account_rows(self.frozen, accounts):
            if _counts(key, day_s) and (sold is None or Sold(key.service, key.usage_type) in sold):
                yield line_of(key, total)

    def _hours(self, day_s: int | None) -> Iterator[int]:
        for hour in self.frozen.hours:
            if day_s is None or day_s <= hour.hour_s < day_s + DAY_S:
                yield hour.hour_s

    def _hour(
        self, hour_s: int, accounts: Accounts, sold: Solds, columns: Sequence[str] = SCHEMA.names
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
    """Keep only the rows of some usage types. Each dictionary value is compared once, before decoding rows."""
    place = table.column_names.index("usage_type")
    parts = []
    for batch in table.to_batches():
        column = batch.column(place)
        wanted = [number for number, name in enumerate(column.dictionary.to_pylist()) if name in usage_types]
        parts.append(batch.filter(pc.is_in(column.indices, value_set=pa.array(wanted, column.indices.type))))
    return pa.Table.from_batches(parts, schema=table.schema)


def _stored(columns: Sequence[str]) -> list[str]:
    return sorted({"account_id", "corrects", *("hour" if name == "hour_s" else name for name in columns)})


def _own(table: pa.Table, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Convert rows to line columns, omitting corrections and the canary."""
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
