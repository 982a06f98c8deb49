"""`/v1/accounts`: the accounts of a month, as `metering accounts` answers them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from zlib import crc32

from metering.api import openapi
from metering.api import parameters as words
from metering.api.asking import FINAL_S, KEPT_S, Asked, Reply, Resource
from metering.api.paging import Key, Position, page_of, position_of, unusable
from metering.api.parameters import Parameter
from metering.reports.accounts import COLUMNS, AccountsNotKeptError, AccountsParameters, AccountsQuery
from metering.reports.query import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.reports.answer import Answer
    from metering.reports.query import Order

_TURNED = str.maketrans("0123456789", "9876543210")


def _accounts(asked: Asked) -> Reply:
    given = asked.given
    accounts = asked.accounts()
    position = position_of(asked, accounts, fixed=2)
    query = AccountsParameters(
        # All pages of a list cover the month in which its first page was read.
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
        # A URL without a month means another month tomorrow.
        kept_s=FINAL_S if final and given.text("month") else KEPT_S,
    )


def _listed(asked: Asked, query: AccountsQuery) -> Answer:
    # Closed months are read from files, whose libraries are imported at the first such request.
    from metering.wiring.answers.accounts import accounts_of

    try:
        return accounts_of(asked.parts.regions, query, now_s=asked.now_s, merged=asked.parts.everywhere is not None)
    except AccountsNotKeptError as error:
        if asked.sees_all:
            raise
        # Days on which other accounts have usage, and commands of the operator, do not concern a customer.
        reason = f"The accounts of {query.month} are not summed."
        raise AccountsNotKeptError(reason, "Ask again in an hour, or ask /v1/usage.") from error


def _figures(asked: Asked, query: AccountsQuery, answer: Answer) -> int:
    """A number that changes with the figures by which pages are sorted; 0 for another order, or without pages."""
    column, given = query.order.column, asked.given
    if column == "account_id" or (given.text("limit") is None and given.text("cursor") is None):
        return 0
    return crc32("\n".join(f"{row['account_id']} {row[column]}" for row in answer.rows).encode())


def _month_of(position: Position) -> str | None:
    """Month of the previous page, such as 202611. A cursor may hold any number, so check the month."""
    return f"{position.fixed[0] // 100:04d}-{position.fixed[0] % 100:02d}" if position.fixed else None


def sort_key_of(order: Order) -> Callable[[Key], Key]:
    """Sort key of rows, as text: longer numbers sort after shorter ones, and inverted digits reverse the order."""

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
_SUMS: openapi.Schema = {"account_id": openapi.ACCOUNT, "bytes": openapi.BYTES, "records": openapi.integer()}
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
            "rows": openapi.array(openapi.record({**_SUMS, "first_hour": openapi.TIME, "last_hour": openapi.TIME})),
        },
        next=openapi.CURSOR,
        rows_total=openapi.integer(),
        others=openapi.maybe(
            openapi.record({"rows": openapi.integer(), "bytes": openapi.BYTES, "records": openapi.integer()})
        ),
        regions=openapi.array(openapi.text(64), 100),
        counted_through=openapi.maybe(openapi.TIME),
        not_counted=openapi.record(
            {"bytes": openapi.BYTES, "records": openapi.integer(), "at_least": {"type": "boolean"}}
        ),
    ),
)  # fmt: skip
RESOURCES = (ACCOUNTS,)
