"""On-ramp of a region, which meters files of log sources when they are written, without a command.

    log bucket ── EventBridge rule ─> on-ramp queue ─> onramp function ─> plans/, ingest/logs/ and the ingest queue
    log-context function (schedule) ─> context/, and what is known of missing files

A region without log sources has no such resources. No other stack uses these resources, so it is safe to remove them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import CfnOutput, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.components.alarms import MeteringAlarm, MetricPlace
from infra.components.functions import FunctionSpec, MeteringFunction
from infra.components.log_buckets import grant_describe, grant_read_logs
from infra.components.queues import OnrampQueue
from metering.onramps.sources import encode_sources
from metering.operations.alarms import ALARMS, Figure
from metering.settings import as_environment
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_cdk import aws_lambda as lambda_

    from infra.components.topics import AlertTopics
    from metering.fleet.settings.log_sources import LogSource
    from metering.fleet.stage import StageConfig


class LogSources(Construct):
    """Rules, queue and functions of the log sources of a region.

    Attributes:
        queue: Events of new log files.
        onramp: Function that meters a log file.
        log_context: Function that captures contexts, and detects missing files.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        topics: AlertTopics,
        code: lambda_.Code,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(scope, construct_id)
        sources = config.log_sources
        self.queue = OnrampQueue(self, "Events", config=config)
        for source in sources:
            self._announce(source, config)
        plain = encode_sources(source.plain() for source in sources)
        own = as_environment(
            {
                "log_sources": plain,
                "causes": config.causes.enabled,
                "tag_keys": ",".join(config.causes.tags),
                "home_region": "" if config.emulated else config.rollout.home,
            }
        )
        self.onramp, self.log_context = (
            MeteringFunction(
                self, spec.construct_id, config=config, spec=spec, code=code, environment={**environment, **own}
            )
            for spec in log_specs(config)
        )
        self.onramp.consume_alone(self.queue, config=config)
        self.log_context.schedule()
        grant_read_logs(self.onramp.role, sources, config=config)
        grant_describe(self.log_context.role, sources)
        self._outputs()
        self._alarms(config, topics)

    @property
    def functions(self) -> tuple[MeteringFunction, ...]:
        return self.onramp, self.log_context

    def _announce(self, source: LogSource, config: StageConfig) -> None:
        """Send the events of new files below a source's prefix to the queue."""
        key: dict[str, list[object]] = {"key": [{"prefix": source.prefix}]} if source.prefix else {}
        detail: dict[str, object] = {"bucket": {"name": [source.bucket]}, **({"object": key} if key else {})}
        encrypted = bool(config.customer_key_arn)
        name = source.name.title().replace("-", "")
        queue: sqs.IQueue = self.queue.queue
        if encrypted:
            # The CDK would let every rule of every account send to a queue that has a key.
            queue = sqs.Queue.from_queue_arn(self, f"QueueOf{name}", queue.queue_arn)
        rule = events.Rule(
            self,
            f"Rule{name}",
            description=f"New log files of the log source {source.name} of metering.",
            event_pattern=events.EventPattern(source=["aws.s3"], detail_type=["Object Created"], detail=detail),
            targets=[targets.SqsQueue(queue)],
        )
        if encrypted:
            self.queue.queue.add_to_resource_policy(
                iam.PolicyStatement(
                    principals=[iam.ServicePrincipal("events.amazonaws.com")],
                    actions=["sqs:SendMessage"],
                    resources=[queue.queue_arn],
                    conditions={"ArnEquals": {"aws:SourceArn": rule.rule_arn}},
                )
            )

    def _outputs(self) -> None:
        outputs = {
            "OnrampQueueUrl": self.queue.queue.queue_url,
            "OnrampDeadLetterQueueUrl": self.queue.dead_letters.queue_url,
        }
        for function in self.functions:
            outputs[f"{function.spec.construct_id}FunctionName"] = function.function.function_name
            outputs[f"{function.spec.construct_id}LogGroupName"] = function.log_group.log_group_name
        for name, value in outputs.items():
            CfnOutput(Stack.of(self), name, value=value)

    def _alarms(self, config: StageConfig, topics: AlertTopics) -> None:
        """Alarms on metrics of these resources. These alarms are in this stack, because imports block its deletion."""
        sqs = {"onramp_queue": self.queue.queue, "onramp_dead_letters": self.queue.dead_letters}
        places = {
            **{
                name: MetricPlace(namespace="AWS/SQS", dimensions={"QueueName": queue.queue_name})
                for name, queue in sqs.items()
            },
            **{
                function.spec.name.replace("-", "_"): MetricPlace(
                    namespace="AWS/Lambda", dimensions={"FunctionName": function.function.function_name}
                )
                for function in self.functions
            },
        }
        for spec in ALARMS:
            if spec.origin in places and spec.metric not in set(Figure):
                name = "".join(word.capitalize() for word in spec.name.split("-"))
                MeteringAlarm(self, name, config=config, spec=spec, topics=topics, place=places[spec.origin])


def log_specs(config: StageConfig) -> tuple[FunctionSpec, FunctionSpec]:
    """Specs of the two functions that a region with log sources has."""
    return (
        FunctionSpec(
            name="onramp",
            description="Meters a log file when it is written to the bucket of a log source.",
            timeout_s=config.onramp_timeout_s,
            memory_mb=config.onramp_memory_mb,
        ),
        FunctionSpec(
            name="log-context",
            description="Captures what logs are judged by, and looks for log files that are missing.",
            timeout_s=4 * MINUTE_S,
            memory_mb=config.onramp_memory_mb,
            every_min=config.log_context_every_min,
        ),
    )
