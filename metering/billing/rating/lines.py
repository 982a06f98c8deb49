"""Rated lines, the cuts that accounts need of their payer, and prices along a month."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Self

from metering.billing.money import line_cost, quantity_of
from metering.hours import month_bounds_s
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from metering.billing.prices.book import Product, Tier
    from metering.billing.rating.payer_prices import PayerPrices
    from metering.billing.usage.months import LineKey, UsageLine


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
        """Exact cost (L0)."""
        return self.line.bytes * self.price

    @property
    def quantity(self) -> int:
        """Quantity in 1e-10 GB, as a line of a bill has it."""
        return quantity_of(self.line.bytes)

    @property
    def cost(self) -> int:
        """Cost in 1e-10 USD, as a line of a bill has it (L1)."""
        return line_cost(self.line.bytes, self.price)


# A position is a number of bytes of one product in the order of rating: of those that may be free, or of those that are
# paid. With the cuts of its payer, any account, day or hour can be priced alone.


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


class FreePart(NamedTuple):
    """Bytes that an allowance gives to a product, and where it ends; None if not within the month."""

    allowance: str
    bytes: int
    cut: Cut | None


class Threshold(NamedTuple):
    """The beginning of a tier of any price version, in bytes beyond the allowances; `cut` None: not reached."""

    from_bytes: int
    cut: Cut | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SkuPositions:
    """Cuts of one product.

    Attributes:
        free: In the order in which allowances are used.
        tiers: In the order of `from_bytes`, without the first tier, which begins at 0.
    """

    free: tuple[FreePart, ...] = ()
    tiers: tuple[Threshold, ...] = ()

    @property
    def cuts(self) -> tuple[Cut | None, ...]:
        """Those of allowances, and then those of tiers."""
        return (*(part.cut for part in self.free), *(tier.cut for tier in self.tiers))

    @property
    def given(self) -> dict[str, int]:
        """Bytes of each allowance, in the order in which they are used."""
        return {part.allowance: part.bytes for part in self.free}


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Cuts of a payer's month: for a product at most its allowances and the tiers of its versions.

    Attributes:
        book_sha256: Of the book that they are for.
    """

    payer_id: str
    month: str
    book_sha256: str = ""
    skus: Mapping[str, SkuPositions] = field(default_factory=dict)

    def to_value(self) -> dict[str, object]:
        """As a JSON value. Bytes are texts, because JSON readers may not hold them exactly."""
        return {
            "payer_id": self.payer_id,
            "month": self.month,
            "book_sha256": self.book_sha256,
            "skus": {
                sku: {
                    "free": [[part.allowance, str(part.bytes), _cut_value(part.cut)] for part in each.free],
                    "tiers": [[str(tier.from_bytes), _cut_value(tier.cut)] for tier in each.tiers],
                }
                for sku, each in sorted(self.skus.items())
            },
        }

    @classmethod
    def from_value(cls, value: Mapping[str, object]) -> Self:
        """The inverse of `to_value`.

        Raises:
            ValueError: It is another value.
        """
        try:
            return cls(
                payer_id=_text(value["payer_id"]),
                month=_text(value["month"]),
                book_sha256=_text(value["book_sha256"]),
                skus={sku: _sku_of(each) for sku, each in _items(value["skus"])},
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"these are no positions of a payer: {error!r}") from error


def _cut_value(cut: Cut | None) -> list[object] | None:
    return None if cut is None else [*cut.key, str(cut.into_bytes)]


def _cut_of(value: object) -> Cut | None:
    if value is None:
        return None
    hour_s, *texts, into_bytes = _list(value)
    account_id, service, usage_type, from_location, to_location = map(_text, texts)
    if type(hour_s) is not int:
        raise TypeError(f"{hour_s!r} is no hour")
    return Cut(
        hour_s, account_id, Service(service), UsageType(usage_type), from_location, to_location, _bytes(into_bytes)
    )


def _sku_of(value: object) -> SkuPositions:
    parts = dict(_items(value))
    return SkuPositions(
        free=tuple(
            FreePart(_text(allowance), _bytes(size), _cut_of(cut))
            for allowance, size, cut in map(_list, _list(parts["free"]))
        ),
        tiers=tuple(Threshold(_bytes(size), _cut_of(cut)) for size, cut in map(_list, _list(parts["tiers"]))),
    )


def _items(value: object) -> list[tuple[str, object]]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no object")
    return [(_text(key), each) for key, each in value.items()]


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _bytes(value: object) -> int:
    return int(_text(value))


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
        terms: Those before the first mark, and those from each mark on: one more than marks.
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
