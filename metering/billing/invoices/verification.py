"""Whether a document is what its inputs make: each input is looked at first, then the bytes are made again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from metering.billing.invoices.composing import Subject
from metering.billing.invoices.document_form import invoice_bytes
from metering.billing.invoices.inputs import ENGINE_VERSION
from metering.errors import LedgerCorruptError, ObjectDamagedError, ObjectMissingError, OperationFailedError
from metering.ledger.notes.issued_invoices import issued_item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from metering.billing.invoices.credits import Crediting
    from metering.billing.invoices.document import Invoice
    from metering.billing.invoices.inputs import Rates
    from metering.billing.invoices.issuing import Issuer
    from metering.billing.invoices.store import Stored

_WRONG = (LedgerCorruptError, ObjectDamagedError, ObjectMissingError, OperationFailedError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Makes documents again."""

    issuer: Issuer
    crediting: Crediting

    def verify(self, invoice_id: str) -> list[str]:
        """What is wrong with a document, a sentence each; empty if it is right to the last byte.

        Raises:
            InvoiceMissingError: There is no such document.
            UnavailableError: A store gave no answer.
        """
        try:
            stored = self.issuer.store.stored(invoice_id)
        except LedgerCorruptError as error:
            return [str(error)]
        problems = [*self._ledger(stored), *self._inputs(stored.invoice)]
        return problems or _told(partial(self._again, stored))

    def _ledger(self, stored: Stored) -> Iterator[str]:
        invoice = stored.invoice
        of = (invoice.billing_month, invoice.payer_id, invoice.month, invoice.number)
        item = issued_item(self.issuer.items, *of)
        if item is None:
            yield f"{invoice.id} was put, and the ledger does not say that it was issued: run issue or credit again"
        elif item.sha256 != stored.sha256:
            yield f"{invoice.id} has SHA-256 {stored.sha256}, and the one that was issued had {item.sha256}"

    def _inputs(self, invoice: Invoice) -> Iterator[str]:
        inputs = invoice.inputs
        if inputs.engine != ENGINE_VERSION:
            yield f"version {inputs.engine} of the rules made it, and this release has version {ENGINE_VERSION}"
        for month, closed in sorted(inputs.closed.items()):
            yield from _told(partial(self._closed, month, closed))
        for _, rates in sorted(inputs.rates.items()):
            yield from _told(partial(self._rates, rates))
        for invoice_id, sha256 in sorted(inputs.billed.items()):
            yield from _told(partial(self._billed, invoice_id, sha256))

    def _closed(self, month: str, pinned: Mapping[str, str]) -> Iterator[str]:
        usage = self.issuer.composer.usage
        for region, why in usage.left_out.items():
            if region in pinned:
                yield f"region {region} cannot be read: {why}"
        now = {each.region: each.digest for each in usage.month(month)}
        for region, digest in sorted(pinned.items()):
            if region not in usage.left_out and now.get(region) != digest:
                found = now.get(region) or "none"
                yield f"the closed month {month} of {region} has SHA-256 {found}, and {digest} was pinned"
        yield from usage.damages(month)

    def _rates(self, rates: Rates) -> Iterable[str]:
        self.issuer.composer.shelf.load(rates)
        return ()

    def _billed(self, invoice_id: str, sha256: str) -> Iterable[str]:
        stored = self.issuer.store.stored(invoice_id)
        if stored.sha256 != sha256:
            yield f"{invoice_id} has SHA-256 {stored.sha256}, and {sha256} was pinned"

    def _again(self, stored: Stored) -> Iterator[str]:
        invoice = stored.invoice
        if invoice.kind == "credit":
            before = [each for each in self.crediting.billed(invoice) if each.invoice.number < invoice.number]
            made = self.crediting.made(invoice, before)
        else:
            subject = Subject(invoice.payer_id, invoice.month)
            made = self.issuer.composer.invoice(subject, invoice.inputs)
        if invoice_bytes(made) == stored.body:
            return
        yield f"{invoice.id} is not what its inputs make: {_first_difference(invoice, made)}"


def _first_difference(invoice: Invoice, made: Invoice) -> str:
    mine, others = ({line.key: line for line in each.all_lines} for each in (invoice, made))
    for key in sorted(mine.keys() | others.keys()):
        if mine.get(key) != others.get(key):
            return f"its line {key.region} {key.rate_code} of {key.month} is another one"
    return "its lines are the same, and something beside them is not"


def _told(look: Callable[[], Iterable[str]]) -> list[str]:
    """Problems that are found, or the error that looking for them ended with."""
    try:
        return list(look())
    except _WRONG as error:
        return [str(error)]
