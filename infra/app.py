"""The CDK app: three stacks per region, with the same templates in every region.

    cd infra && cdk deploy --all -c stage=local

`build` is pure: it reads no environment variables and makes no lookups. Without an account and a region the stacks are
environment-agnostic, so one synthesis can be deployed to any number of regions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aws_cdk import App, CliCredentialsStackSynthesizer, DefaultStackSynthesizer, Environment, Validations
from cdk_nag import AwsSolutionsChecks

from infra.components.code import locked_code, sources_code
from infra.stacks.data import DataStack
from infra.stacks.observability import ObservabilityStack
from infra.stacks.pipeline import PipelineStack
from infra.stacks.rollout import RolloutStack
from metering.fleet.stage import StageConfig

if TYPE_CHECKING:
    from aws_cdk import IStackSynthesizer
    from aws_cdk import aws_lambda as lambda_
    from constructs import Construct

DEFAULT_STAGE = "local"

# Strong references: the data stack cannot drop a resource that the pipeline still uses.
_FLAGS = {"@aws-cdk/core:defaultCrossStackReferences": "strong"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The stacks of one region."""

    data: DataStack
    pipeline: PipelineStack
    observability: ObservabilityStack
    rollout: RolloutStack | None = None


def build(
    scope: Construct,
    *,
    config: StageConfig,
    account: str | None = None,
    region: str | None = None,
    code: lambda_.Code | None = None,
) -> Region:
    """Build one region's stacks below `scope`.

    Args:
        scope: The app, or a stage of it.
        config: Configuration of the stage.
        account: Account id; None leaves it to the deployment.
        region: Region name, known or not; None leaves it to the deployment.
        code: Code of the functions; by default the bundle of the stage.
    """
    env = Environment(account=account, region=region) if account or region else None
    data = DataStack(scope, config.stack_name("data"), config=config, synthesizer=_synthesizer(config), env=env)
    pipeline = PipelineStack(
        scope,
        config.stack_name("pipeline"),
        config=config,
        data=data,
        code=code or _code(config),
        synthesizer=_synthesizer(config),
        env=env,
    )
    observability = ObservabilityStack(
        scope,
        config.stack_name("observability"),
        config=config,
        data=data,
        pipeline=pipeline,
        synthesizer=_synthesizer(config),
        env=env,
    )
    rollout: RolloutStack | None = None
    if config.rollout_project:
        rollout = RolloutStack(
            scope,
            config.stack_name("rollout"),
            config=config,
            data=data,
            synthesizer=_synthesizer(config),
            env=env,
        )
    return Region(data=data, pipeline=pipeline, observability=observability, rollout=rollout)


def check(app: App) -> None:
    """Add the rules of cdk-nag to the app. `app.synth()` then raises if a finding is not acknowledged."""
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))


def config_of(app: App) -> StageConfig:
    """Load the stage configuration that the app's context selects.

    Raises:
        SettingsError: Names every problem.
    """
    overrides = {
        name: value
        for name in StageConfig.model_fields
        if name != "stage" and (value := app.node.try_get_context(name)) is not None
    }
    return StageConfig.load(app.node.try_get_context("stage") or DEFAULT_STAGE, overrides)


def new_app(outdir: str | None = None) -> App:
    """Make an app with the project's feature flags. Context from the CLI is added to them."""
    return App(outdir=outdir, context=_FLAGS, analytics_reporting=False)


def main() -> None:
    """Synthesise the stage that the context selects. The CDK CLI runs this."""
    app = new_app()
    build(app, config=config_of(app))
    check(app)
    app.synth()


def _synthesizer(config: StageConfig) -> IStackSynthesizer:
    # Emulators that enforce IAM deny the bootstrap roles, whose policy uses a condition key that they do not know.
    return CliCredentialsStackSynthesizer() if config.emulated else DefaultStackSynthesizer()


def _code(config: StageConfig) -> lambda_.Code:
    return sources_code() if config.emulated else locked_code(config.architecture)


if __name__ == "__main__":
    main()
