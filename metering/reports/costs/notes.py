"""What stands below a table of costs: the exact total, and whatever keeps it from being the last word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.billing.money import exact_text, rounded, usd_text
from metering.reports.usage_answer import completeness_lines
from metering.units import GIB, exact_and_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from metering.audit.held_back import Complete
    from metering.reports.costs.query import CostQuery
    from metering.reports.costs.rows import Figures
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
