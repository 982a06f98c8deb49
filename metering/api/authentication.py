"""Who asks, before anything else is looked at: the bearer token of a request, and how often it asks.

    @router.get("/v1/sources")
    def sources(grant: Annotated[Grant, Depends(at_least(Role.OPERATOR))]) -> Response: ...

`app.state.door` is the `Door` of the application. A stranger meets it before the parameters are judged, so it hears 401
and nothing about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

from metering.api.grants import Grant  # noqa: TC001 - FastAPI reads annotations at run time
from metering.api.limiter import Limiter
from metering.api.problems import ProblemError
from metering.ledger.notes.tokens import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.api.parts import ApiParts, Tokens

_RANKS = {role: rank for rank, role in enumerate((Role.CUSTOMER, Role.ANALYST, Role.OPERATOR))}
_SCHEME = "bearer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Lets requests in, for all routes of one application.

    Attributes:
        tokens: Who may ask.
        limiter: How often.
    """

    tokens: Tokens
    limiter: Limiter

    @classmethod
    def of(cls, parts: ApiParts) -> Door:
        """The door of an application."""
        limits = parts.limits
        return cls(
            tokens=parts.tokens,
            limiter=Limiter(rate_per_s=limits.token_rate_per_s, burst=limits.token_burst, clock=parts.clock),
        )

    def let_in(self, request: Request) -> Grant:
        """What whoever asks may see. `request.state.grant` keeps it for the log.

        Raises:
            ProblemError: 401 without a good token, 429 for one that asks too often.
            UnavailableError: The ledger gave no answer.
        """
        grant = self.tokens.grant_of(bearer_token(request.headers.getlist("authorization")))
        if grant is None:
            raise _unauthorized("The token is unknown, expired or revoked.", error="invalid_token")
        request.state.grant = grant
        wait_s = self.limiter.wait_s(grant.token_id)
        if wait_s:
            raise ProblemError(
                kind="too-many-requests",
                status=429,
                title="Too many requests",
                detail=f"This token asks more often than it may. Ask again in {wait_s} s.",
                headers={"Retry-After": str(wait_s)},
            )
        return grant


def bearer_token(headers: list[str]) -> str:
    """The token of the `Authorization` headers of a request.

    Raises:
        ProblemError: 401, if there is none, or more than one.
    """
    if len(headers) != 1:
        raise _unauthorized("Send one header: Authorization: Bearer mtr_...")
    scheme, _, token = headers[0].strip().partition(" ")
    if scheme.lower() != _SCHEME or not token.strip():
        raise _unauthorized("The header is not of the form: Authorization: Bearer mtr_...")
    return token.strip()


def granted(request: Request) -> Grant:
    """The grant of whoever asks, of any role: a dependency of a route."""
    # The state of an application has no types.
    return cast("Door", request.app.state.door).let_in(request)


def at_least(role: Role) -> Callable[[Grant], Grant]:
    """A dependency of a route that lets in this role and those above it: customer, analyst, operator."""

    def checked(grant: Annotated[Grant, Depends(granted)]) -> Grant:
        if _RANKS[grant.role] < _RANKS[role]:
            raise ProblemError(
                kind="role-not-granted",
                status=403,
                title="Not granted",
                detail=f"This is for tokens of the role {role.value}, and this token's role is {grant.role.value}.",
            )
        return grant

    return checked


def _unauthorized(detail: str, *, error: str = "") -> ProblemError:
    challenge = 'Bearer realm="metering"'
    return ProblemError(
        kind="unauthorized",
        status=401,
        title="A token is needed",
        detail=f"{detail} Tokens are made with: metering token create",
        headers={"WWW-Authenticate": f'{challenge}, error="{error}"' if error else challenge},
    )
