"""Bucket, queues, tables, their generations, and the catalog of the data stack."""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from aws_cdk.assertions import Template

from infra.app import check
from infra.components.analytics import COLUMNS, TOTALS_COLUMNS, VIEW_SQL
from metering.errors import SettingsError
from metering.fleet.settings.layers import Asked, planned
from metering.fleet.stage import StageConfig
from metering.lake.parquet.hour_rows import LAKE_SCHEMA
from metering.lake.parquet.usage_files import USAGE_SCHEMA
from metering.units import DAY_S, KIB, MIB
from tests.infra.support.models import Place, fate_of, holds, listed
from tests.infra.support.organisation import KEY
from tests.infra.support.synthesis import STAGE_NAMES, app_of, synthesised
from tests.support.lake_world import ACCOUNT, NOW_S, World, record

NEVER_DELETED = (
    "staging/2026-11-24/0123.parquet", "staging/2026-11-24/0123.wal", "runs/0/0123.json", "closed/2026-11.json",
    "closed/2026-11/2026-11-24T13.parquet", "prices/aws-list/3.json", "organization/2.json", "owners/4.json",
    "invoices/2026-11/123456789012/1.json",
)  # fmt: skip


def bucket_of(stage: str, overrides: str = "{}") -> dict[str, Any]:
    properties: dict[str, Any] = synthesised(stage, overrides=overrides).one("data", "AWS::S3::Bucket")["Properties"]
    return properties


def rules_of(stage: str, overrides: str = "{}") -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = bucket_of(stage, overrides)["LifecycleConfiguration"]["Rules"]
    return rules


@pytest.mark.parametrize("stage", STAGE_NAMES)
@pytest.mark.parametrize("key", NEVER_DELETED)
@pytest.mark.parametrize("size_bytes", [1, 200 * MIB])
def test_what_the_ledger_relies_on_is_never_deleted_or_moved(stage: str, key: str, size_bytes: int) -> None:
    fate = fate_of(rules_of(stage), key, size_bytes)
    assert fate.deleted_day is None
    assert fate.moves == ()


@pytest.mark.parametrize("stage", STAGE_NAMES)
@pytest.mark.parametrize("prefix", ["ingest/", "drop/"])
def test_what_producers_left_outlives_its_marker(stage: str, prefix: str) -> None:
    config = synthesised(stage).config
    fate = fate_of(rules_of(stage), f"{prefix}batch.ndjson", 100)
    assert fate.deleted_day is not None
    assert fate.deleted_day * DAY_S >= config.marker_life_s


BACKFILL = json.dumps(
    {
        "admission_window_s": 400 * DAY_S,
        "marker_life_s": 416 * DAY_S,
        "incoming_retention_days": 431,
        "lake_retention_days": 500,
        "tunables.source_life_s": 417 * DAY_S,
    }
)


@pytest.mark.parametrize("overrides", ["{}", BACKFILL])
@pytest.mark.parametrize("stage", STAGE_NAMES)
@pytest.mark.parametrize("key", ["plans/vpc-flow/fl-1/x.json", "context/2026-11-24T13-ab.json.gz", "ingest/logs/a/0"])
def test_what_a_log_file_was_metered_by_outlives_markers_of_its_batches(stage: str, key: str, overrides: str) -> None:
    config = synthesised(stage, overrides=overrides).config
    fate = fate_of(rules_of(stage, overrides), key, 100)
    assert fate.deleted_day is not None
    assert fate.deleted_day * DAY_S >= config.marker_life_s + 15 * DAY_S
    assert fate.moves == ()


@pytest.mark.parametrize("overrides", ["{}", BACKFILL])
@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_markers_in_the_bucket_outlive_those_of_the_ledger_by_a_day(stage: str, overrides: str) -> None:
    life_s = synthesised(stage, overrides=overrides).config.marker_life_s
    fate = fate_of(rules_of(stage, overrides), "markers/dt=2026-11-24/hour=13/0-000000000001-000.ndjson.gz", MIB)
    assert fate.deleted_day == -(-life_s // DAY_S) + 1
    assert fate.moves == ()


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_what_a_restore_decided_and_notes_stay_and_files_that_came_late_go_after_35_days(stage: str) -> None:
    fates = {prefix: fate_of(rules_of(stage), f"{prefix}x", MIB) for prefix in ("ledger/", "notes/", "withdrawn/")}
    assert {prefix: fate.deleted_day for prefix, fate in fates.items()} == {
        "ledger/": None, "notes/": None, "withdrawn/": 35,
    }  # fmt: skip


@pytest.mark.parametrize("stage", STAGE_NAMES)
@pytest.mark.parametrize("prefix", ["ingest/", "drop/", "staging/", "lake/", "quarantine/", "runs/", "closed/"])
def test_no_small_object_is_moved(stage: str, prefix: str) -> None:
    assert fate_of(rules_of(stage), f"{prefix}small", 128 * KIB).moves == ()


def test_large_files_of_the_lake_get_cheaper_and_stay() -> None:
    fate = fate_of(rules_of("prod"), "lake/dt=2026-11-24/hour=13/0-000000000001-0.parquet", 128 * MIB)
    assert fate.moves == ((60, "STANDARD_IA"), (180, "GLACIER_IR"))
    assert fate.deleted_day is None


def test_the_lakes_retention_is_a_setting() -> None:
    rules = rules_of("prod", '{"lake_retention_days": 2557}')
    assert fate_of(rules, "lake/dt=2026-11-24/hour=13/a.parquet", MIB).deleted_day == 2557
    assert fate_of(rules, "summaries/dt=2026-11-24/hour=13/a.parquet", MIB).deleted_day == 2557


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_totals_of_a_lake_file_stay_as_long_as_it_does(stage: str) -> None:
    file, totals = (
        fate_of(rules_of(stage), f"{prefix}dt=2026-11-24/hour=13/a.parquet", MIB).deleted_day
        for prefix in ("lake/", "summaries/")
    )
    assert totals == file


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_what_the_biller_keeps_outlives_the_months_that_a_forecast_is_tried_on(stage: str) -> None:
    assert fate_of(rules_of(stage), "rated/2026-11/days/0.json", MIB).deleted_day == 400


def test_quarantine_is_kept_for_longer_than_an_invoice_is_disputed() -> None:
    assert fate_of(rules_of("prod"), "quarantine/2026-11-24/0123.ndjson", 100).deleted_day == 400


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_unfinished_uploads_and_old_versions_go(stage: str) -> None:
    rules = rules_of(stage)
    assert [rule for rule in rules if "AbortIncompleteMultipartUpload" in rule and "Prefix" not in rule]
    if synthesised(stage).config.versioned:
        assert bucket_of(stage)["VersioningConfiguration"] == {"Status": "Enabled"}
        assert [rule for rule in rules if rule.get("NoncurrentVersionExpiration") and "Prefix" not in rule]


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_a_cleaned_staging_object_is_kept_as_a_version_for_as_long_as_a_ledger_can_be_restored(stage: str) -> None:
    """A restored ledger refers to staging objects that were deleted after the restored time (P41)."""
    rules = [rule for rule in rules_of(stage) if "staging/".startswith(rule.get("Prefix", ""))]
    versions = [rule for rule in rules if "NoncurrentVersionExpiration" in rule]
    if not synthesised(stage).config.versioned:
        assert versions == []
        return
    [rule] = versions
    assert (rule["Status"], rule["NoncurrentVersionExpiration"]) == ("Enabled", {"NoncurrentDays": 35})
    assert rule["ExpiredObjectDeleteMarker"] is True
    assert not any("ExpirationInDays" in each for each in rules)


def test_the_model_of_lifecycle_rules_sees_a_rule_on_staging() -> None:
    rules = [*rules_of("prod"), {"Status": "Enabled", "Prefix": "staging/", "ExpirationInDays": 30}]
    assert fate_of(rules, NEVER_DELETED[0], 1).deleted_day == 30


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_the_bucket_is_private_encrypted_and_reached_by_tls_only(stage: str) -> None:
    properties = bucket_of(stage)
    policy = synthesised(stage).one("data", "AWS::S3::BucketPolicy")["Properties"]["PolicyDocument"]["Statement"]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert properties["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    assert properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert [
        statement
        for statement in policy
        if statement["Effect"] == "Deny" and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    ]


def refused(stage: str, key: str, headers: dict[str, str]) -> set[str]:
    """Names of the policy statements that deny this PUT of an object to every caller."""
    policy = synthesised(stage).one("data", "AWS::S3::BucketPolicy")["Properties"]["PolicyDocument"]["Statement"]
    context = {f"s3:{name}": value for name, value in headers.items()}
    return {
        statement["Sid"]
        for statement in policy
        if statement["Effect"] == "Deny" and statement["Action"] == "s3:PutObject"
        and statement["Principal"] == {"AWS": "*"}
        and any(f"/{key.partition('/')[0]}/*" in json.dumps(resource) for resource in statement["Resource"])
        and holds(statement["Condition"], context)
    }  # fmt: skip


_SSE = "x-amz-server-side-encryption"


@pytest.mark.parametrize("stage", STAGE_NAMES)
@pytest.mark.parametrize("key", ["ingest/a.ndjson", "drop/a.ndjson"])
@pytest.mark.parametrize(("headers", "by"), [
    ({}, set()),
    ({_SSE: "AES256"}, set()),
    ({_SSE: "aws:kms"}, {"NoKmsKeys"}),
    ({_SSE: "aws:kms:dsse"}, {"NoKmsKeys"}),
    ({f"{_SSE}-customer-algorithm": "AES256"}, {"NoCustomerKeys"}),
])  # fmt: skip
def test_producers_encrypt_by_the_default_alone(stage: str, key: str, headers: dict[str, str], by: set[str]) -> None:
    assert refused(stage, key, headers) == by


def test_a_condition_that_denied_the_default_encryption_would_be_seen() -> None:
    # Evaluates the KMS rule without its `Null` condition.
    assert holds({"StringNotEquals": {f"s3:{_SSE}": "AES256"}}, {})


WRITTEN_ONCE = [
    key for key in NEVER_DELETED if key.startswith(("closed/", "invoices/", "prices/", "organization/", "owners/"))
]
ROLE = "arn:aws:iam::123456789012:role/metering-prod"


def denied(action: str, key: str, caller: str, headers: Mapping[str, str]) -> bool:
    """Whether the policy of `prod`'s bucket denies a caller a call on an object."""
    policy = synthesised("prod").one("data", "AWS::S3::BucketPolicy")["Properties"]["PolicyDocument"]["Statement"]
    context = {"aws:PrincipalArn": caller, "aws:SecureTransport": "true", "s3:TlsVersion": "1.2", **headers}
    place = Place()

    def met(condition: dict[str, dict[str, Any]]) -> bool:
        arns = condition.get("ArnLike", {})
        resolved = {name: [place.text(each) for each in values] for name, values in arns.items()}
        return holds({**condition, "ArnLike": resolved} if arns else condition, context)

    return any(
        action in listed(statement["Action"])
        and any(f"/{key.partition('/')[0]}/*" in json.dumps(each) for each in listed(statement["Resource"]))
        and met(statement["Condition"])
        for statement in policy
        if statement.get("Sid") in {"WriteOnce", "NeverDelete"}
    )


WHOLE, PART = ({"s3:ObjectCreationOperation": whole} for whole in ("true", "false"))
ABSENT_ONLY = {"s3:if-none-match": "*", **WHOLE}


@pytest.mark.parametrize("key", [*WRITTEN_ONCE, "lake/dt=2026-11-24/hour=13/a.parquet"])
@pytest.mark.parametrize("caller", ["-data-RolesOperator1-X", "-pipeline-CompactorRole1-X", "-api-ApiRole1-X"])
def test_no_role_of_the_stage_replaces_or_deletes_money_and_what_proves_it(key: str, caller: str) -> None:
    role = f"{ROLE}{caller}"
    assert denied("s3:PutObject", key, role, WHOLE)
    assert not denied("s3:PutObject", key, role, ABSENT_ONLY)
    # Parts of an upload have no condition; the request that completes it has.
    assert not denied("s3:PutObject", key, role, PART)
    assert denied("s3:DeleteObject", key, role, {})
    assert denied("s3:DeleteObjectVersion", key, role, {})
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"):
        # Who deploys may empty the bucket and copy objects back.
        assert not denied(action, key, f"{ROLE}-deployer", WHOLE)
        assert not denied(action, "staging/2026-11-24/0123.parquet", role, WHOLE)
        assert not denied(action, "rated/2026-11/days/0.json", role, WHOLE)


@pytest.mark.parametrize("stage", ["prod", "metering-sixteen"])
def test_generated_role_names_are_met_although_iam_cuts_the_name_of_the_stack(stage: str) -> None:
    template = Template.from_stack(app_of(StageConfig.load(stage, like="prod"))[1].data)
    [policy] = template.find_resources("AWS::S3::BucketPolicy").values()
    [statement] = [s for s in policy["Properties"]["PolicyDocument"]["Statement"] if s.get("Sid") == "NeverDelete"]
    patterns = [Place().text(each) for each in statement["Condition"]["ArnLike"]["aws:PrincipalArn"]]
    cut = f"metering-{stage}-pipeline"[:24]
    assert any(holds({"ArnLike": {"x": each}}, {"x": f"{ROLE[:31]}{cut}-AggregatorRole-1ABC"}) for each in patterns)


def test_copies_go_to_a_bucket_of_the_region_and_deletions_do_not() -> None:
    properties = bucket_of("prod", '{"replicate_to": "acme-copy-{region}"}')
    rules = properties["ReplicationConfiguration"]["Rules"]
    assert {rule["Filter"]["Prefix"] for rule in rules} == {
        "closed/", "invoices/", "lake/", "ledger/", "markers/", "notes/", "organization/", "owners/", "prices/",
    }  # fmt: skip
    assert {Place().text(rule["Destination"]["Bucket"]) for rule in rules} == {"arn:aws:s3:::acme-copy-eu-west-1"}
    assert {(rule["Status"], rule["DeleteMarkerReplication"]["Status"]) for rule in rules} == {("Enabled", "Disabled")}
    assert len({rule["Priority"] for rule in rules}) == len(rules)
    assert "ReplicationConfiguration" not in bucket_of("prod")
    assert "ReplicationConfiguration" not in bucket_of("local", '{"replicate_to": "a-{region}", "versioned": true}')


@pytest.mark.parametrize(("settings", "words"), [
    ({"replicate_to": "acme-copy"}, "two regions"),
    ({"replicate_to": "a-{region}", "versioned": False}, "versions"),
    ({"replicate_to": "arn:aws:s3:::a-{region}"}, "replicate_to"),
])  # fmt: skip
def test_a_copy_that_would_not_work_is_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        StageConfig.load("prod", settings)


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_only_drop_announces_itself_and_the_queue_lets_it(stage: str) -> None:
    resource = synthesised(stage).one("data", "AWS::S3::Bucket")
    configurations = resource["Properties"]["NotificationConfiguration"]["QueueConfigurations"]
    policies = synthesised(stage).resources("data", "AWS::SQS::QueuePolicy")
    allowing = [name for name, policy in policies.items() if "s3.amazonaws.com" in json.dumps(policy["Properties"])]
    assert [c["Event"] for c in configurations] == ["s3:ObjectCreated:*"]
    assert configurations[0]["Filter"]["S3Key"]["Rules"] == [{"Name": "prefix", "Value": "drop/"}]
    # Without the dependency, S3 would refuse the configuration in a first deployment.
    assert set(allowing) <= set(resource["DependsOn"])
    assert len(allowing) == 1


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
    """X6: S3 could otherwise send for any bucket of the account. Names by CloudFormation's pattern."""
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


PROVISIONED = json.dumps({"billing": "provisioned", "ledger_max_writes_per_s": 2_000})
# Properties that CloudFormation changes without a new table (CloudFormation reference, AWS::DynamoDB::GlobalTable).
IN_PLACE = {"BillingMode", "WriteProvisionedThroughputSettings", "Replicas"}


def scaled(kind: str, least: int, most: int) -> dict[str, Any]:
    """Settings of a capacity that a table on demand may be given, for which a seed is needed."""
    tracking = {"TargetValue": 70}
    limits = {"MinCapacity": least, "MaxCapacity": most, "SeedCapacity": most}
    return {f"{kind}CapacityAutoScalingSettings": {**limits, "TargetTrackingScalingPolicyConfiguration": tracking}}


def test_provisioned_billing_scales_the_ledger_in_place_and_leaves_all_else() -> None:
    before, after = (synthesised("prod", overrides=overrides) for overrides in ("{}", PROVISIONED))
    was, became = (stage.one("data", "AWS::DynamoDB::GlobalTable", "Ledger")["Properties"] for stage in (before, after))
    assert {each for each in {*was, *became} if was.get(each) != became.get(each)} == IN_PLACE
    assert became["BillingMode"] == "PROVISIONED"
    assert became["WriteProvisionedThroughputSettings"] == scaled("Write", 200, 2_000)
    replica = dict(became["Replicas"][0])
    assert replica.pop("ReadProvisionedThroughputSettings") == scaled("Read", 200, 4_000)
    assert [replica] == was["Replicas"]
    # Nothing else differs but the operator's right to set it on demand, and the published settings.
    changed = {
        each
        for each, resource in after.templates["data"]["Resources"].items()
        if resource != before.templates["data"]["Resources"].get(each)
    }
    assert all(each.startswith(("Ledger", "RolesOperator", "Settings")) for each in changed), changed
    assert before.templates["data"]["Resources"].keys() == after.templates["data"]["Resources"].keys()


def test_only_the_operator_may_change_the_billing_mode_and_only_if_it_is_provisioned() -> None:
    def holders(overrides: str) -> set[str]:
        stage = synthesised("prod", overrides=overrides)
        return {
            name
            for part in stage.templates
            for name, resource in stage.templates[part]["Resources"].items()
            if "dynamodb:UpdateTable" in json.dumps(resource) and resource["Type"].startswith("AWS::IAM::")
        }

    assert holders("{}") == set()
    assert len(holders(PROVISIONED)) == 1
    assert all(name.startswith("RolesOperator") for name in holders(PROVISIONED))


def test_a_restored_ledger_scales_as_the_stacks_own_and_by_no_role() -> None:
    overrides = json.dumps({"billing": "provisioned", "ledger_table": "metering-prod-ledger-2"})
    stage = synthesised("prod", overrides=overrides)
    targets = stage.resources("data", "AWS::ApplicationAutoScaling::ScalableTarget")
    common = {"ServiceNamespace": "dynamodb", "ResourceId": "table/metering-prod-ledger-2", "MinCapacity": 200}
    assert [each["Properties"] for each in targets.values()] == [
        {**common, "ScalableDimension": f"dynamodb:table:{kind}CapacityUnits", "MaxCapacity": 4_000}
        for kind in ("Read", "Write")
    ]
    policies = stage.resources("data", "AWS::ApplicationAutoScaling::ScalingPolicy")
    assert [each["Properties"]["ScalingTargetId"]["Ref"] for each in policies.values()] == [*targets]
    tracking = [each["Properties"]["TargetTrackingScalingPolicyConfiguration"] for each in policies.values()]
    assert [
        (each["TargetValue"], each["PredefinedMetricSpecification"]["PredefinedMetricType"]) for each in tracking
    ] == [(70, "DynamoDBReadCapacityUtilization"), (70, "DynamoDBWriteCapacityUtilization")]
    on_demand = synthesised("prod", overrides='{"ledger_table": "metering-prod-ledger-2"}')
    assert not on_demand.resources("data", "AWS::ApplicationAutoScaling::ScalableTarget")


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


# The catalog for engines that do not know this project, and what such an engine reads from the lake.

_HIVE = {pa.string(): "string", pa.int64(): "bigint"}


def test_athena_reads_the_lake_with_the_engine_that_knows_microseconds() -> None:
    group = synthesised("prod").one("data", "AWS::Athena::WorkGroup")["Properties"]["WorkGroupConfiguration"]
    assert group["EngineVersion"] == {"SelectedEngineVersion": "Athena engine version 3"}
    assert group["EnforceWorkGroupConfiguration"] is True
    assert {field.type for field in LAKE_SCHEMA if field.name.endswith("_time")} == {pa.timestamp("us", tz="UTC")}


def table_of(name: str) -> dict[str, Any]:
    tables = synthesised("prod").resources("data", "AWS::Glue::Table").values()
    inputs: list[dict[str, Any]] = [table["Properties"]["TableInput"] for table in tables]
    return next(table for table in inputs if table["Name"] == name)


def test_the_table_has_the_lakes_columns() -> None:
    plain = {field.name: field.type for field in LAKE_SCHEMA}
    plain = {name: kind.value_type if pa.types.is_dictionary(kind) else kind for name, kind in plain.items()}
    assert {name: _HIVE.get(kind, "timestamp") for name, kind in plain.items()} == COLUMNS


def test_partitions_follow_from_the_clock() -> None:
    table = table_of("transfers")
    parameters = table["Parameters"]
    assert [column["Name"] for column in table["PartitionKeys"]] == ["dt", "hour"]
    assert parameters["projection.enabled"] == "true"
    assert (parameters["projection.dt.type"], parameters["projection.hour.digits"]) == ("date", "2")
    assert json.dumps(parameters["storage.location.template"]).endswith('/lake/dt=${dt}/hour=${hour}/"]]}')


def test_the_table_of_totals_has_the_columns_of_their_files_and_its_hour_is_the_partitions() -> None:
    plain = {field.name: field.type for field in USAGE_SCHEMA if field.name != "hour"}
    plain = {name: kind.value_type if pa.types.is_dictionary(kind) else kind for name, kind in plain.items()}
    kinds = {pa.string(): "string", pa.decimal128(38, 0): "decimal(38,0)"}
    table = table_of("totals")
    columns = {column["Name"]: column["Type"] for column in table["StorageDescriptor"]["Columns"]}
    assert columns == {name: kinds.get(kind, "timestamp") for name, kind in plain.items()}
    assert [column["Name"] for column in table["PartitionKeys"]] == ["dt", "hour"]
    assert json.dumps(table["Parameters"]["storage.location.template"]).endswith(
        '/summaries/dt=${dt}/hour=${hour}/"]]}'
    )


def test_whoever_may_query_may_read_both_tables_and_the_view() -> None:
    template = synthesised("prod")
    policies = [json.dumps(each) for each in template.resources("data", "AWS::IAM::Policy").values()]
    [allowed] = [text for text in policies if "glue:GetTable" in text and "Reader" in text]
    for name in ("transfers", "totals", "usage"):
        assert f":table/metering_prod/{name}" in allowed


def test_the_view_is_the_statement_that_is_tested_below_and_its_sums_are_decimals() -> None:
    table = table_of("usage")
    comment = re.fullmatch(r"/\* Presto View: (\S+) \*/", table["ViewOriginalText"])
    assert comment
    view = json.loads(base64.b64decode(comment[1]))
    assert view["originalSql"] == VIEW_SQL
    assert {column["name"]: column["type"] for column in view["columns"]}["bytes"] == "decimal(38,0)"


def test_an_engine_that_lists_the_prefix_and_asks_the_view_gets_the_same_totals(tmp_path: Path) -> None:
    world = World()
    world.send([record(2**62), record(2**62), record(2**62)], [record(7, account="210987654321")])
    world.send([record(5, start_s=NOW_S - 20 * DAY_S)])
    world.compact_all()
    world.send([record(11)])
    world.compact_all()
    for key in (*world.objects.keys("lake/"), *world.objects.keys("summaries/")):
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_bytes(world.objects.get(key))
    with duckdb.connect() as engine:
        lake = engine.read_parquet(f"{tmp_path}/lake/**/*.parquet", hive_partitioning=True)
        lake.create_view("transfers")
        rows = (
            engine.sql(VIEW_SQL)
            .project("dt::VARCHAR, hour::VARCHAR, account_id, bytes, records")
            .order("1, 3")
            .fetchall()
        )
        files = engine.read_parquet(f"{tmp_path}/summaries/**/*.parquet", hive_partitioning=True)
        totals = (
            engine.sql("SELECT dt::VARCHAR, account_id, sum(bytes), sum(records) FROM files GROUP BY ALL ORDER BY 1, 2")
            .project("#1, #2, #3::HUGEINT, #4::BIGINT")
            .fetchall()
        )
        assert len(files.columns) > len(TOTALS_COLUMNS)
    assert totals == [(dt, account_id, size, records) for dt, _, account_id, size, records in rows]
    assert rows == [
        ("2026-11-04", "13", ACCOUNT, 5, 1),
        ("2026-11-24", "13", ACCOUNT, 3 * 2**62 + 11, 4),
        ("2026-11-24", "13", "210987654321", 7, 1),
    ]
    assert sum(row[3] for row in rows) == sum(total.bytes for total in world.usage().values())


# Each generation of the usage table is a separate table, and the previous table stays while the ledger uses it.

# Exports of the usage table that functions of 0.1.0 import. Until those are replaced, CloudFormation keeps these.
EXPORTS_OF_0_1_0 = {
    "metering-prod-data:ExportsOutputFnGetAttUsageTableADB4B05AArnF1E3F7F0",
    "metering-prod-data:ExportsOutputRefUsageTableADB4B05A536525C4",
}


def templates(**changes: object) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Templates of data and pipeline of stage prod."""
    _, region = app_of(StageConfig.load("prod", changes))
    return Template.from_stack(region.data).to_json(), Template.from_stack(region.pipeline).to_json()


def usage_tables(data: Mapping[str, Any]) -> list[str]:
    return sorted(
        name
        for name, each in data["Resources"].items()
        if each["Type"] == "AWS::DynamoDB::GlobalTable" and name.startswith("Usage")
    )


def test_while_an_upgrade_needs_it_the_table_of_format_1_is_there_under_the_names_that_its_functions_import() -> None:
    data, pipeline = templates(usage_before=1)
    assert usage_tables(data) == ["Usage2Table33755E2F", "UsageTableADB4B05A"]
    assert data["Resources"]["UsageTableADB4B05A"]["DeletionPolicy"].startswith("Retain")
    assert data["Outputs"]["UsageGeneration"]["Value"] == "2"
    assert data["Outputs"]["UsageTableName"]["Value"] == {"Ref": "Usage2Table33755E2F"}
    assert data["Outputs"]["UsageTableBeforeName"]["Value"] == {"Ref": "UsageTableADB4B05A"}
    exports = {each["Export"]["Name"] for each in data["Outputs"].values() if "Export" in each}
    assert exports >= EXPORTS_OF_0_1_0
    assert not any(name in json.dumps(pipeline) for name in EXPORTS_OF_0_1_0)


def test_a_new_region_has_one_usage_table_and_a_restore_puts_the_next_one_beside_it() -> None:
    new, _ = templates()
    restored, pipeline = templates(tunables={"usage_generation": 3}, usage_before=2)
    assert usage_tables(new) == ["Usage2Table33755E2F"]
    assert "UsageTableBeforeName" not in new["Outputs"]
    [third, second] = sorted(usage_tables(restored), reverse=True)
    assert (second, third[:6]) == ("Usage2Table33755E2F", "Usage3")
    assert restored["Outputs"]["UsageTableName"]["Value"] == {"Ref": third}
    aggregator = next(
        each["Properties"]["Environment"]["Variables"]
        for name, each in pipeline["Resources"].items()
        if each["Type"] == "AWS::Lambda::Function" and name.startswith("Aggregator")
    )
    assert aggregator["METERING_USAGE_GENERATION"] == "3"


def exports_of(template: Mapping[str, Any], *tables: str) -> dict[str, Any]:
    """Exports of tables, by the logical ids of their outputs."""
    found = {name: each for name, each in template["Outputs"].items() if "Export" in each}
    return {name: each for name, each in found.items() if any(f"{table}Table" in name for table in tables)}


RESTORED = {"ledger_table": "metering-prod-ledger-2", "usage_table": "metering-prod-usage-2"}


def test_a_restored_ledger_is_used_by_its_name_and_the_stacks_own_one_leaves_the_template() -> None:
    app, region = app_of(StageConfig.load("prod", {**RESTORED, "api": True}))
    check(app)
    app.synth()
    data, pipeline, api, observability = (
        Template.from_stack(stack).to_json()
        for stack in (region.data, region.pipeline, region.api, region.observability)
        if stack is not None
    )
    tables = [each for each in data["Resources"].values() if each["Type"] == "AWS::DynamoDB::GlobalTable"]
    assert tables == []
    assert data["Outputs"]["LedgerTableName"]["Value"] == "metering-prod-ledger-2"
    assert data["Outputs"]["UsageTableName"]["Value"] == "metering-prod-usage-2"
    for template in (pipeline, api):
        for function in template["Resources"].values():
            if function["Type"] == "AWS::Lambda::Function":
                variables = function["Properties"]["Environment"]["Variables"]
                assert variables["METERING_LEDGER_TABLE"] == "metering-prod-ledger-2"
                assert variables["METERING_USAGE_TABLE"] == "metering-prod-usage-2"
    for template in (data, pipeline, api):
        assert ":table/metering-prod-ledger-2" in json.dumps(template)
    assert "metering-prod-ledger-2" in json.dumps(observability)


def test_what_the_previous_pipeline_imports_of_the_replaced_tables_stays_as_it_is() -> None:
    before, pipeline = templates()
    exports = exports_of(before, "Ledger", "Usage2")
    assert len(exports) == 4
    assert all(each["Export"]["Name"] in json.dumps(pipeline) for each in exports.values())
    after, _ = templates(**RESTORED, exports_before={name: f"value of {name}" for name in exports})
    assert exports_of(after, "Ledger", "Usage2") == {
        name: {"Value": f"value of {name}", "Export": each["Export"]} for name, each in exports.items()
    }


def test_what_the_previous_stacks_import_of_the_topics_key_stays_when_the_stage_gets_a_key_of_its_own() -> None:
    before, pipeline = templates()
    name, export = next((n, each) for n, each in before["Outputs"].items() if "TopicsKey" in n)
    assert export["Export"]["Name"] in json.dumps(pipeline)
    after, later = templates(kms_key_arn=KEY, exports_before={name: "arn:of:the:old:key"})
    assert after["Outputs"][name] == {"Value": "arn:of:the:old:key", "Export": export["Export"]}
    assert export["Export"]["Name"] not in json.dumps(later)


def test_an_export_that_the_template_makes_itself_is_not_made_twice() -> None:
    exports = exports_of(templates()[0], "Usage2")
    changes = {**RESTORED, "tunables": {"usage_generation": 3}, "usage_before": 2}
    after, _ = templates(**changes, exports_before=dict.fromkeys(exports, "old"))
    assert exports_of(after, "Usage2") == exports


def test_which_older_table_is_kept_is_nobodys_setting() -> None:
    with pytest.raises(SettingsError, match="usage_before is not a setting"):
        planned(Asked(stage="prod", options={"usage_before": 1}), None)
