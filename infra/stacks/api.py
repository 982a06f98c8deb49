"""API stack: the function that answers requests, and its HTTP API or function URL.

This stack is separate from the pipeline: the internet-facing resources can be deployed, rolled back and removed without
touching the metering.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import CfnOutput, Environment, IStackSynthesizer
from aws_cdk import aws_lambda as lambda_

from infra.components.api.http_api import HttpFront, UrlFront
from infra.components.functions import FunctionSpec, LogReaders, MeteringFunction, function_settings
from infra.components.shared import RegionStack
from metering.ledger.notes.access import LARGE_KEY
from metering.settings import as_environment
from metering.stores.objects import (
    CAUSE_DAYS_PREFIX,
    CAUSE_INDEX_PREFIX,
    CAUSE_NAMES_PREFIX,
    CAUSE_PINS_PREFIX,
    CLOSED_PREFIX,
    INVOICES_PREFIX,
    LAKE_PREFIX,
    ORGANIZATION_PREFIX,
    OWNERS_PREFIX,
    PRICES_PREFIX,
    QUARANTINE_PREFIX,
    RATED_PREFIX,
    RUNS_PREFIX,
    STAGING_PREFIX,
    SUMMARIES_PREFIX,
)

if TYPE_CHECKING:
    from constructs import Construct

    from infra.stacks.data import DataStack
    from metering.fleet.stage import StageConfig

# Data that the API needs for its answers. Costs of an invoiced month come from its invoices. Producers' batches
# (ingest/, drop/) are excluded.
READABLE = (
    LAKE_PREFIX,
    STAGING_PREFIX,
    RUNS_PREFIX,
    CLOSED_PREFIX,
    INVOICES_PREFIX,
    SUMMARIES_PREFIX,
    QUARANTINE_PREFIX,
    RATED_PREFIX,
    PRICES_PREFIX,
    ORGANIZATION_PREFIX,
    OWNERS_PREFIX,
    CAUSE_INDEX_PREFIX,
    CAUSE_DAYS_PREFIX,
    CAUSE_NAMES_PREFIX,
    CAUSE_PINS_PREFIX,
)


class ApiStack(RegionStack):
    """HTTP API of a region. The function may only read data and write its own log."""

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
        super().__init__(scope, construct_id, "Metering HTTP API", synthesizer=synthesizer, env=env)
        self.function = MeteringFunction(
            self,
            "Api",
            config=config,
            spec=api_spec(config),
            code=code,
            environment={
                **data.function_environment(),
                **function_settings(config),
                # On an emulator, a stage may be in a region other than its home.
                **as_environment({"home_region": "" if config.emulated else config.rollout.home}),
                **(as_environment({"sign_in": config.sign_in}) if config.sign_in else {}),
            },
        )
        _grant(self.function, data)
        self.front = (
            HttpFront(self, "Front", config=config, behind=self.function)
            if config.api_front == "http"
            else UrlFront(self, "Front", behind=self.function)
        )
        LogReaders(self, "LogReaders", config=config, functions=[self.function], role=data.roles.operator)
        CfnOutput(self, "ApiUrl", value=self.front.url)
        CfnOutput(self, "ApiFunctionName", value=self.function.function.function_name)
        CfnOutput(self, "ApiLogGroupName", value=self.function.log_group.log_group_name)


def api_spec(config: StageConfig) -> FunctionSpec:
    """Describe the function of the API."""
    return FunctionSpec(
        name="api",
        description="Answers requests of the HTTP API. It reads only.",
        timeout_s=config.api_timeout_s,
        memory_mb=config.api_memory_mb,
        # Reserved concurrency limits the API's executions in the account, and also guarantees them.
        reserved=config.api_concurrency,
    )


def _grant(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_look_up(role)
    # The function writes the list of large requests that are running in all executions, and nothing else.
    data.ledger.grant_put(role, LARGE_KEY.pk)
    data.usage.grant_look_up(role)
    data.data.grant_read(role, *READABLE)
