"""A price book with the prices of offer files: what the files say, on top of what the book in force says.

Earlier prices stay, so that an hour of the past has the price that it had. A product that a file no longer has is gone,
if the file is about its region: it has the region's way out to the internet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from metering.billing.documents.strict_json import DocumentRefusedError
from metering.billing.prices.book import NOT_SOLD, PriceBook
from metering.billing.prices.checks import problems_of
from metering.billing.prices.matching import traffic_of
from metering.billing.prices.offers.products import sold_by
from metering.hours import date_of
from metering.usage.network_charges import TRAFFIC
from metering.usage.usage_types import CLOUDFRONT_SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from metering.billing.prices.book import Allowance, PriceVersion, Product
    from metering.billing.prices.offers.file import Offer
    from metering.billing.prices.offers.products import Sold

_INTERNET_OUT = "DataTransfer-Out-Bytes"
_PARTIAL = (
    "Import the files of all regions in one call; or --partial: allowances without the products that are unknown."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A book that is not written yet.

    Attributes:
        left_out: SKUs of products of one operation, for which another product stands.
        passed: Usage types of the files, without their regions' prefixes, that are not read: hours, and what is not
            known here.
        unknown: SKUs that allowances apply to, and that no file and no book has.
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
    """The book that offer files make of the one in force.

    Args:
        before: The book in force; None if there is none.
        offers: The files, in any order; several versions of one offer are its history.
        name: Name of the book.
        effective_s: Hour from which all prices of the files hold; None for the times that they give.
        partial: Let allowances apply to fewer products than the files say, if these are not known.

    Raises:
        DocumentRefusedError: Names every problem of all files.
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
    problems = problems or problems_of(made)
    if problems:
        raise DocumentRefusedError("the import", problems, _PARTIAL if unknown and not partial else "")
    left_out = tuple(sorted({sku for each in sold for sku in each.left_out}))
    passed = tuple(sorted({name for offer in ordered for name in offer.passed}))
    return Imported(book=made, left_out=left_out, passed=passed, unknown=tuple(unknown))


def _merged(products: dict[str, Product], sold: Sold) -> dict[str, Product]:
    covered = {_covering(each) for each in sold.products.values() if _is_way_out(each) or is_beside(each)}
    kept = {sku: each for sku, each in products.items() if sku in sold.products or _covering(each) not in covered}
    for sku, product in sold.products.items():
        versions = kept[sku].versions if sku in kept else ()
        for version in product.versions:
            versions = _inserted(versions, version)
        kept[sku] = replace(product, versions=versions)
    return kept


def _is_way_out(product: Product) -> bool:
    return traffic_of(product.usage_type) == _INTERNET_OUT


def is_beside(product: Product) -> bool:
    """Whether a product is billed beside the transfer: processing, or peering."""
    return traffic_of(product.usage_type) in TRAFFIC


def _covering(product: Product) -> tuple[str, str]:
    """What a file has to be about, for the product to be gone if the file lacks it: a region, or all edges.

    Of what is billed beside the transfer, its family in the region: AmazonVPC and AmazonEC2 share them out.
    """
    if CLOUDFRONT_SERVICE in product.services.only:
        return "edges", ""
    prefix = product.usage_type.removesuffix(traffic_of(product.usage_type))
    # Pairs of regions name us-east-1, which has no prefix elsewhere.
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
    """Put an allowance of a file, which decides about its own products; those of other regions stay."""
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
    """Where the prices come from: version and digest of the newest file of each region of an offer."""
    files = book.source.get("files")
    found: dict[str, object] = dict(files) if isinstance(files, dict) else {}
    for offer in offers:
        found[f"{offer.code} {_about(offer)}"] = {"version": offer.version, "sha256": offer.sha256}
    return {"kind": "aws-offer", "files": found}


def _about(offer: Offer) -> str:
    """The region that a file is about: that of its way out to the internet, or of what is billed beside that."""
    regions = {
        each.attributes.from_region_code or each.attributes.region_code or each.attributes.from_location
        for each in offer.products.values()
        if each.beside or traffic_of(each.attributes.usagetype) == _INTERNET_OUT
    }
    return next(iter(regions)) if len(regions) == 1 else "all"
