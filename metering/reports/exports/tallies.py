"""Sums of what an export wrote, by invoice line: what its manifest says, and what has to equal the invoice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from metering.reports.exports.amounts import WHOLE
from metering.reports.exports.datasets.identities import detail_id, line_numbers, parts_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.reports.exports.batches import Batch, Billed, Priced


@dataclass(slots=True)
class Sums:
    """Sums over lines. Mutable.

    Attributes:
        bytes: Exact, of any size.
        cost: Sum of the lines' costs (L1), 1e-10 USD.
        exact: Exact cost (L0).
    """

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
    """Sums by document and invoice line. Mutable.

    Attributes:
        lines: By id of the document, then by InvoiceDetailId.
        parts: What is common to the charges of an invoice line, by InvoiceDetailId.
    """

    lines: dict[str, dict[str, Sums]] = field(default_factory=dict)
    parts: dict[str, tuple[Billed, Priced]] = field(default_factory=dict)

    @property
    def total(self) -> Sums:
        return sum_of(sums for of in self.lines.values() for sums in of.values())

    def take(self, batch: Batch) -> None:
        """Add the lines of a batch."""
        table = pa.table(
            {
                "number": line_numbers(batch),
                # 38 digits hold the sum of any batch.
                "bytes": batch.bytes.cast(WHOLE),
                "cost": batch.cost.cast(WHOLE),
            }
        )
        grouped = table.group_by("number", use_threads=False).aggregate(
            [("bytes", "sum"), ("cost", "sum"), ("bytes", "count")]
        )
        columns = (grouped.column(name).to_pylist() for name in ("number", "bytes_sum", "cost_sum", "bytes_count"))
        for number, total_bytes, cost, rows in zip(*columns, strict=True):
            billed, priced = parts_of(batch.parts, number)
            detail, size = detail_id(billed, priced), int(total_bytes)
            self.parts.setdefault(detail, (billed, priced))
            sums = self.lines.setdefault(billed.invoice_id, {}).setdefault(detail, Sums())
            sums.add(Sums(rows=rows, bytes=size, cost=int(cost), exact=size * priced.rated.price))
