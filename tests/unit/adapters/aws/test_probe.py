"""Checks of a region before the first deployment."""

import json
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from metering.adapters.aws.probe import AwsAccount, RegionProbe, has_account_api
from metering.errors import OperationFailedError
from metering.fleet.regions import ALONE_FUNCTIONS, Answered, reserved_executions
from metering.fleet.stage import StageConfig, peak_writes_per_s
from metering.fleet.steps import OPTIONAL_PARTS


class Region:
    """Clients of a region with every feature, with a quota of concurrent executions."""

    def __init__(self, concurrency: int, table_writes: int = 40_000) -> None:
        quotas = {"L-B99A9384": concurrency, "L-AB614373": table_writes}
        self.cloudformation = SimpleNamespace(
            validate_template=lambda **_: {},
            get_paginator=lambda _: SimpleNamespace(paginate=lambda **_: [{"TypeSummaries": []}]),
        )
        self.service_quotas = SimpleNamespace(
            get_service_quota=lambda ServiceCode, QuotaCode: {  # noqa: N803  # the SDK's names
                "Quota": {"Value": quotas.get(QuotaCode, 10_000 if ServiceCode != "dynamodb" else 0)}
            }
        )

    def client(self, _service: str) -> Any:
        class Everything:
            def __getattr__(self, _: str) -> Any:
                return lambda **_: {}

        return Everything()


def probe_of(
    quota: int, *, shards: int = 1, api_concurrency: int = 10, writes_per_s: int = 4_000, table_writes: int = 40_000
) -> RegionProbe:
    region: Any = Region(quota, table_writes)
    return RegionProbe(
        lambda _: region,
        reserved=reserved_executions(shards=shards),
        api_concurrency=api_concurrency,
        writes_per_s=writes_per_s,
    )


@pytest.mark.parametrize(("quota", "answered"), [(13_999, Answered.FAILED), (14_000, Answered.PASSED)])
def test_a_table_must_take_the_peak_of_the_stage_and_not_what_a_new_one_takes(quota: int, answered: Answered) -> None:
    """The quota applies to each on-demand table; the account's quota covers only provisioned throughput."""
    stage = StageConfig.load("prod", {"ledger_warm_writes_per_s": 14_000, "usage_warm_writes_per_s": 6_000})
    probe = probe_of(200, writes_per_s=peak_writes_per_s(*stage.warm_tables.values()), table_writes=quota)
    [finding] = [f for f in probe.preflight("us-east-1", []) if f.check == "quota DynamoDB write units a table"]
    assert (finding.answered, finding.detail) == (answered, f"{quota}, needed 14000")


@pytest.mark.parametrize(("quota", "answered"), [(103, Answered.FAILED), (104, Answered.PASSED)])
def test_an_account_with_too_little_concurrency_is_told_before_it_deploys(quota: int, answered: Answered) -> None:
    probe = probe_of(quota)
    [finding] = [f for f in probe.preflight("us-east-1", []) if f.check == "quota Lambda concurrent executions"]
    # AWS does not allow the last 100 to be reserved.
    assert 100 + len(ALONE_FUNCTIONS) == 104
    assert (finding.answered, finding.detail) == (answered, f"{quota}, needed 104")


def test_each_shard_reserves_an_execution_of_its_own() -> None:
    """Each shard has one compactor function and one roll-up function."""
    needed = [probe_of(200, shards=shards).preflight("us-east-1", []) for shards in (1, 4)]
    told = [f.detail for found in needed for f in found if f.check == "quota Lambda concurrent executions"]
    assert told == ["200, needed 104", "200, needed 110"]


@pytest.mark.parametrize(("quota", "answered"), [(110, Answered.FAILED), (111, Answered.PASSED)])
def test_what_an_api_reserves_is_a_check_of_its_own_as_the_rest_works_alone(quota: int, answered: Answered) -> None:
    probe = probe_of(quota, api_concurrency=7)
    found = {each.check: each for each in probe.preflight("us-east-1", ["AWS::ApiGatewayV2::Api"])}
    assert found["quota Lambda concurrent executions"].answered is Answered.PASSED
    of_api = found["quota Lambda concurrent executions with the API"]
    assert (of_api.answered, of_api.detail) == (answered, f"{quota}, needed 111")
    assert of_api.check.startswith(OPTIONAL_PARTS["api"])


def test_a_stage_without_an_api_is_not_asked_for_one() -> None:
    checks = {each.check for each in probe_of(104).preflight("us-east-1", ["AWS::SQS::Queue"])}
    assert not [check for check in checks if check.startswith(OPTIONAL_PARTS["api"])]


def test_the_quota_that_everything_needs_does_not_count_as_one_of_the_api() -> None:
    """Names of checks of an optional part begin with the name of the part."""
    assert not "quota Lambda concurrent executions".startswith(OPTIONAL_PARTS["api"])


def test_an_endpoint_of_the_api_is_asked_if_there_is_to_be_one() -> None:
    checks = {each.check for each in probe_of(200).preflight("us-east-1", ["AWS::ApiGatewayV2::Api"])}
    assert "endpoint apigatewayv2" in checks


def test_the_types_that_an_emulator_lists_are_not_all_that_it_deploys() -> None:
    """LocalStack lists neither the types of alarms nor of rules, but deploys both."""
    region: Any = Region(200)
    listed = [{"TypeSummaries": [{"TypeName": "AWS::SQS::Queue"}]}]
    region.cloudformation.get_paginator = lambda _: SimpleNamespace(paginate=lambda **_: listed)
    made: dict[str, Any] = {"reserved": reserved_executions(shards=1), "api_concurrency": 10, "writes_per_s": 4_000}
    made |= {"emulated": True}
    probe = RegionProbe(lambda _: region, **made)
    found = probe.preflight("us-east-1", ["AWS::SQS::Queue", "AWS::Events::Rule"])
    assert [finding.detail for finding in found if finding.answered is Answered.FAILED] == []


MAY = {"Effect": "Allow", "Principal": {"Service": ["sns.amazonaws.com"]}, "Action": ["SQS:Send*", "lambda:*"]}
QUEUE, HERE = "arn:aws:sqs:us-east-1:123456789012:alerts", "arn:aws:lambda:us-east-1:123456789012:function:alerts"
ELSEWHERE = "arn:aws:lambda:eu-west-1:123456789012:function:alerts"


@pytest.mark.parametrize(("protocol", "arn", "policy", "answered"), [
    ("sqs", QUEUE, MAY, Answered.PASSED),
    ("sqs", QUEUE, {**MAY, "Principal": "*", "Action": "sqs:SendMessage"}, Answered.PASSED),
    ("sqs", QUEUE, None, Answered.FAILED),
    ("sqs", QUEUE, {**MAY, "Effect": "Deny"}, Answered.FAILED),
    ("sqs", QUEUE, {**MAY, "Principal": {"AWS": "arn:aws:iam::123456789012:root"}}, Answered.FAILED),
    ("sqs", QUEUE, {**MAY, "Action": "sqs:ReceiveMessage"}, Answered.FAILED),
    ("sqs", QUEUE, ClientError({"Error": {"Code": "AccessDenied"}}, "GetQueueUrl"), Answered.UNKNOWN),
    ("lambda", ELSEWHERE, MAY, Answered.PASSED),
    ("lambda", ELSEWHERE, None, Answered.FAILED),
    # The template lets SNS call a function of the account and the region.
    ("lambda", HERE, None, None),
    ("email", "oncall@example.com", None, None),
])  # fmt: skip
def test_a_subscriber_that_sns_may_not_call_is_refused_with_what_to_permit(
    protocol: str, arn: str, policy: dict[str, Any] | ClientError | None, answered: Answered | None
) -> None:
    class MissingError(Exception):
        """A function without a policy."""

    def get_policy(**_: Any) -> dict[str, str]:
        if policy is None:
            raise MissingError
        return {"Policy": json.dumps({"Statement": policy})}

    def get_queue_url(**_: Any) -> dict[str, str]:
        if isinstance(policy, ClientError):
            raise policy
        return {"QueueUrl": "q"}

    attributes = {} if policy is None else {"Policy": json.dumps({"Statement": [policy]}, default=str)}
    region: Any = Region(200)
    region.sts = SimpleNamespace(get_caller_identity=lambda: {"Account": "123456789012"})
    region.lambda_ = SimpleNamespace(
        get_policy=get_policy, exceptions=SimpleNamespace(ResourceNotFoundException=MissingError)
    )
    region.sqs = SimpleNamespace(
        get_queue_url=get_queue_url, get_queue_attributes=lambda **_: {"Attributes": attributes}
    )
    made: dict[str, Any] = {"reserved": 4, "api_concurrency": 10, "writes_per_s": 4_000}
    probe = RegionProbe(lambda _: region, **made, subscribers=lambda _: [(protocol, arn)])
    found = [each for each in probe.preflight("us-east-1", []) if each.check.startswith("subscriber")]
    assert [each.answered for each in found] == ([] if answered is None else [answered])
    if answered is Answered.FAILED:
        action = "lambda:InvokeFunction" if protocol == "lambda" else "sqs:SendMessage"
        needed = f"its policy must let sns.amazonaws.com {action}, if aws:SourceAccount is 123456789012"
        assert [(each.check, each.detail) for each in found] == [(f"subscriber {arn}", needed)]


# The account API, and partitions without this API: from the SDK's own endpoint data, without network access.

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
    # Any call would fail at the stub.
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
