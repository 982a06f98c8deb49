"""Ranges of time: answered as they were asked for, or refused in words. Never a quiet 0."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metering.hours import parse_hour, rfc3339
from metering.reports.query import UsageParameters, UsageQuery
from metering.reports.source import report_rows
from metering.reports.time_range import InvalidParametersError, time_range
from metering.units import DAY_S, HOUR_S
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, record


def query(start: str | None, end: str | None = None, **more: object) -> UsageQuery:
    options: dict[str, object] = {"filters": {"account": [ACCOUNT]}, **more}
    return UsageParameters(start=start, end=end, **options).query(now_s=NOW_S)  # type: ignore[arg-type]  # as named


@pytest.fixture(scope="module")
def world() -> World:
    """1 and 2 bytes in the lake, 4, 8 and 16 in staging; at minutes 0, 10, 29, 30 and 70 of two hours."""
    world = World()
    world.send([record(1, start_s=HOUR - HOUR_S), record(2, start_s=HOUR - HOUR_S + 600)])
    world.compact_all()
    world.send([record(4, start_s=HOUR - HOUR_S + 1_740), record(8, start_s=HOUR - HOUR_S + 1_800)])
    world.send([record(16, start_s=HOUR + 600)])
    return world


def total(world: World, asked: UsageQuery) -> int:
    source = world.source()
    return sum(row.total.bytes for row in report_rows([source], asked, now_s=NOW_S))


@pytest.mark.parametrize("bound", ["from", "to"])
@pytest.mark.parametrize("more", [{}, {"detail": "resource_id", "with_corrections": True}])
def test_a_range_off_the_hour_is_refused_with_the_bound_and_the_nearest_hours(
    bound: str, more: dict[str, object]
) -> None:
    off, on = rfc3339(HOUR - HOUR_S + 1_740), rfc3339(HOUR - 5 * HOUR_S)
    start, end = (off, None) if bound == "from" else (on, off)
    with pytest.raises(InvalidParametersError) as error:
        query(start, end, **more)
    [problem] = error.value.problems
    assert (problem.parameter, problem.value) == (bound, off)
    assert problem.problem.startswith("is not on the hour")
    assert rfc3339(HOUR - HOUR_S) in problem.problem
    assert rfc3339(HOUR) in problem.problem


def test_without_times_it_is_this_month_up_to_the_end_of_this_hour(world: World) -> None:
    asked = query(None)
    assert (asked.from_s, asked.to_s) == (parse_hour("2026-11-01T00"), HOUR + HOUR_S)
    assert total(world, asked) == total(world, query(None, detail="resource_id")) == 31


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(HOUR - 2 * HOUR_S, NOW_S), min_size=1, max_size=3, unique=True))
def test_details_of_ranges_that_meet_at_any_second_hold_each_row_once(world: World, cuts: list[int]) -> None:
    ends = [HOUR - DAY_S, *sorted(cuts), HOUR + HOUR_S]
    parts = [total(world, query(rfc3339(a), rfc3339(b), detail="batch_id")) for a, b in pairwise(ends)]
    assert sum(parts) == 31


def test_details_take_rows_by_their_start(world: World) -> None:
    asked = query(rfc3339(HOUR - HOUR_S + 600), rfc3339(HOUR - HOUR_S + 1_800), detail="batch_id")
    assert total(world, asked) == 6


@pytest.mark.parametrize("start", [
    "0127-07-08", "0999-01", "1969-12-31", "9999-01-01", "0001-01-01T00:00:00+23:00", "2026-11-24T13:00:00.5Z",
    "2026-1", "2026-13", "2026-02-30", "24.11.2026", "2026-11-24T13:00:00", "2026-11-24T13:00:00+99:00",
    "2100-01-01", "now",
])  # fmt: skip
def test_times_that_would_quietly_give_nothing_are_refused(start: str) -> None:
    with pytest.raises(InvalidParametersError) as error:
        query(start)
    assert start in str(error.value)


@pytest.mark.parametrize(
    ("start", "end"), [("2026-11-02", "2026-11-01"), ("2026-11-02", "2026-11-02"), (None, "2026-10")]
)
def test_a_range_that_is_empty_is_refused(start: str | None, end: str) -> None:
    with pytest.raises(InvalidParametersError, match="empty"):
        query(start, end)


def test_an_account_that_can_be_none_is_refused() -> None:
    with pytest.raises(InvalidParametersError, match="12 digits"):
        query(None, filters={"account": ["12345"]})


def test_other_ranges_are_cut_at_any_second() -> None:
    assert time_range("2026-11-24T13:29:59Z", None, default_s=(0, NOW_S), now_s=NOW_S) == (NOW_S - 1, NOW_S)


def start_of(text: str) -> int:
    return time_range(text, "2026-12", default_s=(0, 0), now_s=NOW_S)[0]


def test_times_are_rfc_3339_dates_or_months_in_utc() -> None:
    assert start_of("2026-11-24T13:00:00Z") == start_of("2026-11-24T14:00:00+01:00") == HOUR
    assert start_of("2026-11") == start_of("2026-11-01") == start_of("2026-11-01T00:00:00Z")


def test_a_month_or_a_date_alone_means_all_of_it() -> None:
    november = time_range("2026-11", None, default_s=(0, 0), now_s=NOW_S)
    assert november[1] - november[0] == 30 * DAY_S
    day = time_range("2026-11-24", None, default_s=(0, 0), now_s=NOW_S)
    assert day[1] - day[0] == DAY_S


def test_every_problem_of_a_question_is_found_at_once() -> None:
    with pytest.raises(InvalidParametersError) as error:
        query(
            "2026-13", "soon", group_by="colour,usage_type", detail="weight", filters={"account": ["1", f"2,{ACCOUNT}"]}
        )
    assert [(each.parameter, each.value) for each in error.value.problems] == [
        ("group_by", "colour"), ("detail", "weight"), ("account", "1"), ("account", "2"), ("from", "2026-13"),
        ("to", "soon"),
    ]  # fmt: skip


def test_a_list_of_columns_that_names_none_is_refused() -> None:
    with pytest.raises(InvalidParametersError, match="names no column"):
        query(None, group_by=" , ")


def test_a_range_of_two_centuries_asks_for_no_more_months_than_there_are(world: World) -> None:
    calls: list[str] = []
    world.items.on_call = calls.append
    try:
        assert total(world, query("1970-01-01", "2200-01-01")) == 31
    finally:
        world.items.on_call = lambda _call: None
    asked = [call for call in calls if call in {"items.query", "items.get"}]
    assert len(asked) < 10
    short = query(rfc3339(HOUR - DAY_S), rfc3339(HOUR + HOUR_S))
    assert total(world, short) == 31


def test_a_range_of_two_centuries_over_nothing_asks_for_nothing() -> None:
    empty = World()
    assert total(empty, query("1970-01-01", "2200-01-01")) == 0
