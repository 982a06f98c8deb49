"""A tick in, one canary run out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.canary.bootstrap import dependencies
from metering import metric_names
from metering.adapters.aws.runtime import LambdaDeadline
from metering.ledger.notes.canary_runs import CanaryVerdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lambdas.canary.bootstrap import Dependencies
    from metering.adapters.aws.runtime import LambdaContext

_COUNTERS = {
    CanaryVerdict.SENT: metric_names.CANARY_SENT,
    CanaryVerdict.GOOD: metric_names.CANARY_GOOD,
    CanaryVerdict.LATE: metric_names.CANARY_LATE,
    CanaryVerdict.DOUBLED: metric_names.CANARY_DOUBLED,
}


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, str | int]:
    """Send this minute's canary batch and wait for its verdict."""
    del event
    return handle(context, dependencies())


def handle(context: LambdaContext, parts: Dependencies) -> dict[str, str | int]:
    """The same with given parts."""
    try:
        run = parts.canary.run(LambdaDeadline(context))
        parts.metrics.count(_COUNTERS[run.verdict])
    finally:
        parts.metrics.flush()
    answer: dict[str, str | int] = {
        "verdict": run.verdict.value,
        "slot_s": run.slot_s,
        "took_s": max(run.settled_s - run.sent_s, 0),
    }
    parts.logger.info("canary run", extra=answer)
    return answer
