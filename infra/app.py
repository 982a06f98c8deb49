"""The CDK app: three stacks per region, and a fourth for the HTTP API; every region gets the same templates.

    cd infra && cdk bootstrap && cdk deploy --all -c stage=local

deploys to the emulator at `AWS_ENDPOINT_URL`, with the features that this emulator supports. `build` makes no lookups
and reads no environment variables; without a release argument it uses this checkout's release. Without an account and a
region, the stacks are environment-agnostic, so one synthesis can be deployed to any number of regions.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aws_cdk import (
    App,
    CliCredentialsStackSynthesizer,
    DefaultStackSynthesizer,
    Environment,
    IStackSynthesizer,
    Validations,
)
from aws_cdk import aws_lambda as lambda_
from cdk_nag import AwsSolutionsChecks

from infra.components.code import locked_code, sources_code
from infra.components.organisation import comply
from infra.components.shared import put_out
from infra.emulators import config_by_hand
from infra.stacks.api import ApiStack
from infra.stacks.data import DataStack
from infra.stacks.observability import ObservabilityStack
from infra.stacks.pipeline import PipelineStack
from infra.stacks.rollout import RolloutStack
from metering.errors import MeteringError
from metering.fleet.ports import Release, own_release
from metering.fleet.settings.bases import flat
from metering.fleet.settings.layers import Asked, Planned, find, planned, read
from metering.fleet.stage import NO_SETTINGS, StageConfig, decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from constructs import Construct

    from metering.settings import GivenSettings

DEFAULT_STAGE = "local"

# Bucket for assets on an emulator, created by `infra.deploy`. The CDK substitutes account and region.
EMULATED_ASSETS = "metering-assets-${AWS::AccountId}-${AWS::Region}"

# With strong references, the data stack cannot drop a resource that the pipeline still uses.
FLAGS = {"@aws-cdk/core:defaultCrossStackReferences": "strong"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The stacks of one region."""

    data: DataStack
    pipeline: PipelineStack
    observability: ObservabilityStack
    api: ApiStack | None = None
    rollout: RolloutStack | None = None


def build(
    scope: Construct,
    *,
    config: StageConfig,
    given: GivenSettings | None = None,
    account: str | None = None,
    region: str | None = None,
    code: Callable[[], lambda_.Code] | None = None,
    release: Release | None = None,
    assets: str | None = EMULATED_ASSETS,
) -> Region:
    """Build one region's stacks below `scope`.

    Args:
        scope: The app, or a CDK stage within it.
        config: Configuration of the stage in this region; each of its log sources gets resources.
        given: Given settings that the stacks publish for the next deployment; None publishes no settings.
        account: Account id; None for the account of the deployment.
        region: Region name, even of a region unknown to this version; None for the region of the deployment.
        code: Factory of the functions' code asset, called once per stack; None for the stage's bundle.
        release: Release that the stacks publish; None for this checkout's release.
        assets: Bucket for assets on an emulator; None for the bucket of `cdk bootstrap`.
    """
    synthesizer = partial(_synthesizer, config, assets)
    made = code or partial(_code, config)
    env = Environment(account=account, region=region) if account or region else None
    data = DataStack(scope, config.stack_name("data"), config=config, given=given, synthesizer=synthesizer(), env=env)
    pipeline = PipelineStack(
        scope, config.stack_name("pipeline"), config=config, data=data, code=made(), synthesizer=synthesizer(), env=env
    )
    api: ApiStack | None = None
    if config.api:
        api = ApiStack(
            scope, config.stack_name("api"), config=config, data=data, code=made(), synthesizer=synthesizer(), env=env
        )
    observability = ObservabilityStack(
        scope,
        config.stack_name("observability"),
        config=config,
        data=data,
        pipeline=pipeline,
        api=api,
        synthesizer=synthesizer(),
        env=env,
    )
    rollout: RolloutStack | None = None
    if config.rollout_project:
        rollout = RolloutStack(
            scope, config.stack_name("rollout"), config=config, data=data, synthesizer=synthesizer(), env=env
        )
    for stack in (data, pipeline, *((api,) if api else ()), observability):
        put_out(stack, release or own_release(), rehearsal=config.rehearsal)
    comply([each for each in (data, pipeline, api, observability, rollout) if each is not None], config)
    return Region(data=data, pipeline=pipeline, observability=observability, api=api, rollout=rollout)


def check(app: App) -> None:
    """Add the rules of cdk-nag to the app. `app.synth()` then raises if a finding is not acknowledged."""
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))


def settings_of(app: App, environ: Mapping[str, str]) -> Planned:
    """Load the settings that the app's context selects: `-c stage=prod`, or `-c field=value` for another setting.

    The settings file applies, as in other commands. The deployed settings are not read.

    Raises:
        SettingsError: Names every problem.
    """
    stage = str(app.node.try_get_context("stage") or DEFAULT_STAGE)
    options = {
        name: decoded(name, value)
        for name in StageConfig.model_fields
        if name not in NO_SETTINGS and (value := app.node.try_get_context(name)) is not None
    }
    path = find(Path.cwd(), environ.get("METERING_SETTINGS"))
    table = read(path).table(stage) if path is not None else None
    return planned(Asked(stage=stage, table=table, options=flat(options)), None)


def new_app(outdir: str | None = None) -> App:
    """Make a CDK app with the project's feature flags. Context from the CLI is added to these flags."""
    return App(outdir=outdir, context=FLAGS, analytics_reporting=False)


def main() -> None:
    """Synthesise the stage that the context selects. The CDK CLI runs this function."""
    app = new_app()
    try:
        settings = settings_of(app, os.environ)
        config = config_by_hand(settings, os.environ)
    except MeteringError as error:
        sys.exit(f"Error: {str(error).rstrip('.')}.")
    # The CDK CLI sets the region that it deploys to.
    build(app, config=config.in_region(os.environ.get("CDK_DEFAULT_REGION", "")), given=settings.given, assets=None)
    check(app)
    app.synth()


def _synthesizer(config: StageConfig, assets: str | None) -> IStackSynthesizer:
    # Emulators that enforce IAM deny access to the bootstrap roles, because they do not know a condition key in the
    # policy. The assets bucket has a different name, so that `cdk bootstrap` can still create its own bucket.
    if config.emulated:
        return CliCredentialsStackSynthesizer(file_assets_bucket_name=assets)
    return DefaultStackSynthesizer(qualifier=config.bootstrap.qualifier)


def _code(config: StageConfig) -> lambda_.Code:
    return sources_code() if config.emulated else locked_code(config.architecture)


if __name__ == "__main__":
    main()
