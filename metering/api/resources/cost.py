"""`/v1/cost` and `/v1/accounts`: costs of usage, and a month's accounts, with the same answers as the command line."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from zlib import crc32

from metering.api import authentication, openapi
from metering.api import parameters as words
from metering.api.asking import FINAL_S, KEPT_S, Asked, Reply, Resource
from metering.api.paging import Key, Position, page_of, position_of, range_of, refuse_pages_of_ranked, unusable
from metering.api.parameters import Parameter, ParameterFault, problem
from metering.errors import OperationFailedError
from metering.reports import usage_rows
from metering.reports.accounts import COLUMNS, AccountsNotKeptError, AccountsParameters, AccountsQuery
from metering.reports.costs import rows
from metering.reports.query import ACCOUNT, COST_FILTERS, Order, ReadBudget

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.reports.answer import Answer
    from metering.reports.costs.source import BookName
    from metering.wiring.answers.costs import BillingRegions

_TURNED = str.maketrans("0123456789", "9876543210")


def _accounts(asked: Asked) -> Reply:
    given = asked.given
    accounts = asked.accounts()
    position = position_of(asked, accounts, fixed=2)
    query = AccountsParameters(
        # All pages of a list cover the month in which the first page was read.
        month=given.text("month") or _month_of(position),
        accounts=sorted(accounts),
        prefix=given.text("prefix"),
        sort=given.text("sort"),
        top=given.number("top"),
    ).query(now_s=asked.now_s)
    answer = _listed(asked, query)
    key = ("account_id",) if query.order.column == "account_id" else (query.order.column, "account_id")
    final = answer.meta["periods"] == {query.month: "closed"}
    month_number, figures = int(query.month.replace("-", "")), _figures(asked, query, answer)
    if position.fixed and position.fixed[1] != figures:
        raise unusable(
            "The figures that it sorts by have changed since the first page, and accounts have moved. Begin again, or "
            "sort by account_id; top gives the first rows at once."
        )
    return page_of(
        answer,
        asked,
        accounts,
        position,
        key=key,
        sort_key=sort_key_of(query.order),
        fixed=(month_number, figures),
        # Tomorrow, a URL without a month may refer to another month.
        kept_s=FINAL_S if final and given.text("month") else KEPT_S,
    )


def _listed(asked: Asked, query: AccountsQuery) -> Answer:
    # Closed months are read from files; the libraries for this are imported at the first such request.
    from metering.wiring.answers.accounts import accounts_of

    try:
        return accounts_of(asked.parts.regions, query, now_s=asked.now_s, merged=asked.parts.everywhere is not None)
    except AccountsNotKeptError as error:
        if asked.sees_all:
            raise
        # A customer does not need details about days of other accounts or about the operator's commands.
        reason = f"The accounts of {query.month} are not summed."
        raise AccountsNotKeptError(reason, "Ask again in an hour, or ask /v1/usage.") from error


def _figures(asked: Asked, query: AccountsQuery, answer: Answer) -> int:
    """A checksum of the figures by which pages are sorted; 0 if sorted by account, or without pages."""
    column, given = query.order.column, asked.given
    if column == "account_id" or (given.text("limit") is None and given.text("cursor") is None):
        return 0
    return crc32("\n".join(f"{row['account_id']} {row[column]}" for row in answer.rows).encode())


def _month_of(position: Position) -> str | None:
    """Month of the previous page, such as 202611. A forged cursor may contain any number, so the month is validated."""
    return f"{position.fixed[0] // 100:04d}-{position.fixed[0] % 100:02d}" if position.fixed else None


def sort_key_of(order: Order) -> Callable[[Key], Key]:
    """Sort key of rows, as text: numbers with more digits sort later, and inverted digits reverse the order."""

    def sortable(key: Key) -> Key:
        figure, *account = key
        text = f"{len(figure):06d}{figure}"
        return (text.translate(_TURNED) if order.descending else text, *account)

    return sortable


MONTH = replace(words.MONTH, about="One billing month. Default: the one that runs.")
PREFIX = Parameter(
    name="prefix",
    about="Only accounts whose ids begin so.",
    words="is not the beginning of an account: it has 1 to 12 digits.",
    pattern="[0-9]{1,12}",
    most_chars=12,
    example="1234",
)
SORT = replace(
    words.SORT, about=f"Sort by one of {', '.join(COLUMNS)}; with :desc the largest first. Default: account_id."
)
_ACCOUNT_SUMS: openapi.Schema = {"account_id": openapi.ACCOUNT, "bytes": openapi.BYTES, "records": openapi.integer()}
ACCOUNTS = Resource(
    path="/v1/accounts",
    name="accounts",
    about="The accounts of a month, with their first and last hour: what was in the lake as of `as_of`. The list is "
    "kept, so that it takes one read.",
    answer=_accounts,
    parameters=(
        MONTH, words.filter_parameter(ACCOUNT), PREFIX, SORT, words.TOP, words.FORMAT, words.LIMIT, words.CURSOR,
    ),
    schema=openapi.record(
        {
            "query": openapi.record(
                {"month": openapi.text(7)}, accounts=openapi.array(openapi.ACCOUNT, 100), prefix=openapi.text(12),
                sort=openapi.text(40), top=openapi.integer(1),
            ),
            "month": openapi.text(7),
            "as_of": openapi.TIME,
            "periods": openapi.mapping(openapi.text(16)),
            "rows": openapi.array(
                openapi.record(
                    {
                        **_ACCOUNT_SUMS, "first_hour": openapi.TIME, "last_hour": openapi.TIME,
                        "processed_bytes": openapi.BYTES,
                    }
                )
            ),
        },
        next=openapi.CURSOR,
        rows_total=openapi.integer(),
        others=openapi.maybe(
            openapi.record(
                {
                    "rows": openapi.integer(), "bytes": openapi.BYTES, "records": openapi.integer(),
                    "processed_bytes": openapi.BYTES,
                }
            )
        ),
        regions=openapi.array(openapi.text(64), 100),
        counted_through=openapi.maybe(openapi.TIME),
        not_counted=openapi.record(
            {"bytes": openapi.BYTES, "records": openapi.integer(), "at_least": {"type": "boolean"}}
        ),
    ),
)  # fmt: skip


def _cost(asked: Asked) -> Reply:
    # The rating code is imported at the first request for costs, so that a process starts faster.
    from metering.wiring.answers.costs import costs_of

    accounts = asked.accounts()
    position = position_of(asked, accounts, fixed=2)
    query = _query(asked, accounts)
    if position.fixed:
        from_s, to_s = range_of(position, whole_hours=True)
        query = replace(query, usage=replace(query.usage, from_s=from_s, to_s=to_s))
    asked.afford(query.usage, month_budget(asked))
    billing, book = rated_together(asked, query)
    found = costs_of(
        billing,
        query,
        book=book,
        now_s=asked.now_s,
        complete=asked.complete_of(billing.regions),
        progress=lambda: nullcontext(partial(note_hours, asked)),
        on_partitions=partial(afford_partitions, asked),
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
        sort_key=usage_rows.name_key(query.usage),
        fixed=(query.usage.from_s, query.usage.to_s),
    )


def rated_together(asked: Asked, query: rows.CostQuery) -> tuple[BillingRegions, BookName]:
    """The regions and the price book of costs.

    Raises:
        OperationFailedError: Costs are not known here, or there is no such price book.
        ProblemError: 403, the costs would tell what other accounts use.
    """
    from metering.wiring.answers.costs import book_named

    billing = _billing(asked)
    book = book_named(asked.given.text("prices"))
    if book is None:
        raise OperationFailedError("There is no such price book.")
    _refuse_what_tells_of_others(asked, billing, query, book)
    return billing, book


def _refuse_what_tells_of_others(asked: Asked, billing: BillingRegions, query: rows.CostQuery, book: BookName) -> None:
    """Refuse costs that depend on usage that the caller may not see, before any usage is read.

    The refusal depends on a payer's accounts, not on their usage.
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


def note_hours(asked: Asked, _region: str, done: int, _of: int) -> None:
    """Count hours that rating has read."""
    if done:
        asked.reading.hours()


def afford_partitions(asked: Asked, partitions: int) -> None:
    """Charge and count partitions that rating is about to read."""
    asked.reading.afford(partitions)
    asked.reading.partitions(partitions)


def month_budget(asked: Asked) -> ReadBudget:
    """Budget as for usage, but any part of a month costs as much as the whole, because tiers count over the month."""
    limits = asked.parts.limits
    return replace(limits, hours=_MONTH_HOURS * limits.months)


def _query(asked: Asked, accounts: frozenset[str]) -> rows.CostQuery:
    given = asked.given
    refuse_pages_of_ranked(asked)
    if given.names("payer"):
        # A payer is an account, too, so the grant applies to it.
        authentication.effective_accounts(asked.grant, given.names("payer"), parameter="payer")
    if not asked.sees_all and "payer" in given.names("group_by"):
        detail = "This token does not see who pays. Leave the column payer out."
        raise problem("not-granted", detail, faults=[ParameterFault(parameter="group_by", detail=detail)])
    return rows.CostParameters(
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
        budget=month_budget(asked),
    ).cost_query(now_s=asked.now_s)


def _billing(asked: Asked) -> BillingRegions:
    if asked.parts.billing is None:
        raise OperationFailedError(
            "Costs are not known here: tiers count over all regions of the stage, and only some are read here.",
            "Ask on the command line: metering cost",
        )
    return asked.parts.billing()


def _of_own(answer: Answer) -> Answer:
    """The answer without `positions`: they name payers whose other accounts the caller may not see."""
    return replace(answer, meta={name: value for name, value in answer.meta.items() if name != "positions"})


_MONTH_HOURS = 31 * 24
_SUMS: openapi.Schema = {
    "bytes": openapi.BYTES,
    "quantity_gb": openapi.MONEY,
    "cost_usd": openapi.maybe(openapi.MONEY),
    "unpriced_bytes": openapi.BYTES,
    "unrated_bytes": openapi.BYTES,
}
BOOK = openapi.record({"name": openapi.text(64), "version": openapi.integer(0)})
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
        price_book=openapi.maybe(BOOK),
        total_usd=openapi.MONEY,
        unpriced=openapi.array(
            openapi.record({"service": openapi.text(64), "usage_type": openapi.text(128), "bytes": openapi.BYTES})
        ),
        regions=openapi.array(openapi.text(64), 100),
    ),
)
RESOURCES = (COST, ACCOUNTS)
