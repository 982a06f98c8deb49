"""The region's data bucket: incoming objects, staging, lake, quarantine, plans and closed periods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Acknowledgment, Duration, RemovalPolicy, Validations
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.components.acknowledgement import acknowledge, acknowledge_wildcard, written
from metering.stores.bucket import ATHENA_RESULTS_PREFIX, DROP_PREFIX, INGEST_PREFIX, LAKE_PREFIX, QUARANTINE_PREFIX
from metering.units import KIB

if TYPE_CHECKING:
    from infra.components.queues import IngestQueue
    from metering.fleet.stage import StageConfig

_ENCRYPTION = "s3:x-amz-server-side-encryption"

# IA and Glacier IR bill 128 KB at least, so a smaller object would get dearer by moving.
TRANSITION_MIN_BYTES = 128 * KIB


class DataBucket(Construct):
    """Encrypted, private, TLS only. No lifecycle rule expires a current object of `staging/`, `runs/` or `closed/`."""

    def __init__(self, scope: Construct, construct_id: str, *, config: StageConfig, ingest: IngestQueue) -> None:
        super().__init__(scope, construct_id)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=None if config.emulated else 1.2,
            versioned=config.versioned,
            lifecycle_rules=_lifecycle_rules(config),
            removal_policy=RemovalPolicy.RETAIN if config.stateful_retained else RemovalPolicy.DESTROY,
        )
        acknowledge(
            self.bucket,
            "S1",
            "Server access logs would cost more than the objects that they tell of; who sent a batch is in the "
            "ledger, and CloudTrail data events can be switched on for an account that must have them.",
        )
        Validations.of(self.bucket).acknowledge(
            Acknowledgment(
                id="CloudFormation-Validate::W9003", reason="CloudFormation takes the size as a number, too."
            )
        )
        self._refuse_foreign_keys()
        self._notify(ingest)

    def grant_read(self, role: iam.IRole, *prefixes: str) -> None:
        """Let `role` read and list what lies below `prefixes`, and be told that a key is missing.

        S3 answers 403 for a missing key unless the reader may list. A HEAD or GET names no `s3:prefix`, so the
        condition is for requests that do: who lists without any prefix sees the bucket's keys, and reads none of them.
        """
        self._grant(role, prefixes, "s3:GetObject")
        self._grant_list(role, prefixes, operator="StringLikeIfExists")

    def grant_read_versions(self, role: iam.IRole, *prefixes: str) -> None:
        """Let `role` read what was replaced or deleted below the prefixes, by its version."""
        self._grant(role, prefixes, "s3:GetObjectVersion")

    def grant_list(self, role: iam.IRole, *prefixes: str) -> None:
        """Let `role` see what lies below `prefixes`, and how large it is."""
        self._grant_list(role, prefixes, operator="StringLike")

    def grant_write(self, role: iam.IRole, *prefixes: str) -> None:
        """Let `role` write objects below `prefixes`, multipart uploads included."""
        self._grant(role, prefixes, "s3:PutObject", "s3:AbortMultipartUpload")

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
                f"The objects below {prefix} have names made at run time; the grant is for that prefix alone.",
            )

    def _grant_list(self, role: iam.IRole, prefixes: tuple[str, ...], *, operator: str) -> None:
        iam.Grant.add_to_principal(
            grantee=role,
            actions=["s3:ListBucket"],
            resource_arns=[self.bucket.bucket_arn],
            conditions={operator: {"s3:prefix": [f"{prefix}*" for prefix in prefixes]}},
        )

    def _refuse_foreign_keys(self) -> None:
        """Producers' objects are encrypted by the bucket's default only.

        S3 refuses to read an object under a customer's key, and an ETag under KMS differs at each upload: the same
        object put twice below `drop/` would be two batches.
        """
        foreign: dict[str, dict[str, dict[str, str]]] = {
            "NoCustomerKeys": {"Null": {f"{_ENCRYPTION}-customer-algorithm": "false"}},
            # Two conditions: that on its own is true of a request that asks for no encryption, too.
            "NoKmsKeys": {"Null": {_ENCRYPTION: "false"}, "StringNotEquals": {_ENCRYPTION: "AES256"}},
        }
        for sid, conditions in foreign.items():
            self.bucket.add_to_resource_policy(
                iam.PolicyStatement(
                    sid=sid,
                    effect=iam.Effect.DENY,
                    principals=[iam.AnyPrincipal()],
                    actions=["s3:PutObject"],
                    resources=[self.bucket.arn_for_objects(f"{prefix}*") for prefix in (INGEST_PREFIX, DROP_PREFIX)],
                    conditions=conditions,
                )
            )

    def _notify(self, ingest: IngestQueue) -> None:
        # Set on the L1: `add_event_notification` would bring a custom resource, which emulators and new regions lack.
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
        # S3 sends a test message when the configuration is put, and refuses the configuration if it may not.
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
        rules.append(
            s3.LifecycleRule(id="lake-retention", prefix=LAKE_PREFIX, expiration=_days(config.lake_retention_days))
        )
    if config.analytics:
        rules.append(s3.LifecycleRule(id="athena-results", prefix=ATHENA_RESULTS_PREFIX, expiration=Duration.days(7)))
    if config.versioned:
        # Touches only what was overwritten or deleted already, so it may cover staging/ too.
        rules.append(
            s3.LifecycleRule(
                id="noncurrent",
                noncurrent_version_expiration=_days(config.noncurrent_days),
                expired_object_delete_marker=True,
            )
        )
    return rules


def _days(days: int) -> Duration:
    return Duration.days(days)
