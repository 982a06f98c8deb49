"""Charges and their documents, made from usage by the real rating, without a region."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from metering.billing.invoices.composing import Charge, Tally, region_of, unbilled
from metering.billing.invoices.document import Invoice
from metering.billing.invoices.inputs import BookPin, Inputs, Pin, Rates
from metering.billing.organization import Payer
from metering.billing.rating.corrections import corrected
from metering.billing.rating.payer_prices import PayerPrices
from metering.billing.rating.rater import rated_month
from metering.reports.exports.exporting import ExportSource
from tests.support.priced import ListedUsage

if TYPE_CHECKING:
    from metering.billing.prices.book import Override, PriceBook
    from metering.billing.rating.lines import RatedLine
    from metering.billing.usage.months import UsageLine

Rated = Sequence[tuple[str, Sequence["RatedLine"]]]
"""Rated lines by month of use."""

PAYER = Payer(payer_id="123456789012", name="Acme", issuer="Example Metering")


def inputs_of(book: PriceBook, months: Iterable[str]) -> Inputs:
    """Inputs that name the book, and a closed month in one region."""
    pin = BookPin(name=book.name, version=book.version, sha256=book.sha256)
    rates = Rates(book=pin, overrides=Pin(), organization=Pin())
    return Inputs(
        engine=1,
        closed={month: {"us-east-1": "ab" * 32} for month in months},
        rates=dict.fromkeys(months, rates),
        billed={},
    )


def document_of(
    rated: Sequence[tuple[str, Sequence[RatedLine]]],
    month: str,
    book: PriceBook,
    *,
    payer: Payer = PAYER,
    draft: bool = False,
) -> Invoice:
    tally = Tally()
    for of_month, lines in rated:
        tally.add(of_month, lines)
    own, corrections = tally.lines(month)
    return Invoice(
        kind="invoice",
        payer_id=payer.payer_id,
        payer_name=payer.name,
        issuer=payer.issuer,
        currency=payer.currency,
        month=month,
        number=1,
        billing_month=month,
        inputs=inputs_of(book, [of_month for of_month, _ in rated]),
        lines=own,
        corrections=corrections,
        unrated=unbilled(tally.unrated),
        unpriced=unbilled(tally.unpriced),
        draft=draft,
    )


def charges_of(rated: Rated, document: Invoice, *, payer: Payer = PAYER) -> list[Charge]:
    return [
        Charge(payer, line, document.id, region_of(line.line), document.billing_month, month != document.month)
        for month, lines in rated
        for line in lines
    ]


def billed(
    book: PriceBook,
    usage: Iterable[UsageLine],
    month: str,
    *,
    earlier: tuple[str, Sequence[UsageLine], Sequence[UsageLine]] | None = None,
    overrides: tuple[Override, ...] = (),
    draft: bool = False,
) -> ExportSource:
    """A rated month of the payer, with its document. `earlier`: a closed month, its usage, and its late usage."""
    prices = PayerPrices(book, PAYER.payer_id, overrides)
    rated = [(month, list(rated_month(prices, ListedUsage(usage, month))))]
    if earlier is not None:
        corrects, closed, late = earlier
        rated.append((corrects, list(corrected(prices, ListedUsage(closed, corrects), late))))
    document = document_of(rated, month, book, draft=draft)
    charges = charges_of(rated, document)
    return ExportSource(charges=[(charge, "") for charge in charges], invoices=[document], books=[book])
