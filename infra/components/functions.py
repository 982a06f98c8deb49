"""A function of the service: its role, its log group and its environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import Aws, Duration, RemovalPolicy, Size, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.components.acknowledgement import acknowledge, acknowledge_wildcard
from metering.fleet.regions import ALONE_FUNCTIONS
from metering.metric_names import NAMESPACE
from metering.operations.alarms import WATCH_NAMESPACE
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.components.queues import IngestQueue
    from metering.fleet.stage import StageConfig

# What a function has without being asked for more (Lambda developer guide).
_SCRATCH_MB = 512
# The shortest that EventBridge and Lambda take.
_TICK_LIFE_S = MINUTE_S

_RETENTION = {
    1: logs.RetentionDays.ONE_DAY,
    7: logs.RetentionDays.ONE_WEEK,
    30: logs.RetentionDays.ONE_MONTH,
    90: logs.RetentionDays.THREE_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
}
_ARCHITECTURES = {"arm64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """A function as code: `lambdas/<name>/handler.py` with a `handler`.

    Attributes:
        name: Folder below `lambdas/`, in kebab case where a name has several words.
        scratch_mb: Size of `/tmp`.
        every_min: Runs by an EventBridge `rate()` rule; None for a function that a queue drives.
    """

    name: str
    description: str
    timeout_s: int
    memory_mb: int
    scratch_mb: int = _SCRATCH_MB
    every_min: int | None = None

    @property
    def construct_id(self) -> str:
        return "".join(word.capitalize() for word in self.name.split("-"))

    @property
    def alone(self) -> bool:
        """Never twice side by side: one execution is reserved for it, and a tick meanwhile is dropped."""
        return self.name in ALONE_FUNCTIONS

    @property
    def handler(self) -> str:
        return f"lambdas.{self.name.replace('-', '_')}.handler.handler"


class MeteringFunction(Construct):
    """One function with a role of its own that may do nothing but write its log until something is granted."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        spec: FunctionSpec,
        code: lambda_.Code,
        environment: Mapping[str, str],
    ) -> None:
        super().__init__(scope, construct_id)
        self.spec = spec
        self._emulated = config.emulated
        log_group = logs.LogGroup(
            self,
            "Logs",
            retention=_RETENTION[config.log_retention_days],
            removal_policy=RemovalPolicy.RETAIN if config.stateful_retained else RemovalPolicy.DESTROY,
        )
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"What the {spec.name} function of metering may do.",
        )
        log_group.grant_write(self.role)
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=_emulated_name(self, spec) if config.emulated else None,
            description=spec.description,
            runtime=lambda_.Runtime.PYTHON_3_13,
            architecture=_ARCHITECTURES[config.architecture],
            code=code,
            handler=spec.handler,
            role=self.role,
            timeout=Duration.seconds(spec.timeout_s),
            memory_size=spec.memory_mb,
            ephemeral_storage_size=Size.mebibytes(spec.scratch_mb) if spec.scratch_mb > _SCRATCH_MB else None,
            environment={
                **environment,
                "POWERTOOLS_SERVICE_NAME": spec.name,
                "POWERTOOLS_METRICS_NAMESPACE": NAMESPACE,
                "POWERTOOLS_LOG_LEVEL": config.log_level,
            },
            log_group=log_group,
            tracing=lambda_.Tracing.ACTIVE if config.tracing else lambda_.Tracing.DISABLED,
            # MiniStack takes no notice of it.
            reserved_concurrent_executions=1 if spec.alone and not config.emulated else None,
        )
        if config.tracing:
            acknowledge_wildcard(self.role, "*", "X-Ray's calls to send traces know no resources.")
        acknowledge(
            self.function,
            "L1",
            "The runtime is the newest that the project's own range of Python versions holds, so that tests and "
            "functions can run the same interpreter; it moves when that range does.",
        )

    def consume(self, ingest: IngestQueue, *, config: StageConfig) -> None:
        """Let the queue drive the function, with partial batch responses and bounded concurrency."""
        window = Duration.seconds(config.batch_window_s) if config.batch_window_s else None
        self.function.add_event_source(
            sources.SqsEventSource(
                ingest.queue,
                batch_size=config.batch_size if window else min(config.batch_size, _BATCH_WITHOUT_WINDOW),
                max_batching_window=window,
                max_concurrency=config.max_concurrency,
                report_batch_item_failures=True,
            )
        )

    def schedule(self) -> None:
        """Run the function at the rate of its spec. The next tick does what this one did not, so nothing is retried.

        Neither by EventBridge, which hands a tick over, nor by Lambda, which otherwise runs one that failed twice more,
        and keeps one that found no free execution for six hours.
        """
        if self.spec.every_min is None:
            raise ValueError(f"{self.spec.name} has no rate")
        self.function.configure_async_invoke(retry_attempts=0, max_event_age=Duration.seconds(_TICK_LIFE_S))
        events.Rule(
            self,
            "Rate",
            description=f"Runs the {self.spec.name} function of metering.",
            schedule=events.Schedule.rate(Duration.minutes(self.spec.every_min)),
            targets=[
                targets.LambdaFunction(self.function, retry_attempts=0, max_event_age=Duration.seconds(_TICK_LIFE_S))
            ],
        )

    def grant_put_metrics(self) -> None:
        """Let the function put figures, in the service's own namespace only."""
        own = {"StringEquals": {"cloudwatch:namespace": [NAMESPACE, WATCH_NAMESPACE]}}
        iam.Grant.add_to_principal(
            grantee=self.role,
            actions=["cloudwatch:PutMetricData"],
            resource_arns=["*"],
            # MiniStack does not know the condition key, and denies what it cannot judge.
            conditions=None if self._emulated else own,
        )
        acknowledge_wildcard(
            self.role, "*", "PutMetricData knows no resources; the condition holds it to the service's own namespaces."
        )

    def grant_read_metrics(self) -> None:
        """Let the function read metrics; CloudWatch knows no resource for that."""
        iam.Grant.add_to_principal(grantee=self.role, actions=["cloudwatch:GetMetricStatistics"], resource_arns=["*"])


def _emulated_name(scope: Construct, spec: FunctionSpec) -> str:
    """A name that no other region has.

    MiniStack generates the same name in every region, and where it creates a function it kills the running ones of
    that name in all regions: what they had received stays invisible for the visibility timeout.
    """
    return f"{Stack.of(scope).stack_name}-{spec.name}-{Aws.REGION}"


# SQS refuses a larger batch for a mapping that does not wait.
_BATCH_WITHOUT_WINDOW = 10
