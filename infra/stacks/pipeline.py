"""What works: the functions, the mapping that drives the aggregator, the rules that drive the jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import CfnOutput, Stack

from infra.components import bucket as prefixes
from infra.components.functions import FunctionSpec, MeteringFunction

if TYPE_CHECKING:
    from aws_cdk import Environment, IStackSynthesizer
    from aws_cdk import aws_lambda as lambda_
    from constructs import Construct

    from infra.config import StageConfig
    from infra.stacks.data import DataStack


class PipelineStack(Stack):
    """The region's functions. To add one: its folder below `lambdas/`, a spec in `specs`, a `_grant_<name>`."""

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


def specs(config: StageConfig) -> tuple[FunctionSpec, ...]:
    """The functions of a region."""
    return (
        FunctionSpec(
            name="aggregator",
            description="Commits batches from the ingest queue, each exactly once.",
            timeout_s=config.timeout_s,
            memory_mb=config.aggregator_memory_mb,
        ),
    )


def function_settings(config: StageConfig) -> dict[str, str]:
    """Settings of the functions that the stage decides; the keys are those of `metering.settings`."""
    settings = {
        "stage": config.stage,
        "window_s": config.admission_window_s,
        "marker_life_s": config.marker_life_s,
        **config.tunables,
    }
    return {f"METERING_{name.upper()}": str(value) for name, value in settings.items()}


def _grant_aggregator(function: MeteringFunction, data: DataStack) -> None:
    role = function.role
    data.ledger.grant_read_write(role)
    data.usage.grant_add(role)
    data.data.grant_read(role, prefixes.INGEST, prefixes.DROP, prefixes.STAGING)
    data.data.grant_write(role, prefixes.STAGING, prefixes.QUARANTINE)
    data.topics.grant_publish(role)


_GRANTS = {
    "aggregator": _grant_aggregator,
}
