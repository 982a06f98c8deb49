"""Five usual organisations' policies, in the forms that AWS takes: SCPs, a tag policy, a boundary, rules of properties.

They are written as platform teams write them (AWS's guides on SCPs, tag policies and Control Tower's proactive
controls), for an account in us-east-1 that has the stage of `tests/infra/support/organisation.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.infra.support.organisation import BOUNDARY, KEY, PATH, TAGS

Statement = Mapping[str, Any]
Properties = Mapping[str, Any]
REGION = "us-east-1"
ACCOUNT = "123456789012"
BOUNDARY_ARN = f"arn:aws:iam::{ACCOUNT}:policy/{BOUNDARY}"

# Actions that make something which takes tags in the same call (service authorization reference, `aws:RequestTag`).
TAGGED = (
    "acm:RequestCertificate",
    "apigateway:POST",
    "athena:CreateWorkGroup",
    "cloudformation:CreateChangeSet",
    "cloudwatch:PutCompositeAlarm",
    "cloudwatch:PutMetricAlarm",
    "codebuild:CreateProject",
    "dynamodb:CreateTable",
    "events:PutRule",
    "iam:CreateRole",
    "kms:CreateKey",
    "lambda:CreateEventSourceMapping",
    "lambda:CreateFunction",
    "logs:CreateLogGroup",
    "sns:CreateTopic",
    "sqs:CreateQueue",
    "ssm:PutParameter",
)
# Global services, whose calls go to us-east-1 or to no region (AWS's example of an SCP by region).
_GLOBAL = ("iam:*", "sts:*", "route53:*", "cloudfront:*", "organizations:*", "support:*", "budgets:*", "account:*")
_ROLE_CHANGES = (
    "iam:AttachRolePolicy",
    "iam:CreateRole",
    "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy",
    "iam:PutRolePermissionsBoundary",
    "iam:PutRolePolicy",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Organisation:
    """Rules of an organisation.

    Attributes:
        denies: Statements of its service control policies; all of them deny.
        bounds: Statements of the boundary that each role must have; empty without such a demand.
        rules: By type of resource, a check of its properties that returns the problem, or nothing.
    """

    name: str
    denies: tuple[Statement, ...] = ()
    bounds: tuple[Statement, ...] = ()
    rules: Mapping[str, Callable[[Properties], str]] = field(default_factory=dict)


def _deny(actions: tuple[str, ...], condition: Mapping[str, Any] | None = None, **more: Any) -> Statement:
    return {"Effect": "Deny", "Action": list(actions), "Resource": "*", "Condition": condition or {}, **more}


SCPS = Organisation(
    name="service control policies",
    denies=(
        *(_deny(TAGGED, {"Null": {f"aws:RequestTag/{name}": "true"}}) for name in TAGS),
        {
            "Effect": "Deny",
            "NotAction": list(_GLOBAL),
            "Resource": "*",
            "Condition": {"StringNotEquals": {"aws:RequestedRegion": [REGION]}},
        },
        _deny(("account:*", "organizations:LeaveOrganization")),
    ),
)

# The tag policy: spelling and values of a key, and the types that must have it (`enforced_for` and the required tags
# that CloudFormation's hook of tag policies checks).
_SPELLED = {"cost-centre": ("4711", "4712"), "owner": ()}


def _tagged(properties: Properties) -> str:
    found = tags_of(properties)
    for name, values in _SPELLED.items():
        close = [each for each in found if each.lower() == name]
        if not close:
            return f"has no tag {name}"
        if close != [name]:
            return f"spells the tag {name} {', '.join(close)}"
        if values and found[name] not in values:
            return f"has {found[name]!r} as {name}"
    return ""


def tags_of(properties: Properties) -> dict[str, str]:
    """Tags of a resource: a list, a mapping, or those of a global table's replica."""
    found = properties.get("Tags") or next((each.get("Tags") for each in properties.get("Replicas", [])), None) or {}
    return dict(found) if isinstance(found, Mapping) else {each["Key"]: each["Value"] for each in found}


TAG_POLICY = Organisation(
    name="tag policy",
    rules=dict.fromkeys(
        (
            *("AWS::ApiGatewayV2::Api", "AWS::Athena::WorkGroup", "AWS::CloudWatch::Alarm", "AWS::Events::Rule"),
            *("AWS::DynamoDB::GlobalTable", "AWS::IAM::Role", "AWS::KMS::Key", "AWS::Lambda::Function"),
            *("AWS::Logs::LogGroup", "AWS::S3::Bucket", "AWS::SNS::Topic", "AWS::SQS::Queue", "AWS::SSM::Parameter"),
        ),
        _tagged,
    ),
)

BOUNDED = Organisation(
    name="permissions boundary",
    denies=(
        _deny(_ROLE_CHANGES, {"StringNotEquals": {"iam:PermissionsBoundary": BOUNDARY_ARN}}),
        _deny(("iam:DeleteRolePermissionsBoundary", "iam:CreateUser", "iam:CreateAccessKey")),
        {
            "Effect": "Deny",
            "Action": [*_ROLE_CHANGES, "iam:CreatePolicy"],
            "NotResource": [f"arn:aws:iam::*:{kind}{PATH}*" for kind in ("role", "policy")],
            "Condition": {},
        },
        {
            "Effect": "Deny",
            "Action": ["iam:PassRole"],
            # The platform team's bootstrap has a role that CloudFormation works with.
            "NotResource": [f"arn:aws:iam::*:role{PATH}*", "arn:aws:iam::*:role/cdk-*-cfn-exec-role-*"],
            "Condition": {},
        },
    ),
    bounds=(
        {
            "Effect": "Allow",
            "NotAction": [
                "iam:*",
                "organizations:*",
                "account:*",
                "sso:*",
                "kms:ScheduleKeyDeletion",
                "kms:CreateGrant",
            ],
            "Resource": "*",
        },
        {"Effect": "Allow", "Action": ["iam:PassRole"], "Resource": f"arn:aws:iam::*:role{PATH}*"},
        _deny(("s3:PutBucketPolicy", "s3:DeleteBucket", "ec2:CreateVpc", "ec2:CreateInternetGateway")),
    ),
)


def _table(properties: Properties) -> str:
    if not properties.get("SSESpecification", {}).get("SSEEnabled"):
        return "is encrypted with a key that AWS owns"
    used = [each.get("SSESpecification", {}).get("KMSMasterKeyId") for each in properties.get("Replicas", [])]
    return "" if used and set(used) == {KEY} else "is encrypted with a key of AWS's"


def _bucket(properties: Properties) -> str:
    for rule in properties.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", []):
        if rule["ServerSideEncryptionByDefault"].get("KMSMasterKeyID") == KEY:
            return ""
    return "encrypts by default without the organisation's key"


def _has_key(*path: str) -> Callable[[Properties], str]:
    def look(properties: Properties) -> str:
        found: Any = properties
        for name in path:
            found = found.get(name, {}) if isinstance(found, Mapping) else {}
        return "" if found == KEY else f"{'.'.join(path)} is not the organisation's key"

    return look


_RESULT = ("WorkGroupConfiguration", "ResultConfiguration", "EncryptionConfiguration", "KmsKey")
KMS_ONLY = Organisation(
    name="KMS only",
    denies=(
        _deny(
            ("s3:PutObject",),
            {
                "Null": {"s3:x-amz-server-side-encryption": "false"},
                "StringNotEquals": {"s3:x-amz-server-side-encryption": "aws:kms"},
            },
        ),
        _deny(("kms:CreateKey", "kms:ScheduleKeyDeletion")),
    ),
    rules={
        "AWS::Athena::WorkGroup": _has_key(*_RESULT),
        "AWS::DynamoDB::GlobalTable": _table,
        "AWS::Logs::LogGroup": _has_key("KmsKeyId"),
        "AWS::S3::Bucket": _bucket,
        "AWS::SNS::Topic": _has_key("KmsMasterKeyId"),
        "AWS::SQS::Queue": _has_key("KmsMasterKeyId"),
    },
)


def _in_network(properties: Properties) -> str:
    network = properties.get("VpcConfig", {})
    return "" if network.get("SubnetIds") and network.get("SecurityGroupIds") else "runs outside of a network"


VPC_ONLY = Organisation(
    name="VPC only",
    denies=(
        _deny(("lambda:CreateFunction", "lambda:UpdateFunctionConfiguration"), {"Null": {"lambda:VpcIds": "true"}}),
        _deny(("lambda:CreateFunctionUrlConfig",)),
    ),
    rules={"AWS::Lambda::Function": _in_network},
)

ORGANISATIONS = (SCPS, TAG_POLICY, BOUNDED, KMS_ONLY, VPC_ONLY)
