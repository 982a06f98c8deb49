"""A payer's month by its sums alone, without a walk: how many bytes of each product have which price.

Which bytes are free and in which tier depends on their order; how many are does not (R2). So where nobody asks which
bytes they are, sums of the month are enough. That ends where a price changes within the month, and where an allowance
goes to the earliest bytes of several products and does not hold for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.prices.book import NotSold, Product
from metering.billing.prices.matching import find
from metering.billing.rating.allowances import allowances_in, given_to
from metering.billing.rating.scales import UNPRICED, UNRATED, Terms, free_terms, tier_terms
from metering.billing.rating.stretches import Sales, Stretch, spans_of
from metering.hours import month_bounds_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from metering.billing.prices.book import PriceBook
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.rating.stretches import Span
    from metering.billing.usage.ports import Sold


class Piece(NamedTuple):
    """Bytes of a product that have one price."""

    bytes: int
    terms: Terms


@dataclass(frozen=True, slots=True)
class _Ladder:
    """A product whose prices are the same all month.

    Attributes:
        span: The month.
        tiers: Where each ends, and its terms.
    """

    sales: Sales
    span: Span
    tiers: tuple[tuple[int | None, Terms], ...]

    def paid(self, size: int) -> Iterator[Piece]:
        """Pieces of the first bytes that no allowance makes free."""
        begin = 0
        for end, terms in self.tiers:
            last = size if end is None else min(size, end)
            if last > begin:
                yield Piece(last - begin, terms)
                begin = last


class WholeMonths:
    """Rates sums of whole months. Mutable: it remembers the prices of payers without overrides.

    Args:
        book: Prices for everybody.
        month: `2026-11`.
    """

    def __init__(self, book: PriceBook, month: str) -> None:
        self.month = month
        self._book = book
        self._found: dict[Sold, Product | Terms] = {}
        self._ladders: dict[str, _Ladder | None] = {}
        self.with_allowance = frozenset(sku for allowance in book.allowances for sku in allowance.skus)

    def found(self, sold: Sold) -> Product | Terms:
        """The product, or the terms of what has none."""
        if sold not in self._found:
            found = find(self._book, sold)
            other = UNRATED if isinstance(found, NotSold) else UNPRICED
            self._found[sold] = found if isinstance(found, Product) else other
        return self._found[sold]

    def rated(self, prices: PayerPrices, totals: Mapping[str, int]) -> dict[str, list[Piece]]:
        """Pieces by SKU; without products for which the order of usage counts.

        Args:
            prices: Of a payer none of whose accounts has overrides of its own.
            totals: All bytes of its month by SKU.
        """
        known = {} if prices.overrides else self._ladders
        for sku in totals:
            if sku not in known:
                known[sku] = _ladder(prices, self._book.by_sku[sku], self.month)
        with_allowance = {sku: size for sku, size in totals.items() if sku in self.with_allowance}
        given = self._given(prices, with_allowance, known) if with_allowance else {}
        rated: dict[str, list[Piece]] = {}
        for sku, size in totals.items():
            ladder, parts = known[sku], {} if given is None else given.get(sku, {})
            if ladder is None or (given is None and sku in with_allowance):
                continue
            free = [Piece(part, free_terms(prices, ladder.sales.product, name)) for name, part in parts.items() if part]
            rated[sku] = [*free, *ladder.paid(size - sum(parts.values()))]
        return rated

    def _given(
        self, prices: PayerPrices, totals: Mapping[str, int], ladders: Mapping[str, _Ladder | None]
    ) -> dict[str, dict[str, int]] | None:
        """What allowances give to their products; None if sums do not say it."""
        sales: dict[str, Sales] = {}
        stretches: dict[str, list[Stretch]] = {}
        for sku, size in sorted(totals.items()):
            ladder = ladders[sku]
            if ladder is None:
                return None
            sales[sku], stretches[sku] = ladder.sales, [_stretch(ladder.span, size)]
        for allowance in allowances_in(prices, self.month):
            size = sum(totals.get(sku, 0) for sku in allowance.skus)
            if allowance.order == "chronological" and size > allowance.bytes:
                return None
        return given_to(prices, self.month, sales, stretches)


def _ladder(prices: PayerPrices, product: Product, month: str) -> _Ladder | None:
    """None if the price changes within the month."""
    spans = spans_of(prices, product, month)
    if len(spans) != 1 or (spans[0].from_s, spans[0].to_s) != month_bounds_s(month):
        return None
    tiers = tuple(
        (tier.to_bytes, tier_terms(prices, product, tier, "", spans[0].from_s)) for tier in spans[0].version.tiers
    )
    sales = Sales(product=product, spans=spans, sold=frozenset(), by_account=False, days={})
    return _Ladder(sales, spans[0], tiers)


def _stretch(span: Span, size: int) -> Stretch:
    """The whole month as one stretch."""
    eligible = size if span.takes_allowance else 0
    return Stretch(span=span, from_s=span.from_s, to_s=span.to_s, bytes=size, eligible_bytes=eligible, lines=lambda: ())
