"""The documents that a month books, issued or not, and their charges: what an export of the month is made of."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, repeat
from typing import TYPE_CHECKING

from metering.billing.invoices.charging import charges
from metering.billing.invoices.document import invoice_id
from metering.billing.invoices.issuing import Asked
from metering.ledger.notes.issued_invoices import issued_in
from metering.reports.exports.exporting import ExportSource
from metering.reports.exports.resources import LakeResources, by_resource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.billing.invoices.document import Invoice
    from metering.billing.invoices.issuing import Issuer
    from metering.lake.view import LakeView
    from metering.reports.exports.grains import Resourced


def documents_of(issuer: Issuer, month: str, *, payer_id: str = "", book: str = "") -> Iterator[Invoice]:
    """What a month books: invoices and credit notes that are issued, and drafts for payers without an invoice of it.

    Args:
        issuer: The parts of invoices.
        month: Billing month.
        payer_id: One payer; empty for all.
        book: Price book of drafts; empty for the usual one.

    Yields:
        Documents without their accounts, which charges say anyway.

    Raises:
        OperationFailedError: The month has not begun, or there is no such book.
        UnavailableError: A store gives no answer.
    """
    invoiced: set[str] = set()
    for each in issued_in(issuer.items, month, payer_id):
        if each.kind == "invoice":
            invoiced.add(each.payer_id)
        yield replace(issuer.store.get(invoice_id(each.payer_id, each.month, each.number)), accounts=())
    if payer_id in invoiced:
        return
    for draft in issuer.drafts(Asked(month=month, payer_id=payer_id, book=book)):
        says = draft.all_lines or draft.unrated or draft.unpriced
        if draft.payer_id not in invoiced and says:
            yield replace(draft, accounts=())


def source_of(issuer: Issuer, documents: Sequence[Invoice], views: Sequence[LakeView] = ()) -> ExportSource:
    """The charges of documents, by the hour. Nothing is held but one line at a time.

    Args:
        issuer: The parts of invoices.
        documents: What is exported.
        views: Lakes of all regions, if charges are to be cut into resources; then one hour is held.
    """
    # A credit note also has the prices of what it takes back.
    before = (issuer.store.get(billed) for each in documents for billed in each.inputs.billed)
    rates = {of for each in chain(documents, before) for of in each.inputs.rates.values()}
    loaded = [issuer.composer.shelf.load(of) for of in sorted(rates, key=str)]
    return ExportSource(
        charges=_charges(issuer, documents, views),
        invoices=documents,
        books=[each.book for each in loaded],
        names=dict(chain.from_iterable(each.organization.names.items() for each in loaded)),
    )


def _charges(issuer: Issuer, documents: Sequence[Invoice], views: Sequence[LakeView]) -> Iterator[Resourced]:
    for document in documents:
        found = charges(document, issuer.composer, issuer.store)
        if not views:
            yield from zip(found, repeat(""), strict=False)
            continue
        organization = issuer.composer.shelf.load(document.inputs.rates[document.month]).organization
        accounts = organization.accounts_of(document.payer_id)
        yield from by_resource(found, LakeResources(views=views, accounts=accounts))
