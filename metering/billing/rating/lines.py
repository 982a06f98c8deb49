"""What is rated, and what comes of it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from metering.billing.money import line_cost, quantity_of
from metering.usage.totals import Service, UsageKind, UsageType

LineKey = tuple[int, str, Service, UsageType, str, str]
"""Hour, account, service, usage type, from and to."""


class UsageLine(NamedTuple):
    """Usage of one key in one hour, or in a day if that is the grain. The order of its fields is the order of rating.

    Attributes:
        hour_s: The hour of use, epoch seconds: of a correction its own hour, not the one that books it.
    """

    hour_s: int
    account_id: str
    service: Service
    usage_type: UsageType
    from_location: str
    to_location: str
    bytes: int

    @property
    def key(self) -> LineKey:
        """Everything but its bytes."""
        return self[:6]

    @property
    def kind(self) -> UsageKind:
        """Its kind of usage."""
        return UsageKind(self.usage_type, self.service, self.from_location, self.to_location)


class PriceState(StrEnum):
    """What a price book says of a line.

    Attributes:
        PRICED: It has a price, which may be 0.
        UNRATED: A rule of the book says that it is not sold here: free, or billed elsewhere. It is always shown.
        UNPRICED: Nothing in the book is about it. An invoice is refused.
    """

    PRICED = "priced"
    UNRATED = "unrated"
    UNPRICED = "unpriced"


class RatedLine(NamedTuple):
    """Bytes of one usage line at one price. A line that crosses a tier becomes one of these for each tier.

    Attributes:
        line: The usage line, with the bytes that have this price. They are negative only in adjustments.
        state: If it is not `priced`, the fields below are empty or 0.
        sku: SKU of the product.
        rate_code: AWS's `<sku>.<offer term>.<rate>`, or that of the allowance.
        price: Price in 1e-10 USD a GB that the payer pays.
        list_price: Price of the book, before overrides.
        tier_from_bytes, tier_to_bytes: Tier, half open, in bytes beyond the allowance. The last one has no end (None).
        allowance: Id of the allowance that makes it free; empty if none does.
    """

    line: UsageLine
    state: PriceState
    sku: str = ""
    rate_code: str = ""
    price: int = 0
    list_price: int = 0
    tier_from_bytes: int = 0
    tier_to_bytes: int | None = None
    allowance: str = ""

    @property
    def exact(self) -> int:
        """Exact cost (L0)."""
        return self.line.bytes * self.price

    @property
    def quantity(self) -> int:
        """Quantity in 1e-10 GB, as a line of a bill has it."""
        return quantity_of(self.line.bytes)

    @property
    def cost(self) -> int:
        """Cost in 1e-10 USD, as a line of a bill has it (L1)."""
        return line_cost(self.line.bytes, self.price)
