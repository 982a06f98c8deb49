"""`/v1/accounts`: who sees which accounts, and pages of every order."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

import jsonschema
import pytest

from metering.api.resources.accounts import ACCOUNTS
from metering.reports.accounts import COLUMNS, AccountsParameters
from metering.reports.answer import encoded_bytes
from metering.wiring.answers.accounts import accounts_of
from tests.api.world import FIRST, SECOND, THIRD, ApiWorld, traffic
from tests.support.day_sums import keep_day_sums
from tests.support.lake_world import NOW_S, World, record


@cache
def world() -> ApiWorld:
    """A region with some accounts more, that no test of this module changes."""
    made = traffic(World())
    made.send([record(10 ** (number % 4), account=f"4444{number:08d}") for number in range(20)])
    made.compact_all()
    keep_day_sums(made)
    return ApiWorld(made)


def test_it_is_the_answer_of_the_command_line() -> None:
    query = AccountsParameters(month="2026-11", sort="bytes:desc").query(now_s=NOW_S)
    answer = accounts_of(world().parts.regions, query, now_s=NOW_S)
    asked = "/v1/accounts?month=2026-11&sort=bytes:desc"
    for form in ("json", "ndjson", "csv", "parquet"):
        assert world().get(f"{asked}&format={form}").content == encoded_bytes(answer, form)
    assert len(answer.rows) == 23


def test_answers_have_the_form_that_the_document_says() -> None:
    for asked in ("", "?top=2", "?limit=2", "?month=2026-10&sort=bytes:desc", f"?account={FIRST}&prefix=1"):
        jsonschema.validate(world().json(f"/v1/accounts{asked}"), dict(ACCOUNTS.schema))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**world().json("/v1/accounts"), "rows": [{"account_id": FIRST}]}, dict(ACCOUNTS.schema))


def test_a_customer_sees_its_own_account_alone() -> None:
    everything = world().json("/v1/accounts")["rows"]
    assert {FIRST, SECOND, THIRD} < {row["account_id"] for row in everything}
    for token, account in (("first", FIRST), ("second", SECOND)):
        for asked in ("", f"?prefix={account[0]}", f"?account={account}", "?sort=bytes:desc", "?top=1", "?limit=1"):
            answer = world().json(f"/v1/accounts{asked}", token)
            assert answer["rows"] == [row for row in everything if row["account_id"] == account]
            assert answer.get("next") is None
            assert answer.get("rows_total", 1) == 1
    assert world().get(f"/v1/accounts?account={SECOND}", "first").status_code == 403
    assert world().json(f"/v1/accounts?prefix={SECOND[0]}", "first")["rows"] == []


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_pages_together_are_the_whole(column: str, direction: str) -> None:
    asked = f"/v1/accounts?sort={column}:{direction}"
    rows: list[Any] = []
    cursor = ""
    while True:
        page = world().json(f"{asked}&limit=7{cursor}")
        rows += page["rows"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert rows == world().json(asked)["rows"]


def test_pages_that_are_begun_in_a_month_stay_in_it() -> None:
    own = ApiWorld(traffic(World()))
    keep_day_sums(own.world)
    page = own.json("/v1/accounts?limit=1")
    own.world.clock.advance_s(10 * 86_400)

    following = own.json(f"/v1/accounts?limit=1&cursor={page['next']}")
    assert (following["month"], [row["account_id"] for row in following["rows"]]) == ("2026-11", [SECOND])
    assert own.json("/v1/accounts")["month"] == "2026-12"


def test_pages_by_figures_end_when_the_figures_move_and_no_account_is_left_out() -> None:
    own = ApiWorld(traffic(World()))
    keep_day_sums(own.world)
    asked = "/v1/accounts?sort=bytes:desc&limit=1"
    page = own.json(asked)
    own.world.send([record(10**16, start_s=NOW_S, account=FIRST)])
    own.world.compact_all()
    keep_day_sums(own.world)

    # The smallest account has become the largest, and would stand on no page.
    answer = own.get(f"{asked}&cursor={page['next']}")
    assert answer.status_code == 422
    assert "have changed since the first page" in answer.json()["detail"]
    by_id = own.json("/v1/accounts?limit=1")["next"]
    own.world.send([record(1, start_s=NOW_S, account=THIRD)])
    own.world.compact_all()
    keep_day_sums(own.world)
    assert own.get(f"/v1/accounts?limit=1&cursor={by_id}").status_code == 200


@pytest.mark.parametrize("fixed", [[], [0], [202611, 5], [-5, 0], [10**40, 0], [202713, 0], [1, 2, 3]])
def test_a_cursor_that_was_made_up_is_no_fault_of_ours(fixed: list[int]) -> None:
    cursor = world().json("/v1/accounts?limit=1")["next"]
    question, after, _ = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    for names in (after, ["x"], ["9", "9"], [""]):
        made = base64.urlsafe_b64encode(json.dumps([question, names, fixed]).encode()).decode().rstrip("=")
        answer = world().get(f"/v1/accounts?limit=1&cursor={made}")
        assert answer.status_code in {200, 422}, answer.text


def test_a_closed_month_may_be_kept_for_a_day() -> None:
    answer = world().get("/v1/accounts?month=2026-10")
    assert answer.headers["cache-control"] == "private, max-age=86400"
    assert answer.json()["periods"] == {"2026-10": "closed"}
    assert world().get("/v1/accounts").headers["cache-control"] == "private, max-age=30"


def test_a_region_that_was_never_summed_says_what_to_do() -> None:
    new = ApiWorld(traffic(World()))
    answer = new.get("/v1/accounts")
    assert answer.status_code == 422
    assert "metering budget update" in answer.json()["detail"]
    told = new.get("/v1/accounts", "first").json()["detail"]
    assert told == "The accounts of 2026-11 are not summed. Ask again in an hour, or ask /v1/usage."


def test_a_mistyped_question_is_refused() -> None:
    for asked, status in (
        ("mont=2026-11", 400), ("month=11", 400), ("month=2026-13", 422), ("prefix=x", 400), ("sort=foo", 422),
        ("sort=bytes:down", 400), ("account=1", 400),
    ):  # fmt: skip
        assert world().get(f"/v1/accounts?{asked}").status_code == status, asked


def test_a_customer_is_told_up_to_when_it_is_counted_and_nothing_of_what_others_have_waiting() -> None:
    """H-F2 over HTTP: what waits is known over all accounts only, so it is told to who asks for all."""
    made = traffic(World())
    made.compact_all()
    keep_day_sums(made)
    made.send([record(7, account=FIRST), record(1_000, account=SECOND)])
    api = ApiWorld(made)
    asked = "/v1/accounts?month=2026-11"
    everything = api.json(asked, "analyst")
    assert everything.get("not_counted") == {"bytes": "1007", "records": 2, "at_least": False}
    own = api.json(asked, "first")
    assert "not_counted" not in own
    assert own["counted_through"] == everything["counted_through"] == "2026-11-24T13:30:00Z"
