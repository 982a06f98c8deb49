"""Objects of closed months: exact for any number of bytes, in one order, read by row groups."""

import hashlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.errors import ObjectDamagedError, ObjectMissingError
from metering.hours import month_bounds_s
from metering.lake.parquet.frozen_months import ParquetFrozenFiles
from metering.lake.ports import in_order, row_place, rows_of_days, usage_digest
from metering.ledger.periods import FrozenMonth
from metering.stores.objects import closed_accounts_key, closed_days_key
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Service, Total, UsageKey, UsageType, sum_totals
from tests.support.frozen import freeze
from tests.support.memory.clock import ManualClock
from tests.support.memory.frozen import PlainFrozenFiles, by_day, merge, of_day
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
@settings(max_examples=60, deadline=None)
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
    """A store that counts what its streams hand out."""

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
