"""`/v1/trace` and `/v1/batches`: from a number down to its batches, and one batch whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from metering.api import openapi
from metering.api import parameters as words
from metering.api.asking import Asked, Reply, Resource
from metering.api.paging import page_of, position_of, range_of
from metering.api.parameters import Parameter, ProblemError
from metering.api.routes import ResourceRouter, router_of
from metering.hours import rfc3339
from metering.ledger.notes.access import Role
from metering.reports.answer import Answer, regions_answer
from metering.reports.query import TraceParameters
from metering.reports.time_range import InvalidParametersError, ParameterProblem, time_range
from metering.reports.trace_answer import key_columns, of_page
from metering.units import HOUR_S
from metering.wiring.answers.trace import batch_of, not_found, trace_of

if TYPE_CHECKING:
    from metering.api.parts import ApiParts


def router(parts: ApiParts) -> ResourceRouter:
    """Routes of these resources."""
    return router_of(parts, [TRACE, BATCHES])


def _trace(asked: Asked) -> Reply:
    given, parts = asked.given, asked.parts
    accounts = asked.accounts()
    position = position_of(asked, accounts, fixed=2)
    query = TraceParameters(
        account=",".join(accounts),
        usage_type=given.text("usage_type"),
        service=given.text("service"),
        from_location=given.text("from_location"),
        to_location=given.text("to_location"),
        hour=given.text("hour"),
        start=given.text("from"),
        end=given.text("to"),
        last=given.text("last"),
    ).query(now_s=asked.now_s)
    if position.fixed:
        from_s, to_s = range_of(position, whole_hours=True)
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
    reply = page_of(found.answer, asked, accounts, position, key=key, fixed=(query.from_s, query.to_s))
    if not reply.paged:
        return reply
    return replace(reply, answer=of_page(found.answer, reply.answer.rows, reply.next))


def _batch(asked: Asked) -> Reply:
    batch_id = asked.given.names("id")[0]
    # Without accounts of his own, a holder sees all; the others see the rows of theirs.
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
        # The same whether it never came or has rows of others only.
        detail = " ".join(not_found(asked.parts.regions[0], batch_id))
        raise ProblemError(kind="not-found", status=404, title="Not found", detail=detail)
    return Reply(answer=next(iter(told.values())) if asked.parts.everywhere is None else regions_answer(told))


def _within(asked: Asked) -> tuple[int, int] | None:
    start, end = asked.given.text("from"), asked.given.text("to")
    if start is None and end is None:
        return None
    return time_range(start, end, default_s=(0, asked.now_s + 1), now_s=asked.now_s)


def _refuse_hours(asked: Asked, from_s: int, to_s: int) -> int:
    """How many hours' rows may be read, counted before any is. Those of a closed month are read, too.

    Raises:
        InvalidParametersError: There are more than a request may read.
    """
    budget = asked.parts.limits.budget
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


_ONE_ACCOUNT = replace(words.ACCOUNT, about="The account of the line: exactly one.", most_values=1, required=True)
_ONE_USAGE_TYPE = replace(words.USAGE_TYPE, about="Only this usage type.", most_values=1)
_ONE_SERVICE = replace(words.SERVICE, about="Only this service, by product code.", most_values=1)
_ONE_FROM = replace(words.FROM_LOCATION, about="Only transfers from this location.", most_values=1)
_ONE_TO = replace(words.TO_LOCATION, about="Only transfers to this location.", most_values=1)
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

_FILE = openapi.record(
    {
        "key": openapi.text(1024),
        "staged": {"type": "boolean"},
        "bytes": openapi.BYTES,
        "records": openapi.integer(),
    }
)
_HOUR = openapi.record(
    {
        "hour": openapi.TIME,
        "bytes": openapi.BYTES,
        "records": openapi.integer(-(2**63)),
        "rows_bytes": openapi.BYTES,
        "rows_records": openapi.integer(),
        "equal": {"type": "boolean"},
    },
    region=openapi.text(64),
    files=openapi.array(_FILE),
)
_TRACED_BATCH = openapi.record(
    {
        "batch_id": openapi.text(128),
        "source_id": openapi.text(128),
        "sequence": openapi.maybe(openapi.integer()),
        "bytes": openapi.BYTES,
        "records": openapi.integer(),
        "first_hour": openapi.TIME,
        "last_hour": openapi.TIME,
        "marker": {"type": "string", "enum": ["agrees", "differs", "expired", "missing"]},
    },
    region=openapi.text(64),
)
_COUNT = openapi.integer(-(2**63))
_DIFFERENCE = openapi.record(
    {
        "usage_type": openapi.text(128),
        "service": openapi.text(64),
        "from": openapi.text(128),
        "to": openapi.text(128),
        "hour": openapi.TIME,
        "corrects": openapi.text(25),
        "usage_bytes": openapi.BYTES,
        "usage_records": _COUNT,
        "rows_bytes": openapi.BYTES,
        "rows_records": _COUNT,
    },
    region=openapi.text(64),
)
_LINE = openapi.record(
    {
        "account_id": openapi.ACCOUNT,
        "from": openapi.TIME,
        "to": openapi.TIME,
        "bytes": openapi.BYTES,
        "records": _COUNT,
    },
    usage_type=openapi.text(128),
    service=openapi.text(64),
    from_location=openapi.text(128),
    to_location=openapi.text(128),
)
TRACE = Resource(
    path="/v1/trace",
    name="trace",
    about="What a number of a report is made of: its hours and batches, and three sums that must be equal. A page has "
    "some of the batches, and the sums of all.",
    answer=_trace,
    parameters=(
        _ONE_ACCOUNT,
        _ONE_USAGE_TYPE,
        _ONE_SERVICE,
        _ONE_FROM,
        _ONE_TO,
        HOUR,
        words.FROM,
        words.TO,
        words.LAST,
        words.FORMAT,
        words.LIMIT,
        words.CURSOR,
    ),
    schema=openapi.record(
        {
            "line": _LINE,
            "as_of": openapi.TIME,
            "periods": openapi.mapping(openapi.text(16)),
            "hours": openapi.array(_HOUR),
            "batches": openapi.array(_TRACED_BATCH),
            "sums": openapi.record(
                {"usage": openapi.BYTES, "rows": openapi.BYTES, "markers": openapi.maybe(openapi.BYTES)}
            ),
            "sums_records": openapi.record({"usage": _COUNT, "rows": _COUNT, "markers": openapi.maybe(_COUNT)}),
            "equal": {"type": "boolean"},
            "differences_total": openapi.integer(),
            "differences": openapi.array(_DIFFERENCE, 100),
            "unsettled": openapi.array(openapi.TIME),
            "markers_expired": openapi.integer(),
            "next": openapi.CURSOR,
        },
        regions=openapi.array(openapi.text(64), 100),
    ),
)

_VERDICT = openapi.maybe({"type": "string", "enum": ["accepted", "rejected"]})
_MAYBE_COUNT = openapi.maybe(openapi.integer())
_COUNTS: openapi.Schema = {
    "verdict": _VERDICT,
    "reason": openapi.maybe(openapi.text(64)),
    "records": _MAYBE_COUNT,
    "metered": _MAYBE_COUNT,
    "refused": _MAYBE_COUNT,
}
_COMMIT = openapi.record(
    {"commit_id": openapi.text(128), "state": openapi.maybe(openapi.text(16))},
    created_at=openapi.TIME,
    rolled_up={"type": "boolean"},
    rows=openapi.integer(),
    bytes=openapi.BYTES,
    staging=openapi.text(1024),
)
_CONFLICT = openapi.record(
    {"content_hash": openapi.text(128), "records": openapi.integer()},
    sender=openapi.text(256),
    first_sender=openapi.text(256),
    key=openapi.text(1024),
)
_ENTRY = openapi.record(
    {
        "kind": openapi.text(16),
        "at": openapi.TIME,
        "reasons": openapi.mapping(openapi.integer()),
        "retried_as": openapi.array(openapi.text(128)),
        "became": openapi.text(4_096),
    },
    key=openapi.text(1024),
)
BATCHES = Resource(
    path="/v1/batches",
    name="batches",
    about="The whole story of one batch. A customer sees the rows of its accounts, and nothing if it has none.",
    answer=_batch,
    parameters=(BATCH_ID, _WITHIN_FROM, _WITHIN_TO, words.FORMAT),
    schema=openapi.record(
        {
            "batch_id": openapi.text(128),
            "as_of": openapi.TIME,
            "verdict": _VERDICT,
            "marker": {"type": "string", "enum": ["kept", "expired", "none"]},
            "source_id": openapi.text(128),
            "sequence": _MAYBE_COUNT,
            "decided_at": openapi.maybe(openapi.TIME),
            "hours": openapi.array(_HOUR, 10_000),
            "proof": openapi.maybe(
                openapi.record(
                    {"marker": openapi.maybe(openapi.BYTES), "rows": openapi.BYTES, "equal": {"type": "boolean"}}
                )
            ),
        },
        reason=openapi.maybe(openapi.text(64)),
        records=_MAYBE_COUNT,
        metered=_MAYBE_COUNT,
        refused=_MAYBE_COUNT,
        sender=openapi.text(256),
        content_hash=openapi.maybe(openapi.text(128)),
        hash_version=_MAYBE_COUNT,
        kept_until=openapi.maybe(openapi.TIME),
        commit=openapi.maybe(_COMMIT),
        conflicts=openapi.array(_CONFLICT),
        quarantine=openapi.array(_ENTRY),
        later=openapi.maybe(openapi.record({**_COUNTS, "decided_at": openapi.TIME})),
        retried_as=openapi.array(openapi.record({"batch_id": openapi.text(128), **_COUNTS})),
    ),
)
