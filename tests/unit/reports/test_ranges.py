"""Time ranges are parsed in all forms in which people write them."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.hours import parse_hour, rfc3339
from metering.reports.query import UsageParameters, UsageQuery
from metering.reports.source import report_rows
from metering.reports.time_range import (
    TIMES_HELP,
    WORDS,
    InvalidParametersError,
    shown,
    splits_an_hour,
    time_range,
    zone_of,
)
from metering.units import DAY_S, HOUR_S
from tests.support.examples import examples
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S, World, record


def query(start: str | None, end: str | None = None, **more: object) -> UsageQuery:
    options: dict[str, object] = {"filters": {"account": [ACCOUNT]}, **more}
    return UsageParameters(start=start, end=end, **options).query(now_s=NOW_S)  # type: ignore[arg-type]  # as named


@pytest.fixture(scope="module")
def world() -> World:
    """Records of 1 and 2 bytes in the lake, and 4, 8 and 16 in staging, at minutes 0, 10, 29, 30 and 70."""
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
    assert all(rfc3339(hour_s) in problem.problem for hour_s in (HOUR - HOUR_S, HOUR))


def test_without_times_it_is_this_month_up_to_the_end_of_this_hour(world: World) -> None:
    asked = query(None)
    assert (asked.from_s, asked.to_s) == (parse_hour("2026-11-01T00"), HOUR + HOUR_S)
    assert total(world, asked) == total(world, query(None, detail="resource_id")) == 31


@examples(40)
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


def test_other_ranges_are_cut_at_any_second() -> None:
    assert time_range("2026-11-24T13:29:59Z", None, default_s=(0, NOW_S), now_s=NOW_S) == (NOW_S - 1, NOW_S)


def start_of(text: str) -> int:
    return time_range(text, "2026-12", default_s=(0, 0), now_s=NOW_S)[0]


def test_times_are_rfc_3339_dates_or_months_in_utc() -> None:
    assert start_of("2026-11-24T13:00:00Z") == start_of("2026-11-24T14:00:00+01:00") == HOUR
    assert start_of("2026-11") == start_of("2026-11-01") == start_of("2026-11-01T00:00:00Z")


def test_a_month_or_a_date_alone_means_all_of_it() -> None:
    for text, days in (("2026-11", 30), ("2026-11-24", 1)):
        from_s, to_s = time_range(text, None, default_s=(0, 0), now_s=NOW_S)
        assert to_s - from_s == days * DAY_S


def test_every_problem_of_a_question_is_found_at_once() -> None:
    accounts = {"account": ["1", f"2,{ACCOUNT}"]}
    with pytest.raises(InvalidParametersError) as error:
        query("2026-13", "soon", group_by="colour,usage_type", detail="weight", filters=accounts)
    assert [(each.parameter, each.value) for each in error.value.problems] == [
        ("group_by", "colour"), ("detail", "weight"), ("account", "1"), ("account", "2"), ("from", "2026-13"),
        ("to", "soon"),
    ]  # fmt: skip


@pytest.mark.parametrize(("more", "why"), [
    ({"group_by": " , "}, "names no column"), ({"filters": {"account": ["12345"]}}, "12 digits"),
])  # fmt: skip
def test_a_list_of_columns_that_names_none_and_an_account_that_can_be_none_are_refused(
    more: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidParametersError, match=why):
        query(None, **more)


def test_a_range_of_two_centuries_asks_for_no_more_months_than_there_are(world: World) -> None:
    calls: list[str] = []
    world.items.on_call = calls.append
    try:
        assert total(world, query("1970-01-01", "2200-01-01")) == 31
    finally:
        world.items.on_call = lambda _call: None
    assert calls.count("items.query") + calls.count("items.get") < 10
    assert total(world, query(rfc3339(HOUR - DAY_S), rfc3339(HOUR + HOUR_S))) == 31
    assert total(World(), query("1970-01-01", "2200-01-01")) == 0


BERLIN = ZoneInfo("Europe/Berlin")
EVER = (0, NOW_S + HOUR_S)


def asked(
    start: str | None = None, end: str | None = None, *, last: str | None = None, zone: tzinfo = UTC, now_s: int = NOW_S
) -> tuple[str, str]:
    first, after = time_range(start, end, default_s=EVER, now_s=now_s, last=last, zone=zone)
    return shown(first), shown(after)


def refused(start: str | None = None, end: str | None = None, **more: object) -> str:
    with pytest.raises(InvalidParametersError) as error:
        time_range(start, end, **{"default_s": EVER, "now_s": NOW_S, **more})  # type: ignore[arg-type]  # its options
    [problem] = error.value.problems
    return f"{problem.parameter} {problem.value} {problem.problem} {problem.advice}"


@pytest.mark.parametrize(("word", "start", "end"), [
    ("today", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"),
    ("yesterday", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"),
    ("this-month", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
    ("last-month", "2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"),
])  # fmt: skip
def test_a_word_alone_means_all_of_its_day_or_month(word: str, start: str, end: str) -> None:
    assert asked(word) == (start, end)
    assert asked("2026-09", word) == ("2026-09-01T00:00:00Z", start)


@pytest.mark.parametrize(("span", "start"), [
    ("1h", "2026-11-24T13:00:00Z"), ("24h", "2026-11-23T14:00:00Z"),
    ("1d", "2026-11-24T00:00:00Z"), ("7d", "2026-11-18T00:00:00Z"), ("2w", "2026-11-11T00:00:00Z"),
    ("1m", "2026-11-01T00:00:00Z"), ("3m", "2026-09-01T00:00:00Z"), ("12m", "2025-12-01T00:00:00Z"),
])  # fmt: skip
def test_a_span_has_whole_days_and_months_and_ends_with_the_hour_that_runs(span: str, start: str) -> None:
    assert asked(last=span) == (start, "2026-11-24T14:00:00Z")


@pytest.mark.parametrize("span", ["7", "d", "0d", "-1d", "7y", "1.5d", "7 d", "7D", "99999d", ""])
def test_a_span_that_is_none_is_refused(span: str) -> None:
    if span:
        assert "Write it as 24h, 7d, 2w or 3m (months)." in refused(last=span)
    else:
        assert asked(last=span) == (shown(EVER[0]), shown(EVER[1]))


def test_a_span_that_begins_before_all_years_is_refused_and_a_span_stands_alone() -> None:
    for span in ("9999m", "9999w"):
        assert "outside the years" in refused(last=span)
    for start, end in (("2026-11", None), (None, "2026-11"), ("today", "today")):
        assert refused(start, end, last="7d").startswith("last 7d cannot stand beside")


def test_dates_months_words_and_times_without_a_zone_are_those_of_the_zone() -> None:
    assert asked("2026-11-24", zone=BERLIN) == ("2026-11-23T23:00:00Z", "2026-11-24T23:00:00Z")
    assert asked("2026-10", zone=BERLIN) == ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z")
    assert asked("today", zone=BERLIN) == ("2026-11-23T23:00:00Z", "2026-11-24T23:00:00Z")
    assert asked(last="2d", zone=BERLIN) == ("2026-11-22T23:00:00Z", "2026-11-24T14:00:00Z")
    noon, one = "2026-11-24T12:00:00Z", "2026-11-24T13:00:00Z"
    assert asked("2026-11-24T13:00:00", one, zone=BERLIN) == (noon, one)
    late_s = int(datetime(2026, 11, 30, 23, 30, tzinfo=UTC).timestamp())
    assert asked("this-month", zone=BERLIN, now_s=late_s)[0] == "2026-11-30T23:00:00Z", "December has begun there"


def test_the_day_of_a_change_of_clocks_has_its_own_length() -> None:
    assert asked("2026-10-25", zone=BERLIN) == ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z")
    assert asked("2026-03-29", zone=BERLIN) == ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z")


@pytest.mark.parametrize("time", ["2026-10-25T02:30:00", "2026-03-29T02:30:00"])
def test_a_time_that_is_twice_or_never_there_is_refused_with_both_offsets(time: str) -> None:
    assert all(offset in refused(time, zone=BERLIN) for offset in ("+01:00", "+02:00"))


def test_a_day_that_begins_within_an_hour_is_refused_with_its_two_hours() -> None:
    words = refused("2026-11-24", zone=ZoneInfo("Asia/Kolkata"), whole_hours=True)
    assert "2026-11-23T18:00:00Z and 2026-11-23T19:00:00Z" in words
    assert refused(last="7d", zone=ZoneInfo("Asia/Kolkata"), whole_hours=True).startswith("last 7d is not on the hour")
    # Lord Howe's clocks are set back by half an hour: April begins on a full hour and ends between two full hours.
    words = refused("2026-04", zone=ZoneInfo("Australia/Lord_Howe"), whole_hours=True)
    assert "from 2026-04 is not on the hour" in words


@pytest.mark.parametrize(("zone", "start", "end", "splits"), [
    ("Europe/Berlin", "2026-01-01", "2026-11-01", False),
    ("Asia/Kolkata", "2026-11-01", "2026-11-02", True),
    ("Australia/Lord_Howe", "2026-02-01", "2026-03-01", False),
    ("Australia/Lord_Howe", "2026-02-01", "2026-11-01", True),
])  # fmt: skip
def test_days_of_a_zone_are_sums_of_hours_only_if_they_begin_on_one(
    zone: str, start: str, end: str, splits: bool
) -> None:
    from_s, to_s = (int(datetime.fromisoformat(f"{day}T00:00:00Z").timestamp()) for day in (start, end))
    assert splits_an_hour(from_s, to_s, ZoneInfo(zone)) is splits
    parameters = UsageParameters(start=f"{start}T00:00:00Z", end=f"{end}T00:00:00Z", group_by="day", zone=zone)
    if splits:
        with pytest.raises(InvalidParametersError, match="begin within a UTC hour"):
            parameters.query(now_s=NOW_S)
    else:
        assert parameters.query(now_s=NOW_S).zone == ZoneInfo(zone)


def test_a_zone_that_is_none_is_refused_with_the_nearest() -> None:
    assert zone_of(None) is zone_of("UTC") is zone_of("utc") is UTC
    assert zone_of("Europe/Berlin") == BERLIN
    # If no times are given, the month is that of the time zone.
    assert shown(UsageParameters(zone="Europe/Berlin").query(now_s=NOW_S).from_s) == "2026-10-31T23:00:00Z"
    for name, near in (("europe/berlin", "Europe/Berlin"), ("Berlin", ""), ("../etc/passwd", ""), ("Europe", "")):
        with pytest.raises(InvalidParametersError) as error:
            zone_of(name)
        assert near in error.value.problems[0].advice


def test_the_help_names_every_word_and_what_is_done_with_zones() -> None:
    for said in (*WORDS, "--last", "24h", "--tz", "UTC hour"):
        assert said in TIMES_HELP
