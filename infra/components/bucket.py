"""Data bucket of a region: incoming objects, staging, lake, quarantine, plans of runs and log files, closed months."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Acknowledgment, Aws, Duration, Validations
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.components.organisation import READS, WRITES, customer_key, grant_key
from infra.components.shared import NIST, acknowledge, acknowledge_wildcard, removal_policy, written
from metering.fleet.stage import REGION_MARK
from metering.onramps.ingest.causes import LIFE_S
from metering.stores.objects import (
    ATHENA_RESULTS_PREFIX,
    CAUSE_PARTS_PREFIX,
    CLOSED_PREFIX,
    CONTEXT_PREFIX,
    DOCTOR_PREFIX,
    DROP_PREFIX,
    INGEST_PREFIX,
    INVOICES_PREFIX,
    LAKE_PREFIX,
    LEDGER_PREFIX,
    MARKERS_PREFIX,
    NOTES_PREFIX,
    ORGANIZATION_PREFIX,
    OWNERS_PREFIX,
    PLANS_PREFIX,
    PRICES_PREFIX,
    QUARANTINE_PREFIX,
    RATED_PREFIX,
    REPORTS_PREFIX,
    SUMMARIES_PREFIX,
    WITHDRAWN_PREFIX,
)
from metering.units import DAY_S, KIB

if TYPE_CHECKING:
    from infra.components.queues import IngestQueue
    from metering.fleet.stage import StageConfig

_ENCRYPTION = "s3:x-amz-server-side-encryption"

# IA and Glacier IR bill at least 128 KB per object, so a smaller object would cost more there.
TRANSITION_MIN_BYTES = 128 * KIB
# Shortest time that a lifecycle rule allows.
_SCRATCH_DAYS = 1
# As long as a ledger can be restored (point-in-time recovery).
_WITHDRAWN_DAYS = 35
# A report of a month can be held against that of the year before.
_REPORTS_DAYS = 400
# Money, and the rows that prove it: each object is put once, and never replaced or deleted by the service.
WRITE_ONCE = (CLOSED_PREFIX, INVOICES_PREFIX, LAKE_PREFIX, ORGANIZATION_PREFIX, OWNERS_PREFIX, PRICES_PREFIX)
# What a region is restored from if its bucket is lost.
COPIED = (*WRITE_ONCE, MARKERS_PREFIX, NOTES_PREFIX, LEDGER_PREFIX)


class DataBucket(Construct):
    """An encrypted, private, TLS-only bucket.

    The lifecycle rules never expire current versions of objects below `staging/`, `runs/`, `closed/`, `prices/`,
    `organization/`, `owners/`, `invoices/`, `ledger/` and `notes/`.
    """

    def __init__(self, scope: Construct, construct_id: str, *, config: StageConfig, ingest: IngestQueue) -> None:
        super().__init__(scope, construct_id)
        self._config = config
        key = customer_key(self, config)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.S3_MANAGED if key is None else s3.BucketEncryption.KMS,
            encryption_key=key,
            # One data key serves many objects, which takes 99 % of the requests from the bill of the key.
            bucket_key_enabled=True if key else None,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=None if config.emulated else 1.2,
            versioned=config.versioned,
            lifecycle_rules=_lifecycle_rules(config),
            replication_rules=self._copies(config) or None,
            removal_policy=removal_policy(config),
        )
        no_logs = (
            "Server access logs would cost more than the objects that they describe. The ledger records the sender of "
            "each batch, and an account that needs access logs can switch on CloudTrail data events."
        )
        acknowledge(self.bucket, "S1", no_logs)
        acknowledge(self.bucket, "S3BucketLoggingEnabled", no_logs, pack=NIST)
        Validations.of(self.bucket).acknowledge(
            Acknowledgment(
                id="CloudFormation-Validate::W9003", reason="CloudFormation accepts the size as a number as well."
            )
        )
        if self.bucket.replication_role_arn:
            own = written(self.bucket, self.bucket.bucket_arn, seen_from=self)
            copy = f"arn:<AWS::Partition>:s3:::{config.replicate_to.replace(REGION_MARK, '<AWS::Region>')}"
            for wildcard in (f"{own}/*", f"{copy}/*"):
                acknowledge(self.bucket, f"IAM5[Resource::{wildcard}]", "S3 replicates by this role, by rules alone.")
            for action in ("kms:GenerateDataKey*", "kms:ReEncrypt*"):
                acknowledge(
                    self.bucket, f"IAM5[Action::{action}]", "The CDK lets S3 encrypt copies, with one key only."
                )
        self._refuse_foreign_keys(config)
        self._write_once(config)
        self._notify(ingest)

    def grant_read(self, role: iam.IRole, *prefixes: str) -> None:
        """Let `role` read and list objects below `prefixes`, and get 404 for a missing key.

        S3 responds with 403 for a missing key unless the reader may list. To choose between 403 and 404, S3 evaluates
        the key itself as `s3:prefix` (docs/aws.md, A1).
        """
        self._grant(role, prefixes, "s3:GetObject")
        grant_key(role, self._config, "s3", READS)
        self.grant_list(role, *prefixes)

    def grant_read_versions(self, role: iam.IRole, *prefixes: str) -> None:
        """Let `role` read noncurrent versions of objects below `prefixes`."""
        self._grant(role, prefixes, "s3:GetObjectVersion")

    def grant_list(self, role: iam.IRole, *prefixes: str) -> None:
        """Let `role` list the objects below `prefixes` with their sizes. A list without a prefix is denied."""
        iam.Grant.add_to_principal(
            grantee=role,
            actions=["s3:ListBucket"],
            resource_arns=[self.bucket.bucket_arn],
            conditions={"StringLike": {"s3:prefix": [f"{prefix}*" for prefix in prefixes]}},
        )

    def grant_write(self, role: iam.IRole, *prefixes: str) -> None:
        """Let `role` write objects below `prefixes`, including by multipart upload."""
        self._grant(role, prefixes, "s3:PutObject", "s3:AbortMultipartUpload")
        grant_key(role, self._config, "s3", WRITES)

    def grant_delete(self, role: iam.IRole, *prefixes: str) -> None:
        """Let `role` delete objects below `prefixes`."""
        self._grant(role, prefixes, "s3:DeleteObject")

    def _grant(self, role: iam.IRole, prefixes: tuple[str, ...], *actions: str) -> None:
        iam.Grant.add_to_principal(
            grantee=role,
            actions=list(actions),
            resource_arns=[self.bucket.arn_for_objects(f"{prefix}*") for prefix in prefixes],
        )
        bucket = written(self.bucket, self.bucket.bucket_arn, seen_from=role)
        for prefix in prefixes:
            acknowledge_wildcard(
                role,
                f"{bucket}/{prefix}*",
                f"Objects below {prefix} get their names at run time. The grant covers that prefix only.",
            )

    def _refuse_foreign_keys(self, config: StageConfig) -> None:
        """Deny producers' uploads that the service could not read, or that would have a new identity each time.

        The service cannot read an object that is encrypted with a customer's key. With KMS encryption, each upload gets
        a new ETag, so an object put twice below `drop/` would be two batches. Where the bucket's default is the stage's
        key, an upload below `drop/` must therefore ask for AES256, unless checksums identify drops. Where the ETag
        identifies nothing, as below `ingest/`, an upload may ask for AES256 or the stage's key, or for nothing.
        """
        both = (INGEST_PREFIX, DROP_PREFIX)
        by_etag = (DROP_PREFIX,) if config.drop_identity == "etag" else ()
        # `StringNotEquals` alone is also true for a request without the header. `Null` excludes such requests.
        foreign: dict[str, tuple[tuple[str, ...], dict[str, dict[str, str]]]] = {
            "NoCustomerKeys": (both, {"Null": {f"{_ENCRYPTION}-customer-algorithm": "false"}}),
            "NoKmsKeys": (both, {"Null": {_ENCRYPTION: "false"}, "StringNotEquals": {_ENCRYPTION: "AES256"}}),
        }
        if config.customer_key_arn:
            other_key = {"StringNotEquals": {f"{_ENCRYPTION}-aws-kms-key-id": config.customer_key_arn}}
            foreign["NoKmsKeys"] = (by_etag, {"StringNotEquals": {_ENCRYPTION: "AES256"}})
            foreign["NoOtherKeys"] = (
                tuple(p for p in both if p not in by_etag),
                {"Null": {f"{_ENCRYPTION}-aws-kms-key-id": "false"}, **other_key},
            )
        for sid, (prefixes, conditions) in foreign.items():
            if not prefixes:
                continue
            self.bucket.add_to_resource_policy(
                iam.PolicyStatement(
                    sid=sid,
                    effect=iam.Effect.DENY,
                    principals=[iam.AnyPrincipal()],
                    actions=["s3:PutObject"],
                    resources=[self.bucket.arn_for_objects(f"{prefix}*") for prefix in prefixes],
                    conditions=conditions,
                )
            )

    def _write_once(self, config: StageConfig) -> None:
        """Deny every role of the stage to replace or delete objects that are written once.

        The deployer may do both: `metering uninstall --delete-data` deletes objects, and a person may copy them back.
        IAM cuts a stack's name in generated role names after 24 characters.
        """
        roles = [f"{config.stack_name(part)[:24]}*" for part in ("data", "pipeline", "api")]
        role = f"arn:{Aws.PARTITION}:iam::{Aws.ACCOUNT_ID}:role{config.role_path or '/'}"
        own = {"ArnLike": {"aws:PrincipalArn": [f"{role}{name}" for name in roles]}}
        # CreateMultipartUpload and UploadPart cannot have the header; only CompleteMultipartUpload creates the object.
        replaces = {"Null": {"s3:if-none-match": "true"}, "Bool": {"s3:ObjectCreationOperation": "true"}}
        for sid, actions, conditions in (
            ("WriteOnce", ["s3:PutObject"], {**own, **replaces}),
            ("NeverDelete", ["s3:DeleteObject", "s3:DeleteObjectVersion"], own),
        ):
            self.bucket.add_to_resource_policy(
                iam.PolicyStatement(
                    sid=sid,
                    effect=iam.Effect.DENY,
                    principals=[iam.AnyPrincipal()],
                    actions=actions,
                    resources=[self.bucket.arn_for_objects(f"{prefix}*") for prefix in WRITE_ONCE],
                    conditions=conditions,
                )
            )

    def _copies(self, config: StageConfig) -> list[s3.ReplicationRule]:
        """Rules that replicate objects, but no deletions, to the bucket that the settings name. Emulators have none."""
        if not config.replicate_to or config.emulated:
            return []
        name = config.replicate_to.replace(REGION_MARK, Aws.REGION)
        copy = s3.Bucket.from_bucket_arn(self, "Copy", f"arn:{Aws.PARTITION}:s3:::{name}")
        key_arn = config.replicate_key_arn.replace(REGION_MARK, Aws.REGION)
        key = kms.Key.from_key_arn(self, "CopyKey", key_arn) if key_arn else None
        return [
            s3.ReplicationRule(
                destination=copy,
                id=prefix.rstrip("/"),
                priority=number,
                filter=s3.Filter(prefix=prefix),
                # Without these, S3 replicates no object that is encrypted with a key.
                kms_key=key,
                sse_kms_encrypted_objects=True if key else None,
                delete_marker_replication=False,
            )
            for number, prefix in enumerate(COPIED, 1)
        ]

    def _notify(self, ingest: IngestQueue) -> None:
        # Set on the L1: `add_event_notification` would add a custom resource, which emulators and new regions lack.
        resource = self.bucket.node.default_child
        if not isinstance(resource, s3.CfnBucket):
            raise TypeError("the bucket has no CfnBucket")
        resource.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            queue_configurations=[
                s3.CfnBucket.QueueConfigurationProperty(
                    event="s3:ObjectCreated:*",
                    queue=ingest.queue.queue_arn,
                    filter=s3.CfnBucket.NotificationFilterProperty(
                        s3_key=s3.CfnBucket.S3KeyFilterProperty(
                            rules=[s3.CfnBucket.FilterRuleProperty(name="prefix", value=DROP_PREFIX)]
                        )
                    ),
                )
            ]
        )
        # When the configuration is put, S3 sends a test message, and rejects the configuration if it may not send.
        resource.add_resource_dependency(ingest.policy)


def _lifecycle_rules(config: StageConfig) -> list[s3.LifecycleRule]:
    incoming = Duration.days(config.incoming_retention_days)
    rules = [
        s3.LifecycleRule(
            id="incomplete-uploads", abort_incomplete_multipart_upload_after=_days(config.incomplete_upload_days)
        ),
        s3.LifecycleRule(id="ingest", prefix=INGEST_PREFIX, expiration=incoming),
        s3.LifecycleRule(id="drop", prefix=DROP_PREFIX, expiration=incoming),
        s3.LifecycleRule(id="quarantine", prefix=QUARANTINE_PREFIX, expiration=_days(config.quarantine_retention_days)),
        # The doctor deletes its objects, but may be stopped before it does.
        s3.LifecycleRule(id="doctor", prefix=DOCTOR_PREFIX, expiration=_days(_SCRATCH_DAYS)),
        # If a file arrives again within its marker's life, it must be judged as before.
        s3.LifecycleRule(id="plans", prefix=PLANS_PREFIX, expiration=_days(config.plan_life_days)),
        s3.LifecycleRule(id="markers", prefix=MARKERS_PREFIX, expiration=_days(config.markers_days)),
        s3.LifecycleRule(id="withdrawn", prefix=WITHDRAWN_PREFIX, expiration=_days(_WITHDRAWN_DAYS)),
        s3.LifecycleRule(id="cause-parts", prefix=CAUSE_PARTS_PREFIX, expiration=_days(LIFE_S // DAY_S)),
        s3.LifecycleRule(id="context", prefix=CONTEXT_PREFIX, expiration=_days(config.plan_life_days)),
        # The biller can recompute these objects from other data; forecasts look back half a year.
        s3.LifecycleRule(id="rated", prefix=RATED_PREFIX, expiration=_days(config.rated_retention_days)),
        s3.LifecycleRule(id="reports", prefix=REPORTS_PREFIX, expiration=_days(_REPORTS_DAYS)),
        s3.LifecycleRule(
            id="lake-classes",
            prefix=LAKE_PREFIX,
            object_size_greater_than=TRANSITION_MIN_BYTES,
            transitions=[
                s3.Transition(
                    storage_class=s3.StorageClass.INFREQUENT_ACCESS, transition_after=_days(config.lake_infrequent_days)
                ),
                s3.Transition(
                    storage_class=s3.StorageClass.GLACIER_INSTANT_RETRIEVAL,
                    transition_after=_days(config.lake_archive_days),
                ),
            ],
        ),
    ]
    if config.lake_retention_days is not None:
        # A lake file's totals are derived from the file, and are useless without the file.
        rules += [
            s3.LifecycleRule(id=f"{name}-retention", prefix=prefix, expiration=_days(config.lake_retention_days))
            for name, prefix in (("lake", LAKE_PREFIX), ("summaries", SUMMARIES_PREFIX))
        ]
    if config.analytics:
        rules.append(s3.LifecycleRule(id="athena-results", prefix=ATHENA_RESULTS_PREFIX, expiration=Duration.days(7)))
    if config.versioned:
        # This rule only removes noncurrent versions, so it may cover staging/. A ledger that is restored to a time
        # within these days still finds the staging objects that were cleaned since (P41).
        rules.append(
            s3.LifecycleRule(
                id="noncurrent",
                noncurrent_version_expiration=_days(config.noncurrent_days),
                expired_object_delete_marker=True,
            )
        )
        # If several rules overlap, S3 applies the shortest time.
        rules.append(
            s3.LifecycleRule(
                id="doctor-noncurrent",
                prefix=DOCTOR_PREFIX,
                noncurrent_version_expiration=_days(_SCRATCH_DAYS),
                expired_object_delete_marker=True,
            )
        )
    return rules


def _days(days: int) -> Duration:
    return Duration.days(days)
