"""What an alarm is, and the figures that the watch publishes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from metering.units import MINUTE_S


class Figure(StrEnum):
    """Figures that the watch measures: metric names in the namespace of the watch, with the dimension `Stage`."""

    DEAD_LETTERS = "DeadLetters"
    OLDEST_BATCH_AGE = "OldestBatchAge"
    CANARY_AGE = "CanaryAge"
    CANARY_DOUBLED = "CanaryDoubled"
    WAITING_COMMITS = "WaitingCommits"
    WAITING_COMMIT_AGE = "WaitingCommitAge"
    PLANNED_ROLLUP_AGE = "PlannedRollupAge"
    UNPUBLISHED_HOURS = "UnpublishedHours"
    OLDEST_PENDING_AGE = "OldestPendingAge"
    PLANNED_RUN_AGE = "PlannedRunAge"
    CLEANING_OVERDUE_AGE = "CleaningOverdueAge"
    ORPHANS_UNSEEN_AGE = "OrphansUnseenAge"
    RECONCILIATION_DIFFERENCES = "ReconciliationDifferences"
    RECONCILIATION_AGE = "ReconciliationAge"
    RECONCILIATION_BACKLOG = "ReconciliationBacklog"
    RECONCILIATION_BACKLOG_AGE = "ReconciliationBacklogAge"
    SCAN_OVERDUE_AGE = "ScanOverdueAge"
    CONFLICTS = "Conflicts"
    LOST_DROPS = "LostDrops"
    DROPS_UNSEEN_AGE = "DropsUnseenAge"
    ACCOUNTS_BEYOND_CAP = "AccountsBeyondCap"
    MARKER_LIFE_HEADROOM = "MarkerLifeHeadroom"
    SILENT_SOURCES = "SilentSources"
    SOURCE_GAPS = "SourceGaps"
    INCREDIBLE_SOURCES = "IncredibleSources"
    UNKEPT_SOURCES = "UnkeptSources"
    COMPLETE_THROUGH_AGE = "CompleteThroughAge"
    LOG_SLOTS_MISSING = "LogSlotsMissing"
    LOG_LINES_REFUSED = "LogLinesRefused"
    LOG_BYTES_UNCLASSIFIED = "LogBytesUnclassified"
    LOG_SOURCE_SILENT = "LogSourceSilent"
    LOG_CONTEXT_AGE = "LogContextAge"
    LOG_UNCLASSIFIED_PERMILLE = "LogUnclassifiedPermille"
    BILLER_AGE = "BillerAge"
    UNPRICED_BYTES = "UnpricedBytes"
    INVOICES_BLOCKED = "InvoicesBlocked"
    BUDGETS_CROSSED = "BudgetsCrossed"
    HEARTBEAT = "Heartbeat"


API_ORIGIN = "api"
"""Origin of alarms that only a region with an HTTP API has."""
Severity = Literal["page", "ticket"]
Missing = Literal["breaching", "notBreaching", "ignore"]
Comparison = Literal["GreaterThanOrEqualToThreshold", "LessThanThreshold"]
Statistic = Literal["Maximum", "Minimum", "Sum", "Average"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSpec:
    """Alarm of the catalogue. Its runbook is `docs/runbooks/<runbook>.md`.

    Attributes:
        name: Name in kebab case; the alarm in CloudWatch is `metering-<stage>-<name>`.
        severity: `page` wakes the person on call; `ticket` waits for the morning.
        origin: Publisher of the metric: `ingest_queue`, `dead_letter_queue`, `onramp_dead_letters`, `rollout`, or the
            name of a function. What measures figures of log sources is the watch, but their origin is `log_context`:
            they are there if that function is.
        metric: Name of the metric in the namespace of its origin.
        period_s: Length of a period.
        periods: Number of periods in a row in which the comparison must hold before the alarm fires.
        missing: Treatment of a period without a figure. Only the heartbeat counts it as breaching.
        meaning: Sentence that the alert carries.
        same_event_as: Alarm that the same event raises; both share the runbook of that one.
    """

    name: str
    severity: Severity
    origin: str
    metric: str
    threshold: int
    meaning: str
    comparison: Comparison = "GreaterThanOrEqualToThreshold"
    statistic: Statistic = "Maximum"
    period_s: int = MINUTE_S
    periods: int = 1
    missing: Missing = "notBreaching"
    same_event_as: str = ""

    @property
    def runbook(self) -> str:
        """Name of its page."""
        return self.same_event_as or self.name

    def breached_by(self, value: int) -> bool:
        """Whether a figure of this value is one that the alarm is about. It fires after `periods` of them."""
        if self.comparison == "LessThanThreshold":
            return value < self.threshold
        return value >= self.threshold


def watch_alarm(
    name: str,
    severity: Severity,
    figure: Figure,
    threshold: int,
    meaning: str,
    *,
    periods: int = 1,
    same_event_as: str = "",
) -> AlarmSpec:
    """Alarm of a figure of the watch."""
    return AlarmSpec(
        name=name,
        severity=severity,
        origin="watch",
        metric=figure,
        threshold=threshold,
        meaning=meaning,
        periods=periods,
        same_event_as=same_event_as,
    )


def logs_alarm(name: str, figure: Figure, threshold: int, meaning: str) -> AlarmSpec:
    """Alarm of a figure of log sources. Only a region that has some has the alarm."""
    return AlarmSpec(
        name=name,
        severity="ticket",
        origin="log_context",
        metric=figure,
        threshold=threshold,
        meaning=meaning,
        periods=3,
    )


def errors_alarm(function: str, severity: Severity, periods: int) -> AlarmSpec:
    """Alarm of a function whose invocations fail."""
    return AlarmSpec(
        name=f"{function}-errors",
        severity=severity,
        origin=function.replace("-", "_"),
        metric="Errors",
        threshold=1,
        meaning=f"The {function} function fails whole invocations.",
        statistic="Sum",
        period_s=5 * MINUTE_S,
        periods=periods,
    )


def api_alarm(
    name: str,
    metric: str,
    threshold: int,
    meaning: str,
    *,
    statistic: Statistic = "Sum",
    period_s: int = 5 * MINUTE_S,
    periods: int = 1,
) -> AlarmSpec:
    """Alarm of the HTTP API that waits for the morning. Only a region that has one has the alarm."""
    return AlarmSpec(
        name=name,
        severity="ticket",
        origin=API_ORIGIN,
        metric=metric,
        threshold=threshold,
        meaning=meaning,
        statistic=statistic,
        period_s=period_s,
        periods=periods,
    )
