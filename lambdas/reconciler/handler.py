"""Compares markers, usage and lake, and keeps the state of the sources, once a tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.reconciler.bootstrap import dependencies
from metering.adapters.aws.runtime import LambdaDeadline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lambdas.reconciler.bootstrap import Dependencies
    from metering.adapters.aws.runtime import LambdaContext


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, int | bool]:
    """Compare the hours that the admission window can still change."""
    del event
    return handle(context, dependencies())


def handle(context: LambdaContext, parts: Dependencies) -> dict[str, int | bool]:
    """`handler` with its dependencies passed in, for tests."""
    try:
        result = parts.jobs.reconcile_tick.run(LambdaDeadline(context))
    finally:
        parts.metrics.flush()
    answer: dict[str, int | bool] = {
        "scanned": result.scanned,
        "hours": result.hours,
        "different": result.different,
        "left": result.left,
    }
    parts.logger.info("hours reconciled", extra=answer)
    return answer
