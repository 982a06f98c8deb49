"""What watches: the alarms of the catalogue on the region's queues, functions and figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Stack

from infra.components.alarms import MeteringAlarm, MetricPlace, PageState
from infra.components.dashboards import Dashboards
from metering.operations.alarms import ALARMS, WATCH_NAMESPACE, AlarmSpec, Figure

if TYPE_CHECKING:
    from aws_cdk import Environment, IStackSynthesizer
    from constructs import Construct

    from infra.stacks.data import DataStack
    from infra.stacks.pipeline import PipelineStack
    from metering.fleet.stage import StageConfig


class ObservabilityStack(Stack):
    """The region's alarms."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        data: DataStack,
        pipeline: PipelineStack,
        synthesizer: IStackSynthesizer,
        env: Environment | None = None,
    ) -> None:
        super().__init__(scope, construct_id, description="Metering: what watches.", synthesizer=synthesizer, env=env)
        self.alarms = [
            MeteringAlarm(self, _construct_id(spec.name), config=config, spec=spec, topics=data.topics, place=place)
            for spec in ALARMS
            # A function that is not deployed has no figures, and an alarm without figures is noise.
            if (place := _place(spec, config, data, pipeline))
        ]
        if config.composite_alarms:
            PageState(self, "PageState", config=config, alarms=self.alarms, topics=data.topics)
        Dashboards(
            self,
            "Dashboards",
            config=config,
            ingest=data.ingest,
            tables=[data.ledger, data.usage],
            functions=list(pipeline.functions.values()),
        )


def _place(spec: AlarmSpec, config: StageConfig, data: DataStack, pipeline: PipelineStack) -> MetricPlace | None:
    """Place of an alarm's metric; None if nothing in this region publishes it."""
    queues = {"ingest_queue": data.ingest.queue, "dead_letter_queue": data.ingest.dead_letters}
    if spec.origin in queues:
        return MetricPlace(namespace="AWS/SQS", dimensions={"QueueName": queues[spec.origin].queue_name})
    function = pipeline.functions.get(spec.origin)
    if function is None:
        return None
    if spec.metric in set(Figure):
        return MetricPlace(namespace=WATCH_NAMESPACE, dimensions={"Stage": config.stage})
    return MetricPlace(namespace="AWS/Lambda", dimensions={"FunctionName": function.function.function_name})


def _construct_id(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))
