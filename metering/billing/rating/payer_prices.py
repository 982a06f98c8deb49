"""Prices that one payer and its accounts pay: those of a book, and their overrides.

An override of an account beats that of its payer, which beats the book, for the price of a tier. Of overrides of one
rank in one hour, the first counts. An override with neither price nor percent off leaves the price to the next rank.
Bytes take no part of any allowance if an override of their account **or** of their payer says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from metering.billing.prices.book import Product
from metering.usage.usage_types import billing_prefixes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.billing.organization import Organization
    from metering.billing.prices.book import NotSold, Override, PriceBook, Tier
    from metering.billing.usage.months import Sold


# Usage types of a region without a billing prefix at metering time have the region's name in place of the prefix.
_REGION_NAME = r"[a-z]{2,}(?:-[a-z]+)+-[0-9]+"


def find(book: PriceBook, sold: Sold) -> Product | NotSold | None:
    """The product of usage, the rule by which it is not sold, or None: it is unpriced.

    The whole usage type counts: `DataTransfer-Out-Bytes` of us-east-1 ends that of every other region.
    """
    for product in book.by_usage_type.get(sold.usage_type, ()):
        if product.services.takes(sold.service):
            return product
    traffic = traffic_of(sold.usage_type)
    return next((rule for rule in book.not_sold if re.fullmatch(rule.pattern, traffic)), None)


def is_unpriced(book: PriceBook, sold: Sold, hour_s: int) -> bool:
    """Whether a book has neither a price in an hour, nor a rule that it is not sold."""
    found = find(book, sold)
    return found is None or (isinstance(found, Product) and found.version_at(hour_s) is None)


def traffic_of(usage_type: str) -> str:
    """A usage type without the billing prefix of its region: `CloudFront-In-Bytes` of `EUW2-CloudFront-In-Bytes`."""
    found = _prefix().match(usage_type)
    return usage_type[found.end() :] if found is not None else usage_type


@cache
def _prefix() -> re.Pattern[str]:
    names = "|".join(sorted(map(re.escape, billing_prefixes().values()), key=len, reverse=True))
    return re.compile(f"(?:{names}|{_REGION_NAME})-")


_ALL_OFF = 100_000
"""100 % in thousandths of a percent."""


class OwnedOverrides:
    """Overrides by their payer or account, in the order given."""

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
        overrides: Those of other payers are ignored. Leave out those of accounts of other payers, as `of` does: any of
            them makes rating read hours (see `apart`).
    """

    book: PriceBook
    payer_id: str
    overrides: tuple[Override, ...] = ()

    @classmethod
    def of(
        cls, book: PriceBook, organization: Organization, payer_id: str, overrides: Iterable[Override] | OwnedOverrides
    ) -> PayerPrices:
        """Prices with the overrides about the payer and its accounts. For many payers, give `OwnedOverrides`."""
        owned = overrides if isinstance(overrides, OwnedOverrides) else OwnedOverrides(overrides)
        return cls(book, payer_id, owned.about(payer_id, organization.accounts_of(payer_id)))

    def found(self, sold: Sold) -> Product | NotSold | None:
        known = self._found
        if sold not in known:
            known[sold] = find(self.book, sold)
        return known[sold]

    def price_of(self, product: Product, tier: Tier, account_id: str, hour_s: int) -> int:
        """Price of a tier for an account in an hour, 1e-10 USD a GB; with an empty id, for its payer."""
        for override in self.in_force(product.sku, account_id, hour_s):
            if override.price is not None:
                return override.price
            if override.percent_off is not None:
                return less_percent(tier.price, override.percent_off)
        return tier.price

    def takes_allowance(self, product: Product, account_id: str, hour_s: int) -> bool:
        return not any(each.no_allowance for each in self.in_force(product.sku, account_id, hour_s))

    def free_rate_code(self, allowance_id: str, sku: str) -> str:
        """Rate code of the free bytes of an allowance; empty if the book has none."""
        codes = (each.rate_codes.get(sku, "") for each in self.book.allowances if each.id == allowance_id)
        return next(codes, "")

    def changes(self, product: Product, account_id: str) -> Iterator[int]:
        """Hours in which prices of an account, or with an empty id of its payer, may change; unordered."""
        yield from (version.from_s for version in product.versions)
        for override in (*self._of_account.get(account_id, ()), *self._of_payer):
            if not override.skus or product.sku in override.skus:
                yield override.from_s
                if override.to_s is not None:
                    yield override.to_s

    def apart(self, sku: str, from_s: int, to_s: int) -> frozenset[str]:
        """Accounts with an override of their own for a product in `[from_s, to_s)`."""
        return frozenset(
            account_id
            for account_id, overrides in self._of_account.items()
            if any(_touches(each, sku, from_s, to_s) for each in overrides)
        )

    def apart_from_allowances(self, sku: str, from_s: int, to_s: int) -> bool:
        """Whether an account's own override forbids allowances in some hour of `[from_s, to_s)`."""
        return any(
            each.no_allowance and _touches(each, sku, from_s, to_s)
            for overrides in self._of_account.values()
            for each in overrides
        )

    def in_force(self, sku: str, account_id: str, hour_s: int) -> Iterator[Override]:
        """Overrides of a product in an hour, that of the account first."""
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
    """A price less thousandths of a percent, rounded half up to 1e-10 USD, once."""
    return (2 * price * (_ALL_OFF - percent_off) + _ALL_OFF) // (2 * _ALL_OFF)


def _touches(override: Override, sku: str, from_s: int, to_s: int) -> bool:
    named = not override.skus or sku in override.skus
    return named and override.from_s < to_s and (override.to_s is None or from_s < override.to_s)
