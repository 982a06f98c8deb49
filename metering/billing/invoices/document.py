"""Invoices, credit notes and drafts, their serialization and their store.

Amounts are whole numbers: bytes, exact costs (L0) and cents (L2). An invoice line's exact cost is rounded to cents. An
invoice's amount is the sum of its lines' cents; the invoice also states the difference from the exact sum. In JSON,
amounts are decimal strings without loss of digits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, TypeVar

from metering.billing import documents
from metering.billing.invoices.inputs import Inputs
from metering.billing.money import DECIMALS, EXACT_A_USD, exact_text, usd_text
from metering.errors import LedgerCorruptError, ObjectMissingError, OperationFailedError
from metering.hours import hour_label
from metering.stores.codec import AnyText, DecimalText, Fields, Form, FromOne, members_of, read_struct
from metering.stores.objects import INVOICES_PREFIX, ObjectStore, invoice_inputs_key, invoice_key, invoices_prefix
from metering.usage.totals import Service, UsageType

T = TypeVar("T")
Kind = Literal["invoice", "credit"]
INVOICE_NUMBER = 1
"""Number of a month's invoice of a payer. Its credit notes have the numbers after it."""


def _scaled(text: str, decimals: int) -> int:
    """Parse a decimal text as a number of 10^-`decimals`; `invoice_bytes` checks how the text is written."""
    whole, _, part = text.partition(".")
    return int(whole + part.ljust(decimals, "0"))


def _scale(decimals: int) -> Form:
    return Form(
        lambda fields, name: _scaled(fields.text(name), decimals), lambda units: usd_text(units, decimals=decimals)
    )


_CENT = 2
_Service = Annotated[Service, Form(Fields.any_text)]
_UsageType = Annotated[UsageType, Form(Fields.any_text)]
_PRICE = _scale(DECIMALS)
# An exact cost is a multiple of 1e-10 / 2^30, so it is a multiple of 10^-40 when multiplied by 5^30.
_Exact = Annotated[int, "exact_usd", Form(lambda fields, name: _scaled(fields.text(name), 40) // 5**30, exact_text)]


class PricePart(NamedTuple):
    """Bytes of a line at one price. A line has several parts if a price or an override begins within the month.

    Attributes:
        price: Price that the payer pays, in units of 1e-10 USD per GB.
        list_price: Price of the book.
        bytes: Bytes; negative if a correction or a credit note reverses them.
    """

    price: Annotated[int, "price_usd", _PRICE]
    list_price: Annotated[int, "list_price_usd", _PRICE]
    bytes: DecimalText


class LineKey(NamedTuple):
    """Identity of a line, the same in the invoice and its credit notes. Lines are sorted by this key."""

    month: str
    region: str
    sku: str
    rate_code: str
    allowance: str


def _hours(fields: Fields, name: str) -> tuple[int, int] | None:
    hours = fields.hours(name)
    return (hours[0], hours[-1]) if hours else None


_Hours = Annotated[tuple[int, int] | None, Form(_hours, lambda hours: [hour_label(hour_s) for hour_s in hours or ()])]


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """One line: usage of a region in a month, billed at one rate code.

    Attributes:
        month: Month of use: the invoice's own month, or a corrected month.
        allowance: Id of the allowance that makes the line free; empty if not free.
        usage_types: Sorted.
        hours: First and last hour of use in a correction, epoch seconds; None for lines of the invoice's own month.
        cents: In an invoice: the exact cost rounded half up. In a credit note: the line's correct cents minus the
            billed cents; the cents of all documents thus add up to the correct invoice's.
    """

    month: str
    region: str
    sku: str
    rate_code: str
    allowance: AnyText
    usage_types: tuple[str, ...]
    hours: _Hours = None
    parts: Annotated[tuple[PricePart, ...], "prices"]
    cents: Annotated[int, "usd", _scale(_CENT)]

    @property
    def key(self) -> LineKey:
        return LineKey(self.month, self.region, self.sku, self.rate_code, self.allowance)

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    @property
    def exact(self) -> int:
        return sum(part.bytes * part.price for part in self.parts)


class Share(NamedTuple):
    """One account's share of a line.

    Attributes:
        line: Index of the line, from 0: first the invoice's own lines, then its corrections.
    """

    line: int
    bytes: DecimalText
    exact: _Exact

    def plus(self, size: int, exact: int) -> Share:
        return Share(self.line, self.bytes + size, self.exact + exact)


NO_SHARE = Share(0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDetail:
    """Usage and exact cost of one account, for each line. Only lines have cents."""

    account_id: str
    name: AnyText
    shares: Annotated[tuple[Share, ...], "lines"]

    @property
    def bytes(self) -> int:
        return sum(share.bytes for share in self.shares)

    @property
    def exact(self) -> int:
        return sum(share.exact for share in self.shares)


class Unbilled(NamedTuple):
    """Usage without a price: the price book marks it as not sold, or does not know it."""

    month: AnyText
    region: AnyText
    service: _Service
    usage_type: _UsageType
    bytes: DecimalText


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A region that is missing from a draft, or whose usage is not final."""

    region: str
    why: str


def _with_sums(value: InvoiceLine | AccountDetail, last: str) -> dict[str, object]:
    """Members of a value, with `bytes` and `exact_usd` inserted before the last member."""
    members: dict[str, object] = {**members_of(value)}
    end = members.pop(last)
    return {**members, "bytes": str(value.bytes), "exact_usd": exact_text(value.exact), last: end}


def _all(cls: type[T]) -> Callable[[Fields, str], tuple[T, ...]]:
    return lambda fields, name: tuple(read_struct(cls, each) for each in fields.objects(name))


_Inputs = Annotated[Inputs, Form(lambda fields, name: read_struct(Inputs, fields.nested(name)), Inputs.to_value)]
_Lines = Annotated[
    tuple[InvoiceLine, ...], Form(_all(InvoiceLine), lambda lines: [_with_sums(each, "usd") for each in lines])
]
_Accounts = Annotated[
    tuple[AccountDetail, ...],
    Form(_all(AccountDetail), lambda accounts: [_with_sums(each, "lines") for each in accounts]),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """A document for one payer and month.

    Attributes:
        number: 1 for the invoice of a month; its credit notes have 2, 3 and so on.
        month: Month of use.
        billing_month: Month that books it: `month`; for a credit note, the month in which the note was issued.
        credit_of: Id of the invoice that a credit note corrects.
        because: Reason of a credit note.
        lines: Sorted by region, SKU and rate code.
        corrections: Lines about earlier months, sorted by month, then like `lines`.
        unpriced, left_out: Empty except in drafts.
        draft: It is not final.
    """

    kind: Kind
    draft: bool = False
    number: FromOne
    payer_id: Annotated[str, Form(lambda fields, _: fields.nested("payer").text("id"), None)]
    payer_name: Annotated[str, Form(lambda fields, _: fields.nested("payer").any_text("name"), None)]
    issuer: AnyText
    currency: str
    month: str
    billing_month: str
    credit_of: str = ""
    because: str = ""
    inputs: _Inputs
    lines: _Lines
    corrections: _Lines = ()
    accounts: _Accounts = ()
    unrated: tuple[Unbilled, ...] = ()
    unpriced: tuple[Unbilled, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def id(self) -> str:
        """`123456789012-2026-11-1`."""
        return invoice_id(self.payer_id, self.month, self.number)

    @property
    def all_lines(self) -> tuple[InvoiceLine, ...]:
        """Lines, then corrections; a share refers to a line by its index in this order."""
        return (*self.lines, *self.corrections)

    @property
    def cents(self) -> int:
        """The amount due: the sum of the lines' cents."""
        return sum(line.cents for line in self.all_lines)

    @property
    def exact(self) -> int:
        return sum(line.exact for line in self.all_lines)

    @property
    def rounding(self) -> int:
        """Difference between the amount in cents and the exact sum (L0)."""
        return self.cents * (EXACT_A_USD // 100) - self.exact


def invoice_id(payer_id: str, month: str, number: int) -> str:
    """Id of a document: `123456789012-2026-11-1`."""
    return f"{payer_id}-{month}-{number}"


# The bytes of an invoice never change. `read_invoice` refuses any bytes other than those of `invoice_bytes`.


SCHEMA = "metering.invoice/1"


def invoice_bytes(invoice: Invoice) -> bytes:
    """The document as it is stored: one line with a trailing line break."""
    return documents.canonical(invoice_value(invoice)) + b"\n"


def invoice_value(invoice: Invoice) -> dict[str, object]:
    """The document as a JSON value."""
    return {
        "schema": SCHEMA,
        "id": invoice.id,
        "kind": invoice.kind,
        "draft": invoice.draft,
        "number": invoice.number,
        "payer": {"id": invoice.payer_id, "name": invoice.payer_name},
        **members_of(invoice),
        "total": {
            "usd": usd_text(invoice.cents, decimals=_CENT),
            "exact_usd": exact_text(invoice.exact),
            "rounding_usd": exact_text(invoice.rounding),
        },
    }


def read_invoice(body: bytes, key: str) -> Invoice:
    """Inverse of `invoice_bytes`. `key` is for errors.

    Raises:
        LedgerCorruptError: The body is not an invoice, or its totals or its formatting are wrong.
    """
    fields = Fields.of_json(body, key)
    fields.one_of("schema", (SCHEMA,))
    try:
        made = read_struct(Invoice, fields)
    except ValueError as error:
        raise LedgerCorruptError(f"{key}: {error}") from error
    if invoice_bytes(made) != body:
        raise LedgerCorruptError(f"{key} is not the document that was written: its totals or its spelling differ")
    return made


INPUTS_SCHEMA = "metering.invoice-inputs/1"
_ID = re.compile(r"([0-9]{12})-([0-9]{4}-[0-9]{2})-([1-9][0-9]{0,8})")
_KEY = re.compile(r"invoices/([0-9]{4}-[0-9]{2})/([0-9]{12})/([1-9][0-9]{0,8})\.json")


class InvoiceMissingError(OperationFailedError):
    """There is no invoice with this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A document as stored in the bucket."""

    invoice: Invoice
    body: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


@dataclass(frozen=True, slots=True)
class InvoiceStore:
    """Store of invoices; each invoice is put only once."""

    objects: ObjectStore

    def get(self, invoice_id: str) -> Invoice:
        """The document with this id.

        Raises:
            InvoiceMissingError: There is no such document, or the text is not an id.
            LedgerCorruptError: The object differs from what the store wrote.
        """
        return self.stored(invoice_id).invoice

    def stored(self, invoice_id: str) -> Stored:
        """The document with this id, and its bytes. Raises as `get`."""
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
        """The document, or None if it was never put. Raises LedgerCorruptError as `get`."""
        return self._read(invoice_key(month, payer_id, number))

    def put(self, invoice: Invoice) -> Stored:
        """Put a document unless its key already exists; returns the document that is stored under the key.

        Raises:
            ValueError: It is a draft.
            UnavailableError: S3 did not respond; the document may exist, and the call may be repeated.
        """
        if invoice.draft:
            raise ValueError(f"{invoice.id} is a draft")
        body, key = invoice_bytes(invoice), invoice_key(invoice.month, invoice.payer_id, invoice.number)
        if self.objects.put(key, body, if_absent=True):
            return Stored(invoice=invoice, body=body)
        stands = self.objects.get(key)
        return Stored(invoice=invoice if stands == body else read_invoice(stands, key), body=stands)

    def list(self, month: str, payer_id: str = "") -> Iterator[Invoice]:
        """Documents about a month of use, by payer and number; with `payer_id`, only this payer's documents."""
        return (each.invoice for each in self.all_stored(month, payer_id))

    def all_stored(self, month: str, payer_id: str = "") -> Iterator[Stored]:
        """Like `list`, but with the documents' bytes; only the keys of one payer at a time are held in memory."""
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
        """Months of use that have documents, in order; each month takes one list request."""
        after = ""
        while (info := next(self.objects.list(INVOICES_PREFIX, after=after), None)) is not None:
            month = info.key.removeprefix(INVOICES_PREFIX).partition("/")[0]
            yield month
            # `0` comes after `/`.
            after = f"{INVOICES_PREFIX}{month}0"

    def inputs(self, month: str) -> Inputs | None:
        """Inputs that all invoices of a month share; None if no invoice was issued.

        Raises:
            LedgerCorruptError: The object differs from what the store wrote.
        """
        return self.numbered_inputs(month)[1]

    def numbered_inputs(self, month: str) -> tuple[int, Inputs | None]:
        """The shared inputs with their number; (0, None) if there are none. Raises as `inputs`."""
        number, found = 0, None
        while True:
            key = invoice_inputs_key(month, number + 1)
            try:
                found = _inputs_of(self.objects.get(key), key, month)
            except ObjectMissingError:
                return number, found
            number += 1

    def put_inputs(self, month: str, inputs: Inputs, number: int = 1) -> Inputs:
        """Fix the shared inputs of a month unless they are fixed; returns the fixed inputs. Raises as `put`."""
        key = invoice_inputs_key(month, number)
        if self.objects.put(key, _inputs_body(inputs, month), if_absent=True):
            return inputs
        return _inputs_of(self.objects.get(key), key, month)

    def _of_payer(self, month: str, payer_id: str, numbers: Sequence[int]) -> Iterator[Stored]:
        # Keys are sorted as strings: 10 comes before 2.
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
    return documents.canonical({"schema": INPUTS_SCHEMA, "month": month, **inputs.to_value()}) + b"\n"


def _inputs_of(body: bytes, key: str, month: str) -> Inputs:
    fields = Fields.of_json(body, key)
    fields.one_of("schema", (INPUTS_SCHEMA,))
    made = read_struct(Inputs, fields)
    if _inputs_body(made, month) != body:
        raise LedgerCorruptError(f"{key} is not the document that was written")
    return made
