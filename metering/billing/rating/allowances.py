"""Which product gets how much of an allowance.

An allowance is the payer's, once a month. It goes to the dearest product first, as AWS's bills show: by the price of
the first tier that the payer pays in the first hour of the month (or the first one that has a price), and of equal ones
to the lower SKU. Prices that single accounts pay do not count here. The other order gives it to the earliest bytes of
all its products. Inside a product, the earliest bytes are the free ones, either way. Several allowances of a product
are used in the order of the book: the later one begins where the earlier one ends.
"""

from __future__ import annotations

from collections import defaultdict
from heapq import merge
from typing import TYPE_CHECKING

from metering.hours import month_bounds_s
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.prices.book import Allowance
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.rating.stretches import Sales, Stretch
    from metering.billing.usage.ports import UsageLine

Given = dict[str, int]
"""Allowance -> bytes, in the order in which they are used."""


def allowances_in(prices: PayerPrices, month: str) -> tuple[Allowance, ...]:
    """Allowances that hold when a month begins."""
    first_s, _ = month_bounds_s(month)
    return tuple(
        each for each in prices.book.allowances if each.from_s <= first_s and (each.to_s is None or first_s < each.to_s)
    )


def given_to(
    prices: PayerPrices, month: str, sales: Mapping[str, Sales], stretches: Mapping[str, Sequence[Stretch]]
) -> dict[str, Given]:
    """What each allowance gives to each product, by SKU."""
    given: dict[str, Given] = {sku: {} for sku in sales}
    for allowance in allowances_in(prices, month):
        skus = [sku for sku in allowance.skus if sku in sales and sales[sku].spans]
        rests = {sku: _Rest(sum(given[sku].values()), stretches[sku]) for sku in skus}
        if allowance.order == "chronological":
            taken = _earliest_first(prices, allowance, sales, rests)
        else:
            taken = _dearest_first(allowance, sorted(skus, key=lambda sku: _dearness(prices, sales[sku])), rests)
        for sku in skus:
            given[sku][allowance.id] = taken.get(sku, 0)
    return given


class _Rest:
    """Bytes of a product that may be free and that no allowance before has taken."""

    def __init__(self, taken_bytes: int, stretches: Sequence[Stretch]) -> None:
        self.taken_bytes = taken_bytes
        self.stretches = stretches

    @property
    def bytes(self) -> int:
        return sum(stretch.eligible_bytes for stretch in self.stretches) - self.taken_bytes

    def of(self, eligible_bytes: int) -> int:
        """How many of the next bytes are left. Each byte may be asked for once, in order."""
        passed = min(self.taken_bytes, eligible_bytes)
        self.taken_bytes -= passed
        return eligible_bytes - passed


def _dearness(prices: PayerPrices, sales: Sales) -> tuple[int, str]:
    first = sales.spans[0]
    return -prices.price_of(sales.product, first.version.tiers[0], "", first.from_s), sales.product.sku


def _dearest_first(allowance: Allowance, skus: Sequence[str], rests: Mapping[str, _Rest]) -> Given:
    taken, left_bytes = {}, allowance.bytes
    for sku in skus:
        taken[sku] = min(left_bytes, rests[sku].bytes)
        left_bytes -= taken[sku]
    return taken


def _earliest_first(
    prices: PayerPrices, allowance: Allowance, sales: Mapping[str, Sales], rests: Mapping[str, _Rest]
) -> Given:
    taken: Given = defaultdict(int)
    left_bytes = allowance.bytes
    for day in _by_day(rests):
        sums = [(sku, rests[sku].of(stretch.eligible_bytes), stretch) for sku, stretch in day]
        if sum(rest for _, rest, _ in sums) <= left_bytes:
            for sku, rest, _ in sums:
                taken[sku] += rest
                left_bytes -= rest
            continue
        # The allowance ends in this day, so its lines say where.
        for sku, line_bytes in _eligible(prices, sales, sums):
            one = min(left_bytes, line_bytes)
            taken[sku] += one
            left_bytes -= one
        break
    return taken


def _by_day(rests: Mapping[str, _Rest]) -> Iterator[list[tuple[str, Stretch]]]:
    days: dict[int, list[tuple[str, Stretch]]] = defaultdict(list)
    for sku, rest in rests.items():
        for stretch in rest.stretches:
            days[stretch.from_s - stretch.from_s % DAY_S].append((sku, stretch))
    return (days[day_s] for day_s in sorted(days))


def _eligible(
    prices: PayerPrices, sales: Mapping[str, Sales], sums: Iterable[tuple[str, int, Stretch]]
) -> Iterator[tuple[str, int]]:
    """Bytes of each line of some stretches that are left, over all products in the order of rating."""

    def lines(sku: str, rest: _Rest, stretch: Stretch) -> Iterator[tuple[UsageLine, str, int]]:
        for line in stretch.lines():
            if prices.takes_allowance(sales[sku].product, line.account_id, line.hour_s):
                yield line, sku, rest.of(line.bytes)

    parts = [lines(sku, _Rest(stretch.eligible_bytes - left, ()), stretch) for sku, left, stretch in sums]
    return ((sku, left) for _, sku, left in merge(*parts))
