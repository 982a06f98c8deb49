"""Permissions on log buckets of other owners, with their KMS keys: only below the prefixes of the log files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws
from aws_cdk import aws_iam as iam

from infra.components.shared import acknowledge_wildcard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from metering.fleet.settings.log_sources import BillExportSetting, LogSource
    from metering.fleet.stage import StageConfig


def grant_read_logs(role: iam.IRole, sources: Sequence[LogSource], *, config: StageConfig) -> None:
    """Let `role` read and list the log files of `sources`.

    Every list request must name a permitted prefix, so the bucket's other keys stay hidden. S3 therefore responds with
    403 for a missing file, and the on-ramp lists the key to determine whether the file exists.
    """
    for source in sources:
        bucket = f"arn:{Aws.PARTITION}:s3:::{source.bucket}"
        files = f"{bucket}/{source.prefix}*"
        iam.Grant.add_to_principal(grantee=role, actions=["s3:GetObject", "s3:GetObjectVersion"], resource_arns=[files])
        iam.Grant.add_to_principal(
            grantee=role,
            actions=["s3:ListBucket"],
            resource_arns=[bucket],
            conditions={"StringLike": {"s3:prefix": [f"{source.prefix}*"]}},
        )
        acknowledge_wildcard(
            role,
            f"arn:<AWS::Partition>:s3:::{source.bucket}/{source.prefix}*",
            "Log files get their names when they are written. The grant covers the prefix of the log source only.",
        )
        _grant_decrypt(role, source, config)


def grant_read_bills(role: iam.IRole, exports: Sequence[BillExportSetting], *, config: StageConfig) -> None:
    """Let `role` list the manifests and read the files of exports of a bill, below their prefixes only."""
    for export in exports:
        bucket = f"arn:{Aws.PARTITION}:s3:::{export.bucket}"
        iam.Grant.add_to_principal(
            grantee=role, actions=["s3:GetObject"], resource_arns=[f"{bucket}/{export.prefix}/*"]
        )
        iam.Grant.add_to_principal(
            grantee=role,
            actions=["s3:ListBucket"],
            resource_arns=[bucket],
            conditions={"StringLike": {"s3:prefix": [f"{export.prefix}/*"]}},
        )
        acknowledge_wildcard(
            role,
            f"arn:<AWS::Partition>:s3:::{export.bucket}/{export.prefix}/*",
            "AWS names the files of an export when it writes them. The grant covers this export only.",
        )
        _grant_decrypt(role, export, config)


def _grant_decrypt(role: iam.IRole, source: LogSource | BillExportSetting, config: StageConfig) -> None:
    if source.kms_key_arn:
        through = {"StringEquals": {"kms:ViaService": f"s3.{source.region}.{Aws.URL_SUFFIX}"}}
        iam.Grant.add_to_principal(
            grantee=role,
            actions=["kms:Decrypt"],
            resource_arns=[source.kms_key_arn],
            # MiniStack does not know the condition key, and denies a statement that it cannot evaluate.
            conditions=None if config.emulated else through,
        )


def grant_announce(role: iam.IRole, sources: Sequence[LogSource]) -> None:
    """Let `role` read the notification settings of the buckets of `sources`, and enable their EventBridge events."""
    actions = ["s3:GetBucketLocation", "s3:GetBucketNotification", "s3:PutBucketNotification"]
    buckets = sorted({source.bucket for source in sources})
    iam.Grant.add_to_principal(
        grantee=role, actions=actions, resource_arns=[f"arn:{Aws.PARTITION}:s3:::{bucket}" for bucket in buckets]
    )


def grant_describe(role: iam.IRole, sources: Sequence[LogSource]) -> None:
    """Let `role` describe the networks of this account, and assume the roles that describe other accounts' networks."""
    iam.Grant.add_to_principal(grantee=role, actions=list(DESCRIBES), resource_arns=["*"])
    acknowledge_wildcard(role, "*", "Calls that describe EC2's networks do not support resource ARNs, and only read.")
    roles = sorted({arn for source in sources for arn in source.context_role_arns})
    if roles:
        iam.Grant.add_to_principal(grantee=role, actions=["sts:AssumeRole"], resource_arns=roles)


# API calls that describe networks for a context (`metering.onramps.context`).
DESCRIBES = (
    "ec2:DescribeAddresses",
    "ec2:DescribeFlowLogs",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:DescribeTags",
    "ec2:DescribeTransitGatewayAttachments",
    "ec2:DescribeTransitGatewayMeteringPolicies",
    "ec2:DescribeTransitGatewayPeeringAttachments",
    "ec2:DescribeTransitGatewayVpcAttachments",
    "ec2:DescribeVpcEndpoints",
    "ec2:DescribeVpcPeeringConnections",
    "ec2:DescribeVpcs",
    "ec2:GetTransitGatewayMeteringPolicyEntries",
)
