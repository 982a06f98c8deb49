"""Reports from the lake say what the usage table says; closed months answer as they were frozen."""

from __future__ import annotations

from metering.reports.query import UsageQuery
from metering.reports.source import ReportSource, UsageTable, report_rows
from metering.reports.usage_rows import grouped
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.support.lake_world import ACCOUNT, NOW_S, World, record
from tests.support.usage_items import change, usage_of
from tests.unit.billing.test_months import AFTER_S, FIRST_S, MONTH, world_with_october

OTHER = "210987654321"


def source(world: World) -> ReportSource:
    return world.source()


def test_a_report_over_all_accounts_reads_the_lake_and_agrees_with_the_usage_table() -> None:
    world = World()
    world.send([record(5), record(7, account=OTHER), record(11, start_s=NOW_S - 30 * DAY_S)])
    world.compact_all()
    world.send([record(13), record(2**62, account=OTHER)])
    query = UsageQuery(from_s=NOW_S - 40 * DAY_S, to_s=NOW_S + DAY_S, group_by=("account_id", "hour"))
    rows = report_rows([source(world)], query, now_s=NOW_S)
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
    rows = report_rows([source(world)], query, now_s=NOW_S)
    assert [(row.values, row.total) for row in rows] == [
        ((ACCOUNT, "i-1"), Total(16, 2)),
        ((ACCOUNT, "i-2"), Total(7, 1)),
    ]


def test_a_closed_month_answers_with_its_frozen_figures_and_corrections_only_when_asked() -> None:
    world = world_with_october()
    closed = world.jobs.closer.close(MONTH, world.deadline())
    world.send([record(17, start_s=FIRST_S + 5)])
    for entry in usage_of(world.items, MONTH):
        change(world.items, entry, 1_000)
    now_s = AFTER_S + 4 * DAY_S
    for accounts in (frozenset[str](), frozenset([ACCOUNT])):
        query = UsageQuery(from_s=FIRST_S, to_s=AFTER_S, group_by=("month",), accounts=accounts)
        [row] = report_rows([source(world)], query, now_s=now_s)
        assert row.total == closed.total
        query = UsageQuery(
            from_s=FIRST_S, to_s=AFTER_S, group_by=("corrects",), accounts=accounts, with_corrections=True
        )
        rows = report_rows([source(world)], query, now_s=now_s + HOUR_S)
        assert [(row.values, row.total) for row in rows] == [
            (("",), closed.total),
            (("2026-10-01T00:00:00Z",), Total(17, 1)),
        ]
