"""A second implementation of rating, from the rules alone: slow, with decimals, all lines in memory, and no cuts.

This code shares only input values with `metering/billing/rating`. The two implementations must return the same results.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from metering.hours import month_bounds_s
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.billing.prices.book import Allowance, Override, PriceBook, PriceVersion, Product, Tier

_EXACT = Context(prec=200)
_PLACES = Decimal("0.0000000001")
_GB = 2**30

Key = tuple[int, str, Service, UsageType, str, str]
"""Hour, account, service, usage type, from, to."""


class Slow(NamedTuple):
    """A rated line. Prices are in USD per GB."""

    key: Key
    bytes: int
    state: str
    sku: str = ""
    rate_code: str = ""
    price: Decimal = Decimal(0)
    list_price: Decimal = Decimal(0)
    tier: tuple[int, int | None] = (0, None)
    allowance: str = ""

    @property
    def cost(self) -> Fraction:
        """USD, exactly."""
        return Fraction(self.bytes, _GB) * Fraction(self.price)


def slow_line_cost(size: int, price: Decimal) -> Decimal:
    """Cost of a line in USD, rounded as AWS rounds it."""
    return _half_up(_EXACT.multiply(_half_up(_EXACT.divide(Decimal(size), Decimal(_GB))), price))


def slow_cents(costs: Iterable[Fraction]) -> int:
    """Cost of an invoice line in cents, rounded half up."""
    total = sum(costs, Fraction(0)) * 100
    whole, part = divmod(abs(total), 1)
    return int(whole + (part >= Fraction(1, 2))) * (1 if total >= 0 else -1)


@dataclass(frozen=True)
class SlowPayer:
    book: PriceBook
    payer_id: str
    overrides: Sequence[Override]
    month: str

    def rated(self, usage: Iterable[tuple[Key, int]]) -> list[Slow]:
        """All rated lines of a month, in the order of rating."""
        sums: dict[Key, int] = defaultdict(int)
        for key, size in usage:
            sums[key] += size
        uses = {}
        for key in sorted(sums):
            product = self._product(key)
            if sums[key] and product is not None and _version(product, key[0]) is not None:
                uses[key] = _Use(key, sums[key], product)
        for allowance in self.book.allowances:
            self._give(allowance, list(uses.values()))
        positions: dict[str, int] = defaultdict(int)
        lines = []
        for key in sorted(sums):
            if key in uses:
                lines += self._lines(uses[key], positions)
            elif sums[key]:
                lines.append(Slow(key, sums[key], self._state(key)))
        return lines

    def total(self, usage: Iterable[tuple[Key, int]]) -> Fraction:
        return sum((each.cost for each in self.rated(usage)), Fraction(0))

    def _product(self, key: Key) -> Product | None:
        for product in self.book.products:
            services = product.services
            taken = key[2] in services.only if services.only else key[2] not in services.without
            if product.usage_type == key[3] and taken:
                return product
        return None

    def _give(self, allowance: Allowance, uses: Sequence[_Use]) -> None:
        begin, _ = month_bounds_s(self.month)
        if not (allowance.from_s <= begin and (allowance.to_s is None or allowance.to_s > begin)):
            return
        eligible = [use for use in uses if use.product.sku in allowance.skus and not self._none_free(use)]
        if allowance.order == "dearest-first":
            # The sort is stable, so it keeps the order of rating within a product.
            eligible.sort(key=lambda use: (-self._dearness(use.product), use.product.sku))
        left = allowance.bytes
        for use in eligible:
            part = min(left, use.size - sum(use.free.values()))
            use.free[allowance.id] = part
            left -= part

    def _dearness(self, product: Product) -> Decimal:
        begin, _ = month_bounds_s(self.month)
        version = _version(product, begin)
        if version is None:
            version = min(product.versions, key=lambda each: each.from_s)
        return self._price(product, version.tiers[0], "", max(begin, version.from_s))

    def _state(self, key: Key) -> str:
        if self._product(key) is not None:
            return "unpriced"
        return "unrated" if any(re.fullmatch(rule.pattern, key[3]) for rule in self.book.not_sold) else "unpriced"

    def _lines(self, use: _Use, positions: dict[str, int]) -> list[Slow]:
        version = _version(use.product, use.key[0])
        assert version is not None
        sku, codes = use.product.sku, {each.id: each.rate_codes for each in self.book.allowances}
        lines = [
            Slow(use.key, size, "priced", sku, codes[name][sku], allowance=name)
            for name, size in use.free.items()
            if size
        ]
        left = use.size - sum(use.free.values())
        while left:
            tier = next(each for each in version.tiers if each.to_bytes is None or positions[sku] < each.to_bytes)
            size = left if tier.to_bytes is None else min(left, tier.to_bytes - positions[sku])
            price = self._price(use.product, tier, use.key[1], use.key[0])
            bounds = (tier.from_bytes, tier.to_bytes)
            lines.append(Slow(use.key, size, "priced", sku, tier.rate_code, price, _usd(tier.price), bounds))
            positions[sku] += size
            left -= size
        return lines

    def _price(self, product: Product, tier: Tier, account: str, hour_s: int) -> Decimal:
        for owner in ("account", "payer"):
            for each in self._overrides(owner, account, product.sku, hour_s):
                if each.price is not None:
                    return _usd(each.price)
                if each.percent_off is not None:
                    rest = 1 - Decimal(each.percent_off) / 100_000
                    return _half_up(_EXACT.multiply(_usd(tier.price), rest))
        return _usd(tier.price)

    def _none_free(self, use: _Use) -> bool:
        return any(
            each.no_allowance
            for owner in ("account", "payer")
            for each in self._overrides(owner, use.key[1], use.product.sku, use.key[0])
        )

    def _overrides(self, owner: str, account: str, sku: str, hour_s: int) -> list[Override]:
        name = account if owner == "account" else self.payer_id
        return [
            each
            for each in self.overrides
            if name
            and getattr(each, owner) == name
            and (not each.skus or sku in each.skus)
            and each.from_s <= hour_s
            and (each.to_s is None or hour_s < each.to_s)
        ]


@dataclass
class _Use:
    key: Key
    size: int
    product: Product
    free: dict[str, int] = field(default_factory=dict)


def _version(product: Product, hour_s: int) -> PriceVersion | None:
    begun = [each for each in product.versions if each.from_s <= hour_s]
    return max(begun, key=lambda each: each.from_s, default=None)


def _usd(units: int) -> Decimal:
    return Decimal(units).scaleb(-10, _EXACT)


def _half_up(number: Decimal) -> Decimal:
    return number.quantize(_PLACES, ROUND_HALF_UP, _EXACT)
