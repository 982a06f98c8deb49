"""Chat channels: made by the deployment of their region, told of their topics, and allowed nothing."""

from __future__ import annotations

import json

import pytest

from metering.errors import SettingsError
from metering.fleet.stage import StageConfig
from tests.infra.support.synthesis import Synthesised, synthesised

UUID = "01234567-89ab-cdef-0123-456789abcdef"
SLACK = {
    "name": "oncall",
    "region": "us-east-1",
    "kind": "slack",
    "workspace_id": "T012AB3CD",
    "channel_id": "C012AB3CD",
}
TEAMS = {
    "name": "bills", "region": "us-east-1", "kind": "teams", "severity": "ticket", "team_id": UUID, "tenant_id": UUID,
    "channel_id": "19%3aab6ef35e73e54b6c%40thread.tacv2",
}  # fmt: skip
SLACK_TYPE, TEAMS_TYPE = "AWS::Chatbot::SlackChannelConfiguration", "AWS::Chatbot::MicrosoftTeamsChannelConfiguration"


def deployed(*channels: dict[str, str], stage: str = "prod") -> Synthesised:
    return synthesised(stage, overrides=json.dumps({"chat": channels}))


def test_a_channel_is_told_of_the_topics_of_its_severity_alone() -> None:
    stage = deployed(SLACK, TEAMS)
    topics = stage.resources("data", "AWS::SNS::Topic")
    names = {key: each["Properties"]["DisplayName"].split(":")[0] for key, each in topics.items()}
    found = {
        kind: [names[arn["Ref"]] for arn in stage.one("data", kind)["Properties"]["SnsTopicArns"]]
        for kind in (SLACK_TYPE, TEAMS_TYPE)
    }
    assert found == {SLACK_TYPE: ["Metering page", "Metering ticket"], TEAMS_TYPE: ["Metering ticket"]}
    slack = stage.one("data", SLACK_TYPE)["Properties"]
    assert (slack["ConfigurationName"], slack["SlackWorkspaceId"], slack["SlackChannelId"]) == (
        "oncall", "T012AB3CD", "C012AB3CD",
    )  # fmt: skip


def test_whoever_types_in_a_channel_may_do_nothing_in_aws() -> None:
    stage = deployed(SLACK, TEAMS)
    for kind in (SLACK_TYPE, TEAMS_TYPE):
        channel = stage.one("data", kind)["Properties"]
        assert (
            json.dumps(channel["GuardrailPolicies"]).count("policy/AWSDenyAll")
            == len(channel["GuardrailPolicies"])
            == 1
        )
        role_id = channel["IamRoleArn"]["Fn::GetAtt"][0]
        role = stage.templates["data"]["Resources"][role_id]["Properties"]
        assert not {"ManagedPolicyArns", "Policies"} & set(role)
        assert json.dumps(role["AssumeRolePolicyDocument"]).count('"chatbot.amazonaws.com"') == 1
        policies = stage.resources("data", "AWS::IAM::Policy").values()
        assert not [each for each in policies if {"Ref": role_id} in each["Properties"]["Roles"]]


def test_functions_learn_that_a_channel_listens_only_where_one_does() -> None:
    for stage, told in ((deployed(), None), (deployed(SLACK), "true")):
        functions = stage.resources("pipeline", "AWS::Lambda::Function").values()
        assert {each["Properties"]["Environment"]["Variables"].get("METERING_CHAT") for each in functions} == {told}


def test_an_emulator_and_another_region_make_no_channel() -> None:
    assert not deployed(SLACK, stage="local").resources("data", SLACK_TYPE)
    config = StageConfig.load("prod", {"chat": [SLACK, {**TEAMS, "region": "eu-west-1"}]})
    assert [channel.name for channel in config.in_region("eu-west-1").chat] == ["bills"]


@pytest.mark.parametrize(("channels", "words"), [
    ([{**SLACK, "workspace_id": ""}], "a channel of Slack needs workspace_id"),
    ([{**SLACK, "team_id": UUID}], "neither team_id nor tenant_id"),
    ([{**TEAMS, "tenant_id": ""}], "a channel of Teams needs team_id and tenant_id"),
    ([{**SLACK, "name": "on call"}], "up to 60 letters"),
    ([SLACK, {**TEAMS, "name": "oncall"}], "one name twice"),
    ([SLACK, {**SLACK, "name": "other", "region": "eu-west-1"}], "one channel twice"),
])  # fmt: skip
def test_a_channel_that_aws_would_refuse_is_refused_first(channels: list[dict[str, str]], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        StageConfig.load("prod", {"chat": channels})
