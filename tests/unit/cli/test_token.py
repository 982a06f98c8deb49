"""`metering token` from outside: a token is shown once, listed without its secret, and revoked for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from metering.api.authentication import Grant, LedgerTokens
from metering.ledger.notes.access import Role
from metering.stores.writes import Table
from metering.units import DAY_S
from tests.cli.lively import Lively
from tests.support.command_line import ask, run, typed_at
from tests.support.lake_world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT = "123456789012"
CREATE = ("token", "create", "--role", "customer", "--account", ACCOUNT)


@pytest.fixture
def region() -> Iterator[Lively]:
    made = Lively(world=World())
    with typed_at(lambda **_place: made):
        yield made


def grant_of(region: Lively, token: str) -> Grant | None:
    return LedgerTokens(items=region.world.items, clock=region.world.clock).grant_of(token)


def test_a_token_that_is_made_opens_the_api_until_it_is_revoked(region: Lively) -> None:
    made = ask(*CREATE, "--days", "7", "--label", "portal of Acme")
    assert (made["role"], made["accounts"], made["state"]) == ("customer", ACCOUNT, "good")
    assert made["expires"] == "2026-12-01T13:30:00Z"
    assert grant_of(region, made["token"]) == Grant(
        token_id=made["token_id"], role=Role.CUSTOMER, accounts=frozenset({ACCOUNT})
    )
    [listed] = ask("token", "list")["rows"]
    assert {name: made[name] for name in listed if name in made} == {
        name: listed[name] for name in listed if name in made
    }
    assert listed["made_by"] == region.caller()
    revoked = ask("token", "revoke", made["token_id"])
    assert (revoked["state"], revoked["revoked_by"]) == ("revoked", region.caller())
    assert grant_of(region, made["token"]) is None
    assert ask("token", "list")["rows"] == [revoked]


def test_the_secret_is_shown_once_and_is_nowhere_else(region: Lively) -> None:
    made = ask(*CREATE)
    secret = made["token"].rpartition("_")[2]
    for line in (("token", "list"), ("audit",), ("token", "revoke", made["token"]), ("audit", "--format", "json")):
        result = run(*line)
        assert result.exit_code == 0
        assert secret not in result.output
    assert secret not in repr(list(region.world.items.scan(Table.LEDGER)))


def test_making_and_revoking_are_deeds_in_the_trail(region: Lively) -> None:
    made = ask(*CREATE)
    ask("token", "revoke", made["token_id"])
    deeds = [(row["what"], row["subject"], row["result"]) for row in ask("audit")["rows"]]
    assert sorted(deeds) == [
        ("token create", "customer", f"token {made['token_id']}"),
        ("token revoke", made["token_id"], "revoked"),
    ]
    assert region.world.items


@pytest.mark.usefixtures("region")
def test_a_token_of_staff_sees_all_accounts_unless_some_are_named() -> None:
    assert ask("token", "create", "--role", "analyst")["accounts"] == "all"
    named = ask(
        "token", "create", "--role", "operator", "--account", "2" * 12, "--account", ACCOUNT, "--account", ACCOUNT
    )
    assert named["accounts"] == f"{ACCOUNT}, {'2' * 12}"


def test_the_list_says_which_tokens_are_good(region: Lively) -> None:
    region.make_tokens()
    states = [(row["role"], row["state"]) for row in ask("token", "list")["rows"]]
    assert states == [("analyst", "good"), ("operator", "revoked"), ("customer", "expired")]


@pytest.mark.parametrize("typed", ["0" * 16, "mtr_" + "0" * 16 + "_" + "5ec4e7" * 10 + "abcd", "W#budgets"])
@pytest.mark.usefixtures("region")
def test_what_is_no_token_is_not_revoked_and_not_repeated(typed: str) -> None:
    result = run("token", "revoke", typed)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "There is no token of this id." in result.stderr
    assert "metering token list" in result.stderr
    assert typed not in result.stderr


def test_a_revoked_token_stays_as_it_is(region: Lively) -> None:
    made = ask(*CREATE)
    first = ask("token", "revoke", made["token_id"])
    region.world.clock.advance_s(DAY_S)
    assert ask("token", "revoke", made["token_id"]) == first


@pytest.mark.usefixtures("region")
def test_every_problem_of_a_token_is_said_at_once_and_none_is_made() -> None:
    result = run("token", "create", "--role", "customer", "--label", "x" * 129)
    assert (result.exit_code, result.stdout) == (2, "")
    told = " ".join(result.stderr.split())
    assert "A customer's token names its accounts, at least one." in told
    assert "at most 128 characters" in told
    assert ask("token", "list")["rows"] == []


def test_a_token_sees_costs_at_shared_tiers_only_if_it_was_made_so(region: Lively) -> None:
    plain, costs = ask(*CREATE), ask(*CREATE, "--costs")
    assert (plain["costs"], costs["costs"]) == (False, True)
    granted = [grant_of(region, made["token"]) for made in (plain, costs)]
    assert [grant is not None and grant.costs for grant in granted] == [False, True]
    [told] = [row["consequence"] for row in ask("audit")["rows"] if "shared tiers" in row["consequence"]]
    assert told.endswith("Costs at shared tiers tell it what the payer's other accounts use.")
