"""`/v1/health`: whether the service answers. Anyone may ask, so the answer comes from a cache."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from metering.api.asking import Reply, Resource
from metering.errors import UnavailableError
from metering.ledger.format_version import FORMAT_KEY
from metering.reports.answer import Answer, Column
from metering.stores.writes import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from metering.api.asking import Asked
    from metering.wiring.lake import ReadableRegion

# Unauthenticated requests cause at most one read of the ledger in this time.
KEPT_MS = 5_000
_OK = Answer(columns=(Column(name="status"),), rows=[{"status": "ok"}], document={"status": "ok"})


def resource() -> Resource:
    """The resource, with its own cache."""
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
    """Whether the ledgers answered at the last check. Mutable."""

    asked_ms: int | None = None
    trouble: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, asked: Asked) -> Reply:
        now_ms = asked.parts.clock.now_ms()
        stale = self.asked_ms is None or now_ms - self.asked_ms >= KEPT_MS
        # No request waits for another one's read: a hanging ledger must not block all threads.
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
