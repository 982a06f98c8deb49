"""`/v1/usage`: who sees what, and in which form."""

from __future__ import annotations

import json

from tests.api.world import FIRST, SECOND, THIRD, ApiWorld, at_rest
from tests.support.lake_world import record


def world() -> ApiWorld:
    """A region that no test changes."""
    return at_rest()


def test_an_analyst_sees_every_account_and_a_customer_its_own() -> None:
    asked = "/v1/usage?from=2026-11&group_by=account_id"
    everything = world().json(asked)
    assert [row["account_id"] for row in everything["rows"]] == [FIRST, SECOND, THIRD]
    for token, account in (("first", FIRST), ("second", SECOND)):
        own = world().json(asked, token)
        assert own["rows"] == [row for row in everything["rows"] if row["account_id"] == account]


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


def test_what_the_document_allows_and_makes_no_sense_is_unprocessable() -> None:
    answer = world().get("/v1/usage?sort=foo&from=2026-13&service=AmazonEC2")
    assert answer.status_code == 422
    assert {each["parameter"] for each in answer.json()["errors"]} == {"sort", "from"}


def test_pages_together_are_the_whole() -> None:
    asked = "/v1/usage?from=2026-11&group_by=account_id,day,to,service"
    whole = world().json(asked)["rows"]
    for limit in (1, 5, 10_000):
        rows, cursor, pages = [], "", 0
        while True:
            page = world().json(f"{asked}&limit={limit}{cursor}")
            rows += page["rows"]
            pages += 1
            assert pages <= len(whole)
            if page["next"] is None:
                break
            cursor = f"&cursor={page['next']}"
        assert rows == whole
        assert pages == -(-len(whole) // limit)


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


def test_every_form_is_told_by_its_name_and_by_its_media_type() -> None:
    asked = "/v1/usage?from=2026-11&group_by=account_id"
    forms = {
        "ndjson": "application/x-ndjson",
        "csv": "text/csv; charset=utf-8",
        "parquet": "application/vnd.apache.parquet",
        "json": "application/json",
    }
    for form, media_type in forms.items():
        named = world().get(f"{asked}&format={form}")
        accepted = world().get(asked, accept=media_type.partition(";")[0])
        assert (named.status_code, named.content) == (200, accepted.content)
        assert named.headers["content-type"] == accepted.headers["content-type"] == media_type


def test_health_is_told_to_anyone_from_a_cache() -> None:
    calls: list[str] = []
    fresh = ApiWorld(world().world)
    items = world().world.items
    items.on_call = calls.append
    try:
        answers = [fresh.get("/v1/health", None) for _ in range(5)]
    finally:
        items.on_call = lambda _call: None
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
