"""Finds the cuts of a payer's month: by sums of days first, and by lines only in the days in which one lies."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.rating.allowances import given_to
from metering.billing.rating.cuts import Cut, FreePart, Positions, SkuPositions, Threshold
from metering.billing.rating.stretches import sales_of, stretches_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.rating.allowances import Given
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.rating.stretches import Sales, Stretch
    from metering.billing.usage.ports import PayerUsage


__all__ = ["Places", "Positions", "places_of", "positions", "positions_in", "sku_positions"]


class Place(NamedTuple):
    """Where a position lies: the stretch (None: before all of them), and the cut in it."""

    stretch: Stretch | None
    cut: Cut


class Places(NamedTuple):
    """Places of positions that are reached in a month, by position.

    Attributes:
        free: By bytes that may be free.
        paid: By bytes that are paid.
    """

    free: dict[int, Place]
    paid: dict[int, Place]


def positions(prices: PayerPrices, usage: PayerUsage) -> Positions:
    """Cuts of a payer's month. Reads sums of days, and lines only of days in which a cut or a change of price lies.

    If an override lets an account take no part of an allowance, all days of the allowance's products are read by the
    hour, because sums of days do not say which accounts their bytes are of.
    """
    return positions_in(prices, usage, sales_of(prices, usage))


def positions_in(prices: PayerPrices, usage: PayerUsage, sales: Mapping[str, Sales]) -> Positions:
    """`positions` of a usage whose sums of days are known."""
    stretches = {sku: stretches_of(prices, usage, each) for sku, each in sales.items()}
    given = given_to(prices, usage.month, sales, stretches)
    return Positions(
        payer_id=prices.payer_id,
        month=usage.month,
        book_sha256=prices.book.sha256,
        skus={
            sku: sku_positions(each, given[sku], places_of(prices, each, stretches[sku], given[sku]))
            for sku, each in sales.items()
        },
    )


def sku_positions(sales: Sales, given: Given, places: Places) -> SkuPositions:
    """Positions of a product by the places at which they lie."""
    ends = accumulate(given.values())
    return SkuPositions(
        free=tuple(
            FreePart(allowance, size, _cut_at(places.free, end))
            for (allowance, size), end in zip(given.items(), ends, strict=True)
        ),
        tiers=tuple(Threshold(bound, _cut_at(places.paid, bound)) for bound in sales.bounds),
    )


def places_of(prices: PayerPrices, sales: Sales, stretches: Sequence[Stretch], given: Given) -> Places:
    """Where allowances end and tiers begin in the usage of a product.

    A position that is reached exactly at the end of a stretch lies at the beginning of what follows it. Allowances that
    hold to the end of the usage have no end.
    """
    walk = _Walk(prices, sales, given, sum(stretch.eligible_bytes for stretch in stretches))
    for stretch in stretches:
        walk.take(stretch)
    return walk.places


class _Walk:
    """Takes stretch after stretch, and reads the lines of those that hold a place."""

    def __init__(self, prices: PayerPrices, sales: Sales, given: Given, eligible_bytes: int) -> None:
        self.prices = prices
        self.product = sales.product
        self.bounds = sales.bounds
        self.ends = sorted({end for end in accumulate(given.values()) if end < eligible_bytes})
        self.free_bytes = sum(given.values())
        self.seen_bytes = 0
        self.paid_bytes = 0
        month_begin = Cut(sales.spans[0].from_s if sales.spans else 0)
        self.places = Places({end: Place(None, month_begin) for end in self.ends if not end}, {})

    def take(self, stretch: Stretch) -> None:
        free = self._free_of(stretch.eligible_bytes)
        seen_after, paid_after = self.seen_bytes + stretch.eligible_bytes, self.paid_bytes + stretch.bytes - free
        ends = list(_between(self.ends, self.seen_bytes, seen_after))
        bounds = list(_between(self.bounds, self.paid_bytes, paid_after))
        at_end = Place(stretch, Cut(stretch.to_s))
        within = any(end != seen_after for end in ends) or any(bound != paid_after for bound in bounds)
        hours = stretch.hours() if within else ()
        if hours:
            for hour in hours:
                self.take(hour)
        elif within:
            self._read(stretch)
        else:
            self.places.free.update(dict.fromkeys(ends, at_end))
            self.places.paid.update(dict.fromkeys(bounds, at_end))
        self.seen_bytes, self.paid_bytes = seen_after, paid_after

    def _read(self, stretch: Stretch) -> None:
        seen, paid = self.seen_bytes, self.paid_bytes
        for line in stretch.lines():
            eligible = self.prices.takes_allowance(self.product, line.account_id, line.hour_s)
            free = min(max(self.free_bytes - seen, 0), line.bytes) if eligible else 0
            if eligible:
                for end in _between(self.ends, seen, seen + line.bytes):
                    self.places.free[end] = Place(stretch, Cut(*line.key, end - seen))
                seen += line.bytes
            for bound in _between(self.bounds, paid, paid + line.bytes - free):
                self.places.paid[bound] = Place(stretch, Cut(*line.key, free + bound - paid))
            paid += line.bytes - free

    def _free_of(self, eligible_bytes: int) -> int:
        return min(max(self.free_bytes - self.seen_bytes, 0), eligible_bytes)


def _between(positions_in_order: Iterable[int], after: int, until: int) -> Iterator[int]:
    return (position for position in positions_in_order if after < position <= until)


def _cut_at(places: dict[int, Place], position: int) -> Cut | None:
    place = places.get(position)
    return None if place is None else place.cut
