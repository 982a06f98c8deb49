"""Adds new usage to the day sums, sends alerts for crossed budgets and makes reports, once a tick."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from lambdas.start import Started, starting
from metering.adapters.aws.runtime import LambdaContext, LambdaDeadline
from metering.metric_names import ANOMALIES_FOUND, BUDGET_ALERTS_MADE, BUDGET_ALERTS_SENT, RATED_FILES
from metering.wiring.biller import BillerParts, BillerWork, build_work

if TYPE_CHECKING:
    from collections.abc import Mapping

dependencies = starting("biller", BillerParts, lambda parts, _: build_work(parts))


def handler(event: Mapping[str, object], context: LambdaContext) -> dict[str, int | list[str]]:
    """Run the biller once."""
    del event
    return handle(context, dependencies())


def handle(context: LambdaContext, parts: Started[BillerWork]) -> dict[str, int | list[str]]:
    """Do the work of `handler` with injected dependencies; tests call this function."""
    deadline = LambdaDeadline(context)
    result = parts.work.biller.run(deadline)
    counts = {
        RATED_FILES: result.files,
        BUDGET_ALERTS_MADE: result.made,
        BUDGET_ALERTS_SENT: result.sent,
        ANOMALIES_FOUND: result.unusual,
    }
    # A metric without data points costs nothing.
    for name, count in counts.items():
        if count:
            parts.metrics.count(name, count)
    parts.metrics.flush()
    answer: dict[str, int | list[str]] = {
        "files": result.files,
        "behind_s": result.behind_s,
        "budgets": result.budgets,
        "made": result.made,
        "sent": result.sent,
        "unusual": result.unusual,
        "cause_files": result.cause_files,
        "causes_behind_s": result.causes_behind_s,
        "causes_lost": list(result.causes_lost),
        "left_out": list(result.left_out),
    }
    parts.logger.info("budgets judged", extra=answer)
    # The export of a bill is read last, so that a large or a damaged one delays nothing else.
    for check in parts.work.bills:
        found = check.run(deadline)
        parts.logger.info("bill looked at", extra={"export": found.export, "state": found.state, "why": found.why})
    if parts.work.reports is not None:
        run = parts.work.reports.run(deadline)
        parts.logger.info("reports made", extra=asdict(run))
    return answer
