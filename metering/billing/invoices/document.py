"""An invoice, a credit note or a draft: a value. `document_form` writes and reads its bytes.

Its amounts are whole numbers: bytes, exact costs (L0) and cents (L2). The cents of an invoice line are its exact cost,
rounded; the invoice is the sum of these cents, and says how far that is from the exact sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from metering.billing.money import EXACT_A_USD

if TYPE_CHECKING:
    from metering.billing.invoices.inputs import Inputs
    from metering.usage.totals import Service, UsageType

Kind = Literal["invoice", "credit"]
KINDS: tuple[Kind, ...] = ("invoice", "credit")
INVOICE_NUMBER = 1
"""Number of a month's invoice of a payer. Its credit notes have the numbers after it."""


class PricePart(NamedTuple):
    """Bytes of a line at one price. A rate code has several prices where a price or an override begins within a month.

    Attributes:
        price: What the payer pays, 1e-10 USD a GB.
        list_price: Price of the book.
        bytes: Negative if a correction or a credit note takes them back.
    """

    price: int
    list_price: int
    bytes: int


class LineKey(NamedTuple):
    """What tells a line from the others, here and in credit notes. Lines are in its order."""

    month: str
    region: str
    sku: str
    rate_code: str
    allowance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceLine:
    """One line: a region's usage of a month at one rate code.

    Attributes:
        month: Month of use: the invoice's own, or the one that a correction is about.
        allowance: Id of the allowance that makes it free; empty if none does.
        usage_types: Sorted.
        hours: First and last hour of use of a correction, epoch seconds; None for the invoice's own month.
        cents: Of an invoice: its exact cost rounded half up. Of a credit note: the cents that the line should have,
            less the cents that were billed, so that all documents together have the cents of the right invoice.
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
    """What one account has of a line.

    Attributes:
        line: Place of the line, from 0: lines first, corrections after them.
    """

    line: int
    bytes: int
    exact: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDetail:
    """What one account used and costs, by line. Exact: cents exist for lines only."""

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
    """A region that a draft is without, or that is not final in it, and why."""

    region: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoice:
    """A document for one payer and month.

    Attributes:
        number: 1 for the invoice of a month; its credit notes count on.
        month: Month of use that it is about.
        billing_month: Month that books it: `month`, or for a credit note that in which it was issued.
        credit_of: Id of the invoice that a credit note corrects.
        because: Words of the person who issued a credit note.
        lines: Sorted by region, SKU and rate code.
        corrections: Lines about earlier months, sorted by month first.
        unpriced: Only a draft has any.
        left_out: Only a draft has any.
        draft: It is not final, whatever else it says.
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
        """What is to be paid: the sum of the lines' cents."""
        return sum(line.cents for line in self.all_lines)

    @property
    def exact(self) -> int:
        """Exact sum of the lines (L0)."""
        return sum(line.exact for line in self.all_lines)

    @property
    def rounding(self) -> int:
        """What rounding lines to cents adds to the exact sum (L0)."""
        return self.cents * (EXACT_A_USD // 100) - self.exact


def invoice_id(payer_id: str, month: str, number: int) -> str:
    """Id of a document: `123456789012-2026-11-1`."""
    return f"{payer_id}-{month}-{number}"
