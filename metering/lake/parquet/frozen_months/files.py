"""`FrozenFiles` in production: closed months as Parquet, by hour, by account and by day."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from typing import TYPE_CHECKING

from metering.errors import ObjectDamagedError
from metering.lake.parquet.frozen_months.account_groups import account_groups
from metering.lake.parquet.frozen_months.account_index import add_account_index
from metering.lake.parquet.frozen_months.days import day_batch, summed_days
from metering.lake.parquet.frozen_months.usage_runs import sorted_pieces
from metering.lake.parquet.hour_rows import decoding
from metering.lake.parquet.scratch import scratch_folder
from metering.lake.parquet.usage_files import (
    add_to_digest,
    rows_of,
    tables_of,
    total_of,
    usage_parquet,
    usage_table,
    usage_writer,
)
from metering.lake.ports import MonthFiles, UsageFile, UsageMeasure
from metering.units import KIB
from metering.usage.totals import Total

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from pathlib import Path

    import pyarrow as pa

    from metering.lake.ports import DayBatch, UsageRows
    from metering.ledger.frozen_months import FrozenHour, FrozenMonth
    from metering.stores.objects import ObjectStore
    from metering.usage.totals import UsageKey

# Rows of a row group. An account's report reads at least one, so it is small.
GROUP_ROWS = 64 * 1024
# An account of 20 kinds has 600 rows of days, and 14,400 of hours.
DAY_GROUP_ROWS = 16 * 1024
# Of an object, its end is read first, with the footer of an hour's object, or the index by account of a month's.
_END_BYTES = 128 * KIB
# With 10,000 accounts of 20 kinds, the index of all hours has 210 KB, and that of the days 30 KB.
_ACCOUNTS_END_BYTES = 256 * KIB
# Rows that are sorted at once: about 80 bytes each, in several copies.
_SORT_ROWS = 1024 * 1024


class ParquetFrozenFiles:
    """Makes, reads and measures the objects of closed months. It reads only the row groups that it needs.

    Args:
        objects: Store of the objects.
        scratch: Directory for the sort and for the month's objects until they are put; by default the system's.
        sort_rows: Rows that are sorted at once.
        group_rows: Most rows of a row group.
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
                sink.write(usage_table(part), self._group_rows)
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
            add_account_index(accounts_path)
            add_account_index(days_path)
            yield MonthFiles(accounts=accounts.file(accounts_path), days=days.file(days_path))

    def measured(self, key: str) -> UsageMeasure:
        digest, rows, total = hashlib.sha256(), 0, Total(0, 0)
        for table in self._tables(key, None):
            add_to_digest(digest, table)
            rows += table.num_rows
            total = total.plus(total_of(table))
        return UsageMeasure(rows=rows, digest=digest.hexdigest(), total=total)

    def hour(
        self, frozen: FrozenMonth, hour_s: int, accounts: Collection[str] | None = None
    ) -> Iterator[tuple[UsageKey, Total]]:
        hour = frozen.hour(hour_s)
        if hour is None:
            return
        for table in self._tables(hour.key, accounts):
            yield from rows_of(table)

    def account_rows(self, frozen: FrozenMonth, account_ids: Collection[str]) -> Iterator[tuple[UsageKey, Total]]:
        for table in self._tables(frozen.accounts.key, account_ids, end_bytes=_ACCOUNTS_END_BYTES):
            yield from rows_of(table)

    def days(self, frozen: FrozenMonth, accounts: Collection[str] | None = None) -> Iterator[DayBatch]:
        for table in self._tables(frozen.days.key, accounts):
            if table.num_rows:
                yield day_batch(table)

    def day_tables(
        self,
        frozen: FrozenMonth,
        accounts: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.Table]:
        """What `days` gives, in columns of `USAGE_SCHEMA`; the hour of a row is the first of its day.

        Args:
            frozen: The closed month.
            accounts: Only of these accounts; None for all.
            columns: Only these columns, `account_id` among them; None for all.
        """
        yield from self._tables(frozen.days.key, accounts, columns)

    def hour_tables(
        self,
        frozen: FrozenMonth,
        hour_s: int,
        accounts: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.Table]:
        """What `hour` gives, in columns, as `day_tables` does."""
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
        with self._objects.open_end(key, last_bytes=end_bytes) as stream, decoding(key):
            yield from tables_of(usage_parquet(stream, accounts), accounts, columns)

    def _checked(self, hour: FrozenHour) -> Iterator[pa.Table]:
        """Rows of an hour's object, if they are those of its digest."""
        tables = list(self._tables(hour.key, None))
        digest = hashlib.sha256()
        for table in tables:
            add_to_digest(digest, table)
        if digest.hexdigest() != hour.frozen.digest:
            raise ObjectDamagedError(hour.key, "its rows are not those of its digest")
        yield from tables


class _Sink:
    """A file while it is written. It digests the rows and counts them."""

    def __init__(self, sink: BytesIO | Path) -> None:
        self._writer = usage_writer(sink)
        self._digest = hashlib.sha256()
        self._rows = 0

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def write(self, table: pa.Table, group_rows: int) -> None:
        """Write rows in their order."""
        if table.num_rows:
            self._writer.write_table(table, row_group_size=group_rows)
            add_to_digest(self._digest, table)
            self._rows += table.num_rows

    def passed(self, tables: Iterable[pa.Table], group_rows: int) -> Iterator[pa.Table]:
        """Write tables, and hand each on."""
        for table in tables:
            self.write(table, group_rows)
            yield table

    def file(self, content: bytes | Path) -> UsageFile:
        """The file, after it was closed."""
        return UsageFile(content=content, rows=self._rows, digest=self._digest.hexdigest())
