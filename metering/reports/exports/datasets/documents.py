"""FOCUS 1.4's small datasets: InvoiceDetail, a row an invoice line, and BillingPeriod, a row a month and issuer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from metering.billing.money import UNITS_A_USD
from metering.hours import month_bounds_s, rfc3339
from metering.reports.exports.datasets.columns import TYPES, array_of, shown_value
from metering.reports.exports.datasets.identities import line_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.billing.invoices.document import Invoice, InvoiceLine
    from metering.reports.exports.batches import Billed, Priced
    from metering.reports.exports.datasets.columns import FileFormat, Kind, Value
    from metering.reports.exports.tallies import Tally

_CENTS = UNITS_A_USD // 100
PAYMENT_TERMS = "Not stated"

_DETAIL: dict[str, Kind] = {
    "BilledCost": "money", "BillingAccountId": "text", "BillingCurrency": "text", "BillingPeriodEnd": "time",
    "BillingPeriodStart": "time", "ChargeCategory": "text", "InvoiceDetailCreated": "time",
    "InvoiceDetailDescription": "text", "InvoiceDetailGrain": "text", "InvoiceDetailId": "text",
    "InvoiceDetailLastUpdated": "time", "InvoiceId": "text", "InvoiceIssueDate": "time", "InvoiceIssueStatus": "text",
    "InvoiceIssuerName": "text", "PaymentDueDate": "time", "PaymentTerms": "text", "ReferenceInvoiceId": "text",
}  # fmt: skip
_PERIOD: dict[str, Kind] = {
    "BillingPeriodCreated": "time", "BillingPeriodEnd": "time", "BillingPeriodLastUpdated": "time",
    "BillingPeriodStart": "time", "BillingPeriodStatus": "text", "InvoiceIssuerName": "text",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallDataset:
    """A dataset that is whole in memory.

    Attributes:
        kinds: Column -> kind, in the order of its file.
        rows: Values by column.
    """

    name: str
    kinds: dict[str, Kind]
    rows: Sequence[dict[str, Value]]

    def table(self, form: FileFormat) -> pa.Table:
        """Its rows as a file has them."""
        arrays = {}
        for name, kind in self.kinds.items():
            values = [shown_value(kind, form, rfc3339, row[name]) for row in self.rows]
            arrays[name] = array_of(values, TYPES[form][kind])
        return pa.table(arrays)


def invoice_detail(invoices: Sequence[Invoice], tally: Tally, *, as_of_s: int) -> SmallDataset:
    """A row a line of each document: the cents that it bills.

    Args:
        invoices: Invoices, drafts and credit notes.
        tally: Sums of their charges: those that cancel out are no line of a document, and have a row of 0.
        as_of_s: When drafts were made.
    """
    rows = []
    for invoice in invoices:
        details = {detail_id_of(invoice, line): _of_line(line) for line in invoice.all_lines}
        for name in tally.lines.get(invoice.id, {}).keys() - details.keys():
            details[name] = _of_charges(*tally.parts[name])
        rows += [_detail_row(invoice, name, detail, as_of_s) for name, detail in details.items()]
    return SmallDataset(name="InvoiceDetail", kinds=_DETAIL, rows=sorted(rows, key=_by_id))


def billing_period(invoices: Sequence[Invoice], *, as_of_s: int) -> SmallDataset:
    """A row a month and issuer: `Open` as long as one of its documents is a draft."""
    drafts: dict[tuple[str, str], bool] = {}
    for invoice in invoices:
        key = (invoice.billing_month, invoice.issuer)
        drafts[key] = drafts.get(key, False) or invoice.draft
    rows: list[dict[str, Value]] = []
    for (month, issuer), is_open in sorted(drafts.items()):
        begins_s, ends_s = month_bounds_s(month)
        rows.append(
            {
                "BillingPeriodCreated": begins_s,
                "BillingPeriodEnd": ends_s,
                "BillingPeriodLastUpdated": max(as_of_s, begins_s) if is_open else ends_s,
                "BillingPeriodStart": begins_s,
                "BillingPeriodStatus": "Open" if is_open else "Closed",
                "InvoiceIssuerName": issuer,
            }
        )
    return SmallDataset(name="BillingPeriod", kinds=_PERIOD, rows=rows)


def detail_id_of(invoice: Invoice, line: InvoiceLine) -> str:
    """InvoiceDetailId of a line of a document; its charges have the same."""
    return line_id(invoice.id, line.region, line.rate_code, "" if line.month == invoice.billing_month else line.month)


def _by_id(row: dict[str, Value]) -> str:
    return str(row["InvoiceDetailId"])


class _Detail(NamedTuple):
    """What an invoice line says."""

    cents: int
    usage_types: tuple[str, ...]
    region: str
    rate_code: str


def _of_line(line: InvoiceLine) -> _Detail:
    return _Detail(line.cents, line.usage_types, line.region, line.rate_code)


def _of_charges(_billed: Billed, priced: Priced) -> _Detail:
    return _Detail(0, (priced.rated.line.usage_type,), priced.region, priced.rated.rate_code)


def _detail_row(invoice: Invoice, name: str, line: _Detail, as_of_s: int) -> dict[str, Value]:
    begins_s, ends_s = month_bounds_s(invoice.billing_month)
    # A document of ours has no time in it, or it could not be made again: it is dated to the end of its month.
    made_s = max(as_of_s, begins_s) if invoice.draft else ends_s
    return {
        "BilledCost": line.cents * _CENTS,
        "BillingAccountId": invoice.payer_id,
        "BillingCurrency": invoice.currency,
        "BillingPeriodEnd": ends_s,
        "BillingPeriodStart": begins_s,
        "ChargeCategory": "Adjustment" if invoice.credit_of else "Usage",
        "InvoiceDetailCreated": made_s,
        "InvoiceDetailDescription": f"{', '.join(line.usage_types)} in {line.region}",
        "InvoiceDetailGrain": json.dumps({"RegionId": line.region, "SkuPriceId": line.rate_code}),
        "InvoiceDetailId": name,
        "InvoiceDetailLastUpdated": made_s,
        "InvoiceId": invoice.id,
        "InvoiceIssueDate": None if invoice.draft else made_s,
        "InvoiceIssueStatus": "Open" if invoice.draft else "Issued",
        "InvoiceIssuerName": invoice.issuer,
        "PaymentDueDate": None,
        "PaymentTerms": PAYMENT_TERMS,
        "ReferenceInvoiceId": invoice.credit_of or invoice.id,
    }
