"""Invoices as answers of commands: the lines of one, or a row for each of many."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, cast

from metering.billing.invoices.document_form import invoice_value
from metering.billing.money import exact_text, usd_text
from metering.reports.answer import KEEP, ROOMY, USUAL, Answer, Cell, Column, Json
from metering.units import exact_and_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.invoices.document import Invoice, InvoiceLine, Unbilled

_CENTS = 2
_TOLD = 8

LINE_COLUMNS = (
    Column(name="month", priority=USUAL, about="month of use"),
    Column(name="region", priority=KEEP),
    Column(name="rate_code", text="copied", priority=ROOMY),
    Column(name="usage_types", text="prose", priority=USUAL),
    Column(name="bytes", kind="bytes", priority=USUAL),
    Column(name="price_usd", title="USD a GB", text="number", priority=USUAL),
    Column(name="usd", kind="money", title="USD", priority=KEEP),
    Column(name="exact_usd", title="exact USD", text="number", priority=ROOMY + 1),
)
DOCUMENT_COLUMNS = (
    Column(name="id", text="copied", priority=KEEP),
    Column(name="kind", priority=USUAL),
    Column(name="payer", text="copied", priority=ROOMY),
    Column(name="name", priority=ROOMY),
    Column(name="month", priority=ROOMY),
    Column(name="billing_month", title="booked in", priority=ROOMY),
    Column(name="lines", kind="integer", priority=ROOMY),
    Column(name="usd", kind="money", title="USD", priority=KEEP),
    Column(name="exact_usd", title="exact USD", text="number", priority=ROOMY + 1),
    Column(name="unrated_bytes", kind="bytes", priority=ROOMY + 1),
    Column(name="unpriced_bytes", kind="bytes", priority=ROOMY + 1),
    Column(name="state", text="copied", priority=KEEP),
)


def invoice_answer(invoice: Invoice) -> Answer:
    """One document: a row for each line, and in JSON the document itself."""
    return Answer(
        columns=LINE_COLUMNS,
        rows=[_line(line) for line in invoice.all_lines],
        document=cast("Mapping[str, Json]", invoice_value(invoice)),
        title=title_of(invoice),
        footer=tuple(footer_of(invoice)),
        empty="No lines.",
    )


def documents_answer(states: Iterable[tuple[Invoice, str]], *, title: str, more: Sequence[str] = ()) -> Answer:
    """A row for each document with its state, and the sums of all."""
    rows: list[dict[str, Cell]] = []
    cents = exact = 0
    unbilled: dict[str, Counter[str]] = {"unrated": Counter(), "unpriced": Counter()}
    for invoice, state in states:
        rows.append(_document(invoice, state))
        cents, exact = cents + invoice.cents, exact + invoice.exact
        for name, found in (("unrated", invoice.unrated), ("unpriced", invoice.unpriced)):
            for each in found:
                unbilled[name][f"{each.service} {each.usage_type}"] += each.bytes
    total = usd_text(cents, decimals=_CENTS)
    return Answer(
        columns=DOCUMENT_COLUMNS,
        rows=rows,
        meta={"documents": len(rows), "total_usd": total, "exact_usd": exact_text(exact)},
        title=title,
        footer=(
            f"{_documents(len(rows))}, {total} USD in all. Exact: {exact_text(exact)} USD.",
            *_unbilled("Not sold by this price book, and not billed", unbilled["unrated"]),
            *_unbilled("NO PRICE IS KNOWN, so totals are too small", unbilled["unpriced"]),
            *more,
        ),
        empty="No invoices.",
    )


def _documents(number: int) -> str:
    return f"{number:,} document{'' if number == 1 else 's'}"


def _unbilled(what: str, sizes: Counter[str]) -> Iterator[str]:
    if sizes:
        names = [name for name, _ in sizes.most_common(_TOLD)]
        more = f" and {len(sizes) - _TOLD:,} more" if len(sizes) > _TOLD else ""
        yield f"{what}: {exact_and_size(sizes.total())} of {', '.join(names)}{more}."


def title_of(invoice: Invoice) -> str:
    """What a document is, in a line."""
    if invoice.kind == "credit":
        return f"Credit note {invoice.id} to invoice {invoice.credit_of}"
    return f"{'Draft of invoice' if invoice.draft else 'Invoice'} {invoice.id}"


def footer_of(invoice: Invoice) -> Iterator[str]:
    """What stands below the lines: sums, what was rounded, what is without a price, left out or not final."""
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


def _line(line: InvoiceLine) -> dict[str, Cell]:
    return {
        "month": line.month,
        "region": line.region,
        "rate_code": line.rate_code,
        "usage_types": ", ".join(line.usage_types),
        "bytes": line.bytes,
        "price_usd": prices_text(line),
        "usd": _usd(line.cents),
        "exact_usd": exact_text(line.exact),
    }


def _new_for_old(line: InvoiceLine) -> str:
    """What a line of a credit note gives bytes at, and what it takes them back at; empty if it does not do both."""
    new, old = ([price_text(part.price) for part in line.parts if (part.bytes > 0) is given] for given in (True, False))
    return f"{' and '.join(new)} instead of {' and '.join(old)}" if new and old else ""


def prices_text(line: InvoiceLine) -> str:
    """The prices of a line, such as `0.09`, or `0.09, 0.08` where it has two."""
    return ", ".join(dict.fromkeys(price_text(part.price) for part in line.parts))


def price_text(price: int) -> str:
    """A price of a GB, such as `0.09`."""
    whole, _, part = usd_text(price).rstrip("0").partition(".")
    return f"{whole}.{part:<02}"


def _document(invoice: Invoice, state: str) -> dict[str, Cell]:
    return {
        "id": invoice.id,
        "kind": invoice.kind,
        "payer": invoice.payer_id,
        "name": invoice.payer_name,
        "month": invoice.month,
        "billing_month": invoice.billing_month,
        "lines": len(invoice.all_lines),
        "usd": _usd(invoice.cents),
        "exact_usd": exact_text(invoice.exact),
        "unrated_bytes": sum(each.bytes for each in invoice.unrated),
        "unpriced_bytes": sum(each.bytes for each in invoice.unpriced),
        "state": state,
    }


def _usd(cents: int) -> Decimal:
    return Decimal(usd_text(cents, decimals=_CENTS))
