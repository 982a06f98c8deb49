"""The contract's answer to a report of costs."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from metering.billing.money import exact_text, quantity_of, rounded, usd_text
from metering.hours import rfc3339
from metering.reports.answer import KEEP, Answer, Cell, Column, Json
from metering.reports.costs.rows import COST, CostQuery, CostRow, Figures, total_of
from metering.reports.usage_answer import completeness_lines, held_back_document, query_document, title_of
from metering.reports.usage_rows import ordered
from metering.units import GIB, exact_and_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.audit.freshness import Complete
    from metering.billing.invoices.inputs import BookPin
    from metering.reports.costs.source import Costs


_NAMED = 5
"""Usage types without a price that are named."""


def notes_of(
    query: CostQuery,
    costs: Costs,
    *,
    shown: Sequence[Figures],
    rest: int,
    as_of_s: int,
    complete: Complete,
    regions: Sequence[str],
    left_out: Mapping[str, Sequence[str]],
) -> tuple[str, ...]:
    """Lines of text, each a statement of its own.

    Args:
        query: The question.
        costs: The answer.
        shown: Figures of the rows that are printed.
        rest: Number of rows that are one sum.
        as_of_s: When it was asked.
        complete: Time up to which everything that was sent is counted.
        regions: Regions that were rated together.
        left_out: Parts of the service that regions run without.
    """
    total = costs.rows.total
    closed = {plan.month: "closed" if plan.month in costs.closed else "open" for plan in costs.plans}
    return (
        *([f"{len(shown):,} of {len(shown) + rest:,} rows; the last line is the sum of the others."] if rest else []),
        f"Total: {exact_text(total.exact)} USD exactly, for {exact_and_size(total.bytes)}.",
        *_rounding(shown),
        *_corrections(query, total),
        *_without_price(costs, total),
        *_prices(costs),
        *_states(costs),
        *_kept(costs),
        *_scope(query, regions),
        *completeness_lines(query.usage, complete, as_of_s, closed),
        *(f"{region} runs without {', '.join(parts)}." for region, parts in left_out.items()),
    )


def _rounding(shown: Sequence[Figures]) -> Iterator[str]:
    known = [figures for figures in shown if figures.known]
    added, exact = sum(rounded(figures.exact) for figures in known), sum(figures.exact for figures in known)
    difference = added * GIB - exact
    if difference:
        yield (
            f"Costs are exact sums rounded half up to 10 decimals. As printed, the rows add up to {usd_text(added)}, "
            f"which is {exact_text(abs(difference))} USD too {'much' if difference > 0 else 'little'}."
        )


def _corrections(query: CostQuery, total: Figures) -> Iterator[str]:
    if total.late:
        apart = "" if query.usage.with_corrections else " To see them apart: --with-corrections"
        yield (
            f"In the total: {exact_text(total.late)} USD for usage that came late for closed months, at the prices of "
            f"the invoices that book it.{apart}"
        )


def _without_price(costs: Costs, total: Figures) -> Iterator[str]:
    if total.unpriced:
        named = [f"{usage_type} of {service}" for usage_type, service in sorted(costs.rows.unpriced)]
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        yield (
            f"Without a price, and not in the total: {exact_and_size(total.unpriced)} of {len(named)} usage "
            f"types: {', '.join(named[:_NAMED])}{more}. To see them: {_check_of(costs)}"
        )
    if total.unrated:
        yield f"Not sold here by a rule of the price book, so without a cost: {exact_and_size(total.unrated)}."


def _check_of(costs: Costs) -> str:
    """The command that lists what has no price, in the last month and by the book that the cost is of."""
    last = max(costs.plans, key=lambda plan: plan.month, default=None)
    return (
        f"metering prices check --month {last.month} --prices {last.rates.book.name}"
        if last
        else "metering prices check"
    )


def _prices(costs: Costs) -> Iterator[str]:
    seen: dict[str, list[str]] = {}
    for plan in costs.plans:
        seen.setdefault(plan.rates.told, []).append(plan.month)
    for told, months in seen.items():
        yield f"Prices: {told}." if len(seen) == 1 else f"Prices of {', '.join(months)}: {told}."


def _states(costs: Costs) -> Iterator[str]:
    drafts = [month for month, state in costs.periods.items() if state == "draft"]
    invoiced = [month for month, state in costs.periods.items() if state == "invoice"]
    if drafts:
        yield f"{', '.join(drafts)}: a draft, which changes until it is invoiced."
    if invoiced:
        yield f"{', '.join(invoiced)}: as invoiced. Credit notes stand apart: metering invoice list"


def _kept(costs: Costs) -> Iterator[str]:
    for plan in costs.plans:
        for payer_id, kept in sorted(plan.kept.items()):
            yield (
                f"{plan.month}: tiers and allowances by the positions of payer {payer_id} as of {kept.as_of}, and "
                "corrections by this account's late rows alone. To compute all of it now: --exact"
            )


def _scope(query: CostQuery, regions: Sequence[str]) -> Iterator[str]:
    if query.regions:
        yield f"Only usage of {', '.join(sorted(query.regions))}, at the positions of all {len(regions)} regions."
    elif len(regions) > 1:
        yield f"All {len(regions)} regions together, because a payer's tiers count over all: {', '.join(regions)}."


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
