"""Permissions with which `metering doctor` asks as the operator's role, after a deployment and whenever people ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.components.queues import CONSUME, allow, allow_move
from infra.components.shared import acknowledge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.components.bucket import DataBucket
    from infra.components.functions import MeteringFunction
    from infra.components.tables import MeteringTable
    from metering.fleet.stage import StageConfig

_QUEUES = (*CONSUME, "sqs:SendMessage", "sqs:CreateQueue", "sqs:DeleteQueue", "sqs:TagQueue")
_WHY = (
    "The names are generated, and begin with those of this stage; the two calls about functions do not support "
    "resource ARNs. All but the calls to the doctor's own queues only read."
)


class DoctorGrants(Construct):
    """Managed policy of the operator's role for the doctor's quick checks, beside what the operator may do anyway.

    The thorough checks make a table and an alarm of their own, and subscribe to the alerts. No role of the stage may.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        operator: iam.IRole,
        tables: Sequence[MeteringTable],
        data: DataBucket,
        compactor: MeteringFunction,
    ) -> None:
        super().__init__(scope, construct_id)
        arns = [each.table.table_arn for each in tables]
        every = config.stack_name("*")
        bootstrap = f"parameter/cdk-bootstrap/{config.bootstrap.qualifier}/version"
        grants: dict[str, tuple[Sequence[str], Sequence[str]]] = {
            "Functions": (["lambda:GetFunctionConfiguration"], [_arn("lambda", f"function:{every}")]),
            "Account": (["lambda:GetAccountSettings", "lambda:ListEventSourceMappings"], ["*"]),
            "Probe": (["lambda:InvokeFunction"], [compactor.function.function_arn]),
            "Quota": (["servicequotas:GetServiceQuota"], [_arn("servicequotas", "dynamodb/L-AB614373")]),
            "Templates": (["cloudformation:GetTemplate"], [_arn("cloudformation", f"stack/{every}/*")]),
            "Bootstrap": (["ssm:GetParameter"], [_arn("ssm", bootstrap)]),
            "Tables": (["dynamodb:DescribeContinuousBackups", "dynamodb:DescribeTimeToLive"], arns),
            "Bucket": (["s3:GetBucketVersioning", "s3:GetLifecycleConfiguration"], [data.bucket.bucket_arn]),
            "Alarms": (["cloudwatch:DescribeAlarmHistory"], [_arn("cloudwatch", f"alarm:metering-{config.stage}-*")]),
        }
        policy = iam.ManagedPolicy(
            self,
            "Policy",
            description="Lets the operator of metering run the quick checks of the doctor.",
            roles=[operator],
            statements=[
                iam.PolicyStatement(sid=sid, actions=list(actions), resources=list(resources))
                for sid, (actions, resources) in grants.items()
            ],
        )
        scratch = _arn("sqs", f"metering-{config.stage}-doctor-*")
        allow(policy, scratch, *_QUEUES, config=config)
        allow_move(policy, scratch, emulated=config.emulated)
        for place in (scratch, *(each for _, resources in grants.values() for each in resources)):
            if "*" in place:
                acknowledge(policy, f"IAM5[Resource::{_written(place)}]", _WHY)


def _arn(service: str, resource: str) -> str:
    return f"arn:{Aws.PARTITION}:{service}:{Aws.REGION}:{Aws.ACCOUNT_ID}:{resource}"


def _written(arn: str) -> str:
    """Write an ARN as cdk-nag does in its findings."""
    for name in ("Partition", "Region", "AccountId"):
        arn = arn.replace(getattr(Aws, {"AccountId": "ACCOUNT_ID"}.get(name, name.upper())), f"<AWS::{name}>")
    return arn
