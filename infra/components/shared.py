"""Helpers that all stacks share: acknowledged findings of cdk-nag, removal policies, and outputs with the release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Acknowledgment, CfnOutput, RemovalPolicy, Stack, Validations

from metering.fleet.ports import REHEARSAL_OUTPUT

if TYPE_CHECKING:
    from aws_cdk import Environment, IStackSynthesizer
    from aws_cdk import aws_iam as iam
    from constructs import Construct, IConstruct

    from metering.fleet.ports import Release
    from metering.fleet.stage import StageConfig

# Packs of rules of cdk-nag. That of the NIST is for a stage with all settings for an organisation.
_PACK = "AwsSolutions"
NIST = "NIST.800.53.R5"


class RegionStack(Stack):
    """A stack of a region, named by its construct id."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        description: str,
        *,
        synthesizer: IStackSynthesizer,
        env: Environment | None,
        termination_protection: bool | None = None,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            stack_name=construct_id,
            description=description,
            synthesizer=synthesizer,
            env=env,
            termination_protection=termination_protection,
        )
        acknowledge(
            self,
            "IAMNoInlinePolicy",
            "Each policy names exactly what one role needs, and is deleted with that role. A managed policy could be "
            "attached to others.",
            pack=NIST,
        )


def acknowledge(construct: IConstruct, rule: str, reason: str, *, pack: str = _PACK) -> None:
    """Acknowledge that `construct` violates `rule` (such as `S1`) of a pack. The reason is a full sentence."""
    Validations.of(construct).acknowledge(Acknowledgment(id=f"{pack}::{pack}-{rule}", reason=reason))


def acknowledge_wildcard(role: iam.IRole, resource: str, reason: str) -> None:
    """Record why `role` may use the wildcard `resource`, written as in cdk-nag. Other wildcards stay findings."""
    acknowledge(role, f"IAM5[Resource::{resource}]", reason)


def written(owner: IConstruct, arn: str, *, seen_from: IConstruct) -> str:
    """Return `arn` as cdk-nag writes it in findings on `seen_from`: as an attribute of `owner`, or as its export."""
    home = Stack.of(owner)
    if Stack.of(seen_from) is home:
        logical_id, attribute = home.resolve(arn)["Fn::GetAtt"]
        return f"<{logical_id}.{attribute}>"
    return str(home.resolve(home.export_value(arn))["Fn::ImportValue"])


def removal_policy(config: StageConfig) -> RemovalPolicy:
    """When a stack is deleted, retain its resources with data, unless the stack's first creation failed.

    `RETAIN` would leave orphaned tables, queues, a bucket and a key, and the next deployment would create others.
    """
    return RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE if config.stateful_retained else RemovalPolicy.DESTROY


def put_out(stack: Stack, release: Release, *, rehearsal: bool) -> None:
    """Output the release of a stack, and whether it is a rehearsal.

    Tags would not do: CloudFormation would copy tags to all resources, so each new version would change all resources.
    """
    for name, value in release.outputs.items():
        CfnOutput(stack, name, value=value)
    if rehearsal:
        CfnOutput(stack, REHEARSAL_OUTPUT, value="true")
