"""Catalogue of alarms. The stacks create all alarms from the catalogue; each alarm has a runbook of the same name.

Every alarm compares one metric with a threshold, so that every emulator and every region can evaluate alarms. A paging
alarm reads a native AWS metric, or a figure of durable state that the watch publishes each minute; the API's alarm
reads response counts of its function.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from metering.metric_names import API_FAILED_PERMILLE, API_READS, API_SLOW_PERMILLE, API_UNAUTHORIZED
from metering.units import DAY_S, HOUR_S, MINUTE_S


class Figure(StrEnum):
    """Figures that the watch measures: metric names in the watch's namespace, with the dimension `Stage`."""

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
    BILL_DIFFERENCES = "BillDifferences"
    HEARTBEAT = "Heartbeat"


API_ORIGIN = "api"
"""Origin of alarms that only a region with an HTTP API has."""
BILL_ORIGIN = "bill_export"
"""Origin of the alarm that only a region with an export of AWS's own bill has."""
Severity = Literal["page", "ticket"]
Missing = Literal["breaching", "notBreaching", "ignore"]
Comparison = Literal["GreaterThanOrEqualToThreshold", "LessThanThreshold"]
Statistic = Literal["Maximum", "Minimum", "Sum", "Average"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSpec:
    """Alarm of the catalogue. Its runbook is in `docs/runbooks`.

    Attributes:
        name: Name in kebab case; the alarm in CloudWatch is `metering-<stage>-<name>`.
        severity: `page` wakes the person on call, `ticket` waits until morning.
        origin: Publisher of the metric: `ingest_queue`, `dead_letter_queue`, `onramp_dead_letters`, `rollout`, or the
            name of a function. Figures of log sources have the origin `log_context`, although the watch measures them:
            they exist only if that function exists.
        metric: Name of the metric in the namespace given by `origin`.
        period_s: Length of a period.
        periods: Number of consecutive periods in which the comparison must hold before the alarm fires.
        missing: Treatment of a period without data (`TreatMissingData`). Only the heartbeat's alarm has `breaching`.
        meaning: Sentence included in the alert.
        same_event_as: Another alarm that the same event raises; this alarm uses the runbook of that alarm.
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
        """Name of the runbook for `metering runbook`."""
        return self.same_event_as or self.name

    def breached_by(self, value: int) -> bool:
        """Whether this value breaches the alarm's threshold. The alarm fires after `periods` consecutive breaches."""
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
    """Alarm on a figure of the watch."""
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
    """Alarm on a figure of log sources. Only a region with log sources has the alarm."""
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
    """Alarm on a function's failed invocations."""
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
    """Alarm of the HTTP API with severity `ticket`. Only a region with an HTTP API has the alarm."""
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


WATCH_NAMESPACE = "Metering/Watch"


# Only regions with log sources have alarms with these origins.
LOG_ORIGINS = ("onramp_queue", "onramp_dead_letters", "onramp", "log_context")
LOG_FIGURES = frozenset(figure for figure in Figure if figure.value.startswith("Log"))
"""Figures that only a region with log sources has."""


ALARMS: tuple[AlarmSpec, ...] = (
    AlarmSpec(name="dead-letter-queue", severity="page", origin="dead_letter_queue",
        metric="ApproximateNumberOfMessagesVisible", threshold=1, same_event_as="dead-letters",
        meaning="Batches failed each time they were received and wait in the dead-letter queue, unmetered."),
    AlarmSpec(name="oldest-message", severity="page", origin="ingest_queue", metric="ApproximateAgeOfOldestMessage",
        threshold=15 * MINUTE_S, periods=3, same_event_as="oldest-batch",
        meaning="Batches wait in the ingest queue for longer than 15 minutes."),
    watch_alarm("dead-letters", "page", Figure.DEAD_LETTERS, 1,
        "Batches failed each time they were received and are not metered until redriven."),
    watch_alarm("oldest-batch", "page", Figure.OLDEST_BATCH_AGE, 15 * MINUTE_S,
        "The oldest batch has waited for its verdict for longer than 15 minutes.", periods=3),
    watch_alarm("canary-late", "page", Figure.CANARY_AGE, 20 * MINUTE_S,
        "No canary batch was seen exactly once, in usage and in the lake, for 20 minutes."),
    watch_alarm("canary-doubled", "page", Figure.CANARY_DOUBLED, 1,
        "A canary batch was counted twice, or with another figure."),
    watch_alarm("usage-waiting", "page", Figure.WAITING_COMMIT_AGE, 15 * MINUTE_S,
        "Accepted batches have waited for the roll-up for 15 minutes: no report of usage holds them."),
    watch_alarm("rollup-stalled", "page", Figure.PLANNED_ROLLUP_AGE, 15 * MINUTE_S,
        "A planned run of the roll-up has blocked its shard for 15 minutes.", same_event_as="usage-waiting"),
    watch_alarm("reconciliation-differences", "page", Figure.RECONCILIATION_DIFFERENCES, 1,
        "Markers, usage and lake disagree in at least one hour."),
    watch_alarm("reconciliation-stalled", "ticket", Figure.RECONCILIATION_AGE, 3 * HOUR_S,
        "The reconciler has not finished a pass for 3 hours, so some totals are not checked."),
    watch_alarm("reconciliation-backlog", "ticket", Figure.RECONCILIATION_BACKLOG_AGE, DAY_S,
        "Something that was published a day ago is still not compared: the reconciler falls behind."),
    watch_alarm("scan-overdue", "ticket", Figure.SCAN_OVERDUE_AGE, 2 * DAY_S,
        "The last scan of all markers, rows and usage ended longer ago than scan_every_s and 2 days.",
        same_event_as="reconciliation-backlog"),
    watch_alarm("unpublished-hours", "ticket", Figure.OLDEST_PENDING_AGE, 26 * HOUR_S,
        "A commit has waited for compaction for longer than the policy allows."),
    watch_alarm("compaction-stalled", "ticket", Figure.PLANNED_RUN_AGE, 30 * MINUTE_S,
        "A planned compaction run has blocked its shard for 30 minutes."),
    watch_alarm("cleaning-behind", "ticket", Figure.CLEANING_OVERDUE_AGE, DAY_S,
        "What a run has replaced has been due for deletion for a day: the cleaners fall behind."),
    watch_alarm("orphans-unseen", "ticket", Figure.ORPHANS_UNSEEN_AGE, 2 * DAY_S,
        "No search for orphans of the last two days has come to its end.", same_event_as="cleaning-behind"),
    watch_alarm("conflicts", "ticket", Figure.CONFLICTS, 1,
        "Other content came under the id of a batch that is already metered."),
    watch_alarm("lost-drops", "ticket", Figure.LOST_DROPS, 1,
        "Objects below drop/ were never announced, so no batch came of them."),
    watch_alarm("drops-unseen", "ticket", Figure.DROPS_UNSEEN_AGE, 2 * DAY_S,
        "Nobody has looked for two days whether all objects below drop/ were announced.", same_event_as="lost-drops"),
    watch_alarm("kinds-beyond-cap", "ticket", Figure.ACCOUNTS_BEYOND_CAP, 1,
        "An account has more kinds of usage than get a number: each further one costs an item of its own."),
    AlarmSpec(name="marker-life", severity="page", origin="watch", metric=Figure.MARKER_LIFE_HEADROOM, threshold=0,
        comparison="LessThanThreshold", statistic="Minimum",
        meaning="Markers may expire before the last copy of their batch: a redrive could count twice."),
    watch_alarm("silent-sources", "ticket", Figure.SILENT_SOURCES, 1,
        "A producer that numbers its batches went silent."),
    watch_alarm("source-gaps", "ticket", Figure.SOURCE_GAPS, 1,
        "A producer's sequence has a gap: batches never arrived."),
    watch_alarm("incredible-sources", "ticket", Figure.INCREDIBLE_SOURCES, 1,
        "A source sent a number so far beyond its last one that no one can take it for a gap."),
    watch_alarm("unkept-sources", "ticket", Figure.UNKEPT_SOURCES, 1,
        "Sources are not followed: there are too many of them, or what is known of one cannot be read or written."),
    logs_alarm("log-slots-missing", Figure.LOG_SLOTS_MISSING, 1,
        "Files of a flow log are missing for 30 minutes, so their bytes are on no bill."),
    logs_alarm("log-source-silent", Figure.LOG_SOURCE_SILENT, 1,
        "A source of logs delivers nothing any more, or never did."),
    logs_alarm("log-lines-refused", Figure.LOG_LINES_REFUSED, 1,
        "More than 1 % of the lines of a source of logs were refused, and are not metered."),
    logs_alarm("log-bytes-unclassified", Figure.LOG_BYTES_UNCLASSIFIED, 1,
        "More bytes of a source of logs are unclassified than the stage allows."),
    logs_alarm("log-context-late", Figure.LOG_CONTEXT_AGE, 3 * HOUR_S,
        "No context was captured for 3 hours, so logs are judged by what networks were then."),
    watch_alarm("biller-behind", "ticket", Figure.BILLER_AGE, 4 * HOUR_S,
        "The biller has counted nothing that was published in the last 4 hours, so budgets are judged by too little."),
    watch_alarm("unpriced-usage", "ticket", Figure.UNPRICED_BYTES, 1,
        "Usage of this month or the last one has no price, so it costs nothing here and its payer has no invoice."),
    watch_alarm("invoice-blocked", "ticket", Figure.INVOICES_BLOCKED, 1,
        "A month that ended 5 days ago cannot be invoiced."),
    watch_alarm("budget-crossed", "ticket", Figure.BUDGETS_CROSSED, 1,
        "A threshold of a budget was crossed, or a day was unusual, within the last two hours."),
    AlarmSpec(name="aws-bill", severity="ticket", origin=BILL_ORIGIN, metric=Figure.BILL_DIFFERENCES, threshold=1,
        meaning="AWS's own bill differs from what was metered by more than the stage tolerates, or was not compared "
        "for three days."),
    AlarmSpec(name="onramp-dead-letters", severity="ticket", origin="onramp_dead_letters",
        metric="ApproximateNumberOfMessagesVisible", threshold=1,
        meaning="Log files failed each time they were tried, and wait in the dead-letter queue of log files."),
    AlarmSpec(name="watch-silent", severity="page", origin="watch", metric=Figure.HEARTBEAT, threshold=1,
        comparison="LessThanThreshold", statistic="Sum", period_s=5 * MINUTE_S, periods=3, missing="breaching",
        meaning="The watch itself has not run for 15 minutes, so no other alarm of its figures can fire."),
    AlarmSpec(name="rollout-failed", severity="ticket", origin="rollout", metric="FailedBuilds", threshold=1,
        statistic="Sum", period_s=HOUR_S,
        meaning="The scheduled project that builds missing regions failed."),
    # Two consecutive periods are required, so that one failure among a few requests pages nobody.
    AlarmSpec(name="api-failing", severity="page", origin=API_ORIGIN, metric=API_FAILED_PERMILLE, threshold=10,
        statistic="Average", period_s=5 * MINUTE_S, periods=2,
        meaning="More than 1 % of the requests to the HTTP API failed by our fault for ten minutes."),
    # If an invocation dies before it responds, no response is counted.
    AlarmSpec(name="api-errors", severity="page", origin=API_ORIGIN, metric="Errors", threshold=1, statistic="Sum",
        period_s=5 * MINUTE_S, periods=2, same_event_as="api-failing",
        meaning="The api function fails whole invocations."),
    api_alarm("api-slow", API_SLOW_PERMILLE, 50,
        "One request of twenty to the HTTP API took longer than 2 s for a quarter of an hour.",
        statistic="Average", periods=3),
    api_alarm("api-throttled", "Throttles", 1,
        "Requests to the HTTP API were turned away for a quarter of an hour: all executions reserved for it were busy.",
        periods=3),
    api_alarm("api-guessing", API_UNAUTHORIZED, 100,
        "At least 100 requests to the HTTP API in 5 minutes had no token, or one that is not known."),
    api_alarm("api-reads", API_READS, 20_000,
        "Requests to the HTTP API read more than 20,000 partitions and hours within an hour.", period_s=HOUR_S),
    errors_alarm("aggregator", "page", 2),
    errors_alarm("compactor", "ticket", 3),
    errors_alarm("rollup", "ticket", 3),
    errors_alarm("reconciler", "ticket", 3),
    errors_alarm("canary", "ticket", 3),
    errors_alarm("watch", "ticket", 3),
    # The biller runs hourly, so one failed run is one period with an error.
    errors_alarm("biller", "ticket", 1),
    errors_alarm("onramp", "ticket", 3),
    errors_alarm("log-context", "ticket", 3),
)  # fmt: skip

# Alarms that roll back a deployment: if new code handles money wrongly, one of these alarms fires during the bake. The
# canaries of the bake detect late batches. CloudFormation accepts at most five rollback triggers.
ROLLBACK_ALARMS = ("aggregator-errors", "canary-doubled", "dead-letters", "usage-waiting", "reconciliation-differences")


def alarm_name(stage: str, spec_name: str) -> str:
    """Physical name of an alarm in CloudWatch."""
    return f"metering-{stage}-{spec_name}"
