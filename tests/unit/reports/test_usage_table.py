"""Usage reports over the usage table: exact hours, exact sums, at any size."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from datetime import UTC
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from load_tests.booked_usage import book, updates_of
from metering.audit.freshness import Complete
from metering.cli.printing.output import Format, encoded
from metering.errors import LedgerCorruptError
from metering.hours import month_bounds_s, parse_hour
from metering.ledger.notes.checks import CANARY_ACCOUNT_ID
from metering.ledger.usage.kinds import kind_key, number_key
from metering.reports.query import MONTH_COLUMNS, GroupColumn, UsageQuery, months_between
from metering.reports.source import UsageTable
from metering.reports.usage_answer import usage_answer
from metering.reports.usage_rows import UsageRow, grouped
from metering.stores.writes import Table
from metering.units import DAY_S
from metering.usage.totals import Service, Total, UsageKey, UsageType
from tests.support.memory.items import MemoryItemStore

HOUR_S = parse_hour("2026-11-24T13")
ACCOUNT, OTHER = "111111111111", "222222222222"
DAY_BYTES = 140 * 10**15


def key(hour_s: int = HOUR_S, account_id: str = ACCOUNT, usage_type: str = "DataTransfer-Out-Bytes") -> UsageKey:
    return UsageKey(hour_s, account_id, UsageType(usage_type), Service("AmazonEC2"), "us-east-1/use1-az1", "internet")


def store(usage: Mapping[UsageKey, Total], *, unnumbered: bool = False) -> MemoryItemStore:
    items = MemoryItemStore()
    book(items, usage, unnumbered=unnumbered)
    return items


def rows(items: MemoryItemStore, query: UsageQuery) -> list[UsageRow]:
    return grouped(UsageTable(items=items).usage(query, now_s=HOUR_S + 7_200), query)


def test_only_hours_that_begin_in_the_half_open_range_count() -> None:
    items = store({key(HOUR_S + 3_600 * n): Total(10**n, 1) for n in range(4)})
    for accounts in (frozenset[str](), frozenset([ACCOUNT])):
        query = UsageQuery(from_s=HOUR_S + 1, to_s=HOUR_S + 3 * 3_600, group_by=("hour",), accounts=accounts)
        assert [row.total.bytes for row in rows(items, query)] == [10, 100]


def test_a_report_by_the_day_has_a_row_for_each_day_of_a_month() -> None:
    items = store({key(HOUR_S - n * DAY_S): Total(10**n, 1) for n in range(3)})
    for accounts in (frozenset[str](), frozenset([ACCOUNT])):
        query = UsageQuery(from_s=HOUR_S - 9 * DAY_S, to_s=HOUR_S + DAY_S, group_by=("day",), accounts=accounts)
        assert [row.total.bytes for row in rows(items, query)] == [100, 10, 1]


def test_a_day_of_another_zone_is_made_of_its_hours() -> None:
    day_s = HOUR_S - HOUR_S % DAY_S - DAY_S
    items = store({key(day_s + 13 * 3_600): Total(1, 1), key(day_s + 20 * 3_600): Total(10, 1)})
    for zone, sizes in ((ZoneInfo("Asia/Kolkata"), [1, 10]), (UTC, [11])):
        query = UsageQuery(from_s=day_s - DAY_S, to_s=day_s + 2 * DAY_S, group_by=("day",), zone=zone)
        assert [row.total.bytes for row in rows(items, query)] == sizes


_HOURS = st.integers(-30, 30).map(lambda n: HOUR_S + n * 3_600)
_KEYS = st.builds(key, _HOURS, usage_type=st.sampled_from(["A", "B"])).flatmap(
    lambda one: st.sampled_from([one, one._replace(corrects_s=one.hour_s - 20 * DAY_S)])
)


@given(
    usage=st.dictionaries(_KEYS, st.builds(Total, st.integers(0, 2**70), st.just(1))),
    from_s=st.integers(HOUR_S - 40 * 3_600, HOUR_S + 40 * 3_600)
    | st.sampled_from([HOUR_S - HOUR_S % DAY_S, HOUR_S - 20 * DAY_S]),
    length_s=st.integers(0, 80 * 3_600) | st.just(DAY_S),
    group_by=st.sampled_from([(), ("usage_type",), ("day", "corrects"), ("hour", "usage_type"), ("month",)]),
    accounts=st.sampled_from([frozenset[str](), frozenset([ACCOUNT])]),
    with_corrections=st.booleans(),
)
def test_days_that_are_read_at_once_say_what_their_hours_say(
    usage: dict[UsageKey, Total],
    from_s: int,
    length_s: int,
    group_by: tuple[GroupColumn, ...],
    accounts: frozenset[str],
    with_corrections: bool,
) -> None:
    query = UsageQuery(
        from_s=from_s, to_s=from_s + length_s, group_by=group_by, accounts=accounts, with_corrections=with_corrections
    )
    asked_s = HOUR_S + 100 * 3_600
    read = UsageTable(items=store(usage)).usage(query, now_s=asked_s)
    assert grouped(read, query) == grouped(usage.items(), query)


def test_kinds_of_many_buckets_and_kinds_without_a_number_count_alike() -> None:
    usage = {key(HOUR_S + 3_600 * (n % 3), usage_type=f"T{n:03d}"): Total(10**6 + n, n + 1) for n in range(150)}
    query = UsageQuery(from_s=0, to_s=HOUR_S * 2, group_by=("usage_type", "hour"), accounts=frozenset([ACCOUNT]))
    expected = grouped(usage.items(), query)
    assert rows(store(usage), query) == rows(store(usage, unnumbered=True), query) == expected
    both = store(usage)
    for update in updates_of(usage, unnumbered=True):
        both.update(update)
    assert [row.total for row in rows(both, query)] == [row.total.plus(row.total) for row in expected]


def test_what_a_repair_took_back_is_no_row() -> None:
    items = store({key(): Total(7, 1), key(usage_type="x"): Total(5, 1)})
    for update in updates_of({key(): Total(-7, -1)}):
        items.update(update)
    query = UsageQuery(from_s=0, to_s=HOUR_S * 2, accounts=frozenset([ACCOUNT]))
    assert [row.values for row in rows(items, query)] == [("x",)]


@pytest.mark.parametrize("accounts", [frozenset([ACCOUNT]), frozenset[str]()], ids=["an account", "all accounts"])
def test_a_number_that_stands_for_nothing_is_an_error_and_never_left_out(accounts: frozenset[str]) -> None:
    items = store({key(): Total(7, 1)})
    for lost in (number_key(ACCOUNT, 0), kind_key(ACCOUNT, key().kind)):
        items.remove(Table.LEDGER, lost)
    with pytest.raises(LedgerCorruptError, match="N#000000 is missing"):
        rows(items, UsageQuery(from_s=0, to_s=HOUR_S * 2, accounts=accounts))


def test_an_account_is_read_month_by_month_and_nobody_elses_items_with_it() -> None:
    old_s, _ = month_bounds_s("2026-10")
    items = store({key(old_s): Total(1, 1), key(): Total(2, 1), key(account_id=OTHER): Total(4, 1)})
    query = UsageQuery(from_s=old_s, to_s=HOUR_S + 1, group_by=("month",), accounts=frozenset([ACCOUNT]))
    assert [(row.values, row.total.bytes) for row in rows(items, query)] == [(("2026-10",), 1), (("2026-11",), 2)]


def test_rows_are_sorted_by_the_grouped_columns() -> None:
    items = store({key(account_id=a, usage_type=u): Total(1, 1) for a in (OTHER, ACCOUNT) for u in ("b", "a")})
    query = UsageQuery(from_s=0, to_s=HOUR_S * 2, group_by=("usage_type", "account_id"))
    assert [row.values for row in rows(items, query)] == [("a", ACCOUNT), ("a", OTHER), ("b", ACCOUNT), ("b", OTHER)]


def test_every_column_that_can_be_asked_for_has_a_value() -> None:
    corrected_s = month_bounds_s("2026-10")[0]
    items = store({key()._replace(corrects_s=corrected_s): Total(1, 1)})
    [row] = rows(items, UsageQuery(from_s=0, to_s=HOUR_S * 2, group_by=MONTH_COLUMNS))
    assert dict(zip(MONTH_COLUMNS, row.values, strict=True)) == {
        "account_id": ACCOUNT, "usage_type": "DataTransfer-Out-Bytes", "service": "AmazonEC2",
        "from": "us-east-1/use1-az1", "to": "internet", "month": "2026-11", "day": "2026-11-24",
        "hour": "2026-11-24T13:00:00Z", "corrects": "2026-10-01T00:00:00Z",
    }  # fmt: skip


def test_filters_keep_what_they_name_and_the_canary_is_left_out_unless_its_account_is_named() -> None:
    items = store({key(): Total(1, 1), key(usage_type="x"): Total(2, 1)})
    query = UsageQuery(from_s=0, to_s=HOUR_S * 2, group_by=(), usage_types=frozenset(["x"]))
    assert [row.total.bytes for row in rows(items, query)] == [2]
    assert rows(items, UsageQuery(from_s=0, to_s=HOUR_S * 2, services=frozenset(["AmazonS3"]))) == []
    items = store({key(account_id=CANARY_ACCOUNT_ID): Total(1, 1)})
    assert rows(items, UsageQuery(from_s=0, to_s=HOUR_S * 2)) == []
    assert rows(items, UsageQuery(from_s=0, to_s=HOUR_S * 2, accounts=frozenset([CANARY_ACCOUNT_ID])))


def test_a_correction_counts_where_it_is_booked_and_in_its_own_month_only_on_request() -> None:
    own_s = month_bounds_s("2026-09")[0]
    correction = key()._replace(corrects_s=own_s)
    items = store({key(own_s): Total(1, 1), correction: Total(2, 1)})
    first_s, after_s = month_bounds_s("2026-09")
    accounts = frozenset([ACCOUNT])
    closed = UsageQuery(from_s=first_s, to_s=after_s, group_by=("month",), accounts=accounts)
    assert [row.total.bytes for row in rows(items, closed)] == [1]
    marked = UsageQuery(
        from_s=first_s, to_s=after_s, group_by=("month", "corrects"), accounts=accounts, with_corrections=True
    )
    found = [(row.values, row.total.bytes) for row in rows(items, marked)]
    assert found == [(("2026-09", ""), 1), (("2026-11", "2026-09-01T00:00:00Z"), 2)]


def test_a_year_of_140_pb_a_day_is_exact_in_every_format() -> None:
    first_s = parse_hour("2026-01-01T00")
    items = store({key(first_s + 86_400 * day): Total(DAY_BYTES + day, 1) for day in range(365)})
    total = sum(DAY_BYTES + day for day in range(365))
    assert total > 2**63
    query = UsageQuery(from_s=first_s, to_s=first_s + 366 * 86_400, accounts=frozenset([ACCOUNT]))
    answer = usage_answer(query, rows(items, query), as_of_s=HOUR_S, complete=Complete(through_s=HOUR_S))
    assert f"{total:,}" in encoded(answer, Format.TABLE).decode()
    assert json.loads(encoded(answer, Format.JSON))["rows"][0]["bytes"] == str(total)
    assert json.loads(encoded(answer, Format.NDJSON))["bytes"] == str(total)
    [line] = csv.DictReader(io.StringIO(encoded(answer, Format.CSV).decode()))
    assert line["bytes"] == str(total)
    table = pq.read_table(io.BytesIO(encoded(answer, Format.PARQUET)))
    assert table.schema.field("bytes").type == pa.decimal128(38, 0)
    assert int(table["bytes"][0].as_py()) == total


def test_json_has_the_contracts_shape_and_only_grouped_columns() -> None:
    items = store({key(): Total(41_943_040, 1)})
    query = UsageQuery(from_s=HOUR_S, to_s=HOUR_S + 3_600, group_by=("account_id", "usage_type", "hour"))
    answer = usage_answer(query, rows(items, query), as_of_s=HOUR_S + 10, complete=Complete(through_s=HOUR_S))
    document = json.loads(encoded(answer, Format.JSON))
    assert set(document) == {"query", "as_of", "complete_through", "held_back_by", "periods", "rows"}
    assert document["as_of"] == "2026-11-24T13:00:10Z"
    what = {"account_id": ACCOUNT, "usage_type": "DataTransfer-Out-Bytes", "hour": "2026-11-24T13:00:00Z"}
    assert document["rows"] == [{**what, "bytes": "41943040", "records": 1}]


def test_months_of_a_range_are_in_order_and_complete() -> None:
    found = months_between(parse_hour("2026-11-30T23"), parse_hour("2027-01-01T01"))
    assert list(found) == ["2026-11", "2026-12", "2027-01"]
    assert list(months_between(HOUR_S, HOUR_S)) == []
