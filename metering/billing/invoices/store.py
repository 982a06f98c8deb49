"""Invoices in the bucket of the home region: `invoices/<month>/<payer>/<n>.json`, each put once."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.billing.documents.strict_json import canonical
from metering.billing.invoices.document import INVOICE_NUMBER
from metering.billing.invoices.document_form import invoice_bytes, read_invoice
from metering.billing.invoices.inputs import Inputs
from metering.errors import LedgerCorruptError, ObjectMissingError, OperationFailedError
from metering.stores.bucket import INVOICES_PREFIX, invoice_inputs_key, invoice_key, invoices_prefix
from metering.stores.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from metering.billing.invoices.document import Invoice
    from metering.stores.objects import ObjectStore

INPUTS_SCHEMA = "metering.invoice-inputs/1"
_ID = re.compile(r"([0-9]{12})-([0-9]{4}-[0-9]{2})-([1-9][0-9]{0,8})")
_KEY = re.compile(r"invoices/([0-9]{4}-[0-9]{2})/([0-9]{12})/([1-9][0-9]{0,8})\.json")


class InvoiceMissingError(OperationFailedError):
    """There is no invoice of this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A document as it lies in the bucket."""

    invoice: Invoice
    body: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True)
class InvoiceStore:
    """Reads invoices, and puts each of them once."""

    objects: ObjectStore

    def get(self, invoice_id: str) -> Invoice:
        """The document of an id.

        Raises:
            InvoiceMissingError: There is none, or the text is no id.
            LedgerCorruptError: The object is not what was written.
        """
        return self.stored(invoice_id).invoice

    def stored(self, invoice_id: str) -> Stored:
        """The document of an id, with its bytes. Raises as `get`."""
        found = _ID.fullmatch(invoice_id)
        if found is None:
            raise InvoiceMissingError(
                f"{invoice_id!r} is no id of an invoice.",
                "An id is `<payer>-<month>-<n>`. To see them: metering invoice list",
            )
        payer_id, month, number = found.groups()
        one = self._read(invoice_key(month, payer_id, int(number)))
        if one is None:
            raise InvoiceMissingError(
                f"There is no invoice {invoice_id}.", "To see those that there are: metering invoice list"
            )
        return one

    def find(self, month: str, payer_id: str, number: int = INVOICE_NUMBER) -> Stored | None:
        """The document, or None if it was never put. Raises LedgerCorruptError if it is not what was written."""
        return self._read(invoice_key(month, payer_id, number))

    def put(self, invoice: Invoice) -> Stored:
        """Put a document unless one lies at its key; returns the one that lies there then.

        Raises:
            ValueError: It is a draft.
            UnavailableError: The bucket gave no answer; the document may be there, and the same call may be repeated.
        """
        if invoice.draft:
            raise ValueError(f"{invoice.id} is a draft")
        body, key = invoice_bytes(invoice), invoice_key(invoice.month, invoice.payer_id, invoice.number)
        if self.objects.put(key, body, if_absent=True):
            return Stored(invoice=invoice, body=body)
        stands = self.objects.get(key)
        return Stored(invoice=invoice if stands == body else read_invoice(stands, key), body=stands)

    def list(self, month: str, payer_id: str = "") -> Iterator[Invoice]:
        """Documents about a month of use, by payer and number; of one payer, if it is named."""
        return (each.invoice for each in self.all_stored(month, payer_id))

    def all_stored(self, month: str, payer_id: str = "") -> Iterator[Stored]:
        """As `list`, with their bytes; one payer's keys are held at a time."""
        payer, numbers = "", list[int]()
        for info in self.objects.list(invoices_prefix(month, payer_id)):
            found = _KEY.fullmatch(info.key)
            if found is None:
                continue
            if found[2] != payer:
                yield from self._of_payer(month, payer, numbers)
                payer, numbers = found[2], []
            numbers.append(int(found[3]))
        yield from self._of_payer(month, payer, numbers)

    def months(self) -> Iterator[str]:
        """Months of use that have documents, in order. A request a month: what lies between is not listed."""
        after = ""
        while (info := next(self.objects.list(INVOICES_PREFIX, after=after), None)) is not None:
            month = info.key.removeprefix(INVOICES_PREFIX).partition("/")[0]
            yield month
            # `0` comes after `/`.
            after = f"{INVOICES_PREFIX}{month}0"

    def inputs(self, month: str) -> Inputs | None:
        """What the invoices of a month share from now on; None if none was issued.

        Raises:
            LedgerCorruptError: The object is not what was written.
        """
        return self.numbered_inputs(month)[1]

    def numbered_inputs(self, month: str) -> tuple[int, Inputs | None]:
        """The same, with their number: 0 if there are none. Raises as `inputs`."""
        number, found = 0, None
        while True:
            key = invoice_inputs_key(month, number + 1)
            try:
                found = _inputs_of(self.objects.get(key), key, month)
            except ObjectMissingError:
                return number, found
            number += 1

    def put_inputs(self, month: str, inputs: Inputs, number: int = 1) -> Inputs:
        """Fix what the invoices of a month share, unless somebody did; returns what stands. Raises as `put`."""
        key = invoice_inputs_key(month, number)
        if self.objects.put(key, _inputs_body(inputs, month), if_absent=True):
            return inputs
        return _inputs_of(self.objects.get(key), key, month)

    def _of_payer(self, month: str, payer_id: str, numbers: Sequence[int]) -> Iterator[Stored]:
        # Keys are in the order of texts: 10 comes before 2.
        for number in sorted(numbers):
            one = self._read(invoice_key(month, payer_id, number))
            if one is not None:
                yield one

    def _read(self, key: str) -> Stored | None:
        try:
            body = self.objects.get(key)
        except ObjectMissingError:
            return None
        invoice = read_invoice(body, key)
        if invoice_key(invoice.month, invoice.payer_id, invoice.number) != key:
            raise LedgerCorruptError(f"{key} holds the document {invoice.id}")
        return Stored(invoice=invoice, body=body)


def _inputs_body(inputs: Inputs, month: str) -> bytes:
    return canonical({"schema": INPUTS_SCHEMA, "month": month, **inputs.to_value()}) + b"\n"


def _inputs_of(body: bytes, key: str, month: str) -> Inputs:
    fields = Fields.of_json(body, key)
    fields.one_of("schema", (INPUTS_SCHEMA,))
    made = Inputs.from_fields(fields)
    if _inputs_body(made, month) != body:
        raise LedgerCorruptError(f"{key} is not the document that was written")
    return made
