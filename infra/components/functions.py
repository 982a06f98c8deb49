"""Functions of the service, each with its role, log group and environment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import Aws, Duration, Size, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.components.organisation import customer_key
from infra.components.shared import NIST, acknowledge, acknowledge_wildcard, removal_policy
from infra.endpoints import INTERFACES
from metering.fleet.regions import executions_of
from metering.metric_names import NAMESPACE
from metering.operations.alarms import WATCH_NAMESPACE
from metering.settings import as_environment
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.components.queues import IngestQueue, OnrampQueue
    from metering.fleet.settings.organisation import Network
    from metering.fleet.stage import StageConfig

# Default size of `/tmp` (Lambda developer guide).
_SCRATCH_MB = 512
# The smallest value of the maximum event age in EventBridge and Lambda.
_TICK_LIFE_S = MINUTE_S

RETENTION = {
    1: logs.RetentionDays.ONE_DAY,
    7: logs.RetentionDays.ONE_WEEK,
    30: logs.RetentionDays.ONE_MONTH,
    90: logs.RetentionDays.THREE_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
}
_ARCHITECTURES = {"arm64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """Properties of a function. The code is `handler` in `lambdas/<name>/handler.py`.

    Attributes:
        name: Folder below `lambdas/`, in kebab case if the name has several words.
        scratch_mb: Size of `/tmp`.
        every_min: Minutes between runs, by an EventBridge `rate()` rule; None for a function that a queue or a request
            invokes.
        shards: Number of shards, each with its own tick and the event `{"shard": n}`; None for a single tick.
        reserved: Reserved concurrency, which is also the maximum; None for the account's unreserved pool.
    """

    name: str
    description: str
    timeout_s: int
    memory_mb: int
    scratch_mb: int = _SCRATCH_MB
    every_min: int | None = None
    shards: int | None = None
    reserved: int | None = None

    @property
    def construct_id(self) -> str:
        return "".join(word.capitalize() for word in self.name.split("-"))

    @property
    def at_once(self) -> int | None:
        """Maximum number of concurrent executions; 1, or 1 per shard, if runs must not overlap.

        A tick is dropped if it arrives during a run.
        """
        alone = executions_of(self.name, shards=self.shards or 1)
        return self.reserved if alone is None else alone

    @property
    def handler(self) -> str:
        return f"lambdas.{self.name.replace('-', '_')}.handler.handler"


class MeteringFunction(Construct):
    """A function with its own role. Without further grants the role may only write the log."""

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
        self.log_group = logs.LogGroup(
            self,
            "Logs",
            encryption_key=customer_key(self, config),
            retention=RETENTION[config.log_retention_days],
            removal_policy=removal_policy(config),
        )
        self.role = iam.Role(
            self,
            "Role",
            assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"),
            description=f"Role of the {spec.name} function of metering.",
        )
        self.log_group.grant_write(self.role)
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
            log_group=self.log_group,
            tracing=lambda_.Tracing.ACTIVE if config.tracing else lambda_.Tracing.DISABLED,
            # MiniStack ignores this property.
            reserved_concurrent_executions=None if config.emulated else spec.at_once,
        )
        for network in config.vpc if not config.emulated else ():
            self._join(network)
        if config.tracing:
            acknowledge_wildcard(self.role, "*", "X-Ray does not support resource ARNs for sending traces.")
        acknowledge(
            self.function,
            "L1",
            "The runtime is the newest in the project's range of Python versions, so that tests and functions can run "
            "the same interpreter. It changes when that range changes.",
        )
        acknowledge(
            self.function,
            "LambdaDLQ",
            "Lambda sends only asynchronous events to a function's dead letters. Ticks are the only ones, and the next "
            "tick does the work of a failed one. Queues have dead letters of their own.",
            pack=NIST,
        )
        if spec.at_once is None:
            acknowledge(
                self.function,
                "LambdaConcurrency",
                "Its queue or its schedule bounds how many run at once, and a reservation would take executions from "
                "the account.",
                pack=NIST,
            )

    def _join(self, network: Network) -> None:
        """Run the function in subnets. Lambda makes and deletes the network interfaces, with the function's role."""
        function = self.function.node.default_child
        if not isinstance(function, lambda_.CfnFunction):
            raise TypeError("the function has no CfnFunction")
        function.vpc_config = lambda_.CfnFunction.VpcConfigProperty(
            subnet_ids=list(network.subnets), security_group_ids=list(network.security_groups)
        )
        # Lambda checks these permissions when it creates the function. The function's own code must not have them.
        own = f"arn:{Aws.PARTITION}:lambda:{Aws.REGION}:{Aws.ACCOUNT_ID}:function:{Stack.of(self).stack_name}-*"
        policy = iam.Policy(
            self,
            "Network",
            roles=[self.role],
            statements=[
                iam.PolicyStatement(actions=list(INTERFACES), resources=["*"]),
                iam.PolicyStatement(
                    effect=iam.Effect.DENY,
                    actions=list(INTERFACES),
                    resources=["*"],
                    conditions={"ArnLike": {"lambda:SourceFunctionArn": own}},
                ),
            ],
        )
        function.node.add_dependency(policy)
        acknowledge(
            policy,
            "IAM5[Resource::*]",
            "Lambda makes the network interfaces of a function with its role. EC2's calls that describe them do not "
            "support resource ARNs, and a Deny takes the permissions from the function's own code.",
        )

    def consume(self, ingest: IngestQueue, *, config: StageConfig) -> None:
        """Let the queue invoke the function, with partial batch responses and bounded concurrency."""
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

    def consume_alone(self, onramp: OnrampQueue, *, config: StageConfig) -> None:
        """Invoke the function with one message at a time: a file that crashes the run affects no other message."""
        self.function.add_event_source(
            sources.SqsEventSource(
                onramp.queue, batch_size=1, max_concurrency=config.onramp_concurrency, report_batch_item_failures=True
            )
        )

    def schedule(self) -> None:
        """Run the function at the rate of its `FunctionSpec`, without retries: the next tick does the remaining work.

        EventBridge does not retry the delivery of a tick. By default, Lambda retries a failed event twice and keeps an
        event that lacks free concurrency for six hours; both are switched off.
        """
        if self.spec.every_min is None:
            raise ValueError(f"{self.spec.name} has no rate")
        self.function.configure_async_invoke(retry_attempts=0, max_event_age=Duration.seconds(_TICK_LIFE_S))
        if self.spec.shards is None:
            self._rule("Rate", None)
        for shard in range(self.spec.shards or 0):
            # The first rule has the name that it has in a region with one shard.
            self._rule(f"Rate{shard}" if shard else "Rate", shard)

    def _rule(self, construct_id: str, shard: int | None) -> None:
        events.Rule(
            self,
            construct_id,
            description=f"Schedule of the {self.spec.name} function of metering.",
            schedule=events.Schedule.rate(Duration.minutes(self.spec.every_min or 1)),
            targets=[
                targets.LambdaFunction(
                    self.function,
                    event=None if shard is None else events.RuleTargetInput.from_object({"shard": shard}),
                    retry_attempts=0,
                    max_event_age=Duration.seconds(_TICK_LIFE_S),
                )
            ],
        )

    def grant_put_metrics(self) -> None:
        """Let the function publish metrics, but only in the service's namespaces."""
        own = {"StringEquals": {"cloudwatch:namespace": [NAMESPACE, WATCH_NAMESPACE]}}
        iam.Grant.add_to_principal(
            grantee=self.role,
            actions=["cloudwatch:PutMetricData"],
            resource_arns=["*"],
            # MiniStack does not know the condition key, and denies a statement that it cannot evaluate.
            conditions=None if self._emulated else own,
        )
        acknowledge_wildcard(
            self.role,
            "*",
            "PutMetricData does not support resource ARNs. The condition limits it to the service's namespaces.",
        )

    def grant_read_metrics(self) -> None:
        """Let the function read metrics. CloudWatch does not support resource ARNs for this action."""
        iam.Grant.add_to_principal(grantee=self.role, actions=["cloudwatch:GetMetricStatistics"], resource_arns=["*"])


def function_settings(config: StageConfig) -> dict[str, str]:
    """Return the stage's published policy, and the hash of the functions' settings, as environment variables."""
    published = config.published()
    return as_environment(
        {"stage": published.stage, **published.policy.model_dump(), "settings_sha256": published.functions_sha256}
    )


class LogReaders(Construct):
    """Policy that lets a role of the data stack search the functions' logs. The policy is in the log groups' stack."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        functions: Sequence[MeteringFunction],
        role: iam.IRole,
    ) -> None:
        super().__init__(scope, construct_id)
        # MiniStack authorizes every log search as if it searched all groups.
        groups = ["*"] if config.emulated else [function.log_group.log_group_arn for function in functions]
        policy = iam.Policy(
            self,
            "Policy",
            roles=[role],
            statements=[
                iam.PolicyStatement(actions=["logs:StartQuery"], resources=groups),
                iam.PolicyStatement(actions=["logs:GetQueryResults"], resources=["*"]),
            ],
        )
        acknowledge(
            policy,
            "IAM5[Resource::*]",
            "GetQueryResults does not support resource ARNs. It needs the id that StartQuery answered with.",
        )


def _emulated_name(scope: Construct, spec: FunctionSpec) -> str:
    """Make a function name that is unique across regions, for an emulator.

    MiniStack would generate the same name in every region. When a function is created, MiniStack kills all running
    functions of that name in all regions, and their received messages stay invisible for the visibility timeout.
    """
    return f"{Stack.of(scope).stack_name}-{spec.name}-{Aws.REGION}"


# Largest batch size of an event source mapping without a batching window.
_BATCH_WITHOUT_WINDOW = 10
