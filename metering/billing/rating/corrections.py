"""The cost of late usage of a closed month, line by line: exactly rate(old + late) - rate(old).

Billed lines never change. Late usage is priced as if it came after all old usage of its product at the same prices, so
it rarely moves other bytes to new prices. Each set of moved bytes becomes a pair of adjustment lines, for the account,
key and hour whose bytes moved: minus the bytes at their old cost, plus the bytes at their new cost. Bytes move where

- late usage takes allowance away from another product, or from later bytes of its own product;
- prices changed within the month, and usage after the change now has a higher position in the tiers.

The sums are exact because a payer's cost of a product depends only on the totals of the spans (`stretches.Span`), not
on the order within a span. Usage that is placed last in its span thus costs the payer the same as usage in order of
time. An account with its own override for the product is an exception. For such an account, late usage is rated in
order of time, and the pairs show all bytes moved by it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from heapq import merge
from itertools import accumulate, pairwise

from metering.billing.rating.payer_prices import Cut, PayerPrices, Positions, RatedLine, SkuPositions
from metering.billing.rating.rater import Place, Places, Rater, given_to, places_of, positions_in, sku_positions
from metering.billing.rating.stretches import Sales, Stretch, sales_in, stretches_of
from metering.billing.usage.months import LineKey, PayerUsage, Sold, UsageLine, merged
from metering.hours import month_bounds_s
from metering.units import DAY_S


class LateUsage:
    """Late lines of one payer and one closed month, held in memory.

    Attributes:
        lines: One line per key and hour, in the order of rating, without lines of 0 bytes.
    """

    def __init__(self, month: str, lines: Iterable[UsageLine]) -> None:
        """Add up lines with the same key and hour.

        Raises:
            ValueError: A line belongs to another month, or has negative bytes.
        """
        first_s, after_s = month_bounds_s(month)
        sums: dict[LineKey, UsageLine] = {}
        for line in lines:
            if not first_s <= line.hour_s < after_s:
                raise ValueError(f"{line} is no usage of {month}")
            if line.bytes < 0:
                raise ValueError(f"{line} has less than 0 bytes")
            known = sums.get(line.key)
            sums[line.key] = line if known is None else line._replace(bytes=known.bytes + line.bytes)
        self.lines = tuple(sorted(line for line in sums.values() if line.bytes))

    def of(self, sold: frozenset[Sold]) -> Iterator[UsageLine]:
        return (line for each in sorted(self._by_sold) if each in sold for line in self._by_sold[each])

    def stretches(self, prices: PayerPrices, sales: Sales) -> Iterator[Stretch]:
        """Late lines of a product, one stretch per span."""
        lines = sorted(self.of(sales.sold))
        for span in sales.spans:
            of_span = [line for line in lines if span.from_s <= line.hour_s < span.to_s]
            eligible = (
                line.bytes for line in of_span if prices.takes_allowance(sales.product, line.account_id, line.hour_s)
            )
            if of_span:
                yield Stretch(
                    span=span,
                    from_s=span.from_s,
                    to_s=span.to_s,
                    bytes=sum(line.bytes for line in of_span),
                    eligible_bytes=sum(eligible),
                    lines=of_span.__iter__,
                    late=True,
                )

    @cached_property
    def _by_sold(self) -> Mapping[Sold, list[UsageLine]]:
        by: dict[Sold, list[UsageLine]] = defaultdict(list)
        for line in self.lines:
            by[line.sold].append(line)
        return by


@dataclass(frozen=True)
class Together:
    """A payer's usage of a month together with the late usage of the same month."""

    old: PayerUsage
    late: LateUsage

    @property
    def month(self) -> str:
        return self.old.month

    @cached_property
    def old_days(self) -> Mapping[Sold, Mapping[int, int]]:
        """Daily sums, excluding late usage. To compute the sums, the whole month may have to be read once."""
        return self.old.days()

    def days(self) -> Mapping[Sold, Mapping[int, int]]:
        days = {sold: defaultdict(int, of) for sold, of in self.old_days.items()}
        for line in self.late.lines:
            of = days.setdefault(line.sold, defaultdict(int))
            of[line.hour_s - line.hour_s % DAY_S] += line.bytes
        return days

    def lines_of(self, sold: frozenset[Sold], day_s: int) -> Iterator[UsageLine]:
        late = sorted(line for line in self.late.of(sold) if day_s <= line.hour_s < day_s + DAY_S)
        return merged(merge(self.old.lines_of(sold, day_s), late))


_NEVER = Cut(2**63)


def corrected(prices: PayerPrices, old: PayerUsage, late: Iterable[UsageLine]) -> Iterator[RatedLine]:
    """Lines whose exact costs add up to rate(old + late) - rate(old): the late lines, then the adjustments.

    Old usage is read only for days on which bytes may have moved. Two calls give the same sum as one call, if `old` of
    the second call includes `late` of the first.

    Args:
        prices: Prices that apply to the closed month.
        old: Usage of the closed month, including all its earlier corrections.
        late: Usage of the closed month that is not in `old`.

    Raises:
        ValueError: A late line belongs to another month, or has negative bytes.
    """
    late_usage = LateUsage(old.month, late)
    if not late_usage.lines:
        return
    together = Together(old, late_usage)
    old_sales = sales_in(prices, old.month, together.old_days)
    before = positions_in(prices, old, old_sales)
    after_old, after_late = _positions_with(prices, together, old_sales, before)
    yield from Rater(prices, after_late).rated(late_usage.lines)
    raters = Rater(prices, before), Rater(prices, after_old)
    for sku, sales in old_sales.items():
        for line in _touched(old, sales, before.skus[sku], after_old.skus[sku]):
            yield from _pairs(line, *(tuple(rater.rate(line)) for rater in raters))


def _positions_with(
    prices: PayerPrices, together: Together, old_sales: Mapping[str, Sales], before: Positions
) -> tuple[Positions, Positions]:
    """Cut positions for old and late usage combined: once located in the old lines, once in the late lines."""
    old, sales = together.old, sales_in(prices, together.month, together.days())
    in_time = {sku: stretches_of(prices, together, each) for sku, each in sales.items()}
    given = given_to(prices, old.month, sales, in_time)
    month = month_bounds_s(old.month)
    seen_by_old, seen_by_late = dict(before.skus), {}
    for sku, each in sales.items():
        was = before.skus.get(sku)
        if was is not None and was.given == given[sku] and not any(together.late.of(each.sold)):
            continue
        by_old: Callable[[Place], Cut]
        by_late: Callable[[Place], Cut]
        if prices.apart(sku, *month):
            stretches, by_old, by_late = in_time[sku], partial(_in_old, old), partial(_in_late, old)
        else:
            of_old = stretches_of(prices, old, old_sales[sku]) if sku in old_sales else ()
            stretches, by_old, by_late = (
                _late_last(of_old, together.late.stretches(prices, each)),
                _before_late,
                _after_old,
            )
        places = places_of(prices, each, stretches, given[sku])
        seen_by_old[sku] = sku_positions(each, given[sku], _seen(places, by_old))
        seen_by_late[sku] = sku_positions(each, given[sku], _seen(places, by_late))

    def of(skus: dict[str, SkuPositions]) -> Positions:
        sha256 = prices.book.sha256
        return Positions(payer_id=prices.payer_id, month=old.month, book_sha256=sha256, skus=skus)

    return of(seen_by_old), of(seen_by_late)


# Positions of old lines and of late lines in the order of rating. Late usage of a span is rated after its old usage.


def _before_late(place: Place) -> Cut:
    return Cut(place.stretch.span.to_s) if place.stretch is not None and place.stretch.late else place.cut


def _after_old(place: Place) -> Cut:
    return Cut(place.stretch.span.from_s) if place.stretch is not None and not place.stretch.late else place.cut


# If accounts have overrides, late usage is rated at its place in time, after the old usage of the same key and hour.


def _in_old(old: PayerUsage, place: Place) -> Cut:
    return place.cut._replace(into_bytes=min(place.cut.into_bytes, _old_bytes(old, place.cut)))


def _in_late(old: PayerUsage, place: Place) -> Cut:
    return place.cut._replace(into_bytes=max(place.cut.into_bytes - _old_bytes(old, place.cut), 0))


def _old_bytes(old: PayerUsage, cut: Cut) -> int:
    sold = frozenset({Sold(cut.service, cut.usage_type)})
    lines = old.lines_of(sold, cut.hour_s - cut.hour_s % DAY_S) if cut.account_id else ()
    return sum(line.bytes for line in lines if line.key == cut.key)


def _late_last(old: Iterable[Stretch], late: Iterable[Stretch]) -> list[Stretch]:
    return sorted([*old, *late], key=lambda stretch: (stretch.span.from_s, stretch.late, stretch.from_s))


def _seen(places: Places, view: Callable[[Place], Cut]) -> Places:
    free, paid = ({position: place._replace(cut=view(place)) for position, place in each.items()} for each in places)
    return Places(free, paid)


def _touched(old: PayerUsage, sales: Sales, before: SkuPositions, after: SkuPositions) -> Iterator[UsageLine]:
    """All old lines of the days between the old and the new place of each moved cut."""
    moved = [
        sorted((was or _NEVER, now or _NEVER)) for was, now in zip(before.cuts, after.cuts, strict=True) if was != now
    ]
    for day_s in sorted(sales.days):
        if any(first.hour_s < day_s + DAY_S and day_s <= last.hour_s for first, last in moved):
            yield from old.lines_of(sales.sold, day_s)


def _pairs(line: UsageLine, before: Sequence[RatedLine], after: Sequence[RatedLine]) -> Iterator[RatedLine]:
    """Minus and plus lines for the bytes of a line whose price changed."""
    ends = sorted({*_ends(before), *_ends(after)})
    for begin, end in pairwise((0, *ends)):
        was, now = _piece_at(before, begin), _piece_at(after, begin)
        if was[1:] != now[1:]:
            yield was._replace(line=line._replace(bytes=begin - end))
            yield now._replace(line=line._replace(bytes=end - begin))


def _ends(pieces: Iterable[RatedLine]) -> Iterator[int]:
    return accumulate(piece.line.bytes for piece in pieces)


def _piece_at(pieces: Sequence[RatedLine], position: int) -> RatedLine:
    return next(piece for piece, end in zip(pieces, _ends(pieces), strict=True) if position < end)
