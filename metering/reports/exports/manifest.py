"""The manifest of an export: its request, inputs and files, and whether it ties out with the invoices."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import isqrt
from typing import TYPE_CHECKING

import pyarrow as pa

from metering.billing.money import UNITS_A_USD, cents_of, exact_text, usd_text
from metering.hours import month_bounds_s, rfc3339
from metering.reports.exports import batches, grains

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from metering.billing.invoices.document import Invoice, InvoiceLine
    from metering.reports.exports.destination import Document, WrittenFile


@dataclass(slots=True)
class Sums:
    """Sums over lines: their costs (L1) and their exact cost (L0), in 1e-10 USD. Mutable."""

    rows: int = 0
    bytes: int = 0
    cost: int = 0
    exact: int = 0

    def add(self, other: Sums) -> None:
        self.rows += other.rows
        self.bytes += other.bytes
        self.cost += other.cost
        self.exact += other.exact


def sum_of(each: Iterable[Sums]) -> Sums:
    """All together."""
    total = Sums()
    for sums in each:
        total.add(sums)
    return total


@dataclass(slots=True)
class Tally:
    """Sums by document and InvoiceDetailId, and the fields that the charges with this id share. Mutable."""

    lines: dict[str, dict[str, Sums]] = field(default_factory=dict)
    parts: dict[str, tuple[batches.Billed, batches.Priced]] = field(default_factory=dict)

    @property
    def total(self) -> Sums:
        return sum_of(sums for of in self.lines.values() for sums in of.values())

    def take(self, batch: batches.Batch) -> None:
        """Add the lines of a batch."""
        table = pa.table(
            {
                "number": batches.line_numbers(batch),
                # The sum of any batch fits into 38 digits.
                "bytes": batch.bytes.cast(batches.WHOLE),
                "cost": batch.cost.cast(batches.WHOLE),
            }
        )
        grouped = table.group_by("number", use_threads=False).aggregate(
            [("bytes", "sum"), ("cost", "sum"), ("bytes", "count")]
        )
        columns = (grouped.column(name).to_pylist() for name in ("number", "bytes_sum", "cost_sum", "bytes_count"))
        for number, total_bytes, cost, rows in zip(*columns, strict=True):
            billed, priced = batches.parts_of(batch.parts, number)
            detail, size = batches.detail_id(billed, priced), int(total_bytes)
            self.parts.setdefault(detail, (billed, priced))
            sums = self.lines.setdefault(billed.invoice_id, {}).setdefault(detail, Sums())
            sums.add(Sums(rows=rows, bytes=size, cost=int(cost), exact=size * priced.rated.price))


_CENTS = UNITS_A_USD // 100
PAYMENT_TERMS = "Not stated"

_DETAIL: dict[str, batches.Kind] = {
    "BilledCost": "money", "BillingAccountId": "text", "BillingCurrency": "text", "BillingPeriodEnd": "time",
    "BillingPeriodStart": "time", "ChargeCategory": "text", "InvoiceDetailCreated": "time",
    "InvoiceDetailDescription": "text", "InvoiceDetailGrain": "text", "InvoiceDetailId": "text",
    "InvoiceDetailLastUpdated": "time", "InvoiceId": "text", "InvoiceIssueDate": "time", "InvoiceIssueStatus": "text",
    "InvoiceIssuerName": "text", "PaymentDueDate": "time", "PaymentTerms": "text", "ReferenceInvoiceId": "text",
}  # fmt: skip
_PERIOD: dict[str, batches.Kind] = {
    "BillingPeriodCreated": "time", "BillingPeriodEnd": "time", "BillingPeriodLastUpdated": "time",
    "BillingPeriodStart": "time", "BillingPeriodStatus": "text", "InvoiceIssuerName": "text",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallDataset:
    """A dataset held in memory."""

    name: str
    kinds: dict[str, batches.Kind]
    rows: Sequence[dict[str, batches.Value]]

    def table(self, form: batches.FileFormat) -> pa.Table:
        """The dataset's rows as written to a file."""
        arrays = {}
        for name, kind in self.kinds.items():
            values = [batches.shown_value(kind, form, rfc3339, row[name]) for row in self.rows]
            arrays[name] = batches.array_of(values, batches.TYPES[form][kind])
        return pa.table(arrays)


def invoice_detail(invoices: Sequence[Invoice], tally: Tally, *, as_of_s: int) -> SmallDataset:
    """One row for each line of each document, with the billed cents.

    Charges that cancel each other have no document line; they get a row of 0.
    """
    rows = []
    for invoice in invoices:
        lines = {detail_id_of(invoice, line): line for line in invoice.all_lines}
        for name, line in lines.items():
            row = _detail_row(invoice, name, line.usage_types, line.region, line.rate_code, as_of_s)
            rows.append(row | {"BilledCost": line.cents * _CENTS})
        for name in tally.lines.get(invoice.id, {}).keys() - lines.keys():
            _, priced = tally.parts[name]
            rated = priced.rated
            rows.append(_detail_row(invoice, name, (rated.line.usage_type,), priced.region, rated.rate_code, as_of_s))
    rows.sort(key=lambda row: str(row["InvoiceDetailId"]))
    return SmallDataset(name="InvoiceDetail", kinds=_DETAIL, rows=rows)


def billing_period(invoices: Sequence[Invoice], *, as_of_s: int) -> SmallDataset:
    """One row per month and issuer: `Open` while any document is a draft."""
    drafts: dict[tuple[str, str], bool] = {}
    for invoice in invoices:
        key = (invoice.billing_month, invoice.issuer)
        drafts[key] = drafts.get(key, False) or invoice.draft
    rows: list[dict[str, batches.Value]] = []
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
    """InvoiceDetailId of a document's line; the line's charges have the same id."""
    return batches.line_id(
        invoice.id, line.region, line.rate_code, "" if line.month == invoice.billing_month else line.month
    )


def _detail_row(
    invoice: Invoice, name: str, usage_types: Sequence[str], region: str, rate_code: str, as_of_s: int
) -> dict[str, batches.Value]:
    begins_s, ends_s = month_bounds_s(invoice.billing_month)
    # Invoices contain no time, because they must be reproducible: each invoice has the date on which its month ends.
    made_s = max(as_of_s, begins_s) if invoice.draft else ends_s
    return {
        "BilledCost": 0,
        "BillingAccountId": invoice.payer_id,
        "BillingCurrency": invoice.currency,
        "BillingPeriodEnd": ends_s,
        "BillingPeriodStart": begins_s,
        "ChargeCategory": "Adjustment" if invoice.credit_of else "Usage",
        "InvoiceDetailCreated": made_s,
        "InvoiceDetailDescription": f"{', '.join(usage_types)} in {region}",
        "InvoiceDetailGrain": json.dumps({"RegionId": region, "SkuPriceId": rate_code}),
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


SCHEMA = "metering.export/1"
# FOCUS 1.4, Rounding Variance Tolerance: at least 100 subunits, and half a subunit times the square root of the rows.
_LEAST_CENTS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """An export request: `focus` 1.2 or 1.4, or `cur` 2.0, of one payer or all; only drafts depend on `as_of_s`.

    With a version of the book of owners, charges are split by causes.
    """

    kind: str
    version: str
    month: str
    grain: grains.Grain
    form: batches.FileFormat
    payer_id: str = ""
    resources: bool = False
    as_of_s: int = 0
    owners: int | None = None

    def identity(self, invoices: Sequence[Invoice]) -> Document:
        """Identity of an export: the request, and all inputs."""
        drafts = any(invoice.draft for invoice in invoices)
        return {
            "kind": self.kind,
            "version": self.version,
            "month": self.month,
            "payer": self.payer_id or None,
            "grain": self.grain,
            "detail": [*(["resource_id"] if self.resources else ()), *([] if self.owners is None else ["causes"])],
            **({} if self.owners is None else {"owners": self.owners}),
            "format": self.form,
            "state": "draft" if drafts else "issued",
            "as_of": rfc3339(self.as_of_s) if drafts else None,
            "documents": [
                {"id": invoice.id, "provisional": invoice.draft, "inputs": invoice.inputs.to_value()}
                for invoice in invoices
            ],
        }


def dataset_value(name: str, files: Sequence[WrittenFile], sums: Sums | None = None) -> Document:
    """A dataset as the manifest states it, with sums only if the dataset's rows are charges."""
    value: Document = {"name": name, "rows": sum(file.rows for file in files)}
    if sums is not None:
        value |= {"bytes": str(sums.bytes), "billed_usd": usd_text(sums.cost), "exact_usd": exact_text(sums.exact)}
    value["files"] = [
        {"name": file.name, "rows": file.rows, "size_bytes": file.size_bytes, "sha256": file.sha256} for file in files
    ]
    return value


def left_out_value(unbilled: Mapping[batches.Unbilled, int]) -> list[Document]:
    """Usage that has no line because it has no price."""
    return [
        {"state": str(key.state), "service": key.service, "usage_type": key.usage_type, "bytes": str(size)}
        for key, size in sorted(unbilled.items())
    ]


def not_final_value(invoices: Sequence[Invoice]) -> list[Document]:
    """Regions that are missing from drafts, or whose figures are not final."""
    found = {(each.region, each.why) for invoice in invoices for each in invoice.left_out}
    return [{"region": region, "why": why} for region, why in sorted(found)]


def tie_out_problems(tally: Tally, invoices: Sequence[Invoice]) -> Iterator[str]:
    """Differences between export and documents: in exact totals line by line, and in the cents of the exact total."""
    known = {invoice.id: invoice for invoice in invoices}
    for stray in sorted(tally.lines.keys() - known.keys()):
        yield f"charges of {stray} have no document"
    for invoice in invoices:
        lines = tally.lines.get(invoice.id, {})
        details = {detail_id_of(invoice, line): line for line in invoice.all_lines}
        for name in sorted(lines.keys() | details.keys()):
            line, sums = details.get(name), lines.get(name, Sums())
            if line is None:
                # Bytes that moved between accounts at one price are charges, but not invoice lines.
                if sums.bytes or sums.exact:
                    yield f"{name} is no line of its document"
            elif (line.bytes, line.exact) != (sums.bytes, sums.exact):
                yield (
                    f"{name} has {sums.bytes:,} bytes and {exact_text(sums.exact)} USD, "
                    f"its document {line.bytes:,} bytes and {exact_text(line.exact)} USD"
                )
            elif not invoice.credit_of and line.cents != cents_of(sums.exact):
                yield f"{name} is billed {usd_text(line.cents, decimals=2)}, and costs {exact_text(sums.exact)}"


def tie_out_value(tally: Tally, invoices: Sequence[Invoice]) -> list[Document]:
    """The exact tie-out of each document, and the tie-out by FOCUS's own rule, which tolerates at least 1 USD."""
    values: list[Document] = []
    for invoice in invoices:
        sums = sum_of(tally.lines.get(invoice.id, {}).values())
        apart = abs(sums.cost - invoice.cents * _CENTS)
        values.append(
            {
                "document": invoice.id,
                "provisional": invoice.draft,
                "rows": sums.rows,
                "details": len(invoice.all_lines),
                "exact_usd": exact_text(sums.exact),
                "document_exact_usd": exact_text(invoice.exact),
                "equal": sums.exact == invoice.exact,
                "document_usd": usd_text(invoice.cents, decimals=2),
                "focus": {
                    "difference_usd": usd_text(apart),
                    "tolerance_usd": usd_text(focus_tolerance(sums.rows)),
                    "within": apart <= focus_tolerance(sums.rows),
                },
            }
        )
    return values


def focus_tolerance(rows: int) -> int:
    """FOCUS's tolerance between export and invoice, in 1e-10 USD: the larger of 1 USD and sqrt(rows) / 2 cents."""
    return max(_LEAST_CENTS * _CENTS, isqrt(rows * _CENTS**2 // 4))
