"""An invoice, a credit note or a draft, its bytes and its store.

Amounts are whole numbers: bytes, exact costs (L0) and cents (L2). The cents of an invoice line are its exact cost,
rounded; the invoice is the sum of these cents, and says how far that is from the exact sum. Its JSON has amounts as
decimal texts with all their digits.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from metering.billing.documents import canonical
from metering.billing.invoices.inputs import Inputs
from metering.billing.money import EXACT_A_USD, exact_text, usd_text
from metering.errors import LedgerCorruptError, ObjectMissingError, OperationFailedError
from metering.hours import hour_label
from metering.stores.fields import Fields
from metering.stores.objects import INVOICES_PREFIX, ObjectStore, invoice_inputs_key, invoice_key, invoices_prefix
from metering.usage.totals import Service, UsageType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


Kind = Literal["invoice", "credit"]
KINDS: tuple[Kind, ...] = ("invoice", "credit")
INVOICE_NUMBER = 1
"""Number of a month's invoice of a payer. Its credit notes have the numbers after it."""


class PricePart(NamedTuple):
    """Bytes of a line at one price. A rate code has several if a price or an override begins within a month.

    Attributes:
        price: Price that the payer pays, 1e-10 USD a GB.
        list_price: Price of the book.
        bytes: Negative if a correction or a credit note takes them back.
    """

    price: int
    list_price: int
    bytes: int


class LineKey(NamedTuple):
    """Identity of a line, also in credit notes. Lines are in its order."""

    month: str
    region: str
    sku: str
    rate_code: str
    allowance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """One line: a region's usage of a month at one rate code.

    Attributes:
        month: Month of use: the invoice's own, or a corrected one.
        allowance: Id of the allowance that makes it free; empty if none does.
        usage_types: Sorted.
        hours: First and last hour of use of a correction, epoch seconds; None for the invoice's own month.
        cents: Of an invoice: its exact cost rounded half up. Of a credit note: the right cents of the line, less the
            billed ones, so that all documents together have the cents of the right invoice.
    """

    month: str
    region: str
    sku: str
    rate_code: str
    allowance: str
    usage_types: tuple[str, ...]
    parts: tuple[PricePart, ...]
    cents: int
    hours: tuple[int, int] | None = None

    @property
    def key(self) -> LineKey:
        return LineKey(self.month, self.region, self.sku, self.rate_code, self.allowance)

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    @property
    def exact(self) -> int:
        """Exact cost (L0)."""
        return sum(part.bytes * part.price for part in self.parts)


class Share(NamedTuple):
    """Share of one account in a line.

    Attributes:
        line: Place of the line, from 0: lines first, corrections after them.
    """

    line: int
    bytes: int
    exact: int

    def plus(self, size: int, exact: int) -> Share:
        """The share with more bytes and cost."""
        return Share(self.line, self.bytes + size, self.exact + exact)


NO_SHARE = Share(0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDetail:
    """Usage and exact cost of one account, by line. Cents exist for lines only."""

    account_id: str
    name: str
    shares: tuple[Share, ...]

    @property
    def bytes(self) -> int:
        return sum(share.bytes for share in self.shares)

    @property
    def exact(self) -> int:
        return sum(share.exact for share in self.shares)


class Unbilled(NamedTuple):
    """Usage without a price: not sold here by a rule of the book, or not known to it."""

    month: str
    region: str
    service: Service
    usage_type: UsageType
    bytes: int


class LeftOut(NamedTuple):
    """A region that a draft is without, or that is not final in it."""

    region: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """A document for one payer and month.

    Attributes:
        number: 1 for the invoice of a month; its credit notes count on.
        month: Month of use.
        billing_month: Month that books it: `month`, or for a credit note that in which it was issued.
        credit_of: Id of the invoice that a credit note corrects.
        because: Reason of a credit note.
        lines: Sorted by region, SKU and rate code.
        corrections: Lines about earlier months, sorted by month first.
        unpriced, left_out: Only a draft has any.
        draft: It is not final.
    """

    kind: Kind
    payer_id: str
    payer_name: str
    issuer: str
    currency: str
    month: str
    number: int
    billing_month: str
    inputs: Inputs
    lines: tuple[InvoiceLine, ...]
    corrections: tuple[InvoiceLine, ...] = ()
    accounts: tuple[AccountDetail, ...] = ()
    unrated: tuple[Unbilled, ...] = ()
    unpriced: tuple[Unbilled, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    credit_of: str = ""
    because: str = ""
    draft: bool = False

    @property
    def id(self) -> str:
        """`123456789012-2026-11-1`."""
        return invoice_id(self.payer_id, self.month, self.number)

    @property
    def all_lines(self) -> tuple[InvoiceLine, ...]:
        """Lines, and corrections after them: the order that shares count in."""
        return (*self.lines, *self.corrections)

    @property
    def cents(self) -> int:
        """The amount due: the sum of the lines' cents."""
        return sum(line.cents for line in self.all_lines)

    @property
    def exact(self) -> int:
        """Exact sum of the lines (L0)."""
        return sum(line.exact for line in self.all_lines)

    @property
    def rounding(self) -> int:
        """Difference of the cents to the exact sum (L0)."""
        return self.cents * (EXACT_A_USD // 100) - self.exact


def invoice_id(payer_id: str, month: str, number: int) -> str:
    """Id of a document: `123456789012-2026-11-1`."""
    return f"{payer_id}-{month}-{number}"


# The same invoice has the same bytes for ever. `read_invoice` refuses other bytes than those of `invoice_bytes`.


SCHEMA = "metering.invoice/1"
_UNBILLED = ("month", "region", "service", "usage_type", "bytes")
_SHARE = ("line", "bytes", "exact_usd")
_PART = ("price_usd", "list_price_usd", "bytes")
_CENT = 2


def invoice_bytes(invoice: Invoice) -> bytes:
    """The document as it is put: one line, with a line break at its end."""
    return canonical(invoice_value(invoice)) + b"\n"


def invoice_value(invoice: Invoice) -> dict[str, object]:
    """The document as a JSON value."""
    return {
        "schema": SCHEMA,
        "id": invoice.id,
        "kind": invoice.kind,
        "draft": invoice.draft,
        "number": invoice.number,
        "payer": {"id": invoice.payer_id, "name": invoice.payer_name},
        "issuer": invoice.issuer,
        "currency": invoice.currency,
        "month": invoice.month,
        "billing_month": invoice.billing_month,
        "credit_of": invoice.credit_of,
        "because": invoice.because,
        "inputs": invoice.inputs.to_value(),
        "lines": [_line(line) for line in invoice.lines],
        "corrections": [_line(line) for line in invoice.corrections],
        "accounts": [_account(account) for account in invoice.accounts],
        "unrated": [_unbilled(each) for each in invoice.unrated],
        "unpriced": [_unbilled(each) for each in invoice.unpriced],
        "left_out": [each._asdict() for each in invoice.left_out],
        "total": {
            "usd": usd_text(invoice.cents, decimals=_CENT),
            "exact_usd": exact_text(invoice.exact),
            "rounding_usd": exact_text(invoice.rounding),
        },
    }


def read_invoice(body: bytes, key: str) -> Invoice:
    """Inverse of `invoice_bytes`. `key` is for errors.

    Raises:
        LedgerCorruptError: It is not an invoice, or not as it was written: totals and spelling count.
    """
    fields = Fields.of_json(body, key)
    fields.one_of("schema", (SCHEMA,))
    payer = fields.nested("payer")
    try:
        made = Invoice(
            kind=fields.one_of("kind", KINDS),
            payer_id=payer.text("id"),
            payer_name=payer.any_text("name"),
            issuer=fields.any_text("issuer"),
            currency=fields.text("currency"),
            month=fields.text("month"),
            number=fields.whole("number", least=1),
            billing_month=fields.text("billing_month"),
            inputs=Inputs.from_fields(fields.nested("inputs")),
            lines=tuple(map(_line_of, fields.objects("lines"))),
            corrections=tuple(map(_line_of, fields.objects("corrections"))),
            accounts=tuple(map(_account_of, fields.objects("accounts"))),
            unrated=tuple(map(_unbilled_of, fields.rows("unrated", _UNBILLED))),
            unpriced=tuple(map(_unbilled_of, fields.rows("unpriced", _UNBILLED))),
            left_out=tuple(LeftOut(each.text("region"), each.text("why")) for each in fields.objects("left_out")),
            credit_of=fields.any_text("credit_of"),
            because=fields.any_text("because"),
            draft=fields.flag("draft"),
        )
    except ValueError as error:
        raise LedgerCorruptError(f"{key}: {error}") from error
    if invoice_bytes(made) != body:
        raise LedgerCorruptError(f"{key} is not the document that was written: its totals or its spelling differ")
    return made


def _line(line: InvoiceLine) -> dict[str, object]:
    hours = [hour_label(hour_s) for hour_s in line.hours or ()]
    return {
        "month": line.month,
        "region": line.region,
        "sku": line.sku,
        "rate_code": line.rate_code,
        "allowance": line.allowance,
        "usage_types": list(line.usage_types),
        "hours": hours,
        "prices": [[usd_text(part.price), usd_text(part.list_price), str(part.bytes)] for part in line.parts],
        "bytes": str(line.bytes),
        "exact_usd": exact_text(line.exact),
        "usd": usd_text(line.cents, decimals=_CENT),
    }


def _line_of(fields: Fields) -> InvoiceLine:
    hours = fields.hours("hours")
    return InvoiceLine(
        month=fields.text("month"),
        region=fields.text("region"),
        sku=fields.text("sku"),
        rate_code=fields.text("rate_code"),
        allowance=fields.any_text("allowance"),
        usage_types=fields.texts("usage_types"),
        parts=tuple(map(_part_of, fields.rows("prices", _PART))),
        cents=_scaled(fields.text("usd"), _CENT),
        hours=(hours[0], hours[-1]) if hours else None,
    )


def _part_of(row: Fields) -> PricePart:
    return PricePart(
        price=_scaled(row.text("price_usd"), 10),
        list_price=_scaled(row.text("list_price_usd"), 10),
        bytes=row.decimal("bytes"),
    )


def _account(account: AccountDetail) -> dict[str, object]:
    return {
        "account_id": account.account_id,
        "name": account.name,
        "bytes": str(account.bytes),
        "exact_usd": exact_text(account.exact),
        "lines": [[share.line, str(share.bytes), exact_text(share.exact)] for share in account.shares],
    }


def _account_of(fields: Fields) -> AccountDetail:
    shares = (
        Share(row.whole("line"), row.decimal("bytes"), _exact(row.text("exact_usd")))
        for row in fields.rows("lines", _SHARE)
    )
    return AccountDetail(account_id=fields.text("account_id"), name=fields.any_text("name"), shares=tuple(shares))


def _unbilled(each: Unbilled) -> list[object]:
    return [each.month, each.region, each.service, each.usage_type, str(each.bytes)]


def _unbilled_of(row: Fields) -> Unbilled:
    month, region, service, usage_type = (row.any_text(name) for name in _UNBILLED[:-1])
    return Unbilled(month, region, Service(service), UsageType(usage_type), row.decimal("bytes"))


def _scaled(text: str, decimals: int) -> int:
    """A decimal text as a whole number of 10^-`decimals`; `invoice_bytes` then says whether it was spelled so."""
    whole, _, part = text.partition(".")
    return int(whole + part.ljust(decimals, "0"))


def _exact(text: str) -> int:
    # An exact cost is a whole number of 1e-10 / 2^30, so of 10^-40 when multiplied by 5^30.
    return _scaled(text, 40) // 5**30


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
            InvoiceMissingError: There is none, or the text is not an id.
            LedgerCorruptError: The object is not as it was written.
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
        """The document, or None if it was never put. Raises LedgerCorruptError as `get`."""
        return self._read(invoice_key(month, payer_id, number))

    def put(self, invoice: Invoice) -> Stored:
        """Put a document unless another lies at its key; returns the one that counts.

        Raises:
            ValueError: It is a draft.
            UnavailableError: The bucket gave no answer; the document may be there, and the call may be repeated.
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
        """Months of use that have documents, in order, by a request a month."""
        after = ""
        while (info := next(self.objects.list(INVOICES_PREFIX, after=after), None)) is not None:
            month = info.key.removeprefix(INVOICES_PREFIX).partition("/")[0]
            yield month
            # `0` comes after `/`.
            after = f"{INVOICES_PREFIX}{month}0"

    def inputs(self, month: str) -> Inputs | None:
        """Inputs that all invoices of a month share; None if none was issued.

        Raises:
            LedgerCorruptError: The object is not as it was written.
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
        """Fix the shared inputs of a month, unless they are; returns those that count. Raises as `put`."""
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
