"""Rolls up what waits, for the length of a tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.rollup.bootstrap import dependencies
from lambdas.shards import shard_of_event
from metering.adapters.aws.runtime import LambdaDeadline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lambdas.rollup.bootstrap import Dependencies
    from metering.adapters.aws.runtime import LambdaContext


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, int | bool]:
    """Roll up until the next tick begins, or nothing waits."""
    return handle(event, context, dependencies())


def handle(event: Mapping[str, object], context: LambdaContext, parts: Dependencies) -> dict[str, int | bool]:
    """`handler` with its dependencies passed in, for tests."""
    try:
        result = parts.tick.run(LambdaDeadline(context), shard=shard_of_event(event))
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
