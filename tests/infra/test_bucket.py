from __future__ import annotations

import json
from typing import Any

import pytest

from metering.units import DAY_S, KIB, MIB
from tests.infra.support.conditions import holds
from tests.infra.support.lifecycle import fate_of
from tests.infra.support.synthesis import STAGE_NAMES, synthesised

NEVER_DELETED = (
    "staging/2026-11-24/0123.parquet",
    "staging/2026-11-24/0123.wal",
    "runs/0/0123.json",
    "closed/2026-11.json",
    "closed/2026-11/2026-11-24T13.parquet",
    "prices/aws-list/3.json",
    "organization/2.json",
    "invoices/2026-11/123456789012/1.json",
)


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
        "tunables.source_life_s": 417 * DAY_S,
    }
)


@pytest.mark.parametrize("overrides", ["{}", BACKFILL])
@pytest.mark.parametrize("stage", STAGE_NAMES)
@pytest.mark.parametrize("key", ["plans/vpc-flow/fl-1/x.json", "context/2026-11-24T13-ab.json.gz", "ingest/logs/a/0"])
def test_what_a_log_file_was_metered_by_outlives_the_markers_of_its_batches(
    stage: str, key: str, overrides: str
) -> None:
    config = synthesised(stage, overrides=overrides).config
    fate = fate_of(rules_of(stage, overrides), key, 100)

    assert fate.deleted_day is not None
    assert fate.deleted_day * DAY_S >= config.marker_life_s + 15 * DAY_S
    assert fate.moves == ()


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
    """A restored ledger names the staging objects that were cleaned since (P41). What is left of them goes then."""
    rules = [rule for rule in rules_of(stage) if "staging/".startswith(rule.get("Prefix", ""))]
    versions = [rule for rule in rules if "NoncurrentVersionExpiration" in rule]

    if not synthesised(stage).config.versioned:
        assert versions == []
        return
    [rule] = versions
    assert (rule["Status"], rule["NoncurrentVersionExpiration"]) == ("Enabled", {"NoncurrentDays": 7})
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
    """Names of the statements that deny the PUT of an object by any caller."""
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
@pytest.mark.parametrize(
    ("headers", "by"),
    [
        ({}, set()),
        ({_SSE: "AES256"}, set()),
        ({_SSE: "aws:kms"}, {"NoKmsKeys"}),
        ({_SSE: "aws:kms:dsse"}, {"NoKmsKeys"}),
        ({f"{_SSE}-customer-algorithm": "AES256"}, {"NoCustomerKeys"}),
    ],
)
def test_producers_encrypt_with_the_buckets_default_only(
    stage: str, key: str, headers: dict[str, str], by: set[str]
) -> None:
    assert refused(stage, key, headers) == by


def test_a_condition_that_denied_the_default_encryption_would_be_seen() -> None:
    # What the KMS rule would be without its `Null`.
    assert holds({"StringNotEquals": {f"s3:{_SSE}": "AES256"}}, {})


@pytest.mark.parametrize("stage", STAGE_NAMES)
def test_only_drop_announces_itself_and_the_queue_lets_it(stage: str) -> None:
    resource = synthesised(stage).one("data", "AWS::S3::Bucket")
    configurations = resource["Properties"]["NotificationConfiguration"]["QueueConfigurations"]
    policies = synthesised(stage).resources("data", "AWS::SQS::QueuePolicy")
    allowing = [name for name, policy in policies.items() if "s3.amazonaws.com" in json.dumps(policy["Properties"])]

    assert [c["Event"] for c in configurations] == ["s3:ObjectCreated:*"]
    assert configurations[0]["Filter"]["S3Key"]["Rules"] == [{"Name": "prefix", "Value": "drop/"}]
    # Without the dependency S3 would refuse the configuration on a first deployment.
    assert set(allowing) <= set(resource["DependsOn"])
    assert len(allowing) == 1
