"""What the data stack publishes is what the functions work with."""

from __future__ import annotations

import json

import pytest

from metering.fleet.stage import StageConfig
from metering.settings import STANDARD_BYTES, Policy, Settings, StageSettings
from tests.infra.support.synthesis import STAGE_NAMES, Synthesised, synthesised

CHANGED = json.dumps(
    {
        "tunables": {"shards": 4, "rollup_commits": 7, "source_life_s": 90 * 86_400},
        "admission_window_s": 60 * 86_400,
        "marker_life_s": 75 * 86_400,
        "incoming_retention_days": 90,
    }
)


def published(stage: Synthesised) -> StageSettings:
    """As a command would read it."""
    parameter = stage.one("data", "AWS::SSM::Parameter")["Properties"]
    outputs = stage.templates["data"]["Outputs"]
    return StageSettings.read(parameter["Value"], sha256=outputs["SettingsSha256"]["Value"])


@pytest.mark.parametrize("overrides", ["{}", CHANGED])
@pytest.mark.parametrize("name", STAGE_NAMES)
def test_functions_and_commands_work_with_the_same_settings(name: str, overrides: str) -> None:
    stage = synthesised(name, overrides=overrides)
    document = published(stage)
    assert document.stage == name
    for function in stage.resources("pipeline", "AWS::Lambda::Function").values():
        variables = function["Properties"]["Environment"]["Variables"]
        given = {key: value if isinstance(value, str) else "made-by-the-stack" for key, value in variables.items()}
        settings = Settings.from_env(given)
        assert {field: getattr(settings, field) for field in Policy.model_fields} == document.policy.model_dump()
        assert settings.settings_sha256 == document.functions_sha256
    outputs = stage.templates["pipeline"]["Outputs"]
    assert outputs["FunctionSettingsSha256"]["Value"] == document.functions_sha256
    # What version 0.1.0 compares with the output of the data stack.
    assert outputs["SettingsSha256"]["Value"] == document.sha256


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_what_the_queues_do_is_what_is_published_of_them(name: str) -> None:
    stage = synthesised(name)
    said = published(stage).queues
    queues = [queue["Properties"] for queue in stage.resources("data", "AWS::SQS::Queue").values()]
    [ingest] = [queue for queue in queues if "RedrivePolicy" in queue]
    [dead] = [queue for queue in queues if "RedrivePolicy" not in queue]
    assert ingest["MessageRetentionPeriod"] == said.retention_s
    assert ingest["VisibilityTimeout"] == said.visibility_s
    assert ingest["RedrivePolicy"]["maxReceiveCount"] == said.max_receives
    assert dead["MessageRetentionPeriod"] == said.dead_letter_retention_s


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_the_parameter_is_a_standard_one_with_a_name_of_its_own(name: str) -> None:
    stage = synthesised(name)
    properties = stage.one("data", "AWS::SSM::Parameter")["Properties"]
    assert (properties["Type"], properties["Tier"]) == ("String", "Standard")
    assert "Name" not in properties
    assert len(properties["Value"].encode()) <= STANDARD_BYTES
    [logical_id] = stage.resources("data", "AWS::SSM::Parameter")
    assert stage.templates["data"]["Outputs"]["SettingsParameterName"]["Value"] == {"Ref": logical_id}


@pytest.mark.parametrize("name", STAGE_NAMES)
def test_readers_and_operators_may_read_that_parameter_and_nobody_may_change_it(name: str) -> None:
    stage = synthesised(name)
    [logical_id] = stage.resources("data", "AWS::SSM::Parameter")
    found = {}
    for part in ("data", "pipeline"):
        for policy in stage.policies(part).values():
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
                actions = statement["Action"]
                actions = [actions] if isinstance(actions, str) else actions
                if any(action.startswith("ssm:") for action in actions):
                    [role] = policy["Properties"]["Roles"]
                    found[role["Ref"].rstrip("0123456789ABCDEF")] = (actions, json.dumps(statement["Resource"]))
    assert set(found) == {"RolesReader", "RolesOperator"}
    for actions, resource in found.values():
        assert actions == ["ssm:GetParameter"]
        separator = "" if stage.config.emulated else "/"
        assert f':parameter{separator}", {{"Ref": "{logical_id}"}}' in resource


def test_every_tunable_changes_the_hash() -> None:
    plain = StageConfig.load("prod").published()
    assert StageConfig.load("prod", {"tunables": {"shards": 2}}).published().sha256 != plain.sha256
    assert StageConfig.load("prod", {"max_receives": 6}).published().sha256 != plain.sha256


def test_a_deployment_publishes_what_it_was_given_and_its_base() -> None:
    pager = {"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}
    given = {"max_concurrency": 8, "subscriptions": [pager], "tunables": {"shards": 2}}
    document = published(synthesised("prod", overrides=json.dumps(given)))
    assert document.given is not None
    assert document.given.like == "prod"
    assert document.given.by_option == {"max_concurrency": 8, "subscriptions": [pager], "tunables.shards": 2}
    assert document.given.version


def test_another_subscription_touches_no_function() -> None:
    subscriptions = [{"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}]
    plain, other = synthesised("prod"), synthesised("prod", overrides=json.dumps({"subscriptions": subscriptions}))
    assert plain.templates["pipeline"]["Resources"] == other.templates["pipeline"]["Resources"]
    assert published(plain).sha256 != published(other).sha256
