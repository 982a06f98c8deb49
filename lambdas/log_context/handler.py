"""Captures a context if one is due, and looks for missing log files, once a tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.log_context.bootstrap import dependencies
from metering.errors import MeteringError
from metering.metric_names import CONTEXTS_CAPTURED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lambdas.log_context.bootstrap import Dependencies
    from metering.adapters.aws.runtime import LambdaContext


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, int]:
    """Capture and look."""
    del event, context
    return handle(dependencies())


def handle(parts: Dependencies) -> dict[str, int]:
    """`handler` with its dependencies passed in, for tests."""
    answer: dict[str, int] = {"captured": 0}
    failed: MeteringError | None = None
    try:
        answer["captured"] = int(parts.keeper.run() is not None)
    except MeteringError as error:
        # What is missing is found without a new context as well. The error is raised after that.
        failed = error
        parts.logger.warning("no context captured", extra={"error": str(error)})
    try:
        answer |= parts.look()
    finally:
        if answer["captured"]:
            parts.metrics.count(CONTEXTS_CAPTURED)
        parts.metrics.flush()
    if failed is not None:
        raise failed
    parts.logger.info("logs looked after", extra=answer)
    return answer
