"""A price book: products with prices from a full hour on, tiers, allowances, and usage that is not sold here.

A book is an immutable value. `document` reads and writes books, and finds every problem of a book.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

AllowanceOrder = Literal["dearest-first", "chronological"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Bytes `[from_bytes, to_bytes)` of a payer's month above the allowance, at a price in 1e-10 USD per GB."""

    from_bytes: int
    to_bytes: int | None
    price: int
    rate_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceVersion:
    """Prices of a product, valid from a full hour on. Allowances go to the product with the highest `first_price`."""

    from_s: int
    tiers: tuple[Tier, ...]

    @property
    def first_price(self) -> int:
        return self.tiers[0].price


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Services of a product. One usage type may belong to two products: EC2 egress and CloudFront edge egress."""

    only: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()

    def takes(self, service: str) -> bool:
        return service in self.only if self.only else service not in self.without


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One SKU: the product for one usage type.

    Attributes:
        transfer: AWS's transfer type, such as `AWS Outbound` or `InterRegion Outbound`.
        from_location, to_location: Region, `internet` or another location of the contract; empty for any location.
        versions: At least one version, in time order.
    """

    sku: str
    usage_type: str
    services: Services
    transfer: str
    from_location: str
    to_location: str
    versions: tuple[PriceVersion, ...]

    def version_at(self, hour_s: int) -> PriceVersion | None:
        """The prices that apply in an hour; None if the hour precedes the first prices."""
        return next((each for each in reversed(self.versions) if each.from_s <= hour_s), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """Free bytes per month, shared by several products.

    Attributes:
        order: Order in which bytes are free: those of the most expensive product first, or the earliest bytes of all
            products first.
        from_s, to_s: The allowance applies to months that begin within these hours. `to_s` None: for ever.
        rate_codes: Rate code of the free bytes, by SKU.
    """

    id: str
    bytes: int
    skus: tuple[str, ...]
    order: AllowanceOrder
    from_s: int
    to_s: int | None
    rate_codes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSold:
    """Usage types (without region prefix) that are not sold here, because they are free or billed elsewhere."""

    pattern: str
    why: str


NOT_SOLD = (
    NotSold(
        pattern="Unclassified-(In|Out|Regional)-Bytes",
        why="The log does not say where the bytes went or came from, so no product is known.",
    ),
    NotSold(pattern="C3DataTransfer-(In|Out)-Bytes", why="Traffic within one zone is free."),
    NotSold(
        pattern="CloudFront-(In|Out)-Bytes",
        why="Traffic between a region and CloudFront is free; CloudFront bills what leaves its edges.",
    ),
)
"""What every new price book names as not sold: usage types of this service that AWS sells nothing under."""


@dataclass(frozen=True, kw_only=True)
class PriceBook:
    """An immutable version of a price book.

    Attributes:
        name: `aws-list`, or `sample`, which invoices use only on explicit request.
        sha256: SHA-256 of the canonical document, which invoices pin.
    """

    name: str
    version: int
    currency: str
    products: tuple[Product, ...]
    allowances: tuple[Allowance, ...] = ()
    not_sold: tuple[NotSold, ...] = ()
    source: Mapping[str, object] = field(default_factory=dict)
    sha256: str = ""

    @cached_property
    def by_sku(self) -> Mapping[str, Product]:
        return {product.sku: product for product in self.products}

    @cached_property
    def by_usage_type(self) -> Mapping[str, tuple[Product, ...]]:
        """Products by usage type; if a usage type has several products, their services differ."""
        found: dict[str, tuple[Product, ...]] = {}
        for product in self.products:
            found[product.usage_type] = (*found.get(product.usage_type, ()), product)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """Special prices of one payer or one account.

    Attributes:
        payer, account: Exactly one is set.
        skus: Products; empty means all.
        from_s, to_s: Full hours, half open; `to_s` is None for no end.
        price: Price of every tier, in 1e-10 USD per GB, or None for no fixed price.
        percent_off: Discount on the price of each tier, in thousandths of a percent (12,500 is 12.5 %); or None.
        no_allowance: Whether the bytes of the payer or account are excluded from all allowances.
        why: Words for people.
    """

    payer: str = ""
    account: str = ""
    skus: frozenset[str] = frozenset()
    from_s: int = 0
    to_s: int | None = None
    price: int | None = None
    percent_off: int | None = None
    no_allowance: bool = False
    why: str = ""
