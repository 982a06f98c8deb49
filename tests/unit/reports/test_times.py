"""Words, spans and zones: which seconds they mean, and which of them are refused."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest

from metering.reports.query import UsageParameters
from metering.reports.time_range import (
    TIMES_HELP,
    WORDS,
    InvalidParametersError,
    shown,
    splits_an_hour,
    time_range,
    zone_of,
)
from metering.units import HOUR_S
from tests.support.lake_world import NOW_S

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
    ("1h", "2026-11-24T13:00:00Z"),
    ("24h", "2026-11-23T14:00:00Z"),
    ("1d", "2026-11-24T00:00:00Z"),
    ("7d", "2026-11-18T00:00:00Z"),
    ("2w", "2026-11-11T00:00:00Z"),
    ("1m", "2026-11-01T00:00:00Z"),
    ("3m", "2026-09-01T00:00:00Z"),
    ("12m", "2025-12-01T00:00:00Z"),
])  # fmt: skip
def test_a_span_has_whole_days_and_months_and_ends_with_the_hour_that_runs(span: str, start: str) -> None:
    assert asked(last=span) == (start, "2026-11-24T14:00:00Z")


@pytest.mark.parametrize("span", ["7", "d", "0d", "-1d", "7y", "1.5d", "7 d", "7D", "99999d", ""])
def test_a_span_that_is_none_is_refused(span: str) -> None:
    if span:
        assert "Write it as 24h, 7d, 2w or 3m (months)." in refused(last=span)
    else:
        assert asked(last=span) == (shown(EVER[0]), shown(EVER[1]))


def test_a_span_that_begins_before_all_years_is_refused() -> None:
    for span in ("9999m", "9999w"):
        assert "outside the years" in refused(last=span)


def test_a_span_stands_alone() -> None:
    for start, end in (("2026-11", None), (None, "2026-11"), ("today", "today")):
        assert refused(start, end, last="7d").startswith("last 7d cannot stand beside")


def test_dates_months_words_and_times_without_a_zone_are_those_of_the_zone() -> None:
    assert asked("2026-11-24", zone=BERLIN) == ("2026-11-23T23:00:00Z", "2026-11-24T23:00:00Z")
    assert asked("2026-10", zone=BERLIN) == ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z")
    assert asked("today", zone=BERLIN) == ("2026-11-23T23:00:00Z", "2026-11-24T23:00:00Z")
    assert asked(last="2d", zone=BERLIN) == ("2026-11-22T23:00:00Z", "2026-11-24T14:00:00Z")
    assert asked("2026-11-24T13:00:00", "2026-11-24T13:00:00Z", zone=BERLIN) == (
        "2026-11-24T12:00:00Z",
        "2026-11-24T13:00:00Z",
    )
    late_s = int(datetime(2026, 11, 30, 23, 30, tzinfo=UTC).timestamp())
    assert asked("this-month", zone=BERLIN, now_s=late_s)[0] == "2026-11-30T23:00:00Z", "December has begun there"


def test_the_day_of_a_change_of_clocks_has_its_own_length() -> None:
    assert asked("2026-10-25", zone=BERLIN) == ("2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z")
    assert asked("2026-03-29", zone=BERLIN) == ("2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z")


@pytest.mark.parametrize("time", ["2026-10-25T02:30:00", "2026-03-29T02:30:00"])
def test_a_time_that_is_twice_or_never_there_is_refused_with_both_offsets(time: str) -> None:
    words = refused(time, zone=BERLIN)
    assert "+01:00" in words
    assert "+02:00" in words


def test_a_day_that_begins_within_an_hour_is_refused_with_its_two_hours() -> None:
    words = refused("2026-11-24", zone=ZoneInfo("Asia/Kolkata"), whole_hours=True)
    assert "2026-11-23T18:00:00Z and 2026-11-23T19:00:00Z" in words
    assert refused(last="7d", zone=ZoneInfo("Asia/Kolkata"), whole_hours=True).startswith("last 7d is not on the hour")


def test_an_end_that_a_month_implies_is_not_cut_either() -> None:
    """Clocks of Lord Howe go back by half an hour: April begins on the hour and ends off it."""
    assert "from 2026-04 is not on the hour" in refused(
        "2026-04", zone=ZoneInfo("Australia/Lord_Howe"), whole_hours=True
    )


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
    for name, near in (("europe/berlin", "Europe/Berlin"), ("Berlin", ""), ("../etc/passwd", ""), ("Europe", "")):
        with pytest.raises(InvalidParametersError) as error:
            zone_of(name)
        assert near in error.value.problems[0].advice


def test_without_times_a_zone_has_its_own_month() -> None:
    query = UsageParameters(zone="Europe/Berlin").query(now_s=NOW_S)
    assert shown(query.from_s) == "2026-10-31T23:00:00Z"


def test_the_help_names_every_word_and_what_is_done_with_zones() -> None:
    for said in (*WORDS, "--last", "24h", "--tz", "UTC hour"):
        assert said in TIMES_HELP
