"""What the API is built of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from metering.api.authentication import Door

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.api.grants import Grant
    from metering.api.limits import Limits
    from metering.stores.clock import Clock
    from metering.wiring.answers.ports import ReadableRegion


class Tokens(Protocol):
    """Knows tokens."""

    def grant_of(self, token: str) -> Grant | None:
        """What the holder of a token may see; None for a token that is unknown, expired or revoked.

        Raises:
            UnavailableError: The ledger gave no answer.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class ApiParts:
    """Parts of the API, for all requests.

    Attributes:
        regions: The regions whose usage is answered, merged if there are several; a function has its own alone.
        tokens: Who may ask.
        limits: How much one request may cost.
        clock: The time now.
    """

    regions: Sequence[ReadableRegion]
    tokens: Tokens
    limits: Limits
    clock: Clock

    @cached_property
    def door(self) -> Door:
        """Lets requests in."""
        return Door.of(self.tokens, self.limits, self.clock)
