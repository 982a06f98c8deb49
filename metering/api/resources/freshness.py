"""`/v1/freshness`: up to when the counts are complete, what holds them back, and what was last proved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.api import openapi
from metering.api import parameters as words
from metering.api.asking import Asked, Reply, Resource
from metering.api.routes import ResourceRouter, router_of
from metering.wiring.answers.freshness import freshness_of

if TYPE_CHECKING:
    from metering.api.parts import ApiParts


def router(parts: ApiParts) -> ResourceRouter:
    """Routes of this resource."""
    return router_of(parts, [FRESHNESS])


def _freshness(asked: Asked) -> Reply:
    return Reply(answer=freshness_of(asked.parts.regions, now_s=asked.now_s, in_full=asked.sees_all))


_STATE: openapi.Schema = {"complete_through": openapi.TIME, "held_back_by": openapi.HELD_BACK}
_RECONCILIATION = openapi.record(
    {
        "finished": openapi.TIME,
        "hours": openapi.integer(),
        "differences": openapi.integer(),
        "waiting": openapi.integer(),
        "waiting_since": openapi.maybe(openapi.TIME),
    }
)
_CANARY = openapi.record(
    {"verdict": openapi.text(16), "settled": openapi.TIME, "last_good": openapi.maybe(openapi.TIME)}
)
_REGION = openapi.record(_STATE, reconciliation=openapi.maybe(_RECONCILIATION), canary=openapi.maybe(_CANARY))
FRESHNESS = Resource(
    path="/v1/freshness",
    name="freshness",
    about="Up to when everything that was sent is counted, what holds that back, and for staff what was last proved.",
    answer=_freshness,
    parameters=(words.FORMAT,),
    schema=openapi.record({"as_of": openapi.TIME, **_STATE, "regions": openapi.mapping(_REGION)}),
)
