"""Production `FrozenFiles`: closed months as Parquet, by hour, by account and by day."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from metering.errors import ObjectDamagedError
from metering.intake.admission import SECOND_US
from metering.lake.parquet import hour_rows, usage_files
from metering.lake.parquet.writer import Place, merged_steps, scratch_folder, sorted_runs, write_run
from metering.lake.ports import DayBatch, MonthFiles, UsageFile, UsageMeasure, UsageRows
from metering.units import DAY_S, KIB
from metering.usage.totals import Total, UsageKey, UsageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    from metering.ledger.periods import FrozenHour, FrozenMonth
    from metering.stores.objects import ObjectStore


def account_groups(pieces: Iterable[pa.Table], group_rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of one row group each, whose dictionaries have only the names in use.

    A group ends with the last row of an account, unless one account has more rows than a group.

    Args:
        pieces: Tables of `USAGE_SCHEMA`, sorted by account.
        group_rows: Maximum rows of a group. Any two adjacent groups together have more rows.
    """
    held: list[pa.Table] = []
    rows = 0
    for piece in pieces:
        held.append(piece)
        rows += piece.num_rows
        if rows > group_rows:
            table = pa.concat_tables(held).unify_dictionaries().combine_chunks()
            start = 0
            for end in _ends(table, group_rows):
                yield _small(table.slice(start, end - start))
                start = end
            held, rows = [table.slice(start)], rows - start
    if rows:
        yield _small(pa.concat_tables(held).unify_dictionaries().combine_chunks())


def _ends(table: pa.Table, group_rows: int) -> Iterator[int]:
    """Ends of groups, while more rows than a group remain; after that, an account's last rows may still be missing."""
    accounts = table.column("account_id").chunk(0).indices
    borders = pc.run_end_encode(accounts).run_ends.to_pylist()
    start = 0
    while table.num_rows - start > group_rows:
        border = bisect_right(borders, start + group_rows) - 1
        start = borders[border] if border >= 0 and borders[border] > start else start + group_rows
        yield start


def _small(table: pa.Table) -> pa.Table:
    """The same rows. Otherwise unused names would be written into every row group's dictionary."""
    for place, name in enumerate(table.column_names):
        if name in usage_files.NAMES:
            column = table.column(place).combine_chunks()
            used = pc.unique(column.indices)
            if len(used) < len(column.dictionary):
                indices = pc.index_in(column.indices, value_set=used)
                column = pa.DictionaryArray.from_arrays(indices, column.dictionary.take(used))
                table = table.set_column(place, table.schema.field(place), column)
    return table


_DAY_US = DAY_S * SECOND_US
_GROUPS = [*usage_files.NAMES, "hour", "corrects"]


def summed_days(pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Sum sorted pieces of rows by day. A piece's last row is held back: its day may continue in the next piece."""
    held: list[pa.Table] = []
    for piece in pieces:
        summed = _summed(pa.concat_tables([*held, piece]))
        yield summed.slice(0, summed.num_rows - 1)
        held = [summed.slice(summed.num_rows - 1)]
    yield from held


def _summed(table: pa.Table) -> pa.Table:
    table = table.unify_dictionaries().combine_chunks()
    hours = table.column("hour").cast(pa.int64())
    days = pc.multiply(pc.divide(hours, _DAY_US), _DAY_US).cast(hour_rows.INSTANT)
    table = table.set_column(table.column_names.index("hour"), "hour", days)
    # Grouping by dictionary index is several times as fast as grouping by strings.
    names = {name: table.column(name).chunk(0).dictionary for name in usage_files.NAMES}
    for place, name in enumerate(usage_files.NAMES):
        table = table.set_column(place, name, table.column(name).chunk(0).indices)
    sums = table.group_by(_GROUPS, use_threads=False).aggregate([("bytes", "sum"), ("records", "sum")])
    columns = [
        pa.DictionaryArray.from_arrays(sums.column(name).combine_chunks(), names[name]) for name in usage_files.NAMES
    ]
    columns += [sums.column("hour"), sums.column("corrects")]
    columns += [sums.column("bytes_sum").cast(usage_files.NUMBER), sums.column("records_sum").cast(usage_files.NUMBER)]
    return usage_files.sorted_usage(pa.table(columns, schema=usage_files.USAGE_SCHEMA))


def day_batch(table: pa.Table) -> DayBatch:
    """A batch of rows of `USAGE_SCHEMA`, in which each hour is the first of its day."""
    one = table.unify_dictionaries().combine_chunks().to_batches()[0]
    kinds = {name: one.column(name) for name in UsageKind._fields}
    places: dict[tuple[int, ...], int] = {}
    indices = zip(*(column.indices.to_pylist() for column in kinds.values()), strict=True)
    key = [places.setdefault(kind, len(places)) for kind in indices]
    names = [column.dictionary.to_pylist() for column in kinds.values()]
    days = pc.divide(one.column("hour").cast(pa.int64()), SECOND_US).to_pylist()
    return DayBatch(
        keys=[UsageKind(names[0][a], names[1][b], names[2][c], names[3][d]) for a, b, c, d in places],
        account_id=usage_files.texts_of(one.column("account_id")),
        key=key,
        corrects_s=usage_files.seconds_of(one.column("corrects")),
        day_s=days,
        bytes=usage_files.integers_of(one.column("bytes")),
        records=usage_files.integers_of(one.column("records")),
    )


# External sort, by account, of the hours of a month. Each row has a unique sort key (account, key, `corrects`, hour),
# so the merged order does not depend on the runs.


# Number of rows per run in memory during the merge.
_BATCH_ROWS = 16 * 1024


def sorted_pieces(tables: Iterable[pa.Table], folder: Path, *, run_rows: int, piece_rows: int) -> Iterator[pa.Table]:
    """Sort any number of rows; yields pieces in order, each sorted.

    Args:
        tables: The rows, in any order.
        folder: Directory for the sorted runs, which are written compressed.
        run_rows: Number of rows that are sorted at once.
        piece_rows: Minimum rows of a piece, except the last.
    """

    def spill(buffer: list[pa.Table], number: int) -> Path:
        path = folder / f"usage-{number}.arrows"
        return write_run(
            usage_files.sorted_usage(pa.concat_tables(buffer)), path, compression="zstd", batch_rows=_BATCH_ROWS
        )

    runs, few = sorted_runs(tables, run_rows, spill)
    if few:
        table = usage_files.sorted_usage(pa.concat_tables(few))
        for first in range(0, table.num_rows, piece_rows):
            yield table.slice(first, piece_rows)
    piece: list[pa.Table] = []
    rows = 0
    for step in merged_steps(runs, _places):
        piece += [part for _, part in step]
        rows += sum(part.num_rows for _, part in step)
        if rows >= piece_rows:
            yield usage_files.sorted_usage(pa.concat_tables(piece))
            piece, rows = [], 0
    if piece:
        yield usage_files.sorted_usage(pa.concat_tables(piece))


def _places(batch: pa.RecordBatch) -> Callable[[int], Place]:
    names = [batch.column(name) for name in usage_files.NAMES]
    times = [batch.column(name).cast(pa.int64()).fill_null(-1) for name in usage_files.ORDER[len(usage_files.NAMES) :]]
    return lambda row: tuple(column[row].as_py() for column in (*names, *times))


# Number of rows in a row group. A report on an account reads at least one row group, so row groups are small.
GROUP_ROWS = 64 * 1024
# An account with 20 usage kinds has 600 rows of days, and 14,400 of hours.
DAY_GROUP_ROWS = 16 * 1024
# The first read of an object fetches its end: the footer of an hour's object, or the account index of a month's object.
_END_BYTES = 128 * KIB
# With 10,000 accounts of 20 kinds, the index of all hours has 210 KB, and that of the days 30 KB.
_ACCOUNTS_END_BYTES = 256 * KIB
# Number of rows that are sorted at once, with about 80 bytes each, in several copies.
_SORT_ROWS = 1024 * 1024


class ParquetFrozenFiles:
    """Makes, reads and measures the objects of closed months. Each read fetches only the necessary row groups.

    Args:
        scratch: Directory for the sort and for the month's objects before their upload; by default the system's.
        sort_rows: Number of rows that are sorted at once.
        group_rows: Maximum rows of a row group.
    """

    def __init__(
        self,
        objects: ObjectStore,
        *,
        scratch: Path | None = None,
        sort_rows: int = _SORT_ROWS,
        group_rows: int = GROUP_ROWS,
    ) -> None:
        self._objects = objects
        self._scratch = scratch
        self._sort_rows = sort_rows
        self._group_rows = group_rows

    def hour_file(self, rows: UsageRows) -> UsageFile:
        body, left = BytesIO(), iter(rows)
        with _Sink(body) as sink:
            while part := list(islice(left, self._group_rows)):
                sink.write(usage_files.usage_table(part), self._group_rows)
        return sink.file(body.getvalue())

    @contextmanager
    def month_files(self, hours: Iterable[FrozenHour]) -> Iterator[MonthFiles]:
        with scratch_folder(self._scratch) as folder:
            accounts_path, days_path = folder / "accounts.parquet", folder / "days.parquet"
            tables = (table for hour in hours for table in self._checked(hour))
            pieces = sorted_pieces(tables, folder, run_rows=self._sort_rows, piece_rows=self._group_rows)
            day_rows = min(DAY_GROUP_ROWS, self._group_rows)
            with _Sink(accounts_path) as accounts, _Sink(days_path) as days:
                groups = accounts.passed(account_groups(pieces, self._group_rows), self._group_rows)
                for group in account_groups(summed_days(groups), day_rows):
                    days.write(group, day_rows)
            usage_files.add_account_index(accounts_path)
            usage_files.add_account_index(days_path)
            yield MonthFiles(accounts=accounts.file(accounts_path), days=days.file(days_path))

    def measured(self, key: str) -> UsageMeasure:
        digest, rows, total = hashlib.sha256(), 0, Total(0, 0)
        for table in self._tables(key, None):
            usage_files.add_to_digest(digest, table)
            rows += table.num_rows
            total = total.plus(usage_files.total_of(table))
        return UsageMeasure(rows=rows, digest=digest.hexdigest(), total=total)

    def hour(
        self, frozen: FrozenMonth, hour_s: int, accounts: Collection[str] | None = None
    ) -> Iterator[tuple[UsageKey, Total]]:
        hour = frozen.hour(hour_s)
        if hour is None:
            return
        for table in self._tables(hour.key, accounts):
            yield from usage_files.rows_of(table)

    def account_rows(self, frozen: FrozenMonth, account_ids: Collection[str]) -> Iterator[tuple[UsageKey, Total]]:
        for table in self._tables(frozen.accounts.key, account_ids, end_bytes=_ACCOUNTS_END_BYTES):
            yield from usage_files.rows_of(table)

    def days(self, frozen: FrozenMonth, accounts: Collection[str] | None = None) -> Iterator[DayBatch]:
        for table in self._tables(frozen.days.key, accounts):
            if table.num_rows:
                yield day_batch(table)

    def day_tables(
        self, frozen: FrozenMonth, accounts: Collection[str] | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """The rows of `days` as tables of `USAGE_SCHEMA`; a row's hour is the first hour of its day.

        Args:
            frozen: The closed month.
            accounts: Only rows of these accounts; None for all.
            columns: Only these columns, including `account_id`; None for all.
        """
        yield from self._tables(frozen.days.key, accounts, columns)

    def hour_tables(
        self,
        frozen: FrozenMonth,
        hour_s: int,
        accounts: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.Table]:
        """The rows of `hour` as tables, in the form of `day_tables`."""
        hour = frozen.hour(hour_s)
        if hour is None:
            return
        yield from self._tables(hour.key, accounts, columns)

    def _tables(
        self,
        key: str,
        accounts: Collection[str] | None,
        columns: Sequence[str] | None = None,
        *,
        end_bytes: int = _END_BYTES,
    ) -> Iterator[pa.Table]:
        with self._objects.open_end(key, last_bytes=end_bytes) as stream, hour_rows.decoding(key):
            yield from usage_files.tables_of(usage_files.usage_parquet(stream, accounts), accounts, columns)

    def _checked(self, hour: FrozenHour) -> Iterator[pa.Table]:
        """Rows of an hour's object, checked against the object's digest."""
        tables = list(self._tables(hour.key, None))
        digest = hashlib.sha256()
        for table in tables:
            usage_files.add_to_digest(digest, table)
        if digest.hexdigest() != hour.frozen.digest:
            raise ObjectDamagedError(hour.key, "its rows are not those of its digest")
        yield from tables


class _Sink:
    """A file that is being written. The file's rows are counted and their digest is computed."""

    def __init__(self, sink: BytesIO | Path) -> None:
        self._writer = usage_files.usage_writer(sink)
        self._digest = hashlib.sha256()
        self._rows = 0

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, table: pa.Table, group_rows: int) -> None:
        if table.num_rows:
            self._writer.write_table(table, row_group_size=group_rows)
            usage_files.add_to_digest(self._digest, table)
            self._rows += table.num_rows

    def passed(self, tables: Iterable[pa.Table], group_rows: int) -> Iterator[pa.Table]:
        """Write tables, and yield each table unchanged."""
        for table in tables:
            self.write(table, group_rows)
            yield table

    def file(self, content: bytes | Path) -> UsageFile:
        """The finished file; call this only after the file is closed."""
        return UsageFile(content=content, rows=self._rows, digest=self._digest.hexdigest())
