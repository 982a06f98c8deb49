"""Prices of usage lines, one by one and in any order, by the cuts of their payer."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from metering.billing.prices.book import NotSold, Product
from metering.billing.rating.cuts import Cut, SkuPositions
from metering.billing.rating.lines import RatedLine
from metering.billing.rating.scales import UNPRICED, UNRATED, one_scale, scale_of
from metering.billing.usage.ports import Sold
from metering.hours import month_bounds_s
from metering.units import DAY_S
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.billing.rating.cuts import Positions
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.rating.scales import Scale, Terms
    from metering.billing.usage.ports import UsageLine

_Sold = tuple[Service, UsageType]
_BY_TERMS = {NotSold: one_scale(UNRATED), type(None): one_scale(UNPRICED)}


class Rater:
    """Prices lines of a payer's month.

    A line has all bytes of its key in its hour: two lines of one key and hour would both be cut at the same place.
    An account's own overrides change what its lines cost, and never what positions they take.
    """

    def __init__(self, prices: PayerPrices, positions: Positions) -> None:
        """Raises ValueError if the positions are those of another payer or of another price book."""
        if (prices.payer_id, prices.book.sha256) != (positions.payer_id, positions.book_sha256):
            raise ValueError(
                f"the positions are those of payer {positions.payer_id} and book {positions.book_sha256!r}, "
                f"the prices those of payer {prices.payer_id} and book {prices.book.sha256!r}"
            )
        self._prices = prices
        self._positions = positions
        self._month = month_bounds_s(positions.month)
        self._scales: dict[_Sold, Scale] = {}
        self._apart: dict[_Sold, frozenset[str]] = {}
        self._cut_days: dict[Sold, frozenset[int]] = {}
        self._own_scales: dict[tuple[str, str], Scale] = {}

    def rate(self, line: UsageLine) -> Iterator[RatedLine]:
        """The line at its price, split where a tier or an allowance ends in it. A line of 0 bytes yields nothing.

        A line of a day (its hour is the day's first) is right only if `needs_hours` is false.
        """
        return self.rated((line,))

    def rated(self, lines: Iterable[UsageLine]) -> Iterator[RatedLine]:
        """`rate` of many lines, faster."""
        # This loop runs for each line of a month: names are local, and tuples are made without their classes' own code.
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
                    yield make(RatedLine, (piece, *terms))
            elif line.bytes:
                yield make(RatedLine, (line, *scale.terms[after]))

    def terms_of_day(self, sold: Sold, day_s: int, account_id: str) -> Terms:
        """Terms of all bytes of an account in a day; right only if `needs_hours` is false. For rating by columns."""
        scale = self._scale_for(sold, account_id)
        return scale.terms[bisect_right(scale.marks, (day_s, account_id or _ANYBODY))]

    def terms_of_hour(self, sold: Sold, hour_s: int, account_id: str) -> Terms | None:
        """Terms of all bytes of an account in an hour; None if a cut lies inside the hour.

        With an empty id, of all accounts without overrides of their own.
        """
        scale = self._scale_for(sold, account_id)
        after = bisect_right(scale.marks, (hour_s, account_id or _ANYBODY))
        cut = any(mark.hour_s == hour_s and mark != Cut(hour_s) for mark in scale.marks)
        return None if cut else scale.terms[after]

    def accounts_apart(self, sold: Sold) -> frozenset[str]:
        """Accounts that have overrides of their own for what is sold: their terms are not those of the others."""
        self._scale_of_all(sold)
        return self._apart.get(sold, frozenset())

    def needs_hours(self, sold: Sold, day_s: int) -> bool:
        """Whether a cut, or a change of a price or an override of any account, lies inside a day."""
        if sold not in self._cut_days:
            scales = [self._scale_of_all(sold)]
            scales += (self._scale_of_one(sold, account_id) for account_id in self.accounts_apart(sold))
            inside = (mark.hour_s for each in scales for mark in each.marks if _inside(mark))
            self._cut_days[sold] = frozenset(hour_s - hour_s % DAY_S for hour_s in inside)
        return day_s in self._cut_days[sold]

    def _scale_for(self, sold: Sold, account_id: str) -> Scale:
        apart = account_id in self.accounts_apart(sold)
        return self._scale_of_one(sold, account_id) if apart else self._scale_of_all(sold)

    def _scale_of_all(self, sold: _Sold) -> Scale:
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

    def _scale_of_one(self, sold: _Sold, account_id: str) -> Scale:
        found = self._found(sold)
        if not isinstance(found, Product):
            return self._scale_of_all(sold)
        key = (found.sku, account_id)
        if key not in self._own_scales:
            self._own_scales[key] = self._scale(found, account_id)
        return self._own_scales[key]

    def _scale(self, product: Product, account_id: str) -> Scale:
        cuts = self._positions.skus.get(product.sku, SkuPositions())
        return scale_of(self._prices, product, cuts, account_id, self._positions.month)

    def _found(self, sold: _Sold) -> Product | NotSold | None:
        return self._prices.found(Sold(*sold))


# What begins with the hour counts in it, although its place names no account, as sums of many accounts do not.
_ANYBODY = "0"


def _inside(mark: Cut) -> bool:
    """Whether a mark splits its day. One at the very beginning of a day splits nothing."""
    return mark != Cut(mark.hour_s) or mark.hour_s % DAY_S > 0
