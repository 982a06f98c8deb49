"""People who signed in: what the authorizer hands over is needed, and gives no more than a token of the same rights."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from metering.api.authentication import Grant
from metering.api.people import GroupGrant, SignIn
from metering.ledger.notes.access import Role
from tests.api.test_foreign_accounts import requests
from tests.api.test_two_worlds import LITTLE_GB, MUCH_GB, SEES
from tests.api.test_two_worlds import world as world_of
from tests.api.world import FIRST, SECOND, ApiWorld
from tests.unit.lambdas.api_requests import body_of, request
from tests.unit.lambdas.test_api_handler import Function

ISSUER, AUDIENCE = "https://login.example.com/tenant", "metering"
SIGN_IN = SignIn(
    issuer=ISSUER,
    audience=AUDIENCE,
    claim="groups",
    groups=(
        GroupGrant(group="finops", role="analyst", accounts=None),
        GroupGrant(group="team first", role="customer", accounts=(FIRST,)),
        GroupGrant(group="admins", role="operator", accounts=None),
    ),
)
USAGE = "/v1/usage"
QUERY = "from=2026-11-01&to=2026-12-01&group_by=usage_type"


def admitting(made: ApiWorld) -> ApiWorld:
    """The same region behind an application that admits people."""
    api = ApiWorld(made.world)
    api.parts = replace(api.parts, people=SIGN_IN)
    api.tokens.grants |= made.tokens.grants
    return api


@pytest.fixture(scope="module")
def api() -> ApiWorld:
    return admitting(ApiWorld())


@pytest.fixture
def function(api: ApiWorld) -> Function:
    return Function(api)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def claims(now_s: int, **changes: object) -> dict[str, object]:
    """Claims of a person; `...` removes one."""
    usual = {
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ada@example.com", "iat": now_s - 10, "exp": now_s + 600,
        "groups": ["team first"],
    }  # fmt: skip
    return {name: value for name, value in (usual | changes).items() if value is not ...}


def passed(said: dict[str, object]) -> dict[str, str]:
    """The claims as the JWT authorizer of an HTTP API hands them over: each a text, a list in brackets."""
    return {
        name: f"[{' '.join(map(str, value))}]" if isinstance(value, list) else str(value)
        for name, value in said.items()
    }


def event(function: Function, path: str = USAGE, query: str = QUERY, **changes: object) -> dict[str, Any]:
    """A request that passed the authorizer (payload format 2.0, "Working with JWT authorizers")."""
    said = claims(function.world.world.clock.now_ms() // 1000, **changes)
    made = request(f"/people{path}", query, authorization=f"Bearer {part({'alg': 'RS256'})}.{part(said)}.c2ln")
    made["routeKey"] = "GET /people/{proxy+}"
    made["requestContext"]["authorizer"] = {"jwt": {"claims": passed(said), "scopes": None}}
    return made


def test_a_person_gets_what_a_token_of_the_same_rights_gets_byte_by_byte(function: Function) -> None:
    rights = {"team first": Grant(token_id="t", role=Role.CUSTOMER, accounts=frozenset({FIRST})), "finops": None}
    for group, grant in rights.items():
        who = "analyst" if grant is None else "first-only"
        if grant is not None:
            function.world.tokens.grants[who] = grant
        by_token = function.answer(request(USAGE, QUERY, authorization=f"Bearer {who}"))
        by_person = function.answer(event(function, groups=[group]))
        assert by_token["statusCode"] == by_person["statusCode"] == 200
        assert body_of(by_token) == body_of(by_person)
        assert by_token["headers"]["metering-role"] == by_person["headers"]["metering-role"]


def test_a_person_is_refused_the_accounts_and_pages_that_a_token_is_refused(function: Function) -> None:
    for path, query in (
        (USAGE, f"{QUERY}&account={SECOND}"),
        (USAGE, f"{QUERY}&account=999999999999"),
        ("/v1/quarantine", ""),
    ):
        answer = function.answer(event(function, path, query))
        assert answer["statusCode"] == 403
        assert json.loads(body_of(answer))["type"].endswith("not-granted")


def _no_authorizer(made: dict[str, Any]) -> None:
    del made["requestContext"]["authorizer"]


def _other_person(made: dict[str, Any]) -> None:
    made["requestContext"]["authorizer"]["jwt"]["claims"]["sub"] = "eve"


def _other_kind(made: dict[str, Any]) -> None:
    made["requestContext"]["authorizer"] = {"lambda": {"claims": {}}}


def _token(made: dict[str, Any]) -> None:
    made["headers"]["authorization"] = "Bearer analyst"


def _no_header(made: dict[str, Any]) -> None:
    del made["headers"]["authorization"]


def _no_json(made: dict[str, Any]) -> None:
    made["headers"]["authorization"] = "Bearer a.bm8.c"


@pytest.mark.parametrize("change", [_no_authorizer, _other_person, _other_kind, _token, _no_header, _no_json])
def test_a_request_that_did_not_pass_the_authorizer_is_not_let_in(function: Function, change: Any) -> None:
    made = event(function)
    change(made)
    answer = function.answer(made)
    assert answer["statusCode"] == 401
    assert answer["headers"]["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("changes", [
    {"exp": 1}, {"exp": ...}, {"exp": True}, {"exp": "soon"}, {"aud": "other"}, {"aud": ...}, {"aud": ["x", "y"]},
    {"iss": "https://evil.example.com"}, {"sub": ...}, {"sub": 5},
])  # fmt: skip
def test_what_is_over_or_for_others_is_not_let_in_though_the_gateway_passed_it(
    function: Function, changes: dict[str, object]
) -> None:
    assert function.answer(event(function, USAGE, QUERY, **changes))["statusCode"] == 401


@pytest.mark.parametrize(
    "changes", [{"aud": ["x", AUDIENCE]}, {"aud": ..., "client_id": AUDIENCE}, {"groups": "finops"}]
)
def test_other_forms_of_audience_and_groups_that_providers_have_are_taken(
    function: Function, changes: dict[str, object]
) -> None:
    assert function.answer(event(function, USAGE, QUERY, **changes))["statusCode"] == 200


@pytest.mark.parametrize("groups", [[], ["strangers"], ..., 5, [5], ["x admins y"], ["Admins"]])
def test_a_person_of_no_group_is_told_so(function: Function, groups: object) -> None:
    answer = function.answer(event(function, groups=groups))
    assert answer["statusCode"] == 403
    assert "none of your groups" in json.loads(body_of(answer))["detail"]


def test_of_several_groups_the_first_of_the_settings_counts(function: Function) -> None:
    answer = function.answer(event(function, groups=["admins", "team first"]))
    assert answer["headers"]["metering-role"] == "customer"


def test_neither_way_in_opens_the_other(function: Function) -> None:
    by_person = event(function)
    plain = request(USAGE, QUERY, authorization=by_person["headers"]["authorization"])
    # Nobody but the gateway writes the context of a request, and it does so for the route with the authorizer alone.
    plain["requestContext"]["authorizer"] = by_person["requestContext"]["authorizer"]
    assert function.answer(plain)["statusCode"] == 401
    assert function.answer(request(f"/people{USAGE}", QUERY, authorization="Bearer analyst"))["statusCode"] == 404
    # A stage without a provider has no such route; its function refuses the event all the same.
    tokens_only = Function(ApiWorld(function.world.world))
    assert tokens_only.answer(by_person)["statusCode"] == 401


def test_the_log_names_a_person_by_a_digest_alone(function: Function) -> None:
    function.answer(event(function, email="ada@example.com"))
    function.answer(event(function, exp=1))
    text = function.written.getvalue()
    assert '"person-' in text
    for secret in ("ada", "example.com", part({"alg": "RS256"}), "team first"):
        assert secret not in text


def test_the_settings_come_back_as_they_were_written() -> None:
    assert SignIn.from_text(SIGN_IN.text()) == SIGN_IN


def test_answers_to_a_person_do_not_depend_on_the_usage_of_others() -> None:
    """The property of tests/api/test_two_worlds.py, for a person of the group of one account."""
    functions = [Function(admitting(world_of(SEES["portal"], size_gb))) for size_gb in (LITTLE_GB, MUCH_GB)]
    statuses = set()
    for asked in requests(29, 60):
        path, _, query = asked.partition("?")
        one, other = (each.answer(event(each, path, query)) for each in functions)
        assert one == other, f"{asked} tells a person how much others use"
        statuses.add(one["statusCode"])
    assert {200, 403} <= statuses
