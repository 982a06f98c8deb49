"""An invoice as one page of HTML to print or to mail: it needs no network, no script and no other file."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from metering.billing.money import exact_text, quantity_of, usd_text
from metering.hours import hour_label
from metering.reports.invoices.answers import price_text, title_of
from metering.reports.page.markup import Markup, lines, tag, text, words
from metering.reports.page.style import STYLE
from metering.units import SIZE_BASE, size_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from metering.billing.invoices.document import AccountDetail, Invoice, InvoiceLine, Unbilled

_CENTS = 2
MOST_ACCOUNTS = 2_000
"""Accounts that a page lists. The document has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoicePage:
    """What a page says.

    Attributes:
        state: `issued`, `draft`, or what else it is.
        sha256: Of the document; empty for a draft.
    """

    invoice: Invoice
    state: str
    sha256: str = ""

    def html(self) -> str:
        """The page."""
        head = lines(
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            # Whatever stands in the data, a browser loads and runs nothing.
            tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
            tag("title", words(title_of(self.invoice))),
            tag("style", Markup(STYLE)),
        )
        body = tag("main", lines(*self._sections()))
        page = tag("html", lines(tag("head", head), tag("body", body)), lang="en")
        return f"<!DOCTYPE html>\n{page}\n"

    def _sections(self) -> Iterator[Markup]:
        invoice = self.invoice
        yield from self._heading()
        yield from _lines_section("Lines", invoice.lines, "No usage of the month itself.")
        if invoice.corrections:
            yield from _lines_section("Corrections of earlier months", invoice.corrections, "")
        yield from _without_price("Not sold by this price book, and not billed", invoice.unrated)
        yield from _without_price("No price is known: the total is too small", invoice.unpriced)
        if invoice.left_out:
            cells = (tag("li", text(f"{each.region}: {each.why}")) for each in invoice.left_out)
            yield from _section("Not final", tag("ul", *cells))
        yield from _accounts_section(invoice.accounts)
        yield from _section("What it was made of", self._inputs())
        yield tag("p", words(f"A GB is 2^30 bytes, to 10 decimals here. Sizes: {SIZE_BASE}"), class_="soft")

    def _heading(self) -> Iterator[Markup]:
        invoice = self.invoice
        name = f"{invoice.payer_name} ({invoice.payer_id})" if invoice.payer_name else invoice.payer_id
        yield tag("h1", text(title_of(invoice)))
        yield tag("p", text(f"For {name}"))
        yield tag("p", text(f"Issued by {invoice.issuer}"), class_="soft")
        booked = f", booked in {invoice.billing_month}" if invoice.billing_month != invoice.month else ""
        yield tag("p", text(f"Data transfer of {invoice.month}{booked}. State: {self.state}."), class_="soft")
        if invoice.because:
            yield tag("p", text(f"Because: {invoice.because}"))
        yield tag("p", words(f"{_usd_text(invoice.cents)} {invoice.currency}"), class_="big")
        yield tag(
            "p",
            words(
                f"Each line is rounded to cents. Exact sum: {exact_text(invoice.exact)}; rounding adds "
                f"{exact_text(invoice.rounding)}."
            ),
            class_="soft",
        )

    def _inputs(self) -> Markup:
        inputs = self.invoice.inputs
        told = [f"version {inputs.engine} of the rules"]
        for month, rates in sorted(inputs.rates.items()):
            told.append(f"prices for {month}: {rates.told}; SHA-256 of the book {rates.book.sha256}")
        for month, closed in sorted(inputs.closed.items()):
            told += (f"closed month {month} of {region}: SHA-256 {digest}" for region, digest in sorted(closed.items()))
        told += (f"{name}: SHA-256 {sha256}" for name, sha256 in sorted(inputs.billed.items()))
        if self.sha256:
            told.append(f"this document: SHA-256 {self.sha256}")
        return tag("ul", *(tag("li", text(each)) for each in told))


def _lines_section(title: str, found: Sequence[InvoiceLine], empty: str) -> Iterable[Markup]:
    if not found:
        return _section(title, tag("p", words(empty), class_="soft"))
    late = any(line.hours for line in found)
    names = [*(("month", "hours of use") if late else ()), "region", "usage types, rate code"]
    head = tag("tr", *(tag("th", words(name)) for name in names), *_numbers("GB", "USD a GB", "exact USD", "USD"))
    body = (tag("tr", *_cells(line, late=late)) for line in found)
    total = _usd_text(sum(line.cents for line in found))
    blank = (tag("td", words("")) for _ in range(len(names) + 2))
    foot = tag("tr", tag("td", words("Sum")), *blank, tag("td", words(total), class_="n"))
    return _section(title, _table(head, body, foot))


def _cells(line: InvoiceLine, *, late: bool) -> Iterator[Markup]:
    if late:
        first_s, last_s = line.hours or (0, 0)
        span = hour_label(first_s) if first_s == last_s else f"{hour_label(first_s)} to {hour_label(last_s)}"
        yield tag("td", words(line.month))
        yield tag("td", words(span if line.hours else ""))
    yield tag("td", text(line.region))
    code = tag("div", text(line.rate_code), class_="soft code")
    yield tag("td", text(", ".join(line.usage_types)), code, class_="wide")
    # A credit note takes bytes at one price and gives them at another: each of both can be multiplied.
    parts = sorted(line.parts, key=lambda part: (part.bytes > 0, part.price))
    sizes, prices = [_gb_text(part.bytes) for part in parts], [price_text(part.price) for part in parts]
    yield tag("td", *_stacked(sizes), class_="n", title=f"{line.bytes:,} bytes")
    yield tag("td", *_stacked(prices), class_="n")
    yield tag("td", words(exact_text(line.exact)), class_="n exact")
    yield tag("td", words(_usd_text(line.cents)), class_="n")


def _stacked(figures: Sequence[str]) -> Iterator[Markup]:
    return (words(figure) if len(figures) == 1 else tag("div", words(figure)) for figure in figures)


def _usd_text(cents: int) -> str:
    return f"{Decimal(usd_text(cents, decimals=_CENTS)):,f}"


def _gb_text(size: int) -> str:
    """Bytes as GB of a bill, to 10 decimals at most: what a reader multiplies with the price."""
    return f"{Decimal(usd_text(quantity_of(size))):,f}".rstrip("0").rstrip(".")


def _accounts_section(accounts: Sequence[AccountDetail]) -> Iterable[Markup]:
    if not accounts:
        return ()
    head = tag("tr", tag("th", words("account")), tag("th", words("name")), *_numbers("bytes", "size", "exact USD"))
    largest = sorted(accounts, key=lambda each: (-each.exact, each.account_id))
    body = [
        tag(
            "tr",
            tag("td", words(each.account_id)),
            tag("td", text(each.name)),
            *_data(f"{each.bytes:,}", size_text(each.bytes), exact_text(each.exact)),
        )
        for each in largest[:MOST_ACCOUNTS]
    ]
    rest = largest[MOST_ACCOUNTS:]
    if rest:
        total = sum(each.bytes for each in rest)
        figures = _data(f"{total:,}", size_text(total), exact_text(sum(each.exact for each in rest)))
        body.append(tag("tr", tag("td", words(f"{len(rest):,} others")), tag("td", words("")), *figures))
    return _section("Accounts", _table(head, body))


def _without_price(title: str, found: Sequence[Unbilled]) -> Iterable[Markup]:
    if not found:
        return ()
    names = ("month", "region", "service", "usage type")
    head = tag("tr", *(tag("th", words(name)) for name in names), *_numbers("bytes", "size"))
    body = (
        tag("tr", *(tag("td", text(cell)) for cell in each[:-1]), *_data(f"{each.bytes:,}", size_text(each.bytes)))
        for each in found
    )
    return _section(title, _table(head, body))


def _section(title: str, content: Markup) -> Iterable[Markup]:
    return (tag("h2", words(title)), content)


def _table(head: Markup, body: Iterable[Markup], foot: Markup | None = None) -> Markup:
    parts = [tag("thead", head), tag("tbody", *body), *([] if foot is None else [tag("tfoot", foot)])]
    return tag("div", tag("table", *parts), class_="scroll")


def _numbers(*names: str) -> Iterator[Markup]:
    return (tag("th", words(name), class_="n") for name in names)


def _data(*figures: str) -> Iterator[Markup]:
    return (tag("td", words(figure), class_="n") for figure in figures)
