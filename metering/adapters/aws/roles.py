"""Clients of another account, by a role that may be assumed."""

from __future__ import annotations

from dataclasses import replace

from metering.adapters.aws.errors import translated
from metering.adapters.aws.session import Clients

_SESSION_NAME = "metering-context"


def assumed(clients: Clients, role_arn: str) -> Clients:
    """Clients with the credentials of a role, for as long as those last (an hour).

    Raises:
        UnavailableError: STS gave no answer.
    """
    with translated("sts.AssumeRole"):
        answer = clients.sts.assume_role(RoleArn=role_arn, RoleSessionName=_SESSION_NAME)
    credentials = answer["Credentials"]
    key = (credentials["AccessKeyId"], credentials["SecretAccessKey"])
    return Clients(replace(clients.access, access_key=key, session_token=credentials["SessionToken"]))


def in_region(clients: Clients, region: str) -> Clients:
    """Clients with the same credentials in another region."""
    return clients if clients.access.region == region else Clients(replace(clients.access, region=region))


def account_of(clients: Clients) -> str:
    """Account that the credentials are of.

    Raises:
        UnavailableError: STS gave no answer.
    """
    with translated("sts.GetCallerIdentity"):
        return clients.sts.get_caller_identity()["Account"]
