"""The index of a closed month's objects: an account's row groups and no others, in files that any engine reads."""

import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.errors import ObjectDamagedError
from metering.lake.parquet.frozen_months import ParquetFrozenFiles, account_groups
from metering.lake.parquet.usage_files import (
    NAMES,
    USAGE_SCHEMA,
    add_account_index,
    metadata_of_accounts,
    usage_parquet,
    usage_table,
    usage_writer,
)
from metering.lake.ports import in_order, rows_of_days, usage_digest
from metering.ledger.periods import FrozenMonth
from metering.stores.objects import closed_accounts_key, closed_days_key
from metering.units import HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageType
from tests.support.frozen import freeze
from tests.support.memory.clock import ManualClock
from tests.support.memory.frozen import by_day
from tests.support.memory.objects import MemoryObjectStore

MONTH, FIRST_S = "2026-10", 1_790_812_800
Row = tuple[UsageKey, Total]


def rows_of_accounts(counts: Sequence[int]) -> list[Row]:
    """Rows in order: of account n so many hours."""
    return [
        (
            UsageKey(
                FIRST_S + hour * HOUR_S, f"{number:012d}", UsageType(f"type-{number}"), Service("AmazonEC2"), "a", "b"
            ),
            Total(hour, 1),
        )
        for number, count in enumerate(counts)
        for hour in range(count)
    ]


def written(path: Path, rows: Sequence[Row], group_rows: int) -> pq.FileMetaData:
    """A file with an index; its whole footer."""
    with usage_writer(path) as writer:
        for group in account_groups([usage_table(rows)] if rows else [], group_rows):
            writer.write_table(group)
    add_account_index(path)
    return pq.read_metadata(path)


def held_by(metadata: pq.FileMetaData, account_id: str) -> list[pq.RowGroupMetaData]:
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    return [group for group in groups if group.column(0).statistics.min <= account_id <= group.column(0).statistics.max]


@pytest.mark.parametrize("accounts", [3, 14, 15, 16, 300])
def test_the_index_gives_each_account_the_row_groups_that_the_footer_gives_it(tmp_path: Path, accounts: int) -> None:
    path = tmp_path / "x.parquet"
    rows = rows_of_accounts([number % 5 for number in range(accounts)])
    whole = written(path, rows, 2)
    with path.open("rb") as stream:
        for number in range(accounts + 1):
            own = metadata_of_accounts(stream, [f"{number:012d}"])
            assert own is not None
            held = held_by(whole, f"{number:012d}")
            assert [own.row_group(place) for place in range(own.num_row_groups)] == held
            assert own.schema == whole.schema
        every = metadata_of_accounts(stream, {key.account_id for key, _ in rows})
    assert every == whole


def test_what_is_read_by_the_index_is_what_is_read_by_the_footer(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    whole = written(path, rows_of_accounts([3, 0, 700, 5, 40]), 100)
    by_footer = usage_parquet(path.read_bytes())
    for accounts in (["000000000002"], ["000000000000", "000000000004"]):
        held = [group for account_id in accounts for group in held_by(whole, account_id)]
        wanted = [number for number in range(whole.num_row_groups) if whole.row_group(number) in held]
        with path.open("rb") as stream:
            by_index = usage_parquet(stream, accounts)
            assert len(wanted) == by_index.metadata.num_row_groups < whole.num_row_groups
            for place, number in enumerate(wanted):
                assert by_index.read(place, USAGE_SCHEMA.names) == by_footer.read(number, USAGE_SCHEMA.names)


def test_other_readers_see_the_same_rows_with_an_index_and_without_one(tmp_path: Path) -> None:
    rows = rows_of_accounts([7] * 40)
    path, plain = tmp_path / "x.parquet", tmp_path / "plain.parquet"
    written(path, rows, 20)
    with usage_writer(plain) as writer:
        writer.write_table(usage_table(rows), row_group_size=20)
    assert pq.read_table(path) == pq.read_table(plain)
    with duckdb.connect() as engine:
        found = [engine.execute(f"SELECT * FROM '{each}'").fetchall() for each in (path, plain)]  # noqa: S608
    assert found[0] == found[1]
    assert len(found[0]) == len(rows)


def test_a_file_without_rows_has_an_index_without_row_groups(tmp_path: Path) -> None:
    written(tmp_path / "x.parquet", [], 10)
    with (tmp_path / "x.parquet").open("rb") as stream:
        own = metadata_of_accounts(stream, ["000000000001"])
    assert own is not None
    assert own.num_row_groups == 0


@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 100])
def test_what_has_no_index_says_so(content: bytes) -> None:
    assert metadata_of_accounts(io.BytesIO(content), ["000000000001"]) is None


def closed(objects: MemoryObjectStore, rows: Sequence[Row], *, group_rows: int = 64) -> FrozenMonth:
    hours: dict[int, dict[UsageKey, Total]] = {}
    for key, total in rows:
        hours.setdefault(key.hour_s, {})[key] = total
    return freeze(objects, ParquetFrozenFiles(objects, group_rows=group_rows), MONTH, hours)


def test_months_that_were_frozen_without_an_index_are_read_as_before() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    rows = rows_of_accounts([9, 300, 2, 0, 60])
    frozen = closed(objects, rows)
    for key, of_file in ((closed_accounts_key(MONTH), rows), (closed_days_key(MONTH), list(by_day(rows)))):
        # Earlier releases wrote such files: row groups of equal length regardless of accounts, and all names in each.
        body = io.BytesIO()
        with usage_writer(body) as writer:
            writer.write_table(usage_table(of_file), row_group_size=50)
        assert metadata_of_accounts(body, ["000000000001"]) is None
        objects.put(key, body.getvalue(), if_absent=False)
    files = ParquetFrozenFiles(objects)
    for account_id in ("000000000001", "000000000004", "000000000003"):
        own = [row for row in rows if row[0].account_id == account_id]
        assert list(files.account_rows(frozen, [account_id])) == own
        assert list(rows_of_days(files.days(frozen, [account_id]))) == list(by_day(own))
    assert frozen.accounts is not None
    assert files.measured(closed_accounts_key(MONTH)).digest == frozen.accounts.digest == usage_digest(rows)


class _Ranges(io.BytesIO):
    """A stream that knows which of its reads are calls: the end was read when it was opened."""

    def __init__(self, content: bytes, last_bytes: int) -> None:
        super().__init__(content)
        self.first = len(content) - last_bytes
        self.calls = 1

    def read(self, size: int | None = -1, /) -> bytes:
        self.calls += self.tell() < self.first
        return super().read(size)


class _Counting(MemoryObjectStore):
    """Remembers the last stream."""

    stream: _Ranges

    def open_end(self, key: str, *, last_bytes: int) -> BinaryIO:
        self.stream = _Ranges(self.get(key), last_bytes)
        return self.stream


def test_an_accounts_report_is_two_reads_however_long_the_footer_is() -> None:
    objects = _Counting(ManualClock(0))
    rows = rows_of_accounts([24] * 3_000)
    frozen = closed(objects, rows, group_rows=48)
    files = ParquetFrozenFiles(objects)
    assert len(list(files.account_rows(frozen, ["000000000007"]))) == 24
    footer_bytes = int.from_bytes(objects.get(closed_accounts_key(MONTH))[-8:-4], "little")
    assert footer_bytes > 1_000_000
    assert objects.stream.calls == 2
    assert len(list(files.days(frozen, ["000000000007"]))) == 1
    # With so few rows, the days fit into the end that is read first.
    assert objects.stream.calls == 1


def test_a_damaged_index_is_a_damaged_object() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    frozen = closed(objects, rows_of_accounts([5, 5]))
    key = closed_accounts_key(MONTH)
    content = bytearray(objects.get(key))
    # The index's length comes before its mark, the end of the footer, and the file's last eight bytes.
    content[-29:-25] = (7).to_bytes(4, "little")
    objects.put(key, bytes(content), if_absent=False)
    with pytest.raises(ObjectDamagedError, match=r"accounts\.parquet"):
        list(ParquetFrozenFiles(objects).account_rows(frozen, ["000000000001"]))


@given(st.lists(st.integers(0, 30), max_size=30), st.integers(1, 20), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_groups_have_all_rows_and_split_only_accounts_that_are_longer(
    counts: list[int], group_rows: int, piece_rows: int
) -> None:
    rows = rows_of_accounts(counts)
    table = usage_table(rows)
    pieces = [table.slice(first, piece_rows) for first in range(0, len(rows), piece_rows)]
    groups = list(account_groups(pieces, group_rows))
    if rows:
        assert pa.concat_tables(groups).unify_dictionaries().cast(_PLAIN) == table.cast(_PLAIN)
    sizes = [group.num_rows for group in groups]
    assert all(0 < size <= group_rows for size in sizes)
    assert all(one + next_one > group_rows for one, next_one in pairwise(sizes))
    for group in groups:
        for name in NAMES:
            [chunk] = group.column(name).chunks
            assert len(chunk.dictionary) == len(chunk.unique())
    for number, count in enumerate(counts):
        held = [group for group in groups if f"{number:012d}" in group.column("account_id").to_pylist()]
        assert len(held) <= -(-count // group_rows) + 1 if count > group_rows else len(held) <= 1


_PLAIN = pa.schema([field.with_type(pa.string()) if field.name in NAMES else field for field in USAGE_SCHEMA])


def test_the_order_of_the_rows_of_a_month_is_that_of_its_row_groups() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    rows = rows_of_accounts([30, 1, 200, 7])
    frozen = closed(objects, rows, group_rows=8)
    accounts = {key.account_id for key, _ in rows}
    assert list(ParquetFrozenFiles(objects).account_rows(frozen, accounts)) == in_order(dict(rows))
