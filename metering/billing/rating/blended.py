"""Blended rates: what a payer's GB of a product costs on average, free bytes included.

AWS shows them beside what each account pays unblended: a payer's cost of a SKU, divided by its quantity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.rating.months import exact_in
from metering.billing.rating.stretches import sales_of, stretches_of
from metering.hours import month_bounds_s
from metering.units import GIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.rating.stretches import Sales
    from metering.billing.usage.ports import PayerUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class Blended:
    """A payer's cost and bytes of one product in a month.

    Attributes:
        exact: Exact cost (L0).
        bytes: All of its bytes that have a price, the free ones too; at least 1.
    """

    exact: int
    bytes: int

    @property
    def rate(self) -> int:
        """1e-10 USD a GB, rounded half up."""
        return _half_up(self.exact, self.bytes)

    def cost_of(self, part_bytes: int) -> int:
        """Blended cost of a part of the bytes in 1e-10 USD: its share of the cost, rounded half up once."""
        return _half_up(self.exact * part_bytes, self.bytes * GIB)


def blended(prices: PayerPrices, usage: PayerUsage) -> Mapping[str, Blended]:
    """Blended rates of a payer's month, by SKU."""
    sales = sales_of(prices, usage)
    exact = exact_in(prices, usage, sales)
    totals = {sku: _priced_bytes(prices, usage, each) for sku, each in sales.items()}
    return {sku: Blended(exact=exact[sku], bytes=total) for sku, total in totals.items() if total}


def _priced_bytes(prices: PayerPrices, usage: PayerUsage, sales: Sales) -> int:
    """Bytes of a product in the month, without those of before its first price."""
    if sales.product.version_at(month_bounds_s(usage.month)[0]) is not None:
        return sum(sales.days.values())
    return sum(stretch.bytes for stretch in stretches_of(prices, usage, sales))


def _half_up(number: int, unit: int) -> int:
    return (2 * number + unit) // (2 * unit)
