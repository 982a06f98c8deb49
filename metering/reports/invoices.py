"""Answers about invoices: the lines of one invoice, or one row for each invoice."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import cast

from metering.billing.invoices.document import AccountDetail, Invoice, InvoiceLine, Unbilled, invoice_value
from metering.billing.money import exact_text, quantity_of, usd_text
from metering.hours import hour_label
from metering.reports.answer import (
    KEEP,
    ROOMY,
    Answer,
    Cell,
    Json,
    RowType,
    copied,
    integer,
    money,
    number,
    prose,
    short,
    sized,
)
from metering.reports.page import Markup, headings, html, numbers, section, table, tag, text, words
from metering.units import SIZE_BASE, counted, exact_and_size, size_text

_CENTS = 2
_TOLD = 8


def prices_text(line: InvoiceLine) -> str:
    """The prices of a line as text: `0.09`, or `0.09, 0.08` if the line has two prices."""
    return ", ".join(dict.fromkeys(price_text(part.price) for part in line.parts))


def price_text(price: int) -> str:
    """A price per GB, such as `0.09`."""
    whole, _, part = usd_text(price).rstrip("0").partition(".")
    return f"{whole}.{part:<02}"


_LINES: RowType[InvoiceLine] = RowType(
    short("month", about="month of use"),
    short("region", priority=KEEP),
    copied("rate_code", priority=ROOMY),
    prose("usage_types"),
    sized("bytes"),
    number("price_usd", of=prices_text, title="USD a GB"),
    money("usd", of=lambda it: _usd(it.cents), title="USD", priority=KEEP),
    number("exact_usd", of=lambda it: exact_text(it.exact), title="exact USD", priority=ROOMY + 1),
)
_DOCUMENTS: RowType[tuple[Invoice, str]] = RowType(
    copied("id", of=lambda it: it[0].id, priority=KEEP),
    short("kind", of=lambda it: it[0].kind),
    copied("payer", of=lambda it: it[0].payer_id, priority=ROOMY),
    short("name", of=lambda it: it[0].payer_name, priority=ROOMY),
    short("month", of=lambda it: it[0].month, priority=ROOMY),
    short("billing_month", of=lambda it: it[0].billing_month, title="booked in", priority=ROOMY),
    integer("lines", of=lambda it: len(it[0].all_lines), priority=ROOMY),
    money("usd", of=lambda it: _usd(it[0].cents), title="USD", priority=KEEP),
    number("exact_usd", of=lambda it: exact_text(it[0].exact), title="exact USD", priority=ROOMY + 1),
    sized("unrated_bytes", of=lambda it: sum(each.bytes for each in it[0].unrated), priority=ROOMY + 1),
    sized("unpriced_bytes", of=lambda it: sum(each.bytes for each in it[0].unpriced), priority=ROOMY + 1),
    copied("state", of=lambda it: it[1], priority=KEEP),
)


def invoice_answer(invoice: Invoice) -> Answer:
    """One document: one row for each line; in JSON, the document itself."""
    return _LINES.answer(
        invoice.all_lines,
        document=cast("Mapping[str, Json]", invoice_value(invoice)),
        title=title_of(invoice),
        footer=tuple(footer_of(invoice)),
        empty="No lines.",
    )


def documents_answer(states: Iterable[tuple[Invoice, str]], *, title: str, more: Sequence[str] = ()) -> Answer:
    """One row for each document, with its state, and the sums of all documents."""
    rows: list[dict[str, Cell]] = []
    cents = exact = 0
    unbilled: dict[str, Counter[str]] = {"unrated": Counter(), "unpriced": Counter()}
    for invoice, state in states:
        rows.append(_DOCUMENTS.row((invoice, state)))
        cents, exact = cents + invoice.cents, exact + invoice.exact
        for name, found in (("unrated", invoice.unrated), ("unpriced", invoice.unpriced)):
            for each in found:
                unbilled[name][f"{each.service} {each.usage_type}"] += each.bytes
    total = usd_text(cents, decimals=_CENTS)
    return Answer(
        columns=_DOCUMENTS.columns,
        rows=rows,
        meta={"documents": len(rows), "total_usd": total, "exact_usd": exact_text(exact)},
        title=title,
        footer=(
            f"{counted(len(rows), 'document')}, {total} USD in all. Exact: {exact_text(exact)} USD.",
            *_unbilled("Not sold by this price book, and not billed", unbilled["unrated"]),
            *_unbilled("NO PRICE IS KNOWN, so totals are too small", unbilled["unpriced"]),
            *more,
        ),
        empty="No invoices.",
    )


def _unbilled(what: str, sizes: Counter[str]) -> Iterator[str]:
    if sizes:
        names = [name for name, _ in sizes.most_common(_TOLD)]
        more = f" and {len(sizes) - _TOLD:,} more" if len(sizes) > _TOLD else ""
        yield f"{what}: {exact_and_size(sizes.total())} of {', '.join(names)}{more}."


def title_of(invoice: Invoice) -> str:
    """A document's title, in one line."""
    if invoice.kind == "credit":
        return f"Credit note {invoice.id} to invoice {invoice.credit_of}"
    return f"{'Draft of invoice' if invoice.draft else 'Invoice'} {invoice.id}"


def footer_of(invoice: Invoice) -> Iterator[str]:
    """Text below the lines: sums, rounding, and usage that has no price, is left out or is not final."""
    yield (
        f"Total {usd_text(invoice.cents, decimals=_CENTS)} {invoice.currency}, the sum of the lines in cents. Exact: "
        f"{exact_text(invoice.exact)}; rounding lines to cents adds {exact_text(invoice.rounding)}."
    )
    if invoice.because:
        yield f"Because: {invoice.because}"
    if changed := list(dict.fromkeys(_new_for_old(line) for line in invoice.all_lines if _new_for_old(line))):
        more = f", and {len(changed) - _TOLD} more" if len(changed) > _TOLD else ""
        yield f"USD a GB now, and what was billed: {', '.join(changed[:_TOLD])}{more}."
    yield from _without_price("Not sold by this price book, and not billed", invoice.unrated)
    yield from _without_price("NO PRICE IS KNOWN, so the total is too small", invoice.unpriced)
    for each in invoice.left_out:
        yield f"Region {each.region}: {each.why}."
    for month, rates in sorted(invoice.inputs.rates.items()):
        yield f"Prices for {month}: {rates.told}."
    if invoice.draft:
        yield from _draft_notes(invoice)


def _draft_notes(invoice: Invoice) -> Iterator[str]:
    digest = invoice.inputs.digest
    if invoice.unpriced:
        yield (
            "Payers without such usage are invoiced meanwhile. What has no price, and then its price: "
            f"metering prices check --month {invoice.month}, metering prices import FILE"
        )
    if invoice.left_out or invoice.unpriced:
        yield f"This is a draft and not final, and cannot be issued yet. Its inputs: {digest}"
        return
    book = invoice.inputs.rates[invoice.month].book.name
    yield (
        f"This is a draft. To issue just this: metering invoice issue --month {invoice.month} "
        f"--payer {invoice.payer_id} --prices {book} --as-drafted {digest}"
    )


def _without_price(what: str, found: Sequence[Unbilled]) -> Iterator[str]:
    if not found:
        return
    named = [f"{each.service} {each.usage_type} in {each.region}, {each.month}" for each in found[:_TOLD]]
    more = f", and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    yield f"{what}: {exact_and_size(sum(each.bytes for each in found))} ({'; '.join(named)}{more})."


def _new_for_old(line: InvoiceLine) -> str:
    """A credit note line's new price instead of its old price, as text; empty unless the line has both."""
    new, old = ([price_text(part.price) for part in line.parts if (part.bytes > 0) is given] for given in (True, False))
    return f"{' and '.join(new)} instead of {' and '.join(old)}" if new and old else ""


def _usd(cents: int) -> Decimal:
    return Decimal(usd_text(cents, decimals=_CENTS))


MOST_ACCOUNTS = 2_000
"""Accounts that a page lists. The document has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoicePage:
    """A document as a page, with its SHA-256 unless the document is a draft."""

    invoice: Invoice
    state: str
    sha256: str = ""

    def html(self) -> str:
        """The page."""
        return html(title_of(self.invoice), self._sections())

    def _sections(self) -> Iterator[Markup]:
        invoice = self.invoice
        yield from self._heading()
        yield from _lines_section("Lines", invoice.lines, "No usage of the month itself.")
        if invoice.corrections:
            yield from _lines_section("Corrections of earlier months", invoice.corrections, "")
        yield from _page_without_price("Not sold by this price book, and not billed", invoice.unrated)
        yield from _page_without_price("No price is known: the total is too small", invoice.unpriced)
        if invoice.left_out:
            cells = (tag("li", text(f"{each.region}: {each.why}")) for each in invoice.left_out)
            yield from section("Not final", tag("ul", *cells))
        yield from _accounts_section(invoice.accounts)
        yield from section("What it was made of", self._inputs())
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
        return section(title, tag("p", words(empty), class_="soft"))
    late = any(line.hours for line in found)
    names = [*(("month", "hours of use") if late else ()), "region", "usage types, rate code"]
    head = headings(*names, "GB", "USD a GB", "exact USD", "USD", left=len(names))
    body = (tag("tr", *_cells(line, late=late)) for line in found)
    total = _usd_text(sum(line.cents for line in found))
    blank = (tag("td", words("")) for _ in range(len(names) + 2))
    foot = tag("tr", tag("td", words("Sum")), *blank, *numbers(total))
    return section(title, table(head, body, foot))


def _cells(line: InvoiceLine, *, late: bool) -> Iterator[Markup]:
    if late:
        first_s, last_s = line.hours or (0, 0)
        span = hour_label(first_s) if first_s == last_s else f"{hour_label(first_s)} to {hour_label(last_s)}"
        yield tag("td", words(line.month))
        yield tag("td", words(span if line.hours else ""))
    yield tag("td", text(line.region))
    code = tag("div", text(line.rate_code), class_="soft code")
    yield tag("td", text(", ".join(line.usage_types)), code, class_="wide")
    # A credit note reverses bytes at one price and bills them at another, and both may be multiplied.
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
    """Bytes in GB as on a bill: with at most 10 decimals, exactly as multiplied by the price."""
    return f"{Decimal(usd_text(quantity_of(size))):,f}".rstrip("0").rstrip(".")


def _accounts_section(accounts: Sequence[AccountDetail]) -> Iterable[Markup]:
    if not accounts:
        return ()
    head = headings("account", "name", "bytes", "size", "exact USD", left=2)
    largest = sorted(accounts, key=lambda each: (-each.exact, each.account_id))
    body = [
        tag(
            "tr",
            tag("td", words(each.account_id)),
            tag("td", text(each.name)),
            *numbers(f"{each.bytes:,}", size_text(each.bytes), exact_text(each.exact)),
        )
        for each in largest[:MOST_ACCOUNTS]
    ]
    rest = largest[MOST_ACCOUNTS:]
    if rest:
        total = sum(each.bytes for each in rest)
        figures = numbers(f"{total:,}", size_text(total), exact_text(sum(each.exact for each in rest)))
        body.append(tag("tr", tag("td", words(f"{len(rest):,} others")), tag("td", words("")), *figures))
    return section("Accounts", table(head, body))


def _page_without_price(title: str, found: Sequence[Unbilled]) -> Iterable[Markup]:
    if not found:
        return ()
    head = headings("month", "region", "service", "usage type", "bytes", "size", left=4)
    body = (
        tag("tr", *(tag("td", text(cell)) for cell in each[:-1]), *numbers(f"{each.bytes:,}", size_text(each.bytes)))
        for each in found
    )
    return section(title, table(head, body))
