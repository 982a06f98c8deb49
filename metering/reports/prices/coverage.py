"""What a price book says of the usage of a month: what is priced, what is not sold here, and what has no price."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metering.billing.documents.written import hour_text
from metering.billing.prices.book import NotSold, Product
from metering.billing.prices.matching import find
from metering.billing.rating.lines import PriceState
from metering.reports.answer import KEEP, Answer, Column
from metering.reports.prices.books import book_meta
from metering.units import exact_and_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from metering.billing.prices.book import PriceBook
    from metering.billing.usage.ports import Sold

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
