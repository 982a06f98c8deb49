"""`/v1/freshness`: up to when the counts are complete, what holds them back, and what was last proved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.api import vocabulary as words
from metering.api.asking import Reply, Resource
from metering.api.openapi import schemas
from metering.api.routes import router_of
from metering.wiring.answers.freshness import freshness_of

if TYPE_CHECKING:
    from metering.api.asking import Asked
    from metering.api.parts import ApiParts
    from metering.api.routes import ResourceRouter


def router(parts: ApiParts) -> ResourceRouter:
    """Routes of this resource."""
    return router_of(parts, [FRESHNESS])


def _freshness(asked: Asked) -> Reply:
    return Reply(answer=freshness_of(asked.parts.regions, now_s=asked.now_s, in_full=asked.sees_all))


_STATE: schemas.Schema = {"complete_through": schemas.TIME, "held_back_by": schemas.HELD_BACK}
_RECONCILIATION = schemas.record(
    {
        "finished": schemas.TIME,
        "hours": schemas.integer(),
        "differences": schemas.integer(),
        "waiting": schemas.integer(),
        "waiting_since": schemas.maybe(schemas.TIME),
    }
)
_CANARY = schemas.record(
    {"verdict": schemas.text(16), "settled": schemas.TIME, "last_good": schemas.maybe(schemas.TIME)}
)
_REGION = schemas.record(_STATE, reconciliation=schemas.maybe(_RECONCILIATION), canary=schemas.maybe(_CANARY))
FRESHNESS = Resource(
    path="/v1/freshness",
    name="freshness",
    about="Up to when everything that was sent is counted, what holds that back, and for staff what was last proved.",
    answer=_freshness,
    parameters=(words.FORMAT,),
    schema=schemas.record({"as_of": schemas.TIME, **_STATE, "regions": schemas.mapping(_REGION)}),
)
