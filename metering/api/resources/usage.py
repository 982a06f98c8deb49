"""`/v1/usage`: exact totals, the same as those of `metering report usage`."""

from dataclasses import replace

from metering.api import openapi
from metering.api import parameters as words
from metering.api.asking import Asked, Reply, Resource
from metering.api.paging import Position, kept_s, page_of, position_of, range_of, refuse_pages_of_ranked
from metering.reports import usage_rows
from metering.reports.query import FILTERS, UsageParameters, UsageQuery
from metering.wiring.answers.usage import final_key, usage_of


def _usage(asked: Asked) -> Reply:
    accounts = asked.accounts()
    position = position_of(asked, accounts, fixed=2)
    query, parts = _query(asked, accounts, position), asked.parts
    asked.afford(query)
    found = usage_of(
        parts.regions,
        query,
        now_s=asked.now_s,
        complete=asked.complete,
        named_beginning=bool(asked.given.text("from") or asked.given.text("last")),
        everywhere=parts.everywhere,
        only_own=not asked.sees_all,
        most_rows=parts.limits.summed_rows,
        meter=asked.reading,
    )
    return page_of(
        found.answer,
        asked,
        accounts,
        position,
        key=query.columns,
        sort_key=usage_rows.name_key(query),
        fixed=(query.from_s, query.to_s),
        kept_s=kept_s(asked, found.answer.meta),
    )


def _final(asked: Asked) -> str | None:
    accounts = asked.accounts()
    query = _query(asked, accounts, position_of(asked, accounts, fixed=2))
    return final_key(asked.parts.regions, query, now_s=asked.now_s)


def _query(asked: Asked, accounts: frozenset[str], position: Position) -> UsageQuery:
    given = asked.given
    refuse_pages_of_ranked(asked)
    query = UsageParameters(
        start=given.text("from"),
        end=given.text("to"),
        last=given.text("last"),
        zone=given.text("tz"),
        group_by=given.text("group_by"),
        detail=given.text("detail"),
        filters=given.filters(FILTERS, accounts),
        sort=given.text("sort"),
        top=given.number("top"),
        with_corrections=given.flag("with_corrections"),
        now=given.flag("now"),
        budget=asked.parts.limits,
    ).query(now_s=asked.now_s)
    if position.fixed:
        # Later pages keep the range of the first page, whatever `last=7d` means by then.
        from_s, to_s = range_of(position, whole_hours=not query.details)
        return replace(query, from_s=from_s, to_s=to_s)
    return query


_SUMS: openapi.Schema = {"bytes": openapi.BYTES, "records": openapi.integer(-(2**63))}
# Sums over usage types leave processing out, and have it beside. Rows of a usage type have their bytes alone.
_PROCESSED: openapi.Schema = {"processed_bytes": openapi.BYTES}
# Usage of the requested accounts that is not rolled up yet. Null means that too much usage would have to be read.
_WAITING = openapi.record(
    {"bytes": openapi.maybe(openapi.BYTES), "records": openapi.maybe(openapi.integer()), "since": openapi.TIME}
)

USAGE = Resource(
    path="/v1/usage",
    name="usage",
    about="Exact totals of usage, sorted by the columns. A transfer counts in the UTC hour that it started in.",
    answer=_usage,
    final=_final,
    parameters=(
        *words.SPAN,
        *(words.TZ, words.GROUP_BY, words.DETAIL),
        *map(words.filter_parameter, FILTERS.values()),
        *(words.SORT, words.TOP, words.WITH_CORRECTIONS, words.NOW),
        *words.PAGED,
    ),
    schema=openapi.figures(
        _SUMS,
        beside_sums=_PROCESSED,
        sometimes={
            "waiting": _WAITING,
            "sources": openapi.array(openapi.text(16), 5),
            "processing": openapi.array(openapi.text(128)),
        },
    ),
)
RESOURCES = (USAGE,)
