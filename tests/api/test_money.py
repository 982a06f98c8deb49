"""Budgets and payers over HTTP: the answers of the command line, for staff who see all accounts."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pytest

from metering.api.authentication import Grant
from metering.billing.budgets.budget import BudgetStore, Scope, budget_of
from metering.ledger.notes.access import Role
from tests.api.test_as_the_command_line import command_line, connected_to
from tests.api.test_operators import without_time
from tests.api.world import FIRST, PAYER, THIRD, ApiWorld
from tests.support.budget_world import keep_day_sums
from tests.support.lake_world import World

if TYPE_CHECKING:
    from pathlib import Path

ROUTES = {"/v1/budgets": ["budget", "check"], "/v1/organization": ["organization", "show"]}


@cache
def world() -> ApiWorld:
    """A region with two budgets, of which the first is over. No test changes it."""
    made = ApiWorld()
    keep_day_sums(made.world)
    store = BudgetStore(items=made.world.items, clock=made.world.clock)
    for name, amount in (("over", "1000 bytes"), ("wide", "1000000 GB")):
        store.set(budget_of(name, amount=amount, thresholds=["actual 80%"], scope=Scope(account=FIRST)))
    return made


@pytest.mark.parametrize("route", ROUTES)
def test_staff_who_see_all_accounts_are_told_and_nobody_else(route: str) -> None:
    made = world()
    made.tokens.grants["some"] = Grant(token_id="some", role=Role.ANALYST, accounts=frozenset({FIRST}))
    statuses = {who: made.get(route, who).status_code for who in (None, "first", "some", "analyst", "operator")}
    assert statuses == {None: 401, "first": 403, "some": 403, "analyst": 200, "operator": 200}


def test_a_budget_has_what_is_used_and_expected() -> None:
    over, wide = world().json("/v1/budgets")["rows"]
    assert (over["budget"], over["crossed"], wide["crossed"]) == ("over", "actual 80%", "")
    assert int(over["actual"]) == int(wide["actual"]) > 1000


def test_payers_have_their_accounts() -> None:
    rows = world().json("/v1/organization")["rows"]
    assert [(row["payer"], row["account"]) for row in rows] == [(PAYER, FIRST), (PAYER, THIRD)]


@pytest.mark.parametrize("route", ROUTES)
def test_json_and_csv_are_those_of_the_command(route: str, tmp_path: Path) -> None:
    with connected_to(world().world):
        json, table = (command_line(ROUTES[route], form, tmp_path) for form in ("json", "csv"))
    assert without_time(world().get(route).content) == without_time(json)
    assert world().get(f"{route}?format=csv").content == table


def test_before_the_biller_ran_and_without_budgets_or_payers_the_answers_are_empty() -> None:
    fresh = ApiWorld(World())
    assert fresh.json("/v1/budgets")["rows"] == []
    assert fresh.json("/v1/organization")["rows"] == []


def test_where_only_some_regions_are_read_the_command_line_is_named() -> None:
    made = ApiWorld(world().world)
    object.__setattr__(made.parts, "billing", None)
    answer = made.get("/v1/budgets")
    assert answer.status_code == 422
    assert "Ask on the command line" in answer.json()["detail"]
