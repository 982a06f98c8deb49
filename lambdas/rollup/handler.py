"""Rolls up waiting commits until the next tick is due."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.shards import shard_of_event
from lambdas.start import Started, starting
from metering.adapters.aws.runtime import LambdaContext, LambdaDeadline
from metering.stores.clock import ROLLUP_CALLS_AT_ONCE, Metrics
from metering.wiring.lake import build_rollup, rollup_tick
from metering.wiring.region import JobParts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from metering.rollup.rollup import RollupTick
    from metering.wiring.lake import ServicePorts


def ticking(parts: ServicePorts, metrics: Metrics) -> RollupTick:
    """Build the work of a tick."""
    return rollup_tick(parts, build_rollup(parts, metrics, threads=ROLLUP_CALLS_AT_ONCE))


dependencies = starting("rollup", JobParts, ticking)


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, int | bool]:
    """Roll up until the next tick begins or no commit waits."""
    return handle(event, context, dependencies())


def handle(event: Mapping[str, object], context: LambdaContext, parts: Started[RollupTick]) -> dict[str, int | bool]:
    """Do the work of `handler` with injected dependencies; tests call this function."""
    try:
        result = parts.work.run(LambdaDeadline(context), shard=shard_of_event(event))
    finally:
        parts.metrics.flush()
    answer: dict[str, int | bool] = {
        "runs": result.runs,
        "commits": result.commits,
        "items": result.items,
        "finished": result.finished,
    }
    parts.logger.info("usage rolled up", extra=answer)
    return answer
