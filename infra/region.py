"""A region of a stage as a part of somebody's own CDK app, or of a CDK pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Stage

from infra.app import FLAGS, build
from metering.fleet.settings.bases import flat
from metering.fleet.settings.layers import Asked, planned, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from aws_cdk import Environment
    from aws_cdk import aws_lambda as lambda_
    from constructs import Construct


class MeteringRegion(Stage):
    """The stacks of one region, with the names under which the commands look for them.

    Args:
        scope: The app, or a stage of a pipeline.
        construct_id: Id within the scope.
        stage: Stage, such as `prod`, or a name that the settings file defines.
        settings: Settings that differ from the stage's base and file, as `--set` gives them.
        settings_file: A `metering.toml`; None reads no file.
        env: Account and region; None for those of the deployment.
        code: Returns the functions' code, once for each stack; None bundles the locked dependencies with `uv`.

    Attributes:
        stacks: The stacks, with their resources.

    Raises:
        SettingsError: Names every problem of the settings.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        stage: str,
        settings: Mapping[str, object] | None = None,
        settings_file: Path | None = None,
        env: Environment | None = None,
        code: Callable[[], lambda_.Code] | None = None,
    ) -> None:
        super().__init__(scope, construct_id, env=env)
        for flag, value in FLAGS.items():
            self.node.set_context(flag, value)
        table = read(settings_file).table(stage) if settings_file is not None else None
        asked = planned(Asked(stage=stage, table=table, options=flat(settings or {})), None)
        config = asked.config.in_region((env and env.region) or "")
        self.stacks = build(self, config=config, given=asked.given, code=code, assets=None)
