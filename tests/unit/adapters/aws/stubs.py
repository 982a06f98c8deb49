"""SDK clients with predefined answers, without network."""

from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config
from botocore.stub import Stubber

OUTPUTS = (
    "IngestQueueUrl", "DeadLetterQueueUrl", "DataBucketName", "LedgerTableName", "UsageTableName", "PageTopicArn",
    "TicketTopicArn",
)  # fmt: skip
"""Outputs of the data stack that name a region's resources."""
# The SDK's own retries are not tested here, and the stubber answers each attempt.
_ONE_ATTEMPT = Config(region_name="us-east-1", retries={"mode": "standard", "total_max_attempts": 1})


# A client, and the stub that supplies AWS's answers.
Stubbed = tuple[Any, Stubber]


def client(service: str) -> Any:
    """A client without network access."""
    return boto3.client(  # type: ignore[call-overload]  # it knows services by their literal names
        service,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=_ONE_ATTEMPT,
        endpoint_url="http://127.0.0.1:9",
    )


def stubbed(service: str) -> Iterator[Stubbed]:
    """A client and its stubber; a test must use all stubbed responses."""
    made = client(service)
    with Stubber(made) as stubber:
        yield made, stubber
        stubber.assert_no_pending_responses()
