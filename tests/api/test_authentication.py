"""A stranger hears 401 and nothing else; a token that asks too often hears when to come again; roles are a ladder."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, Request, Response

from metering.adapters.memory.clock import ManualClock
from metering.api.authentication import Door, at_least, granted
from metering.api.grants import Grant, Role
from metering.api.limiter import Limiter
from metering.api.problems import MEDIA_TYPE, ProblemError
from tests.api.asking import Asker

TOKENS = {role.value: Grant(token_id=role.value, role=role, accounts=frozenset({"111111111111"})) for role in Role}


class SomeTokens:
    """Tokens that are the names of their roles."""

    def grant_of(self, token: str) -> Grant | None:
        return TOKENS.get(token)


def client(burst: int = 1000) -> Asker:
    app = FastAPI()
    limiter = Limiter(rate_per_s=5, burst=burst, clock=ManualClock(1_800_000_000_000))
    app.state.door = Door(tokens=SomeTokens(), limiter=limiter)

    @app.exception_handler(ProblemError)
    def problem(_request: Request, error: ProblemError) -> Response:
        return error.response()

    @app.get("/any")
    def anybody(request: Request, grant: Annotated[Grant, Depends(granted)], number: int) -> str:
        assert request.state.grant == grant
        return f"{grant.token_id} {number}"

    for role in Role:

        @app.get(f"/{role.value}", dependencies=[Depends(at_least(role))])
        def somebody() -> str:
            return "in"

    return Asker(app=app)


def header(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "analyst"},
        {"Authorization": "Basic analyst"},
        header("nobody"),
        header("analyst analyst"),
    ],
    ids=repr,
)
def test_without_a_good_token_the_answer_is_401_before_parameters_are_judged(headers: dict[str, str]) -> None:
    answer = client().get("/any?number=wrong&token=analyst", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.headers["www-authenticate"].startswith('Bearer realm="metering"')
    assert "number" not in answer.text
    assert "nobody" not in answer.text


def test_two_authorizations_are_none() -> None:
    headers = [("Authorization", "Bearer analyst"), ("Authorization", "Bearer operator")]
    assert client().get("/any?number=1", headers=headers).status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_read_in_any_case(scheme: str) -> None:
    answer = client().get("/any?number=1", headers={"Authorization": f"{scheme} analyst"})
    assert answer.json() == "analyst 1"


def test_a_token_that_asks_too_often_is_told_when_to_come_again_and_others_are_not_concerned() -> None:
    door = client(burst=2)
    statuses = [door.get("/any?number=1", headers=header("analyst")).status_code for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    answer = door.get("/any?number=1", headers=header("analyst"))
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["type"] == "urn:metering:problem:too-many-requests"
    assert door.get("/any?number=1", headers=header("customer")).status_code == 200


def test_strangers_are_not_counted() -> None:
    door = client(burst=1)
    assert {door.get("/any", headers=header("nobody")).status_code for _ in range(5)} == {401}


@pytest.mark.parametrize("needed", Role)
@pytest.mark.parametrize("held", Role)
def test_roles_are_a_ladder(needed: Role, held: Role) -> None:
    ladder = [Role.CUSTOMER, Role.ANALYST, Role.OPERATOR]
    answer = client().get(f"/{needed.value}", headers=header(held.value))
    assert answer.status_code == (200 if ladder.index(held) >= ladder.index(needed) else 403)
