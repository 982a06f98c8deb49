"""Acknowledgements: a rule of cdk-nag that a resource breaks on purpose, and the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Acknowledgment, Stack, Validations

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam
    from constructs import IConstruct

_PACK = "AwsSolutions"


def acknowledge(construct: IConstruct, rule: str, reason: str) -> None:
    """Record that `construct` breaks `rule` (such as `S1`). The reason is a full sentence."""
    Validations.of(construct).acknowledge(Acknowledgment(id=f"{_PACK}::{_PACK}-{rule}", reason=reason))


def acknowledge_wildcard(role: iam.IRole, resource: str, reason: str) -> None:
    """Record why `role` may use the wildcard `resource`, written as in cdk-nag. Other wildcards stay findings."""
    acknowledge(role, f"IAM5[Resource::{resource}]", reason)


def written(owner: IConstruct, arn: str, *, seen_from: IConstruct) -> str:
    """Return an ARN of `owner` as cdk-nag writes it in a finding on `seen_from`: an attribute or an export."""
    home = Stack.of(owner)
    if Stack.of(seen_from) is home:
        logical_id, attribute = home.resolve(arn)["Fn::GetAtt"]
        return f"<{logical_id}.{attribute}>"
    return str(home.resolve(home.export_value(arn))["Fn::ImportValue"])
