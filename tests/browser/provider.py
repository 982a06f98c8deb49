"""A fake identity provider (OpenID Connect) on 127.0.0.1, and API Gateway's JWT authorizer before the API.

The provider admits one person at once. A code counts once, for its client, redirect address and PKCE challenge.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from starlette.applications import Starlette
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

from metering.api.people import ROUTE_KEY, GroupGrant, SignIn
from metering.settings import PEOPLE_PATH
from metering.units import HOUR_S
from tests.api.world import ApiWorld
from tests.browser.world import serving
from tests.support.lake_world import NOW_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

CLIENT = "explorer"


def _part(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


@dataclass(kw_only=True)
class Provider:
    """The provider, with faults that tests ask for. Mutable.

    Attributes:
        origin: Origin of the one page that may read its answers.
        audience: Audience of access tokens.
        life_s: Life of tokens, also negative.
        said: Words that replace those of the answer in the address; None removes one.
        claims: Claims that replace those of tokens.
        described: Words that replace those of the description of the provider.
        opaque: Whether access tokens are random text.
        asked: Bodies of requests to the token endpoint.
    """

    issuer: str = ""
    origin: str = ""
    audience: str = CLIENT
    life_s: int = HOUR_S
    said: Mapping[str, str | None] = field(default_factory=dict)
    claims: Mapping[str, object] = field(default_factory=dict)
    described: Mapping[str, str] = field(default_factory=dict)
    opaque: bool = False
    asked: list[dict[str, str]] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    def app(self) -> Starlette:
        routes = [
            Route("/.well-known/openid-configuration", self._description),
            Route("/authorize", self._authorize),
            Route("/token", self._token, methods=["POST"]),
        ]
        return Starlette(routes=routes)

    def _told(self, value: object, status: int = 200) -> Response:
        return JSONResponse(value, status, headers={"Access-Control-Allow-Origin": self.origin})

    async def _description(self, _request: Request) -> Response:
        usual = {"issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize?tenant=one"}
        return self._told({**usual, "token_endpoint": f"{self.issuer}/token", **self.described})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        assert (asked["client_id"], asked["tenant"]) == (CLIENT, "one")
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = asked
        words = {"code": code, "state": asked["state"], "iss": self.issuer, "session_state": "x", **self.said}
        query = urlencode({name: value for name, value in words.items() if value is not None})
        return RedirectResponse(f"{asked['redirect_uri']}?{query}", status_code=303)

    async def _token(self, request: Request) -> Response:
        given = dict(parse_qsl((await request.body()).decode()))
        self.asked.append(given)
        made = self._codes.pop(given["code"], {})
        challenge = _part(hashlib.sha256(given["code_verifier"].encode()).digest())
        same = all(made.get(name) == given[name] for name in ("client_id", "redirect_uri"))
        if not same or made["code_challenge"] != challenge or given["grant_type"] != "authorization_code":
            return self._told({"error": "invalid_grant", "error_description": "No such code."}, 400)
        access = "opaque" if self.opaque else self.signed(aud=self.audience, scope=made["scope"])
        identity = self.signed(aud=CLIENT, nonce=made["nonce"])
        return self._told({"access_token": access, "token_type": "Bearer", "id_token": identity})

    def signed(self, **claims: object) -> str:
        """A token of the provider for its one person, Zoë."""
        usual = {"iss": self.issuer, "sub": "zoë", "iat": NOW_S, "exp": NOW_S + self.life_s, "groups": ["finops"]}
        said = json.dumps({**usual, **claims, **self.claims}, ensure_ascii=False)
        body = f"{_part(json.dumps({'alg': 'HS256'}).encode())}.{_part(said.encode())}"
        return f"{body}.{_part(hmac.digest(self._key, body.encode(), 'sha256'))}"

    def passed(self, token: str) -> dict[str, Any] | None:
        """Claims of a valid token for this client; None for any other."""
        body, _, signature = token.rpartition(".")
        if signature != _part(hmac.digest(self._key, body.encode(), "sha256")):
            return None
        payload = body.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return claims if claims["aud"] == self.audience and claims["exp"] > NOW_S else None


@dataclass(frozen=True, slots=True)
class Gateway:
    """The route of people: tokens of the provider go on to the API; others get the words of API Gateway."""

    behind: ASGIApp
    provider: Provider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI application."""
        path = scope.get("path", "")
        if not path.startswith(f"{PEOPLE_PATH}/"):
            await self.behind(scope, receive, send)
            return
        claims = self.provider.passed(dict(scope["headers"]).get(b"authorization", b"").decode().partition(" ")[2])
        if claims is None:
            challenge = {"www-authenticate": "Bearer"}
            await JSONResponse({"message": "Unauthorized"}, status_code=401, headers=challenge)(scope, receive, send)
            return
        event = {"routeKey": ROUTE_KEY, "requestContext": {"authorizer": {"jwt": {"claims": claims}}}}
        own = path.removeprefix(PEOPLE_PATH)
        await self.behind({**scope, "path": own, "raw_path": own.encode(), "aws.event": event}, receive, send)


def sign_in(provider: Provider, **changes: str) -> SignIn:
    """Settings of a stage with this provider."""
    usual = {"issuer": provider.issuer, "audience": provider.audience, "client": CLIENT, "scopes": "openid groups"}
    group = GroupGrant(group="finops", role="analyst", accounts=None)
    usual["token_endpoint"] = f"{provider.issuer}/token"
    return SignIn(claim="groups", groups=(group,), **{**usual, **changes})


@contextmanager
def serving_people(api: ApiWorld, provider: Provider, **changes: str) -> Iterator[str]:
    """Serve the provider, and the page of a stage with it. Yields the page's address."""
    with serving(provider.app()) as address:
        provider.issuer = address.rstrip("/")
        own = ApiWorld(api.world)
        own.parts = replace(own.parts, people=sign_in(provider, **changes))
        own.tokens.grants |= api.tokens.grants
        with serving(Gateway(own.app, provider)) as url:
            provider.origin = url.rstrip("/")
            yield url
