"""Rows of the dashboard `load`: queue, functions, tables, traffic, and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch

from infra.components.dashboard_parts import MINUTES, counter, graph, limit, scaled, thresholds
from metering import metric_names as counters
from metering.operations.own_costs import PROCESSING_USD
from metering.units import KIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.components.functions import MeteringFunction
    from infra.components.queues import IngestQueue
    from infra.components.tables import MeteringTable
    from metering.fleet.stage import StageConfig

_HOUR = Duration.hours(1)
_WRITE_USD = PROCESSING_USD["DynamoDB write request unit (on demand)"]
_READ_USD = PROCESSING_USD["DynamoDB read request unit (on demand)"]
_GB_SECOND_USD = PROCESSING_USD["Lambda GB-second (arm64)"]
_INVOCATION_USD = PROCESSING_USD["Lambda request"]


def load_rows(
    config: StageConfig, ingest: IngestQueue, tables: Sequence[MeteringTable], functions: Sequence[MeteringFunction]
) -> list[list[cloudwatch.IWidget]]:
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
    """Price of each hour by list prices: what the bill will say, but for storage, requests to S3, and logs."""

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
