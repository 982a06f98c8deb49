"""What is rated, and what comes of it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.money import line_cost, quantity_of

if TYPE_CHECKING:
    from metering.billing.usage.ports import UsageLine


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
