"""On-ramp stack for a region with log sources: rules, queue, functions, and permissions on their prefixes only."""

import json
from typing import Any

import pytest

from infra.deploy import Deployer
from metering.adapters.aws.inventory import PERMISSIONS
from metering.fleet.settings.layers import Asked, planned
from metering.fleet.stage import StageConfig
from metering.onramps.sources import decode_sources
from metering.settings import OnrampSettings
from tests.infra.support.calls import USAGE_TABLE
from tests.infra.support.models import holds
from tests.infra.support.synthesis import STAGE_NAMES, Synthesised, synthesised
from tests.infra.test_grants import KINDS, Grants

SOURCES: list[dict[str, Any]] = [
    {
        "name": "flows",
        "bucket": "acme-logs",
        "region": "us-west-2",
        "prefix": "AWSLogs/",
        "accounts": ["111122223333"],
        "kms_key_arn": "arn:aws:kms:us-west-2:111122223333:key/1a-2b",
        "context_role_arns": ["arn:aws:iam::444455556666:role/metering/see-networks"],
    },
    {"name": "all-of-it", "bucket": "all-logs", "region": "us-west-2", "accounts": "organization"},
]
OVERRIDES = json.dumps({"log_sources": SOURCES})
ONRAMP, CONTEXT = "LogSourcesOnrampRole", "LogSourcesLogContextRole"


def with_sources(stage: str) -> Synthesised:
    return synthesised(stage, overrides=OVERRIDES)


def statements(stage: str, role: str, action: str) -> list[dict[str, Any]]:
    found = Grants(with_sources(stage), "pipeline", role).statements
    return [each for each in found if action in each["Action"] or action == each["Action"]]


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_region_without_log_sources_has_nothing_of_them(stage: str) -> None:
    plain = json.dumps(synthesised(stage).templates)
    assert "LogSources" not in plain
    assert "LOG_SOURCES" not in plain
    assert "Onramp" not in plain


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_log_sources_can_be_taken_away_again_since_no_other_stack_refers_to_them(stage: str) -> None:
    """CloudFormation refuses to delete an export that another stack imports, in any order of deployment."""
    before, after = synthesised(stage), with_sources(stage)
    for part in ("data", "pipeline"):
        exports = [
            {name for name, output in each.templates[part]["Outputs"].items() if "Export" in output}
            for each in (before, after)
        ]
        assert exports[0] == exports[1]


def test_a_deployment_has_the_sources_of_its_own_region_and_remembers_all() -> None:
    given = planned(Asked(stage="prod", options={"log_sources": SOURCES}), None).given

    def names(region: str) -> list[str]:
        deployer = Deployer(stage="prod", region=region, endpoint=None, env={}, progress=lambda _: None, given=given)
        return [source.name for source in deployer.config().log_sources]

    assert names("us-west-2") == ["flows", "all-of-it"]
    assert names("us-east-1") == []
    published = StageConfig.load("prod").published(given)
    assert published.given is not None
    assert len(published.given.by_option["log_sources"]) == 2  # type: ignore[arg-type]  # a list


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_new_objects_of_each_source_are_announced_to_the_queue_and_no_others(stage: str) -> None:
    rules = with_sources(stage).resources("pipeline", "AWS::Events::Rule")
    patterns = {
        name: rule["Properties"]["EventPattern"] for name, rule in rules.items() if "EventPattern" in rule["Properties"]
    }
    assert sorted((each["detail"] for each in patterns.values()), key=str) == [
        {"bucket": {"name": ["acme-logs"]}, "object": {"key": [{"prefix": "AWSLogs/"}]}},
        {"bucket": {"name": ["all-logs"]}},
    ]
    for pattern in patterns.values():
        assert (pattern["source"], pattern["detail-type"]) == (["aws.s3"], ["Object Created"])
    policy = with_sources(stage).one("pipeline", "AWS::SQS::QueuePolicy", "LogSourcesEventsQueue")["Properties"]
    allowed = [each for each in policy["PolicyDocument"]["Statement"] if each["Effect"] == "Allow"]
    assert {json.dumps(each["Condition"]["ArnEquals"]["aws:SourceArn"]) for each in allowed} == {
        json.dumps({"Fn::GetAtt": [name, "Arn"]}) for name in patterns
    }
    assert all(each["Principal"] == {"Service": "events.amazonaws.com"} for each in allowed)
    assert all("sqs:SendMessage" in each["Action"] for each in allowed)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_the_queue_follows_the_rules_of_the_house(stage: str) -> None:
    synth = with_sources(stage)
    queue = synth.one("pipeline", "AWS::SQS::Queue", "LogSourcesEventsQueue")
    dead = synth.one("pipeline", "AWS::SQS::Queue", "LogSourcesEventsDeadLetters")
    mapping = synth.one("pipeline", "AWS::Lambda::EventSourceMapping", "LogSourcesOnramp")["Properties"]
    function = synth.one("pipeline", "AWS::Lambda::Function", "LogSourcesOnrampFunction")["Properties"]

    assert queue["Properties"]["VisibilityTimeout"] == synth.config.onramp_visibility_s
    if not synth.config.short_visibility:
        assert queue["Properties"]["VisibilityTimeout"] >= 6 * function["Timeout"]
    assert queue["Properties"]["RedrivePolicy"]["maxReceiveCount"] == synth.config.max_receives
    assert dead["Properties"]["MessageRetentionPeriod"] == synth.config.dead_letter_retention_s
    assert {each["Properties"]["SqsManagedSseEnabled"] for each in (queue, dead)} == {True}
    assert mapping["BatchSize"] == 1
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": synth.config.onramp_concurrency}
    guarded = {
        name["Ref"]
        for policy in synth.resources("pipeline", "AWS::SQS::QueuePolicy").values()
        for name in policy["Properties"]["Queues"]
        if "aws:SecureTransport" in json.dumps(policy)
    }
    assert guarded == set(synth.resources("pipeline", "AWS::SQS::Queue"))


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_the_onramp_reads_below_the_prefixes_and_nowhere_else_in_foreign_buckets(stage: str) -> None:
    foreign = [
        (text, each)
        for action in ("s3:GetObject", "s3:ListBucket")
        for each in statements(stage, ONRAMP, action)
        if "-logs" in (text := json.dumps(each["Resource"]))
    ]
    reads = [text for text, each in foreign if "s3:GetObject" in each["Action"]]
    assert [text.rpartition(":::")[2] for text in reads] == ['acme-logs/AWSLogs/*"]]}', 'all-logs/*"]]}']
    lists = [each["Condition"] for _, each in foreign if each["Action"] == "s3:ListBucket"]
    assert holds(lists[0], {"s3:prefix": "AWSLogs/1"})
    assert not holds(lists[0], {"s3:prefix": "secrets/"})
    # Listing without a prefix would show the keys of the whole bucket.
    assert not holds(lists[0], {})
    assert len(lists) == 2


def test_the_onramp_decrypts_with_that_key_through_s3_only() -> None:
    [decrypt] = statements("prod", ONRAMP, "kms:Decrypt")
    assert decrypt["Resource"] == SOURCES[0]["kms_key_arn"]
    [via] = decrypt["Condition"]["StringEquals"].values()
    assert "s3.us-west-2." in json.dumps(via)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_the_onramp_is_a_producer_and_commits_nothing(stage: str) -> None:
    grants = Grants(with_sources(stage), "pipeline", ONRAMP)
    own = {prefix for prefix in grants.prefixes("s3:PutObject") if prefix}
    assert own == {"plans/", "ingest/logs/", "causes/parts/", "quarantine/"}
    assert {"plans/", "context/", "ingest/logs/"} <= grants.prefixes("s3:GetObject")
    assert not grants.everything() & {"s3:DeleteObject", "s3:PutBucketNotification", "sts:AssumeRole"}
    for pk in (*KINDS, "W#log", None):
        assert not grants.may_write("dynamodb:PutItem", "LedgerTable", pk)
    assert not grants.actions(USAGE_TABLE)
    assert grants.may("sqs:SendMessage", "IngestQueue")
    assert not grants.may("sqs:SendMessage", "LogSourcesEvents")
    for prefix in ("plans/", "context/", "ingest/logs/"):
        assert grants.may_list(prefix)


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_the_context_function_describes_and_keeps_contexts_and_notes(stage: str) -> None:
    grants = Grants(with_sources(stage), "pipeline", CONTEXT)
    describes = {action for action in grants.everything() if action.startswith("ec2:")}
    assert describes == set(PERMISSIONS)
    assert all(action.startswith(("ec2:Describe", "ec2:Get")) for action in describes)
    [assume] = statements(stage, CONTEXT, "sts:AssumeRole")
    assert assume["Resource"] == "arn:aws:iam::444455556666:role/metering/see-networks"
    assert grants.prefixes("s3:PutObject") == {"context/"}
    assert "-logs" not in json.dumps(grants.statements)
    assert grants.may_write("dynamodb:PutItem", "LedgerTable", "W#log-source")
    for pk in (*KINDS, None):
        assert not grants.may_write("dynamodb:PutItem", "LedgerTable", pk)
    assert not grants.may("sqs:SendMessage", "")


def test_captures_read_the_book_of_owners_of_the_home_region_and_nothing_else_there() -> None:
    elsewhere = ":s3:::metering-prod-data-*/owners/*"
    away, home = (
        Grants(synthesised("prod", overrides=OVERRIDES, region=region), "pipeline", CONTEXT)
        for region in ("us-west-2", "us-east-1")
    )
    assert away.may("s3:GetObject", elsewhere)
    assert away.may("cloudformation:DescribeStacks", "stack/metering-prod-data/*")
    assert not any(away.may("s3:GetObject", f":s3:::metering-prod-data-*/{each}/*") for each in ("prices", "context"))
    assert not away.may("s3:PutObject", ":s3:::metering-prod-data-*")
    assert not home.may("s3:GetObject", elsewhere)
    assert "cloudformation:DescribeStacks" not in home.everything()
    assert "owners/" in home.prefixes("s3:GetObject")


def test_without_roles_no_role_may_be_taken() -> None:
    alone = json.dumps({"log_sources": SOURCES[1:]})
    grants = Grants(synthesised("prod", overrides=alone), "pipeline", CONTEXT)
    assert "sts:AssumeRole" not in grants.everything()
    assert "kms:Decrypt" not in Grants(synthesised("prod", overrides=alone), "pipeline", ONRAMP).everything()


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_who_reads_sees_whether_log_files_wait_and_operators_send_their_dead_letters_again(stage: str) -> None:
    queues = f":metering-{stage}-pipeline-*"
    reader = Grants(with_sources(stage), "data", "RolesReader")
    assert reader.actions(queues) == {"sqs:GetQueueAttributes", "sqs:GetQueueUrl"}
    operator = Grants(with_sources(stage), "data", "RolesOperator")
    assert {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:SendMessage"} <= operator.actions(queues)
    for move in ("StartMessageMoveTask", "CancelMessageMoveTask", "ListMessageMoveTasks"):
        assert operator.may(f"sqs:{move}", queues)
    assert not Grants(with_sources(stage), "data", "RolesProducer").actions(queues)
    assert not Grants(synthesised(stage), "data", "RolesReader").actions(queues)


def test_on_an_emulator_operators_may_make_the_calls_that_it_checks_by_other_names() -> None:
    """MiniStack checks batch calls as separate IAM actions, and checks calls with a queue's ARN against any queue."""
    for stage in (with_sources("local"), synthesised("local")):
        operator = Grants(stage, "data", "RolesOperator")
        moves = [each for each in operator.statements if "sqs:StartMessageMoveTask" in each["Action"]]
        assert moves
        assert all("*" in each["Resource"] for each in moves)
    operator = Grants(with_sources("local"), "data", "RolesOperator")
    assert {"sqs:SendMessageBatch", "sqs:DeleteMessageBatch"} <= operator.actions(":metering-local-pipeline-*")


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_on_aws_operators_move_the_messages_of_this_stage_only(stage: str) -> None:
    operator = Grants(with_sources(stage), "data", "RolesOperator")
    moves = [each for each in operator.statements if "sqs:StartMessageMoveTask" in each["Action"]]
    assert len(moves) == 2
    assert all(each["Resource"] != "*" and "*" not in each["Resource"] for each in moves)
    assert not [each for each in operator.everything() if each.startswith("sqs:") and each.endswith("Batch")]


def test_events_that_another_account_forwards_are_taken_too() -> None:
    """Events forwarded by the owner's rule keep the owner's `account`, so rules must not filter by it."""
    rules = with_sources("prod").resources("pipeline", "AWS::Events::Rule")
    patterns = [each["Properties"]["EventPattern"] for each in rules.values() if "EventPattern" in each["Properties"]]
    assert patterns
    for pattern in patterns:
        assert set(pattern) == {"source", "detail-type", "detail"}


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_the_functions_understand_their_environment(stage: str) -> None:
    functions = with_sources(stage).resources("pipeline", "AWS::Lambda::Function")
    found = {name: each["Properties"]["Environment"]["Variables"] for name, each in functions.items()}
    for name, variables in found.items():
        if not name.startswith("LogSources"):
            assert "METERING_LOG_SOURCES" not in variables
            continue
        given = {key: value if isinstance(value, str) else "made-by-the-stack" for key, value in variables.items()}
        settings = OnrampSettings.from_env(given)
        config = StageConfig.load(stage, {"log_sources": SOURCES})
        assert decode_sources(settings.log_sources) == tuple(source.plain() for source in config.log_sources)
        # Resource names have about 90 characters. A function's environment may have 4 KB.
        assert (
            sum(len(key) + (len(value) if isinstance(value, str) else 90) for key, value in variables.items()) < 4_096
        )


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_the_command_line_finds_the_queues_and_functions(stage: str) -> None:
    outputs = with_sources(stage).templates["pipeline"]["Outputs"]
    for name in ("OnrampQueueUrl", "OnrampDeadLetterQueueUrl", "OnrampFunctionName", "LogContextFunctionName"):
        assert outputs[name]["Value"]


def test_operators_search_the_logs_of_these_functions_too() -> None:
    policy = with_sources("prod").one("pipeline", "AWS::IAM::Policy", "LogReaders")["Properties"]
    assert len(policy["PolicyDocument"]["Statement"][0]["Resource"]) == 9


def test_alarms_over_these_resources_lie_beside_them() -> None:
    synth = with_sources("prod")
    observed = json.dumps(synth.templates["observability"])
    assert "LogSources" not in observed
    for alarm in synth.resources("pipeline", "AWS::CloudWatch::Alarm").values():
        assert alarm["Properties"]["AlarmActions"]
    # The alarms notify the alarm topic at all times.
    assert synth.resources("pipeline", "AWS::CloudWatch::Alarm")
