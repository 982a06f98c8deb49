"""What the API is built of."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from metering.api.authentication import Door
from metering.api.grants import Tokens as Tokens  # noqa: TC001 - others import it from here
from metering.api.reading import ProcessLarge, Shares

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from metering.api.limits import Limits
    from metering.api.reading import LargeStore
    from metering.stores.clock import Clock
    from metering.wiring.answers.costs import BillingRegions
    from metering.wiring.answers.ports import ReadableRegion
    from metering.wiring.answers.usage import Everywhere


@dataclass(frozen=True, kw_only=True)
class ApiParts:
    """Parts of the API, for all requests.

    Attributes:
        regions: The regions whose usage is answered, merged if there are several; a function has its own alone.
        tokens: Who may ask.
        limits: How much one request may cost.
        clock: The time now.
        everywhere: The regions are all of the stage, and answers name them; None if one region answers for itself.
        large: Knows which large requests are in work; those of this process, unless several answer for a region.
        billing: Finds what is rated together, anew for each request; None if costs cannot be told here.
    """

    regions: Sequence[ReadableRegion]
    tokens: Tokens
    limits: Limits
    clock: Clock
    everywhere: Everywhere | None = None
    billing: Callable[[], BillingRegions] | None = None
    large: LargeStore = field(default_factory=ProcessLarge)

    @cached_property
    def door(self) -> Door:
        """Lets requests in."""
        return Door.of(self.tokens, self.limits, self.clock)

    @cached_property
    def shares(self) -> Shares:
        """What tokens may read beside each other."""
        return Shares.of(self.large, self.limits, self.clock)
