"""The contract's answer to a usage report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.hours import rfc3339
from metering.reports.answer import Answer, Column
from metering.units import billed_gb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.reports.answer import Cell, Json
    from metering.reports.query import UsageQuery
    from metering.reports.usage_rows import UsageRow


def usage_answer(
    query: UsageQuery,
    rows: Sequence[UsageRow],
    *,
    as_of_s: int,
    complete_s: int,
    regions: Sequence[str] = (),
    left_out: Mapping[str, Sequence[str]] | None = None,
) -> Answer:
    """Put the rows of a report into the contract's form.

    Args:
        query: The query that was answered.
        rows: Its rows, sorted.
        as_of_s: When it was asked.
        complete_s: Time up to which everything that was sent is counted.
        regions: The regions that were merged; empty for a report on one region.
        left_out: Parts of the service that regions run without, by region.
    """
    through_s = min(complete_s, as_of_s)
    left_out = left_out or {}
    meta: dict[str, Json] = {
        "query": _query_document(query),
        "as_of": rfc3339(as_of_s),
        "complete_through": rfc3339(through_s),
    }
    if regions:
        meta |= {"regions": list(regions), "left_out": {name: list(parts) for name, parts in left_out.items()}}
    return Answer(
        columns=_columns(query),
        rows=[_row(query, row) for row in rows],
        meta=meta,
        title=f"Usage from {rfc3339(query.from_s)} to {rfc3339(query.to_s)}",
        footer=(
            _total_line(rows),
            f"As of {rfc3339(as_of_s)}, {_completeness(through_s)}.",
            *(f"{region} runs without {', '.join(parts)}." for region, parts in left_out.items()),
        ),
    )


def _completeness(through_s: int) -> str:
    # The watch has to see the ingest queue empty once before it can tell.
    return f"complete through {rfc3339(through_s)}" if through_s > 0 else "and it is not known yet how complete"


def _columns(query: UsageQuery) -> tuple[Column, ...]:
    names = (Column(name=name, kind="time" if name == "hour" else "text") for name in query.columns)
    return (*names, Column(name="bytes", kind="bytes"), Column(name="records", kind="integer"))


def _row(query: UsageQuery, row: UsageRow) -> dict[str, Cell]:
    return {**dict(zip(query.columns, row.values, strict=True)), "bytes": row.total.bytes, "records": row.total.records}


def _total_line(rows: Sequence[UsageRow]) -> str:
    size, records = sum(row.total.bytes for row in rows), sum(row.total.records for row in rows)
    return f"Total: {size:,} bytes = {billed_gb(size):,.3f} GB (2^30 bytes) in {records:,} records."


def _query_document(query: UsageQuery) -> dict[str, Json]:
    document: dict[str, Json] = {
        "from": rfc3339(query.from_s),
        "to": rfc3339(query.to_s),
        "group_by": list(query.group_by),
    }
    filters = {"accounts": query.accounts, "services": query.services, "usage_types": query.usage_types}
    document |= {name: sorted(values) for name, values in filters.items() if values}
    if query.with_corrections:
        document["with_corrections"] = True
    return document
