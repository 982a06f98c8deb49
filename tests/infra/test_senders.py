"""Registered producers: the stacks tell the aggregator the service's own senders, and nobody else judges."""

from __future__ import annotations

import json
from typing import Any

import pytest

from infra.app import check
from metering.fleet.stage import StageConfig
from metering.intake.senders import decode_services
from metering.settings import AggregatorSettings
from tests.infra.support.synthesis import Synthesised, app_of, synthesised
from tests.infra.test_log_sources import SOURCES

# An emulated stage and one of an account: the others are like these.
STAGES = ("local", "prod")
REGISTERED: dict[str, Any] = {"producers": "registered"}


def environments(synth: Synthesised) -> dict[str, dict[str, Any]]:
    functions = synth.resources("pipeline", "AWS::Lambda::Function")
    return {name: each["Properties"]["Environment"]["Variables"] for name, each in functions.items()}


def filled(value: Any) -> str:
    """A text as CloudFormation makes it: each id of a role is the logical id of the role."""
    if isinstance(value, str):
        return value
    if "Fn::Join" in value:
        return "".join(filled(each) for each in value["Fn::Join"][1])
    if "Fn::GetAtt" in value:
        name, attribute = value["Fn::GetAtt"]
        assert attribute == "RoleId"
        return str(name)
    return json.dumps(value["Fn::ImportValue"]).strip('"')


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_open_has_no_senders(stage: str) -> None:
    assert "SENDERS" not in json.dumps(synthesised(stage).templates["pipeline"])
    assert "ServiceSenders" not in synthesised(stage).templates["pipeline"]["Outputs"]


@pytest.mark.parametrize("sources", [[], SOURCES], ids=["without on-ramp", "with on-ramp"])
@pytest.mark.parametrize("stage", STAGES)
def test_the_aggregator_alone_knows_the_roles_of_operator_canary_and_on_ramp(
    stage: str, sources: list[dict[str, Any]]
) -> None:
    synth = synthesised(stage, overrides=json.dumps({**REGISTERED, "log_sources": sources}))
    found = environments(synth)
    (judging,) = [name for name, variables in found.items() if "METERING_SENDERS" in variables]
    assert judging.startswith("Aggregator")
    text = filled(found[judging]["METERING_SENDERS"])
    services = decode_services(text)
    roles = synth.resources("pipeline", "AWS::IAM::Role")
    assert services.canary.startswith("CanaryRole")
    assert services.canary in roles
    assert (services.onramp in roles) == bool(sources)
    assert services.onramp.startswith("LogSourcesOnrampRole" if sources else "")
    (operator,) = services.operators
    assert "RolesOperator" in operator
    assert filled(synth.templates["pipeline"]["Outputs"]["ServiceSenders"]["Value"]) == text
    given = {name: value if isinstance(value, str) else "made" for name, value in found[judging].items()}
    assert AggregatorSettings.from_env(given | {"METERING_SENDERS": text}).senders == text


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_can_be_opened_again_since_the_data_stack_stays_as_it_is(stage: str) -> None:
    registered = synthesised(stage, overrides=json.dumps(REGISTERED))
    outputs = [each.templates["data"]["Outputs"] for each in (synthesised(stage), registered)]
    exports = [{name for name, output in each.items() if "Export" in output} for each in outputs]
    assert exports[0] == exports[1]
    (role_id,) = [name for name in exports[0] if name.startswith("ExportsOutputFnGetAtt") and "RoleId" in name]
    assert "RolesOperator" in role_id


def test_every_finding_is_acknowledged() -> None:
    app, _ = app_of(StageConfig.load("prod", REGISTERED))
    check(app)
