"""Every charge of a document, by the hour: its lines are the sums of them. Nothing is held but one line at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from metering.billing.charges import Charge, region_of
from metering.billing.invoices.composing import Subject
from metering.billing.rating.positions import positions
from metering.billing.rating.rater import Rater

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from metering.billing.invoices.composing import Composer
    from metering.billing.invoices.document import Invoice
    from metering.billing.invoices.inputs import Inputs
    from metering.billing.invoices.store import InvoiceStore
    from metering.billing.organization.payers import Organization
    from metering.billing.rating.lines import RatedLine
    from metering.billing.usage.merged import MergedUsage


def charges(document: Invoice, composer: Composer, store: InvoiceStore) -> Iterator[Charge]:
    """The charges of an invoice, a draft or a credit note.

    Those of a credit note are what was billed, with negative bytes, and what should have been, where they differ.

    Raises:
        InvoiceMissingError: A document that a credit note comes after is gone.
        MeteringError: As `Composer.invoice` does.
    """
    subject = Subject(document.payer_id, document.month)
    payer = composer.shelf.load(document.inputs.rates[document.month]).organization.payer(document.payer_id)
    if document.kind == "credit":
        before = store.find(document.month, document.payer_id, document.number - 1)
        billed = document.inputs if before is None else before.invoice.inputs
        rated = _changes(composer, subject, billed, document.inputs)
    else:
        rated = composer.rated(subject, document.inputs, hours=True)
    for month, lines in rated:
        corrects = document.kind == "credit" or month != document.month
        for each in lines:
            yield Charge(
                payer=payer,
                rated=each,
                invoice_id=document.id,
                region=region_of(each.line),
                billing_month=document.billing_month,
                corrects=corrects,
                credit_of=document.credit_of,
            )


class _Side(NamedTuple):
    """A payer's month by one set of rates."""

    usage: MergedUsage
    rater: Rater
    organization: Organization


def _changes(
    composer: Composer, subject: Subject, billed: Inputs, right: Inputs
) -> Iterator[tuple[str, Iterable[RatedLine]]]:
    sides = [_side(composer, subject, inputs) for inputs in (billed, right)]
    yield subject.month, _own_changes(subject.payer_id, *sides)
    for month in sorted((billed.rates.keys() | right.rates.keys()) - {subject.month}):
        if billed.rates.get(month) == right.rates.get(month):
            continue
        for inputs, back in ((billed, True), (right, False)):
            if month in inputs.rates:
                lines = composer.correction(subject, month, inputs.rates[month])
                yield month, map(_taken_back, lines) if back else lines


def _side(composer: Composer, subject: Subject, inputs: Inputs) -> _Side:
    rates = inputs.rates[subject.month]
    loaded = composer.shelf.load(rates)
    usage = composer.booked_in(subject.month, rates).of(subject.payer_id)
    prices = loaded.prices(subject.payer_id)
    return _Side(usage, Rater(prices, positions(prices, usage)), loaded.organization)


def _own_changes(payer_id: str, billed: _Side, right: _Side) -> Iterator[RatedLine]:
    for line in right.usage.lines():
        now = tuple(right.rater.rate(line))
        both = billed.organization.payer_of(line.account_id, line.hour_s) == payer_id
        before = tuple(billed.rater.rate(line)) if both else ()
        if now != before:
            yield from map(_taken_back, before)
            yield from now
    for line in billed.usage.lines():
        # Those that another payer pays now.
        if right.organization.payer_of(line.account_id, line.hour_s) != payer_id:
            yield from map(_taken_back, billed.rater.rate(line))


def _taken_back(rated: RatedLine) -> RatedLine:
    return rated._replace(line=rated.line._replace(bytes=-rated.line.bytes))
