"""Answers about price books, their changes and coverage, and about payers and their accounts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from metering.billing.documents import gb_text, hour_text, percent_text, some_of
from metering.billing.money import usd_text
from metering.billing.prices.book import Allowance, NotSold, Override, PriceBook, PriceVersion, Product, Services, Tier
from metering.billing.prices.difference import Change, Kind
from metering.billing.rating.payer_prices import PriceState, find
from metering.reports import answer
from metering.units import exact_and_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from metering.billing.owners import Owners, Rule
    from metering.billing.payers import Membership, Organization, Payer
    from metering.billing.prices import store
    from metering.billing.usage.months import Sold

_PRICES: answer.RowType[tuple[Product, PriceVersion, Tier]] = answer.RowType(
    answer.copied("usage_type", of=lambda it: it[0].usage_type, priority=answer.KEEP),
    answer.prose("services", of=lambda it: services_text(it[0].services), priority=answer.ROOMY),
    answer.number("tier_from_gb", of=lambda it: gb_text(it[2].from_bytes), title="from GB", priority=answer.KEEP),
    answer.number("tier_to_gb", of=lambda it: _optional(gb_text, it[2].to_bytes), title="to GB", priority=answer.KEEP),
    answer.number("price_usd", of=lambda it: usd_text(it[2].price), title="USD a GB", priority=answer.KEEP),
    answer.timed("effective", of=lambda it: hour_text(it[1].from_s)),
    answer.copied("sku", of=lambda it: it[0].sku),
    answer.copied("rate_code", of=lambda it: it[2].rate_code, priority=answer.ROOMY),
    answer.prose("transfer", of=lambda it: it[0].transfer, priority=answer.ROOMY),
    answer.copied("from", of=lambda it: it[0].from_location, priority=answer.ROOMY),
    answer.copied("to", of=lambda it: it[0].to_location, priority=answer.ROOMY),
)
_VERSIONS: answer.RowType[WrittenBook] = answer.RowType(
    answer.copied("book", of=lambda it: it.book.name, priority=answer.KEEP),
    answer.integer("version", of=lambda it: it.book.version, priority=answer.KEEP),
    answer.timed("written", of=lambda it: it.written_s),
    answer.integer("products", of=lambda it: len(it.book.products)),
    answer.integer("allowances", of=lambda it: len(it.book.allowances), priority=answer.ROOMY),
    answer.timed("newest_price", of=lambda it: _newest(it.book), title="newest price from"),
    answer.prose("source", of=lambda it: _source(it.book)),
    answer.copied("sha256", of=lambda it: it.book.sha256, priority=answer.ROOMY),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenBook:
    """A version of a book, and when the version was written; None for the version that is part of the package."""

    book: PriceBook
    written_s: int | None


def book_answer(book: PriceBook, products: Sequence[Product], *, at_s: int) -> answer.Answer:
    """Prices of some of a book's products, as in force at an hour."""
    found = [(product, product.version_at(at_s)) for product in sorted(products, key=lambda each: each.usage_type)]
    later = sum(1 for _, version in found if version is None)
    return _PRICES.answer(
        [(product, version, tier) for product, version in found if version for tier in version.tiers],
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


def book_meta(book: PriceBook) -> dict[str, answer.Json]:
    """Fields that identify a version of a book in an answer."""
    return {
        "book": book.name,
        "version": book.version,
        "currency": book.currency,
        "sha256": book.sha256,
        "source": cast("answer.Json", book.source),
    }


def source_sentences(book: PriceBook) -> Iterator[str]:
    """The source that a book states for its prices, if any; a book made of bill lines states one."""
    of, link, secondary = (book.source.get(name) for name in ("of", "link", "secondary"))
    if of:
        yield f"Prices are those of {of}" + (f" ({link})." if link else ".")
    if secondary:
        yield f"From secondary sources: {secondary}"


def books_answer(written: Sequence[WrittenBook]) -> answer.Answer:
    """Versions of books, newest first."""
    return _VERSIONS.answer(
        written,
        title="Versions of price books",
        empty="No price book was imported yet.",
        footer=("What a version changed: metering prices diff",) if len(written) > 1 else (),
    )


def services_text(services: Services) -> str:
    """Services in words."""
    if services.only:
        return f"only {', '.join(sorted(services.only))}"
    return f"all but {', '.join(sorted(services.without))}" if services.without else "all"


def _optional(text: Callable[[int], str], value: int | None) -> str | None:
    return None if value is None else text(value)


def _allowance(allowance: Allowance) -> answer.Json:
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


def _newest(book: PriceBook) -> str | None:
    hours = [version.from_s for product in book.products for version in product.versions]
    return hour_text(max(hours)) if hours else None


def _source(book: PriceBook) -> str:
    files = book.source.get("files")
    if isinstance(files, dict):
        named = [f"{name} {value['version']}" for name, value in sorted(files.items()) if isinstance(value, dict)]
        return ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
    return str(book.source.get("of", book.source.get("kind", "")))


_CHANGES: answer.RowType[Change] = answer.RowType(
    answer.copied("change", of=lambda it: it.kind, priority=answer.KEEP),
    answer.copied("subject", priority=answer.KEEP),
    answer.copied("usage_type", of=lambda it: it.usage_type or None),
    answer.copied("tier_gb", of=lambda it: it.tier_gb or None, title="tier in GB"),
    answer.prose("old", of=lambda it: it.old or None, priority=answer.KEEP),
    answer.prose("new", of=lambda it: it.new or None, priority=answer.KEEP),
    answer.timed("effective", of=lambda it: _optional(hour_text, it.from_s), priority=answer.ROOMY),
)
_PROBLEMS: answer.RowType[str] = answer.RowType(answer.prose("problem", of=str, priority=answer.KEEP))


def changes_answer(
    changes: Sequence[Change], *, title: str, meta: Mapping[str, answer.Json], most: int | None = None
) -> answer.Answer:
    """All changes, or the first `most`, one row for each change."""
    shown = changes[:most]
    more = f" The first {len(shown)} are shown; all of them: metering prices show" if len(shown) < len(changes) else ""
    return _CHANGES.answer(
        shown,
        meta=meta,
        title=title,
        empty="Nothing differs.",
        footer=(f"{counted(changes)}.{more}",) if changes else (),
    )


def counted(changes: Sequence[Change]) -> str:
    """A summary of changes as text: `3 added, 1 changed`."""
    counts = Counter(each.kind for each in changes)
    return ", ".join(f"{counts[kind]} {kind.value}" for kind in Kind if counts[kind]) or "nothing changed"


def problems_answer(problems: Sequence[str], *, title: str, meta: Mapping[str, answer.Json]) -> answer.Answer:
    """All problems of documents; no rows if there are no problems."""
    return _PROBLEMS.answer(problems, meta=meta, title=title, empty="No problem was found.")


_COVERAGE: answer.Fields[Covered] = (
    *answer.copied("state", priority=answer.KEEP),
    *answer.copied("service", of=lambda it: it.used.sold.service, priority=answer.KEEP),
    *answer.copied("usage_type", of=lambda it: it.used.sold.usage_type, priority=answer.KEEP),
    *answer.sized("bytes", of=lambda it: it.used.bytes, priority=answer.KEEP),
    *answer.prose("why", of=lambda it: it.why or None, priority=answer.KEEP),
    *answer.copied("sku", of=lambda it: it.sku or None),
)
_NO_PRODUCT = "Not in the book."


class Used(NamedTuple):
    """Bytes of one service and usage type in a month."""

    sold: Sold
    bytes: int


class Covered(NamedTuple):
    """Price state of this usage in the book."""

    used: Used
    state: PriceState
    why: str
    sku: str = ""


def covered(
    book: PriceBook, used: Iterable[Used], *, month_s: int, early: Mapping[tuple[Sold, int], int]
) -> list[Covered]:
    """Price state of a month's usage in a price book, unpriced usage first; the month begins at `month_s`.

    `early` contains the bytes before an hour, for products whose first price begins within the month.
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
    """Hours, within or after the month, at which products of this usage get their first price."""
    products = (find(book, each.sold) for each in used)
    begins = {each.versions[0].from_s for each in products if isinstance(each, Product)}
    return {hour for hour in begins if hour > month_s}


def coverage_answer(book: PriceBook, found: Sequence[Covered], *, month: str, everything: bool) -> answer.Answer:
    """Usage that is unpriced or unrated; if `everything`, priced usage too."""
    shown = [each for each in found if everything or each.state is not PriceState.PRICED]
    sums = {state: sum(each.used.bytes for each in found if each.state is state) for state in PriceState}
    return answer.RowType(_COVERAGE if everything else _COVERAGE[:-1]).answer(
        shown,
        meta={**book_meta(book), "month": month, **{f"{state.value}_bytes": str(sums[state]) for state in PriceState}},
        title=f"Usage of {month} by {book.name}, version {book.version}",
        empty="All usage of the month has a price." if found else f"{month} has no usage.",
        footer=tuple(f"{state.value}: {exact_and_size(sums[state])}." for state in PriceState if sums[state]),
    )


_MEMBERS: answer.RowType[tuple[Organization, Payer, Membership | None]] = answer.RowType(
    answer.copied("payer", of=lambda it: it[1].payer_id, priority=answer.KEEP),
    answer.prose("payer_name", of=lambda it: it[1].name, title="name"),
    answer.prose("issuer", of=lambda it: it[1].issuer, priority=answer.ROOMY),
    answer.copied("account", of=lambda it: it[2] and it[2].account_id, priority=answer.KEEP),
    answer.prose("account_name", of=lambda it: it[2] and it[0].names.get(it[2].account_id), title="account's name"),
    answer.timed("from", of=lambda it: it[2] and hour_text(it[2].from_s), priority=answer.KEEP),
    answer.timed("to", of=lambda it: it[2] and _optional(hour_text, it[2].to_s), priority=answer.KEEP),
)
_ORGANIZATIONS: answer.RowType[tuple[Organization, int]] = answer.RowType(
    answer.integer("version", of=lambda it: it[0].version, priority=answer.KEEP),
    answer.timed("written", of=lambda it: it[1]),
    answer.integer("payers", of=lambda it: len(it[0].payers)),
    answer.integer(
        "accounts", of=lambda it: len({each.account_id for payer in it[0].payers for each in payer.members})
    ),
    answer.copied("sha256", of=lambda it: it[0].sha256),
)
_OVERRIDES: answer.RowType[Override] = answer.RowType(
    answer.copied("payer", of=lambda it: it.payer or None, priority=answer.KEEP),
    answer.copied("account", of=lambda it: it.account or None, priority=answer.KEEP),
    answer.prose("skus", of=lambda it: sorted(it.skus) or "all"),
    answer.timed("from", of=lambda it: hour_text(it.from_s), priority=answer.KEEP),
    answer.timed("to", of=lambda it: _optional(hour_text, it.to_s)),
    answer.number("price_usd", of=lambda it: _optional(usd_text, it.price), title="USD a GB", priority=answer.KEEP),
    answer.number(
        "percent_off", of=lambda it: _optional(percent_text, it.percent_off), title="% off", priority=answer.KEEP
    ),
    answer.flag("no_allowance"),
    answer.prose("why"),
)


_RULES: answer.RowType[tuple[int, Rule]] = answer.RowType(
    answer.integer("rule", of=lambda it: it[0], priority=answer.KEEP),
    answer.copied("owner", of=lambda it: it[1].owner, priority=answer.KEEP),
    answer.prose("when", of=lambda it: _asked(it[1]), priority=answer.KEEP),
    answer.timed("from", of=lambda it: hour_text(it[1].from_s) if it[1].from_s else None),
    answer.timed("to", of=lambda it: _optional(hour_text, it[1].to_s)),
)
_BOOKS: answer.RowType[tuple[Owners, int]] = answer.RowType(
    answer.integer("version", of=lambda it: it[0].version, priority=answer.KEEP),
    answer.timed("written", of=lambda it: it[1]),
    answer.integer("rules", of=lambda it: len(it[0].rules)),
    answer.integer("owners", of=lambda it: len({rule.owner for rule in it[0].rules})),
    answer.copied("sha256", of=lambda it: it[0].sha256),
)
_NO_BOOK = "No book of owners was put yet: everything is unowned."


def _asked(rule: Rule) -> list[str]:
    return [f"{name} {text}" for name, text in (*rule.texts, *((f"tag {key}", text) for key, text in rule.tags))]


def owners_answer(owners: Owners) -> answer.Answer:
    """The rules of a book of owners, in order."""
    return _RULES.answer(
        list(enumerate(owners.rules, 1)),
        meta={
            "version": owners.version,
            "sha256": owners.sha256,
            "networks": [{"name": each.name, "cidrs": each.cidrs} for each in owners.networks],
        },
        title=f"Owners, version {owners.version}" if owners.version else "Owners",
        empty=_NO_BOOK,
        footer=(
            *(("The first rule that fits decides.",) if owners.rules else ()),
            *(f"Network {each.name}: {some_of(each.cidrs)}." for each in owners.networks),
        ),
    )


def owner_books_answer(versions: Sequence[tuple[Owners, int]]) -> answer.Answer:
    """Versions, newest first, each with the epoch second at which the version was written."""
    return _BOOKS.answer(versions, title="Versions of the book of owners", empty=_NO_BOOK)


def organization_answer(organization: Organization) -> answer.Answer:
    """Every account of every payer, one row for each period in which the account belongs to the payer."""
    return _MEMBERS.answer(
        ((organization, payer, each) for payer in organization.payers for each in payer.members or (None,)),
        meta={"version": organization.version, "sha256": organization.sha256},
        title=f"Payers, version {organization.version}" if organization.version else "Payers",
        empty="No payer was set: each account is its own payer.",
        footer=("An account that no payer has is its own payer.",) if organization.payers else (),
    )


def organizations_answer(versions: Sequence[tuple[Organization, int]]) -> answer.Answer:
    """Versions, newest first, each with the epoch second at which the version was written."""
    return _ORGANIZATIONS.answer(
        versions, title="Versions of the organization", empty="No payer was set yet: each account is its own payer."
    )


def overrides_answer(overrides: store.Overrides) -> answer.Answer:
    """All overrides: past, in force, and future."""
    return _OVERRIDES.answer(
        overrides.overrides,
        meta={"version": overrides.version, "sha256": overrides.sha256},
        title=f"Overrides, version {overrides.version}" if overrides.version else "Overrides",
        empty="There are no overrides: everybody pays the prices of the book.",
        footer=("That of an account beats that of its payer, which beats the book.",) if overrides.overrides else (),
    )
