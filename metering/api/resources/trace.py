"""`/v1/trace` and `/v1/batches`: from a number down to its batches, and one batch whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from metering.api import vocabulary as words
from metering.api.asking import Reply, Resource
from metering.api.grants import Role
from metering.api.openapi import schemas
from metering.api.paging import page_of, position_of, range_of
from metering.api.parameters import Parameter
from metering.api.problems import ProblemError
from metering.api.routes import router_of
from metering.hours import rfc3339
from metering.reports.parameters import InvalidParametersError, ParameterProblem
from metering.reports.regions_answer import regions_answer
from metering.reports.time_range import time_range
from metering.reports.trace.answer import key_columns, of_page
from metering.reports.trace.question import TraceParameters
from metering.units import HOUR_S
from metering.wiring.answers.batches import batch_of, not_found
from metering.wiring.answers.trace import trace_of

if TYPE_CHECKING:
    from metering.api.asking import Asked
    from metering.api.parts import ApiParts
    from metering.api.routes import ResourceRouter
    from metering.reports.answer import Answer


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

_FILE = schemas.record(
    {
        "key": schemas.text(1024),
        "staged": {"type": "boolean"},
        "bytes": schemas.BYTES,
        "records": schemas.integer(),
    }
)
_HOUR = schemas.record(
    {
        "hour": schemas.TIME,
        "bytes": schemas.BYTES,
        "records": schemas.integer(-(2**63)),
        "rows_bytes": schemas.BYTES,
        "rows_records": schemas.integer(),
        "equal": {"type": "boolean"},
    },
    region=schemas.text(64),
    files=schemas.array(_FILE),
)
_TRACED_BATCH = schemas.record(
    {
        "batch_id": schemas.text(128),
        "source_id": schemas.text(128),
        "sequence": schemas.maybe(schemas.integer()),
        "bytes": schemas.BYTES,
        "records": schemas.integer(),
        "first_hour": schemas.TIME,
        "last_hour": schemas.TIME,
        "marker": {"type": "string", "enum": ["agrees", "differs", "expired", "missing"]},
    },
    region=schemas.text(64),
)
_COUNT = schemas.integer(-(2**63))
_DIFFERENCE = schemas.record(
    {
        "usage_type": schemas.text(128),
        "service": schemas.text(64),
        "from": schemas.text(128),
        "to": schemas.text(128),
        "hour": schemas.TIME,
        "corrects": schemas.text(25),
        "usage_bytes": schemas.BYTES,
        "usage_records": _COUNT,
        "rows_bytes": schemas.BYTES,
        "rows_records": _COUNT,
    },
    region=schemas.text(64),
)
_LINE = schemas.record(
    {
        "account_id": schemas.ACCOUNT,
        "from": schemas.TIME,
        "to": schemas.TIME,
        "bytes": schemas.BYTES,
        "records": _COUNT,
    },
    usage_type=schemas.text(128),
    service=schemas.text(64),
    from_location=schemas.text(128),
    to_location=schemas.text(128),
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
    schema=schemas.record(
        {
            "line": _LINE,
            "as_of": schemas.TIME,
            "periods": schemas.mapping(schemas.text(16)),
            "hours": schemas.array(_HOUR),
            "batches": schemas.array(_TRACED_BATCH),
            "sums": schemas.record(
                {"usage": schemas.BYTES, "rows": schemas.BYTES, "markers": schemas.maybe(schemas.BYTES)}
            ),
            "sums_records": schemas.record({"usage": _COUNT, "rows": _COUNT, "markers": schemas.maybe(_COUNT)}),
            "equal": {"type": "boolean"},
            "differences_total": schemas.integer(),
            "differences": schemas.array(_DIFFERENCE, 100),
            "unsettled": schemas.array(schemas.TIME),
            "markers_expired": schemas.integer(),
            "next": schemas.CURSOR,
        },
        regions=schemas.array(schemas.text(64), 100),
    ),
)

_VERDICT = schemas.maybe({"type": "string", "enum": ["accepted", "rejected"]})
_MAYBE_COUNT = schemas.maybe(schemas.integer())
_COUNTS: schemas.Schema = {
    "verdict": _VERDICT,
    "reason": schemas.maybe(schemas.text(64)),
    "records": _MAYBE_COUNT,
    "metered": _MAYBE_COUNT,
    "refused": _MAYBE_COUNT,
}
_COMMIT = schemas.record(
    {"commit_id": schemas.text(128), "state": schemas.maybe(schemas.text(16))},
    created_at=schemas.TIME,
    rolled_up={"type": "boolean"},
    rows=schemas.integer(),
    bytes=schemas.BYTES,
    staging=schemas.text(1024),
)
_CONFLICT = schemas.record(
    {"content_hash": schemas.text(128), "records": schemas.integer()},
    sender=schemas.text(256),
    first_sender=schemas.text(256),
    key=schemas.text(1024),
)
_ENTRY = schemas.record(
    {
        "kind": schemas.text(16),
        "at": schemas.TIME,
        "reasons": schemas.mapping(schemas.integer()),
        "retried_as": schemas.array(schemas.text(128)),
        "became": schemas.text(4_096),
    },
    key=schemas.text(1024),
)
BATCHES = Resource(
    path="/v1/batches",
    name="batches",
    about="The whole story of one batch. A customer sees the rows of its accounts, and nothing if it has none.",
    answer=_batch,
    parameters=(BATCH_ID, _WITHIN_FROM, _WITHIN_TO, words.FORMAT),
    schema=schemas.record(
        {
            "batch_id": schemas.text(128),
            "as_of": schemas.TIME,
            "verdict": _VERDICT,
            "marker": {"type": "string", "enum": ["kept", "expired", "none"]},
            "source_id": schemas.text(128),
            "sequence": _MAYBE_COUNT,
            "decided_at": schemas.maybe(schemas.TIME),
            "hours": schemas.array(_HOUR, 10_000),
            "proof": schemas.maybe(
                schemas.record(
                    {"marker": schemas.maybe(schemas.BYTES), "rows": schemas.BYTES, "equal": {"type": "boolean"}}
                )
            ),
        },
        reason=schemas.maybe(schemas.text(64)),
        records=_MAYBE_COUNT,
        metered=_MAYBE_COUNT,
        refused=_MAYBE_COUNT,
        sender=schemas.text(256),
        content_hash=schemas.maybe(schemas.text(128)),
        hash_version=_MAYBE_COUNT,
        kept_until=schemas.maybe(schemas.TIME),
        commit=schemas.maybe(_COMMIT),
        conflicts=schemas.array(_CONFLICT),
        quarantine=schemas.array(_ENTRY),
        later=schemas.maybe(schemas.record({**_COUNTS, "decided_at": schemas.TIME})),
        retried_as=schemas.array(schemas.record({"batch_id": schemas.text(128), **_COUNTS})),
    ),
)
