"""Catalogue of alarms. The stacks create them from it, and each has a runbook of its name.

Every alarm is a plain comparison of one metric, so that every emulator and every region can evaluate it. An alarm that
pages looks at durable state, as a figure that the watch publishes each minute, or at a native metric of AWS.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from metering.units import DAY_S, HOUR_S, MINUTE_S

WATCH_NAMESPACE = "Metering/Watch"


class Figure(StrEnum):
    """Figures that the watch measures: metric names in `WATCH_NAMESPACE`, with the dimension `Stage`."""

    DEAD_LETTERS = "DeadLetters"
    OLDEST_BATCH_AGE = "OldestBatchAge"
    CANARY_AGE = "CanaryAge"
    CANARY_DOUBLED = "CanaryDoubled"
    OPEN_COMMITS = "OpenCommits"
    OPEN_COMMIT_AGE = "OpenCommitAge"
    UNPUBLISHED_HOURS = "UnpublishedHours"
    OLDEST_PENDING_AGE = "OldestPendingAge"
    PLANNED_RUN_AGE = "PlannedRunAge"
    RECONCILIATION_DIFFERENCES = "ReconciliationDifferences"
    RECONCILIATION_AGE = "ReconciliationAge"
    RECONCILIATION_BACKLOG = "ReconciliationBacklog"
    RECONCILIATION_BACKLOG_AGE = "ReconciliationBacklogAge"
    CONFLICTS = "Conflicts"
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


# Origins of alarms that only a region with log sources has.
LOG_ORIGINS = ("onramp_queue", "onramp_dead_letters", "onramp", "log_context")
LOG_FIGURES = frozenset(figure for figure in Figure if figure.value.startswith("Log"))
"""Figures that only a region with log sources has."""


Severity = Literal["page", "ticket"]
Missing = Literal["breaching", "notBreaching", "ignore"]
Comparison = Literal["GreaterThanOrEqualToThreshold", "LessThanThreshold"]
Statistic = Literal["Maximum", "Minimum", "Sum"]


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


def _watch(
    name: str, severity: Severity, figure: Figure, threshold: int, meaning: str, *, periods: int = 1
) -> AlarmSpec:
    return AlarmSpec(
        name=name,
        severity=severity,
        origin="watch",
        metric=figure,
        threshold=threshold,
        meaning=meaning,
        periods=periods,
    )


def _logs(name: str, figure: Figure, threshold: int, meaning: str) -> AlarmSpec:
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


def _errors(function: str, severity: Severity, periods: int) -> AlarmSpec:
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


ALARMS: tuple[AlarmSpec, ...] = (
    AlarmSpec(
        name="dead-letter-queue",
        severity="page",
        origin="dead_letter_queue",
        metric="ApproximateNumberOfMessagesVisible",
        threshold=1,
        meaning="Batches failed five times and wait in the dead-letter queue, unmetered.",
        same_event_as="dead-letters",
    ),
    AlarmSpec(
        name="oldest-message",
        severity="page",
        origin="ingest_queue",
        metric="ApproximateAgeOfOldestMessage",
        threshold=15 * MINUTE_S,
        meaning="Batches wait in the ingest queue for longer than 15 minutes.",
        periods=3,
        same_event_as="oldest-batch",
    ),
    _watch(
        "dead-letters", "page", Figure.DEAD_LETTERS, 1, "Batches failed five times and are not metered until redriven."
    ),
    _watch(
        "oldest-batch",
        "page",
        Figure.OLDEST_BATCH_AGE,
        15 * MINUTE_S,
        "The oldest batch has waited for its verdict for longer than 15 minutes.",
        periods=3,
    ),
    _watch(
        "canary-late",
        "page",
        Figure.CANARY_AGE,
        20 * MINUTE_S,
        "No canary batch was seen exactly once, in usage and in the lake, for 20 minutes.",
    ),
    _watch(
        "canary-doubled", "page", Figure.CANARY_DOUBLED, 1, "A canary batch was counted twice, or with another figure."
    ),
    _watch(
        "open-commits",
        "page",
        Figure.OPEN_COMMIT_AGE,
        15 * MINUTE_S,
        "A wide commit has been open for 15 minutes: its markers stand, part of its usage does not.",
    ),
    _watch(
        "reconciliation-differences",
        "page",
        Figure.RECONCILIATION_DIFFERENCES,
        1,
        "Markers, usage and lake disagree in at least one hour.",
    ),
    _watch(
        "reconciliation-stalled",
        "ticket",
        Figure.RECONCILIATION_AGE,
        3 * HOUR_S,
        "The reconciler has not finished a pass for 3 hours, so some totals are not checked.",
    ),
    _watch(
        "reconciliation-backlog",
        "ticket",
        Figure.RECONCILIATION_BACKLOG_AGE,
        DAY_S,
        "Something that was published a day ago is still not compared: the reconciler falls behind.",
    ),
    _watch(
        "unpublished-hours",
        "ticket",
        Figure.OLDEST_PENDING_AGE,
        26 * HOUR_S,
        "A commit has waited for compaction for longer than the policy allows.",
    ),
    _watch(
        "compaction-stalled",
        "ticket",
        Figure.PLANNED_RUN_AGE,
        30 * MINUTE_S,
        "A planned compaction run has blocked its shard for 30 minutes.",
    ),
    _watch(
        "conflicts",
        "ticket",
        Figure.CONFLICTS,
        1,
        "Other content came under the id of a batch that is already metered.",
    ),
    AlarmSpec(
        name="marker-life",
        severity="page",
        origin="watch",
        metric=Figure.MARKER_LIFE_HEADROOM,
        threshold=0,
        comparison="LessThanThreshold",
        statistic="Minimum",
        meaning="Markers may expire before the last copy of their batch: a redrive could count twice.",
    ),
    _watch("silent-sources", "ticket", Figure.SILENT_SOURCES, 1, "A producer that numbers its batches went silent."),
    _watch("source-gaps", "ticket", Figure.SOURCE_GAPS, 1, "A producer's sequence has a gap: batches never arrived."),
    _watch(
        "incredible-sources",
        "ticket",
        Figure.INCREDIBLE_SOURCES,
        1,
        "A source sent a number so far beyond its last one that no one can take it for a gap.",
    ),
    _watch(
        "unkept-sources",
        "ticket",
        Figure.UNKEPT_SOURCES,
        1,
        "Sources are not followed: there are too many of them, or what is known of one cannot be read or written.",
    ),
    _logs(
        "log-slots-missing",
        Figure.LOG_SLOTS_MISSING,
        1,
        "Files of a flow log are missing for 30 minutes, so their bytes are on no bill.",
    ),
    _logs(
        "log-source-silent",
        Figure.LOG_SOURCE_SILENT,
        1,
        "A source of logs delivers nothing any more, or never did.",
    ),
    _logs(
        "log-lines-refused",
        Figure.LOG_LINES_REFUSED,
        1,
        "More than 1 % of the lines of a source of logs were refused, and are not metered.",
    ),
    _logs(
        "log-bytes-unclassified",
        Figure.LOG_BYTES_UNCLASSIFIED,
        1,
        "More bytes of a source of logs are unclassified than the stage allows.",
    ),
    _logs(
        "log-context-late",
        Figure.LOG_CONTEXT_AGE,
        3 * HOUR_S,
        "No context was captured for 3 hours, so logs are judged by what networks were then.",
    ),
    _watch(
        "biller-behind",
        "ticket",
        Figure.BILLER_AGE,
        4 * HOUR_S,
        "The biller has counted nothing that was published in the last 4 hours, so budgets are judged by too little.",
    ),
    _watch(
        "unpriced-usage",
        "ticket",
        Figure.UNPRICED_BYTES,
        1,
        "Usage of this month or the last one has no price, so it costs nothing here and no invoice can be issued.",
    ),
    _watch(
        "invoice-blocked",
        "ticket",
        Figure.INVOICES_BLOCKED,
        1,
        "A month that ended 5 days ago cannot be invoiced.",
    ),
    _watch(
        "budget-crossed",
        "ticket",
        Figure.BUDGETS_CROSSED,
        1,
        "A threshold of a budget was crossed, or a day was unusual, within the last two hours.",
    ),
    AlarmSpec(
        name="onramp-dead-letters",
        severity="ticket",
        origin="onramp_dead_letters",
        metric="ApproximateNumberOfMessagesVisible",
        threshold=1,
        meaning="Log files could not be metered five times, and wait in the dead-letter queue of log files.",
    ),
    AlarmSpec(
        name="watch-silent",
        severity="page",
        origin="watch",
        metric=Figure.HEARTBEAT,
        threshold=1,
        comparison="LessThanThreshold",
        statistic="Sum",
        period_s=5 * MINUTE_S,
        meaning="The watch itself has not run for 15 minutes, so no other alarm of its figures can fire.",
        periods=3,
        missing="breaching",
    ),
    AlarmSpec(
        name="rollout-failed",
        severity="ticket",
        origin="rollout",
        metric="FailedBuilds",
        threshold=1,
        meaning="The scheduled project that builds missing regions failed.",
        statistic="Sum",
        period_s=HOUR_S,
    ),
    _errors("aggregator", "page", 2),
    _errors("compactor", "ticket", 3),
    _errors("sweeper", "ticket", 3),
    _errors("reconciler", "ticket", 3),
    _errors("canary", "ticket", 3),
    _errors("watch", "ticket", 3),
    # It runs once an hour: one failed run is one period with an error.
    _errors("biller", "ticket", 1),
    _errors("onramp", "ticket", 3),
    _errors("log-context", "ticket", 3),
)

# Alarms that turn a deployment back: new code that is wrong about money raises one of them within a bake. Late batches
# are found by the canaries of the bake. CloudFormation takes at most five rollback triggers.
ROLLBACK_ALARMS = (
    "aggregator-errors",
    "canary-doubled",
    "dead-letters",
    "open-commits",
    "reconciliation-differences",
)


def alarm_name(stage: str, spec_name: str) -> str:
    """Physical name of an alarm in CloudWatch."""
    return f"metering-{stage}-{spec_name}"
