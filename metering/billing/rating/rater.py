"""Rates usage lines and whole months, split at the payer's cuts.

Daily sums show which days contain a cut; only the lines of those days are read.
"""

import heapq
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import accumulate, groupby, repeat
from typing import NamedTuple, Protocol

from metering.billing.prices.book import Allowance, NotSold, PriceBook, Product
from metering.billing.rating import payer_prices
from metering.billing.rating.stretches import Sales, Span, Stretch, sales_in, spans_of, stretches_of
from metering.billing.usage.months import PayerUsage, Sold, StreamedUsage, UsageLine
from metering.hours import month_bounds_s
from metering.units import DAY_S
from metering.usage.totals import Service, UsageType

Given = dict[str, int]
"""Allowance -> bytes, in the order in which they are used."""


def allowances_in(prices: payer_prices.PayerPrices, month: str) -> tuple[Allowance, ...]:
    """Allowances that are in force when a month begins."""
    first_s, _ = month_bounds_s(month)
    return tuple(
        each for each in prices.book.allowances if each.from_s <= first_s and (each.to_s is None or first_s < each.to_s)
    )


def given_to(
    prices: payer_prices.PayerPrices, month: str, sales: Mapping[str, Sales], stretches: Mapping[str, Sequence[Stretch]]
) -> dict[str, Given]:
    """Bytes that each allowance gives to each product, by SKU.

    A payer gets each allowance once a month. The most expensive product gets the allowance first, as on AWS's bills:
    the price is the payer's first-tier price in the first hour with a price; ties are broken by SKU. Account-level
    overrides have no effect on this order. With order `chronological`, the earliest bytes of all products together get
    the allowance. Within a product, the earliest bytes are free in both cases. If a product has several allowances,
    they are used in the order of the book.
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
    """Eligible bytes of a product that earlier allowances have not used."""

    def __init__(self, taken_bytes: int, stretches: Sequence[Stretch]) -> None:
        self.taken_bytes = taken_bytes
        self.stretches = stretches

    @property
    def bytes(self) -> int:
        return sum(stretch.eligible_bytes for stretch in self.stretches) - self.taken_bytes

    def of(self, eligible_bytes: int) -> int:
        """Advance by eligible bytes; returns how many of them earlier allowances have not used."""
        passed = min(self.taken_bytes, eligible_bytes)
        self.taken_bytes -= passed
        return eligible_bytes - passed


def _dearness(prices: payer_prices.PayerPrices, sales: Sales) -> tuple[int, str]:
    first = sales.spans[0]
    return -prices.price_of(sales.product, first.version.tiers[0], "", first.from_s), sales.product.sku


def _dearest_first(allowance: Allowance, skus: Sequence[str], rests: Mapping[str, _Rest]) -> Given:
    taken, left_bytes = {}, allowance.bytes
    for sku in skus:
        taken[sku] = min(left_bytes, rests[sku].bytes)
        left_bytes -= taken[sku]
    return taken


def _earliest_first(
    prices: payer_prices.PayerPrices, allowance: Allowance, sales: Mapping[str, Sales], rests: Mapping[str, _Rest]
) -> Given:
    taken: Given = defaultdict(int)
    left_bytes = allowance.bytes
    for day in _by_day(rests):
        sums = [(sku, rests[sku].of(stretch.eligible_bytes), stretch) for sku, stretch in day]
        ends = sum(rest for _, rest, _ in sums) > left_bytes
        # The allowance is used up on this day, and only the day's lines show where.
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
    prices: payer_prices.PayerPrices, sales: Mapping[str, Sales], sums: Iterable[tuple[str, int, Stretch]]
) -> Iterator[tuple[str, int]]:
    """Yield the bytes of each line that earlier allowances have not used, for all products in the order of rating."""

    def lines(sku: str, rest: _Rest, stretch: Stretch) -> Iterator[tuple[UsageLine, str, int]]:
        for line in stretch.lines():
            if prices.takes_allowance(sales[sku].product, line.account_id, line.hour_s):
                yield line, sku, rest.of(line.bytes)

    parts = [lines(sku, _Rest(stretch.eligible_bytes - left, ()), stretch) for sku, left, stretch in sums]
    return ((sku, left) for _, sku, left in merge(*parts))


class Place(NamedTuple):
    """The place of a position: its stretch (None: before all stretches), and its cut."""

    stretch: Stretch | None
    cut: payer_prices.Cut


class Places(NamedTuple):
    """Places of the positions that a month reaches, by their number of eligible bytes or of paid bytes."""

    free: dict[int, Place]
    paid: dict[int, Place]


def positions(prices: payer_prices.PayerPrices, usage: PayerUsage) -> payer_prices.Positions:
    """Find the cuts of a payer's month. Reads daily sums, and lines only of days with a cut or price change.

    If an allowance excludes an account, all days of the allowance's products are read by the hour, because daily sums
    do not distinguish accounts.
    """
    return positions_in(prices, usage, sales_in(prices, usage.month, usage.days()))


def positions_in(
    prices: payer_prices.PayerPrices, usage: PayerUsage, sales: Mapping[str, Sales]
) -> payer_prices.Positions:
    """Like `positions`, but with given daily sums."""
    stretches = {sku: stretches_of(prices, usage, each) for sku, each in sales.items()}
    given = given_to(prices, usage.month, sales, stretches)
    return payer_prices.Positions(
        payer_id=prices.payer_id,
        month=usage.month,
        book_sha256=prices.book.sha256,
        skus={
            sku: sku_positions(each, given[sku], places_of(prices, each, stretches[sku], given[sku]))
            for sku, each in sales.items()
        },
    )


def sku_positions(sales: Sales, given: Given, places: Places) -> payer_prices.SkuPositions:
    """Compute the positions of a product from their places."""
    ends = accumulate(given.values())
    return payer_prices.SkuPositions(
        free=tuple(
            payer_prices.FreePart(allowance, size, _cut_at(places.free, end))
            for (allowance, size), end in zip(given.items(), ends, strict=True)
        ),
        tiers=tuple(payer_prices.Threshold(bound, _cut_at(places.paid, bound)) for bound in sales.bounds),
    )


def places_of(prices: payer_prices.PayerPrices, sales: Sales, stretches: Sequence[Stretch], given: Given) -> Places:
    """Places in the usage of a product at which allowances end and tiers begin.

    A position at the end of a stretch has its place at the beginning of the next stretch. If an allowance is larger
    than the usage, its end has no place.
    """
    walk = _Walk(prices, sales, given, sum(stretch.eligible_bytes for stretch in stretches))
    for stretch in stretches:
        walk.take(stretch)
    return walk.places


class _Walk:
    """Walks through the stretches in order; reads the lines of a stretch only if it contains a place."""

    def __init__(self, prices: payer_prices.PayerPrices, sales: Sales, given: Given, eligible_bytes: int) -> None:
        self.prices = prices
        self.product = sales.product
        self.bounds = sales.bounds
        self.ends = sorted({end for end in accumulate(given.values()) if end < eligible_bytes})
        self.free_bytes = sum(given.values())
        self.seen_bytes = 0
        self.paid_bytes = 0
        month_begin = payer_prices.Cut(sales.spans[0].from_s if sales.spans else 0)
        self.places = Places({end: Place(None, month_begin) for end in self.ends if not end}, {})

    def take(self, stretch: Stretch) -> None:
        free = min(max(self.free_bytes - self.seen_bytes, 0), stretch.eligible_bytes)
        seen_after, paid_after = self.seen_bytes + stretch.eligible_bytes, self.paid_bytes + stretch.bytes - free
        ends = list(_between(self.ends, self.seen_bytes, seen_after))
        bounds = list(_between(self.bounds, self.paid_bytes, paid_after))
        at_end = Place(stretch, payer_prices.Cut(stretch.to_s))
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
                    self.places.free[end] = Place(stretch, payer_prices.Cut(*line.key, end - seen))
                seen += line.bytes
            for bound in _between(self.bounds, paid, paid + line.bytes - free):
                self.places.paid[bound] = Place(stretch, payer_prices.Cut(*line.key, free + bound - paid))
            paid += line.bytes - free


def _between(positions_in_order: Iterable[int], after: int, until: int) -> Iterator[int]:
    return (position for position in positions_in_order if after < position <= until)


def _cut_at(places: dict[int, Place], position: int) -> payer_prices.Cut | None:
    place = places.get(position)
    return None if place is None else place.cut


_Sold = tuple[Service, UsageType]
_BY_TERMS = {
    NotSold: payer_prices.one_scale(payer_prices.UNRATED),
    type(None): payer_prices.one_scale(payer_prices.UNPRICED),
}


class Rater:
    """Prices lines of a payer's month.

    A line must contain all bytes of its key and hour, because two lines of one key and hour would both be split at the
    cut. An account's own overrides change its prices, but never the positions.
    """

    def __init__(self, prices: payer_prices.PayerPrices, positions: payer_prices.Positions) -> None:
        """Raises ValueError if the positions belong to another payer or price book."""
        if (prices.payer_id, prices.book.sha256) != (positions.payer_id, positions.book_sha256):
            raise ValueError(
                f"the positions are those of payer {positions.payer_id} and book {positions.book_sha256!r}, "
                f"the prices those of payer {prices.payer_id} and book {prices.book.sha256!r}"
            )
        self._prices = prices
        self._positions = positions
        self._month = month_bounds_s(positions.month)
        self._scales: dict[_Sold, payer_prices.Scale] = {}
        self._apart: dict[_Sold, frozenset[str]] = {}
        self._cut_days: dict[Sold, frozenset[int]] = {}
        self._own_scales: dict[tuple[str, str], payer_prices.Scale] = {}

    def rate(self, line: UsageLine) -> Iterator[payer_prices.RatedLine]:
        """Rate a line, split at each end of a tier or allowance within the line; yields nothing for 0 bytes.

        For a line of a whole day (hour: the first of the day), the result is correct only if `needs_hours` is false.
        """
        return self.rated((line,))

    def rated(self, lines: Iterable[UsageLine]) -> Iterator[payer_prices.RatedLine]:
        # This loop runs for each line of a month, so names are local and tuples are made by `tuple.__new__`.
        scales, apart, make = self._scales, self._apart, tuple.__new__
        for line in lines:
            sold = (line.service, line.usage_type)
            scale = scales.get(sold) or self._scale_of_all(sold)
            if apart and line.account_id in apart.get(sold, ()):
                scale = self._scale_of_one(sold, line.account_id)
            marks = scale.marks
            after = bisect_right(marks, line)
            if after and marks[after - 1].hour_s == line.hour_s:
                for piece, terms in scale.pieces(line, after):
                    yield make(payer_prices.RatedLine, (piece, *terms))
            elif line.bytes:
                yield make(payer_prices.RatedLine, (line, *scale.terms[after]))

    def terms_of_day(self, sold: Sold, day_s: int, account_id: str) -> payer_prices.Terms:
        """Terms of all bytes of an account in a day; correct only if `needs_hours` is false."""
        scale = self._scale_for(sold, account_id)
        return scale.terms[bisect_right(scale.marks, (day_s, account_id or _ANYBODY))]

    def terms_of_hour(self, sold: Sold, hour_s: int, account_id: str) -> payer_prices.Terms | None:
        """Terms of all bytes of an account in an hour; None if a cut lies inside the hour.

        With an empty id, the terms of all accounts without their own overrides.
        """
        scale = self._scale_for(sold, account_id)
        after = bisect_right(scale.marks, (hour_s, account_id or _ANYBODY))
        cut = any(mark.hour_s == hour_s and mark != payer_prices.Cut(hour_s) for mark in scale.marks)
        return None if cut else scale.terms[after]

    def accounts_apart(self, sold: Sold) -> frozenset[str]:
        self._scale_of_all(sold)
        return self._apart.get(sold, frozenset())

    def needs_hours(self, sold: Sold, day_s: int) -> bool:
        """Whether a cut, or a change of a price or an override, lies inside a day."""
        if sold not in self._cut_days:
            scales = [self._scale_of_all(sold)]
            scales += (self._scale_of_one(sold, account_id) for account_id in self.accounts_apart(sold))
            inside = (mark.hour_s for each in scales for mark in each.marks if _inside(mark))
            self._cut_days[sold] = frozenset(hour_s - hour_s % DAY_S for hour_s in inside)
        return day_s in self._cut_days[sold]

    def _scale_for(self, sold: Sold, account_id: str) -> payer_prices.Scale:
        apart = account_id in self.accounts_apart(sold)
        return self._scale_of_one(sold, account_id) if apart else self._scale_of_all(sold)

    def _scale_of_all(self, sold: _Sold) -> payer_prices.Scale:
        if sold not in self._scales:
            found = self._found(sold)
            if isinstance(found, Product):
                self._scales[sold] = self._scale(found, "")
                apart = self._prices.apart(found.sku, *self._month)
                if apart:
                    self._apart[sold] = apart
            else:
                self._scales[sold] = _BY_TERMS[type(found)]
        return self._scales[sold]

    def _scale_of_one(self, sold: _Sold, account_id: str) -> payer_prices.Scale:
        found = self._found(sold)
        if not isinstance(found, Product):
            return self._scale_of_all(sold)
        key = (found.sku, account_id)
        if key not in self._own_scales:
            self._own_scales[key] = self._scale(found, account_id)
        return self._own_scales[key]

    def _scale(self, product: Product, account_id: str) -> payer_prices.Scale:
        cuts = self._positions.skus.get(product.sku, payer_prices.SkuPositions())
        return payer_prices.scale_of(self._prices, product, cuts, account_id, self._positions.month)

    def _found(self, sold: _Sold) -> Product | NotSold | None:
        return self._prices.found(Sold(*sold))


# Sorts after a cut at the start of an hour, which has an empty account id, so that the hour includes such a cut.
_ANYBODY = "0"


def _inside(mark: payer_prices.Cut) -> bool:
    """Whether a mark splits its day. A mark at the very beginning of a day does not split it."""
    return mark != payer_prices.Cut(mark.hour_s) or mark.hour_s % DAY_S > 0


_Part = tuple["UsageLine", str]


def regions_rated(lines: Iterable[_Part], rater: Rater) -> Iterator[tuple[str, payer_prices.RatedLine]]:
    """Rate lines of several regions, in the order of rating. Lines of one key in two regions are split as one line."""
    for _, same in groupby(lines, key=lambda part: part[0].key):
        parts = list(same)
        whole = parts[0][0]._replace(bytes=sum(line.bytes for line, _ in parts))
        yield from _allotted(rater.rate(whole), parts)


def _allotted(
    pieces: Iterable[payer_prices.RatedLine], parts: Sequence[_Part]
) -> Iterator[tuple[str, payer_prices.RatedLine]]:
    """Divide the pieces of one line among its regions: the first region gets the first bytes, and so on."""
    waiting = iter(parts)
    line, region = next(waiting)
    left = line.bytes
    for piece in pieces:
        size = piece.line.bytes
        while size > left:
            if left:
                yield region, piece._replace(line=piece.line._replace(bytes=left))
                size -= left
            line, region = next(waiting)
            left = line.bytes
        yield region, piece._replace(line=piece.line._replace(bytes=size))
        left -= size


def rated_month(prices: payer_prices.PayerPrices, usage: StreamedUsage) -> Iterator[payer_prices.RatedLine]:
    """All lines of the month by the hour, rated in the order of the usage.

    The costs of accounts add up to the payer's (R9): cuts come from all accounts, prices from the line's account.
    """
    return Rater(prices, positions(prices, usage)).rated(usage.lines())


class DailyUsage(Protocol):
    """A part of a payer's usage in a month."""

    def day_lines(self) -> Iterator[UsageLine]:
        """Lines with one day's usage each, in any order."""

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]: ...


def rated_by_days(
    rater: Rater,
    parts: Mapping[str, DailyUsage],
    *,
    needs: Callable[[str, UsageLine], bool] = lambda _part, _line: True,
    splits: Callable[[int], bool] = lambda _day_s: False,
) -> Iterator[tuple[str, payer_prices.RatedLine]]:
    """Yield rated lines with their part: by the day if the whole day has one price, otherwise by the hour.

    The sums equal those of `rated_month`, with up to 24 times fewer lines. For a day rated by the hour, the result has
    all lines of a product, whatever `needs` returns, because the place of a part's bytes depends on the other parts.

    Args:
        rater: Rater with the positions of the whole payer.
        parts: Usage by region, or all usage under a single name.
        needs: Whether a line of a day must be rated at all.
        splits: Whether a day must be rated by the hour in any case.
    """
    by_hour: dict[int, set[Sold]] = {}
    for name, usage in parts.items():
        for line in usage.day_lines():
            if not needs(name, line):
                continue
            sold = line.sold
            if splits(line.hour_s) or rater.needs_hours(sold, line.hour_s):
                by_hour.setdefault(line.hour_s, set()).add(sold)
            else:
                yield from zip(repeat(name), rater.rate(line))
    for day_s, solds in sorted(by_hour.items()):
        streams = [(name, usage.lines_of(frozenset(solds), day_s)) for name, usage in parts.items()]
        if len(streams) == 1:
            yield from zip(repeat(streams[0][0]), rater.rated(streams[0][1]))
        else:
            yield from regions_rated(heapq.merge(*(zip(lines, repeat(name)) for name, lines in streams)), rater)


class Piece(NamedTuple):
    """Bytes of a product at one price."""

    bytes: int
    terms: payer_prices.Terms


@dataclass(frozen=True, slots=True)
class _Ladder:
    """Price tiers of a product whose prices do not change within the month. Tiers are (end, terms)."""

    sales: Sales
    span: Span
    tiers: tuple[tuple[int | None, payer_prices.Terms], ...]

    def paid(self, size: int) -> Iterator[Piece]:
        """Pieces into which the first `size` paid bytes fall."""
        begin = 0
        for end, terms in self.tiers:
            last = size if end is None else min(size, end)
            if last > begin:
                yield Piece(last - begin, terms)
                begin = last


class WholeMonths:
    """Rates monthly sums. Mutable: caches the prices of payers without overrides.

    The numbers of free bytes and of bytes in each tier do not depend on the order of usage (R2). Sums are therefore
    enough, unless a price changes within the month, or an allowance covers only the earliest bytes of several products.
    """

    def __init__(self, book: PriceBook, month: str) -> None:
        self.month = month
        self._book = book
        self._found: dict[Sold, Product | payer_prices.Terms] = {}
        self._ladders: dict[str, _Ladder | None] = {}
        self.with_allowance = frozenset(sku for allowance in book.allowances for sku in allowance.skus)

    def found(self, sold: Sold) -> Product | payer_prices.Terms:
        """The product, or the terms that apply to usage without a product."""
        if sold not in self._found:
            found = payer_prices.find(self._book, sold)
            other = payer_prices.UNRATED if isinstance(found, NotSold) else payer_prices.UNPRICED
            self._found[sold] = found if isinstance(found, Product) else other
        return self._found[sold]

    def rated(self, prices: payer_prices.PayerPrices, totals: Mapping[str, int]) -> dict[str, list[Piece]]:
        """Rate sums by SKU; returns pieces by SKU, but omits products for which the order of usage matters.

        `prices` must be of a payer whose accounts have no overrides of their own.
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
            free = [
                Piece(part, payer_prices.free_terms(prices, ladder.sales.product, name))
                for name, part in parts.items()
                if part
            ]
            rated[sku] = [*free, *ladder.paid(size - sum(parts.values()))]
        return rated

    def _given(
        self, prices: payer_prices.PayerPrices, totals: Mapping[str, int], ladders: Mapping[str, _Ladder | None]
    ) -> dict[str, dict[str, int]] | None:
        """Bytes that allowances give to their products; None if sums are not enough to tell."""
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


def _ladder(prices: payer_prices.PayerPrices, product: Product, month: str) -> _Ladder | None:
    """None if a price of the product changes within the month."""
    spans = spans_of(prices, product, month)
    if len(spans) != 1 or (spans[0].from_s, spans[0].to_s) != month_bounds_s(month):
        return None
    tiers = tuple(
        (tier.to_bytes, payer_prices.tier_terms(prices, product, tier, "", spans[0].from_s))
        for tier in spans[0].version.tiers
    )
    sales = Sales(product=product, spans=spans, sold=frozenset(), by_account=False, days={})
    return _Ladder(sales, spans[0], tiers)


def _stretch(span: Span, size: int) -> Stretch:
    eligible = size if span.takes_allowance else 0
    return Stretch(span=span, from_s=span.from_s, to_s=span.to_s, bytes=size, eligible_bytes=eligible, lines=lambda: ())
