"""The manifest of an export: what it is, what it was made of, its files, and whether it ties out with the invoices."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import TYPE_CHECKING

from metering.billing.money import UNITS_A_USD, cents_of, exact_text, usd_text
from metering.hours import rfc3339
from metering.reports.exports.datasets.documents import detail_id_of
from metering.reports.exports.tallies import Sums, sum_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.billing.invoices.document import Invoice
    from metering.reports.exports.batches import Unbilled
    from metering.reports.exports.datasets.columns import FileFormat
    from metering.reports.exports.destination import Document
    from metering.reports.exports.files import WrittenFile
    from metering.reports.exports.periods import Grain
    from metering.reports.exports.tallies import Tally

SCHEMA = "metering.export/1"
# FOCUS 1.4, Rounding Variance Tolerance: at least 100 subunits, and half a subunit for the square root of the rows.
_LEAST_CENTS = 100
_UNITS_A_CENT = UNITS_A_USD // 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What is exported.

    Attributes:
        kind: `focus` or `cur`.
        version: `1.2` or `1.4` of FOCUS, `2.0` of CUR.
        month: Billing month.
        payer_id: Empty for all payers.
        resources: Lines are split by resource.
        as_of_s: When the charges were read; it matters for drafts only.
    """

    kind: str
    version: str
    month: str
    grain: Grain
    form: FileFormat
    payer_id: str = ""
    resources: bool = False
    as_of_s: int = 0

    def identity(self, invoices: Sequence[Invoice]) -> Document:
        """What makes two exports the same: what was asked for, and all that it is made of."""
        drafts = any(invoice.draft for invoice in invoices)
        return {
            "kind": self.kind,
            "version": self.version,
            "month": self.month,
            "payer": self.payer_id or None,
            "grain": self.grain,
            "detail": ["resource_id"] if self.resources else [],
            "format": self.form,
            "state": "draft" if drafts else "issued",
            "as_of": rfc3339(self.as_of_s) if drafts else None,
            "documents": [
                {"id": invoice.id, "provisional": invoice.draft, "inputs": invoice.inputs.to_value()}
                for invoice in invoices
            ],
        }


def dataset_value(name: str, files: Sequence[WrittenFile], sums: Sums | None = None) -> Document:
    """A dataset in the manifest; its sums only if its rows are charges."""
    value: Document = {"name": name, "rows": sum(file.rows for file in files)}
    if sums is not None:
        value |= {
            "bytes": str(sums.bytes),
            "billed_usd": usd_text(sums.cost),
            "exact_usd": exact_text(sums.exact),
        }
    value["files"] = [
        {"name": file.name, "rows": file.rows, "size_bytes": file.size_bytes, "sha256": file.sha256} for file in files
    ]
    return value


def left_out_value(unbilled: Mapping[Unbilled, int]) -> list[Document]:
    """Usage that has no price, and so no line."""
    return [
        {"state": str(key.state), "service": key.service, "usage_type": key.usage_type, "bytes": str(size)}
        for key, size in sorted(unbilled.items())
    ]


def not_final_value(invoices: Sequence[Invoice]) -> list[Document]:
    """Regions that drafts are without, or whose figures are not final."""
    found = {(each.region, each.why) for invoice in invoices for each in invoice.left_out}
    return [{"region": region, "why": why} for region, why in sorted(found)]


def tie_out_problems(tally: Tally, invoices: Sequence[Invoice]) -> Iterator[str]:
    """Where the export and its documents are not equal: exact totals, line by line, and cents of the exact total."""
    known = {invoice.id: invoice for invoice in invoices}
    for stray in sorted(tally.lines.keys() - known.keys()):
        yield f"charges of {stray} have no document"
    for invoice in invoices:
        lines = tally.lines.get(invoice.id, {})
        details = {detail_id_of(invoice, line): line for line in invoice.all_lines}
        for name in sorted(lines.keys() | details.keys()):
            line, sums = details.get(name), lines.get(name, Sums())
            if line is None:
                # Bytes that moved between accounts at one price are charges, and no line.
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
    """The tie-out of each document, which holds exactly; beside it FOCUS's own, which allows at least 1 USD."""
    values: list[Document] = []
    for invoice in invoices:
        sums = sum_of(tally.lines.get(invoice.id, {}).values())
        apart = abs(sums.cost - invoice.cents * _UNITS_A_CENT)
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
    """What an export may differ from its invoice by, in 1e-10 USD: the larger of 1 USD and sqrt(rows) / 2 cents."""
    return max(_LEAST_CENTS * _UNITS_A_CENT, isqrt(rows * _UNITS_A_CENT**2 // 4))
