"""`cdk deploy` by hand: it deploys what the emulator at the endpoint can do, and a stage of emulators nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from infra.assembly import resource_types
from infra.bundle import ROOT
from infra.cdk_cli import node_path
from infra.emulators import config_by_hand
from metering.errors import OperationFailedError, UnavailableError
from metering.fleet.settings.layers import Asked, planned
from tests.support.answering import MINISTACK, serving

if TYPE_CHECKING:
    from pathlib import Path

    from metering.fleet.settings.layers import Planned

APIS = {**MINISTACK, "/v2/apis?maxResults=1": b'{"items": []}'}


def asked(stage: str) -> Planned:
    return planned(Asked(stage=stage), None)


def test_a_stage_of_an_account_is_rehearsed_on_an_emulator() -> None:
    with serving(APIS) as endpoint:
        config = config_by_hand(asked("prod"), {"AWS_ENDPOINT_URL": endpoint})

    assert (config.emulated, config.rehearsal, config.composite_alarms) == (True, True, False)


def test_a_stage_of_an_account_is_itself_on_aws() -> None:
    settings = asked("prod")

    assert config_by_hand(settings, {"CDK_DEFAULT_ACCOUNT": "123456789012"}) == settings.config
    with serving({}) as vpc_endpoint:
        assert config_by_hand(settings, {"AWS_ENDPOINT_URL": vpc_endpoint}) == settings.config


def test_a_stage_of_emulators_is_not_deployed_to_an_account() -> None:
    with pytest.raises(OperationFailedError, match="Stage local runs on an emulator, and AWS_ENDPOINT_URL names none"):
        config_by_hand(asked("local"), {"CDK_DEFAULT_ACCOUNT": "123456789012"})
    # The CDK CLI knows nothing of the variable of localstack-client.
    with pytest.raises(OperationFailedError, match="AWS_ENDPOINT_URL names none") as refused:
        config_by_hand(asked("local"), {"CDK_DEFAULT_ACCOUNT": "123456789012", "LOCALSTACK_HOST": "127.0.0.1:1"})
    assert "metering local up" in refused.value.advice
    with serving({}) as endpoint, pytest.raises(OperationFailedError, match=f"{endpoint} is none"):
        config_by_hand(asked("local"), {"AWS_ENDPOINT_URL": endpoint})


def test_its_templates_can_be_looked_at_without_an_emulator() -> None:
    settings = asked("local")

    assert config_by_hand(settings, {}) == settings.config


def test_an_endpoint_without_an_answer_is_said_before_anything_is_made() -> None:
    with serving({}) as endpoint:
        pass
    with pytest.raises(UnavailableError):
        config_by_hand(asked("prod"), {"AWS_ENDPOINT_URL": endpoint})


@pytest.mark.long
@pytest.mark.parametrize("stage", ["local", "prod"])
def test_the_app_makes_for_an_emulator_no_composite_alarm_and_takes_the_bucket_of_the_bootstrap(
    stage: str, tmp_path: Path
) -> None:
    with serving(APIS) as endpoint:
        env = {
            **os.environ,
            "AWS_ENDPOINT_URL": endpoint,
            "CDK_CONTEXT_JSON": json.dumps({"stage": stage}),
            "CDK_OUTDIR": str(tmp_path),
            "JSII_NODE": str(node_path()),
            "PYTHONPATH": str(ROOT),
        }
        subprocess.run([sys.executable, "-P", "-m", "infra.app"], cwd=ROOT / "infra", env=env, check=True)

    assert "AWS::CloudWatch::CompositeAlarm" not in resource_types(tmp_path)
    [assets] = tmp_path.glob(f"metering-{stage}-pipeline.assets.json")
    assert "cdk-hnb659fds-assets-" in assets.read_text()
