"""Demands of an organisation on every resource, applied to finished stacks, and the use of its key."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import jsii
from aws_cdk import Aspects, Aws, CfnResource, IAspect, Stack, Tags
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms

from metering.fleet.settings.organisation import policy_arn

if TYPE_CHECKING:
    from collections.abc import Iterable

    from constructs import Construct, IConstruct

    from metering.fleet.stage import StageConfig

_OF_IAM = ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy")


def comply(stacks: Iterable[Stack], config: StageConfig) -> None:
    """Give the stage's tags to everything that takes tags, and its boundary and path to every role of the stacks.

    Roles of custom resources, which constructs of the CDK may add, are among them.
    """
    for stack in stacks:
        for name, value in config.tags.items():
            Tags.of(stack).add(name, value)
        if config.permissions_boundary:
            arn = policy_arn(config.permissions_boundary, partition=Aws.PARTITION, account=Aws.ACCOUNT_ID)
            bound = iam.ManagedPolicy.from_managed_policy_arn(stack, "Boundary", arn)
            iam.PermissionsBoundary.of(stack).apply(bound)
        if config.role_path:
            Aspects.of(stack).add(_Path(config.role_path))


@jsii.implements(IAspect)
class _Path:
    """Gives its path to each role, and to each policy that the CDK splits off a large one at the end."""

    def __init__(self, path: str) -> None:
        self._path = path

    def visit(self, node: IConstruct) -> None:
        if isinstance(node, CfnResource) and node.cfn_resource_type in _OF_IAM:
            node.add_property_override("Path", self._path)


def customer_key(scope: Construct, config: StageConfig) -> kms.IKey | None:
    """Key that the settings name; None if AWS's own keys are used, as on emulators, which do not have that key."""
    if not config.customer_key_arn:
        return None
    stack = Stack.of(scope)
    found = stack.node.try_find_child("CustomerKey")
    return (
        kms.Key.from_key_arn(stack, "CustomerKey", config.customer_key_arn)
        if found is None
        else cast("kms.IKey", found)
    )


# Permissions on the key that a service uses on behalf of who calls it (developer guides of these services). S3 decrypts
# the key of the first part for each further part of an upload, and SQS checks a data key by decrypting it.
READS = ("kms:Decrypt",)
WRITES = ("kms:Decrypt", "kms:GenerateDataKey")
TABLE_READS = ("kms:Decrypt", "kms:DescribeKey")
TABLE_WRITES = (
    *TABLE_READS,
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
)


def grant_key_of(grantee: iam.IGrantable, config: StageConfig, region: str) -> list[str]:
    """Let `grantee` read what the stage's key encrypts in the bucket of a region, or of all (`*`); returns its ARNs."""
    if not config.customer_key_arn:
        return []
    parts = config.customer_key_arn.split(":")
    arn = ":".join((*parts[:3], region, *parts[4:]))
    through = {"StringLike": {"kms:ViaService": f"s3.{region}.{Aws.URL_SUFFIX}"}}
    iam.Grant.add_to_principal(grantee=grantee, actions=list(READS), resource_arns=[arn], conditions=through)
    return [arn]


def grant_key(grantee: iam.IGrantable, config: StageConfig, service: str, actions: tuple[str, ...]) -> None:
    """Let `grantee` use the stage's key, but only through `service` (such as `sqs`) of this region."""
    if not config.customer_key_arn:
        return
    through = {"StringEquals": {"kms:ViaService": f"{service}.{Aws.REGION}.{Aws.URL_SUFFIX}"}}
    iam.Grant.add_to_principal(
        grantee=grantee,
        actions=list(actions),
        resource_arns=[config.customer_key_arn],
        conditions=through,
    )
