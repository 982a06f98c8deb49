"""What builds regions: a project in the home region that runs the same command as a person would."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from aws_cdk.assertions import Template

import metering.adapters.aws
from infra.app import check
from infra.config import StageConfig
from tests.infra.synthesis import STAGE_NAMES, app_of, synthesised


@pytest.fixture(scope="module")
def template() -> dict[str, dict[str, dict[str, object]]]:
    config = StageConfig.load("prod", {"rollout_project": True})
    _, stacks = app_of(config)
    assert stacks.rollout is not None
    return Template.from_stack(stacks.rollout).to_json()


def _one(template: dict[str, dict[str, dict[str, object]]], kind: str) -> dict[str, object]:
    [found] = [r for r in template["Resources"].values() if r["Type"] == kind]
    properties = found["Properties"]
    assert isinstance(properties, dict)
    return properties


def test_the_project_runs_reconcile_of_its_stage_one_at_a_time(
    template: dict[str, dict[str, dict[str, object]]],
) -> None:
    project = _one(template, "AWS::CodeBuild::Project")
    source = project["Source"]
    assert isinstance(source, dict)
    spec = json.loads(source["BuildSpec"])
    assert spec["phases"]["build"]["commands"] == ["uv run metering region reconcile --stage prod --format json"]
    assert project["ConcurrentBuildLimit"] == 1


def test_it_may_make_every_call_that_building_a_region_makes(
    template: dict[str, dict[str, dict[str, object]]],
) -> None:
    adapters = Path(metering.adapters.aws.__file__).parent
    sources = [(adapters / f"{name}.py").read_text() for name in ("account", "cloudformation", "region_life", "stacks")]
    calls = {":".join(call) for text in sources for call in re.findall(r'translated\("(\w+)\.(\w+)"\)', text)}
    assert len(calls) > 10
    # `region status` asks for drift, which is a person's command.
    needed = {
        call.replace("lambda:Invoke", "lambda:InvokeFunction") for call in calls - {"cloudformation:DetectStackDrift"}
    }
    policies = [r for r in template["Resources"].values() if r["Type"] == "AWS::IAM::Policy"]
    assert needed <= set(re.findall(r"\w+:\w+", json.dumps(policies)))


def test_it_runs_by_a_rate_and_its_failure_raises_a_ticket(
    template: dict[str, dict[str, dict[str, object]]],
) -> None:
    assert _one(template, "AWS::Events::Rule")["ScheduleExpression"] == "rate(1 day)"
    alarm = _one(template, "AWS::CloudWatch::Alarm")
    assert alarm["Namespace"] == "AWS/CodeBuild"
    assert alarm["AlarmActions"]


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_region_that_is_not_home_has_none(stage: str) -> None:
    _, stacks = app_of(synthesised(stage).config)
    assert stacks.rollout is None


def test_cdk_nag_has_nothing_to_say() -> None:
    app, _ = app_of(StageConfig.load("prod", {"rollout_project": True}))
    check(app)
    app.synth()
