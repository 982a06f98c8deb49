"""A stranger hears 401 and not why; a token that asks too often hears when to come again."""

from __future__ import annotations

import pytest

from metering.api.authentication import Door, Grant, Limits
from metering.api.parameters import ProblemError
from metering.ledger.notes.access import Role
from tests.support.memory.clock import ManualClock

GRANTS = {role.value: Grant(token_id=role.value, role=role, accounts=frozenset({"111111111111"})) for role in Role}


class SomeTokens:
    """Tokens that are the names of their roles."""

    def grant_of(self, token: str) -> Grant | None:
        return GRANTS.get(token)


def door(clock: ManualClock | None = None, *, burst: int = 1000) -> Door:
    limits = Limits(token_rate_per_s=5, token_burst=burst)
    return Door.of(SomeTokens(), limits, clock or ManualClock(1_800_000_000_000))


def refused(at: Door, *authorization: str) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        at.let_in(authorization)
    return caught.value


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", " Bearer "])
def test_a_good_token_is_let_in_and_the_scheme_is_read_in_any_case(scheme: str) -> None:
    assert door().let_in([f"{scheme} analyst"]) == GRANTS["analyst"]


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "analyst",
        "Basic analyst",
        "Bearer nobody",
        "Bearer analyst analyst",
        "Bearer analyst,Bearer operator",
        "Bearer\nanalyst",
        "Bearer analyst\n",
        "Bearer analyst\x85",
        "Bearer " + "a" * 257,
        "Bearer an\u00e4lyst",
    ],
    ids=repr,
)
def test_what_is_no_good_token_is_401_and_is_not_repeated(authorization: str) -> None:
    problem = refused(door(), authorization)
    assert problem.status == 401
    assert problem.headers["WWW-Authenticate"] == 'Bearer realm="metering", error="invalid_token"'
    assert "nobody" not in str(problem.response().body)
    assert problem.detail == refused(door()).detail, "nobody hears why"


def test_no_token_and_several_are_none() -> None:
    assert refused(door()).headers == {"WWW-Authenticate": 'Bearer realm="metering"'}
    assert refused(door(), "Bearer analyst", "Bearer operator").status == 401
    assert refused(door(), "Bearer analyst", "Bearer analyst").status == 401


def test_a_token_that_asks_too_often_is_told_when_to_come_again_and_others_are_not_concerned() -> None:
    clock = ManualClock(1_800_000_000_000)
    at = door(clock, burst=2)
    assert [at.let_in(["Bearer analyst"]).token_id for _ in range(2)] == ["analyst"] * 2
    problem = refused(at, "Bearer analyst")
    assert (problem.status, problem.headers) == (429, {"Retry-After": "1"})
    assert at.let_in(["Bearer customer"]).token_id == "customer"
    clock.advance_s(1)
    assert at.let_in(["Bearer analyst"]).token_id == "analyst"


def test_strangers_are_not_counted() -> None:
    at = door(burst=1)
    assert {refused(at, "Bearer nobody").status for _ in range(5)} == {401}
