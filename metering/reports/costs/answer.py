"""The contract's answer to a report of costs."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from metering.billing.money import exact_text, quantity_of, rounded, usd_text
from metering.reports.answer import KEEP, ROOMY, Answer, Json, RowType, exact, money, sized
from metering.reports.costs.rows import COST, CostQuery, Figures, total_of
from metering.reports.usage_answer import (
    completeness_lines,
    head_document,
    query_document,
    rows_answer,
    title_of,
)
from metering.reports.usage_rows import Ranked, cut_lines, ordered, ranked
from metering.units import GIB, exact_and_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from metering.audit.freshness import Complete
    from metering.reports.costs.source import Costs


# Usage types without a price that are named.
_NAMED = 5


def _decimal(units: int) -> Decimal:
    return Decimal(usd_text(units))


_FIGURES: RowType[Figures] = RowType(
    sized("bytes", priority=ROOMY),
    money("quantity_gb", of=lambda it: _decimal(quantity_of(it.bytes))),
    # What nothing is known of has no cost: it is not 0.
    money(COST, of=lambda it: _decimal(rounded(it.exact)) if it.known else None, priority=KEEP),
    exact("unpriced_bytes", of=lambda it: it.unpriced),
    exact("unrated_bytes", of=lambda it: it.unrated, priority=ROOMY),
)
_ORDER: Mapping[str, Callable[[Figures], int]] = {
    # A cost that is not known is less than any.
    COST: lambda it: it.exact if it.known else -(10**60),
    "bytes": lambda it: it.bytes,
    "quantity_gb": lambda it: it.bytes,
    "unpriced_bytes": lambda it: it.unpriced,
    "unrated_bytes": lambda it: it.unrated,
}


def _notes(query: CostQuery, costs: Costs, cut: Ranked[Figures], *, regions: Sequence[str]) -> Iterator[str]:
    total = costs.rows.total
    yield from cut_lines(len(cut.rows), cut.rows_total)
    yield f"Total: {exact_text(total.exact)} USD exactly, for {exact_and_size(total.bytes)}."
    yield from _rounding([row.total for row in cut.rows])
    yield from _corrections(query, total)
    yield from _without_price(costs, total)
    yield from _prices(costs)
    yield from _states(costs)
    yield from _kept(costs)
    yield from _scope(query, regions)


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

    `regions` were rated together; `left_out` has parts of the service that regions run without.
    """
    rows = ordered(costs.rows.rows, query.usage, _ORDER)
    cut, usage, left_out = ranked(rows, query.usage, total_of), query.usage, left_out or {}
    closed = {plan.month: "closed" if plan.month in costs.closed else "open" for plan in costs.plans}
    meta: dict[str, Json] = {
        **head_document(_query_document(query), costs.periods, as_of_s=as_of_s, complete=complete),
        "currency": "USD",
        **_books(costs),
        "total_usd": exact_text(costs.rows.total.exact),
        "unpriced": [
            {"service": service, "usage_type": usage_type, "bytes": str(size)}
            for (usage_type, service), size in sorted(costs.rows.unpriced.items())
        ],
        "positions": {payer: kept.as_of for plan in costs.plans for payer, kept in plan.kept.items()},
        "regions": list(regions),
    }
    return rows_answer(
        usage,
        cut,
        _FIGURES,
        meta=meta,
        title=title_of("Cost", usage, as_of_s),
        empty="No usage matches.",
        footer=(
            *_notes(query, costs, cut, regions=regions),
            *completeness_lines(usage, complete, as_of_s, closed, left_out),
        ),
    )


def _query_document(query: CostQuery) -> dict[str, Json]:
    document = query_document(query.usage)
    for name, values in (("payers", query.payers), ("regions", query.regions)):
        if values:
            document[name] = sorted(values)
    return document


def _books(costs: Costs) -> dict[str, Json]:
    pins = {plan.month: plan.rates.book for plan in costs.plans}
    books: dict[str, Json] = {month: {"name": pin.name, "version": pin.version} for month, pin in pins.items()}
    newest = next(reversed(books.values()), None)
    several = len(set(pins.values())) > 1
    return {"price_book": newest, **({"price_books": dict(books)} if several else {})}
