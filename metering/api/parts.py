"""What the API is built of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.api.facts import Facts
    from metering.api.grants import Grant
    from metering.api.limits import Limits
    from metering.stores.clock import Clock
    from metering.wiring.answers.costs import BillingRegions
    from metering.wiring.answers.ports import ReadableRegion
    from metering.wiring.answers.usage import Everywhere


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
        everywhere: The regions are all of the stage, and answers name them; None if one region answers for itself.
        billing: Where money is; None if costs cannot be told here.
        log: Told what each request was and cost, when it is over.
    """

    regions: Sequence[ReadableRegion]
    tokens: Tokens
    limits: Limits
    clock: Clock
    everywhere: Everywhere | None = None
    billing: BillingRegions | None = None
    log: Callable[[Facts], None] = lambda _facts: None
