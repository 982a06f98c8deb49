"""Reports from the lake agree with the usage table; reports of closed months equal the frozen state."""

from __future__ import annotations

import csv
import io
import itertools
import json
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from metering.audit.freshness import Complete
from metering.cli.printing.output import Format, encoded
from metering.errors import ObjectMissingError
from metering.hours import month_bounds_s, rfc3339
from metering.reports.query import DetailColumn, GroupColumn, UsageQuery
from metering.reports.source import UsageTable, report_rows
from metering.reports.usage_answer import usage_answer
from metering.reports.usage_rows import grouped
from metering.stores.objects import closed_days_key
from metering.stores.writes import Put, Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.lake_world import ACCOUNT, NOW_S, World, record
from tests.support.usage_items import change, usage_of

if TYPE_CHECKING:
    from metering.reports.usage_rows import UsageRow


OCTOBER, NOVEMBER = month_bounds_s("2026-10")
DECEMBER = month_bounds_s("2026-11")[1]
OTHER = "210987654321"
ACCOUNTS = (frozenset[str](), frozenset([ACCOUNT, OTHER]))
DETAILS = ((), ("resource_id",))


def region() -> World:
    """A region with October closed, October's ledger and usage items damaged, and a late row for October."""
    world = World(now_s=NOVEMBER - HOUR_S)
    world.send([record(5, start_s=OCTOBER), record(2**62, start_s=OCTOBER, account=OTHER)])
    world.send([record(7, start_s=NOVEMBER - HOUR_S)])
    world.clock.advance_s(4 * DAY_S)
    world.jobs.closer.close("2026-10", world.deadline())
    world.send([record(17, start_s=OCTOBER + 5, resource="i-late"), record(100, start_s=NOVEMBER + 60)])
    for entry in usage_of(world.items, "2026-10"):
        change(world.items, entry, 1_000)
    for item in list(world.items.query(Table.LEDGER, "H#2026-10-01T00")):
        world.items.put(Put(table=Table.LEDGER, item={**item, "files": []}))
    return world


def report(
    *worlds: World, from_s: int, to_s: int, accounts: frozenset[str], details: tuple[DetailColumn, ...], **query: object
) -> list[UsageRow]:
    asked = UsageQuery(from_s=from_s, to_s=to_s, accounts=accounts, details=details, **query)  # type: ignore[arg-type]  # as named
    now_s = max(world.clock.now_ms() // 1000 for world in worlds)
    return report_rows([world.source() for world in worlds], asked, now_s=now_s)


def summed_by(rows: list[UsageRow], columns: int = 1) -> dict[tuple[str, ...], Total]:
    sums: dict[tuple[str, ...], Total] = {}
    for row in rows:
        values = row.values[:columns]
        sums[values] = sums.get(values, Total(0, 0)).plus(row.total.total)
    return sums


on_every_path = pytest.mark.parametrize(("accounts", "details"), [*itertools.product(ACCOUNTS, DETAILS)])


@on_every_path
@pytest.mark.parametrize(("group_by", "from_s", "to_s", "expected"), [
    (("account_id",), OCTOBER, NOVEMBER, {(ACCOUNT,): Total(12, 2), (OTHER,): Total(2**62, 1)}),
    (("hour",), OCTOBER + 1, NOVEMBER, {(rfc3339(NOVEMBER - HOUR_S),): Total(7, 1)}),
    (("month",), OCTOBER, DECEMBER, {("2026-10",): Total(12 + 2**62, 3), ("2026-11",): Total(117, 2)}),
    (("month", "corrects"), OCTOBER, NOVEMBER,
     {("2026-10", ""): Total(12 + 2**62, 3), ("2026-11", rfc3339(OCTOBER)): Total(17, 1)}),
], ids=["the month", "some hours of it", "with the open month", "with corrections"])  # fmt: skip
def test_a_closed_month_answers_as_it_was_frozen_on_every_path(
    group_by: tuple[GroupColumn, ...],
    from_s: int,
    to_s: int,
    expected: dict[tuple[str, ...], Total],
    accounts: frozenset[str],
    details: tuple[DetailColumn, ...],
) -> None:
    asked = {"from_s": from_s, "to_s": to_s, "accounts": accounts, "details": details, "group_by": group_by}
    rows = report(region(), **asked, with_corrections="corrects" in group_by)  # type: ignore[arg-type]  # as named
    assert summed_by(rows, len(group_by)) == expected


@on_every_path
def test_corrections_are_frozen_with_the_month_that_they_are_booked_in(
    accounts: frozenset[str], details: tuple[DetailColumn, ...]
) -> None:
    world = region()
    world.clock.advance_s(30 * DAY_S)
    world.jobs.closer.close("2026-11", world.deadline())
    for entry in usage_of(world.items):
        change(world.items, entry, 1_000)
    asked = {"from_s": OCTOBER, "to_s": NOVEMBER, "accounts": accounts, "details": details}
    rows = report(world, **asked, group_by=("corrects",), with_corrections=True)  # type: ignore[arg-type]  # as named
    assert summed_by(rows) == {("",): Total(12 + 2**62, 3), (rfc3339(OCTOBER),): Total(17, 1)}


@on_every_path
def test_a_report_on_all_regions_is_right_where_only_one_has_closed_the_month(
    accounts: frozenset[str], details: tuple[DetailColumn, ...]
) -> None:
    elsewhere = World(now_s=NOVEMBER - HOUR_S)
    elsewhere.send([record(30, start_s=OCTOBER)])
    asked = {"from_s": OCTOBER, "to_s": NOVEMBER, "accounts": accounts, "details": details}
    rows = report(region(), elsewhere, **asked, group_by=("account_id",))  # type: ignore[arg-type]  # as named
    assert summed_by(rows) == {(ACCOUNT,): Total(42, 3), (OTHER,): Total(2**62, 1)}


@pytest.mark.parametrize("accounts", ACCOUNTS)
def test_every_format_says_the_same(accounts: frozenset[str]) -> None:
    query = UsageQuery(from_s=OCTOBER, to_s=NOVEMBER, group_by=("month", "corrects"), accounts=accounts,
                       with_corrections=True)  # fmt: skip
    rows = report_rows([region().source()], query, now_s=NOVEMBER + 4 * DAY_S)
    answer = usage_answer(query, rows, as_of_s=NOVEMBER, complete=Complete(through_s=NOVEMBER))
    expected = [
        {"month": "2026-10", "corrects": "", "bytes": str(12 + 2**62), "records": "3", "processed_bytes": "0"},
        {"month": "2026-11", "corrects": rfc3339(OCTOBER), "bytes": "17", "records": "1", "processed_bytes": "0"},
    ]
    tables = [
        json.loads(encoded(answer, Format.JSON))["rows"],
        [json.loads(line) for line in encoded(answer, Format.NDJSON).splitlines()],
        list(csv.DictReader(io.StringIO(encoded(answer, Format.CSV).decode()))),
        pq.read_table(io.BytesIO(encoded(answer, Format.PARQUET))).to_pylist(),
    ]
    for table in tables:
        assert [{name: str(value) for name, value in row.items()} for row in table] == expected
    text = encoded(answer, Format.TABLE).decode()
    assert f"{12 + 2**62:,}" in text
    assert rfc3339(OCTOBER) in text


@pytest.mark.parametrize("group_by", [("usage_type",), ("usage_type", "hour")])
def test_a_report_of_an_account_reads_no_manifest(group_by: tuple[str, ...]) -> None:
    world = region()
    calls: list[str] = []
    world.objects.on_call = calls.append
    rows = report(world, from_s=OCTOBER, to_s=NOVEMBER, accounts=frozenset([ACCOUNT]), details=(), group_by=group_by)
    assert sum(row.total.bytes for row in rows) == 12
    assert "objects.open" in calls
    assert "objects.get" not in calls


def test_an_object_of_a_closed_month_that_is_gone_ends_the_report() -> None:
    world = region()
    world.objects.remove(closed_days_key("2026-10"))
    with pytest.raises(ObjectMissingError):
        report(world, from_s=OCTOBER, to_s=NOVEMBER, accounts=frozenset([ACCOUNT]), details=())


def test_a_report_over_all_accounts_reads_the_lake_and_agrees_with_the_usage_table() -> None:
    world = World()
    world.send([record(5), record(7, account=OTHER), record(11, start_s=NOW_S - 30 * DAY_S)])
    world.compact_all()
    world.send([record(13), record(2**62, account=OTHER)])
    query = UsageQuery(from_s=NOW_S - 40 * DAY_S, to_s=NOW_S + DAY_S, group_by=("account_id", "hour"))
    rows = report_rows([world.source()], query, now_s=NOW_S)
    assert rows == grouped(UsageTable(items=world.items).usage(query, now_s=NOW_S), query)
    assert sum(row.total.bytes for row in rows) == 5 + 7 + 11 + 13 + 2**62


def test_resources_are_told_apart_and_other_accounts_left_out() -> None:
    world = World()
    world.send([record(5, resource="i-1"), record(7, resource="i-2"), record(9, account=OTHER)])
    world.compact_all()
    world.send([record(11, resource="i-1")])
    query = UsageQuery(
        from_s=NOW_S - DAY_S, to_s=NOW_S + DAY_S, group_by=("account_id",), details=("resource_id",),
        accounts=frozenset([ACCOUNT]),
    )  # fmt: skip
    found = {row.values: row.total.total for row in report_rows([world.source()], query, now_s=NOW_S)}
    assert found == {(ACCOUNT, "i-1"): Total(16, 2), (ACCOUNT, "i-2"): Total(7, 1)}
