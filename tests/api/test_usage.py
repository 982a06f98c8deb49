"""`/v1/usage`: the rows and the format that each token gets."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

import jsonschema
import pytest

from metering.api.resources.cost import ACCOUNTS
from metering.fleet.regions import LedgerRegionStates, Phase, RegionState
from metering.ledger.notes.checks import CanaryRun, CanaryVerdict
from metering.ledger.notes.reconciliation import Reconciliation
from metering.ledger.notes.watch import COMPLETENESS_KEY
from metering.reports.accounts import COLUMNS, AccountsParameters
from metering.reports.answer import encoded_bytes
from metering.stores.writes import Put, Table
from metering.wiring.answers.accounts import accounts_of
from metering.wiring.answers.costs import own_billing
from tests.api.world import FIRST, PAYER, SECOND, THIRD, ApiWorld, WorldRegion, read_cursor, traffic, written_cursor
from tests.api.world import at_rest as world
from tests.support.budget_world import keep_day_sums
from tests.support.lake_world import NOW_S, World, record


def test_an_analyst_sees_every_account_and_a_customer_its_own() -> None:
    asked = "/v1/usage?from=2026-11&group_by=account_id"
    everything = world().json(asked)
    assert [row["account_id"] for row in everything["rows"]] == [FIRST, SECOND, THIRD]
    check_own(asked, everything["rows"])


def check_own(asked: str, everything: list[Any]) -> None:
    """Each customer sees only the rows of its own account."""
    for token, account in (("first", FIRST), ("second", SECOND)):
        assert world().json(asked, token)["rows"] == [row for row in everything if row["account_id"] == account]


def test_an_account_that_is_not_granted_is_refused_whether_it_exists_or_not() -> None:
    answers = [world().get(f"/v1/usage?account={account}", "first") for account in (SECOND, "999999999999")]
    assert [each.status_code for each in answers] == [403, 403]
    first, second = (json.loads(each.text.replace(SECOND, "999999999999")) for each in answers)
    assert first == second


def test_without_a_token_nothing_is_told() -> None:
    for token in (None, "nobody"):
        answer = world().get("/v1/usage?acount=1", token)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Bearer")


def test_a_mistyped_parameter_is_refused_with_its_name() -> None:
    answer = world().get("/v1/usage?acount=123456789012&from=x&group_by=foo,day&limit=0")
    assert answer.status_code == 400
    told = {each["parameter"]: each["detail"] for each in answer.json()["errors"]}
    assert set(told) == {"acount", "from", "group_by", "limit"}
    assert "Nearest: account." in told["acount"]
    assert told["group_by"].startswith("group_by foo is not one of the columns. The columns are: account_id, ")
    # Requests that the document allows but that make no sense get 422.
    answer = world().get("/v1/usage?sort=foo&from=2026-13&service=AmazonEC2")
    assert answer.status_code == 422
    assert {each["parameter"] for each in answer.json()["errors"]} == {"sort", "from"}


def test_pages_together_are_the_whole() -> None:
    asked = "/v1/usage?from=2026-11&group_by=account_id,day,to,service"
    whole = world().json(asked)["rows"]
    for limit in (1, 5, 10_000):
        pages = list(world().pages(f"{asked}&limit={limit}"))
        assert [row for page in pages for row in page["rows"]] == whole
        assert len(pages) == -(-len(whole) // limit)


def test_as_of_now_what_waits_is_counted_and_the_answer_is_kept_by_nobody() -> None:
    api = ApiWorld()
    asked = "/v1/usage?from=2026-11&group_by=account_id"
    before = api.json(asked, "first")["rows"]
    api.world.send([record(1_000, account=FIRST)], rolled_up=False)
    assert api.json(asked, "first")["rows"] == before
    answer = api.get(f"{asked}&now=true", "first")
    [row] = answer.json()["rows"]
    assert int(row["bytes"]) == int(before[0]["bytes"]) + 1_000
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["query"]["now"] is True
    api.world.roll_up()
    assert api.json(asked, "first")["rows"] == [row]


@pytest.mark.parametrize(("form", "media_type"), [
    ("ndjson", "application/x-ndjson"), ("csv", "text/csv; charset=utf-8"), ("json", "application/json"),
    ("parquet", "application/vnd.apache.parquet"),
])  # fmt: skip
def test_every_form_is_told_by_its_name_and_by_its_media_type(form: str, media_type: str) -> None:
    asked = "/v1/usage?from=2026-11&group_by=account_id"
    named = world().get(f"{asked}&format={form}")
    accepted = world().get(asked, accept=media_type.partition(";")[0])
    assert (named.status_code, named.content) == (200, accepted.content)
    assert named.headers["content-type"] == accepted.headers["content-type"] == media_type


def test_health_is_told_to_anyone_from_a_cache() -> None:
    fresh = ApiWorld(world().world)
    with fresh.calls() as calls:
        answers = [fresh.get("/v1/health", None) for _ in range(5)]
    assert [each.json() for each in answers] == [{"status": "ok"}] * 5
    assert len(calls) == 1


def test_what_waits_of_its_own_accounts_is_told_to_a_customer_and_nothing_of_others() -> None:
    api = ApiWorld()
    asked = "/v1/usage?from=2026-11&group_by=account_id"
    api.world.send([record(1_000, account=FIRST), record(77, account=THIRD)], rolled_up=False)
    told = api.json(asked, "first").get("waiting")
    assert told == {"bytes": "1000", "records": 1, "since": "2026-11-24T13:30:00Z"}
    assert "waiting" not in api.json(asked, "second")
    assert "waiting" not in api.json(f"{asked}&now=true", "first")


def test_a_customer_sees_the_cost_of_its_accounts_at_the_positions_of_who_pays_for_it() -> None:
    asked = "/v1/cost?month=2026-11&group_by=account_id"
    everything = world().json(asked)
    assert [row["account_id"] for row in everything["rows"]] == [FIRST, SECOND, THIRD]
    check_own(asked, everything["rows"])
    # The cost of each row is rounded, but the total is exact.
    assert abs(sum(Decimal(row["cost_usd"]) for row in everything["rows"]) - Decimal(everything["total_usd"])) < 1e-9
    assert everything["price_book"] == {"name": "aws-list", "version": 1}


@pytest.mark.parametrize("asked", [f"payer={PAYER}", "group_by=payer", f"account={SECOND}", f"payer={SECOND}"])
def test_a_customer_hears_of_no_other_account_not_even_who_pays(asked: str) -> None:
    answer = world().get(f"/v1/cost?month=2026-11&{asked}", "first")
    assert answer.status_code == 403
    assert world().get(f"/v1/cost?month=2026-11&{asked}").status_code == 200
    told = world().get("/v1/cost?group_by=tier,account_id", "first").text
    assert PAYER not in told
    assert THIRD not in told


def test_blended_is_no_parameter_any_more_and_what_has_blended_costs_is_said() -> None:
    answer = world().get("/v1/cost?month=2026-11&blended=true")
    assert answer.status_code == 400
    assert "There is no parameter blended. Exports in CUR have blended costs." in answer.json()["detail"]


def test_pages_of_costs_are_the_whole_also_beside_closed_months() -> None:
    asked = "/v1/cost?from=2026-10&to=2026-11-25&group_by=account_id,day,tier,to"
    whole = world().json(asked)
    assert whole["periods"] == {"2026-10": "draft", "2026-11": "draft"}
    pages = list(world().pages(f"{asked}&limit=7"))
    assert [row for page in pages for row in page["rows"]] == whole["rows"]
    assert {page["total_usd"] for page in pages} == {whole["total_usd"]}


def test_what_a_price_book_does_not_have_is_said_and_no_book_is_a_problem() -> None:
    assert {each["usage_type"] for each in world().json("/v1/cost")["unpriced"]}
    for name in ("nothing", "aws-list@9"):
        answer = world().get(f"/v1/cost?prices={name}")
        assert answer.status_code == 422
        assert "There is no" in answer.json()["detail"]


def test_costs_are_refused_where_not_all_regions_are_read() -> None:
    away = WorldRegion(world().world)
    for billing in (None, lambda: own_billing(away, home="eu-west-1")):
        apart = ApiWorld(world().world)
        apart.parts = replace(apart.parts, billing=billing)
        assert apart.get("/v1/cost").status_code == 422
    region = WorldRegion(ApiWorld().world)
    states = LedgerRegionStates(lambda: region.items)
    states.save(RegionState(region=region.region, phase=Phase.READY, deployments=1))
    assert own_billing(region).names == ["us-east-1"]
    states.save(RegionState(region="eu-west-1", phase=Phase.READY, deployments=1))
    answer = ApiWorld(region.world).get("/v1/cost")
    assert answer.status_code == 422
    assert "tiers count over all regions" in answer.json()["detail"]


def test_freshness_says_what_was_proved_to_staff_and_since_when_to_customers() -> None:
    fresh = ApiWorld()
    items = fresh.world.items
    last = Reconciliation(finished_s=NOW_S - 60, hours=3, differences=0)
    items.put(Put(table=Table.LEDGER, item=last.to_item()))
    for minutes, verdict in ((9, CanaryVerdict.GOOD), (4, CanaryVerdict.DOUBLED), (0, CanaryVerdict.SENT)):
        slot_s = NOW_S - 60 * minutes
        settled_s = 0 if verdict is CanaryVerdict.SENT else slot_s + 90
        run = CanaryRun(slot_s=slot_s, sent_s=slot_s, verdict=verdict, settled_s=settled_s)
        items.put(Put(table=Table.LEDGER, item=run.to_item()))
    fresh.world.clock.advance_s(3_600)
    told = fresh.json("/v1/freshness", "operator")
    assert told["complete_through"] == "2026-11-24T13:00:00Z"
    assert [each["what"] for each in told["held_back_by"]] == ["the watch, which has not measured for 1 hour"]
    region = told["regions"]["us-east-1"]
    assert region["reconciliation"]["finished"] == "2026-11-24T13:29:00Z"
    assert region["canary"] == {
        "verdict": "doubled", "settled": "2026-11-24T13:27:30Z", "last_good": "2026-11-24T13:21:00Z"
    }  # fmt: skip
    own = fresh.json("/v1/freshness", "first")
    assert own["complete_through"] == told["complete_through"]
    assert set(own["regions"]["us-east-1"]) == {"complete_through", "held_back_by"}
    for answer in (own, fresh.json("/v1/usage", "first")):
        [held] = answer["held_back_by"]
        assert held["since"] == told["held_back_by"][0]["since"]
        assert "watch" not in held["what"] + held["cure"]


def test_freshness_before_the_first_measurement_is_not_known() -> None:
    empty = ApiWorld()
    empty.world.items.remove(Table.LEDGER, COMPLETENESS_KEY)
    told = empty.json("/v1/freshness")
    assert told["complete_through"] == "1970-01-01T00:00:00Z"
    assert told["held_back_by"][0]["what"] == "the watch, which has not measured yet"
    rows = empty.get("/v1/freshness?format=csv").text
    assert rows.startswith("region,complete_through,held_back_by,reconciled,differences,canary\nus-east-1,")


def test_a_cursor_of_usage_is_none_of_costs() -> None:
    asked = "from=2026-11&to=2026-11-25&group_by=account_id&limit=1"
    cursor = world().json(f"/v1/usage?{asked}")["next"]
    answer = world().get(f"/v1/cost?{asked}&cursor={cursor}")
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:metering:problem:invalid-cursor"


@cache
def many_accounts() -> ApiWorld:
    """A region with several further accounts; the tests of this module never change it."""
    made = traffic(World())
    made.send([record(10 ** (number % 4), account=f"4444{number:08d}") for number in range(20)])
    return summed(made)


def summed(world: World) -> ApiWorld:
    """The region after the biller has summed all usage."""
    world.compact_all()
    keep_day_sums(world)
    return ApiWorld(world)


def test_it_is_the_answer_of_the_command_line() -> None:
    query = AccountsParameters(month="2026-11", sort="bytes:desc").query(now_s=NOW_S)
    answer = accounts_of(many_accounts().parts.regions, query, now_s=NOW_S)
    asked = "/v1/accounts?month=2026-11&sort=bytes:desc"
    for form in ("json", "ndjson", "csv", "parquet"):
        assert many_accounts().get(f"{asked}&format={form}").content == encoded_bytes(answer, form)
    assert len(answer.rows) == 23


def test_answers_have_the_form_that_the_document_says() -> None:
    for asked in ("", "?top=2", "?limit=2", "?month=2026-10&sort=bytes:desc", f"?account={FIRST}&prefix=1"):
        jsonschema.validate(many_accounts().json(f"/v1/accounts{asked}"), dict(ACCOUNTS.schema))
    wrong = {**many_accounts().json("/v1/accounts"), "rows": [{"account_id": FIRST}]}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, dict(ACCOUNTS.schema))


def test_a_customer_sees_its_own_account_alone() -> None:
    everything = many_accounts().json("/v1/accounts")["rows"]
    assert {FIRST, SECOND, THIRD} < {row["account_id"] for row in everything}
    for token, account in (("first", FIRST), ("second", SECOND)):
        for asked in ("", f"?prefix={account[0]}", f"?account={account}", "?sort=bytes:desc", "?top=1", "?limit=1"):
            answer = many_accounts().json(f"/v1/accounts{asked}", token)
            assert answer["rows"] == [row for row in everything if row["account_id"] == account]
            assert answer.get("next") is None
            assert answer.get("rows_total", 1) == 1
    assert many_accounts().get(f"/v1/accounts?account={SECOND}", "first").status_code == 403
    assert many_accounts().json(f"/v1/accounts?prefix={SECOND[0]}", "first")["rows"] == []


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_pages_of_accounts_together_are_the_whole(column: str, direction: str) -> None:
    asked = f"/v1/accounts?sort={column}:{direction}"
    rows = [row for page in many_accounts().pages(f"{asked}&limit=7") for row in page["rows"]]
    assert rows == many_accounts().json(asked)["rows"]


def test_pages_that_are_begun_in_a_month_stay_in_it() -> None:
    own = summed(traffic(World()))
    page = own.json("/v1/accounts?limit=1")
    own.world.clock.advance_s(10 * 86_400)

    following = own.json(f"/v1/accounts?limit=1&cursor={page['next']}")
    assert (following["month"], [row["account_id"] for row in following["rows"]]) == ("2026-11", [SECOND])
    assert own.json("/v1/accounts")["month"] == "2026-12"


def test_pages_by_figures_end_when_the_figures_move_and_no_account_is_left_out() -> None:
    own = summed(traffic(World()))
    asked = "/v1/accounts?sort=bytes:desc&limit=1"
    page = own.json(asked)
    own.world.send([record(10**16, start_s=NOW_S, account=FIRST)])
    summed(own.world)

    # The account that was the smallest is now the largest, and would be on no page.
    answer = own.get(f"{asked}&cursor={page['next']}")
    assert answer.status_code == 422
    assert "have changed since the first page" in answer.json()["detail"]
    by_id = own.json("/v1/accounts?limit=1")["next"]
    own.world.send([record(1, start_s=NOW_S, account=THIRD)])
    summed(own.world)
    assert own.get(f"/v1/accounts?limit=1&cursor={by_id}").status_code == 200


@pytest.mark.parametrize("fixed", [[], [0], [202611, 5], [-5, 0], [10**40, 0], [202713, 0], [1, 2, 3]])
def test_a_cursor_that_was_made_up_is_no_fault_of_ours(fixed: list[int]) -> None:
    cursor = many_accounts().json("/v1/accounts?limit=1")["next"]
    question, after, _ = read_cursor(cursor)
    for names in (after, ["x"], ["9", "9"], [""]):
        made = written_cursor([question, names, fixed])
        answer = many_accounts().get(f"/v1/accounts?limit=1&cursor={made}")
        assert answer.status_code in {200, 422}, answer.text


def test_a_closed_month_may_be_kept_for_a_day() -> None:
    answer = many_accounts().get("/v1/accounts?month=2026-10")
    assert answer.headers["cache-control"] == "private, max-age=86400"
    assert answer.json()["periods"] == {"2026-10": "closed"}
    assert many_accounts().get("/v1/accounts").headers["cache-control"] == "private, max-age=30"


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
        assert many_accounts().get(f"/v1/accounts?{asked}").status_code == status, asked


def test_a_customer_is_told_up_to_when_it_is_counted_and_nothing_of_what_others_have_waiting() -> None:
    """H-F2 over HTTP: usage not counted yet has no accounts, so only tokens for all accounts see this usage."""
    api = summed(traffic(World()))
    api.world.send([record(7, account=FIRST), record(1_000, account=SECOND)])
    asked = "/v1/accounts?month=2026-11"
    everything = api.json(asked, "analyst")
    assert everything.get("not_counted") == {"bytes": "1007", "records": 2, "at_least": False}
    own = api.json(asked, "first")
    assert "not_counted" not in own
    assert own["counted_through"] == everything["counted_through"] == "2026-11-24T13:30:00Z"
