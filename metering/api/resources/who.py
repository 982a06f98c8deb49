"""`/v1/who`: whose workloads move the bytes, the same as `metering who`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from metering.api import openapi
from metering.api import parameters as words
from metering.api.asking import Asked, Reply, Resource
from metering.api.paging import page_of, position_of, range_of, refuse_pages_of_ranked
from metering.api.resources.cost import (
    BOOK,
    PRICES,
    afford_partitions,
    month_budget,
    note_hours,
    rated_together,
)
from metering.errors import OperationFailedError
from metering.reports.costs.rows import CostQuery
from metering.reports.query import WHO_COLUMNS, WHO_FILTERS
from metering.reports.who import WhoParameters, WhoQuery

if TYPE_CHECKING:
    from metering.billing.owners import Owners
    from metering.wiring.answers.who import Prices


def _who(asked: Asked) -> Reply:
    # Causes are summed by Arrow, which is imported at the first such request.
    from metering.wiring.answers.who import who_of

    accounts = asked.accounts()
    position = position_of(asked, accounts, fixed=2)
    given, limits = asked.given, asked.parts.limits
    refuse_pages_of_ranked(asked)
    parameters = WhoParameters(
        start=given.text("from"), end=given.text("to"), last=given.text("last"), zone=given.text("tz"),
        group_by=given.text("group_by"), filters=given.filters(WHO_FILTERS, accounts), top=given.number("top"),
        cost=given.flag("cost"), budget=month_budget(asked) if given.flag("cost") else limits,
    )  # fmt: skip
    query = parameters.who_query(now_s=asked.now_s)
    if position.fixed:
        from_s, to_s = range_of(position, whole_hours=True)
        query = replace(query, usage=replace(query.usage, from_s=from_s, to_s=to_s))
    asked.afford(query.usage, parameters.budget)
    prices = _prices(asked, query) if query.cost else None
    answer = who_of(
        asked.parts.regions, query, owners=_owners(asked, query), closed=_closed(asked, query),
        now_s=asked.now_s, complete=asked.complete,
        everywhere=asked.parts.everywhere is not None, granted=asked.grant.accounts, most=limits.summed_rows,
        most_rows=limits.cause_rows, meter=asked.reading,
        prices=prices, by_name=given.text("limit") is not None or given.text("cursor") is not None,
    )  # fmt: skip
    return page_of(answer, asked, accounts, position, key=query.columns, fixed=(query.usage.from_s, query.usage.to_s))


def _prices(asked: Asked, query: WhoQuery) -> Prices:
    from metering.wiring.answers.who import Prices

    billing, book = rated_together(asked, CostQuery(usage=query.usage))
    return Prices(
        billing=billing, book=book, now_s=asked.now_s, progress=lambda: nullcontext(partial(note_hours, asked)),
        most_partitions=asked.parts.limits.partitions, on_partitions=partial(afford_partitions, asked),
    )  # fmt: skip


def _owners(asked: Asked, query: WhoQuery) -> Owners:
    from metering.billing.owners import Owners
    from metering.wiring.answers.who import owners_of

    if not query.names_owners:
        return Owners()
    if asked.parts.home is None:
        raise OperationFailedError(
            "Owners are not known here: the home region has their book.",
            "Ask there, or leave the owner out: group_by=workload,destination",
        )
    return owners_of(asked.parts.home(), asked.given.number("owners"))


def _closed(asked: Asked, query: WhoQuery) -> dict[str, Owners]:
    from metering.wiring.answers.who import closed_owners

    if not query.names_owners or asked.parts.home is None or asked.given.number("owners") is not None:
        return {}
    return closed_owners(asked.parts.home(), query.usage, now_s=asked.now_s)


OWNERS = words.Parameter(
    name="owners",
    about="Version of the book of owners. Default: the newest; of closed months, theirs.",
    kind="integer",
    maximum=10**8,
    example="7",
)  # fmt: skip
COST = words.Parameter(name="cost", about="Also what the bytes cost, exactly.", kind="flag", example="true")
GROUP_BY = words.columns(
    "group_by",
    WHO_COLUMNS,
    about="Columns of the answer, with commas between them; the usage type is always one. Default: "
    "owner,workload,destination; or resource, if nothing else is asked.",
    most=len(WHO_COLUMNS),
    example="owner,workload",
)
TOP = replace(words.TOP, about="Only the first rows of each usage type; its other rows become one. Of resources: 10.")
_COLUMNS: openapi.Schema = {
    name: openapi.maybe(openapi.text(512)) for name in WHO_COLUMNS if name not in {"usage_type"}
}
_USD: openapi.Schema = {"cost_usd": openapi.maybe(openapi.MONEY)}
_OF_TYPE: openapi.Schema = {"usage_type": openapi.text(128), "bytes": openapi.BYTES}
_BASES: openapi.Schema = dict.fromkeys(("told", "seen", "inventory", "split", "rule"), openapi.BYTES)
WHO = Resource(
    path="/v1/who",
    name="who",
    about="Whose workloads move the bytes, to where and by which path: exact parts of the usage. Bytes of two usage "
    "types are never added up.",
    answer=_who,
    parameters=(
        *words.SPAN,
        *(words.TZ, GROUP_BY),
        *map(words.filter_parameter, WHO_FILTERS.values()),
        *(OWNERS, COST, PRICES, TOP),
        *words.PAGED,
    ),
    schema=openapi.record(
        {
            "query": {"type": "object"},
            "as_of": openapi.TIME,
            "complete_through": openapi.TIME,
            "held_back_by": openapi.HELD_BACK,
            "periods": openapi.mapping(openapi.text(16)),
            "counted_through": openapi.maybe(openapi.TIME),
            "captured": openapi.maybe(openapi.TIME),
            "owners": openapi.record({"version": openapi.integer()}, closed=openapi.mapping(openapi.integer())),
            "totals": openapi.array(openapi.record({**_OF_TYPE, "unattributed": openapi.BYTES}, **_BASES, **_USD)),
            "unattributed": openapi.array(openapi.record({**_OF_TYPE, "reason": openapi.text(64)})),
            "rows": openapi.array(
                openapi.record(
                    {**_OF_TYPE, "share": openapi.text(16)},
                    **_COLUMNS, **_USD, unpriced_bytes=openapi.BYTES, named_bytes=openapi.BYTES, named=openapi.text(16),
                )
            ),
        },
        next=openapi.CURSOR,
        others=openapi.array(openapi.record({**_OF_TYPE, "rows": openapi.integer()})),
        regions=openapi.array(openapi.text(64), 100),
        currency={"const": "USD"},
        price_book=openapi.maybe(BOOK),
        price_books=openapi.mapping(BOOK),
        method=openapi.text(64),
        total_usd=openapi.maybe(openapi.MONEY),
    ),
)  # fmt: skip
RESOURCES = (WHO,)
