"""Objects of closed months are exact for any number of bytes, have one order, and are read by row groups."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.hours import month_bounds_s
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
from metering.lake.ports import in_order, row_place, rows_of_days, usage_digest
from metering.ledger.periods import FrozenMonth
from metering.stores.objects import closed_accounts_key, closed_days_key
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageType, sum_totals
from tests.support.examples import examples
from tests.support.memory.clock import ManualClock
from tests.support.memory.frozen import PlainFrozenFiles, by_day, freeze, merge, of_day
from tests.support.memory.objects import MemoryObjectStore

MONTH = "2026-10"
FIRST_S, _ = month_bounds_s(MONTH)
ACCOUNTS = ("000000000001", "000000000002", "999999999999")
HOURS = (FIRST_S, FIRST_S + HOUR_S, FIRST_S + 23 * HOUR_S, FIRST_S + 24 * HOUR_S, FIRST_S + 200 * HOUR_S)

keys = st.builds(
    UsageKey,
    st.sampled_from(HOURS),
    st.sampled_from(ACCOUNTS),
    st.sampled_from(["DataTransfer-Out-Bytes", "EUN1-AWS-Out-Bytes", "a", "É"]),
    st.sampled_from(["AmazonEC2", "AmazonS3"]),
    st.sampled_from(["us-east-1", "us-east-1/use1-az1"]),
    st.just("internet"),
    st.none() | st.sampled_from([FIRST_S - HOUR_S, FIRST_S - 30 * DAY_S]),
)
totals = st.builds(Total, st.integers(0, 10**37) | st.integers(0, 9), st.integers(1, 2**63 - 1))
usages = st.dictionaries(keys, totals, min_size=1, max_size=40)


def usage_key(account: str, usage_type: str, service: str, **changes: Any) -> UsageKey:
    made = UsageKey(FIRST_S, account, UsageType(usage_type), Service(service), "us-east-1", "internet")
    return made._replace(**changes)


def hours_of(usage: Mapping[UsageKey, Total]) -> dict[int, dict[UsageKey, Total]]:
    return {
        hour_s: {key: total for key, total in usage.items() if key.hour_s == hour_s}
        for hour_s in {key.hour_s for key in usage}
    }


def store() -> MemoryObjectStore:
    return MemoryObjectStore(ManualClock(0))


@given(usages, st.sampled_from([1, 3, 1000]), st.sampled_from([1, 4, 1000]))
@examples(60)
def test_parquet_and_plain_rows_say_the_same_whatever_is_sorted_at_once(
    usage: dict[UsageKey, Total], sort_rows: int, group_rows: int
) -> None:
    objects, plain_objects = store(), store()
    files = ParquetFrozenFiles(objects, sort_rows=sort_rows, group_rows=group_rows)
    plain = PlainFrozenFiles(plain_objects)
    closed = freeze(objects, files, MONTH, hours_of(usage))
    assert freeze(plain_objects, plain, MONTH, hours_of(usage)) == closed
    for reader in (files, plain):
        _says(reader, closed, usage)
    assert closed.accounts is not None
    measure = files.measured(closed.accounts.key)
    assert (measure.rows, measure.digest) == (len(usage), usage_digest(in_order(usage)))
    assert measure.total == sum_totals(usage.values()) == plain.measured(closed.accounts.key).total


def _says(reader: ParquetFrozenFiles | PlainFrozenFiles, closed: FrozenMonth, usage: Mapping[UsageKey, Total]) -> None:
    rows = in_order(usage)
    some = ACCOUNTS[:2]
    assert list(reader.account_rows(closed, ACCOUNTS)) == rows
    assert list(reader.account_rows(closed, some)) == [row for row in rows if row[0].account_id in some]
    assert list(reader.account_rows(closed, ["555555555555"])) == []
    for hour_s, of_hour in hours_of(usage).items():
        assert list(reader.hour(closed, hour_s)) == in_order(of_hour)
        one = [row for row in in_order(of_hour) if row[0].account_id == ACCOUNTS[2]]
        assert list(reader.hour(closed, hour_s, {ACCOUNTS[2]})) == one
    assert list(reader.hour(closed, FIRST_S + 9 * HOUR_S)) == []
    days = in_order(merge({of_day(key): total} for key, total in rows))
    assert list(rows_of_days(reader.days(closed))) == days
    assert list(rows_of_days(reader.days(closed, some))) == [row for row in days if row[0].account_id in some]
    assert list(by_day(rows)) == days


def test_a_report_of_an_account_reads_its_row_groups_and_no_others() -> None:
    usage = {
        usage_key(f"{account:012d}", f"type-{kind}-{account}", "AmazonEC2", hour_s=FIRST_S + hour * HOUR_S): Total(
            account * 7_919 + hour * 104_729 + kind, hour + 1
        )
        for account in range(60)
        for hour in range(24)
        for kind in range(20)
    }
    objects = store()
    files = ParquetFrozenFiles(objects, sort_rows=5_000, group_rows=1_000)
    closed = freeze(objects, files, MONTH, hours_of(usage))
    assert closed.accounts is not None
    counted = CountedObjects(ManualClock(0))
    counted.put(closed.accounts.key, objects.get(closed.accounts.key), if_absent=True)
    account = "000000000030"
    rows = list(ParquetFrozenFiles(counted).account_rows(closed, {account}))
    assert rows == [row for row in in_order(usage) if row[0].account_id == account]
    # The index and one row group are read; not the footer, which describes all row groups.
    footer_bytes = int.from_bytes(objects.get(closed.accounts.key)[-8:-4], "little")
    assert 0 < sum(counted.reads) < len(objects.get(closed.accounts.key)) / 10 < footer_bytes


class CountedObjects(MemoryObjectStore):
    """A store that counts the bytes that are read from its streams."""

    reads: list[int] = []  # noqa: RUF012 - one store in one test

    def open_end(self, key: str, *, last_bytes: int) -> BinaryIO:
        reads = self.reads

        class Counted(BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                part = super().read(size)
                reads.append(len(part))
                return part

        return Counted(self.get(key))


def test_other_engines_read_the_objects_as_they_are(tmp_path: Path) -> None:
    usage = {
        usage_key(ACCOUNTS[0], "a", "AmazonEC2"): Total(2**63, 3),
        usage_key(ACCOUNTS[1], "b", "AmazonS3", corrects_s=FIRST_S - HOUR_S): Total(2**63, 1),
    }
    objects = store()
    freeze(objects, ParquetFrozenFiles(objects), MONTH, hours_of(usage))
    for key in (closed_accounts_key(MONTH), closed_days_key(MONTH)):
        (tmp_path / "x.parquet").write_bytes(objects.get(key))
        with duckdb.connect() as engine:
            engine.execute("SET TimeZone = 'UTC'")
            columns = "account_id, usage_type, service, epoch(hour)::BIGINT, epoch(corrects)::BIGINT, bytes, records"
            found = engine.execute(f"SELECT {columns} FROM '{tmp_path}/x.parquet'").fetchall()  # noqa: S608 - a test's
        assert [(*row[:5], int(row[5]), int(row[6])) for row in found] == [
            (ACCOUNTS[0], "a", "AmazonEC2", FIRST_S, None, 2**63, 3),
            (ACCOUNTS[1], "b", "AmazonS3", FIRST_S, FIRST_S - HOUR_S, 2**63, 1),
        ]


@pytest.mark.parametrize("plain", [True, False])
def test_a_month_is_not_made_of_hours_with_other_rows_than_those_that_were_put(plain: bool) -> None:
    objects = store()
    files = PlainFrozenFiles(objects) if plain else ParquetFrozenFiles(objects)
    usage = {usage_key(ACCOUNTS[0], "a", "AmazonEC2"): Total(5, 3)}
    [hour] = freeze(objects, files, MONTH, hours_of(usage)).hours
    other = files.hour_file(in_order({key: Total(6, 3) for key in usage}))
    objects.put(hour.key, other.content, if_absent=False)
    with pytest.raises(ObjectDamagedError, match="digest"), files.month_files([hour]):
        pass
    objects.put(hour.key, b"PAR1", if_absent=False)
    with pytest.raises(ObjectDamagedError, match="2026-10-01T00"):
        files.measured(hour.key)
    objects.remove(hour.key)
    with pytest.raises(ObjectMissingError), files.month_files([hour]):
        pass


def test_the_order_of_rows_puts_corrections_after_what_corrects_nothing() -> None:
    own = usage_key(ACCOUNTS[0], "a", "AmazonEC2")
    late = own._replace(corrects_s=0)
    assert row_place(own) < row_place(late) < row_place(own._replace(usage_type=UsageType("b")))
    assert row_place(own) < row_place(own._replace(hour_s=FIRST_S + HOUR_S)) < row_place(late)


def test_the_digest_is_that_of_a_text_that_any_program_can_write() -> None:
    key = UsageKey(3600, "1", UsageType("t"), Service("s"), "f", "g", None)
    text = "3600\t1\tt\ts\tf\tg\t\t5\t2\n3600\t1\tt\ts\tf\tg\t0\t5\t2\n"
    rows = [(key, Total(5, 2)), (key._replace(corrects_s=0), Total(5, 2))]
    assert usage_digest(rows) == hashlib.sha256(text.encode()).hexdigest()


# The index of a closed month's objects: a report reads only an account's row groups, and any engine can read the files.

Row = tuple[UsageKey, Total]


def rows_of_accounts(counts: Sequence[int]) -> list[Row]:
    """Rows in order; `counts` has the number of hours of each account."""
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
    """Write a file with an index; return its complete footer."""
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
        # Earlier releases wrote such files: row groups of equal length regardless of accounts, each with all names.
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
    """A stream that counts reads as calls, except reads of its end, which the opening call has read."""

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
    # There are so few rows that the days fit into the end that is read first.
    assert objects.stream.calls == 1


def test_a_damaged_index_is_a_damaged_object() -> None:
    objects = MemoryObjectStore(ManualClock(0))
    frozen = closed(objects, rows_of_accounts([5, 5]))
    key = closed_accounts_key(MONTH)
    content = bytearray(objects.get(key))
    # The length of the index comes before its mark, the end of the footer, and the last eight bytes of the file.
    content[-29:-25] = (7).to_bytes(4, "little")
    objects.put(key, bytes(content), if_absent=False)
    with pytest.raises(ObjectDamagedError, match=r"accounts\.parquet"):
        list(ParquetFrozenFiles(objects).account_rows(frozen, ["000000000001"]))


@given(st.lists(st.integers(0, 30), max_size=30), st.integers(1, 20), st.integers(1, 40))
@examples(100)
def test_groups_have_all_rows_and_split_longer_accounts_only(
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
