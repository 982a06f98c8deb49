"""Prices that one payer and its accounts pay, from a price book and their overrides, and lines rated by these prices.

For the price of a tier, an account's override has precedence over its payer's override, which has precedence over the
book. Among overrides of the same rank in an hour, the first applies. If an override has neither a price nor a
percentage off, the next rank decides the price. Bytes are excluded from allowances if an override of their account
**or** of their payer says so.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, cached_property
from typing import TYPE_CHECKING, Annotated, NamedTuple

from metering.billing import money
from metering.billing.prices.book import NotSold, Override, PriceBook, Product, Tier
from metering.hours import month_bounds_s
from metering.stores.codec import AnyText, DecimalText, Fields, Form, StoredDocument
from metering.usage import usage_types
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from metering.billing.payers import Organization
    from metering.billing.usage.months import LineKey, Sold, UsageLine

# If a region had no billing prefix at metering time, its usage types have the region's name in place of the prefix.
_REGION_NAME = r"[a-z]{2,}(?:-[a-z]+)+-[0-9]+"


def find(book: PriceBook, sold: Sold) -> Product | NotSold | None:
    """Find the product of usage, or the rule that the usage is not sold; None if the usage is unpriced.

    The whole usage type is compared, because `DataTransfer-Out-Bytes` of us-east-1 is a suffix of the same type in all
    other regions.
    """
    for product in book.by_usage_type.get(sold.usage_type, ()):
        if product.services.takes(sold.service):
            return product
    traffic = traffic_of(sold.usage_type)
    return next((rule for rule in book.not_sold if re.fullmatch(rule.pattern, traffic)), None)


def is_unpriced(book: PriceBook, sold: Sold, hour_s: int) -> bool:
    """Whether a price book has neither a price for the usage in an hour nor a rule that the usage is not sold."""
    found = find(book, sold)
    return found is None or (isinstance(found, Product) and found.version_at(hour_s) is None)


def traffic_of(usage_type: str) -> str:
    """A usage type without the billing prefix of its region: `CloudFront-In-Bytes` of `EUW2-CloudFront-In-Bytes`."""
    found = _prefix().match(usage_type)
    return usage_type[found.end() :] if found is not None else usage_type


@cache
def _prefix() -> re.Pattern[str]:
    names = "|".join(sorted(map(re.escape, usage_types.billing_prefixes().values()), key=len, reverse=True))
    return re.compile(f"(?:{names}|{_REGION_NAME})-")


_ALL_OFF = 100_000
"""100 % in thousandths of a percent."""


class OwnedOverrides:
    """Overrides by payer or account, each in the given order."""

    def __init__(self, overrides: Iterable[Override]) -> None:
        self._of_payer: dict[str, list[tuple[int, Override]]] = {}
        self._of_account: dict[str, list[tuple[int, Override]]] = {}
        for place, each in enumerate(overrides):
            if each.payer:
                self._of_payer.setdefault(each.payer, []).append((place, each))
            if each.account:
                self._of_account.setdefault(each.account, []).append((place, each))

    def about(self, payer_id: str, accounts: frozenset[str]) -> tuple[Override, ...]:
        found = dict(self._of_payer.get(payer_id, ()))
        for account_id in self._of_account.keys() & accounts:
            found |= self._of_account[account_id]
        return tuple(each for _, each in sorted(found.items()))


@dataclass(frozen=True)
class PayerPrices:
    """Prices that a payer and its accounts pay.

    Attributes:
        payer_id: 12 digits.
        overrides: Other payers' overrides are ignored. Omit overrides of other payers' accounts, as `of` does: with any
            such override, rating reads hours (see `apart`).
    """

    book: PriceBook
    payer_id: str
    overrides: tuple[Override, ...] = ()

    @classmethod
    def of(
        cls, book: PriceBook, organization: Organization, payer_id: str, overrides: Iterable[Override] | OwnedOverrides
    ) -> PayerPrices:
        """Prices with the overrides of the payer and of its accounts. For many payers, pass one `OwnedOverrides`."""
        owned = overrides if isinstance(overrides, OwnedOverrides) else OwnedOverrides(overrides)
        return cls(book, payer_id, owned.about(payer_id, organization.accounts_of(payer_id)))

    def found(self, sold: Sold) -> Product | NotSold | None:
        known = self._found
        if sold not in known:
            known[sold] = find(self.book, sold)
        return known[sold]

    def price_of(self, product: Product, tier: Tier, account_id: str, hour_s: int) -> int:
        """Price of a tier for an account (with an empty id, for the payer) in an hour, in 1e-10 USD per GB."""
        for override in self.in_force(product.sku, account_id, hour_s):
            if override.price is not None:
                return override.price
            if override.percent_off is not None:
                return less_percent(tier.price, override.percent_off)
        return tier.price

    def takes_allowance(self, product: Product, account_id: str, hour_s: int) -> bool:
        return not any(each.no_allowance for each in self.in_force(product.sku, account_id, hour_s))

    def free_rate_code(self, allowance_id: str, sku: str) -> str:
        """Rate code of an allowance's free bytes; empty if the book has no rate code for them."""
        codes = (each.rate_codes.get(sku, "") for each in self.book.allowances if each.id == allowance_id)
        return next(codes, "")

    def changes(self, product: Product, account_id: str) -> Iterator[int]:
        """Hours in which the prices of an account (with an empty id, of the payer) may change, unordered."""
        yield from (version.from_s for version in product.versions)
        for override in (*self._of_account.get(account_id, ()), *self._of_payer):
            if not override.skus or product.sku in override.skus:
                yield override.from_s
                if override.to_s is not None:
                    yield override.to_s

    def apart(self, sku: str, from_s: int, to_s: int) -> frozenset[str]:
        """Accounts that have their own override for a product in `[from_s, to_s)`."""
        return frozenset(
            account_id
            for account_id, overrides in self._of_account.items()
            if any(_touches(each, sku, from_s, to_s) for each in overrides)
        )

    def apart_from_allowances(self, sku: str, from_s: int, to_s: int) -> bool:
        """Whether an account's own override excludes allowances in some hour of `[from_s, to_s)`."""
        return any(
            each.no_allowance and _touches(each, sku, from_s, to_s)
            for overrides in self._of_account.values()
            for each in overrides
        )

    def in_force(self, sku: str, account_id: str, hour_s: int) -> Iterator[Override]:
        """Overrides that apply to a product in an hour, at most two: the account's own, then the payer's."""
        for overrides in (self._of_account.get(account_id, ()), self._of_payer):
            one = next((each for each in overrides if _touches(each, sku, hour_s, hour_s + 1)), None)
            if one is not None:
                yield one

    @cached_property
    def _found(self) -> dict[Sold, Product | NotSold | None]:
        return {}

    @cached_property
    def _of_payer(self) -> tuple[Override, ...]:
        return tuple(each for each in self.overrides if each.payer == self.payer_id)

    @cached_property
    def _of_account(self) -> dict[str, tuple[Override, ...]]:
        names = dict.fromkeys(each.account for each in self.overrides if each.account)
        return {name: tuple(each for each in self.overrides if each.account == name) for name in names}


def less_percent(price: int, percent_off: int) -> int:
    """A price minus thousandths of a percent of it, rounded half up once, to 1e-10 USD."""
    return (2 * price * (_ALL_OFF - percent_off) + _ALL_OFF) // (2 * _ALL_OFF)


def _touches(override: Override, sku: str, from_s: int, to_s: int) -> bool:
    named = not override.skus or sku in override.skus
    return named and override.from_s < to_s and (override.to_s is None or from_s < override.to_s)


class PriceState(StrEnum):
    """State of a line according to the price book.

    Attributes:
        PRICED: The line has a price, which may be 0.
        UNRATED: A rule states that the usage is not sold here (free, or billed elsewhere). It is always shown.
        UNPRICED: The book has no price for the usage. An invoice is refused.
    """

    PRICED = "priced"
    UNRATED = "unrated"
    UNPRICED = "unpriced"


class RatedLine(NamedTuple):
    """Bytes of one usage line at one price. A line that crosses a tier boundary becomes one rated line per tier.

    Attributes:
        line: The usage line, reduced to the bytes at this price. Bytes are negative only in adjustments.
        state: Unless the state is `priced`, all fields below are empty or 0.
        rate_code: AWS's `<sku>.<offer term>.<rate>`, or the allowance's rate code.
        price: Price that the payer pays, in 1e-10 USD per GB.
        list_price: Price in the book, before overrides.
        tier_from_bytes, tier_to_bytes: Bounds of the tier, half open, in bytes above the allowance. The last tier has
            no end, so `tier_to_bytes` is None.
        allowance: Id of the allowance that makes the line free; empty if not free.
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
        """Quantity of a bill line, in 1e-10 GB."""
        return money.quantity_of(self.line.bytes)

    @property
    def cost(self) -> int:
        """Cost of a bill line (L1), in 1e-10 USD."""
        return money.line_cost(self.line.bytes, self.price)


# A position is a number of bytes of one product in the order of rating: either of the bytes that may be free, or of the
# paid bytes. With the cuts of its payer, each account, day or hour can be priced separately.


class Cut(NamedTuple):
    """The place of a position: a line, and an offset within the line's bytes. The fields are those of a `UsageLine`.

    Lines with smaller keys come before the cut. With an empty account id, the cut lies at the beginning of its hour.
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
    """Bytes that an allowance gives to a product, and the cut at their end; None if the end is not in the month."""

    allowance: AnyText
    bytes: DecimalText
    cut: _CutOrNull


class Threshold(NamedTuple):
    """Beginning of a tier of any price version, in paid bytes; `cut` is None if the usage does not reach the tier."""

    from_bytes: DecimalText
    cut: _CutOrNull


@dataclass(frozen=True, slots=True, kw_only=True)
class SkuPositions:
    """Cuts of one product: ends of allowances in the order of their use, and beginnings of tiers after the first."""

    free: tuple[FreePart, ...] = ()
    tiers: tuple[Threshold, ...] = ()

    @property
    def cuts(self) -> tuple[Cut | None, ...]:
        return (*(part.cut for part in self.free), *(tier.cut for tier in self.tiers))

    @property
    def given(self) -> dict[str, int]:
        """Bytes of each allowance, in the order in which the allowances are used."""
        return {part.allowance: part.bytes for part in self.free}


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions(StoredDocument):
    """Cuts in a payer's month: for each product at most one per allowance and one per tier of its price versions.

    Attributes:
        book_sha256: Digest of the price book that was used.
    """

    payer_id: str
    month: str
    book_sha256: str = ""
    skus: Mapping[str, SkuPositions] = field(default_factory=dict)


class Terms(NamedTuple):
    """Terms of a rated line: the fields of `RatedLine` after `line`, in the same order."""

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
    """Terms of one product for one account, or for all accounts without their own overrides.

    Attributes:
        marks: Cuts at which the terms change, in order.
        terms: Terms before the first mark, then the terms from each mark on.
    """

    marks: tuple[Cut, ...]
    terms: tuple[Terms, ...]

    def pieces(self, line: UsageLine, after: int) -> Iterable[tuple[UsageLine, Terms]]:
        """Split a line at its marks. `after`: number of marks before the line's end."""
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
    """A scale whose terms are the same all month."""
    return Scale((), (terms,))


def scale_of(prices: PayerPrices, product: Product, cuts: SkuPositions, account_id: str, month: str) -> Scale:
    """Scale of a product for an account; with an empty id, for all accounts without their own overrides."""
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
    """Terms after the given number of allowance ends and the given number of tier beginnings."""
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
    """Terms of the bytes that an allowance makes free."""
    rate_code = prices.free_rate_code(allowance, product.sku)
    return Terms(PriceState.PRICED, product.sku, rate_code, allowance=allowance)


def tier_terms(prices: PayerPrices, product: Product, tier: Tier, account_id: str, hour_s: int) -> Terms:
    """Terms of an account's paid bytes in a tier and hour."""
    price = prices.price_of(product, tier, account_id, hour_s)
    return Terms(PriceState.PRICED, product.sku, tier.rate_code, price, tier.price, tier.from_bytes, tier.to_bytes)
