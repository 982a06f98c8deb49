"""AWS's offer files: products, terms and price dimensions of one service.

Each file is parsed one JSON member at a time. Unknown fields are ignored. Descriptions are ignored, because some name a
region other than the product's.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, NoReturn, TextIO

import msgspec

from metering.billing.documents import DocumentRefusedError, object_of, refuse_constant, refuse_twice
from metering.billing.prices import document
from metering.billing.rating.payer_prices import traffic_of
from metering.units import KIB, MIB
from metering.usage.usage_types import TRAFFIC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from metering.billing.prices.book import PriceBook


CHUNK_CHARS = 256 * KIB
MOST_MEMBER_CHARS = 4 * MIB
"""A product or its terms have some thousand characters."""
MOST_MEMBERS = 500_000
_MOST_DEPTH = 8
_SPACE = " \t\n\r"


class JsonStream:
    """A reader with a position in a JSON text. Duplicate names within one object are collected in `twice`.

    After each name that `members` yields, read the member's value with `value` or `members`.
    """

    def __init__(self, file: TextIO, what: str) -> None:
        self.twice: list[str] = []
        self._file = file
        self._what = what
        self._text = ""
        self._at = 0
        self._ended = False
        self._depth = 0
        self._decoder = json.JSONDecoder(
            object_pairs_hook=lambda pairs: object_of(pairs, self.twice),
            parse_float=Decimal,
            parse_constant=refuse_constant,
        )

    def peek(self) -> str:
        """The next non-space character, which is not consumed; empty at the end of the text."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def members(self) -> Iterator[str]:
        """Names of the members of the object at this position, in order.

        Raises:
            DocumentRefusedError: The text is not JSON, ends too early, or is too large.
        """
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            self._refuse("it is nested too deeply")
        self._take("{")
        names: set[str] = set()
        while self.peek() != "}":
            if names:
                self._take(",")
            name = self.value()
            if not isinstance(name, str):
                self._refuse("the name of a member is no text")
            if name in names:
                self.twice.append(name)
            names.add(name)
            if len(names) > MOST_MEMBERS:
                self._refuse(f"an object has more than {MOST_MEMBERS:,} members")
            self._take(":")
            yield name
        self._take("}")
        self._depth -= 1

    def value(self) -> object:
        """The complete value at this position.

        Raises:
            DocumentRefusedError: As for `members`.
        """
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                self._refuse("it is nested too deeply")
            except (ValueError, ArithmeticError) as error:
                self._read_on(str(error))
                continue
            # More digits may follow a number at the end of the text that was read so far.
            if end == len(self._text) and self._more():
                continue
            self._at = end
            return value

    def end(self) -> None:
        """Check that nothing follows.

        Raises:
            DocumentRefusedError: More text follows, or an object contains a duplicate name.
        """
        if self.peek():
            self._refuse("something follows the end of its object")
        refuse_twice(self._what, self.twice)

    def _read_on(self, problem: str) -> None:
        """Read more text, because the text read so far may be only the beginning of a value."""
        if len(self._text) - self._at > MOST_MEMBER_CHARS:
            self._refuse(f"it is no JSON, or one of its members has more than {MOST_MEMBER_CHARS:,} characters")
        if not self._more():
            self._refuse(f"it is no JSON, or it is cut off ({problem})")

    def _more(self) -> bool:
        if self._ended:
            return False
        # Each read doubles the text, so that a long member is not parsed repeatedly from its start.
        wanted = max(CHUNK_CHARS, len(self._text) - self._at)
        try:
            chunk = self._file.read(wanted)
        except UnicodeDecodeError as error:
            raise DocumentRefusedError(self._what, [f"it is no UTF-8 ({error.reason})"]) from error
        self._ended = not chunk
        self._text = self._text[self._at :] + chunk
        self._at = 0
        return bool(chunk)

    def _take(self, sign: str) -> None:
        found = self.peek()
        if found != sign:
            self._refuse(f"{sign!r} is missing" if found else "it is cut off")
        self._at += 1

    def _refuse(self, problem: str) -> NoReturn:
        raise DocumentRefusedError(self._what, [problem])


_TRANSFER = frozenset({"Data Transfer"})
NETWORK_FAMILIES = frozenset({"NAT Gateway", "Transit Gateway", "VPC Peering", "VpcEndpoint"})
"""Families of what AWS bills beside the transfer itself, in the offers AmazonVPC and AmazonEC2."""
OFFERS: Mapping[str, frozenset[str]] = {
    "AWSDataTransfer": _TRANSFER,
    "AmazonCloudFront": _TRANSFER,
    "AmazonVPC": NETWORK_FAMILIES,
    "AmazonEC2": NETWORK_FAMILIES,
}
"""Offers that have prices of what is metered here, and the families that they are read for."""
# AmazonEC2's file of us-east-1 has several hundred MB.
MOST_FILE_BYTES = 1024 * MIB
_MOST_PASSED = 1_000
_ADVICE = (
    "Offer files: https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/AWSDataTransfer/current/<region>/index.json, "
    "and of AmazonVPC and AmazonEC2 likewise"
)


class Attributes(msgspec.Struct, frozen=True, rename="camel"):
    """Attributes of a product; empty where AWS omits them."""

    usagetype: str = ""
    servicecode: str = ""
    operation: str = ""
    transfer_type: str = ""
    from_location: str = ""
    from_region_code: str = ""
    to_location: str = ""
    to_region_code: str = ""
    region_code: str = ""


class OfferProduct(msgspec.Struct, frozen=True, rename="camel"):
    """One SKU."""

    sku: str
    attributes: Attributes
    product_family: str = ""

    @property
    def beside(self) -> bool:
        """Whether the product (processing, peering) is billed in addition to the transfer."""
        return self.product_family in NETWORK_FAMILIES


class Dimension(msgspec.Struct, frozen=True, rename="camel"):
    """One price: for a range of GB, in each currency of the file."""

    rate_code: str
    unit: str
    begin_range: str
    end_range: str
    price_per_unit: dict[str, str]
    applies_to: tuple[str, ...] = ()


class Term(msgspec.Struct, frozen=True, rename="camel"):
    """Prices of a product that apply from a certain time on."""

    sku: str
    effective_date: str
    price_dimensions: dict[str, Dimension]


class IndexedVersion(msgspec.Struct, frozen=True, rename="camel"):
    """One version in a version index."""

    version_effective_begin_date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The part of an offer file that this project uses.

    Attributes:
        code: The service, `AWSDataTransfer`.
        version: Time at which AWS published the file, as a string of digits.
        products: Products that a price book can contain, by SKU.
        terms: Price terms of `products`, by SKU.
        skus: SKUs of all products; filled only for a data transfer offer.
        passed: Usage types (without region prefix) of unread products whose family is read or counted in bytes.
        sha256: Of the file.
    """

    name: str
    code: str
    version: str
    products: dict[str, OfferProduct]
    terms: dict[str, tuple[Term, ...]]
    skus: frozenset[str]
    passed: tuple[str, ...]
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionIndex:
    """The published versions of one AWS offer."""

    name: str
    code: str
    current: str
    versions: dict[str, IndexedVersion]


@dataclass(slots=True, kw_only=True)
class _Read:
    """The content of a file that was read so far."""

    texts: dict[str, str] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    products: dict[str, OfferProduct] = field(default_factory=dict)
    terms: dict[str, tuple[Term, ...]] = field(default_factory=dict)
    versions: dict[str, IndexedVersion] = field(default_factory=dict)
    skus: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def read_prices(path: Path) -> Offer | VersionIndex | PriceBook:
    """Read an offer file, a version index, or a price book of this project.

    Raises:
        DocumentRefusedError: The file is another kind of document or has problems; the error lists all problems.
        OSError: The file cannot be read.
    """
    name = path.name
    size = path.stat().st_size
    if size > MOST_FILE_BYTES:
        raise DocumentRefusedError(name, [f"it has {size:,} bytes, and {MOST_FILE_BYTES:,} are read at most"])
    read = _Read()
    with path.open(encoding="utf-8-sig", newline="") as file:
        stream = JsonStream(file, name)
        if _is_book(stream, read):
            return document.read_book(path.read_bytes(), name)
        stream.end()
    if read.problems:
        raise DocumentRefusedError(name, read.problems)
    if "versions" in read.names:
        code, current = (read.texts.get(each, "") for each in ("offerCode", "currentVersion"))
        return VersionIndex(name=name, code=code, current=current, versions=read.versions)
    with path.open("rb") as file:
        return _offer(name, read, hashlib.file_digest(file, "sha256").hexdigest())


def _is_book(stream: JsonStream, read: _Read) -> bool:
    """Read the members of a file; if the file is a price book of this project, stop and return True."""
    for name in stream.members():
        read.names.add(name)
        if name == "schema" or (name == "products" and stream.peek() == "[" and "offerCode" not in read.names):
            return True
        if name in _READERS and stream.peek() == "{":
            _READERS[name](stream, read)
            continue
        value = stream.value()
        read.texts[name] = value if isinstance(value, str) else ""
        if name in _READERS:
            read.problems.append(f"it is no offer file: its {name} are no object")
    return False


def _read_products(stream: JsonStream, read: _Read) -> None:
    for sku in stream.members():
        _product(read, sku, stream.value())


def _read_terms(stream: JsonStream, read: _Read) -> None:
    for kind in stream.members():
        for sku in stream.members():
            value = stream.value()
            # Terms of other kinds are for reservations.
            if kind == "OnDemand":
                _term(read, sku, value)


def _read_versions(stream: JsonStream, read: _Read) -> None:
    for version in stream.members():
        try:
            read.versions[version] = msgspec.convert(stream.value(), IndexedVersion)
        except msgspec.ValidationError as error:
            read.problems.append(f"version {version}: {error}")


def _product(read: _Read, sku: str, value: object) -> None:
    # AWS writes the offer code at the start of the file. If the offer code comes later, more is kept until it is known.
    code = read.texts.get("offerCode", "")
    if code not in OFFERS or OFFERS[code] == _TRANSFER:
        read.skus.add(sku)
    if isinstance(value, dict) and not _is_read(read, code, value):
        return
    try:
        product = msgspec.convert(value, OfferProduct)
    except msgspec.ValidationError as error:
        read.problems.append(f"product {sku}: {error}")
        return
    if product.sku != sku:
        read.problems.append(f"product {sku}: it says that its SKU is {product.sku}")
    read.products[sku] = product


def _is_read(read: _Read, code: str, value: dict[str, object]) -> bool:
    """Whether a product belongs in a price book; if not, its usage type is recorded as not read."""
    family, attributes = value.get("productFamily"), value.get("attributes")
    named = attributes.get("usagetype") if isinstance(attributes, dict) else None
    usage_type = named if isinstance(named, str) else ""
    wanted = OFFERS.get(code, _TRANSFER | NETWORK_FAMILIES)
    if family in wanted and (family not in NETWORK_FAMILIES or traffic_of(usage_type) in TRAFFIC):
        return True
    if (family in wanted or usage_type.endswith("Bytes")) and len(read.passed) < _MOST_PASSED:
        read.passed.add(traffic_of(usage_type))
    return False


def _term(read: _Read, sku: str, value: object) -> None:
    # AWS puts products before terms. In files without this order, every term is kept until the products are known.
    if "products" in read.names and sku not in read.products:
        return
    try:
        terms = tuple(msgspec.convert(value, dict[str, Term]).values())
    except msgspec.ValidationError as error:
        read.problems.append(f"terms of {sku}: {error}")
        return
    if wrong := [term.sku for term in terms if term.sku != sku]:
        read.problems.append(f"terms of {sku}: they say that they are of {wrong[0]}")
    read.terms[sku] = terms


def _offer(name: str, read: _Read, sha256: str) -> Offer:
    code, version = read.texts.get("offerCode", ""), read.texts.get("version", "")
    if "regions" in read.names or "offers" in read.names:
        raise DocumentRefusedError(name, ["it is an index of offers, and no offer file"], _ADVICE)
    if not {"products", "terms"} <= read.names:
        raise DocumentRefusedError(name, ["it is no offer file: it has no products and terms"], _ADVICE)
    if code not in OFFERS:
        offers = ", ".join(sorted(OFFERS))
        raise DocumentRefusedError(
            name, [f"it is the offer of {code or 'no service'}, and prices of what is metered are in {offers}"], _ADVICE
        )
    if not version.isdigit():
        raise DocumentRefusedError(name, [f"its version {version!r} is no number"])
    products = {sku: each for sku, each in read.products.items() if each.product_family in OFFERS[code]}
    if not products:
        families = " or ".join(sorted(OFFERS[code]))
        raise DocumentRefusedError(name, [f"it has no products of the family {families} that count bytes"])
    terms = {sku: terms for sku, terms in read.terms.items() if sku in products}
    return Offer(
        name=name,
        code=code,
        version=version,
        products=products,
        terms=terms,
        skus=frozenset(read.skus),
        passed=tuple(sorted(read.passed)),
        sha256=sha256,
    )


_READERS: Mapping[str, Callable[[JsonStream, _Read], None]] = {
    "products": _read_products,
    "terms": _read_terms,
    "versions": _read_versions,
}
