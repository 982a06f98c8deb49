"""What an offer sells: products with tiers, and allowances, as a price book has them.

Products whose usage type begins with `Global-` are no prices: they are what is free each month, over the products that
`appliesTo` names. Their price of 0 is the price of nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.documents.written import bytes_of_gb, hour_of_text
from metering.billing.money import price_of
from metering.billing.prices.book import Allowance, PriceVersion, Product, Services, Tier
from metering.usage.locations import CLOUDFRONT, INTERNET
from metering.usage.network_charges import contract_name
from metering.usage.usage_types import CLOUDFRONT_SERVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from metering.billing.prices.offers.file import Dimension, Offer, OfferProduct, Term

GLOBAL = "Global-"
FREE_RATE = "A429C66SYZ.6YS6EN2CT7"
"""Offer term and rate of free bytes, after the SKU: AWS bills them under the SKU of the region that they left."""
_END = "Inf"
_UNITS = ("GB", "GigaBytes")
"""AWS's two names of 2^30 bytes; transit gateways have the second."""
_CURRENCY = "USD"
_NAMES = {"Global-DataTransfer-Out-Bytes": "global-internet-out", "Global-DataTransfer-Regional-Bytes": "regional"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """What one offer sells.

    Attributes:
        products: By SKU; each has the versions of prices that the file has, mostly one.
        allowances: Their SKUs are all that the file names, whether known or not.
        left_out: SKUs of products of one operation, for which another product stands.
    """

    products: dict[str, Product]
    allowances: tuple[Allowance, ...]
    left_out: tuple[str, ...]
    problems: tuple[str, ...]


def sold_by(offer: Offer, *, effective_s: int | None) -> Sold:
    """Products and allowances of an offer, with everything that is wrong with them.

    Args:
        offer: The file.
        effective_s: Hour from which its prices hold; None for the time that the file gives to each.
    """
    reading = _Reading(effective_s)
    products: dict[str, Product] = {}
    allowances: list[Allowance] = []
    left_out = _of_an_operation(offer)
    for sku, product in offer.products.items():
        terms = offer.terms.get(sku, ())
        if not terms:
            reading.problems.append(f"product {sku}: it has no price on demand")
        elif product.attributes.usagetype.startswith(GLOBAL):
            allowances.extend(reading.allowances(offer, product, terms))
        elif sku not in left_out:
            products[sku] = reading.product(offer, product, terms)
    return Sold(
        products=products,
        allowances=tuple(allowances),
        left_out=tuple(sorted(left_out)),
        problems=tuple(reading.problems),
    )


def _of_an_operation(offer: Offer) -> set[str]:
    """Products of one operation that another product of their usage type stands for.

    That is the one for every operation. Without one, any of them, if all have the same prices: usage has no operation.
    Of what is billed beside the transfer, an operation that is free (peering within a zone) is not metered under the
    usage type of those that are not.
    """
    groups: dict[str, list[OfferProduct]] = {}
    for product in offer.products.values():
        groups.setdefault(contract_name(product.attributes.usagetype), []).append(product)
    left_out: set[str] = set()
    for group in groups.values():
        of_one = sorted(each.sku for each in group if each.attributes.operation)
        priced = [sku for sku in of_one if not _is_free(offer, sku)]
        if priced and all(each.beside for each in group):
            left_out.update(set(of_one) - set(priced))
            of_one = priced
        if len(of_one) < len(group) - len(left_out.intersection(each.sku for each in group)):
            left_out.update(of_one)
        elif len({_prices(offer, sku) for sku in of_one}) == 1:
            left_out.update(of_one[1:])
    return left_out


def _is_free(offer: Offer, sku: str) -> bool:
    dimensions = [each for term in offer.terms.get(sku, ()) for each in term.price_dimensions.values()]
    prices = [price for each in dimensions for price in each.price_per_unit.values()]
    return bool(prices) and not any(price.strip("0.") for price in prices)


def _prices(offer: Offer, sku: str) -> frozenset[tuple[str, ...]]:
    """What a product costs when, without the names of its rates."""
    return frozenset(
        (term.effective_date, each.begin_range, each.end_range, each.unit, str(sorted(each.price_per_unit.items())))
        for term in offer.terms.get(sku, ())
        for each in term.price_dimensions.values()
    )


class _Reading:
    """Reads texts, and remembers what is wrong with them."""

    def __init__(self, effective_s: int | None) -> None:
        self.problems: list[str] = []
        self._effective_s = effective_s

    def product(self, offer: Offer, product: OfferProduct, terms: tuple[Term, ...]) -> Product:
        about = product.attributes
        edge = CLOUDFRONT_SERVICE in (about.servicecode, offer.code)
        versions = tuple(self._version(product.sku, term) for term in terms)
        return Product(
            sku=product.sku,
            usage_type=contract_name(about.usagetype),
            # One usage type is two products: EC2's and others' way out of a region, and CloudFront's out of an edge.
            services=Services(
                only=frozenset({CLOUDFRONT_SERVICE}) if edge else frozenset(),
                without=frozenset() if edge else frozenset({CLOUDFRONT_SERVICE}),
            ),
            transfer=product.product_family if product.beside else about.transfer_type,
            from_location=_place(about.from_region_code or about.region_code, about.from_location, edge=edge),
            to_location=_place(about.to_region_code, about.to_location, edge=False),
            versions=tuple(sorted(versions, key=lambda version: version.from_s)),
        )

    def allowances(self, offer: Offer, product: OfferProduct, terms: tuple[Term, ...]) -> Iterator[Allowance]:
        where = f"product {product.sku} ({product.attributes.usagetype})"
        for term in terms:
            dimensions = list(term.price_dimensions.values())
            if len(dimensions) != 1:
                self.problems.append(f"{where}: it has {len(dimensions)} prices, and an allowance has one")
                continue
            yield from self._allowance(offer, product, term, dimensions[0], where)

    def _allowance(
        self, offer: Offer, product: OfferProduct, term: Term, dimension: Dimension, where: str
    ) -> Iterator[Allowance]:
        tier = self._tier(dimension, where)
        if not dimension.applies_to:
            self.problems.append(f"{where}: appliesTo names no product that it is free for")
        elif tier.price or tier.from_bytes or tier.to_bytes is None:
            self.problems.append(f"{where}: it is not free from 0 to an end, and so no allowance")
        else:
            yield Allowance(
                id=_allowance_id(offer, product),
                bytes=tier.to_bytes,
                skus=tuple(dict.fromkeys(dimension.applies_to)),
                order="dearest-first",
                from_s=self._begin(term, where),
                to_s=None,
                rate_codes={sku: f"{sku}.{FREE_RATE}" for sku in dimension.applies_to},
            )

    def _version(self, sku: str, term: Term) -> PriceVersion:
        where = f"product {sku}"
        tiers = [self._tier(each, where) for each in term.price_dimensions.values()]
        return PriceVersion(
            from_s=self._begin(term, where), tiers=tuple(sorted(tiers, key=lambda tier: tier.from_bytes))
        )

    def _begin(self, term: Term, where: str) -> int:
        if self._effective_s is not None:
            return self._effective_s
        return self._read(hour_of_text, term.effective_date, f"{where}, effectiveDate")

    def _tier(self, dimension: Dimension, where: str) -> Tier:
        where = f"{where}, rate {dimension.rate_code}"
        if dimension.unit not in _UNITS:
            self.problems.append(f"{where}: the unit is {dimension.unit!r}, and not {_UNITS[0]}")
        if set(dimension.price_per_unit) != {_CURRENCY}:
            found = ", ".join(sorted(dimension.price_per_unit)) or "no currency"
            self.problems.append(f"{where}: the price is in {found}, and not in {_CURRENCY}")
        end = dimension.end_range
        return Tier(
            from_bytes=self._read(bytes_of_gb, dimension.begin_range, f"{where}, beginRange"),
            to_bytes=None if end == _END else self._read(bytes_of_gb, end, f"{where}, endRange"),
            price=self._read(price_of, dimension.price_per_unit.get(_CURRENCY, "0"), where),
            rate_code=dimension.rate_code,
        )

    def _read(self, read: Callable[[str], int], text: str, where: str) -> int:
        try:
            return read(text)
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
            return 0


def _place(region: str, location: str, *, edge: bool) -> str:
    """A location of the contract where it is one, else AWS's name of the place."""
    if edge:
        return CLOUDFRONT
    return region or (INTERNET if location == "External" else location)


def _allowance_id(offer: Offer, product: OfferProduct) -> str:
    usage_type = product.attributes.usagetype
    edge = CLOUDFRONT_SERVICE in (product.attributes.servicecode, offer.code)
    name = _NAMES.get(usage_type, usage_type.lower())
    return f"cloudfront-{name}" if edge else name
