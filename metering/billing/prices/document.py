"""The JSON document of a price book, `metering.prices/1`: read strictly, every problem named at once."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from metering.billing.documents.strict_json import DocumentRefusedError, strict_json
from metering.billing.documents.written import bytes_of_gb, gb_text, hour_of_text, hour_text
from metering.billing.money import price_of, usd_text
from metering.billing.prices.book import (
    Allowance,
    NotSold,
    PriceBook,
    PriceVersion,
    Product,
    Services,
    Tier,
)
from metering.billing.prices.checks import problems_of
from metering.units import GIB

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SCHEMA = "metering.prices/1"
MOST_PRODUCTS = 100_000
MOST_TIERS = 100
_Text = Annotated[str, StringConstraints(max_length=400)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TierDocument(_Strict):
    """A tier: it begins where the one before it ends."""

    to_gb: _Text | None
    price: _Text
    rate: _Text


class PricesDocument(_Strict):
    """Prices from an hour on."""

    begin: _Text = Field(alias="from")
    tiers: list[TierDocument] = Field(max_length=MOST_TIERS)


class ServicesDocument(_Strict):
    """Services that a product is about: those named, or all but those."""

    only: list[_Text] = []
    without: list[_Text] = Field(default=[], alias="not")


class ProductDocument(_Strict):
    """One SKU."""

    sku: _Text
    usage_type: _Text
    services: ServicesDocument
    transfer: _Text
    origin: _Text = Field(alias="from")
    target: _Text = Field(alias="to")
    prices: list[PricesDocument]


class AllowanceDocument(_Strict):
    """Free bytes a month. `rate` follows the SKU in the rate code of the free bytes."""

    id: _Text
    gb: _Text
    skus: list[_Text]
    order: Literal["dearest-first", "chronological"]
    begin: _Text = Field(alias="from")
    end: _Text | None = Field(default=None, alias="to")
    rate: _Text


class NotSoldDocument(_Strict):
    """Usage types that are not sold here."""

    pattern: _Text
    why: _Text


class BookDocument(_Strict):
    """A version of a price book."""

    format: Literal["metering.prices/1"] = Field(alias="schema")
    book: _Text
    version: int = Field(ge=0, le=10**9)
    currency: Literal["USD"]
    unit_bytes: Literal[1_073_741_824]
    source: dict[str, object] = {}
    products: list[ProductDocument] = Field(max_length=MOST_PRODUCTS)
    allowances: list[AllowanceDocument] = []
    not_sold: list[NotSoldDocument] = []


def read_book(body: bytes, what: str) -> PriceBook:
    """The price book of a document.

    Args:
        body: Its bytes.
        what: Name of the file or object, for errors.

    Raises:
        DocumentRefusedError: Names every problem.
    """
    value = strict_json(body, what)
    try:
        document = BookDocument.model_validate(value)
    except ValidationError as error:
        raise DocumentRefusedError(what, shape_problems(error)) from error
    reading = _Reading()
    book = reading.book(document, sha256=hashlib.sha256(body).hexdigest())
    problems = reading.problems or problems_of(book)
    if problems:
        raise DocumentRefusedError(what, problems)
    return book


def shape_problems(error: ValidationError) -> list[str]:
    """What Pydantic found, a sentence each."""
    return [
        f"{'.'.join(map(str, each['loc'])) or 'the document'}: {each['msg'][:1].lower()}{each['msg'][1:]}"
        for each in error.errors(include_url=False, include_context=False, include_input=False)
    ]


class _Reading:
    """Reads texts, and remembers what is wrong with them."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def book(self, document: BookDocument, *, sha256: str) -> PriceBook:
        return PriceBook(
            name=document.book,
            version=document.version,
            currency=document.currency,
            products=tuple(self._product(each) for each in document.products),
            allowances=tuple(self._allowance(each) for each in document.allowances),
            not_sold=tuple(NotSold(pattern=each.pattern, why=each.why) for each in document.not_sold),
            source=document.source,
            sha256=sha256,
        )

    def _product(self, document: ProductDocument) -> Product:
        where = f"product {document.sku}"
        return Product(
            sku=document.sku,
            usage_type=document.usage_type,
            services=Services(only=frozenset(document.services.only), without=frozenset(document.services.without)),
            transfer=document.transfer,
            from_location=document.origin,
            to_location=document.target,
            versions=tuple(
                PriceVersion(
                    from_s=self._read(hour_of_text, each.begin, where), tiers=tuple(self._tiers(each.tiers, where))
                )
                for each in document.prices
            ),
        )

    def _tiers(self, tiers: Iterable[TierDocument], where: str) -> Iterable[Tier]:
        begin = 0
        for each in tiers:
            end = None if each.to_gb is None else self._read(bytes_of_gb, each.to_gb, where)
            price = self._read(price_of, each.price, where)
            yield Tier(from_bytes=begin, to_bytes=end, price=price, rate_code=each.rate)
            begin = begin if end is None else end

    def _allowance(self, document: AllowanceDocument) -> Allowance:
        where = f"allowance {document.id}"
        return Allowance(
            id=document.id,
            bytes=self._read(bytes_of_gb, document.gb, where),
            skus=tuple(document.skus),
            order=document.order,
            from_s=self._read(hour_of_text, document.begin, where),
            to_s=None if document.end is None else self._read(hour_of_text, document.end, where),
            rate_codes={sku: f"{sku}.{document.rate}" for sku in document.skus},
        )

    def _read(self, read: Callable[[str], int], text: str, where: str) -> int:
        try:
            return read(text)
        except ValueError as error:
            self.problems.append(f"{where}: {error}")
            return 0


def book_value(book: PriceBook) -> dict[str, object]:
    """The document of a book: the same book gives the same document, in whatever order its parts were found."""
    return {
        "schema": SCHEMA,
        "book": book.name,
        "version": book.version,
        "source": dict(book.source),
        **content_value(book),
    }


def content_value(book: PriceBook) -> dict[str, object]:
    """What a book says of prices, without its number and where it comes from."""
    return {
        "currency": book.currency,
        "unit_bytes": GIB,
        "products": [_product_value(each) for each in sorted(book.products, key=lambda product: product.sku)],
        "allowances": [_allowance_value(each) for each in sorted(book.allowances, key=lambda each: each.id)],
        # The first rule that matches is the one that counts.
        "not_sold": [{"pattern": each.pattern, "why": each.why} for each in book.not_sold],
    }


def _product_value(product: Product) -> dict[str, object]:
    names = product.services
    return {
        "sku": product.sku,
        "usage_type": product.usage_type,
        "services": {"only": sorted(names.only)} if names.only else {"not": sorted(names.without)},
        "transfer": product.transfer,
        "from": product.from_location,
        "to": product.to_location,
        "prices": [{"from": hour_text(each.from_s), "tiers": tiers_value(each)} for each in product.versions],
    }


def tiers_value(version: PriceVersion) -> list[dict[str, object]]:
    """Tiers as the document has them."""
    return [
        {
            "to_gb": None if tier.to_bytes is None else gb_text(tier.to_bytes),
            "price": usd_text(tier.price),
            "rate": tier.rate_code,
        }
        for tier in version.tiers
    ]


def _allowance_value(allowance: Allowance) -> dict[str, object]:
    sku = allowance.skus[0]
    value: dict[str, object] = {
        "id": allowance.id,
        "gb": gb_text(allowance.bytes),
        "skus": sorted(allowance.skus),
        "order": allowance.order,
        "from": hour_text(allowance.from_s),
        "rate": allowance.rate_codes[sku].removeprefix(f"{sku}."),
    }
    return value if allowance.to_s is None else {**value, "to": hour_text(allowance.to_s)}
