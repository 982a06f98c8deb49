"""Subscribers to alerts as a setting: `[[stage.NAME.subscriptions]]`."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from metering.fleet.settings.words import shown
from metering.operations.alarms import Severity


class Subscription(BaseModel):
    """Subscriber to the alerts of a severity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Severity = Field(description="Alerts that it gets.")
    protocol: Literal["email", "https", "sqs", "lambda"] = Field(description="How they are sent.")
    endpoint: str = Field(min_length=1, description="Address: a mailbox, a URL, or an ARN.")

    @model_validator(mode="after")
    def _fits_its_protocol(self) -> Subscription:
        if problem := _address(self.protocol, self.endpoint):
            raise ValueError(problem)
        return self


def _address(protocol: str, endpoint: str) -> str | None:
    if protocol == "email":
        return None if "@" in endpoint[1:-1] else f"{shown(endpoint)} is not a mailbox"
    if protocol != "https":
        return None if endpoint.startswith("arn:") else f"{shown(endpoint)} is not the ARN of a {protocol} subscriber"
    try:
        parts = urlsplit(endpoint)
    except ValueError:
        return f"{shown(endpoint)} is not a URL"
    if parts.scheme != "https" or not parts.hostname:
        return f"{shown(endpoint)} is not a URL that begins with https://"
    if parts.username is not None or parts.password is not None:
        return "the URL has a password in it, and everyone who may read the settings would see it"
    return None
