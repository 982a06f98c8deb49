"""Each stack says the release that it was deployed from, and that it is a rehearsal if it is one."""

from __future__ import annotations

import json

import pytest

from metering.fleet.settings.bases import REHEARSAL
from metering.fleet.stage import StageConfig
from tests.infra.support.synthesis import RELEASE, STAGE_NAMES, synthesised

PROD, TRIED = "prod", json.dumps(REHEARSAL)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_each_stack_puts_out_version_format_and_commit(stage: str) -> None:
    for template in synthesised(stage).templates.values():
        said = {name: template["Outputs"][name]["Value"] for name in ("Version", "DataFormat", "Commit")}
        assert said == RELEASE.outputs
        assert "Rehearsal" not in template["Outputs"]


def test_no_resource_changes_with_the_version() -> None:
    for template in synthesised(PROD).templates.values():
        assert RELEASE.commit not in json.dumps(template["Resources"])


def test_a_rehearsal_says_so_in_each_stack() -> None:
    for template in synthesised(PROD, own=TRIED).templates.values():
        assert template["Outputs"]["Rehearsal"]["Value"] == "true"


def test_a_rehearsal_has_every_resource_of_the_stage_but_what_an_emulator_lacks() -> None:
    real, tried = synthesised(PROD), synthesised(PROD, own=TRIED)

    missing = set(real.all_resources()) - set(tried.all_resources())
    assert {real.all_resources()[name]["Type"] for name in missing} == {"AWS::CloudWatch::CompositeAlarm"}
    assert set(tried.all_resources()) <= set(real.all_resources())
    assert tried.protected == real.protected


def test_a_rehearsal_keeps_all_settings_of_its_stage_but_those() -> None:
    real, tried = (StageConfig.load(PROD, changes).model_dump() for changes in ({}, REHEARSAL))

    assert {name for name in real if real[name] != tried[name]} == set(REHEARSAL)
