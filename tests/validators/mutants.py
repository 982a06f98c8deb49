"""Deliberately wrong exports must all be detected, because a validator that accepts everything proves nothing."""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Rows = list[dict[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongCosts:
    """A fault in a Parquet file of FOCUS 1.2.

    Attributes:
        name: What is wrong.
        rule: Rule of the official model that must fail for the file.
        change: The fault.
    """

    name: str
    rule: str
    change: Callable[[pa.Table], pa.Table]

    def write(self, costs: Path, folder: Path) -> Path:
        """Write the file with the fault, and return its path."""
        path = folder / f"{self.name.replace(' ', '-')}.parquet"
        pq.write_table(self.change(pq.read_table(costs)), path)
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class WrongBundle:
    """A fault in one CSV file of an export in FOCUS 1.4.

    Attributes:
        name: What is wrong.
        complaint: Text that focus-data-toolkit must print.
        file: The file with the fault.
        change: Function that changes the file's rows to make the fault.
    """

    name: str
    complaint: str
    file: str
    change: Callable[[Rows], Rows]

    def write(self, bundle: Path, folder: Path) -> Path:
        """Copy all files to a separate folder, make the fault in one file, and return the folder."""
        copy = folder / self.name.replace(" ", "-")
        shutil.copytree(bundle, copy)
        with (copy / self.file).open(newline="", encoding="utf-8") as text:
            reader = csv.DictReader(text)
            names, rows = list(reader.fieldnames or ()), list(reader)
        with (copy / self.file).open("w", newline="", encoding="utf-8") as text:
            writer = csv.DictWriter(text, names)
            writer.writeheader()
            writer.writerows(self.change(rows))
        return copy


def _all(table: pa.Table, name: str, value: str) -> pa.Table:
    place = table.schema.get_field_index(name)
    field = table.schema.field(place)
    return table.set_column(place, field, pa.array([value] * table.num_rows, field.type))


def _half_without_invoice(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("InvoiceId")
    field = table.schema.field(place)
    ids = [None if row % 2 else value for row, value in enumerate(table.column(place).to_pylist())]
    return table.set_column(place, field.with_nullable(nullable=True), pa.array(ids, field.type))


def _added(name: str, usd: str) -> Callable[[Rows], Rows]:
    """Return a change that adds `usd` to the first positive amount."""

    def change(rows: Rows) -> Rows:
        row = next(each for each in rows if Decimal(each[name]) > 0)
        row[name] = str(Decimal(row[name]) + Decimal(usd))
        return rows

    return change


def _without_a_used_line(rows: Rows) -> Rows:
    """Drops the invoice line with the largest amount."""
    largest = max(rows, key=lambda row: Decimal(row["BilledCost"]))
    return [row for row in rows if row is not largest]


def _without_a_part(rows: Rows) -> Rows:
    """Drops the dearest part of a charge."""
    dearest = max((row for row in rows if row["AllocatedMethodId"]), key=lambda row: Decimal(row["BilledCost"]))
    return [row for row in rows if row is not dearest]


def _of_parts(name: str, value: str) -> Callable[[Rows], Rows]:
    """Return a change of a column of every part."""

    def change(rows: Rows) -> Rows:
        return [row | ({name: value} if row["AllocatedMethodId"] else {}) for row in rows]

    return change


WRONG_COSTS = (
    WrongCosts(name="issuer is not the provider", rule="BilledCost-C-005-C",
               change=lambda table: _all(table, "InvoiceIssuerName", "Somebody else")),
    WrongCosts(name="price details are no JSON", rule="SkuPriceDetails",
               change=lambda table: _all(table, "SkuPriceDetails", "first tier")),
    WrongCosts(name="a column less", rule="ServiceName", change=lambda table: table.drop_columns(["ServiceName"])),
    WrongCosts(name="some rows without an invoice", rule="InvoiceId-C-000", change=_half_without_invoice),
)  # fmt: skip
WRONG_BUNDLES = (
    WrongBundle(name="list cost one cent more", complaint="cost_not_unit_price_times_quantity",
                file="CostAndUsage.csv", change=_added("ListCost", "0.01")),
    WrongBundle(name="invoice line two cents more", complaint="FDT-CROSS-030",
                file="InvoiceDetail.csv", change=_added("BilledCost", "0.02")),
    WrongBundle(name="invoice line missing", complaint="FDT-CROSS-014",
                file="InvoiceDetail.csv", change=_without_a_used_line),
)  # fmt: skip
WRONG_CAUSES = (
    WrongBundle(name="a part missing", complaint="FDT-CROSS-030", file="CostAndUsage.csv", change=_without_a_part),
    WrongBundle(name="details that are no JSON", complaint="AllocatedMethodDetails",
                file="CostAndUsage.csv", change=_of_parts("AllocatedMethodDetails", "99 %")),
    WrongBundle(name="tags that are no JSON", complaint="AllocatedTags",
                file="CostAndUsage.csv", change=_of_parts("AllocatedTags", "team: a")),
)  # fmt: skip
