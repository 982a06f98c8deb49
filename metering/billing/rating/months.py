"""The usage of a payer's month, rated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.rating.allowances import given_to
from metering.billing.rating.positions import positions, positions_in
from metering.billing.rating.rater import Rater
from metering.billing.rating.stretches import sales_of, stretches_of
from metering.hours import month_bounds_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.billing.rating.lines import RatedLine
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.rating.stretches import Sales, Span, Stretch
    from metering.billing.usage.ports import PayerUsage


def rated_month(prices: PayerPrices, usage: PayerUsage) -> Iterator[RatedLine]:
    """All lines of the month by the hour, in the order in which the usage has them.

    Accounts add up to their payer (R9), also where they have overrides of their own: each line is priced by the cuts of
    all accounts and by the prices of its own.
    """
    return Rater(prices, positions(prices, usage)).rated(usage.lines())


def exact_total(prices: PayerPrices, usage: PayerUsage) -> int:
    """Exact cost (L0) of the month, without its lines where that is possible.

    What a payer pays for a product follows from its sums by price version alone, whoever used it and in which order
    (R2): no line is read but those of days in which a price changes, or a chronological allowance ends.
    That ends where an account has an override of its own in a product: then it matters which bytes are that
    account's, and at which position, so the product's lines are read and added up.
    """
    return sum(exact_by_sku(prices, usage).values())


def exact_by_sku(prices: PayerPrices, usage: PayerUsage) -> dict[str, int]:
    """Exact cost (L0) of each product of the month, as `exact_total` finds it."""
    return exact_in(prices, usage, sales_of(prices, usage))


def exact_in(prices: PayerPrices, usage: PayerUsage, sales: Mapping[str, Sales]) -> dict[str, int]:
    """`exact_by_sku` of a usage whose sums of days are known."""
    month = month_bounds_s(usage.month)
    stretches = {sku: stretches_of(prices, usage, each) for sku, each in sales.items()}
    given = given_to(prices, usage.month, sales, stretches)
    totals = {
        sku: _by_totals(prices, each, stretches[sku], sum(given[sku].values()))
        for sku, each in sales.items()
        if not prices.apart(sku, *month)
    }
    apart = [each for sku, each in sales.items() if sku not in totals]
    if apart:
        rater = Rater(prices, positions_in(prices, usage, sales))
        totals |= {each.product.sku: _by_lines(rater, usage, each) for each in apart}
    return totals


def _by_totals(prices: PayerPrices, sales: Sales, stretches: Sequence[Stretch], free_bytes: int) -> int:
    exact = position = 0
    for stretch in stretches:
        free = min(free_bytes, stretch.eligible_bytes)
        free_bytes -= free
        after = position + stretch.bytes - free
        exact += _between(prices, sales, stretch.span, position, after)
        position = after
    return exact


def _between(prices: PayerPrices, sales: Sales, span: Span, begin: int, end: int) -> int:
    """Exact cost of the paid bytes `[begin, end)` at the prices of a span."""
    exact = 0
    for tier in span.version.tiers:
        last = end if tier.to_bytes is None else min(end, tier.to_bytes)
        in_tier = max(0, last - max(begin, tier.from_bytes))
        exact += in_tier * prices.price_of(sales.product, tier, "", span.from_s)
    return exact


def _by_lines(rater: Rater, usage: PayerUsage, sales: Sales) -> int:
    return sum(rated.exact for day_s in sales.days for rated in rater.rated(usage.lines_of(sales.sold, day_s)))
