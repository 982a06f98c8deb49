"""Resources for staff: an hour's figures, saved reports; for operators also producers, quarantine, the reconciler."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from metering.api import authentication, paging
from metering.api import parameters as words
from metering.api.asking import Asked, Reply, Resource, too_large
from metering.api.openapi import BYTES, CURSOR, DELTA, FLAG, TIME, Schema, array, each, integer, maybe, record, text
from metering.api.parameters import Parameter, ProblemError, problem
from metering.reports.answer import Answer, regions_answer
from metering.reports.saved import MOST_QUESTIONS, saved_reports
from metering.reports.time_range import InvalidParametersError, ParameterProblem
from metering.wiring.answers import operators

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.wiring import lake

# One request reads at most this many quarantine entries, and each entry is an S3 object.
MOST_ENTRIES = 1_000


def _hour(asked: Asked) -> Reply:
    _need_whole_region(asked)
    text = asked.given.names("hour")[0]
    try:
        hour_s = int(datetime.strptime(text[:13], "%Y-%m-%dT%H").replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise _no_hour(text, "is not an hour.") from None
    if not asked.parts.limits.first_year <= int(text[:4]) <= datetime.fromtimestamp(asked.now_s, UTC).year + 1:
        raise _no_hour(text, "lies outside the years that can have usage.")
    asked.reading.afford(1)
    asked.reading.hours()
    return Reply(answer=_of_regions(asked, lambda region: operators.hour_of_region(region, hour_s, now_s=asked.now_s)))


def _no_hour(text: str, problem: str) -> InvalidParametersError:
    return InvalidParametersError([ParameterProblem(parameter="hour", value=text, problem=problem)])


def _sources(asked: Asked) -> Reply:
    _need_whole_region(asked)
    gaps, silent = asked.given.flag("gaps"), asked.given.flag("silent")
    return Reply(answer=_of_regions(asked, lambda region: operators.sources_of(region, gaps=gaps, silent=silent)[0]))


def _reconciliation(asked: Asked) -> Reply:
    _need_whole_region(asked)
    return Reply(answer=_of_regions(asked, lambda region: operators.reconciliation_of(region, now_s=asked.now_s)))


def _reports(asked: Asked) -> Reply:
    _need_whole_region(asked)
    return Reply(answer=_of_regions(asked, lambda region: saved_reports(region.items, region.clock)))


def _quarantine(asked: Asked) -> Reply:
    _need_whole_region(asked)
    given = asked.given
    query = operators.refused_query(
        now_s=asked.now_s,
        start=given.text("from"),
        end=given.text("to"),
        reason=given.text("reason"),
        kind=given.text("kind"),
        source=given.text("source"),
    )
    after = _place(asked)
    paged = given.number("limit") is not None or given.text("cursor") is not None
    limit = given.number("limit") or MOST_ENTRIES
    entries = operators.refused_in(asked.parts.regions, query, after=after)
    taken: list[operators.Refused] = []
    last: operators.Refused | None = None
    for looked_at, entry in enumerate(entries):
        if len(taken) == limit or looked_at == MOST_ENTRIES:
            break
        last = entry
        if query.takes(entry.entry):
            taken.append(entry)
    else:
        # All entries were read, so no page follows.
        last = None
    if last is not None and not paged:
        detail = f"There are more than {MOST_ENTRIES:,} entries in this time, and each is an object to read."
        raise too_large(detail, "ask for pages with limit=, ")
    following = None if last is None else _cursor(asked, last)
    answer = operators.refused_answer(asked.parts.regions, taken, everywhere=asked.parts.everywhere is not None)
    if paged:
        answer = replace(answer, meta={**answer.meta, "next": following})
    return Reply(answer=answer, next=following, paged=paged, kept_s=0)


def _place(asked: Asked) -> tuple[int, str, str, str] | None:
    position = paging.position_of(asked, (), fixed=1)
    if position.after is None:
        return None
    if len(position.after) != 3:
        raise _damaged()
    key, batch_id, region = position.after
    return -position.fixed[0], key, batch_id, region


def _damaged() -> ProblemError:
    detail = "The cursor cannot be used. It is damaged."
    return problem("invalid-cursor", detail)


def _cursor(asked: Asked, last: operators.Refused) -> str:
    negative_s, key, batch_id, region = last.place
    return paging.cursor_after(asked, (), (key, batch_id, region), (-negative_s,))


def _of_regions(asked: Asked, ask: Callable[[lake.ReadableRegion], Answer]) -> Answer:
    if asked.parts.everywhere is None:
        return ask(asked.parts.regions[0])
    return regions_answer({region.region: ask(region) for region in asked.parts.regions})


def _need_whole_region(asked: Asked) -> None:
    if not asked.sees_all:
        raise problem("not-granted", "This is about all accounts, and this token sees some of them.")


HOUR = Parameter(
    name="hour",
    about="The hour, by its beginning in UTC: 2026-11-24T13 or 2026-11-24T13:00:00Z.",
    words="is not an hour, such as 2026-11-24T13:00:00Z.",
    pattern="[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}(?::00:00Z)?",
    most_chars=20,
    required=True,
    place="path",
    example="2026-11-24T13:00:00Z",
)
GAPS = Parameter(
    name="gaps", about="Only producers with gaps, or with a number far beyond the one before.", kind="flag"
)
SILENT = Parameter(name="silent", about="Only producers that sent nothing for a day.", kind="flag")
REASON = Parameter(name="reason", about="Only entries with this reason.", choices=operators.REASONS)
KIND = Parameter(name="kind", about="Only entries of this kind.", choices=operators.KINDS)
SOURCE = Parameter(
    name="source",
    about="Only entries of this source_id.",
    words="is not a source.",
    pattern=r"[^\x00-\x1f\x7f-\x9f]{1,128}",
    example="edge-7f3a",
)

_TOTAL = maybe(record({"bytes": BYTES, "records": DELTA}))
_DIFFERENCE = record(
    {
        "between": text(16),
        "odd": maybe(text(8_192)),
        **each(maybe(text(128)), "batch_id usage_type from to"),
        "account_id": maybe(text(12)),
        "service": maybe(text(64)),
        "corrects": maybe(TIME),
        **each(BYTES, "expected_bytes found_bytes"),
        **each(DELTA, "expected_records found_records"),
    }
)
HOURS = Resource(
    path="/v1/hours/{hour}",
    name="hour",
    about="The figures of one hour beside each other: rows, usage and markers. Figures of an hour that is too large to "
    "be compared at once are null.",
    answer=_hour,
    roles=authentication.STAFF,
    parameters=(HOUR, words.FORMAT),
    schema=record(
        {
            **each(TIME, "hour as_of"),
            "period": text(16),
            **each(FLAG, "published compared"),
            **each(maybe(FLAG), "stable agrees"),
            **each(_TOTAL, "rows usage markers"),
            "differences_total": integer(),
            "differences": array(_DIFFERENCE, 100),
        }
    ),
)
_PASS: Schema = {"waiting": integer(), **each(maybe(TIME), "finished waiting_since")}
_SOURCE = record(
    {
        "source_id": text(128),
        "last_seen": TIME,
        "silent": FLAG,
        **each(integer(), "last_sequence missing unlisted_gaps incredible"),
        "gaps": array({"type": "array", "items": integer(), "minItems": 2, "maxItems": 2}, 10_000),
        "incredible_first": maybe(integer()),
    }
)
SOURCES = Resource(
    path="/v1/sources",
    name="sources",
    about="Producers that number their batches: last number, last batch, and numbers that never came. As old as the "
    "reconciler's last full scan.",
    answer=_sources,
    roles=authentication.OPERATORS,
    parameters=(GAPS, SILENT, words.FORMAT),
    schema=record(
        {
            "as_of": maybe(TIME),
            "unkept": integer(),
            "unkept_names": array(text(128), 1_000),
            "reconciliation": maybe(record(_PASS)),
            "rows": array(_SOURCE),
        }
    ),
)
_ENTRY = record(
    {
        **each(text(1024), "batch_id key source"),
        "kind": text(16),
        **each(text(8_192), "reasons retried_as became"),
        "records": integer(),
        "at": TIME,
        "sender": text(256),
    }
)
QUARANTINE = Resource(
    path="/v1/quarantine",
    name="quarantine",
    about="What was refused and why, the newest first. A page can have fewer entries than `limit`, even none, and "
    "still have a next one: follow `next` until it is null.",
    answer=_quarantine,
    roles=authentication.OPERATORS,
    parameters=(words.FROM, words.TO, KIND, REASON, SOURCE, *words.PAGED),
    schema=record({"rows": array(_ENTRY)}, next=CURSOR),
)
RECONCILIATION = Resource(
    path="/v1/reconciliation",
    name="reconciliation",
    about="The result of the reconciler's last pass, which compares markers, usage and rows; no row before its first.",
    answer=_reconciliation,
    roles=authentication.OPERATORS,
    parameters=(words.FORMAT,),
    schema=record(
        {
            "as_of": TIME,
            "rows": array(record({**_PASS, **each(integer(), "hours differences"), "gaps_since": maybe(TIME)}), 1),
        }
    ),
)
REPORTS = Resource(
    path="/v1/reports",
    name="reports",
    about="Saved questions, whose reports are made each day, week or month: each with the report that was last made.",
    answer=_reports,
    roles=authentication.STAFF,
    parameters=(words.FORMAT,),
    schema=record(
        {
            "rows": array(
                record(
                    {
                        "report": text(64),
                        "every": text(16),
                        "last": maybe(text(10)),
                        "state": text(64),
                        "question": text(8_192),
                        "refused": maybe(text(8_192)),
                        "document": maybe(text(1_024)),
                    }
                ),
                MOST_QUESTIONS,
            )
        }
    ),
)
RESOURCES = (HOURS, SOURCES, QUARANTINE, RECONCILIATION, REPORTS)
