"""`/v1/health` and `/v1/freshness`: whether the service answers, and the time up to which counts are complete."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.api import parameters as words
from metering.api.asking import Asked, Reply, Resource
from metering.api.openapi import HELD_BACK, TIME, Schema, each, integer, mapping, maybe, record, text
from metering.errors import UnavailableError
from metering.ledger.format_version import FORMAT_KEY
from metering.reports.answer import Answer, Column
from metering.stores.writes import Table
from metering.wiring.answers.usage import freshness_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.wiring.lake import ReadableRegion

# Unauthenticated requests cause at most one read of the ledger in this time.
KEPT_MS = 5_000
_OK = Answer(columns=(Column(name="status"),), rows=[{"status": "ok"}], document={"status": "ok"})


def resource() -> Resource:
    """The health resource, with its own cache."""
    return Resource(
        path="/v1/health",
        name="health",
        about="Whether the service answers. It says nothing else, and needs no token.",
        answer=_Health().answer,
        public=True,
        schema={"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]},
    )


@dataclass(slots=True, kw_only=True)
class _Health:
    """Whether the ledgers responded at the last check. Mutable."""

    asked_ms: int | None = None
    trouble: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, asked: Asked) -> Reply:
        now_ms = asked.parts.clock.now_ms()
        stale = self.asked_ms is None or now_ms - self.asked_ms >= KEPT_MS
        # No request waits for another request's read, because a hanging ledger must not block all threads.
        if stale and self.lock.acquire(blocking=False):
            try:
                self.trouble, self.asked_ms = _trouble(asked.parts.regions), now_ms
            finally:
                self.lock.release()
        trouble = "the ledger was not asked yet" if self.asked_ms is None else self.trouble
        if trouble is not None:
            raise UnavailableError("health", trouble, may_have_applied=False)
        return Reply(answer=_OK, kept_s=0)


def _trouble(regions: Iterable[ReadableRegion]) -> str | None:
    try:
        for region in regions:
            region.items.get(Table.LEDGER, FORMAT_KEY)
    except UnavailableError:
        # Unauthenticated callers must not learn which call failed.
        return "a ledger does not answer"
    return None


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
