"""Who asks: the bearer token of a request, and what its holder may see."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from metering.api.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.api.grants import Grant
    from metering.api.parts import ApiParts

# RFC 6750. What is longer is no token of ours, and is not looked at.
_BEARER = re.compile(r"[Bb]earer +([A-Za-z0-9._~+/=-]{1,256})")


def authenticated(parts: ApiParts, authorization: Sequence[str]) -> Grant:
    """What the sender of a request may see.

    Args:
        parts: Knows the tokens.
        authorization: Values of the header `Authorization`; none or several are no token.

    Raises:
        ProblemError: 401, without a word of why: a token that is unknown, expired or revoked is no token.
        UnavailableError: Nobody can say now whether it is one.
    """
    found = _BEARER.fullmatch(authorization[0].strip()) if len(authorization) == 1 else None
    grant = None if found is None else parts.tokens.grant_of(found[1])
    if grant is None:
        raise ProblemError(
            kind="not-authenticated",
            status=401,
            title="Not authenticated",
            detail="Send a token that is valid: Authorization: Bearer mtr_… An operator makes one with "
            "`metering token create`.",
            headers={"WWW-Authenticate": 'Bearer realm="metering"'},
        )
    return grant
