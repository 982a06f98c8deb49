"""Captures a context if one is due, and detects missing log files, once a tick."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from lambdas.start import Started, starting
from metering.errors import MeteringError
from metering.metric_names import CONTEXTS_CAPTURED
from metering.wiring.onramps import OnrampParts, build_context_keeper, build_coverage_look

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from metering.adapters.aws.runtime import LambdaContext
    from metering.onramps.context.store import ContextKeeper


class Look(NamedTuple):
    """Work of a tick.

    Attributes:
        keeper: Captures a context when one is due.
        missing: Detects missing log files, and returns its findings.
    """

    keeper: ContextKeeper
    missing: Callable[[], Mapping[str, int]]


dependencies = starting(
    "log-context", OnrampParts, lambda parts, _: Look(build_context_keeper(parts), build_coverage_look(parts))
)


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, int]:
    """Capture and look."""
    del event, context
    return handle(dependencies())


def handle(parts: Started[Look]) -> dict[str, int]:
    """Do the work of `handler` with injected dependencies; tests call this function."""
    answer: dict[str, int] = {"captured": 0}
    failed: MeteringError | None = None
    try:
        answer["captured"] = int(parts.work.keeper.run() is not None)
    except MeteringError as error:
        # Missing files are searched for even if no context was captured. The error is raised after the search.
        failed = error
        parts.logger.warning("no context captured", extra={"error": str(error)})
    try:
        answer |= parts.work.missing()
    finally:
        if answer["captured"]:
            parts.metrics.count(CONTEXTS_CAPTURED)
        parts.metrics.flush()
    if failed is not None:
        raise failed
    parts.logger.info("logs looked after", extra=answer)
    return answer
