"""The contract's answer to a report of costs."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from metering.billing.money import exact_text, quantity_of, rounded, usd_text
from metering.hours import rfc3339
from metering.reports.answer import KEEP, Answer, Column
from metering.reports.costs.notes import notes_of
from metering.reports.costs.query import COST
from metering.reports.costs.rows import total_of
from metering.reports.ranking import ordered
from metering.reports.usage_answer import held_back_document, query_document, title_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from metering.audit.held_back import Complete
    from metering.billing.invoices.inputs import BookPin
    from metering.reports.answer import Cell, Json
    from metering.reports.costs.query import CostQuery
    from metering.reports.costs.rows import CostRow, Figures
    from metering.reports.costs.source import Costs


def cost_answer(
    query: CostQuery,
    costs: Costs,
    *,
    as_of_s: int,
    complete: Complete,
    regions: Sequence[str],
    left_out: Mapping[str, Sequence[str]] | None = None,
) -> Answer:
    """Put the rows of a report into the contract's form.

    Args:
        query: The query that was answered.
        costs: What was found.
        as_of_s: When it was asked.
        complete: Time up to which everything that was sent is counted, and what holds it back.
        regions: The regions that were rated together.
        left_out: Parts of the service that regions run without, by region.
    """
    rows = _in_order(query, costs)
    shown, rest = rows[: query.usage.top], rows[len(rows) if query.usage.top is None else query.usage.top :]
    total = costs.rows.total
    others = None if not rest else total_of(rest)
    return Answer(
        columns=_columns(query),
        rows=[_row(query, row) for row in shown],
        others=_others_row(query, others),
        meta={
            "query": _query_document(query),
            "as_of": rfc3339(as_of_s),
            "complete_through": rfc3339(min(complete.through_s, as_of_s)),
            "held_back_by": held_back_document(complete.held_back_by),
            "periods": dict(costs.periods),
            "currency": "USD",
            **_books(costs),
            "total_usd": exact_text(total.exact),
            "unpriced": _unpriced(costs),
            "positions": {payer: kept.as_of for plan in costs.plans for payer, kept in plan.kept.items()},
            "regions": list(regions),
            **_others_document(query, rows, others),
        },
        title=title_of("Cost", query.usage, as_of_s),
        empty="No usage matches.",
        footer=notes_of(
            query, costs, shown=_figures(shown), rest=len(rest), as_of_s=as_of_s, complete=complete, regions=regions,
            left_out=left_out or {},
        ),
    )  # fmt: skip


def cells_of(figures: Figures) -> dict[str, Cell]:
    """Figures of a row as they are printed. What nothing is known of has no cost: it is not 0."""
    return {
        "bytes": figures.bytes,
        "quantity_gb": _decimal(quantity_of(figures.bytes)),
        COST: _decimal(rounded(figures.exact)) if figures.known else None,
        "unpriced_bytes": figures.unpriced,
        "unrated_bytes": figures.unrated,
    }


def _figures(rows: Sequence[CostRow]) -> list[Figures]:
    return [row.figures for row in rows]


def _in_order(query: CostQuery, costs: Costs) -> list[CostRow]:
    def cost(row: CostRow) -> int:
        # A cost that is not known is less than any.
        return row.figures.exact if row.figures.known else -(10**60)

    return ordered(
        costs.rows.rows,
        query.usage,
        {
            COST: cost,
            "bytes": lambda row: row.figures.bytes,
            "quantity_gb": lambda row: row.figures.bytes,
            "unpriced_bytes": lambda row: row.figures.unpriced,
            "unrated_bytes": lambda row: row.figures.unrated,
        },
    )


def _columns(query: CostQuery) -> tuple[Column, ...]:
    names = (
        Column(
            name=name,
            kind="time" if name == "hour" else "text",
            text="prose" if name == "tier" else "copied",
            priority=KEEP,
        )
        for name in query.usage.columns
    )
    sums = (
        Column(name="bytes", kind="bytes", priority=3),
        Column(name="quantity_gb", kind="money"),
        Column(name=COST, kind="money", priority=KEEP),
        Column(name="unpriced_bytes", kind="bytes", sized=False),
        Column(name="unrated_bytes", kind="bytes", sized=False, priority=3),
    )
    return (*names, *sums)


def _row(query: CostQuery, row: CostRow) -> dict[str, Cell]:
    named: dict[str, Cell] = dict(zip(query.usage.columns, row.values, strict=True))
    return named | cells_of(row.figures)


def _others_row(query: CostQuery, others: Figures | None) -> dict[str, Cell] | None:
    if others is None:
        return None
    named = next((name for name in query.usage.columns if name != "hour"), None)
    label: dict[str, Cell] = {} if named is None else {named: "others"}
    return label | cells_of(others)


def _others_document(query: CostQuery, rows: Sequence[CostRow], others: Figures | None) -> dict[str, Json]:
    if query.usage.top is None:
        return {}
    sums: dict[str, Json] | None = None
    if others is not None:
        cells = cells_of(others)
        sums = {"rows": len(rows) - query.usage.top}
        sums |= {name: None if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)
                 for name, value in cells.items()}  # fmt: skip
    return {"rows_total": len(rows), "others": sums}


def _query_document(query: CostQuery) -> dict[str, Json]:
    document = query_document(query.usage)
    for name, values in (("payers", query.payers), ("regions", query.regions)):
        if values:
            document[name] = sorted(values)
    return document


def _books(costs: Costs) -> dict[str, Json]:
    """The book of the newest month; and that of each month, if there are several."""
    books = {plan.month: _book(plan.rates.book) for plan in costs.plans}
    newest = next(reversed(books.values()), None)
    several = len({plan.rates.book for plan in costs.plans}) > 1
    return {"price_book": newest, **({"price_books": dict(books)} if several else {})}


def _book(pin: BookPin) -> dict[str, Json]:
    return {"name": pin.name, "version": pin.version}


def _unpriced(costs: Costs) -> list[Json]:
    return [
        {"service": service, "usage_type": usage_type, "bytes": str(size)}
        for (usage_type, service), size in sorted(costs.rows.unpriced.items())
    ]


def _decimal(units: int) -> Decimal:
    return Decimal(usd_text(units))
