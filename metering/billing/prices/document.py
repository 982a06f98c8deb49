"""The JSON document of a price book, `metering.prices/1`: parsed strictly; all problems are reported together."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from metering.billing import documents
from metering.billing.money import UNITS_A_USD, price_of, usd_text
from metering.billing.prices.book import Allowance, NotSold, PriceBook, PriceVersion, Product, Services, Tier
from metering.units import GIB, HOUR_S

BOOK_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
RESERVED_NAMES = frozenset({"overrides"})
"""Names below `prices/` that are no book."""
_SKU = re.compile(r"[A-Z0-9]{4,32}")
_RATE = re.compile(r"[A-Z0-9]{4,32}(\.[A-Z0-9]{4,32}){2}")
_MOST_PRICE = 1_000_000 * UNITS_A_USD
_MOST_PATTERN = 200
# Patterns allow letters, groups of alternatives, and `.*`: enough for usage types, and quick to match.
_PATTERN = re.compile(r"(?:[A-Za-z0-9:_-]|\\\.|\.\*|\((?:[A-Za-z0-9:_-]+\|)*[A-Za-z0-9:_-]+\))+")
_MOST_WILD = 3


def problems_of(book: PriceBook) -> list[str]:
    """Every problem of a price book; only a book without problems may be written."""
    return [
        *_of_name(book),
        *(problem for product in book.products for problem in _of_product(product)),
        *(f"product {sku} stands twice in the book" for sku in _twice(product.sku for product in book.products)),
        *_of_rates(book),
        *_of_usage_types(book),
        *_of_allowances(book),
        *(problem for rule in book.not_sold for problem in _of_rule(rule)),
    ]


def _of_name(book: PriceBook) -> Iterator[str]:
    if BOOK_NAME.fullmatch(book.name) is None or book.name in RESERVED_NAMES:
        yield f"{book.name!r} is not the name of a book: a letter, then up to 31 of a-z, 0-9 and dashes"
    if book.currency != "USD":
        yield f"the currency is {book.currency}, and prices are in USD"
    if not book.products:
        yield "it has no products"


def _of_product(product: Product) -> Iterator[str]:
    where = f"product {product.sku}"
    begins = [version.from_s for version in product.versions]
    yield from documents.problems_in(where, {
        "that is no SKU, which is made of capital letters and digits": _SKU.fullmatch(product.sku) is None,
        "it has no usage type": not product.usage_type,
        "services are named either by `only` or by `not`": bool(product.services.only and product.services.without),
        "it has no prices": not begins,
        "its prices do not follow each other in time": begins != sorted(set(begins)),
    })  # fmt: skip
    for version in product.versions:
        yield from _of_version(where, version)


def _of_version(where: str, version: PriceVersion) -> Iterator[str]:
    where = f"{where}, prices from {documents.hour_text(version.from_s)}"
    if version.from_s % HOUR_S:
        yield f"{where}: they begin at no full hour"
    if not version.tiers:
        yield f"{where}: there is no tier"
        return
    if version.tiers[0].from_bytes != 0:
        yield f"{where}: the first tier begins at {documents.gb_text(version.tiers[0].from_bytes)} GB, and not at 0"
    if version.tiers[-1].to_bytes is not None:
        yield f"{where}: the last tier ends at {documents.gb_text(version.tiers[-1].to_bytes)} GB, and has to be open"
    for tier in version.tiers:
        yield from _of_tier(where, tier)
    for before, after in pairwise(version.tiers):
        yield from _between(where, before, after)


def _of_tier(where: str, tier: Tier) -> Iterator[str]:
    end = tier.to_bytes
    return documents.problems_in(where, {
        f"the tier from {documents.gb_text(tier.from_bytes)} GB ends at {documents.gb_text(end or 0)} GB": (
            end is not None and end <= tier.from_bytes
        ),
        "a price lies outside of 0 to 1,000,000 USD a GB": not 0 <= tier.price <= _MOST_PRICE,
        f"{tier.rate_code!r} is no rate code, which is <sku>.<offer term>.<rate>": not _RATE.fullmatch(tier.rate_code),
    })  # fmt: skip


def _between(where: str, before: Tier, after: Tier) -> Iterator[str]:
    if before.to_bytes is None:
        yield f"{where}: a tier that is open is not the last one"
        return
    ended, begun = documents.gb_text(before.to_bytes), documents.gb_text(after.from_bytes)
    if before.to_bytes < after.from_bytes:
        yield f"{where}: there is a gap from {ended} to {begun} GB"
    elif before.to_bytes > after.from_bytes:
        yield f"{where}: tiers overlap from {begun} to {ended} GB"


def _of_rates(book: PriceBook) -> Iterator[str]:
    owners: dict[str, set[str]] = {}
    for product in book.products:
        for version in product.versions:
            rates = [tier.rate_code for tier in version.tiers]
            yield from (f"product {product.sku}: rate code {rate} stands twice in one list" for rate in _twice(rates))
            for rate in rates:
                owners.setdefault(rate, set()).add(product.sku)
    for rate, skus in owners.items():
        if len(skus) > 1:
            yield f"rate code {rate} stands at several products: {', '.join(sorted(skus))}"


def _of_usage_types(book: PriceBook) -> Iterator[str]:
    for usage_type, products in book.by_usage_type.items():
        for number, one in enumerate(products):
            for other in products[number + 1 :]:
                if _share(one.services, other.services):
                    yield f"usage type {usage_type} is two products for one service: {one.sku} and {other.sku}"


def _share(one: Services, other: Services) -> bool:
    named = one.only or other.only
    return not named or any(one.takes(service) and other.takes(service) for service in named)


def _of_allowances(book: PriceBook) -> Iterator[str]:
    for name in _twice(allowance.id for allowance in book.allowances):
        yield f"allowance {name} stands twice in the book"
    for allowance in book.allowances:
        yield from _of_allowance(allowance, book)
    yield from _of_shared(book)


def _of_allowance(allowance: Allowance, book: PriceBook) -> Iterator[str]:
    if not allowance.id:
        yield "an allowance has no id"
    unknown = [sku for sku in allowance.skus if sku not in book.by_sku]
    yield from documents.problems_in(f"allowance {allowance.id}", {
        "it gives nothing": not allowance.bytes,
        "it names no product that it applies to": not allowance.skus,
        f"it applies to products that are not in the book: {documents.some_of(unknown)}": bool(unknown),
        **{f"product {sku} is named twice": True for sku in _twice(allowance.skus)},
        "it ends before it begins": allowance.to_s is not None and allowance.to_s <= allowance.from_s,
    })  # fmt: skip


def _of_shared(book: PriceBook) -> Iterator[str]:
    for number, one in enumerate(book.allowances):
        for other in book.allowances[number + 1 :]:
            apart = (one.to_s is not None and one.to_s <= other.from_s) or (
                other.to_s is not None and other.to_s <= one.from_s
            )
            if not apart and (shared := set(one.skus) & set(other.skus)):
                products = documents.some_of(sorted(shared))
                yield f"allowances {one.id} and {other.id} apply to the same products: {products}"


def _of_rule(rule: NotSold) -> Iterator[str]:
    if (
        len(rule.pattern) > _MOST_PATTERN
        or _PATTERN.fullmatch(rule.pattern) is None
        or rule.pattern.count(".*") > _MOST_WILD
    ):
        yield (
            f"{rule.pattern!r} is no pattern of usage types: letters, digits, `-`, `(a|b)`, and `.*` "
            f"at most {_MOST_WILD} times"
        )
    if not rule.why.strip():
        yield f"the rule {rule.pattern!r} does not say why"


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


SCHEMA = "metering.prices/1"
MOST_PRODUCTS = 100_000
MOST_TIERS = 100
_Text = Annotated[str, StringConstraints(max_length=400)]


class StrictDocument(BaseModel):
    """A part of a hand-written document; unknown members and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def read(cls, body: bytes, what: str, *, most_bytes: int = documents.MOST_BYTES) -> Self:
        """Parse a document from bytes. Raises DocumentRefusedError with all schema problems."""
        try:
            return cls.model_validate(documents.strict_json(body, what, most_bytes=most_bytes))
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, each['loc'])) or 'the document'}: {each['msg'][:1].lower()}{each['msg'][1:]}"
                for each in error.errors(include_url=False, include_context=False, include_input=False)
            ]
            raise documents.DocumentRefusedError(what, [each.replace(" of _", " of ") for each in problems]) from error


class _TierDocument(StrictDocument):
    to_gb: _Text | None
    price: _Text
    rate: _Text


class _PricesDocument(StrictDocument):
    begin: _Text = Field(alias="from")
    tiers: list[_TierDocument] = Field(max_length=MOST_TIERS)


class _ServicesDocument(StrictDocument):
    only: list[_Text] = []
    without: list[_Text] = Field(default=[], alias="not")


class _ProductDocument(StrictDocument):
    sku: _Text
    usage_type: _Text
    services: _ServicesDocument
    transfer: _Text
    origin: _Text = Field(alias="from")
    target: _Text = Field(alias="to")
    prices: list[_PricesDocument]


class _AllowanceDocument(StrictDocument):
    """Free bytes a month. The rate code of the free bytes consists of the SKU and `rate`."""

    id: _Text
    gb: _Text
    skus: list[_Text]
    order: Literal["dearest-first", "chronological"]
    begin: _Text = Field(alias="from")
    end: _Text | None = Field(default=None, alias="to")
    rate: _Text


class _NotSoldDocument(StrictDocument):
    pattern: _Text
    why: _Text


class _BookDocument(StrictDocument):
    format: Literal["metering.prices/1"] = Field(alias="schema")
    book: _Text
    version: int = Field(ge=0, le=10**9)
    currency: Literal["USD"]
    unit_bytes: Literal[1_073_741_824]
    source: dict[str, object] = {}
    products: list[_ProductDocument] = Field(max_length=MOST_PRODUCTS)
    allowances: list[_AllowanceDocument] = []
    not_sold: list[_NotSoldDocument] = []


def read_book(body: bytes, what: str) -> PriceBook:
    """Parse a document, and return its price book.

    Raises:
        DocumentRefusedError: The error lists every problem, and names the file or object, `what`.
    """
    document = _BookDocument.read(body, what)
    reading = _BookReading()
    book = reading.book(document, sha256=hashlib.sha256(body).hexdigest())
    problems = reading.problems or problems_of(book)
    if problems:
        raise documents.DocumentRefusedError(what, problems)
    return book


class _BookReading(documents.Reading):
    def book(self, document: _BookDocument, *, sha256: str) -> PriceBook:
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

    def _product(self, document: _ProductDocument) -> Product:
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
                    from_s=self.read(documents.hour_of_text, each.begin, where),
                    tiers=tuple(self._tiers(each.tiers, where)),
                )
                for each in document.prices
            ),
        )

    def _tiers(self, tiers: Iterable[_TierDocument], where: str) -> Iterable[Tier]:
        begin = 0
        for each in tiers:
            end = None if each.to_gb is None else self.read(documents.bytes_of_gb, each.to_gb, where)
            price = self.read(price_of, each.price, where)
            yield Tier(from_bytes=begin, to_bytes=end, price=price, rate_code=each.rate)
            begin = begin if end is None else end

    def _allowance(self, document: _AllowanceDocument) -> Allowance:
        where = f"allowance {document.id}"
        return Allowance(
            id=document.id,
            bytes=self.read(documents.bytes_of_gb, document.gb, where),
            skus=tuple(document.skus),
            order=document.order,
            from_s=self.read(documents.hour_of_text, document.begin, where),
            to_s=None if document.end is None else self.read(documents.hour_of_text, document.end, where),
            rate_codes={sku: f"{sku}.{document.rate}" for sku in document.skus},
        )


def book_value(book: PriceBook) -> dict[str, object]:
    """Convert a price book to its document; the order of products has no effect."""
    numbered = {"schema": SCHEMA, "book": book.name, "version": book.version, "source": dict(book.source)}
    return numbered | content_value(book)


def content_value(book: PriceBook) -> dict[str, object]:
    """The prices of a price book as in its document, without version and source."""
    return {
        "currency": book.currency,
        "unit_bytes": GIB,
        "products": [_product_value(each) for each in sorted(book.products, key=lambda product: product.sku)],
        "allowances": [_allowance_value(each) for each in sorted(book.allowances, key=lambda each: each.id)],
        # The order is kept: the first matching rule applies.
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
        "prices": [{"from": documents.hour_text(each.from_s), "tiers": tiers_value(each)} for each in product.versions],
    }


def tiers_value(version: PriceVersion) -> list[dict[str, object]]:
    """Tiers in the format of the document."""
    return [
        {
            "to_gb": None if tier.to_bytes is None else documents.gb_text(tier.to_bytes),
            "price": usd_text(tier.price),
            "rate": tier.rate_code,
        }
        for tier in version.tiers
    ]


def _allowance_value(allowance: Allowance) -> dict[str, object]:
    sku = allowance.skus[0]
    value: dict[str, object] = {
        "id": allowance.id,
        "gb": documents.gb_text(allowance.bytes),
        "skus": sorted(allowance.skus),
        "order": allowance.order,
        "from": documents.hour_text(allowance.from_s),
        "rate": allowance.rate_codes[sku].removeprefix(f"{sku}."),
    }
    return value if allowance.to_s is None else {**value, "to": documents.hour_text(allowance.to_s)}
