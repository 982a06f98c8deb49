"""Two dashboards: quality of service for customers, and load of the resources."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from metering import metric_names as counters
from metering.metric_names import NAMESPACE
from metering.operations.alarms import WATCH_NAMESPACE, Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.components.functions import MeteringFunction
    from infra.components.queues import IngestQueue
    from infra.components.tables import MeteringTable
    from metering.fleet.stage import StageConfig

_PERIOD = Duration.minutes(5)
_WIDTH = 12


class Dashboards(Construct):
    """Dashboards `customer` (freshness, completeness, volume, refusals) and `resources` (queues, functions, tables)."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        ingest: IngestQueue,
        tables: Sequence[MeteringTable],
        functions: Sequence[MeteringFunction],
    ) -> None:
        super().__init__(scope, construct_id)
        self._stage = config.stage
        self.customer = cloudwatch.Dashboard(self, "Customer", widgets=[self._customer()])
        self.resources = cloudwatch.Dashboard(self, "Resources", widgets=[_resources(ingest, tables, functions)])

    def _customer(self) -> list[cloudwatch.IWidget]:
        return [
            _graph(
                "Freshness: age of the oldest batch and of the last good canary run, seconds",
                [
                    self._figure(Figure.OLDEST_BATCH_AGE),
                    self._figure(Figure.CANARY_AGE),
                ],
            ),
            _graph(
                "Completeness: open commits, unpublished hours, differences, gaps, silent sources, dead letters",
                [
                    self._figure(Figure.OPEN_COMMITS),
                    self._figure(Figure.UNPUBLISHED_HOURS),
                    self._figure(Figure.RECONCILIATION_DIFFERENCES),
                    self._figure(Figure.SOURCE_GAPS),
                    self._figure(Figure.SILENT_SOURCES),
                    self._figure(Figure.DEAD_LETTERS),
                ],
            ),
            _graph(
                "Volume: batches and records",
                [
                    self._counter(counters.BATCHES_ACCEPTED),
                    self._counter(counters.BATCHES_DUPLICATE),
                    self._counter(counters.RECORDS_METERED),
                ],
            ),
            _graph("Volume: bytes", [self._counter(counters.BYTES_METERED)]),
            _graph(
                "Refusals",
                [
                    self._counter(counters.BATCHES_REJECTED),
                    self._counter(counters.BATCHES_CONFLICT),
                    self._counter(counters.RECORDS_REFUSED),
                ],
            ),
        ]

    def _figure(self, figure: Figure) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=WATCH_NAMESPACE,
            metric_name=figure.value,
            dimensions_map={"Stage": self._stage},
            statistic="Maximum",
            period=_PERIOD,
        )

    def _counter(self, name: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=name,
            dimensions_map={"service": "aggregator", "stage": self._stage},
            statistic="Sum",
            period=_PERIOD,
        )


def _resources(
    ingest: IngestQueue, tables: Sequence[MeteringTable], functions: Sequence[MeteringFunction]
) -> list[cloudwatch.IWidget]:
    queue, dead_letters = ingest.queue, ingest.dead_letters
    lambdas = [function.function for function in functions]
    return [
        _graph(
            "Ingest queue: messages",
            [
                queue.metric_approximate_number_of_messages_visible(),
                queue.metric_approximate_number_of_messages_not_visible(),
                dead_letters.metric_approximate_number_of_messages_visible(label="dead letters"),
            ],
        ),
        _graph("Ingest queue: age of the oldest message, seconds", [queue.metric_approximate_age_of_oldest_message()]),
        _graph("Functions: duration, milliseconds", [function.metric_duration() for function in lambdas]),
        _graph(
            "Functions: errors and throttles",
            [metric for function in lambdas for metric in (function.metric_errors(), function.metric_throttles())],
        ),
        _graph(
            "Functions: concurrent executions",
            [function.metric("ConcurrentExecutions", statistic="Maximum") for function in lambdas],
        ),
        _graph("Tables: write units", [table.table.metric_consumed_write_capacity_units() for table in tables]),
    ]


def _graph(title: str, metrics: list[cloudwatch.Metric]) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, width=_WIDTH, left=list(metrics))
