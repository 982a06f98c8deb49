"""Limits on the cost of a request: checked before any read, exact at the boundary."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from metering.api.resources import usage
from metering.ledger.usage.region import START_KEY
from metering.reports.query import ReadBudget, UsageParameters, most_hours, partitions_of, warnings_of
from metering.reports.time_range import InvalidParametersError
from metering.reports.usage_rows import summed
from metering.stores.writes import Table
from metering.units import DAY_S, HOUR_S
from metering.usage.totals import Total
from tests.api.world import FIRST, SECOND, THIRD, ApiWorld, read_cursor, written_cursor
from tests.api.world import at_rest as world
from tests.support.lake_world import NOW_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from metering.api.asking import Asked, Reply


@pytest.fixture
def calls() -> Iterator[list[str]]:
    """Calls to the stores during the test."""
    with world().calls() as made:
        yield made


@pytest.mark.parametrize(("asked", "parameter"), [
    ("/v1/usage?from=1970-01-01", "from"),
    ("/v1/usage?from=2019-12-31", "from"),
    ("/v1/usage?from=1970-01-01&to=2200-01-01&account=123456789012", "from"),
    ("/v1/usage?from=2026-01&to=2199-01-01", "to"),
    ("/v1/usage?from=2026-01&to=9998-01-01&tz=Asia/Tokyo&group_by=day", "to"),
    ("/v1/usage?from=2025-10&to=2026-11-02", "from"),
    ("/v1/cost?from=1970-01-01&to=2026-11-01", "from"),
    ("/v1/cost?from=2025-01&to=2026-11-01", "from"),
    (f"/v1/usage?from=2025-11&to=2026-11-02&account={','.join(f'{n:012}' for n in range(16))}", "account"),
    (f"/v1/cost?from=2025-11&to=2026-11-02&account={','.join(f'{n:012}' for n in range(16))}", "account"),
])  # fmt: skip
def test_too_much_is_refused_before_a_single_call(calls: list[str], asked: str, parameter: str) -> None:
    began_s = time.process_time()
    answer = world().get(asked)
    assert answer.status_code == 422, answer.text
    assert parameter in {each["parameter"] for each in answer.json()["errors"]}
    assert calls == []
    assert time.process_time() - began_s < 1


def test_as_many_partitions_as_may_be_are_read_and_one_more_is_not() -> None:
    # 15 accounts in 13 months have 195 partitions, and 16 accounts have 208.
    accounts = [f"{number:012}" for number in range(16)]
    asked = "/v1/usage?from=2025-11&to=2026-11-02&account="
    assert world().get(asked + ",".join(accounts[:15])).status_code == 200
    answer = world().get(asked + ",".join(accounts))
    assert "16 accounts in 13 months are 208 partitions of the usage table, and 200 are the most" in answer.text
    limited = world().limited(partitions=13)
    assert limited.get(f"{asked}{FIRST}").status_code == 200
    assert limited.get(f"{asked}{FIRST},{SECOND}").status_code == 422


def test_a_customer_with_many_accounts_has_the_same_budget() -> None:
    limited = world().limited(partitions=1)
    assert limited.get("/v1/usage", "first").status_code == 200
    assert limited.get("/v1/usage?from=2026-10&to=2026-11-02", "first").status_code == 422


def test_hours_with_rows_are_counted_and_those_of_closed_months_are_not() -> None:
    # November has traffic in 4 hours, and October, which is closed, in one hour.
    whole = "/v1/usage?from=2026-10-01&to=2026-11-24T14:00:00Z"
    for hours, asked, status in (
        (5, "detail=resource_id", 200),
        (4, "detail=resource_id", 422),
        (0, f"account={FIRST}", 200),
        (0, "", 200),
        (0, "group_by=account_id", 200),
    ):
        answer = world().limited(hours=hours).get(f"{whole}&{asked}")
        assert answer.status_code == status, answer.text


def test_hours_are_read_where_the_totals_of_the_region_are_not_complete() -> None:
    fresh = deepcopy(world().world)
    fresh.items.remove(Table.USAGE, START_KEY)
    for most, status in ((4, 200), (3, 422)):
        answer = ApiWorld(fresh).limited(hours=most).get("/v1/usage?from=2026-10-01&to=2026-11-24T14:00:00Z")
        assert answer.status_code == status, answer.text
    assert "4 hours that have to be read from the lake, and 3 are the most" in answer.text


def test_what_a_request_cost_is_told_to_the_log() -> None:
    fresh = ApiWorld(world().world)
    fresh.get(f"/v1/usage?from=2026-10-01&to=2026-11-24T14:00:00Z&account={FIRST},{SECOND}")
    fresh.get("/v1/usage?last=2d")
    fresh.get("/v1/usage", None)
    by_account, of_region, stranger = fresh.logged
    assert (by_account.route, by_account.status, by_account.token_id) == ("/v1/usage", 200, "analyst")
    assert (by_account.partitions, by_account.hours) == (4, 0)
    assert by_account.rows > 0
    assert (of_region.partitions, of_region.hours) == (1, 0)
    assert (stranger.status, stranger.token_id) == (401, "")


def test_a_made_up_cursor_buys_nothing(calls: list[str]) -> None:
    asked = "/v1/usage?from=2026-11&group_by=account_id,day"
    first = world().json(f"{asked}&limit=1")
    question, after, (from_s, to_s) = read_cursor(first["next"])
    calls.clear()
    no_ranges = [
        [0, to_s], [from_s, 2**37], [from_s, 10**30], [from_s], [to_s, from_s], [from_s + 1, to_s], [from_s, to_s, 1],
        ["1", to_s], [True, to_s], None,
    ]  # fmt: skip
    others = [[question, ["x"], [from_s, to_s]], [question, [1, 2], [from_s, to_s]], ["0" * 16, after, [from_s, to_s]]]
    for made in (*([question, after, fixed] for fixed in no_ranges), *others, [question], {}, 7):
        answer = world().get(f"{asked}&cursor={written_cursor(made)}")
        assert answer.status_code in {400, 422}, (made, answer.text)
    assert world().get(f"{asked}&cursor=!!!").status_code == 400
    assert world().get(f"{asked}&cursor=AAAA").status_code == 422
    # The cursor is refused for another query, and for another token.
    for other, who in ((f"{asked},to", "analyst"), (f"{asked}&account={FIRST}", "analyst"), (asked, "first")):
        assert world().get(f"{other}&cursor={first['next']}", who).status_code == 422


def test_pages_keep_the_range_of_the_first_one_when_time_goes_on() -> None:
    fresh = ApiWorld()
    asked = "/v1/usage?last=2d&group_by=account_id,hour,to"
    whole = fresh.json(asked)
    first = fresh.json(f"{asked}&limit=3")
    fresh.world.clock.advance_s(DAY_S)
    second = fresh.json(f"{asked}&limit=1000&cursor={first['next']}")
    assert second["query"]["from"] == first["query"]["from"]
    assert first["rows"] + second["rows"] == whole["rows"]


def test_pages_of_rows_in_the_order_of_figures_are_refused() -> None:
    for ranked in ("sort=bytes:desc", "top=3"):
        answer = world().get(f"/v1/usage?{ranked}&limit=2")
        assert answer.status_code == 422
        assert "figures move between pages" in answer.json()["detail"]


def test_a_request_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(asked: Asked) -> Reply:
        time.sleep(0.3)
        raise AssertionError(asked)

    slowed = world().limited(deadline_s=0.05)
    monkeypatch.setattr(usage, "RESOURCES", (replace(usage.USAGE, answer=slow),))
    answer: httpx.Response = slowed.get("/v1/usage")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "30"
    assert answer.json()["type"] == "urn:metering:problem:too-late"


def test_a_budget_counts_what_the_question_says() -> None:
    asked = UsageParameters(start="2026-10", end="2026-11-24", filters={"account": ["1" * 12, "2" * 12]})
    query = asked.query(now_s=NOW_S)
    assert (partitions_of(query, now_s=NOW_S), most_hours(query, now_s=NOW_S)) == (4, 0)
    fleet = UsageParameters(last="24h").query(now_s=NOW_S)
    assert (partitions_of(fleet, now_s=NOW_S), most_hours(fleet, now_s=NOW_S)) == (0, 24)
    assert list(warnings_of(fleet, now_s=NOW_S, hours=168)) == []
    [warned] = warnings_of(fleet, now_s=NOW_S, hours=169)
    assert warned.startswith("This reads 169 hours from the lake.")
    budget = ReadBudget(first_year=2020)
    in_2020 = 1_577_836_800
    assert budget.of_range(in_2020, in_2020 + HOUR_S, now_s=NOW_S) == []
    assert [each.parameter for each in budget.of_range(in_2020 - 1, in_2020 + HOUR_S, now_s=NOW_S)] == ["from"]


def test_rows_are_counted_while_they_are_summed() -> None:
    columns = "group_by=account_id,to,day"
    rows = len(world().json(f"/v1/usage?from=2026-11&{columns}")["rows"])
    for asked in ("/v1/usage?from=2026-11", "/v1/cost?month=2026-11"):
        assert world().limited(summed_rows=rows).get(f"{asked}&{columns}").status_code == 200
        answer = world().limited(summed_rows=rows - 1).get(f"{asked}&{columns}&limit=1")
        assert answer.status_code == 422
        assert f"would give more than {rows - 1:,} rows" in answer.json()["detail"]


def test_memory_ends_with_the_rows_that_may_be_summed() -> None:
    """A query with very many groups is stopped early, so that it never holds more rows than allowed."""
    made = 0

    def entries() -> Iterator[tuple[tuple[str, ...], Total]]:
        nonlocal made
        for number in range(1_000_000):
            made += 1
            yield (str(number),), Total(1, 1)

    with pytest.raises(InvalidParametersError):
        summed(entries(), most=1_000)
    assert made == 1_001


def test_a_customer_of_a_large_payer_asks_for_costs_month_by_month() -> None:
    # Tiers depend on the payer and its two accounts, so three partitions are read per month.
    assert world().limited(partitions=3).get("/v1/cost?month=2026-11", "first").status_code == 200
    answer = world().limited(partitions=5).get("/v1/cost?from=2026-10&to=2026-11-24", "first")
    assert answer.status_code == 422
    # A caller with access to one account must not learn how many accounts its payer has.
    assert "the payers' accounts are more than 5 partitions of the usage table" in answer.json()["detail"]
    assert THIRD not in answer.text


# A request with an unknown name has the same limits as one with a known name.
NOTHING = "&service=AmazonNone&usage_type=None-Bytes&from_location=eu-west-9&to_location=eu-west-9"
ASKED = {
    "by hour of the lake": "/v1/usage?last=3d&detail=resource_id",
    "by partition": "/v1/usage?from=2026-10&to=2026-11-24T14:00:00Z&group_by=day",
    "as of now": "/v1/usage?from=2026-11&to=2026-11-24T14:00:00Z&now=true",
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_filters_that_match_nothing_read_nothing_again(calls: list[str], asked: str) -> None:
    world().json(asked, "first")
    calls.clear()
    assert world().json(asked, "first")["rows"]
    plain = len(calls)
    calls.clear()
    assert world().json(asked + NOTHING, "first")["rows"] == []
    assert len(calls) <= 1.1 * plain, f"four filters that match nothing made {len(calls)} calls in place of {plain}"


def test_a_customer_is_told_which_of_its_names_its_usage_lacks() -> None:
    def unknown(filters: str) -> dict[str, str]:
        told = world().json(f"/v1/usage?from=2026-11&to=2026-11-24T14:00:00Z&{filters}", "first")
        assert all(each["nearest"] == [] for each in told.get("unknown", []))
        return {each["parameter"]: each["value"] for each in told.get("unknown", [])}

    # The account has both values, but not in the same row.
    assert unknown("service=AmazonEC2&to_location=eu-west-1") == {}
    both = {"service": "AmazonNone", "to_location": "eu-west-9"}
    assert unknown("service=AmazonEC2,AmazonNone&to_location=eu-west-9") == both
    assert unknown("service=AmazonNone&usage_type=DataTransfer-Out-Bytes") == {"service": "AmazonNone"}


def test_with_details_a_name_that_matched_nothing_is_not_said_to_be_nowhere() -> None:
    told = world().json(f"/v1/usage?last=3d&detail=resource_id&account={FIRST}{NOTHING}", "first")
    assert {each["cut"] for each in told["unknown"]} == {True}
