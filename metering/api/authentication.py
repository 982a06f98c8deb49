"""Who asks, before anything else is looked at: the bearer token of a request, and how often it asks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.api.limiter import Limiter
from metering.api.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.api.grants import Grant, Tokens
    from metering.api.limits import Limits
    from metering.stores.clock import Clock

# RFC 6750. What is longer is no token of ours, and is not looked at. The scheme is read in any case (RFC 9110).
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/=-]{1,256})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Lets requests in: one for all routes of an application, because it counts. Several threads may use it.

    Attributes:
        tokens: Who may ask.
        limiter: How often.
    """

    tokens: Tokens
    limiter: Limiter

    @classmethod
    def of(cls, tokens: Tokens, limits: Limits, clock: Clock) -> Door:
        """A door with the limits of an application."""
        limiter = Limiter(rate_per_s=limits.token_rate_per_s, burst=limits.token_burst, clock=clock)
        return cls(tokens=tokens, limiter=limiter)

    def let_in(self, authorization: Sequence[str]) -> Grant:
        """What the sender of a request may see.

        Args:
            authorization: Values of the header `Authorization`; none or several are no token.

        Raises:
            ProblemError: 401 without a good token, without a word of why: one that is unknown, expired or revoked is
                none. 429 for a good one that asks too often.
            UnavailableError: Nobody can say now whether it is one.
        """
        found = _BEARER.fullmatch(authorization[0].strip(" \t")) if len(authorization) == 1 else None
        grant = None if found is None else self.tokens.grant_of(found[1])
        if grant is None:
            raise _unauthorized(sent=bool(authorization))
        wait_s = self.limiter.wait_s(grant.token_id)
        if wait_s:
            raise _too_often(wait_s)
        return grant


def _unauthorized(*, sent: bool) -> ProblemError:
    # RFC 6750: who sent nothing is not told of an error.
    challenge = 'Bearer realm="metering", error="invalid_token"' if sent else 'Bearer realm="metering"'
    return ProblemError(
        kind="not-authenticated",
        status=401,
        title="Not authenticated",
        detail="Send a token that is valid: Authorization: Bearer mtr_... An operator makes one with "
        "`metering token create`.",
        headers={"WWW-Authenticate": challenge},
    )


def _too_often(wait_s: int) -> ProblemError:
    return ProblemError(
        kind="too-many-requests",
        status=429,
        title="Too many requests",
        detail=f"This token asks more often than it may. Ask again in {wait_s} s.",
        headers={"Retry-After": str(wait_s)},
    )
