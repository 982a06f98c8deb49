"""What works: the functions, the mapping that drives the aggregator, the rules that drive the jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import CfnOutput, Stack

from infra.components.functions import FunctionSpec, MeteringFunction
from metering.ledger import partitions
from metering.ledger.notes.canary_runs import CANARY_PK
from metering.settings import as_environment
from metering.stores.bucket import (
    DROP_PREFIX,
    INGEST_PREFIX,
    LAKE_PREFIX,
    QUARANTINE_PREFIX,
    RUNS_PREFIX,
    STAGING_PREFIX,
)
from metering.units import MINUTE_S

if TYPE_CHECKING:
    from aws_cdk import Environment, IStackSynthesizer
    from aws_cdk import aws_lambda as lambda_
    from constructs import Construct

    from infra.stacks.data import DataStack
    from metering.fleet.stage import StageConfig


class PipelineStack(Stack):
    """The region's functions.

    To add one: its folder below `lambdas/`, then here a spec and a `_grant_<name>`.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        data: DataStack,
        code: lambda_.Code,
        synthesizer: IStackSynthesizer,
        env: Environment | None = None,
    ) -> None:
        super().__init__(scope, construct_id, description="Metering: what works.", synthesizer=synthesizer, env=env)
        self._data = data
        environment = {**data.function_environment(), **function_settings(config)}
        self.functions: dict[str, MeteringFunction] = {}
        for spec in specs(config):
            function = MeteringFunction(
                self, spec.construct_id, config=config, spec=spec, code=code, environment=environment
            )
            self.functions[spec.name] = function
            _GRANTS[spec.name](function, data)
            if spec.every_min is None:
                function.consume(data.ingest, config=config)
            else:
                function.schedule()
            CfnOutput(self, f"{spec.construct_id}FunctionName", value=function.function.function_name)
        # People's commands work only while it is the published one: a deployment may stop between the stacks.
        CfnOutput(self, "SettingsSha256", value=config.published().sha256)


def specs(config: StageConfig) -> tuple[FunctionSpec, ...]:
    """The functions of a region."""
    return (
        FunctionSpec(
            name="aggregator",
            description="Commits batches from the ingest queue, each exactly once.",
            timeout_s=config.timeout_s,
            memory_mb=config.aggregator_memory_mb,
        ),
        FunctionSpec(
            name="compactor",
            description="Finishes wide commits, compacts staging into the lake, and cleans up behind both.",
            timeout_s=config.job_timeout_s,
            memory_mb=config.job_memory_mb,
            scratch_mb=config.compactor_scratch_mb,
            every_min=config.compactor_every_min,
        ),
        FunctionSpec(
            name="sweeper",
            description="Finishes wide commits that the watch found open.",
            timeout_s=MINUTE_S,
            memory_mb=config.small_job_memory_mb,
            every_min=config.sweeper_every_min,
        ),
        FunctionSpec(
            name="reconciler",
            description="Compares markers, usage and lake, and derives the sources.",
            timeout_s=config.job_timeout_s,
            memory_mb=config.job_memory_mb,
            every_min=config.reconciler_every_min,
        ),
        FunctionSpec(
            name="canary",
            description="Sends a known batch twice, and looks whether it is seen once.",
            timeout_s=4 * MINUTE_S,
            memory_mb=config.small_job_memory_mb,
            every_min=config.canary_every_min,
        ),
        FunctionSpec(
            name="watch",
            description="Puts what the ledger and the queues say as figures that the alarms look at.",
            timeout_s=MINUTE_S,
            memory_mb=config.small_job_memory_mb,
            every_min=config.watch_every_min,
        ),
    )


def function_settings(config: StageConfig) -> dict[str, str]:
    """Settings of the functions that the stage decides: the policy as it is published, with the document's hash."""
    published = config.published()
    return as_environment(
        {"stage": published.stage, **published.policy.model_dump(), "settings_sha256": published.sha256}
    )


# What functions keep for people and alarms (`metering.ledger.notes`): never a marker, a commit or a period.
_NOTES = f"{partitions.NOTE}*"


def _grant_aggregator(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read(role)
    # It decodes what strangers send, so it deletes nothing of the ledger.
    data.ledger.grant_change(role)
    # Whether a month is closed.
    data.ledger.grant_check(role)
    data.usage.grant_add(role)
    data.data.grant_read(role, INGEST_PREFIX, DROP_PREFIX, STAGING_PREFIX)
    # An object that was put twice within seconds is announced twice, and its first version is the newest no more.
    data.data.grant_read_versions(role, INGEST_PREFIX, DROP_PREFIX)
    data.data.grant_write(role, STAGING_PREFIX, QUARANTINE_PREFIX)
    data.topics.grant_publish(role)


def _grant_compactor(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read(role)
    data.ledger.grant_change(role)
    # Pointers that are published and pending items that are empty; markers and periods never.
    data.ledger.grant_delete(role, f"{partitions.HOUR}*", f"{partitions.PENDING}*")
    # It finishes wide commits, whose last chunks are usage.
    data.usage.grant_add(role)
    # The lake, to see whether a file is there already.
    data.data.grant_read(role, STAGING_PREFIX, RUNS_PREFIX, LAKE_PREFIX, QUARANTINE_PREFIX)
    data.data.grant_write(role, LAKE_PREFIX, RUNS_PREFIX)
    data.data.grant_delete(role, STAGING_PREFIX, QUARANTINE_PREFIX)
    data.topics.grant_publish(role)


def _grant_sweeper(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read(role)
    data.ledger.grant_change(role)
    data.usage.grant_add(role)
    # The chunks of a commit lie beside its rows.
    data.data.grant_read(role, STAGING_PREFIX)


def _grant_reconciler(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read(role)
    data.ledger.grant_scan(role)
    # What it found, and the sources: the watch and reports read them.
    data.ledger.grant_put(role, _NOTES)
    data.usage.grant_read(role)
    data.usage.grant_scan(role)
    # Plans of runs say which hours were published.
    data.data.grant_read(role, STAGING_PREFIX, LAKE_PREFIX, RUNS_PREFIX)
    data.topics.grant_publish(role)


def _grant_canary(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ingest.grant_send(role)
    data.ledger.grant_read(role)
    # Its own runs; the watch makes figures of them.
    data.ledger.grant_put(role, CANARY_PK)
    data.usage.grant_read(role)
    data.data.grant_read(role, STAGING_PREFIX, LAKE_PREFIX)


def _grant_watch(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ingest.grant_watch(role)
    data.ledger.grant_read(role)
    # It remembers when it last saw the queue empty.
    data.ledger.grant_put(role, _NOTES)
    function.grant_put_metrics()
    function.grant_read_metrics()


_GRANTS = {
    "aggregator": _grant_aggregator,
    "compactor": _grant_compactor,
    "sweeper": _grant_sweeper,
    "reconciler": _grant_reconciler,
    "canary": _grant_canary,
    "watch": _grant_watch,
}
