"""Observability stack: the alarms of the catalogue and the dashboards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.components.alarms import MeteringAlarm, MetricPlace, PageState
from infra.components.dashboards import Dashboards
from infra.components.shared import RegionStack
from metering.metric_names import API_FAILED_PERMILLE, API_READS, API_SLOW_PERMILLE, API_UNAUTHORIZED, NAMESPACE
from metering.operations.alarms import ALARMS, API_ORIGIN, BILL_ORIGIN, LOG_ORIGINS, WATCH_NAMESPACE, AlarmSpec, Figure

if TYPE_CHECKING:
    from aws_cdk import Environment, IStackSynthesizer
    from constructs import Construct

    from infra.stacks.api import ApiStack
    from infra.stacks.data import DataStack
    from infra.stacks.pipeline import PipelineStack
    from metering.fleet.stage import StageConfig


class ObservabilityStack(RegionStack):
    """Alarms and dashboards of a region."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        data: DataStack,
        pipeline: PipelineStack,
        api: ApiStack | None,
        synthesizer: IStackSynthesizer,
        env: Environment | None = None,
    ) -> None:
        super().__init__(scope, construct_id, "Metering alarms and dashboards", synthesizer=synthesizer, env=env)
        self.alarms = [
            MeteringAlarm(self, _construct_id(spec.name), config=config, spec=spec, topics=data.topics, place=place)
            for spec in ALARMS
            # An alarm without a metric is useless, and a function that is not deployed publishes no metrics.
            if (place := _place_of_api(spec, config, api) or _place(spec, config, data, pipeline))
        ]
        if config.composite_alarms:
            PageState(self, "PageState", config=config, alarms=self.alarms, topics=data.topics)
        Dashboards(
            self,
            "Dashboards",
            config=config,
            alarms=self.alarms,
            ingest=data.ingest,
            tables=[data.ledger, data.usage],
            functions=[*pipeline.functions.values(), *((api.function,) if api is not None else ())],
        )


def _place(spec: AlarmSpec, config: StageConfig, data: DataStack, pipeline: PipelineStack) -> MetricPlace | None:
    """Return the namespace and dimensions of an alarm's metric, or None if this stack does not create the alarm."""
    queues = {"ingest_queue": data.ingest.queue, "dead_letter_queue": data.ingest.dead_letters}
    if spec.origin in queues:
        return MetricPlace(namespace="AWS/SQS", dimensions={"QueueName": queues[spec.origin].queue_name})
    figures = MetricPlace(namespace=WATCH_NAMESPACE, dimensions={"Stage": config.stage})
    if spec.origin in LOG_ORIGINS:
        # Alarms on the resources themselves are listed beside these. None of the watch's figures refers to them.
        return figures if pipeline.log_sources is not None and spec.metric in set(Figure) else None
    if spec.origin == BILL_ORIGIN:
        return figures if config.bill_exports else None
    function = pipeline.functions.get(spec.origin)
    if function is None:
        return None
    if spec.metric in set(Figure):
        return figures
    return MetricPlace(namespace="AWS/Lambda", dimensions={"FunctionName": function.function.function_name})


def _place_of_api(spec: AlarmSpec, config: StageConfig, api: ApiStack | None) -> MetricPlace | None:
    """Return the namespace and dimensions of an HTTP API metric; None for other alarms or without an API."""
    if api is None or spec.origin != API_ORIGIN:
        return None
    if spec.metric in _API_COUNTERS:
        return MetricPlace(namespace=NAMESPACE, dimensions={"service": API_ORIGIN, "stage": config.stage})
    return MetricPlace(namespace="AWS/Lambda", dimensions={"FunctionName": api.function.function.function_name})


# Metrics that the function itself publishes. All other metrics of the function are Lambda's.
_API_COUNTERS = (API_FAILED_PERMILLE, API_READS, API_SLOW_PERMILLE, API_UNAUTHORIZED)


def _construct_id(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))
