"""Finishes open commits, compacts hours that are due and removes superfluous objects, once a tick."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lambdas.compactor.bootstrap import dependencies
from metering.adapters.aws.runtime import LambdaDeadline
from metering.ledger.contradictions import Contradictions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lambdas.compactor.bootstrap import Dependencies
    from metering.adapters.aws.runtime import LambdaContext


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, int | bool]:
    """Sweep, compact and clean."""
    del event
    return handle(context, dependencies())


def handle(context: LambdaContext, parts: Dependencies) -> dict[str, int | bool]:
    """`handler` with its dependencies passed in, for tests."""
    deadline = LambdaDeadline(context)
    try:
        swept = parts.sweeper.sweep(deadline)
        # The three jobs are independent: an item that one of them cannot read stops only that one.
        contradictions = Contradictions()
        with contradictions.noted():
            compacted = parts.jobs.compactor.run(deadline)
        with contradictions.noted():
            cleaned = parts.jobs.cleaner.run(deadline)
        with contradictions.noted():
            orphans = parts.jobs.orphans.run(deadline)
        contradictions.tell()
    finally:
        parts.metrics.flush()
    answer: dict[str, int | bool] = {
        "finished_commits": swept.finished,
        "runs": compacted.runs,
        "hours": compacted.hours,
        "files": compacted.files,
        "rows": compacted.rows,
        "finished": compacted.finished,
        "cleaned_runs": cleaned.runs,
        "cleaned_commits": cleaned.commits,
        "orphans": orphans,
    }
    parts.logger.info("lake compacted", extra=answer)
    return answer
