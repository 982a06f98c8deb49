"""`/v1/freshness`: the time up to which counts are complete, what holds it back, and what was last proved."""

from __future__ import annotations

from metering.api import parameters as words
from metering.api.asking import Asked, Reply, Resource
from metering.api.openapi import HELD_BACK, TIME, Schema, each, integer, mapping, maybe, record, text
from metering.wiring.answers.freshness import freshness_of


def _freshness(asked: Asked) -> Reply:
    return Reply(answer=freshness_of(asked.parts.regions, now_s=asked.now_s, in_full=asked.sees_all))


_STATE: Schema = {"complete_through": TIME, "held_back_by": HELD_BACK}
_RECONCILIATION = record(
    {"finished": TIME, **each(integer(), "hours differences waiting"), "waiting_since": maybe(TIME)}
)
_CANARY = record({"verdict": text(16), "settled": TIME, "last_good": maybe(TIME)})
_REGION = record(_STATE, reconciliation=maybe(_RECONCILIATION), canary=maybe(_CANARY))
FRESHNESS = Resource(
    path="/v1/freshness",
    name="freshness",
    about="Up to when everything that was sent is counted, what holds that back, and for staff what was last proved.",
    answer=_freshness,
    parameters=(words.FORMAT,),
    schema=record({"as_of": TIME, **_STATE, "regions": mapping(_REGION)}),
)
RESOURCES = (FRESHNESS,)
