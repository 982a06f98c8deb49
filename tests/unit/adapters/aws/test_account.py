"""The account API, and partitions that have none: by the SDK's own endpoint data, without network."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.stub import Stubber

from metering.adapters.aws.probe import AwsAccount, has_account_api
from metering.errors import OperationFailedError

HOMES = {
    "us-gov-west-1": "aws-us-gov",
    "us-iso-east-1": "aws-iso",
    "us-isob-east-1": "aws-iso-b",
    "eu-isoe-west-1": "aws-iso-e",
    "us-isof-south-1": "aws-iso-f",
    "eusc-de-east-1": "aws-eusc",
}


def client(region: str) -> Any:
    return boto3.client(
        "account",
        region_name=region,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.mark.parametrize(("region", "partition"), HOMES.items())
def test_a_region_of_a_partition_without_the_account_api_is_not_listed(region: str, partition: str) -> None:
    made = client(region)
    # Every call would be one that nobody planned.
    with Stubber(made):
        account = AwsAccount(made, custom_endpoint=False)

        assert made.meta.partition == partition
        assert account.opt_status(region) is None
        with pytest.raises(OperationFailedError, match=rf"{partition} has no account API") as raised:
            account.regions()
    assert "region add" in raised.value.advice


@pytest.mark.parametrize("region", ["us-gov-west-1", "eu-west-1"])
def test_an_emulator_is_asked_whatever_the_partition_has(region: str) -> None:
    made = client(region)
    with Stubber(made) as stubber:
        stubber.add_response("get_region_opt_status", {"RegionName": region, "RegionOptStatus": "ENABLED"})

        assert AwsAccount(made, custom_endpoint=True).opt_status(region) == "ENABLED"


@pytest.mark.parametrize("region", ["eu-west-1", "cn-north-1", "xx-new-1"])
def test_a_partition_with_the_account_api_is_asked(region: str) -> None:
    made = client(region)
    with Stubber(made) as stubber:
        stubber.add_client_error("get_region_opt_status", "ValidationException", http_status_code=400)

        assert AwsAccount(made, custom_endpoint=False).opt_status(region) is None
        stubber.assert_no_pending_responses()


def test_the_sdk_knows_the_partitions_that_the_tests_name() -> None:
    assert has_account_api("aws")
    assert has_account_api("aws-cn")
    assert not any(map(has_account_api, HOMES.values()))
