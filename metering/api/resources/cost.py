"""`/v1/cost`: what usage costs, as `metering cost` answers it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from metering.api import openapi
from metering.api import parameters as words
from metering.api.asking import Asked, Reply, Resource
from metering.api.authentication import effective_accounts
from metering.api.paging import page_of, position_of, range_of, refuse_pages_of_ranked
from metering.api.parameters import Parameter, ParameterFault, problem
from metering.errors import OperationFailedError
from metering.reports.costs.rows import CostParameters, CostQuery
from metering.reports.query import COST_FILTERS
from metering.reports.usage_rows import name_key

if TYPE_CHECKING:
    from metering.reports.answer import Answer
    from metering.reports.costs.source import BookName
    from metering.reports.query import ReadBudget
    from metering.wiring.answers.costs import BillingRegions


def _cost(asked: Asked) -> Reply:
    # The rating code is imported at the first request for costs, so that a process starts faster.
    from metering.wiring.answers.costs import book_named, costs_of

    accounts = asked.accounts()
    position = position_of(asked, accounts, fixed=2)
    query = _query(asked, accounts)
    if position.fixed:
        from_s, to_s = range_of(position, whole_hours=True)
        query = replace(query, usage=replace(query.usage, from_s=from_s, to_s=to_s))
    asked.afford(query.usage, _budget(asked))
    billing = _billing(asked)
    book = book_named(asked.given.text("prices"))
    if book is None:
        raise OperationFailedError("There is no such price book.")
    _refuse_what_tells_of_others(asked, billing, query, book)
    found = costs_of(
        billing,
        query,
        book=book,
        now_s=asked.now_s,
        complete=asked.complete_of(billing.regions),
        progress=lambda: nullcontext(partial(_note_hours, asked)),
        on_partitions=partial(_afford_partitions, asked),
        most_partitions=asked.parts.limits.partitions,
        most_rows=asked.parts.limits.summed_rows,
    )
    answer = found.answer if asked.sees_all else _of_own(found.answer)
    return page_of(
        answer,
        asked,
        accounts,
        position,
        key=query.usage.columns,
        sort_key=name_key(query.usage),
        fixed=(query.usage.from_s, query.usage.to_s),
    )


def _refuse_what_tells_of_others(asked: Asked, billing: BillingRegions, query: CostQuery, book: BookName) -> None:
    """Refuse costs that depend on usage invisible to the caller, before any usage is read.

    The accounts of a payer decide this, and not their usage.
    """
    from metering.wiring.answers.costs import accounts_told_of

    grant = asked.grant
    by_tier = query.has_column("tier")
    if grant.accounts is None or (grant.costs and not by_tier):
        return
    if accounts_told_of(billing, query, book=book, now_s=asked.now_s) <= grant.accounts:
        return
    others = "Tiers are shared by all accounts of a payer, and this token does not see all of them."
    if by_tier:
        detail = f"{others} The column tier would tell what the others use. Leave it out, or ask the operator for a "
        detail += "token that names every account of the payer."
    else:
        detail = (
            f"{others} Costs would tell what the others use. Ask the operator for a token that may see them all the "
        )
        detail += "same, made with: metering token create --costs"
    raise problem(
        "not-granted",
        detail,
        title="Costs are not granted",
        faults=[ParameterFault(parameter="group_by", detail=detail)] if by_tier else [],
    )


def _note_hours(asked: Asked, _region: str, done: int, _of: int) -> None:
    if done:
        asked.reading.hours()


def _afford_partitions(asked: Asked, partitions: int) -> None:
    asked.reading.afford(partitions)
    asked.reading.partitions(partitions)


def _budget(asked: Asked) -> ReadBudget:
    """Budget as for usage, but a month costs the same for any part of its hours, because tiers count over all of it."""
    limits = asked.parts.limits
    return replace(limits, hours=_MONTH_HOURS * limits.months)


def _query(asked: Asked, accounts: frozenset[str]) -> CostQuery:
    given = asked.given
    refuse_pages_of_ranked(asked)
    if given.names("payer"):
        # A payer is an account, too, so the grant applies to it.
        effective_accounts(asked.grant, given.names("payer"), parameter="payer")
    if not asked.sees_all and "payer" in given.names("group_by"):
        detail = "This token does not see who pays. Leave the column payer out."
        raise problem("not-granted", detail, faults=[ParameterFault(parameter="group_by", detail=detail)])
    return CostParameters(
        start=given.text("from"),
        end=given.text("to"),
        last=given.text("last"),
        month=given.text("month"),
        zone=given.text("tz"),
        group_by=given.text("group_by"),
        filters=given.filters(COST_FILTERS, accounts),
        sort=given.text("sort"),
        top=given.number("top"),
        with_corrections=given.flag("with_corrections"),
        budget=_budget(asked),
    ).cost_query(now_s=asked.now_s)


def _billing(asked: Asked) -> BillingRegions:
    if asked.parts.billing is None:
        raise OperationFailedError(
            "Costs are not known here: tiers count over all regions of the stage, and only some are read here.",
            "Ask on the command line: metering cost",
        )
    return asked.parts.billing()


def _of_own(answer: Answer) -> Answer:
    """The answer without ids of payers whose other accounts the caller may not see."""
    return replace(answer, meta={name: value for name, value in answer.meta.items() if name != "positions"})


_MONTH_HOURS = 31 * 24
_SUMS: openapi.Schema = {
    "bytes": openapi.BYTES,
    "quantity_gb": openapi.MONEY,
    "cost_usd": openapi.maybe(openapi.MONEY),
    "unpriced_bytes": openapi.BYTES,
    "unrated_bytes": openapi.BYTES,
}
_BOOK = openapi.record({"name": openapi.text(64), "version": openapi.integer(0)})
PRICES = Parameter(
    name="prices",
    about="Price book, and a version of it: what the usage would cost with it. Default: what the month was invoiced "
    "with, or aws-list as it is in force.",
    words="is not a price book: write it as aws-list, or with a version: aws-list@3.",
    pattern="[a-z0-9][a-z0-9._-]{0,63}(?:@[1-9][0-9]{0,8})?",
    most_chars=80,
    example="aws-list@3",
)
COST = Resource(
    path="/v1/cost",
    name="cost",
    about="What usage costs: exact sums, by the price book in force, or as it was invoiced. Nothing is written.",
    answer=_cost,
    parameters=(
        *words.SPAN,
        *(words.MONTH, words.TZ, words.COST_GROUP_BY),
        *map(words.filter_parameter, COST_FILTERS.values()),
        *(PRICES, words.SORT, words.TOP, words.WITH_CORRECTIONS),
        *words.PAGED,
    ),
    schema=openapi.figures(
        _SUMS,
        currency={"const": "USD"},
        price_book=openapi.maybe(_BOOK),
        total_usd=openapi.MONEY,
        unpriced=openapi.array(
            openapi.record({"service": openapi.text(64), "usage_type": openapi.text(128), "bytes": openapi.BYTES})
        ),
        regions=openapi.array(openapi.text(64), 100),
    ),
)
RESOURCES = (COST,)
