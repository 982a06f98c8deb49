"""Cuts of a payer's month, found by sums of days, and by lines only in days that hold a cut."""

from __future__ import annotations

from collections import defaultdict
from heapq import merge
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.rating.lines import Cut, FreePart, Positions, SkuPositions, Threshold
from metering.billing.rating.stretches import Sales, Stretch, sales_in, stretches_of
from metering.hours import month_bounds_s
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.prices.book import Allowance
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.usage.months import PayerUsage, UsageLine


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
    """Bytes that each allowance gives to each product, by SKU.

    An allowance is the payer's, once a month. It goes to the dearest product first, as AWS's bills show: by the first
    tier that the payer pays in the first hour with a price; equal ones by SKU. Prices of single accounts do not count.
    The other order gives it to the earliest bytes of all its products. Within a product, the earliest bytes are free
    either way. Allowances of a product are used in the order of the book.
    """
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
    """Bytes of a product that may be free and are left by earlier allowances."""

    def __init__(self, taken_bytes: int, stretches: Sequence[Stretch]) -> None:
        self.taken_bytes = taken_bytes
        self.stretches = stretches

    @property
    def bytes(self) -> int:
        return sum(stretch.eligible_bytes for stretch in self.stretches) - self.taken_bytes

    def of(self, eligible_bytes: int) -> int:
        """Take the next bytes in order; returns how many of them are left."""
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
        ends = sum(rest for _, rest, _ in sums) > left_bytes
        # Only the day's lines show where the allowance ends.
        for sku, size in _eligible(prices, sales, sums) if ends else (each[:2] for each in sums):
            one = min(left_bytes, size)
            taken[sku] += one
            left_bytes -= one
        if ends:
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
    """Bytes that are left of each line, over all products in the order of rating."""

    def lines(sku: str, rest: _Rest, stretch: Stretch) -> Iterator[tuple[UsageLine, str, int]]:
        for line in stretch.lines():
            if prices.takes_allowance(sales[sku].product, line.account_id, line.hour_s):
                yield line, sku, rest.of(line.bytes)

    parts = [lines(sku, _Rest(stretch.eligible_bytes - left, ()), stretch) for sku, left, stretch in sums]
    return ((sku, left) for _, sku, left in merge(*parts))


class Place(NamedTuple):
    """The place of a position: its stretch (None: before all of them), and the cut."""

    stretch: Stretch | None
    cut: Cut


class Places(NamedTuple):
    """Places of the positions that are reached in a month: by bytes that may be free, and by paid bytes."""

    free: dict[int, Place]
    paid: dict[int, Place]


def positions(prices: PayerPrices, usage: PayerUsage) -> Positions:
    """Cuts of a payer's month. Reads sums of days, and lines of days in which a cut or a change of price lies.

    If an account takes no part of an allowance, all days of the allowance's products are read by the hour, because sums
    of days do not tell accounts apart.
    """
    return positions_in(prices, usage, sales_in(prices, usage.month, usage.days()))


def positions_in(prices: PayerPrices, usage: PayerUsage, sales: Mapping[str, Sales]) -> Positions:
    """`positions` of a usage with known sums of days."""
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
    """Places at which allowances end and tiers begin in the usage of a product.

    A position at the end of a stretch lies at the beginning of the next one. An allowance that outlasts the usage has
    no end.
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
        free = min(max(self.free_bytes - self.seen_bytes, 0), stretch.eligible_bytes)
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


def _between(positions_in_order: Iterable[int], after: int, until: int) -> Iterator[int]:
    return (position for position in positions_in_order if after < position <= until)


def _cut_at(places: dict[int, Place], position: int) -> Cut | None:
    place = places.get(position)
    return None if place is None else place.cut
