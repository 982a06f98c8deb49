"""Pipeline stack: the functions, the event source mapping of the aggregator, and the schedules of the jobs."""

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
    """Functions of a region.

    To add a function, make its folder below `lambdas/`. Then add an entry to `specs` and its grants to `_GRANTS`.
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
        super().__init__(scope, construct_id, description="Metering functions", synthesizer=synthesizer, env=env)
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
        # A deployment may stop between the stacks. Commands refuse to work if this is not the hash of the data stack.
        CfnOutput(self, "SettingsSha256", value=config.published().sha256)


def specs(config: StageConfig) -> tuple[FunctionSpec, ...]:
    """List the functions of a region."""
    return (
        FunctionSpec(
            name="aggregator",
            description="Commits each batch of the ingest queue exactly once.",
            timeout_s=config.timeout_s,
            memory_mb=config.aggregator_memory_mb,
        ),
        FunctionSpec(
            name="compactor",
            description="Finishes wide commits, compacts staging into the lake, and removes staging objects after it.",
            timeout_s=config.job_timeout_s,
            memory_mb=config.job_memory_mb,
            scratch_mb=config.compactor_scratch_mb,
            every_min=config.compactor_every_min,
        ),
        FunctionSpec(
            name="sweeper",
            description="Finishes open wide commits that the watch has found.",
            timeout_s=MINUTE_S,
            memory_mb=config.small_job_memory_mb,
            every_min=config.sweeper_every_min,
        ),
        FunctionSpec(
            name="reconciler",
            description="Compares markers, usage and lake, and finds gaps in the sequences of sources.",
            timeout_s=config.job_timeout_s,
            memory_mb=config.job_memory_mb,
            every_min=config.reconciler_every_min,
        ),
        FunctionSpec(
            name="canary",
            description="Sends a known batch twice, and checks that it is counted once.",
            timeout_s=4 * MINUTE_S,
            memory_mb=config.small_job_memory_mb,
            every_min=config.canary_every_min,
        ),
        FunctionSpec(
            name="watch",
            description="Measures the ledger and the queues, and publishes the figures that alarms compare.",
            timeout_s=MINUTE_S,
            memory_mb=config.small_job_memory_mb,
            every_min=config.watch_every_min,
        ),
    )


def function_settings(config: StageConfig) -> dict[str, str]:
    """Return the published policy of the stage, and the hash of its document, as environment variables."""
    published = config.published()
    return as_environment(
        {"stage": published.stage, **published.policy.model_dump(), "settings_sha256": published.sha256}
    )


# Notes for people and alarms (`metering.ledger.notes`). The prefix has no marker, commit or period.
_NOTES = f"{partitions.NOTE}*"


def _grant_aggregator(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read(role)
    # The aggregator decodes untrusted input, so it must not delete items of the ledger.
    data.ledger.grant_change(role)
    # A commit checks in its transaction that its months are not closed.
    data.ledger.grant_check(role)
    data.usage.grant_add(role)
    data.data.grant_read(role, INGEST_PREFIX, DROP_PREFIX, STAGING_PREFIX)
    # An object that is put twice within seconds is announced twice, and its first version is no longer the newest.
    data.data.grant_read_versions(role, INGEST_PREFIX, DROP_PREFIX)
    data.data.grant_write(role, STAGING_PREFIX, QUARANTINE_PREFIX)
    data.topics.grant_publish(role)


def _grant_compactor(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read(role)
    data.ledger.grant_change(role)
    # It deletes published pointers and empty pending items, but never markers and periods.
    data.ledger.grant_delete(role, f"{partitions.HOUR}*", f"{partitions.PENDING}*")
    # It finishes wide commits, and their last chunks change usage.
    data.usage.grant_add(role)
    # It reads the lake to see whether a file already exists.
    data.data.grant_read(role, STAGING_PREFIX, RUNS_PREFIX, LAKE_PREFIX, QUARANTINE_PREFIX)
    data.data.grant_write(role, LAKE_PREFIX, RUNS_PREFIX)
    data.data.grant_delete(role, STAGING_PREFIX, QUARANTINE_PREFIX)
    data.topics.grant_publish(role)


def _grant_sweeper(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read(role)
    data.ledger.grant_change(role)
    data.usage.grant_add(role)
    # The chunks of a commit are in staging, like its rows.
    data.data.grant_read(role, STAGING_PREFIX)


def _grant_reconciler(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read(role)
    data.ledger.grant_scan(role)
    # It keeps its findings and the sources, which the watch and reports read.
    data.ledger.grant_put(role, _NOTES)
    data.usage.grant_read(role)
    data.usage.grant_scan(role)
    # The plans of runs list the published hours.
    data.data.grant_read(role, STAGING_PREFIX, LAKE_PREFIX, RUNS_PREFIX)
    data.topics.grant_publish(role)


def _grant_canary(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ingest.grant_send(role)
    data.ledger.grant_read(role)
    # It keeps its own runs, from which the watch derives figures.
    data.ledger.grant_put(role, CANARY_PK)
    data.usage.grant_read(role)
    data.data.grant_read(role, STAGING_PREFIX, LAKE_PREFIX)


def _grant_watch(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ingest.grant_watch(role)
    data.ledger.grant_read(role)
    # It keeps notes, such as the last time at which the queue was empty.
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
