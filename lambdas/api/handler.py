"""Answers one request of an HTTP API or of the function's URL: both send the same event (payload format 2.0)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from mangum import Mangum

from lambdas.api.bootstrap import dependencies
from metering.api.request_log import RequestFigures, RequestLog
from metering.metric_names import API_FAILED_PERMILLE, API_READS, API_REQUESTS, API_SLOW_PERMILLE, API_UNAUTHORIZED

if TYPE_CHECKING:
    from mangum.types import LambdaContext as MangumContext
    from mangum.types import LambdaEvent

    from lambdas.api.bootstrap import Dependencies
    from metering.adapters.aws.runtime import LambdaContext

# What is text as it is. Any other body, and one that is compressed, goes through the gateway as base64.
_TEXT = ("text/", "application/json", "application/problem+json", "application/x-ndjson", "image/svg+xml")
_FAILED = 500
_UNAUTHORIZED = 401
# The start of a process, which Lambda counts into `Duration`, is over before a request is measured.
_SLOW_MS = 2_000


def handler(event: LambdaEvent, context: LambdaContext) -> dict[str, object]:
    """Answer one request."""
    return handle(event, context, dependencies())


def handle(event: LambdaEvent, context: LambdaContext, parts: Dependencies) -> dict[str, object]:
    """`handler` with its dependencies passed in, for tests."""

    def tell(figures: RequestFigures) -> None:
        _count(figures, parts)
        parts.logger.info("request answered", extra=figures.fields())

    app = RequestLog(parts.app, tell=tell, clock=parts.clock)
    # A loop of its own for each request costs 0.2 ms, and what a request leaves behind ends with it.
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        answer = Mangum(app, lifespan="off", text_mime_types=[*_TEXT])(event, cast("MangumContext", context))
    return cast("dict[str, object]", answer)


def _count(figures: RequestFigures, parts: Dependencies) -> None:
    parts.metrics.count(API_REQUESTS)
    # Counted for each request, so that an average is the share of those that failed, or were slow.
    parts.metrics.count(API_FAILED_PERMILLE, 1_000 if figures.status >= _FAILED else 0)
    parts.metrics.count(API_SLOW_PERMILLE, 1_000 if figures.ms >= _SLOW_MS else 0)
    # A name that is never counted is no metric, and costs nothing.
    if figures.status == _UNAUTHORIZED:
        parts.metrics.count(API_UNAUTHORIZED)
    if reads := figures.partitions + figures.hours:
        parts.metrics.count(API_READS, reads)
    parts.metrics.flush()
