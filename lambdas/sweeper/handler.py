"""Finishes the commits that the watch found open, once a tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.sweeper.bootstrap import dependencies
from metering.adapters.aws.runtime import LambdaDeadline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lambdas.sweeper.bootstrap import Dependencies
    from metering.adapters.aws.runtime import LambdaContext


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, int]:
    """Finish open commits."""
    del event
    return handle(context, dependencies())


def handle(context: LambdaContext, parts: Dependencies) -> dict[str, int]:
    """`handler` with its dependencies passed in, for tests."""
    try:
        swept = parts.sweeper.sweep_known(LambdaDeadline(context))
    finally:
        parts.metrics.flush()
    answer = {"finished": swept.finished, "left": len(swept.left), "corrupt": len(swept.corrupt)}
    parts.logger.info("open commits swept", extra=answer)
    return answer
