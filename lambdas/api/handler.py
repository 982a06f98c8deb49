"""Answers one request of an HTTP API or of a function URL: both send the same event (payload format 2.0)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, NamedTuple, cast

from mangum import Mangum

from lambdas.start import Started, starting
from metering.api.app import build
from metering.api.authentication import Grant, LedgerTokens, Limits
from metering.api.parts import ApiParts, LedgerLarge, RequestFigures, RequestLog
from metering.api.people import SignIn, inside
from metering.metric_names import API_FAILED_PERMILLE, API_READS, API_REQUESTS, API_SLOW_PERMILLE, API_UNAUTHORIZED
from metering.wiring.region import ReaderParts

if TYPE_CHECKING:
    from mangum.types import LambdaContext as MangumContext
    from mangum.types import LambdaEvent
    from starlette.types import ASGIApp

    from metering.adapters.aws.runtime import LambdaContext
    from metering.stores.clock import Clock
    from metering.wiring.answers.costs import BillingRegions

# Content types of unencoded text. Any other body, and any compressed body, passes the gateway as base64.
_TEXT = ("text/", "application/json", "application/problem+json", "application/x-ndjson", "image/svg+xml")
_FAILED = 500
_UNAUTHORIZED = 401
# Requests are measured after a cold start, which Lambda's `Duration` includes.
_SLOW_MS = 2_000


class Serving(NamedTuple):
    """The application, and the clock of its region."""

    app: ASGIApp
    clock: Clock


@dataclass
class _Tokens:
    """`Tokens` of the function's region. The first request opens the ledger, so an unavailable ledger gives a 503."""

    region: ReaderParts

    @cached_property
    def _ledger(self) -> LedgerTokens:
        return LedgerTokens(items=self.region.items, clock=self.region.clock)

    def grant_of(self, token: str) -> Grant | None:
        return self._ledger.grant_of(token)


def _billing(parts: ReaderParts) -> BillingRegions:
    # The rating code is imported by the first request for costs.
    from metering.wiring.answers.costs import own_billing

    return own_billing(parts, home=parts.names.home_region or None)


def _serving(parts: ReaderParts, _metrics: object) -> Serving:
    # Mangum's info lines contain the path, and a path may contain a secret pasted by mistake.
    logging.getLogger("mangum").setLevel(logging.WARNING)
    app = build(
        ApiParts(
            regions=[parts],
            tokens=_Tokens(parts),
            limits=Limits(),
            clock=parts.clock,
            home=(lambda: parts) if parts.names.home_region in {"", parts.region} else None,
            billing=partial(_billing, parts),
            people=SignIn.from_text(parts.names.sign_in) if parts.names.sign_in else None,
            large=LedgerLarge(items=lambda: parts.items),
        )
    )
    return Serving(app=app, clock=parts.clock)


dependencies = starting("api", ReaderParts, _serving)


def handler(event: LambdaEvent, context: LambdaContext) -> dict[str, object]:
    """Answer one request."""
    return handle(event, context, dependencies())


def handle(event: LambdaEvent, context: LambdaContext, parts: Started[Serving]) -> dict[str, object]:
    """Do the work of `handler` with injected dependencies; tests call this function."""

    def tell(figures: RequestFigures) -> None:
        _count(figures, parts)
        parts.logger.info("request answered", extra=figures.fields())

    app = RequestLog(parts.work.app, tell=tell, clock=parts.work.clock)
    asked = cast("LambdaEvent", inside(event))
    # A new event loop per request costs 0.2 ms, and ends everything that the request left behind.
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        answer = Mangum(app, lifespan="off", text_mime_types=[*_TEXT])(asked, cast("MangumContext", context))
    return cast("dict[str, object]", answer)


def _count(figures: RequestFigures, parts: Started[Serving]) -> None:
    parts.metrics.count(API_REQUESTS)
    # Counted for every request, so that the average of the metric is the share of failed, or slow, requests.
    parts.metrics.count(API_FAILED_PERMILLE, 1_000 if figures.status >= _FAILED else 0)
    parts.metrics.count(API_SLOW_PERMILLE, 1_000 if figures.ms >= _SLOW_MS else 0)
    # A metric without data points costs nothing.
    if figures.status == _UNAUTHORIZED:
        parts.metrics.count(API_UNAUTHORIZED)
    if reads := figures.partitions + figures.hours:
        parts.metrics.count(API_READS, reads)
    parts.metrics.flush()
