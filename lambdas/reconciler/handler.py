"""A tick in: every hour compared, what differs told, the sources written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.reconciler.bootstrap import dependencies
from metering.units import DAY_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lambdas.reconciler.bootstrap import Dependencies
    from metering.adapters.aws.runtime import LambdaContext


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, int]:
    """Compare what the admission window can still change."""
    del event, context
    return handle(dependencies())


def handle(parts: Dependencies) -> dict[str, int]:
    """The same with given parts."""
    now_s = parts.jobs.clock.now_ms() // 1000
    # Older hours can't change by any batch: a deep reconciliation by hand covers them.
    from_s = now_s - parts.jobs.settings.window_s - DAY_S
    try:
        result = parts.jobs.reconciler.run(from_s=from_s, to_s=now_s + DAY_S)
        parts.jobs.reconciler_state.keep(result)
    finally:
        parts.metrics.flush()
    answer = {
        "hours": len(result.checks),
        "different": len(result.different),
        "unsettled": len(result.unsettled),
        "sources": len(result.markers.sources),
    }
    parts.logger.info("hours reconciled", extra=answer)
    return answer
