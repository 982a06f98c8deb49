"""People who signed in at their organisation's identity provider, and what their groups may see.

API Gateway's JWT authorizer stands before one route, `GET /people/{proxy+}`, and verifies signature, issuer, audience
and times of what the header `Authorization` brings. The function takes a person's word only of a request that came by
that route with the authorizer's claims. It then reads the groups from the same header, because the authorizer hands a
list over as one text, in which a group whose name has a space would look like two.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Self

from metering.api.authentication import Grant
from metering.api.parameters import ProblemError, problem
from metering.ledger.notes.access import Role
from metering.settings import PEOPLE_PATH

ROUTE_KEY = f"GET {PEOPLE_PATH}/{{proxy+}}"
"""Route of the HTTP API that has the authorizer."""

# API Gateway accepts headers of 10 KB in all.
_BEARER = re.compile(r"(?i:bearer) +[A-Za-z0-9_-]+\.([A-Za-z0-9_-]{1,10240})\.[A-Za-z0-9_-]+")
# The authorizer allows for clocks that differ; the function only ends what is long over.
_SKEW_S = 60

Event = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupGrant:
    """Rights of the members of a group, as of a token with this role and these accounts (None: all)."""

    group: str
    role: Literal["customer", "analyst", "operator"]
    accounts: tuple[str, ...] | None
    costs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """Grants of people by the claims of an identity provider.

    Attributes:
        claim: Name of the claim with the person's groups.
        groups: In order of precedence: of a person's groups, the first of these counts.
        client: Client id of the explorer page at the provider; empty if the page only takes tokens.
        token_endpoint: Where the page exchanges a code for a token.
        scopes: What the page asks the provider for.
    """

    issuer: str
    audience: str
    claim: str
    groups: tuple[GroupGrant, ...]
    client: str = ""
    token_endpoint: str = ""
    scopes: str = ""

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The settings, as `text` wrote them for a function's environment."""
        values = json.loads(text)
        groups = tuple(
            GroupGrant(**{**each, "accounts": None if each["accounts"] is None else tuple(each["accounts"])})
            for each in values.pop("groups")
        )
        return cls(**values, groups=groups)

    def text(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @property
    def discovery(self) -> str:
        """Address of the provider's own description (OpenID Connect Discovery 1.0, 4)."""
        return f"{self.issuer.removesuffix('/')}/.well-known/openid-configuration"

    def client_text(self) -> str:
        """Public values of the provider for the explorer page, as JSON."""
        names = ("issuer", "audience", "client", "token_endpoint", "scopes", "discovery")
        return json.dumps({name: getattr(self, name) for name in names})

    def grant_of(self, event: Event, authorization: Sequence[str], *, now_s: int) -> Grant:
        """Rights of a person whose request came by the people's route.

        Raises:
            ProblemError: 401 if the request did not pass the authorizer, or brings what is over or for another issuer
                or audience. 403 if the settings name no group of the person.
        """
        passed = _passed(event)
        found = _BEARER.fullmatch(authorization[0].strip(" \t")) if len(authorization) == 1 else None
        claims = None if found is None else _decoded(found[1])
        if passed is None or claims is None or not self._is_for_us(claims, now_s):
            raise _unauthorized()
        subject = claims.get("sub")
        if not isinstance(subject, str) or (passed.get("iss"), passed.get("sub")) != (self.issuer, subject):
            raise _unauthorized()
        own = claims.get(self.claim)
        names = own if isinstance(own, list) else [own]
        for each in self.groups:
            if each.group in names:
                accounts = None if each.accounts is None else frozenset(each.accounts)
                name = _name(self.issuer, subject)
                return Grant(token_id=name, role=Role(each.role), accounts=accounts, costs=each.costs)
        raise problem(
            "not-granted",
            f"You are signed in, and none of your groups may see anything here (claim {self.claim}). Ask whoever runs "
            "the service to add one of your groups to the settings.",
        )

    def _is_for_us(self, claims: Mapping[str, object], now_s: int) -> bool:
        # Access tokens of some providers have the client instead of an audience; the authorizer takes it, too.
        audience = claims.get("aud", claims.get("client_id"))
        audiences = audience if isinstance(audience, list) else [audience]
        ends_s = claims.get("exp")
        fresh = isinstance(ends_s, int | float) and not isinstance(ends_s, bool) and ends_s + _SKEW_S > now_s
        return fresh and claims.get("iss") == self.issuer and self.audience in audiences


def is_of_people(event: Event) -> bool:
    """Whether a request came by the route with the authorizer."""
    return event.get("routeKey") == ROUTE_KEY


def inside(event: Event) -> Event:
    """The event of a request by the people's route, with the path that the same question has for tokens."""
    path, context = event.get("rawPath"), event.get("requestContext")
    if not is_of_people(event) or not isinstance(path, str) or not isinstance(context, Mapping):
        return event
    http = context.get("http")
    own = path.removeprefix(PEOPLE_PATH)
    return {
        **event,
        "rawPath": own,
        "requestContext": {**context, "http": {**(http if isinstance(http, Mapping) else {}), "path": own}},
    }


def _passed(event: Event) -> Mapping[str, object] | None:
    """The claims that the authorizer handed over (payload format 2.0); None if the request did not pass it."""
    found: object = event if is_of_people(event) else None
    for name in ("requestContext", "authorizer", "jwt", "claims"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _decoded(payload: str) -> Mapping[str, object] | None:
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _name(issuer: str, subject: str) -> str:
    """Name of a person in logs and limits, which does not tell who it is."""
    return "person-" + hashlib.sha256(f"{issuer}\n{subject}".encode()).hexdigest()[:16]


def _unauthorized() -> ProblemError:
    return problem(
        "not-authenticated",
        "Sign in at your organisation's identity provider, and send what it gave: Authorization: Bearer ...",
        headers={"WWW-Authenticate": 'Bearer realm="metering", error="invalid_token"'},
    )
