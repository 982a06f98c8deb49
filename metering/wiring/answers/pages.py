"""Reports as pages and files: the page of usage, and the reports of saved questions."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import UTC
from functools import partial
from typing import TYPE_CHECKING

from metering.audit.freshness import Complete, merged
from metering.errors import OperationFailedError
from metering.hours import rfc3339
from metering.ledger.notes.reconciliation import RECONCILIATION_KEY, Reconciliation
from metering.reports.page import (
    TOP_ACCOUNTS,
    Earlier,
    UsagePage,
    answer_page,
    cost_query,
    figures_of,
    page_query,
    query_before,
)
from metering.reports.saved import Made, Question, ReportMaker
from metering.reports.source import naming, report_entries, report_periods
from metering.reports.usage_rows import NotRolledUp, Seen
from metering.stores.writes import Table
from metering.wiring.answers.usage import stored_of, usage_of
from metering.wiring.reports import report_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from metering.reports.costs.rows import CostQuery, CostRows
    from metering.reports.query import UsageQuery
    from metering.reports.source import ReportSource
    from metering.stores.clock import Alerts
    from metering.wiring.answers.costs import BillingRegions, CostsFound
    from metering.wiring.lake import ReadableRegion


def usage_page(
    regions: Sequence[ReadableRegion],
    query: UsageQuery,
    complete: Mapping[str, Complete],
    *,
    now_s: int,
    place: str,
    costs: Callable[[CostQuery], CostsFound],
) -> bytes:
    """The HTML page of a query, with its costs if they are known, and the period before.

    Args:
        regions: The regions whose usage is summed.
        query: The question.
        complete: How far each region is counted.
        now_s: Current time, epoch seconds.
        place: The region, or `all`, as a command names it.
        costs: Answers the same question about costs. A refusal is a line of the page.

    Raises:
        UnavailableError: A region does not answer; the error names the region.
    """
    reconciled: dict[str, Reconciliation | None] = {}
    for region in regions:
        with naming(region.region):
            item = region.items.get(Table.LEDGER, RECONCILIATION_KEY)
            reconciled[region.region] = None if item is None else Reconciliation.from_item(item)
    sources, asked = [report_source(region) for region in regions], page_query(query, now_s=now_s)
    stage, lacks = regions[0].stage, NotRolledUp(asked, Seen(asked))
    rated, refused = _rated(costs, cost_query(query, frozenset() if place == "all" else frozenset({place})))
    page = UsagePage(
        stage=stage,
        query=query,
        figures=figures_of(report_entries(sources, asked, now_s=now_s, lacks=lacks), asked, now_s=now_s),
        lacks=lacks,
        as_of_s=now_s,
        complete=merged(complete),
        by_region=complete,
        reconciled=reconciled,
        periods=report_periods(sources, query, now_s=now_s),
        command=_command(query, place, stage),
        accounts=query.top or TOP_ACCOUNTS,
        earlier=_earlier(sources, query, now_s=now_s),
        costs=rated,
        no_costs=refused,
    )  # fmt: skip
    return page.html().encode()


def _rated(costs: Callable[[CostQuery], CostsFound], query: CostQuery) -> tuple[CostRows | None, str]:
    try:
        return costs(query).costs.rows, ""
    except OperationFailedError as error:
        return None, f"Without costs. {error.reason}"


def _earlier(sources: Sequence[ReportSource], query: UsageQuery, *, now_s: int) -> Earlier | None:
    """Usage of the period before; None if there was none, or its rows are gone."""
    before, name = query_before(query)
    asked = page_query(before, now_s=now_s)
    # Both periods have the same steps.
    asked = replace(asked, group_by=(page_query(query, now_s=now_s).group_by[0], *asked.group_by[1:]), now=False)
    try:
        figures = figures_of(report_entries(sources, asked, now_s=now_s), asked, now_s=now_s)
    except OperationFailedError:
        return None
    values = [each.bytes for each in figures.trend.values()]
    return Earlier(name=name, values=values) if sum(values) > 0 else None


def _command(query: UsageQuery, place: str, stage: str) -> str:
    """The command that prints the same total as the page."""
    words = ["metering", "report", "usage", "--region", place, "--stage", stage]
    words += ["--from", rfc3339(query.from_s), "--to", rfc3339(query.to_s)]
    filters = {f"--{name.replace('_', '-')}": values for name, values in query.filters().items()}
    for name, values in filters.items():
        words += [word for value in sorted(values) for word in (name, value)]
    words += ["--tz", str(query.zone)] if query.zone is not UTC else []
    words += ["--with-corrections"] if query.with_corrections else []
    words += ["--now"] if query.now else []
    return shlex.join(words)


def report_maker(region: ReadableRegion, alerts: Alerts, *, bucket: str, home: str | None = None) -> ReportMaker:
    """Build what makes the reports of a region's saved questions. `home` is the stage's home region; default: this."""
    return ReportMaker(
        items=region.items,
        objects=region.objects,
        alerts=alerts,
        clock=region.clock,
        answered=partial(answered, region, home),
        stage=region.stage,
        region=region.region,
        bucket=bucket,
    )


def answered(region: ReadableRegion, home: str | None, question: Question, due_s: int) -> Made:
    """The page and the rows of a question.

    Raises:
        InvalidParametersError: A parameter is invalid.
        OperationFailedError: Costs are not known in one region alone, or the price book does not exist.
        UnavailableError: The region does not answer.
    """
    from metering.reports.answer import encoded_bytes
    from metering.reports.costs.source import BookName
    from metering.wiring.answers.costs import DEFAULT_BOOK, book_named, costs_of, own_billing

    now_s = region.clock.now_ms() // 1_000
    complete = {region.region: stored_of(region)}
    if question.about == "usage":
        query = question.query(due_s)
        answer = usage_of([region], query, now_s=now_s, complete=complete[region.region]).answer

        def costs(asked: CostQuery) -> CostsFound:
            book, billing = BookName(name=DEFAULT_BOOK, version=None, named=False), own_billing(region, home=home)
            return costs_of(billing, asked, book=book, now_s=now_s, complete=complete[region.region])

        page = usage_page([region], query, complete, now_s=now_s, place=region.region, costs=costs)
        return Made(page=page, rows=encoded_bytes(answer, "csv"))
    book = book_named(question.prices or None)
    if book is None:
        raise AssertionError(question.prices)
    billing: BillingRegions = own_billing(region, home=home)
    answer = costs_of(
        billing, question.cost_query(due_s), book=book, now_s=now_s, complete=complete[region.region], exact=True
    ).answer
    return Made(page=answer_page(answer).encode(), rows=encoded_bytes(answer, "csv"))
