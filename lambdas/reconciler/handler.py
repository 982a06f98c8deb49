"""Compares markers, usage and lake, updates the sources' state, and checks for lost objects, once a tick."""

from __future__ import annotations

from collections.abc import Mapping

from lambdas.start import Started, starting
from metering.adapters.aws.runtime import LambdaContext, LambdaDeadline
from metering.errors import MeteringError
from metering.stores.clock import Metrics, scans_at_once
from metering.wiring.jobs import LakeJobs, lake_jobs
from metering.wiring.region import JobParts


def _jobs(parts: JobParts, metrics: Metrics) -> LakeJobs:
    threads = scans_at_once(emulated=parts.clients.access.custom_endpoint)
    return lake_jobs(parts, metrics, threads=threads, eventual=parts.eventual_items)


dependencies = starting("reconciler", JobParts, _jobs)


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, int | bool]:
    """Compare the hours whose usage the admission window still allows to change."""
    del event
    return handle(context, dependencies())


def handle(context: LambdaContext, parts: Started[LakeJobs]) -> dict[str, int | bool]:
    """Do the work of `handler` with injected dependencies; tests call this function.

    Raises:
        MeteringError: A read failed, or the ledger contradicts the protocol. All unaffected work was done.
    """
    deadline = LambdaDeadline(context)
    failure: MeteringError | None = None
    try:
        try:
            result = parts.work.reconcile_tick.run(deadline)
        except MeteringError as error:
            # Lost objects are searched for even after this failure. If the search fails, too, its own error is raised.
            failure = error
            parts.logger.exception("hours not reconciled")
        lost = parts.work.drop_check.run(deadline).count
    finally:
        parts.metrics.flush()
    if failure is not None:
        raise failure
    answer: dict[str, int | bool] = {
        "scanned": result.scanned,
        "hours": result.hours,
        "different": result.different,
        "left": result.left,
        "lost_drops": lost,
    }
    parts.logger.info("hours reconciled", extra=answer)
    return answer
