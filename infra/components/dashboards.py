"""Dashboards: an overview for the person on call, the load of the resources, and a comparison of all regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws, Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra.components.dashboard_parts import HOURS, MINUTES, counter, figure, graph, limit, number, scaled, thresholds
from metering import metric_names as counters
from metering.operations.alarms import Figure
from metering.operations.own_costs import PROCESSING_USD
from metering.operations.runbooks import Dashboard, command_of, dashboard_name
from metering.units import KIB
from metering.usage.usage_types import billing_prefixes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.components.alarms import MeteringAlarm
    from infra.components.functions import MeteringFunction
    from infra.components.queues import IngestQueue
    from infra.components.tables import MeteringTable
    from metering.fleet.stage import RolloutRules, StageConfig

Rows = list[list[cloudwatch.IWidget]]
_ALARMS_IN_FOUR_UNITS = 32
_HOUR = Duration.hours(1)
_WRITE_USD = PROCESSING_USD["DynamoDB write request unit (on demand)"]
_READ_USD = PROCESSING_USD["DynamoDB read request unit (on demand)"]
_GB_SECOND_USD = PROCESSING_USD["Lambda GB-second (arm64)"]
_INVOCATION_USD = PROCESSING_USD["Lambda request"]


class Dashboards(Construct):
    """Dashboards `on-call` and `load` of a region, and `regions` in the home region.

    Three dashboards of up to 50 metrics are free per account; each further dashboard costs 3 USD a month.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        alarms: Sequence[MeteringAlarm],
        ingest: IngestQueue,
        tables: Sequence[MeteringTable],
        functions: Sequence[MeteringFunction],
    ) -> None:
        super().__init__(scope, construct_id)
        self._stage = config.stage
        self._dashboard(
            "OnCall",
            Dashboard.ON_CALL,
            on_call_rows(config.stage, alarms, ingest, logs=bool(config.log_sources), api=config.api),
        )
        self._dashboard("Load", Dashboard.LOAD, load_rows(config, ingest, tables, functions))
        if config.rollout_project:
            self._dashboard("Regions", Dashboard.REGIONS, region_rows(config.stage, admitted(config.rollout)))

    def _dashboard(self, construct_id: str, kind: Dashboard, rows: Rows) -> None:
        name = dashboard_name(self._stage, kind, Aws.REGION)
        cloudwatch.Dashboard(self, construct_id, dashboard_name=name, widgets=rows)


def on_call_rows(
    stage: str, alarms: Sequence[MeteringAlarm], ingest: IngestQueue, *, logs: bool = False, api: bool = False
) -> Rows:
    """Dashboard of problems, the lag of the totals, backlogs, and the commands to enter.

    Args:
        stage: Name of the stage.
        alarms: Alarms of the region.
        ingest: Its queue.
        logs: Whether the region has log sources.
        api: Whether the region has an HTTP API.
    """
    waiting = ingest.queue.metric_approximate_number_of_messages_visible(label="waiting", statistic="Maximum")
    return [
        [_what_to_type(stage)],
        [_states(alarms, "page"), _states(alarms, "ticket")],
        [
            number("Totals complete through", _age(stage, Figure.COMPLETE_THROUGH_AGE, "minutes ago")),
            number("Oldest batch", _age(stage, Figure.OLDEST_BATCH_AGE, "minutes")),
            number("Messages waiting", waiting),
            number("Dead letters", figure(stage, Figure.DEAD_LETTERS, "messages")),
            number("Last good canary", _age(stage, Figure.CANARY_AGE, "minutes ago")),
            number("Differences", figure(stage, Figure.RECONCILIATION_DIFFERENCES, "hours that differ")),
        ],
        [
            graph(
                "Late: how old is what waits",
                [_age(stage, Figure.OLDEST_BATCH_AGE, "oldest batch"), _age(stage, Figure.CANARY_AGE, "last canary")],
                lines=thresholds("oldest-batch", "canary-late", unit=MINUTES),
                axes=("minutes", ""),
            ),
            graph(
                "Queue and dead letters",
                [waiting],
                right=[figure(stage, Figure.DEAD_LETTERS, "dead letters")],
                axes=("messages", "dead letters"),
            ),
            graph(
                "Traffic in 5 minutes",
                [counter(stage, counters.BATCHES_ACCEPTED, "batches accepted")],
                right=[counter(stage, counters.RECORDS_METERED, "records metered")],
                axes=("batches", "records"),
            ),
        ],
        _backlogs(stage),
        [_must_be_zero(stage), _money(stage)],
        *([_logs(stage)] if logs else []),
        *([_api(stage)] if api else []),
    ]


def _money(stage: str) -> cloudwatch.IWidget:
    """Widgets for the progress of the biller, and for its alerts. The biller's alerts explain the problem in words."""
    return graph(
        "Money: biller, months that cannot be invoiced, alerts of budgets",
        [figure(stage, Figure.BILLER_AGE, "counted", unit=HOURS)],
        right=[
            figure(stage, Figure.INVOICES_BLOCKED, "months that cannot be invoiced"),
            figure(stage, Figure.BUDGETS_CROSSED, "alerts of budgets"),
        ],
        lines=thresholds("biller-behind", unit=HOURS),
        axes=("hours", "count"),
    )


def _backlogs(stage: str) -> list[cloudwatch.IWidget]:
    """Backlog of each job."""
    return [
        graph(
            "Compactor and cleaners: oldest that waits",
            [
                figure(stage, Figure.OLDEST_PENDING_AGE, "commit without a run", unit=HOURS),
                figure(stage, Figure.CLEANING_OVERDUE_AGE, "run overdue for cleaning", unit=HOURS),
            ],
            lines=thresholds("unpublished-hours", "cleaning-behind", unit=HOURS),
            axes=("hours", ""),
        ),
        graph(
            "Reconciler: oldest that waits, and last pass",
            [
                figure(stage, Figure.RECONCILIATION_BACKLOG_AGE, "hour not compared", unit=HOURS),
                figure(stage, Figure.RECONCILIATION_AGE, "last pass", unit=HOURS),
            ],
            lines=thresholds("reconciliation-backlog", "reconciliation-stalled", unit=HOURS),
            axes=("hours", ""),
        ),
        graph(
            "Roll-up and compaction: what waits, and planned runs",
            [
                _age(stage, Figure.WAITING_COMMIT_AGE, "oldest that waits for the roll-up"),
                _age(stage, Figure.PLANNED_ROLLUP_AGE, "planned roll-up"),
                _age(stage, Figure.PLANNED_RUN_AGE, "planned compaction"),
            ],
            right=[figure(stage, Figure.WAITING_COMMITS, "commits that wait")],
            lines=thresholds("usage-waiting", "compaction-stalled", unit=MINUTES),
            axes=("minutes", "commits"),
        ),
    ]


def _logs(stage: str) -> list[cloudwatch.IWidget]:
    """Widgets for the state of the log sources."""
    return [
        graph(
            "Log sources: what must be zero",
            [
                figure(stage, Figure.LOG_SLOTS_MISSING, "missing files"),
                figure(stage, Figure.LOG_SOURCE_SILENT, "silent"),
                figure(stage, Figure.LOG_LINES_REFUSED, "refusing lines"),
                figure(stage, Figure.LOG_BYTES_UNCLASSIFIED, "unclassified above the limit"),
            ],
            lines=thresholds("log-slots-missing"),
            axes=("count", ""),
            width=12,
        ),
        graph(
            "Log sources: bytes unclassified, and age of the context",
            [figure(stage, Figure.LOG_UNCLASSIFIED_PERMILLE, "unclassified")],
            right=[figure(stage, Figure.LOG_CONTEXT_AGE, "context", unit=HOURS)],
            axes=("thousandths", "hours"),
            width=12,
        ),
    ]


def _api(stage: str) -> list[cloudwatch.IWidget]:
    """Widgets for the responses of the HTTP API."""

    def counted(name: str, label: str, statistic: str = "Sum") -> cloudwatch.IMetric:
        return counter(stage, name, label, service="api", statistic=statistic)

    return [
        graph(
            "HTTP API: requests in 5 minutes, and how many of a thousand failed by our fault or were slow",
            [counted(counters.API_REQUESTS, "requests"), counted(counters.API_UNAUTHORIZED, "without a known token")],
            right=[
                counted(counters.API_FAILED_PERMILLE, "failed", "Average"),
                counted(counters.API_SLOW_PERMILLE, "slow", "Average"),
            ],
            axes=("requests", "of a thousand"),
            width=12,
        ),
        graph(
            "HTTP API: partitions and hours read in 5 minutes",
            [counted(counters.API_READS, "read")],
            axes=("count", ""),
            width=12,
        ),
    ]


def _must_be_zero(stage: str) -> cloudwatch.IWidget:
    return graph(
        "What must be zero",
        [
            figure(stage, Figure.RECONCILIATION_DIFFERENCES, "differences"),
            figure(stage, Figure.CANARY_DOUBLED, "canaries doubled"),
            figure(stage, Figure.CONFLICTS, "conflicts"),
            figure(stage, Figure.SOURCE_GAPS, "gaps of sources"),
            figure(stage, Figure.SILENT_SOURCES, "silent sources"),
            figure(stage, Figure.INCREDIBLE_SOURCES, "incredible sources"),
            figure(stage, Figure.UNKEPT_SOURCES, "sources not followed"),
        ],
        lines=thresholds("reconciliation-differences"),
        axes=("count", ""),
        width=16,
    )


def region_rows(stage: str, regions: Sequence[str]) -> Rows:
    """Each graph has one line per region. A region where nothing is deployed has no line in the graphs."""

    def each(which: Figure) -> list[cloudwatch.IMetric]:
        return [figure(stage, which, region, unit=MINUTES, region=region) for region in regions]

    def counts(which: Figure) -> list[cloudwatch.IMetric]:
        return [figure(stage, which, region, region=region) for region in regions]

    minutes = ("minutes", "")
    return [
        [graph("Totals complete through: age", each(Figure.COMPLETE_THROUGH_AGE), axes=minutes, width=12),
         graph("Oldest batch", each(Figure.OLDEST_BATCH_AGE), axes=minutes, width=12,
               lines=thresholds("oldest-batch", unit=MINUTES))],
        [graph("Dead letters", counts(Figure.DEAD_LETTERS), axes=("messages", ""), width=12,
               lines=thresholds("dead-letters")),
         graph("Differences", counts(Figure.RECONCILIATION_DIFFERENCES), axes=("hours", ""), width=12,
               lines=thresholds("reconciliation-differences"))],
        [graph("Last good canary", each(Figure.CANARY_AGE), axes=minutes, width=12,
               lines=thresholds("canary-late", unit=MINUTES)),
         graph("Batches accepted in 5 minutes", axes=("batches", ""), width=12, stacked=True,
               left=[counter(stage, counters.BATCHES_ACCEPTED, region, region=region) for region in regions])],
    ]  # fmt: skip


def admitted(rules: RolloutRules) -> list[str]:
    """The admitted regions among those known to this version and those that the rules name in full."""
    named = {region for region in rules.allow if "*" not in region and "?" not in region}
    known = {*billing_prefixes(), *named}
    return sorted({rules.home, *(region for region in known if rules.admits(region))})


def _age(stage: str, which: Figure, label: str) -> cloudwatch.IMetric:
    return figure(stage, which, label, unit=MINUTES)


def _states(alarms: Sequence[MeteringAlarm], severity: str) -> cloudwatch.IWidget:
    chosen = [each.alarm for each in alarms if each.spec.severity == severity]
    title = "Act now (page)" if severity == "page" else "Can wait until morning (ticket)"
    return cloudwatch.AlarmStatusWidget(
        alarms=list(chosen),
        title=title,
        width=12,
        # The widget has four alarms per row; a sixth row does not fit into four units.
        height=4 if len(alarms) <= _ALARMS_IN_FOUR_UNITS else 5,
        sort_by=cloudwatch.AlarmStatusWidgetSortBy.STATE_UPDATED_TIMESTAMP,
    )


def _what_to_type(stage: str) -> cloudwatch.IWidget:
    where = f"--region {Aws.REGION} --stage {stage}"
    return cloudwatch.TextWidget(
        width=24,
        height=3,
        markdown=(
            f"**metering {stage} in {Aws.REGION}.** An alarm is on? Type what to do about it: "
            f"`{command_of('ALARM', region=Aws.REGION, stage=stage)}`\n\n"
            f"All at a glance: `metering status {where}` · errors of functions: `metering errors {where}` · "
            f"proof that nothing is lost or doubled: `metering verify {where}`"
        ),
    )


def load_rows(
    config: StageConfig, ingest: IngestQueue, tables: Sequence[MeteringTable], functions: Sequence[MeteringFunction]
) -> Rows:
    """Graphs of the resources, and the estimated cost of each hour."""
    return [
        _queue(ingest),
        _functions(config, functions),
        _tables(tables),
        _traffic(config.stage),
        [_cost(tables, functions)],
    ]


def _queue(ingest: IngestQueue) -> list[cloudwatch.IWidget]:
    queue, dead = ingest.queue, ingest.dead_letters
    return [
        graph(
            "Ingest queue",
            [
                queue.metric_approximate_number_of_messages_visible(label="waiting", statistic="Maximum"),
                queue.metric_approximate_number_of_messages_not_visible(label="being handled", statistic="Maximum"),
            ],
            axes=("messages", ""),
        ),
        graph(
            "Ingest queue: oldest message",
            [scaled(queue.metric_approximate_age_of_oldest_message(), "/60", "oldest", name="oldest")],
            lines=thresholds("oldest-message", unit=MINUTES),
            axes=("minutes", ""),
        ),
        graph(
            "Dead-letter queue",
            [dead.metric_approximate_number_of_messages_visible(label="messages", statistic="Maximum")],
            right=[scaled(dead.metric_approximate_age_of_oldest_message(), "/3600", "oldest, hours", name="dead")],
            lines=thresholds("dead-letter-queue"),
            axes=("messages", "hours"),
        ),
    ]


def _functions(config: StageConfig, functions: Sequence[MeteringFunction]) -> list[cloudwatch.IWidget]:
    def share(each: MeteringFunction) -> cloudwatch.IMetric:
        name = each.spec.name
        slow = each.function.metric_duration(statistic="p99")
        return scaled(slow, f"/{each.spec.timeout_s * 10}", name, name=name)

    def each_of(metric: str, statistic: str, what: str = "") -> list[cloudwatch.IMetric]:
        return [
            each.function.metric(metric, statistic=statistic, label=f"{each.spec.name} {what}".strip())
            for each in functions
        ]

    return [
        graph(
            "Functions: slowest 1 % (p99), share of their timeout",
            [share(each) for each in functions],
            lines=[limit(100, "killed by its timeout")],
            axes=("percent", ""),
        ),
        graph(
            "Functions: errors",
            each_of("Errors", "Sum"),
            lines=thresholds("aggregator-errors"),
            axes=("invocations", ""),
        ),
        graph(
            "Aggregator: executions at once; throttles of all",
            each_of("ConcurrentExecutions", "Maximum", "executions")[:1],
            right=each_of("Throttles", "Sum", "throttled"),
            lines=[limit(config.max_concurrency, "max_concurrency")],
            axes=("executions", "throttles"),
        ),
    ]


def _tables(tables: Sequence[MeteringTable]) -> list[cloudwatch.IWidget]:
    def each_of(name: str, what: str) -> list[cloudwatch.IMetric]:
        return [each.table.metric(name, statistic="Sum", label=f"{each.node.id.lower()} {what}") for each in tables]

    return [
        graph("Tables: write units in 5 minutes", each_of("ConsumedWriteCapacityUnits", "writes"), axes=("units", "")),
        graph("Tables: read units in 5 minutes", each_of("ConsumedReadCapacityUnits", "reads"), axes=("units", "")),
        graph(
            "Tables: throttled requests",
            [*each_of("WriteThrottleEvents", "writes"), *each_of("ReadThrottleEvents", "reads")],
            axes=("requests", ""),
        ),
    ]


def _traffic(stage: str) -> list[cloudwatch.IWidget]:
    return [
        graph(
            "Batches and records in 5 minutes",
            [
                counter(stage, counters.BATCHES_ACCEPTED, "batches accepted"),
                counter(stage, counters.BATCHES_DUPLICATE, "batches duplicate"),
            ],
            right=[counter(stage, counters.RECORDS_METERED, "records metered")],
            axes=("batches", "records"),
        ),
        graph("Bytes metered in 5 minutes", [counter(stage, counters.BYTES_METERED, "bytes")], axes=("bytes", "")),
        graph(
            "Refused in 5 minutes",
            [
                counter(stage, counters.BATCHES_REJECTED, "batches rejected"),
                counter(stage, counters.BATCHES_CONFLICT, "batches in conflict"),
            ],
            right=[counter(stage, counters.RECORDS_REFUSED, "records refused")],
            axes=("batches", "records"),
        ),
    ]


def _cost(tables: Sequence[MeteringTable], functions: Sequence[MeteringFunction]) -> cloudwatch.IWidget:
    """Estimated cost of each hour at list prices, without storage, S3 requests, SQS and logs."""

    def hourly(metric: str, price: str, label: str, prefix: str) -> cloudwatch.IMetric:
        used = {
            f"{prefix}{number}": each.table.metric(metric, statistic="Sum", period=_HOUR)
            for number, each in enumerate(tables)
        }
        return cloudwatch.MathExpression(
            expression=f"({'+'.join(used)})*{price}", using_metrics=dict(used), label=label, period=_HOUR
        )

    return graph(
        "Estimated cost, USD an hour: by list prices, without storage, S3 requests, SQS and logs",
        [
            hourly("ConsumedWriteCapacityUnits", f"{_WRITE_USD:f}", "table writes", "w"),
            hourly("ConsumedReadCapacityUnits", f"{_READ_USD:f}", "table reads", "r"),
            _lambda_cost(functions),
        ],
        axes=("USD an hour", ""),
        width=24,
        stacked=True,
    )


def _lambda_cost(functions: Sequence[MeteringFunction]) -> cloudwatch.IMetric:
    used: dict[str, cloudwatch.IMetric] = {}
    terms: list[str] = []
    for each in functions:
        name, gb_ms = each.spec.name, _GB_SECOND_USD * each.spec.memory_mb / KIB / 1000
        used[f"{name}Ms"] = each.function.metric_duration(statistic="Sum", period=_HOUR)
        used[f"{name}Runs"] = each.function.metric_invocations(statistic="Sum", period=_HOUR)
        terms.append(f"{name}Ms*{gb_ms:.12f}+{name}Runs*{_INVOCATION_USD:f}")
    return cloudwatch.MathExpression(expression="+".join(terms), using_metrics=used, label="functions", period=_HOUR)
