"""A line is asked for by one account, filters and a range of whole hours; every problem is told at once."""

from __future__ import annotations

import pytest

from metering.reports.query import LINE_FILTERS, TraceParameters
from metering.reports.time_range import InvalidParametersError
from metering.units import HOUR_S
from tests.support.lake_world import ACCOUNT, HOUR, NOW_S


def problems(**texts: str) -> list[tuple[str, str]]:
    filters = {name: texts.pop(name) for name in LINE_FILTERS if name in texts}
    with pytest.raises(InvalidParametersError) as raised:
        TraceParameters(**texts, filters=filters).query(now_s=NOW_S)
    return [(each.parameter, each.problem) for each in raised.value.problems]


def test_an_hour_is_one_hour_and_nothing_more() -> None:
    query = TraceParameters(account=ACCOUNT, hour="2026-11-24T14:00:00+01:00").query(now_s=NOW_S)
    assert (query.from_s, query.to_s) == (HOUR, HOUR + HOUR_S)
    assert query.accounts == {ACCOUNT}


def test_without_a_range_the_line_is_of_this_month() -> None:
    query = TraceParameters(account=ACCOUNT, filters={"usage_type": "NAT", "service": "AmazonEC2"}).query(now_s=NOW_S)
    assert query.to_s == HOUR + HOUR_S
    assert (set(query.usage_types), set(query.services)) == ({"NAT"}, {"AmazonEC2"})


def test_no_account_and_several_accounts_are_refused() -> None:
    assert problems() == [("account", "names no account.")]
    assert ("account", "names several accounts.") in problems(account=f"{ACCOUNT},210987654321")


@pytest.mark.parametrize(
    ("hour", "problem"),
    [
        ("2026-11-24", "is not an hour with its time zone."),
        ("soon", "is not an hour."),
        ("", "is not an hour."),
        ("2026-11-24T13:30:00Z", "is not on the hour."),
        ("2026-11-24T13:00:00.5Z", "is not on the hour."),
        ("0001-01-01T00:00:00+05:00", "lies outside the years that a report can be about."),
        ("9999-12-31T23:00:00-05:00", "lies outside the years that a report can be about."),
        ("2026-12-24T13:00:00Z", "lies in the future: nothing is booked there yet."),
    ],
)
def test_what_is_no_hour_is_refused_under_its_own_name(hour: str, problem: str) -> None:
    assert problems(account=ACCOUNT, hour=hour) == [("hour", problem)]


def test_an_hour_beside_a_range_is_refused_with_all_other_problems() -> None:
    found = problems(hour="2026-11-24T13:00:00Z", start="2026-11-25", end="2026-11", service="not a service")
    assert [parameter for parameter, _ in found] == ["account", "hour", "service", "from"]
