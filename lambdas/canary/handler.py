"""Runs the canary once a tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.start import Started, starting
from metering import metric_names
from metering.adapters.aws.runtime import LambdaContext, LambdaDeadline
from metering.ledger.notes.checks import CanaryVerdict
from metering.wiring.canary import build_canary
from metering.wiring.region import FunctionParts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.operations.canary import Canary

_COUNTERS = {
    CanaryVerdict.SENT: metric_names.CANARY_SENT,
    CanaryVerdict.GOOD: metric_names.CANARY_GOOD,
    CanaryVerdict.LATE: metric_names.CANARY_LATE,
    CanaryVerdict.DOUBLED: metric_names.CANARY_DOUBLED,
}

dependencies = starting("canary", FunctionParts, lambda parts, _: build_canary(parts))


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, str | int]:
    """Send this minute's canary batch and wait for its verdict."""
    del event
    return handle(context, dependencies())


def handle(context: LambdaContext, parts: Started[Canary]) -> dict[str, str | int]:
    """Do the work of `handler` with injected dependencies; tests call this function."""
    try:
        run = parts.work.run(LambdaDeadline(context))
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
