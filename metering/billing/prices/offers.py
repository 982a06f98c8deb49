"""A new version of a price book: the current book, with the prices of offer files added.

Earlier prices remain in force for past hours. A product missing from a file is removed if the file is authoritative for
the product's region, that is, if it lists the region's internet egress.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.billing import money
from metering.billing.documents import DocumentRefusedError, Reading, bytes_of_gb, hour_of_text
from metering.billing.prices import document
from metering.billing.prices.book import NOT_SOLD, Allowance, PriceBook, PriceVersion, Product, Services, Tier
from metering.billing.rating.payer_prices import traffic_of
from metering.hours import date_of
from metering.usage.usage_types import CLOUDFRONT, CLOUDFRONT_SERVICE, INTERNET, TRAFFIC, contract_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from metering.billing.prices.offer_files import Dimension, Offer, OfferProduct, Term


GLOBAL = "Global-"
"""Usage types of allowances. Their price of 0 holds for the products that `appliesTo` names."""
FREE_RATE = "A429C66SYZ.6YS6EN2CT7"
"""Offer term and rate of free bytes, after the SKU: AWS bills them under the SKU of the region that they left."""
_END = "Inf"
_UNITS = ("GB", "GigaBytes")
"""AWS's two names of 2^30 bytes; transit gateways have the second."""
_CURRENCY = "USD"
_NAMES = {"Global-DataTransfer-Out-Bytes": "global-internet-out", "Global-DataTransfer-Regional-Bytes": "regional"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """Products and allowances of one offer.

    Attributes:
        products: Products by SKU, each with the file's price versions.
        allowances: Allowances with all SKUs in the file, known or unknown.
        left_out: SKUs of single-operation products that another product of the offer replaces.
    """

    products: dict[str, Product]
    allowances: tuple[Allowance, ...]
    left_out: tuple[str, ...]
    problems: tuple[str, ...]


def sold_by(offer: Offer, *, effective_s: int | None) -> Sold:
    """Products and allowances of an offer, and all problems found in it. `effective_s`: as for `imported`."""
    reading = _OfferReading(effective_s)
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
    """SKUs of single-operation products that another product of the same usage type replaces.

    The replacement is the product that covers every operation. If there is none, but all have the same prices, one of
    them replaces the others, because usage has no operation. For products billed in addition to the transfer, a free
    operation (peering within a zone) is left out, too.
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
    return frozenset(
        (term.effective_date, each.begin_range, each.end_range, each.unit, str(sorted(each.price_per_unit.items())))
        for term in offer.terms.get(sku, ())
        for each in term.price_dimensions.values()
    )


class _OfferReading(Reading):
    def __init__(self, effective_s: int | None) -> None:
        super().__init__()
        self._effective_s = effective_s

    def product(self, offer: Offer, product: OfferProduct, terms: tuple[Term, ...]) -> Product:
        about = product.attributes
        edge = _is_edge(offer, product)
        versions = tuple(self._version(product.sku, term) for term in terms)
        return Product(
            sku=product.sku,
            usage_type=contract_name(about.usagetype),
            # One usage type belongs to two products: the region's egress, and CloudFront's egress at an edge.
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
            [dimension] = dimensions
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
        return self.read(hour_of_text, term.effective_date, f"{where}, effectiveDate")

    def _tier(self, dimension: Dimension, where: str) -> Tier:
        where = f"{where}, rate {dimension.rate_code}"
        if dimension.unit not in _UNITS:
            self.problems.append(f"{where}: the unit is {dimension.unit!r}, and not {_UNITS[0]}")
        if set(dimension.price_per_unit) != {_CURRENCY}:
            found = ", ".join(sorted(dimension.price_per_unit)) or "no currency"
            self.problems.append(f"{where}: the price is in {found}, and not in {_CURRENCY}")
        end = dimension.end_range
        return Tier(
            from_bytes=self.read(bytes_of_gb, dimension.begin_range, f"{where}, beginRange"),
            to_bytes=None if end == _END else self.read(bytes_of_gb, end, f"{where}, endRange"),
            price=self.read(money.price_of, dimension.price_per_unit.get(_CURRENCY, "0"), where),
            rate_code=dimension.rate_code,
        )


def _place(region: str, location: str, *, edge: bool) -> str:
    if edge:
        return CLOUDFRONT
    return region or (INTERNET if location == "External" else location)


def _allowance_id(offer: Offer, product: OfferProduct) -> str:
    usage_type = product.attributes.usagetype
    name = _NAMES.get(usage_type, usage_type.lower())
    return f"cloudfront-{name}" if _is_edge(offer, product) else name


def _is_edge(offer: Offer, product: OfferProduct) -> bool:
    return CLOUDFRONT_SERVICE in (product.attributes.servicecode, offer.code)


_INTERNET_OUT = "DataTransfer-Out-Bytes"
_PARTIAL = (
    "Import the files of all regions in one call; or --partial: allowances without the products that are unknown."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A new price book that is not written yet.

    Attributes:
        left_out: SKUs of single-operation products that another product of the offer replaces.
        passed: Usage types of products that were not read, without region prefixes.
        unknown: SKUs that an allowance names, but no file and no price book has.
    """

    book: PriceBook
    left_out: tuple[str, ...]
    passed: tuple[str, ...]
    unknown: tuple[str, ...]


def imported(
    before: PriceBook | None,
    offers: Sequence[Offer],
    *,
    name: str,
    effective_s: int | None = None,
    partial: bool = False,
) -> Imported:
    """Make a price book from offer files and the current book.

    Args:
        before: The current price book; None without one.
        offers: The files, in any order; several versions of one offer are read as its history.
        name: Name of the book.
        effective_s: Hour from which all prices of the files apply; if None, the times in the files apply.
        partial: Whether allowances may omit products that are unknown.

    Raises:
        DocumentRefusedError: The error lists every problem of all files.
    """
    book = before or PriceBook(name=name, version=0, currency="USD", products=(), not_sold=NOT_SOLD)
    ordered = sorted(offers, key=lambda offer: (offer.version, offer.name))
    sold = [sold_by(offer, effective_s=effective_s) for offer in ordered]
    problems = [
        f"{offer.name}: {problem}" if len(offers) > 1 else problem
        for offer, each in zip(ordered, sold, strict=True)
        for problem in each.problems
    ]
    products = dict(book.by_sku)
    for each in sold:
        products = _merged(products, each)
    known = frozenset(products).union(*(offer.skus for offer in ordered))
    unknown = sorted({sku for each in sold for one in each.allowances for sku in one.skus if sku not in known})
    if unknown and not partial:
        problems.append(
            f"allowances apply to {len(unknown)} products that are in no file and no book, such as {unknown[0]}"
        )
    made = replace(
        book,
        products=tuple(products.values()),
        allowances=_allowances(book.allowances, sold, products),
        source=_source(book, ordered),
    )
    problems = problems or document.problems_of(made)
    if problems:
        raise DocumentRefusedError("the import", problems, _PARTIAL if unknown and not partial else "")
    left_out = tuple(sorted({sku for each in sold for sku in each.left_out}))
    passed = tuple(sorted({name for offer in ordered for name in offer.passed}))
    return Imported(book=made, left_out=left_out, passed=passed, unknown=tuple(unknown))


def _merged(products: dict[str, Product], sold: Sold) -> dict[str, Product]:
    covered = {_covering(each) for each in sold.products.values() if _decides(traffic_of(each.usage_type))}
    kept = {sku: each for sku, each in products.items() if sku in sold.products or _covering(each) not in covered}
    for sku, product in sold.products.items():
        versions = kept[sku].versions if sku in kept else ()
        for version in product.versions:
            versions = _inserted(versions, version)
        kept[sku] = replace(product, versions=versions)
    return kept


def _decides(traffic: str) -> bool:
    return traffic == _INTERNET_OUT or traffic in TRAFFIC


def is_beside(product: Product) -> bool:
    """Whether a product (processing, peering) is billed in addition to the transfer."""
    return traffic_of(product.usage_type) in TRAFFIC


def _covering(product: Product) -> tuple[str, str]:
    """The scope (a region, or all edges) that a file must cover for a product missing from the file to be removed.

    For products billed in addition to the transfer, the scope is their family in the region: AmazonVPC and AmazonEC2
    share these products.
    """
    if CLOUDFRONT_SERVICE in product.services.only:
        return "edges", ""
    prefix = product.usage_type.removesuffix(traffic_of(product.usage_type))
    # The usage types of region pairs have a prefix for us-east-1 that is used nowhere else.
    return (product.transfer if is_beside(product) else ""), ("" if prefix == "USE1-" else prefix)


def _inserted(versions: tuple[PriceVersion, ...], new: PriceVersion) -> tuple[PriceVersion, ...]:
    before = [each for each in versions if each.from_s < new.from_s]
    after = [each for each in versions if each.from_s > new.from_s]
    if before and before[-1].tiers == new.tiers:
        return (*before, *after)
    if after and after[0].tiers == new.tiers:
        after = after[1:]
    return (*before, new, *after)


def _allowances(
    before: Iterable[Allowance], sold: Iterable[Sold], products: dict[str, Product]
) -> tuple[Allowance, ...]:
    found = {each.id: each for each in before}
    for each in sold:
        for new in each.allowances:
            _put(found, new, decided=each.products.keys())
    applying = (_applying(each, products) for each in found.values())
    return tuple(each for each in applying if each.skus)


def _put(found: dict[str, Allowance], new: Allowance, *, decided: Iterable[str]) -> None:
    """Add an allowance from a file to `found`. Of an existing allowance, only products in the file are replaced."""
    names = [name for name, each in found.items() if name == new.id or name.startswith(f"{new.id}-from-")]
    old = next((found[name] for name in names if found[name].to_s is None), None)
    if old is None:
        found[new.id] = new
        return
    skus = tuple(sorted((set(old.skus) - set(decided)) | set(new.skus)))
    rates = {**old.rate_codes, **new.rate_codes}
    if old.bytes == new.bytes:
        found[old.id] = replace(old, skus=skus, rate_codes=rates)
    elif new.from_s <= old.from_s:
        found[old.id] = replace(new, id=old.id, skus=skus, rate_codes=rates)
    else:
        found[old.id] = replace(old, to_s=new.from_s)
        name = f"{new.id}-from-{date_of(new.from_s)}"
        found[name] = replace(new, id=name, skus=skus, rate_codes=rates)


def _applying(allowance: Allowance, products: dict[str, Product]) -> Allowance:
    skus = tuple(sku for sku in allowance.skus if sku in products)
    return replace(allowance, skus=skus, rate_codes={sku: allowance.rate_codes[sku] for sku in skus})


def _source(book: PriceBook, offers: Sequence[Offer]) -> dict[str, object]:
    files = book.source.get("files")
    found: dict[str, object] = dict(files) if isinstance(files, dict) else {}
    for offer in offers:
        found[f"{offer.code} {_about(offer)}"] = {"version": offer.version, "sha256": offer.sha256}
    return {"kind": "aws-offer", "files": found}


def _about(offer: Offer) -> str:
    """The region that a file covers, or `all`."""
    regions = {
        each.attributes.from_region_code or each.attributes.region_code or each.attributes.from_location
        for each in offer.products.values()
        if each.beside or traffic_of(each.attributes.usagetype) == _INTERNET_OUT
    }
    return next(iter(regions)) if len(regions) == 1 else "all"
