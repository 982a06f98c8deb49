"""Usage that no price is found for, and months that have ended and cannot be invoiced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.prices.book import Product
from metering.billing.prices.matching import find
from metering.hours import month_bounds_s
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metering.billing.budgets.open_months import OpenMonths
    from metering.billing.prices.book import PriceBook
    from metering.billing.usage.ports import Sold

# A month is closed 72 hours after its end; two days more are for people.
_PATIENCE_S = 5 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpriced:
    """Usage of open months that a book says nothing about.

    Attributes:
        bytes: By month and by what is sold.
    """

    bytes: Mapping[str, Mapping[Sold, int]]

    @property
    def total_bytes(self) -> int:
        return sum(size for solds in self.bytes.values() for size in solds.values())

    @property
    def types(self) -> int:
        """Number of usage types."""
        return len({sold.usage_type for solds in self.bytes.values() for sold in solds})


def unpriced_in(months: OpenMonths, names: Iterable[str]) -> Unpriced:
    """What is unpriced in some months, over all accounts. Without a price book nothing is looked for."""
    book = months.terms.book
    return Unpriced(bytes={} if book is None else {name: _unpriced(months, name, book) for name in names})


def _unpriced(months: OpenMonths, name: str, book: PriceBook) -> dict[Sold, int]:
    found: dict[Sold, int] = {}
    for region in months.months(name):
        for day_s in region.days:
            for hour_s, solds in months.summaries.everything(region, day_s).items():
                for sold, size in solds.items():
                    if _has_no_price(book, sold, hour_s):
                        found[sold] = found.get(sold, 0) + size
    return found


def _has_no_price(book: PriceBook, sold: Sold, hour_s: int) -> bool:
    product = find(book, sold)
    # A product has no price before its first one.
    return product is None or (isinstance(product, Product) and product.version_at(hour_s) is None)


def blocked(
    months: OpenMonths, names: Iterable[str], *, left_out: Sequence[str], unpriced: Unpriced, now_s: int
) -> dict[str, str]:
    """Months that ended long enough ago to be invoiced and cannot be, each with the reason in words.

    Without a price book nobody invoices.
    """
    if months.terms.book is None:
        return {}
    found: dict[str, str] = {}
    for name in sorted(set(names)):
        _, after_s = month_bounds_s(name)
        if now_s >= after_s + _PATIENCE_S and any(region.days for region in months.months(name)):
            why = _reason(months, name, left_out, unpriced)
            if why:
                found[name] = why
    return found


def _reason(months: OpenMonths, name: str, left_out: Sequence[str], unpriced: Unpriced) -> str:
    still_open = [region.region for region in months.regions if name not in region.index.closed]
    if still_open:
        return f"{name} is not closed in {', '.join(still_open)}"
    if left_out:
        return f"{', '.join(left_out)} gave no answer"
    types = sorted({sold.usage_type for sold in unpriced.bytes.get(name, {})})
    return f"{name} has usage without a price, whose payers get no invoice: {', '.join(types[:5])}" if types else ""
