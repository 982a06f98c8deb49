"""Answers about price books: the prices in force at an hour, and the versions of a book."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from metering.billing.documents.written import gb_text, hour_text
from metering.billing.money import usd_text
from metering.hours import rfc3339
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column, Json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.billing.prices.book import Allowance, PriceBook, PriceVersion, Product, Services

_PRICES = (
    Column(name="usage_type", text="copied", priority=KEEP),
    Column(name="services", text="prose", priority=ROOMY),
    Column(name="tier_from_gb", title="from GB", text="number", priority=KEEP),
    Column(name="tier_to_gb", title="to GB", text="number", priority=KEEP),
    Column(name="price_usd", title="USD a GB", text="number", priority=KEEP),
    Column(name="effective", kind="time"),
    Column(name="sku", text="copied"),
    Column(name="rate_code", text="copied", priority=ROOMY),
    Column(name="transfer", text="prose", priority=ROOMY),
    Column(name="from", text="copied", priority=ROOMY),
    Column(name="to", text="copied", priority=ROOMY),
)
_VERSIONS = (
    Column(name="book", text="copied", priority=KEEP),
    Column(name="version", kind="integer", priority=KEEP),
    Column(name="written", kind="time"),
    Column(name="products", kind="integer"),
    Column(name="allowances", kind="integer", priority=ROOMY),
    Column(name="newest_price", title="newest price from", kind="time"),
    Column(name="source", text="prose"),
    Column(name="sha256", text="copied", priority=ROOMY),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenBook:
    """A version of a book, and when it was written; None for one that ships with the package."""

    book: PriceBook
    written_s: int | None


def book_answer(book: PriceBook, products: Sequence[Product], *, at_s: int) -> Answer:
    """Prices of some products of a book in force at an hour.

    Args:
        book: The book.
        products: Products of it that are asked for.
        at_s: The hour.
    """
    rows = [row for product in products for row in _prices(product, at_s)]
    later = sum(1 for product in products if product.version_at(at_s) is None)
    return Answer(
        columns=_PRICES,
        rows=sorted(rows, key=lambda row: str(row["usage_type"])),
        meta={
            **book_meta(book),
            "at": hour_text(at_s),
            "allowances": [_allowance(each) for each in book.allowances],
            "not_sold": [{"pattern": each.pattern, "why": each.why} for each in book.not_sold],
        },
        title=f"{book.name}, version {book.version}, at {hour_text(at_s)}",
        empty="The book has no such product." if not products else "No price is in force at this hour.",
        footer=tuple(_footer(book, later)),
    )


def book_meta(book: PriceBook) -> dict[str, Json]:
    """What names a version of a book in an answer."""
    return {
        "book": book.name,
        "version": book.version,
        "currency": book.currency,
        "sha256": book.sha256,
        "source": cast("Json", book.source),
    }


def source_sentences(book: PriceBook) -> Iterator[str]:
    """Where the prices of a book come from, if it says so in words: one that is made of bill lines does."""
    of, link, secondary = (book.source.get(name) for name in ("of", "link", "secondary"))
    if of:
        yield f"Prices are those of {of}" + (f" ({link})." if link else ".")
    if secondary:
        yield f"From secondary sources: {secondary}"


def books_answer(written: Sequence[WrittenBook]) -> Answer:
    """Versions of books, the newest first."""
    return Answer(
        columns=_VERSIONS,
        rows=[_version(each) for each in written],
        title="Versions of price books",
        empty="No price book was imported yet.",
        footer=("What a version changed: metering prices diff",) if len(written) > 1 else (),
    )


def _prices(product: Product, at_s: int) -> Iterator[dict[str, Cell]]:
    version = product.version_at(at_s)
    for tier in () if version is None else version.tiers:
        yield {
            "usage_type": product.usage_type,
            "services": services_text(product.services),
            "tier_from_gb": gb_text(tier.from_bytes),
            "tier_to_gb": None if tier.to_bytes is None else gb_text(tier.to_bytes),
            "price_usd": usd_text(tier.price),
            "effective": _begin(version),
            "sku": product.sku,
            "rate_code": tier.rate_code,
            "transfer": product.transfer,
            "from": product.from_location,
            "to": product.to_location,
        }


def services_text(services: Services) -> str:
    """Services in words."""
    if services.only:
        return f"only {', '.join(sorted(services.only))}"
    return f"all but {', '.join(sorted(services.without))}" if services.without else "all"


def _begin(version: PriceVersion | None) -> str | None:
    return None if version is None else hour_text(version.from_s)


def _allowance(allowance: Allowance) -> Json:
    return {
        "id": allowance.id,
        "gb": gb_text(allowance.bytes),
        "skus": list(allowance.skus),
        "order": allowance.order,
        "from": hour_text(allowance.from_s),
        "to": None if allowance.to_s is None else hour_text(allowance.to_s),
    }


def _footer(book: PriceBook, later: int) -> Iterator[str]:
    yield "A GB is 2^30 bytes. Tiers count a payer's bytes of a month, beyond what is free."
    for each in book.allowances:
        end = "" if each.to_s is None else f", until {hour_text(each.to_s)}"
        yield f"Free each month: {gb_text(each.bytes)} GB over {len(each.skus)} products ({each.id}{end})."
    yield from source_sentences(book)
    if book.not_sold:
        yield "Not sold here means that AWS bills nothing under it, or that nobody knows what it is: it costs nothing."
    for rule in book.not_sold:
        yield f"Not sold here: {rule.pattern}. {rule.why}"
    if later:
        yield f"{later} of these products have no price yet at this hour."


def _version(each: WrittenBook) -> dict[str, Cell]:
    book = each.book
    newest = max((version.from_s for product in book.products for version in product.versions), default=None)
    return {
        "book": book.name,
        "version": book.version,
        "written": None if each.written_s is None else rfc3339(each.written_s),
        "products": len(book.products),
        "allowances": len(book.allowances),
        "newest_price": None if newest is None else hour_text(newest),
        "source": _source(book),
        "sha256": book.sha256,
    }


def _source(book: PriceBook) -> str:
    files = book.source.get("files")
    if isinstance(files, dict):
        named = [f"{name} {value['version']}" for name, value in sorted(files.items()) if isinstance(value, dict)]
        return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
    return str(book.source.get("of", book.source.get("kind", "")))
