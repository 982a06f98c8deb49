"""A product's prices along a payer's month: where they change, and what holds between two changes."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from metering.billing.rating.cuts import Cut
from metering.billing.rating.lines import PriceState
from metering.hours import month_bounds_s

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.billing.prices.book import Product, Tier
    from metering.billing.rating.cuts import SkuPositions
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.usage.ports import UsageLine


class Terms(NamedTuple):
    """What a rated line says beside its usage line: the fields of `RatedLine` after `line`, in their order."""

    state: PriceState
    sku: str = ""
    rate_code: str = ""
    price: int = 0
    list_price: int = 0
    tier_from_bytes: int = 0
    tier_to_bytes: int | None = None
    allowance: str = ""


UNPRICED = Terms(PriceState.UNPRICED)
UNRATED = Terms(PriceState.UNRATED)


@dataclass(frozen=True, slots=True)
class Scale:
    """Terms of one product for one account, or for all accounts without overrides of their own.

    Attributes:
        marks: Places at which the terms change, in order.
        terms: Those before the first mark, and those from each mark on: one more than marks.
    """

    marks: tuple[Cut, ...]
    terms: tuple[Terms, ...]

    def pieces(self, line: UsageLine, after: int) -> Iterable[tuple[UsageLine, Terms]]:
        """The line, split at its marks. `after`: how many marks lie before the end of the line."""
        key, begin = line.key, 0
        first = after
        while first and self.marks[first - 1].key == key:
            first -= 1
        for at in range(first, after + 1):
            end = self.marks[at].into_bytes if at < after else line.bytes
            if end > begin:
                yield line._replace(bytes=end - begin), self.terms[at]
            begin = end


def one_scale(terms: Terms) -> Scale:
    """The same terms all month."""
    return Scale((), (terms,))


def scale_of(prices: PayerPrices, product: Product, cuts: SkuPositions, account_id: str, month: str) -> Scale:
    """Terms of a product for an account; with an empty id, for all accounts without overrides of their own."""
    first_s, after_s = month_bounds_s(month)
    marks = {Cut(hour_s) for hour_s in prices.changes(product, account_id) if first_s < hour_s < after_s}
    free = [part.cut for part in cuts.free if part.cut is not None]
    tiers = [tier.cut for tier in cuts.tiers if tier.cut is not None]
    places = [Cut(first_s), *sorted({*marks, *free, *tiers})]
    terms = [
        _terms_at(prices, product, cuts, account_id, place.hour_s, _Passed(_passed(free, place), _passed(tiers, place)))
        for place in places
    ]
    return _without_repeats(places, terms)


class _Passed(NamedTuple):
    """How many allowances and tiers have ended before a place."""

    free: int
    tiers: int


def _terms_at(
    prices: PayerPrices, product: Product, cuts: SkuPositions, account_id: str, hour_s: int, passed: _Passed
) -> Terms:
    version = product.version_at(hour_s)
    if version is None:
        return UNPRICED
    position = cuts.tiers[passed.tiers - 1].from_bytes if passed.tiers else 0
    tier = next(each for each in reversed(version.tiers) if each.from_bytes <= position)
    if passed.free < len(cuts.free) and prices.takes_allowance(product, account_id, hour_s):
        return free_terms(prices, product, cuts.free[passed.free].allowance)
    return tier_terms(prices, product, tier, account_id, hour_s)


def free_terms(prices: PayerPrices, product: Product, allowance: str) -> Terms:
    """Terms of bytes that an allowance makes free."""
    rate_code = prices.free_rate_code(allowance, product.sku)
    return Terms(PriceState.PRICED, product.sku, rate_code, allowance=allowance)


def tier_terms(prices: PayerPrices, product: Product, tier: Tier, account_id: str, hour_s: int) -> Terms:
    """Terms of an account's paid bytes of a tier in an hour."""
    price = prices.price_of(product, tier, account_id, hour_s)
    return Terms(PriceState.PRICED, product.sku, tier.rate_code, price, tier.price, tier.from_bytes, tier.to_bytes)


def _passed(cuts: Sequence[Cut], place: Cut) -> int:
    return bisect_right(cuts, place)


def _without_repeats(places: Sequence[Cut], terms: Sequence[Terms]) -> Scale:
    kept = [at for at in range(1, len(places)) if terms[at] != terms[at - 1]]
    return Scale(tuple(places[at] for at in kept), (terms[0], *(terms[at] for at in kept)))
