"""Rollout stack: a scheduled CodeBuild project in the home region that runs `metering region reconcile`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aws_cdk import Acknowledgment, Aws, CfnOutput, Duration, IgnoreMode, RemovalPolicy, Validations
from aws_cdk import aws_codebuild as codebuild
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3_assets as assets

from infra.components.alarms import MeteringAlarm, MetricPlace
from infra.components.organisation import customer_key
from infra.components.shared import NIST, RegionStack, acknowledge
from metering.errors import OperationFailedError
from metering.operations.alarms import ALARMS, alarm_name
from metering.stores.objects import NOTES_PREFIX

if TYPE_CHECKING:
    from aws_cdk import Environment, IStackSynthesizer
    from constructs import Construct

    from infra.stacks.data import DataStack
    from metering.fleet.stage import StageConfig

_ROOT = Path(__file__).parents[2]
# Paths that are not needed for a build.
_LEFT_AT_HOME = (".git", ".venv", ".local", "**/__pycache__", "**/cdk.out", "tests", "build", "dist", ".*_cache")
# Maximum duration of builds in CodeBuild. Opting in to a region can take hours.
_LONGEST_BUILD = Duration.hours(8)

# Actions of a rollout that the bootstrap roles do not cover: stacks, and the states of regions.
_ACTIONS = (
    "account:GetRegionOptStatus",
    "account:ListRegions",
    "cloudformation:CreateChangeSet",
    "cloudformation:DeleteChangeSet",
    "cloudformation:DeleteStack",
    "cloudformation:DescribeChangeSet",
    "cloudformation:DescribeEvents",
    "cloudformation:DescribeStackEvents",
    "cloudformation:DescribeStacks",
    "cloudformation:ExecuteChangeSet",
    "cloudformation:GetTemplate",
    "cloudformation:ListStackResources",
    "cloudformation:ListTypes",
    "cloudformation:UpdateTerminationProtection",
    "cloudformation:ValidateTemplate",
    "cloudwatch:DescribeAlarms",
    "cloudwatch:GetMetricStatistics",
    "dynamodb:BatchGetItem",
    "dynamodb:GetItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "events:EnableRule",
    "lambda:DeleteFunctionConcurrency",
    "iam:GetAccountSummary",
    "lambda:GetAccountSettings",
    "lambda:GetFunctionConcurrency",
    "lambda:GetPolicy",
    "lambda:InvokeFunction",
    "lambda:ListEventSourceMappings",
    "lambda:PutFunctionConcurrency",
    "lambda:UpdateEventSourceMapping",
    "servicequotas:GetServiceQuota",
    "sns:ListSubscriptionsByTopic",
    "sqs:GetQueueAttributes",
    "sqs:GetQueueUrl",
    "ssm:GetParameter",
)
# Only with networks (`vpc`), which preflight looks at.
NETWORK_ACTIONS = (
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcEndpoints",
)
# Only for alarms of the stage.
ALARM_ACTION = "cloudwatch:SetAlarmState"
# Only with the setting `rollout.opt_in`.
_OPT_IN_ACTION = "account:EnableRegion"
# Actions with which a deployment sets the billing mode of a provisioned ledger.
BILLING_ACTIONS = ("dynamodb:DescribeTable", "dynamodb:UpdateTable")
# Actions that are needed to bootstrap a region.
_BOOTSTRAP_ACTIONS = ("ecr:*", "iam:*", "s3:*", "ssm:*")
_ROLES = "arn:{partition}:iam::{account}:role/cdk-{qualifier}-*"
_GRANTED_BY_THE_CDK = (
    "Action::s3:GetObject*",
    "Action::s3:GetBucket*",
    "Action::s3:List*",
    "Action::kms:ReEncrypt*",
    "Action::kms:GenerateDataKey*",
    "Resource::arn:<AWS::Partition>:logs:<AWS::Region>:<AWS::AccountId>:log-group:/aws/codebuild/<ProjectC78D97AD>:*",
)
_WHY_GRANTS = (
    "The CDK makes these grants for the source asset, the key and the log. Each names one bucket, key or log group."
)
_WHY_WILDCARDS = (
    "A region that is not known yet has no ARNs to name. The project has to read its state, bootstrap it through "
    "CloudFormation, and assume the roles of that bootstrap."
)


class RolloutStack(RegionStack):
    """A scheduled rollout that deploys the stage to each new AWS region without a manual command."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        config: StageConfig,
        data: DataStack,
        synthesizer: IStackSynthesizer,
        env: Environment | None = None,
    ) -> None:
        super().__init__(scope, construct_id, "Metering rollout to new regions", synthesizer=synthesizer, env=env)
        project = self._project(config, data)
        events.Rule(
            self,
            "Rate",
            description="Schedule of the rollout to missing regions.",
            schedule=events.Schedule.rate(Duration.hours(config.rollout_every_h)),
            targets=[targets.CodeBuildProject(project)],
        )
        for spec in ALARMS:
            if spec.origin == "rollout":
                place = MetricPlace(namespace="AWS/CodeBuild", dimensions={"ProjectName": project.project_name})
                MeteringAlarm(self, "Failed", config=config, spec=spec, topics=data.topics, place=place)
        iam.Policy(
            self,
            "Doctor",
            roles=[data.roles.operator],
            statements=[
                iam.PolicyStatement(
                    actions=["codebuild:BatchGetBuilds", "codebuild:ListBuildsForProject"],
                    resources=[project.project_arn],
                ),
                iam.PolicyStatement(
                    actions=["account:ListRegions"],
                    resources=[f"arn:{Aws.PARTITION}:account::{Aws.ACCOUNT_ID}:account"],
                ),
            ],
        )
        CfnOutput(self, "RolloutProjectName", value=project.project_name)

    def _project(self, config: StageConfig, data: DataStack) -> codebuild.Project:
        if not (_ROOT / "pyproject.toml").is_file():
            raise OperationFailedError(
                "The rollout project builds from a checkout, and metering runs from an installed package.",
                "Deploy from a checkout, or set rollout_project = false.",
            )
        source = assets.Asset(self, "Source", path=str(_ROOT), exclude=list(_LEFT_AT_HOME), ignore_mode=IgnoreMode.GLOB)
        log_group = logs.LogGroup(
            self,
            "Logs",
            encryption_key=customer_key(self, config),
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )
        project = codebuild.Project(
            self,
            "Project",
            description="Runs `metering region reconcile`.",
            source=codebuild.Source.s3(bucket=source.bucket, path=source.s3_object_key),
            build_spec=codebuild.BuildSpec.from_object(_build_spec(config)),
            environment=codebuild.BuildEnvironment(
                build_image=codebuild.LinuxArmBuildImage.AMAZON_LINUX_2023_STANDARD_3_0
            ),
            timeout=_LONGEST_BUILD,
            # Two concurrent builds would wait for each other's stacks.
            concurrent_build_limit=1,
            grant_report_group_permissions=False,
            encryption_key=customer_key(self, config) or kms.Key(
                self, "Key", description="Encrypts build artifacts of the metering rollout.", enable_key_rotation=True,
                pending_window=Duration.days(7), removal_policy=RemovalPolicy.DESTROY,
            ),
            logging=codebuild.LoggingOptions(cloud_watch=codebuild.CloudWatchLoggingOptions(log_group=log_group)),
        )  # fmt: skip
        # The CDK's check takes the attribute of a role with a path for its name.
        not_so = Acknowledgment(id="CloudFormation-Validate::E3050", reason="The project names its role by the ARN.")
        Validations.of(project).acknowledge(not_so)
        source.grant_read(project)
        self._grant(project, config)
        if config.ledger_scales:
            self._grant_billing(project, config)
        if project.role is not None:
            # States of regions and deeds are also put below `notes/`.
            data.data.grant_write(project.role, NOTES_PREFIX)
        return project

    def _grant(self, project: codebuild.Project, config: StageConfig) -> None:
        networks = NETWORK_ACTIONS if config.vpc else ()
        actions = [*_ACTIONS, *networks, *((_OPT_IN_ACTION,) if config.rollout.opt_in else ())]
        project.add_to_role_policy(iam.PolicyStatement(actions=actions, resources=["*"]))
        alarms = f"arn:{{}}:cloudwatch:*:{{}}:alarm:{alarm_name(config.stage, '*')}"
        project.add_to_role_policy(
            iam.PolicyStatement(actions=[ALARM_ACTION], resources=[alarms.format(Aws.PARTITION, Aws.ACCOUNT_ID)])
        )
        qualifier = config.bootstrap.qualifier
        roles = _ROLES.format(partition=Aws.PARTITION, account=Aws.ACCOUNT_ID, qualifier=qualifier)
        project.add_to_role_policy(iam.PolicyStatement(actions=["sts:AssumeRole"], resources=[roles]))
        wide = ["Resource::*", f"Resource::{alarms.format('<AWS::Partition>', '<AWS::AccountId>')}"]
        wide.append(
            f"Resource::{_ROLES.format(partition='<AWS::Partition>', account='<AWS::AccountId>', qualifier=qualifier)}"
        )
        if config.bootstrap.mode == "auto":
            called_via = {"ForAnyValue:StringEquals": {"aws:CalledVia": ["cloudformation.amazonaws.com"]}}
            project.add_to_role_policy(
                iam.PolicyStatement(actions=list(_BOOTSTRAP_ACTIONS), resources=["*"], conditions=called_via)
            )
            wide += [f"Action::{name}" for name in _BOOTSTRAP_ACTIONS]
        for finding in wide:
            acknowledge(project, f"IAM5[{finding}]", _WHY_WILDCARDS)
        acknowledge(project, "IAMPolicyNoStatementsWithFullAccess", _WHY_WILDCARDS, pack=NIST)
        assets_of_cdk = f"Resource::arn:<AWS::Partition>:s3:::cdk-{qualifier}-assets-<AWS::AccountId>-<AWS::Region>/*"
        for finding in (*_GRANTED_BY_THE_CDK, assets_of_cdk):
            acknowledge(project, f"IAM5[{finding}]", _WHY_GRANTS)

    def _grant_billing(self, project: codebuild.Project, config: StageConfig) -> None:
        tables = f"{{}}:dynamodb:*:{{}}:table/metering-{config.stage}-*"
        project.add_to_role_policy(
            iam.PolicyStatement(
                actions=list(BILLING_ACTIONS), resources=[f"arn:{tables.format(Aws.PARTITION, Aws.ACCOUNT_ID)}"]
            )
        )
        place = f"arn:{tables.format('<AWS::Partition>', '<AWS::AccountId>')}"
        acknowledge(project, f"IAM5[Resource::{place}]", "Ledgers have generated names, in regions that it builds.")


# The project effectively has all of CloudFormation's permissions, so it installs only packages with a hash in the lock.
_INSTALL = (
    "python3 -m infra.locked uv > /tmp/uv.txt",
    "python3 -m pip install --quiet --require-hashes --only-binary :all: -r /tmp/uv.txt",
)
# `uv sync` takes packages from the addresses in the lock. From another index, they are installed beforehand.
_FROM_INDEX = (
    "uv export --quiet --frozen --all-extras --no-default-groups --no-emit-project --output-file /tmp/all.txt",
    "uv venv --quiet",
    "uv pip install --quiet --require-hashes --only-binary :all: -r /tmp/all.txt",
)
_SYNC = "uv sync --frozen --all-extras"


def _build_spec(config: StageConfig) -> dict[str, object]:
    # The project is in the home region, which a deployment may have changed from the stage's base.
    reconcile = f"metering region reconcile --stage {config.stage} --region $AWS_REGION --yes --format json"
    if not config.package_index:
        return _spec([*_INSTALL, _SYNC], f"uv run {reconcile}")
    # The functions' packages are installed for a bundle, also from this index.
    index = dict.fromkeys(("PIP_INDEX_URL", "UV_DEFAULT_INDEX"), config.package_index)
    commands = [*_INSTALL, *_FROM_INDEX, f"{_SYNC} --no-default-groups"]
    return {**_spec(commands, f"uv run --no-sync {reconcile}"), "env": {"variables": index}}


def _spec(install: list[str], reconcile: str) -> dict[str, object]:
    return {"version": "0.2", "phases": {"install": {"commands": install}, "build": {"commands": [reconcile]}}}
