"""Demands of an organisation, as settings: tags, roles, networks, keys, and people who may take a role."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from metering.fleet.settings.words import InWords, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# IAM takes 50 tags a role, and the CDK none of its own (IAM quotas; SQS, SNS and DynamoDB take 50 as well).
_MOST_TAGS: Final = 50
# Characters that every service takes in a tag. SQS and Lambda take more, S3 and ACM do not.
_TAG = re.compile(r"[\w +=.:/@-]{1,128}", re.ASCII)
_TAG_VALUE = re.compile(r"[\w +=.:/@-]{0,256}", re.ASCII)
_SIGNS: Final = "spaces + = . : / @ _ -"
# Of a role, or of an assumed role's user: `*` and `?` are wildcards of a policy.
_PRINCIPAL = re.compile(r"arn:[a-z-]+:(iam|sts)::[0-9*]{1,12}:(role|user|assumed-role)/[A-Za-z0-9+=,.@_/*?-]+")

POLICY = r"^(arn:[a-z-]+:iam::([0-9]{12}|aws):policy/[A-Za-z0-9+=,.@_/-]+|[A-Za-z0-9+=,.@_/-]{1,128})?$"
ROLE_PATH = r"^(/([A-Za-z0-9+=,.@_-]+/)*)?$"
KEY = r"^(arn:[a-z-]+:kms:([a-z0-9-]+|\{region\}):[0-9]{12}:key/[A-Za-z0-9-]+)?$"
ORG = r"^(o-[a-z0-9]{10,32})?$"


def _checked_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    if len(tags) > _MOST_TAGS:
        raise ValueError(f"{len(tags)} tags are more than the {_MOST_TAGS} that AWS takes")
    for name, value in tags.items():
        if not _TAG.fullmatch(name) or name.lower().startswith("aws:"):
            raise ValueError(f"{shown(name)} is no tag: up to 128 letters, digits and {_SIGNS}, and not aws: first")
        if not _TAG_VALUE.fullmatch(value):
            raise ValueError(f"{shown(value)} is no value of a tag: up to 256 letters, digits and {_SIGNS}")
    return tags


def _checked_principals(patterns: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [each for each in patterns if not _PRINCIPAL.fullmatch(each)]:
        raise ValueError(
            f"{', '.join(map(shown, wrong))}: no ARN of roles or users, such as arn:aws:iam::123456789012:role/ops-*"
        )
    return patterns


Tags = Annotated[dict[str, str], AfterValidator(_checked_tags), InWords("a table of texts")]
Principals = Annotated[tuple[str, ...], AfterValidator(_checked_principals)]


class Network(BaseModel):
    """Subnets of one region in which the functions run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: Annotated[str, InWords("a region such as us-west-2")] = Field(
        pattern=r"^[a-z]{2,}(-[a-z]+)+-[0-9]+$", description="Region of the subnets."
    )
    subnets: Annotated[tuple[Annotated[str, Field(pattern=r"^subnet-[0-9a-f]{8,17}$")], ...], InWords("ids")] = Field(
        min_length=1, max_length=16, description="Ids of its private subnets, in two zones or more."
    )
    security_groups: Annotated[tuple[Annotated[str, Field(pattern=r"^sg-[0-9a-f]{8,17}$")], ...], InWords("ids")] = (
        Field(min_length=1, max_length=5, description="Ids of security groups that let HTTPS out.")
    )


def problems_of_networks(networks: tuple[Network, ...]) -> Iterator[str]:
    """Yield problems that concern several networks of a stage."""
    regions = [each.region for each in networks]
    for region in sorted({region for region in regions if regions.count(region) > 1}):
        yield f"vpc has two tables for {region}: name all its subnets in one"


def policy_arn(policy: str, *, partition: str, account: str) -> str:
    """ARN of a permissions boundary that the settings name by its ARN or by its name in the account."""
    return policy if not policy or policy.startswith("arn:") else f"arn:{partition}:iam::{account}:policy/{policy}"
