"""The answer of `metering compare`: rows, what stands apart, and all that was left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.reports.answer import KEEP, ROOMY, Answer, Column
from metering.reports.bills.names import named_sentences, named_values
from metering.units import exact_and_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.onramps.compare.bill import Bill
    from metering.onramps.compare.comparison import ComparedRow, Comparison, Tolerance
    from metering.onramps.compare.lines import Wanted
    from metering.reports.answer import Cell, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked.

    Attributes:
        wanted: Which lines of the bill.
        range_s: The hours that were compared, half-open.
        as_of_s: When.
        regions: The regions whose usage was added up.
        top: Most rows, by their difference; None for all.
        ignored: Number of files in named folders that are no files of a bill.
    """

    wanted: Wanted
    range_s: tuple[int, int]
    as_of_s: int
    regions: Sequence[str]
    top: int | None = None
    ignored: int = 0


def comparison_answer(found: Comparison, bill: Bill, asked: Asked) -> Answer:
    """Put a comparison into the form of all answers."""
    rows, others = _cut(found.rows, asked.top)
    return Answer(
        columns=_columns(asked),
        rows=[_row(row, asked) for row in rows],
        meta=_meta(found, bill, asked, rows_total=len(found.rows)),
        title="Billed and metered",
        footer=tuple(_footer(found, bill)),
        others=_sum(others, asked) if others else None,
        empty="No line of the bill and nothing metered is left to compare.",
    )


def _columns(asked: Asked) -> tuple[Column, ...]:
    return (
        Column(name="account_id", title="account", text="copied", priority=KEEP),
        Column(name="usage_type", title="usage type", text="copied", priority=KEEP),
        Column(name=asked.wanted.by, text="copied", priority=KEEP),
        Column(name="billed_bytes", kind="bytes", title="billed", priority=ROOMY, sized=False),
        Column(name="metered_bytes", kind="bytes", title="metered", priority=ROOMY, sized=False),
        Column(name="difference_bytes", kind="bytes", title="difference", priority=KEEP, sized=False),
        Column(name="difference_percent", kind="money", title="percent", about="of what was billed"),
    )


def _row(row: ComparedRow, asked: Asked) -> dict[str, Cell]:
    return {
        "account_id": row.key.account_id,
        "usage_type": row.key.usage_type,
        asked.wanted.by: row.key.period,
        "billed_bytes": row.billed,
        "metered_bytes": row.metered,
        "difference_bytes": row.difference,
        "difference_percent": row.percent,
    }


def _cut(rows: Sequence[ComparedRow], top: int | None) -> tuple[Sequence[ComparedRow], Sequence[ComparedRow]]:
    """The rows that are shown, largest difference first if only some are, and the others."""
    if top is None or top >= len(rows):
        return rows, ()
    ordered = sorted(rows, key=lambda row: (-abs(row.difference), row.key))
    return ordered[:top], ordered[top:]


def _sum(rows: Sequence[ComparedRow], asked: Asked) -> dict[str, Cell]:
    billed, metered = sum(row.billed for row in rows), sum(row.metered for row in rows)
    return {
        "account_id": f"{len(rows):,} others",
        "usage_type": None,
        asked.wanted.by: None,
        "billed_bytes": billed,
        "metered_bytes": metered,
        "difference_bytes": metered - billed,
        "difference_percent": None,
    }


def _meta(found: Comparison, bill: Bill, asked: Asked, *, rows_total: int) -> dict[str, Json]:
    return {
        "as_of": rfc3339(asked.as_of_s),
        "from": rfc3339(asked.range_s[0]),
        "to": rfc3339(asked.range_s[1]),
        "regions": sorted(asked.regions),
        "exports": sorted(bill.names),
        "lines": bill.read,
        "compared": bill.lines,
        "negative": bill.negative,
        "left_out": {reason.name.lower(): count for reason, count in sorted(bill.left_out.items())},
        "broken": {what.name.lower(): count for what, count in sorted(bill.broken.items())},
        "ignored_files": asked.ignored,
        "rounding_bytes": f"{bill.rounding:f}",
        "billed_bytes": str(found.billed),
        "metered_bytes": str(found.metered),
        "difference_bytes": str(found.metered - found.billed),
        "metered_only": _texts(found.apart),
        "own_usage_types": _texts(found.own),
        **named_values(found, bill),
        "tolerance": None if found.tolerance is None else _tolerance(found.tolerance),
        "rows_total": rows_total,
        "beyond": found.beyond,
    }


def _texts(sizes: Mapping[str, int]) -> dict[str, Json]:
    return {name: str(size) for name, size in sorted(sizes.items())}


def _tolerance(tolerance: Tolerance) -> dict[str, Json]:
    percent = None if tolerance.percent is None else f"{tolerance.percent:f}"
    return {"bytes": None if tolerance.bytes is None else str(tolerance.bytes), "percent": percent}


def _footer(found: Comparison, bill: Bill) -> list[str]:
    told = [
        f"Billed {exact_and_size(found.billed)}, metered {exact_and_size(found.metered)}; metered less billed is "
        f"{exact_and_size(found.metered - found.billed)}.",
        f"Lines of the bill: {bill.read:,}. Compared: {bill.lines:,}"
        + (f", of which {bill.negative:,} take bytes back." if bill.negative else "."),
        *(f"Left out: {count:,} {reason.value}." for reason, count in sorted(bill.left_out.items())),
        "A bill counts GB of 2^30 bytes with 10 decimals, a tenth of a byte: each line is rounded to whole bytes. "
        f"That moves the sum by {bill.rounding:.3f} bytes.",
    ]
    told += named_sentences(found, bill)
    if found.apart:
        told.append(f"No bill shows, and no difference is: {_listed(found.apart)}.")
    if found.own:
        told.append(f"Metered under usage types that are none of AWS's: {_listed(found.own)}.")
    return told


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {exact_and_size(size)}" for name, size in sorted(sizes.items()))
