from __future__ import annotations

import pytest
from aws_cdk import aws_sns as sns

from infra.app import check
from metering.fleet.stage import StageConfig
from tests.infra.support.synthesis import STAGE_NAMES, app_of


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_every_finding_is_acknowledged(stage: str) -> None:
    app, _ = app_of(StageConfig.load(stage))
    check(app)

    app.synth()


def test_a_finding_that_nobody_acknowledged_stops_the_synthesis() -> None:
    app, region = app_of(StageConfig.load("local"))
    check(app)
    sns.Topic(region.data, "InTheOpen")

    with pytest.raises(RuntimeError, match="AwsSolutions-SNS3"):
        app.synth()


def test_optional_parts_are_clean_too() -> None:
    account = "210987654321"
    app, _ = app_of(
        StageConfig.load("prod", {"tracing": True, "trusted_accounts": [account], "architecture": "x86_64"})
    )
    check(app)

    app.synth()
