"""`/v1/who`: the command's answer, and what each token sees of it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import jsonschema
import pytest

from metering.api.resources.who import WHO
from metering.billing.owners import OwnerStore, read_owners
from metering.ledger.notes.access import Role
from metering.reports.answer import encoded_bytes
from metering.reports.query import WHO_COLUMNS
from metering.reports.who import WhoParameters
from metering.units import HOUR_S
from metering.wiring.answers.usage import stored_completeness
from metering.wiring.answers.who import owners_of, who_of
from tests.api.world import FIRST, SECOND, THIRD, ApiWorld, WorldRegion, traffic
from tests.support.kept_causes import NAT, NAT_BYTES, keep_causes, record_of, row, stretch, unnamed
from tests.support.lake_world import HOUR, NOW_S, World

ROWS = (
    row(60, account_id=FIRST),
    row(25, account_id=FIRST, cause="i-0second", destination="asg:theirs"),
    row(7, account_id=SECOND, cause="i-0second", resource_id="nat-second"),
    row(5, account_id=FIRST, hour=HOUR - HOUR_S, destination="S3.us-west-2"),
    unnamed(3, "ambiguous_address", account_id=FIRST),
)
NAMES = {
    "i-0abc": [stretch(workload="asg:ci", account=FIRST)],
    "i-0second": [stretch(workload="asg:theirs", account=SECOND, team="search")],
}
BOOK = b'[[rule]]\nowner = "search"\nwhen = { tag = { team = "search" } }\n'


@cache
def world() -> ApiWorld:
    made = traffic(World())
    made.send([record_of(each) for each in ROWS])
    made.compact_all()
    keep_causes(made, ROWS, NAMES)
    OwnerStore(made.objects).put(read_owners(BOOK, "owners.toml"))
    return ApiWorld(made)


@pytest.mark.parametrize("asked", ["", "last=2d&group_by=owner,workload,hour&tz=Asia/Tokyo", f"resource={NAT}&top=1"])
def test_the_answer_is_that_of_the_command(asked: str) -> None:
    region = WorldRegion(world().world)
    given = dict(part.split("=") for part in asked.split("&") if part)
    query = WhoParameters(
        last=given.get("last"), zone=given.get("tz"), group_by=given.get("group_by"),
        top=int(given["top"]) if "top" in given else None, filters={"resource": [given.get("resource", "")]},
    ).who_query(now_s=NOW_S)  # fmt: skip
    answer = who_of(
        [region], query, owners=owners_of(region, None), now_s=NOW_S, complete=stored_completeness([region])
    )
    for form in ("json", "csv", "ndjson", "parquet"):
        told = world().get(f"/v1/who?{asked}&format={form}".replace("?&", "?"))
        assert told.status_code == 200, told.text
        # The owners' version is named only where the book was asked.
        assert told.content.replace(b'"version": 0', b'"version": 1') == encoded_bytes(answer, form)
    jsonschema.validate(world().json(f"/v1/who?{asked}"), WHO.schema)


def test_a_token_of_some_accounts_sees_their_usage_and_no_names_of_others() -> None:
    asked = f"/v1/who?group_by={','.join(WHO_COLUMNS)}&from=2026-11-24&usage_type={NAT_BYTES}"
    told = world().json(asked, "first")
    jsonschema.validate(told, WHO.schema)
    for name in ("i-0second", "asg:theirs", "search", SECOND, THIRD, "nat-second"):
        assert name not in str(told["rows"])
    hidden = [each for each in told["rows"] if each["workload"] == "another account"]
    assert [(each["owner"], each["cause"], each["destination"], each["bytes"]) for each in hidden] == [
        ("another account", "another account", "another account", "25")
    ]
    assert told["totals"][0]["bytes"] == "93"
    assert {each["account"] for each in told["rows"]} == {FIRST}


def test_no_filter_tells_a_customer_a_hidden_name() -> None:
    for asked in ("owner=search", "workload=asg:theirs", "destination=asg:theirs", "resource=nat-second"):
        assert world().json(f"/v1/who?{asked}", "first")["rows"] == []
        assert world().json(f"/v1/who?{asked}")["rows"]
    assert world().get(f"/v1/who?account={SECOND}", "first").status_code == 403


def test_pages_have_all_rows_once_and_in_the_order_of_their_columns() -> None:
    asked = "/v1/who?from=2026-11-24&group_by=workload,destination,hour"
    whole = world().json(asked)["rows"]
    rows: list[Any] = []
    cursor = ""
    while cursor is not None:
        page = world().json(f"{asked}&limit=2{cursor and f'&cursor={cursor}'}")
        rows, cursor = [*rows, *page["rows"]], page["next"]
    assert sorted(map(str, rows)) == sorted(map(str, whole))
    assert len(rows) > 6
    assert world().get(f"{asked}&limit=2&top=1").status_code == 422


def test_owners_are_asked_by_version() -> None:
    asked = "/v1/who?from=2026-11-24&group_by=owner&owners="
    assert world().json(f"{asked}1")["owners"] == {"version": 1}
    told = world().get(f"{asked}9")
    assert (told.status_code, "no version 9" in told.text) == (422, True)


def test_a_region_without_the_book_answers_what_needs_no_owners() -> None:
    elsewhere = ApiWorld(world().world)
    elsewhere.parts = replace(elsewhere.parts, home=None)
    assert elsewhere.json("/v1/who?group_by=workload")["rows"]
    told = elsewhere.get("/v1/who?group_by=owner")
    assert (told.status_code, "home region" in told.text) == (422, True)


def test_a_question_about_too_many_rows_is_refused_before_they_are_read() -> None:
    told = world().limited(cause_rows=2).get("/v1/who?from=2026-11")
    assert (told.status_code, "rows of causes" in told.text) == (422, True)
    assert world().limited(cause_rows=5).get("/v1/who?from=2026-11").status_code == 200


def test_staff_and_customers_may_ask() -> None:
    assert WHO.roles == frozenset(Role)
    assert world().get("/v1/who", None).status_code == 401
