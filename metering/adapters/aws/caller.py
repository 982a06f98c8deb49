"""Identity of the caller, from STS."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.adapters.aws.errors import translated

if TYPE_CHECKING:
    from mypy_boto3_sts import STSClient


def caller_arn(client: STSClient) -> str:
    """ARN of the user or role whose credentials the client has."""
    with translated("sts.GetCallerIdentity"):
        return client.get_caller_identity()["Arn"]


def caller_id(client: STSClient) -> str:
    """Unique id of the user, or of the role and its session, as SQS says it of a sender."""
    with translated("sts.GetCallerIdentity"):
        return client.get_caller_identity()["UserId"]
