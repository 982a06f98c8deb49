"""The catalogue of alarms: one entry an alarm, shared by the stacks that make them and the runbooks that explain them.

Every alarm is a plain comparison of one metric, so that every emulator and every region can evaluate it. What pages
comes from durable state, as a figure that the watch puts each minute, or from a native metric of the queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from metering.units import DAY_S, HOUR_S, MINUTE_S

WATCH_NAMESPACE = "Metering/Watch"


class Figure(StrEnum):
    """What the watch measures; the values are metric names in `WATCH_NAMESPACE`, with the dimension `Stage`."""

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
    HEARTBEAT = "Heartbeat"


Severity = Literal["page", "ticket"]
Missing = Literal["breaching", "notBreaching", "ignore"]
Comparison = Literal["GreaterThanOrEqualToThreshold", "LessThanThreshold"]
Statistic = Literal["Maximum", "Minimum", "Sum"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSpec:
    """One alarm. Its runbook is `docs/runbooks/<runbook>.md`.

    Attributes:
        name: Kebab case; the alarm in CloudWatch is `metering-<stage>-<name>`.
        severity: `page` wakes somebody, `ticket` waits for the morning.
        source: `watch`, `ingest_queue`, `dead_letter_queue`, or the function whose metric it is.
        metric: Metric name in the source's namespace.
        period_s, periods: It fires when the comparison was true in `periods` periods in a row.
        missing: What a period without a figure counts as. Breaching only for the heartbeat.
        meaning: One sentence, which the alert carries.
        same_event_as: Alarm that the same event raises: both share that one's runbook.
    """

    name: str
    severity: Severity
    source: str
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


def _watch(
    name: str, severity: Severity, figure: Figure, threshold: int, meaning: str, *, periods: int = 1
) -> AlarmSpec:
    return AlarmSpec(
        name=name,
        severity=severity,
        source="watch",
        metric=figure,
        threshold=threshold,
        meaning=meaning,
        periods=periods,
    )


def _errors(function: str, severity: Severity, periods: int) -> AlarmSpec:
    return AlarmSpec(
        name=f"{function}-errors",
        severity=severity,
        source=function,
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
        source="dead_letter_queue",
        metric="ApproximateNumberOfMessagesVisible",
        threshold=1,
        meaning="Batches failed five times and wait in the dead-letter queue, unmetered.",
        same_event_as="dead-letters",
    ),
    AlarmSpec(
        name="oldest-message",
        severity="page",
        source="ingest_queue",
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
        source="watch",
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
        "A source sent a number so far beyond its last one that nobody can take it for a gap.",
    ),
    _watch(
        "unkept-sources",
        "ticket",
        Figure.UNKEPT_SOURCES,
        1,
        "Sources are not followed: there are too many of them, or what is known of one cannot be read or written.",
    ),
    AlarmSpec(
        name="watch-silent",
        severity="page",
        source="watch",
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
        source="rollout",
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
)

# What turns a deployment back: alarms that new code raises within a bake if it is wrong about money. That batches are
# late is what the canaries of the bake find. CloudFormation takes five rollback triggers at most.
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
