"""Rated lines, the cuts that accounts need of their payer, and prices along a month."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NamedTuple

from metering.billing.money import line_cost, quantity_of
from metering.hours import month_bounds_s
from metering.stores.codec import AnyText, DecimalText, Form, StoredDocument
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.billing.prices.book import Product, Tier
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.usage.months import LineKey, UsageLine
    from metering.stores.fields import Fields


class PriceState(StrEnum):
    """Answer of a price book about a line.

    Attributes:
        PRICED: It has a price, which may be 0.
        UNRATED: A rule says that it is not sold here: free, or billed elsewhere. It is always shown.
        UNPRICED: The book does not know it. An invoice is refused.
    """

    PRICED = "priced"
    UNRATED = "unrated"
    UNPRICED = "unpriced"


class RatedLine(NamedTuple):
    """Bytes of one usage line at one price. A line that crosses a tier becomes one of these for each tier.

    Attributes:
        line: The usage line, with the bytes that have this price. They are negative only in adjustments.
        state: If it is not `priced`, the fields below are empty or 0.
        rate_code: AWS's `<sku>.<offer term>.<rate>`, or that of the allowance.
        price: Price in 1e-10 USD a GB that the payer pays.
        list_price: Price of the book, before overrides.
        tier_from_bytes, tier_to_bytes: Tier, half open, in bytes beyond the allowance. The last one has no end (None).
        allowance: Id of the allowance that makes it free; empty if none does.
    """

    line: UsageLine
    state: PriceState
    sku: str = ""
    rate_code: str = ""
    price: int = 0
    list_price: int = 0
    tier_from_bytes: int = 0
    tier_to_bytes: int | None = None
    allowance: str = ""

    @property
    def exact(self) -> int:
        return self.line.bytes * self.price

    @property
    def quantity(self) -> int:
        """Quantity in 1e-10 GB, as a line of a bill has it."""
        return quantity_of(self.line.bytes)

    @property
    def cost(self) -> int:
        """Cost in 1e-10 USD, as a line of a bill has it (L1)."""
        return line_cost(self.line.bytes, self.price)


# A position is a number of bytes of one product in the order of rating: either of the bytes that may be free, or of the
# paid bytes. With its payer's cuts, any account, day or hour can be priced alone.


class Cut(NamedTuple):
    """The place of a position: bytes into the line of a key and hour. Its fields are those of a `UsageLine`.

    Lines that sort before it lie before it. With an empty account id it lies at the beginning of its hour.
    """

    hour_s: int
    account_id: str = ""
    service: Service = Service("")
    usage_type: UsageType = UsageType("")
    from_location: str = ""
    to_location: str = ""
    into_bytes: int = 0

    @property
    def key(self) -> LineKey:
        return self[:6]


def _read_cut(fields: Fields, name: str) -> Cut | None:
    if fields.null(name):
        return None
    cut = fields.row(name, Cut._fields)
    account_id, service, usage_type, from_location, to_location = map(cut.any_text, Cut._fields[1:6])
    size = cut.decimal("into_bytes")
    return Cut(
        cut.whole("hour_s"), account_id, Service(service), UsageType(usage_type), from_location, to_location, size
    )


def _cut_value(cut: Cut | None) -> list[object] | None:
    return None if cut is None else [*cut.key, str(cut.into_bytes)]


_CutOrNull = Annotated[Cut | None, Form(_read_cut, _cut_value)]


class FreePart(NamedTuple):
    """Bytes that an allowance gives to a product, and where it ends; None if not within the month."""

    allowance: AnyText
    bytes: DecimalText
    cut: _CutOrNull


class Threshold(NamedTuple):
    """The beginning of a tier of any price version, in bytes beyond the allowances; `cut` None: not reached."""

    from_bytes: DecimalText
    cut: _CutOrNull


@dataclass(frozen=True, slots=True, kw_only=True)
class SkuPositions:
    """Cuts of one product: of allowances in the order of their use, and of tiers after the first."""

    free: tuple[FreePart, ...] = ()
    tiers: tuple[Threshold, ...] = ()

    @property
    def cuts(self) -> tuple[Cut | None, ...]:
        return (*(part.cut for part in self.free), *(tier.cut for tier in self.tiers))

    @property
    def given(self) -> dict[str, int]:
        """Bytes of each allowance, in the order in which they are used."""
        return {part.allowance: part.bytes for part in self.free}


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions(StoredDocument):
    """Cuts of a payer's month: for a product at most its allowances and the tiers of its versions.

    Attributes:
        book_sha256: Of the book that they are for.
    """

    payer_id: str
    month: str
    book_sha256: str = ""
    skus: Mapping[str, SkuPositions] = field(default_factory=dict)


class Terms(NamedTuple):
    """Terms of a rated line: the fields of `RatedLine` after `line`, in their order."""

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
        terms: Those before the first mark, and those from each mark on.
    """

    marks: tuple[Cut, ...]
    terms: tuple[Terms, ...]

    def pieces(self, line: UsageLine, after: int) -> Iterable[tuple[UsageLine, Terms]]:
        """The line, split at its marks. `after`: number of marks before its end."""
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
        _terms_at(
            prices, product, cuts, account_id, place.hour_s, (bisect_right(free, place), bisect_right(tiers, place))
        )
        for place in places
    ]
    kept = [at for at in range(1, len(places)) if terms[at] != terms[at - 1]]
    return Scale(tuple(places[at] for at in kept), (terms[0], *(terms[at] for at in kept)))


def _terms_at(
    prices: PayerPrices, product: Product, cuts: SkuPositions, account_id: str, hour_s: int, passed: tuple[int, int]
) -> Terms:
    """Terms after so many allowances have ended, and so many tiers have begun."""
    version = product.version_at(hour_s)
    if version is None:
        return UNPRICED
    ended, begun = passed
    position = cuts.tiers[begun - 1].from_bytes if begun else 0
    tier = next(each for each in reversed(version.tiers) if each.from_bytes <= position)
    if ended < len(cuts.free) and prices.takes_allowance(product, account_id, hour_s):
        return free_terms(prices, product, cuts.free[ended].allowance)
    return tier_terms(prices, product, tier, account_id, hour_s)


def free_terms(prices: PayerPrices, product: Product, allowance: str) -> Terms:
    """Terms of bytes that an allowance makes free."""
    rate_code = prices.free_rate_code(allowance, product.sku)
    return Terms(PriceState.PRICED, product.sku, rate_code, allowance=allowance)


def tier_terms(prices: PayerPrices, product: Product, tier: Tier, account_id: str, hour_s: int) -> Terms:
    """Terms of an account's paid bytes of a tier in an hour."""
    price = prices.price_of(product, tier, account_id, hour_s)
    return Terms(PriceState.PRICED, product.sku, tier.rate_code, price, tier.price, tier.from_bytes, tier.to_bytes)
