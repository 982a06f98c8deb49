from __future__ import annotations

import json

import pytest

from tests.infra.support.conditions import holds
from tests.infra.support.synthesis import STAGE_NAMES, synthesised


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_queues_have_the_stages_times_and_the_dlq_takes_what_fails(stage: str) -> None:
    synth = synthesised(stage)
    config = synth.config
    queue = synth.one("data", "AWS::SQS::Queue", "IngestQueue")["Properties"]
    dead = synth.one("data", "AWS::SQS::Queue", "IngestDeadLetters")["Properties"]

    assert queue["VisibilityTimeout"] == config.visibility_s
    assert queue["MessageRetentionPeriod"] == config.queue_retention_s
    assert queue["RedrivePolicy"]["maxReceiveCount"] == config.max_receives
    assert dead["MessageRetentionPeriod"] == config.dead_letter_retention_s
    assert queue["SqsManagedSseEnabled"] is True
    assert dead["SqsManagedSseEnabled"] is True


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_both_queues_are_reached_by_tls_only(stage: str) -> None:
    synth = synthesised(stage)
    guarded = set()
    for policy in synth.resources("data", "AWS::SQS::QueuePolicy").values():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}:
                guarded |= {queue["Ref"] for queue in policy["Properties"]["Queues"]}

    assert guarded == set(synth.resources("data", "AWS::SQS::Queue"))


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_s3_sends_to_the_ingest_queue_for_the_stages_own_bucket_alone(stage: str) -> None:
    """X6: it might send for any bucket of the account. CloudFormation's names: stack, resource, and 12 characters."""
    synth = synthesised(stage)
    [bucket_id] = synth.resources("data", "AWS::S3::Bucket")
    [statement] = [
        each
        for policy in synth.resources("data", "AWS::SQS::QueuePolicy").values()
        for each in policy["Properties"]["PolicyDocument"]["Statement"]
        if each["Effect"] == "Allow"
    ]
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    condition = statement["Condition"]
    assert condition["StringEquals"]["aws:SourceAccount"] == {"Ref": "AWS::AccountId"}
    parts = condition.get("ArnLike", {}).get("aws:SourceArn", {"Fn::Join": ["", ["arn:aws:s3:::*"]]})["Fn::Join"][1]
    pattern = "".join(each if isinstance(each, str) else "aws" for each in parts)

    def may_send(bucket: str) -> bool:
        return holds({"ArnLike": {"aws:SourceArn": pattern}}, {"aws:SourceArn": f"arn:aws:s3:::{bucket}"})

    assert not may_send("logs-of-others")
    assert not may_send(f"metering-{synth.config.stage}-other-data-{bucket_id.lower()}-0123456789ab")
    assert not may_send(f"metering-{synth.config.stage}-data-data-{bucket_id.lower()}-0123456789ab")
    assert may_send(f"{synth.config.stack_name('data')}-{bucket_id}-0123456789ab".lower())


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_the_mapping_reports_single_failures_and_is_bounded(stage: str) -> None:
    synth = synthesised(stage)
    config = synth.config
    mapping = synth.one("pipeline", "AWS::Lambda::EventSourceMapping")["Properties"]
    function = synth.one("pipeline", "AWS::Lambda::Function", "Aggregator")["Properties"]

    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": config.max_concurrency}
    assert mapping["BatchSize"] == (config.batch_size if config.batch_window_s else 10)
    assert mapping.get("MaximumBatchingWindowInSeconds", 0) == config.batch_window_s
    assert function["Timeout"] == config.timeout_s


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_tables_pay_per_request_and_can_be_restored(stage: str) -> None:
    tables = synthesised(stage).resources("data", "AWS::DynamoDB::GlobalTable")

    assert len(tables) == 2
    for table in tables.values():
        properties = table["Properties"]
        assert properties["BillingMode"] == "PAY_PER_REQUEST"
        assert [part["AttributeName"] for part in properties["KeySchema"]] == ["pk", "sk"]
        recovery = properties["Replicas"][0]["PointInTimeRecoverySpecification"]
        assert recovery["PointInTimeRecoveryEnabled"] is True


def test_a_table_takes_its_peak_from_the_first_second_if_the_stage_says_so() -> None:
    stage = synthesised("prod", overrides='{"ledger_warm_writes_per_s": 14000}')
    ledger, usage = (
        stage.one("data", "AWS::DynamoDB::GlobalTable", name)["Properties"] for name in ("Ledger", "Usage")
    )

    assert ledger["WarmThroughput"] == {"WriteUnitsPerSecond": 14_000}
    assert "WarmThroughput" not in usage


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_only_the_ledger_forgets_and_only_by_its_own_attribute(stage: str) -> None:
    synth = synthesised(stage)
    ledger = synth.one("data", "AWS::DynamoDB::GlobalTable", "Ledger")["Properties"]
    usage = synth.one("data", "AWS::DynamoDB::GlobalTable", "Usage")["Properties"]

    assert ledger["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert "TimeToLiveSpecification" not in usage


def test_the_lakes_catalog_is_optional_and_sums_past_64_bits() -> None:
    without = json.dumps(synthesised("prod", overrides='{"analytics": false}').templates)
    tables = synthesised("prod").resources("data", "AWS::Glue::Table")

    assert "AWS::Glue" not in without
    assert "AWS::Athena" not in without
    view = next(table for name, table in tables.items() if "View" in name)["Properties"]["TableInput"]
    kinds = {column["Name"]: column["Type"] for column in view["StorageDescriptor"]["Columns"]}
    assert kinds["bytes"] == "decimal(38,0)"
