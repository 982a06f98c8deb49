"""Reports as of now: waiting usage is counted once, for any query and at any progress of the roll-up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from metering.reports.query import GroupColumn, UsageParameters, UsageQuery
from metering.reports.source import UsageTable, report_rows
from metering.reports.usage_answer import query_document
from metering.reports.usage_rows import NotRolledUp, Seen, UsageRow
from metering.rollup.as_of_now import TooMuchWaitsError
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import ZERO
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, dying, record
from tests.unit.billing.test_months import AFTER_S, FIRST_S, MONTH, world_with_october

OTHER = "210987654321"
NEW = "310987654321"

_COLUMNS: tuple[tuple[GroupColumn, ...], ...] = ((), ("usage_type",), ("hour", "to"), ("day",), ("month", "corrects"))
QUESTIONS = [
    UsageQuery(from_s=HOUR - 40 * DAY_S, to_s=HOUR + DAY_S, group_by=columns, now=True) for columns in _COLUMNS
] + [UsageQuery(from_s=HOUR, to_s=HOUR + HOUR_S, group_by=("hour", "account_id"), now=True)]


def of_accounts(query: UsageQuery, *, now: bool = True) -> UsageQuery:
    return replace(query, accounts=frozenset([ACCOUNT, OTHER]), now=now)


def rows(world: World, query: UsageQuery) -> list[UsageRow]:
    return report_rows([world.source()], query, now_s=NOW_S)


def world_that_waits() -> World:
    world = World()
    world.send([record(5), record(7, account=OTHER)], [record(11, start_s=NOW_S - 30 * DAY_S)])
    world.compact_all()
    world.send([record(13), record(2**62, account=OTHER), record(17, to="eu-west-1")], rolled_up=False)
    world.send([record(19, start_s=NOW_S - DAY_S), record(23)], rolled_up=False)
    return world


def test_usage_as_of_now_is_the_rows_at_every_step_of_the_roll_up() -> None:
    for world in dying(world_that_waits, World.roll_up, least=8):
        for query in QUESTIONS:
            # If no accounts are named, rows of the lake and of staging are read.
            assert rows(world, of_accounts(query)) == rows(world, query)
    for query in QUESTIONS:
        assert rows(world, of_accounts(query, now=False)) == rows(world, query)


def test_without_now_what_waits_is_not_counted_yet() -> None:
    world = world_that_waits()
    [waits] = rows(world, of_accounts(QUESTIONS[0], now=False))
    [now] = rows(world, of_accounts(QUESTIONS[0]))
    assert (waits.total.bytes, now.total.bytes) == (23, 23 + 13 + 2**62 + 17 + 19 + 23)


def test_an_account_whose_first_commit_waits_is_in_an_answer_by_account_at_every_step_of_the_roll_up() -> None:
    """No directory has an account before the plan of its first commit."""
    query = replace(QUESTIONS[-1], from_s=HOUR - 40 * DAY_S)

    def with_a_new_account() -> World:
        world = world_that_waits()
        world.send([record(29, account=NEW)], rolled_up=False)
        return world

    for world in dying(with_a_new_account, World.roll_up, least=8):
        assert not world.source().reads_rows(query, now_s=NOW_S)
        found = rows(world, query)
        assert found == rows(world, replace(query, accounts=frozenset([ACCOUNT, OTHER, NEW])))
        assert sum(row.total.bytes for row in found) == 2**62 + 124
        # Without `now`, what waits is said, and is of the new account, too.
        booked, lacks = with_waiting(world, replace(query, now=False))
        assert lacks.total is not None
        assert sum((row.total.bytes for row in booked), lacks.total.bytes) == 2**62 + 124


def with_waiting(world: World, query: UsageQuery) -> tuple[list[UsageRow], NotRolledUp]:
    lacks = NotRolledUp(query, Seen(query))
    return report_rows([world.source()], query, now_s=NOW_S, lacks=lacks), lacks


def test_rows_and_what_waits_are_the_usage_as_of_now_at_every_step_of_the_roll_up() -> None:
    """All usage is either in the rows or in the sum of waiting usage."""
    query = replace(of_accounts(QUESTIONS[0], now=False), group_by=())
    for world in dying(world_that_waits, World.roll_up, least=8):
        [booked], lacks = with_waiting(world, query)
        [now] = rows(world, of_accounts(query))
        assert lacks.total is not None
        assert booked.total.total.plus(lacks.total) == now.total.total
        assert (lacks.since_s is None) == (lacks.total == ZERO)


def test_what_waits_is_of_the_accounts_hours_and_filters_that_are_asked_for() -> None:
    world = world_that_waits()
    asked = of_accounts(QUESTIONS[0], now=False)
    for query, waits in (
        (replace(asked, accounts=frozenset([ACCOUNT])), 13 + 17 + 19 + 23),
        (replace(asked, to_locations=frozenset(["eu-west-1"])), 17),
        (replace(asked, from_s=HOUR), 13 + 2**62 + 17 + 23),
        (replace(asked, from_s=HOUR - 5 * DAY_S, to_s=HOUR - 4 * DAY_S), 0),
        (replace(asked, accounts=frozenset(["999999999999"])), 0),
    ):
        _, lacks = with_waiting(world, query)
        assert lacks.total is not None
        assert lacks.total.bytes == waits
        assert (lacks.since_s is None) == (waits == 0)


def test_where_much_waits_a_report_reads_none_of_it_and_says_that_it_does_not_know() -> None:
    world = world_that_waits()
    for _ in range(7):
        world.send([record(1)], rolled_up=False)
    calls: list[str] = []
    world.objects.on_call = world.items.on_call = calls.append
    [booked], lacks = with_waiting(world, of_accounts(QUESTIONS[0], now=False))
    world.objects.on_call = world.items.on_call = lambda _call: None
    assert (booked.total.bytes, lacks.total, lacks.since_s) == (23, None, NOW_S)
    [plain] = rows(world, of_accounts(QUESTIONS[0], now=False))
    assert plain == booked
    assert not [call for call in calls if "get" in call and "objects" in call]


def test_a_report_asks_for_what_waits_in_a_read_a_shard_and_one_more() -> None:
    world = world_that_waits()
    world.roll_up()
    query = of_accounts(QUESTIONS[0], now=False)
    made: dict[str, int] = {}
    for name, ask in (("plain", rows), ("says", lambda world, query: with_waiting(world, query)[0])):
        calls: list[str] = []
        world.objects.on_call = world.items.on_call = calls.append
        ask(world, query)
        world.objects.on_call = world.items.on_call = lambda _call: None
        made[name] = len(calls)
    assert made["says"] - made["plain"] == 1 + world.settings.shards


def test_a_closed_month_is_frozen_also_as_of_now() -> None:
    world = world_with_october()
    closed = world.jobs.closer.close(MONTH, world.deadline())
    world.send([record(17, start_s=FIRST_S + 5)], rolled_up=False)
    now_s = AFTER_S + 4 * DAY_S
    query = UsageQuery(
        from_s=FIRST_S, to_s=AFTER_S, group_by=("month", "corrects"), accounts=frozenset([ACCOUNT]), now=True
    )
    [row] = report_rows([world.source()], query, now_s=now_s)
    assert row.total.total == closed.total
    marked = report_rows([world.source()], replace(query, with_corrections=True), now_s=now_s)
    assert [row.total.bytes for row in marked] == [closed.total.bytes, 17]


def test_more_than_an_answer_may_read_is_refused_and_never_cut() -> None:
    world = world_that_waits()
    now = world.source().as_of_now
    assert now is not None
    everything = of_accounts(QUESTIONS[0])
    with pytest.raises(TooMuchWaitsError, match="2 commits wait"):
        list(UsageTable(items=world.items, as_of_now=replace(now, most=1)).usage(everything, now_s=NOW_S))
    two = UsageTable(items=world.items, as_of_now=replace(now, most=2)).usage(everything, now_s=NOW_S)
    assert sum(total.bytes for _, total in two) == 2**62 + 95
    # Only commits with an hour in the range are read.
    yesterday = replace(everything, from_s=HOUR - DAY_S, to_s=HOUR - DAY_S + HOUR_S)
    one = UsageTable(items=world.items, as_of_now=replace(now, most=1)).usage(yesterday, now_s=NOW_S)
    assert [total.bytes for key, total in one if yesterday.matches(key)] == [19]


def test_a_table_that_does_not_know_what_waits_is_not_asked_and_a_question_says_that_it_is_as_of_now() -> None:
    with pytest.raises(TypeError, match="as of now"):
        list(UsageTable(items=World().items).usage(of_accounts(QUESTIONS[0]), now_s=NOW_S))
    plain, now = (UsageParameters(filters={"account": [ACCOUNT]}, now=now).query(now_s=NOW_S) for now in (False, True))
    assert ("now" in query_document(plain), query_document(now)["now"]) == (False, True)
