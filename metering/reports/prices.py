"""Answers about price books, their changes and coverage, and about who pays for whom."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from metering.billing.documents import gb_text, hour_text, percent_text
from metering.billing.money import usd_text
from metering.billing.prices.book import Allowance, NotSold, Override, PriceBook, PriceVersion, Product, Services
from metering.billing.prices.difference import Change, Kind
from metering.billing.rating.lines import PriceState
from metering.billing.rating.payer_prices import find
from metering.hours import rfc3339
from metering.reports.answer import KEEP, ROOMY, Answer, Cell, Column, Json
from metering.units import exact_and_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.organization import Organization
    from metering.billing.prices.store import Overrides
    from metering.billing.usage.months import Sold


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


_CHANGES = (
    Column(name="change", text="copied", priority=KEEP),
    Column(name="subject", text="copied", priority=KEEP),
    Column(name="usage_type", text="copied"),
    Column(name="tier_gb", title="tier in GB", text="copied"),
    Column(name="old", text="prose", priority=KEEP),
    Column(name="new", text="prose", priority=KEEP),
    Column(name="effective", kind="time", priority=ROOMY),
)
_PROBLEMS = (Column(name="problem", text="prose", priority=KEEP),)


def changes_answer(changes: Sequence[Change], *, title: str, meta: Mapping[str, Json]) -> Answer:
    """Every change, a row each."""
    return Answer(
        columns=_CHANGES,
        rows=[
            {
                "change": each.kind.value,
                "subject": each.subject,
                "usage_type": each.usage_type or None,
                "tier_gb": each.tier_gb or None,
                "old": each.old or None,
                "new": each.new or None,
                "effective": None if each.from_s is None else hour_text(each.from_s),
            }
            for each in changes
        ],
        meta=meta,
        title=title,
        empty="Nothing differs.",
        footer=(f"{counted(changes)}.",) if changes else (),
    )


def counted(changes: Sequence[Change]) -> str:
    """Changes in a few words: `3 added, 1 changed`."""
    counts = Counter(each.kind for each in changes)
    return ", ".join(f"{counts[kind]} {kind.value}" for kind in Kind if counts[kind]) or "nothing changed"


def problems_answer(problems: Sequence[str], *, title: str, meta: Mapping[str, Json]) -> Answer:
    """Everything that is wrong with documents; no row if nothing is."""
    return Answer(
        columns=_PROBLEMS,
        rows=[{"problem": each} for each in problems],
        meta=meta,
        title=title,
        empty="No problem was found.",
    )


_COLUMNS = (
    Column(name="state", text="copied", priority=KEEP),
    Column(name="service", text="copied", priority=KEEP),
    Column(name="usage_type", text="copied", priority=KEEP),
    Column(name="bytes", kind="bytes", priority=KEEP),
    Column(name="why", text="prose", priority=KEEP),
    Column(name="sku", text="copied"),
)
_NO_PRODUCT = "Not in the book."


class Used(NamedTuple):
    """Bytes of what is sold, of a whole month."""

    sold: Sold
    bytes: int


class Covered(NamedTuple):
    """What the book says of it."""

    used: Used
    state: PriceState
    why: str
    sku: str = ""


def covered(
    book: PriceBook, used: Iterable[Used], *, month_s: int, early: Mapping[tuple[Sold, int], int]
) -> list[Covered]:
    """What a book says of usage, what has no price first.

    Args:
        book: The book.
        used: Usage of the month.
        month_s: First hour of the month.
        early: Bytes of the month before an hour, for products whose first price begins within the month.
    """
    found: list[Covered] = []
    for each in used:
        product = find(book, each.sold)
        if product is None:
            found.append(Covered(each, PriceState.UNPRICED, _NO_PRODUCT))
        elif isinstance(product, NotSold):
            found.append(Covered(each, PriceState.UNRATED, product.why))
        else:
            found.extend(_of_product(product, each, month_s, early))
    order = (PriceState.UNPRICED, PriceState.UNRATED, PriceState.PRICED)
    return sorted(found, key=lambda each: (order.index(each.state), -each.used.bytes, each.used.sold))


def _of_product(product: Product, used: Used, month_s: int, early: Mapping[tuple[Sold, int], int]) -> Iterable[Covered]:
    first_s = product.versions[0].from_s
    before = early.get((used.sold, first_s), 0) if first_s > month_s else 0
    if before:
        why = f"Product {product.sku} has its first price from {hour_text(first_s)}."
        yield Covered(Used(used.sold, before), PriceState.UNPRICED, why, product.sku)
    if used.bytes - before:
        yield Covered(Used(used.sold, used.bytes - before), PriceState.PRICED, "", product.sku)


def first_prices(book: PriceBook, used: Iterable[Used], *, month_s: int) -> set[int]:
    """Hours within or after the month at which products of this usage get their first price."""
    products = (find(book, each.sold) for each in used)
    begins = {each.versions[0].from_s for each in products if isinstance(each, Product)}
    return {hour for hour in begins if hour > month_s}


def coverage_answer(book: PriceBook, found: Sequence[Covered], *, month: str, everything: bool) -> Answer:
    """Usage that is unpriced or unrated; everything if asked for.

    Args:
        book: The book.
        found: What it says.
        month: The month.
        everything: Also what is priced.
    """
    shown = [each for each in found if everything or each.state is not PriceState.PRICED]
    sums = {state: sum(each.used.bytes for each in found if each.state is state) for state in PriceState}
    return Answer(
        columns=_COLUMNS if everything else _COLUMNS[:-1],
        rows=[
            {
                "state": each.state.value,
                "service": each.used.sold.service,
                "usage_type": each.used.sold.usage_type,
                "bytes": each.used.bytes,
                "why": each.why or None,
                "sku": each.sku or None,
            }
            for each in shown
        ],
        meta={**book_meta(book), "month": month, **{f"{state.value}_bytes": str(sums[state]) for state in PriceState}},
        title=f"Usage of {month} by {book.name}, version {book.version}",
        empty="All usage of the month has a price." if found else f"{month} has no usage.",
        footer=tuple(f"{state.value}: {exact_and_size(sums[state])}." for state in PriceState if sums[state]),
    )


_MEMBERS = (
    Column(name="payer", text="copied", priority=KEEP),
    Column(name="payer_name", title="name", text="prose"),
    Column(name="issuer", text="prose", priority=ROOMY),
    Column(name="account", text="copied", priority=KEEP),
    Column(name="account_name", title="account's name", text="prose"),
    Column(name="from", kind="time", priority=KEEP),
    Column(name="to", kind="time", priority=KEEP),
)
_PAYERS_VERSIONS = (
    Column(name="version", kind="integer", priority=KEEP),
    Column(name="written", kind="time"),
    Column(name="payers", kind="integer"),
    Column(name="accounts", kind="integer"),
    Column(name="sha256", text="copied"),
)
_OVERRIDES = (
    Column(name="payer", text="copied", priority=KEEP),
    Column(name="account", text="copied", priority=KEEP),
    Column(name="skus", text="prose"),
    Column(name="from", kind="time", priority=KEEP),
    Column(name="to", kind="time"),
    Column(name="price_usd", title="USD a GB", text="number", priority=KEEP),
    Column(name="percent_off", title="% off", text="number", priority=KEEP),
    Column(name="no_allowance", kind="flag"),
    Column(name="why", text="prose"),
)


def organization_answer(organization: Organization) -> Answer:
    """Every account of every payer, a row for each time that it belongs to one."""
    return Answer(
        columns=_MEMBERS,
        rows=list(_members(organization)),
        meta={"version": organization.version, "sha256": organization.sha256},
        title=f"Payers, version {organization.version}" if organization.version else "Payers",
        empty="No payer was set: each account is its own payer.",
        footer=("An account that no payer has is its own payer.",) if organization.payers else (),
    )


def organizations_answer(versions: Sequence[tuple[Organization, int]]) -> Answer:
    """Versions, the newest first, each with the second at which it was written."""
    return Answer(
        columns=_PAYERS_VERSIONS,
        rows=[
            {
                "version": each.version,
                "written": rfc3339(written_s),
                "payers": len(each.payers),
                "accounts": len({member.account_id for payer in each.payers for member in payer.members}),
                "sha256": each.sha256,
            }
            for each, written_s in versions
        ],
        title="Versions of the organization",
        empty="No payer was set yet: each account is its own payer.",
    )


def overrides_answer(overrides: Overrides) -> Answer:
    """Every override in force, of the past and of the future."""
    return Answer(
        columns=_OVERRIDES,
        rows=[_override(each) for each in overrides.overrides],
        meta={"version": overrides.version, "sha256": overrides.sha256},
        title=f"Overrides, version {overrides.version}" if overrides.version else "Overrides",
        empty="There are no overrides: everybody pays the prices of the book.",
        footer=("That of an account beats that of its payer, which beats the book.",) if overrides.overrides else (),
    )


def _members(organization: Organization) -> Iterator[dict[str, Cell]]:
    for payer in organization.payers:
        about: dict[str, Cell] = {"payer": payer.payer_id, "payer_name": payer.name, "issuer": payer.issuer}
        if not payer.members:
            yield {**about, "account": None, "account_name": None, "from": None, "to": None}
        for member in payer.members:
            yield {
                **about,
                "account": member.account_id,
                "account_name": organization.names.get(member.account_id),
                "from": hour_text(member.from_s),
                "to": None if member.to_s is None else hour_text(member.to_s),
            }


def _override(override: Override) -> dict[str, Cell]:
    return {
        "payer": override.payer or None,
        "account": override.account or None,
        "skus": ", ".join(sorted(override.skus)) or "all",
        "from": hour_text(override.from_s),
        "to": None if override.to_s is None else hour_text(override.to_s),
        "price_usd": None if override.price is None else usd_text(override.price),
        "percent_off": None if override.percent_off is None else percent_text(override.percent_off),
        "no_allowance": override.no_allowance,
        "why": override.why,
    }
