"""`/v1/trace` and `/v1/batches`: the batches behind a figure, and one batch in full."""

from dataclasses import replace

from metering.api import paging
from metering.api import parameters as words
from metering.api.asking import Asked, Reply, Resource
from metering.api.openapi import (
    ACCOUNT,
    BYTES,
    CURSOR,
    DELTA,
    FLAG,
    REGION,
    TIME,
    Schema,
    array,
    each,
    integer,
    mapping,
    maybe,
    record,
    text,
)
from metering.api.parameters import Parameter, problem
from metering.hours import rfc3339
from metering.ledger.notes.access import Role
from metering.reports.answer import Answer, regions_answer
from metering.reports.query import FILTERS, LINE_FILTERS, TraceParameters
from metering.reports.time_range import InvalidParametersError, ParameterProblem, time_range
from metering.reports.trace import key_columns, of_page
from metering.units import HOUR_S
from metering.wiring.answers.trace import batch_of, not_found, trace_of


def _trace(asked: Asked) -> Reply:
    given, parts = asked.given, asked.parts
    accounts = asked.accounts()
    position = paging.position_of(asked, accounts, fixed=2)
    query = TraceParameters(
        account=",".join(accounts),
        filters={name: given.text(name) for name in LINE_FILTERS},
        hour=given.text("hour"),
        start=given.text("from"),
        end=given.text("to"),
        last=given.text("last"),
    ).query(now_s=asked.now_s)
    if position.fixed:
        from_s, to_s = paging.range_of(position, whole_hours=True)
        query = replace(query, from_s=from_s, to_s=to_s)
    hours = _refuse_hours(asked, query.from_s, query.to_s)
    asked.reading.afford((hours + len(list(query.months(now_s=asked.now_s)))) * len(parts.regions))
    everywhere = parts.everywhere is not None
    found = trace_of(
        parts.regions,
        query,
        now_s=asked.now_s,
        everywhere=everywhere,
        with_files=asked.grant.role is Role.OPERATOR,
        meter=asked.reading,
    )
    key = key_columns(everywhere=everywhere)
    reply = paging.page_of(found.answer, asked, accounts, position, key=key, fixed=(query.from_s, query.to_s))
    if not reply.paged:
        return reply
    return replace(reply, answer=of_page(found.answer, reply.answer.rows, reply.next))


def _batch(asked: Asked) -> Reply:
    batch_id = asked.given.names("id")[0]
    # A token without accounts sees all rows; other tokens see the rows of their accounts.
    accounts = asked.accounts()
    within_s = _within(asked)
    if within_s is not None:
        _refuse_hours(asked, *within_s)
    told: dict[str, Answer] = {}
    for region in asked.parts.regions:
        answer = batch_of(
            region,
            batch_id,
            now_s=asked.now_s,
            within_s=within_s,
            role=asked.grant.role,
            accounts=accounts,
            afford=asked.reading.afford,
            meter=asked.reading,
        )
        if answer is not None:
            told[region.region] = answer
    if not told:
        # The message is the same whether the batch never arrived or has only rows of other accounts.
        detail = " ".join(not_found(asked.parts.regions[0], batch_id))
        raise problem("not-found", detail)
    return Reply(answer=next(iter(told.values())) if asked.parts.everywhere is None else regions_answer(told))


def _within(asked: Asked) -> tuple[int, int] | None:
    start, end = asked.given.text("from"), asked.given.text("to")
    if start is None and end is None:
        return None
    return time_range(start, end, default_s=(0, asked.now_s + 1), now_s=asked.now_s)


def _refuse_hours(asked: Asked, from_s: int, to_s: int) -> int:
    """Number of hours whose rows may be read, counted before reading. The hours of a closed month also count."""
    budget = asked.parts.limits
    problems = budget.of_range(from_s, to_s, now_s=asked.now_s)
    hours = max(-(-(min(to_s, asked.now_s + HOUR_S) - from_s) // HOUR_S), 0)
    if not problems and hours > budget.hours:
        problem = (
            f"is the beginning of a range with {hours:,} hours whose rows are read, and {budget.hours} are the most."
        )
        advice = "Ask for a shorter range, or type it: metering trace."
        problems = [ParameterProblem(parameter="from", value=rfc3339(from_s), problem=problem, advice=advice)]
    if problems:
        raise InvalidParametersError(problems)
    return hours


_ONE_ACCOUNT = replace(words.filter_parameter(FILTERS["account"], one=True), required=True)
_FILTERS = [words.filter_parameter(each, one=True) for each in LINE_FILTERS.values()]
HOUR = Parameter(
    name="hour",
    about="One full hour, by its beginning, in place of a range.",
    words="is not the beginning of an hour, such as 2026-11-24T13:00:00Z.",
    pattern="[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:00(?::00)?(?:Z|[+-][0-9]{2}:[0-9]{2})",
    most_chars=25,
    example="2026-11-24T13:00:00Z",
)
BATCH_ID = Parameter(
    name="id",
    about="Id of the batch.",
    words="is not a batch id: it has 1 to 128 of A-Za-z0-9._:/-.",
    pattern="[A-Za-z0-9._:/-]{1,128}",
    required=True,
    example="edge-7f3a-000184",
)
_WITHIN_FROM = replace(
    words.FROM, about="Look for its rows from here on, if its marker has expired; see the detail of a 404."
)
_WITHIN_TO = replace(words.TO, about="Look for its rows up to here; not included. Default: the end of `from`, or now.")

_FILE = record({"key": text(1024), "staged": FLAG, "bytes": BYTES, "records": integer()})
_HOUR = record(
    {"hour": TIME, "bytes": BYTES, "records": DELTA, "rows_bytes": BYTES, "rows_records": integer(), "equal": FLAG},
    **REGION,
    files=array(_FILE),
)
_TRACED_BATCH = record(
    {
        **each(text(128), "batch_id source_id"),
        "sequence": maybe(integer()),
        "bytes": BYTES,
        "records": integer(),
        **each(TIME, "first_hour last_hour"),
        "marker": {"type": "string", "enum": ["agrees", "differs", "expired", "missing"]},
    },
    **REGION,
)
_DIFFERENCE = record(
    {
        "usage_type": text(128),
        "service": text(64),
        **each(text(128), "from to"),
        "hour": TIME,
        "corrects": text(25),
        **each(BYTES, "usage_bytes rows_bytes"),
        **each(DELTA, "usage_records rows_records"),
    },
    **REGION,
)
_LINE = record(
    {"account_id": ACCOUNT, **each(TIME, "from to"), "bytes": BYTES, "records": DELTA},
    service=text(64),
    **each(text(128), " ".join(name for name in LINE_FILTERS if name != "service")),
)
TRACE = Resource(
    path="/v1/trace",
    name="trace",
    about="What a number of a report is made of: its hours and batches, and three sums that must be equal. A page has "
    "some of the batches, and the sums of all.",
    answer=_trace,
    parameters=(_ONE_ACCOUNT, *_FILTERS, HOUR, *words.SPAN, *words.PAGED),
    schema=record(
        {
            "line": _LINE,
            "as_of": TIME,
            "periods": mapping(text(16)),
            "hours": array(_HOUR),
            "batches": array(_TRACED_BATCH),
            "sums": record({**each(BYTES, "usage rows"), "markers": maybe(BYTES)}),
            "sums_records": record({**each(DELTA, "usage rows"), "markers": maybe(DELTA)}),
            "equal": FLAG,
            **each(integer(), "differences_total markers_expired"),
            "differences": array(_DIFFERENCE, 100),
            "unsettled": array(TIME),
            "next": CURSOR,
        },
        regions=array(text(64), 100),
    ),
)

_VERDICT = maybe({"type": "string", "enum": ["accepted", "rejected"]})
_TALLY: Schema = {"reason": maybe(text(64)), **each(maybe(integer()), "records metered refused")}
_COMMIT = record(
    {"commit_id": text(128), "state": maybe(text(16))},
    created_at=TIME,
    rolled_up=FLAG,
    rows=integer(),
    bytes=BYTES,
    staging=text(1024),
)
_CONFLICT = record(
    {"content_hash": text(128), "records": integer()}, **each(text(256), "sender first_sender"), key=text(1024)
)
_ENTRY = record(
    {
        "kind": text(16),
        "at": TIME,
        "reasons": mapping(integer()),
        "retried_as": array(text(128)),
        "became": text(4_096),
    },
    key=text(1024),
)
BATCHES = Resource(
    path="/v1/batches",
    name="batches",
    about="The whole story of one batch. A customer sees the rows of its accounts, and nothing if it has none.",
    answer=_batch,
    parameters=(BATCH_ID, _WITHIN_FROM, _WITHIN_TO, words.FORMAT),
    schema=record(
        {
            **each(text(128), "batch_id source_id"),
            "as_of": TIME,
            "verdict": _VERDICT,
            "marker": {"type": "string", "enum": ["kept", "expired", "none"]},
            "sequence": maybe(integer()),
            "decided_at": maybe(TIME),
            "hours": array(_HOUR, 10_000),
            "proof": maybe(record({"marker": maybe(BYTES), "rows": BYTES, "equal": FLAG})),
        },
        **_TALLY,
        sender=text(256),
        content_hash=maybe(text(128)),
        hash_version=maybe(integer()),
        kept_until=maybe(TIME),
        commit=maybe(_COMMIT),
        conflicts=array(_CONFLICT),
        quarantine=array(_ENTRY),
        later=maybe(record({"verdict": _VERDICT, **_TALLY, "decided_at": TIME})),
        retried_as=array(record({"batch_id": text(128), "verdict": _VERDICT, **_TALLY})),
    ),
)
RESOURCES = (TRACE, BATCHES)
