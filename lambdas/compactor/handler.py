"""Compacts due hours and removes superfluous objects once a tick; each shard has its own invocation."""

from __future__ import annotations

from collections.abc import Mapping

from lambdas.shards import shard_of_event
from lambdas.start import Started, starting
from metering.adapters.aws.runtime import LambdaContext, LambdaDeadline
from metering.ledger.runs import Contradictions
from metering.stores.clock import CALLS_AT_ONCE, Deadline, EarlierDeadline
from metering.wiring.jobs import LakeJobs, lake_jobs
from metering.wiring.region import JobParts

# A busy compactor reserves a quarter of its remaining time for the cleaners. Each cleaner leaves half of its remaining
# time for the next cleaners.
_FOR_CLEANERS = 4
_FOR_OTHERS = 2

dependencies = starting("compactor", JobParts, lambda parts, metrics: lake_jobs(parts, metrics, threads=CALLS_AT_ONCE))


def handler(event: Mapping[str, object], context: LambdaContext) -> Mapping[str, int | str]:
    """Compact and clean one shard, or all shards if the event names no shard; or answer a question of the doctor."""
    if "probe" in event:
        return probed(event, dependencies())
    return handle(event, context, dependencies())


def handle(event: Mapping[str, object], context: LambdaContext, parts: Started[LakeJobs]) -> dict[str, int | bool]:
    """Do the work of `handler` with injected dependencies; tests call this function."""
    deadline = LambdaDeadline(context)
    shard = shard_of_event(event)
    cleaned_plans = orphans = 0
    try:
        # The jobs are independent: if an item is unreadable, only the job that reads it stops.
        contradictions = Contradictions()
        with contradictions.noted():
            compacted = parts.work.compactor.run(_leaving(deadline, _FOR_CLEANERS), shard=shard)
        with contradictions.noted():
            cleaned = parts.work.cleaner.run(deadline if shard else _leaving(deadline, _FOR_OTHERS), shard=shard)
        # Work that belongs to no shard is done by shard 0.
        if not shard:
            with contradictions.noted():
                cleaned_plans = parts.work.rollup_cleaner.run(_leaving(deadline, _FOR_OTHERS)).plans
            with contradictions.noted():
                orphans = parts.work.orphans.run(deadline)
        contradictions.tell()
    finally:
        parts.metrics.flush()
    answer: dict[str, int | bool] = {
        "runs": compacted.runs,
        "hours": compacted.hours,
        "files": compacted.files,
        "rows": compacted.rows,
        "finished": compacted.finished,
        "cleaned_runs": cleaned.runs,
        "cleaned_commits": cleaned.commits,
        "cleaned_plans": cleaned_plans,
        "orphans": orphans,
    }
    parts.logger.info("lake compacted", extra=answer)
    return answer


def probed(event: Mapping[str, object], parts: Started[LakeJobs]) -> dict[str, str]:
    """Tell what this function gets for a missing lake file, on which each first put of a file rests.

    Raises:
        ValueError: The event asks something else.
    """
    from metering.operations.doctor.bench import MISSING_KEY, MISSING_LAKE_KEY, PROBE, answer_of_missing

    if event[PROBE] != MISSING_KEY:
        raise ValueError(f"no probe: {event[PROBE]!r}")
    return {PROBE: answer_of_missing(parts.work.objects, MISSING_LAKE_KEY)}


def _leaving(deadline: Deadline, parts: int) -> EarlierDeadline:
    """Deadline of a job that leaves 1/`parts` of the remaining time to later jobs."""
    return EarlierDeadline(deadline=deadline, before_ms=deadline.remaining_ms() // parts)
