"""Checks of a region before the first deployment."""

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from metering.adapters.aws.probe import ROLES, AwsAccount, RegionProbe, answers, has_account_api
from metering.errors import OperationFailedError
from metering.fleet.regions import ALONE_FUNCTIONS, Answered, reserved_executions
from metering.fleet.stage import StageConfig
from metering.fleet.steps import OPTIONAL_PARTS
from tests.unit.adapters.aws import stubs

API = "AWS::ApiGatewayV2::Api"


class Region:
    """Clients of a region with every feature, with a quota of concurrent executions."""

    def __init__(self, concurrency: int, table_writes: int = 40_000) -> None:
        quotas = {"L-B99A9384": concurrency, "L-AB614373": table_writes}
        self.cloudformation = SimpleNamespace(
            validate_template=lambda **_: {},
            get_paginator=lambda _: SimpleNamespace(paginate=lambda **_: [{"TypeSummaries": []}]),
        )
        self.lambda_ = SimpleNamespace(get_account_settings=lambda: {"AccountLimit": FREE})
        self.iam = SimpleNamespace(get_account_summary=lambda: {"SummaryMap": {"RolesQuota": 1_000, "Roles": 1}})
        self.ssm = SimpleNamespace(get_parameter=lambda **_: {"Parameter": {"Value": "32"}})
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
    probe = probe_of(200, writes_per_s=max(stage.table_peaks.values()), table_writes=quota)
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


@pytest.mark.parametrize(("stored", "answered", "detail"), [
    ("5", Answered.FAILED, "version 5, needed 6"), ("6", Answered.PASSED, "version 6, needed 6"),
    ("ParameterNotFound", Answered.FAILED, "version 0, needed 6"),
    ("AccessDeniedException", Answered.UNKNOWN, "its version may not be read"),
])  # fmt: skip
def test_a_bootstrap_that_is_too_old_is_refused(stored: str, answered: Answered, detail: str) -> None:
    region: Any = Region(200)
    region.ssm = stubs.client("ssm")
    with Stubber(region.ssm) as stub:
        if stored.isdigit():
            asked = {"Name": "/cdk-bootstrap/acme/version"}
            stub.add_response("get_parameter", {"Parameter": {"Value": stored}}, asked)
        else:
            stub.add_client_error("get_parameter", stored)
        made: dict[str, Any] = {"reserved": 4, "api_concurrency": 10, "writes_per_s": 4_000, "qualifier": "acme"}
        found = RegionProbe(lambda _: region, **made).preflight("us-east-1", [])
    assert [(each.answered, each.detail) for each in found if each.check == "bootstrap acme"] == [(answered, detail)]


# AccountLimit of Lambda's GetAccountSettings: a new account, one whose functions reserve 940, one that reserves none.
NEW, BUSY, FREE = ({"ConcurrentExecutions": n, "UnreservedConcurrentExecutions": u} for n, u in (
    (10, 10), (1_000, 60), (1_000, 1_000),
))  # fmt: skip


@pytest.mark.parametrize(("limit", "held", "answered", "detail"), [
    (NEW, 0, Answered.FAILED, "10, needed 104"),
    (BUSY, 0, Answered.FAILED, "60, needed 104"),
    (FREE, 0, Answered.PASSED, "1000, needed 104"),
    ({**FREE, "UnreservedConcurrentExecutions": 103}, 0, Answered.FAILED, "103, needed 104"),
    # The deployed functions' reservation is in use already.
    ({**FREE, "UnreservedConcurrentExecutions": 100}, 4, Answered.PASSED, "100, needed 100"),
    ({**FREE, "UnreservedConcurrentExecutions": 100}, 3, Answered.FAILED, "100, needed 101"),
    (None, 0, Answered.UNKNOWN, "'AccountLimit'"),
])  # fmt: skip
def test_what_other_functions_reserve_is_not_there_for_this_stage(
    limit: dict[str, int] | None, held: int, answered: Answered, detail: str
) -> None:
    region: Any = Region(1_000)
    region.lambda_ = SimpleNamespace(get_account_settings=lambda: {} if limit is None else {"AccountLimit": limit})
    made: dict[str, Any] = {"reserved": 4, "api_concurrency": 10, "writes_per_s": 4_000, "held": lambda _: held}
    found = {each.check: each for each in RegionProbe(lambda _: region, **made).preflight("us-east-1", [])}
    check = "unreserved Lambda executions"
    assert (found[check].answered, found[check].detail) == (answered, detail)
    of_api = {each.check: each for each in RegionProbe(lambda _: region, **made).preflight("us-east-1", [API])}
    assert set(of_api) - set(found) >= {f"{check} with the API"}
    assert f"{check} with the API".startswith(OPTIONAL_PARTS["api"])


def test_what_an_api_reserves_is_not_needed_by_the_rest() -> None:
    region: Any = Region(1_000)
    limit = {**FREE, "UnreservedConcurrentExecutions": 104}
    region.lambda_ = SimpleNamespace(get_account_settings=lambda: {"AccountLimit": limit})
    made: dict[str, Any] = {"reserved": 4, "api_concurrency": 10, "writes_per_s": 4_000}
    found = {each.check: each.answered for each in RegionProbe(lambda _: region, **made).preflight("us-east-1", [API])}
    check = "unreserved Lambda executions"
    assert (found[check], found[f"{check} with the API"]) == (Answered.PASSED, Answered.FAILED)


@pytest.mark.parametrize(("left", "held", "answered", "detail"), [
    (ROLES - 1, 0, Answered.FAILED, f"{ROLES - 1} left, needed {ROLES}"),
    (ROLES, 0, Answered.PASSED, f"{ROLES} left, needed {ROLES}"),
    (0, 4, Answered.PASSED, "0 left, needed 0"),
    (None, 0, Answered.UNKNOWN, "'RolesQuota'"),
])  # fmt: skip
def test_an_account_must_have_room_for_the_roles_of_a_new_region(
    left: int | None, held: int, answered: Answered, detail: str
) -> None:
    region: Any = Region(1_000)
    summary = {} if left is None else {"RolesQuota": 1_000, "Roles": 1_000 - left}
    region.iam = SimpleNamespace(get_account_summary=lambda: {"SummaryMap": summary})
    made: dict[str, Any] = {"reserved": 4, "api_concurrency": 10, "writes_per_s": 4_000, "held": lambda _: held}
    found = RegionProbe(lambda _: region, **made).preflight("us-east-1", [])
    assert [(each.answered, each.detail) for each in found if each.check == "quota IAM roles"] == [(answered, detail)]


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
        get_account_settings=lambda: {"AccountLimit": FREE},
        get_policy=get_policy,
        exceptions=SimpleNamespace(ResourceNotFoundException=MissingError),
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
        account = AwsAccount(made, custom_endpoint=False, answers=lambda _: False)
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
        assert AwsAccount(made, custom_endpoint=True, answers=lambda _: False).opt_status(region) == "ENABLED"


@pytest.mark.parametrize("region", ["eu-west-1", "cn-north-1", "xx-new-1"])
def test_a_partition_with_the_account_api_is_asked(region: str) -> None:
    made = client(region)
    with Stubber(made) as stubber:
        stubber.add_client_error("get_region_opt_status", "ValidationException", http_status_code=400)
        assert AwsAccount(made, custom_endpoint=False, answers=lambda _: False).opt_status(region) is None
        stubber.assert_no_pending_responses()


def test_the_sdk_knows_the_partitions_that_the_tests_name() -> None:
    assert has_account_api("aws")
    assert has_account_api("aws-cn")
    assert not any(map(has_account_api, HOMES.values()))


@pytest.fixture
def denied() -> Iterator[Any]:
    """The account API of an organisation that denies it."""
    made = stubs.client("account")
    with Stubber(made) as stub:
        for call in ("get_region_opt_status", "list_regions", "enable_region"):
            stub.add_client_error(call, "AccessDeniedException", "explicit deny in a service control policy", 403)
        yield made


def test_where_the_account_api_is_denied_a_region_that_answers_is_enabled(denied: Any) -> None:
    account = AwsAccount(denied, custom_endpoint=False, answers=lambda region: region.startswith("eu-west-"))
    assert account.opt_status("eu-west-1") == "ENABLED_BY_DEFAULT"
    assert {each.name for each in account.regions()} >= {"eu-west-1", "eu-west-2"}
    with pytest.raises(OperationFailedError, match="may not enable me-south-1") as refused:
        account.enable("me-south-1")
    assert "aws account enable-region --region-name me-south-1" in refused.value.advice


def test_where_the_account_api_is_denied_a_silent_region_is_told_in_a_sentence(denied: Any) -> None:
    account = AwsAccount(denied, custom_endpoint=False, answers=lambda _: False)
    with pytest.raises(OperationFailedError, match="may not ask whether the account has enabled it"):
        account.opt_status("me-south-1")
    with pytest.raises(ClientError, match="service control policy"):
        account.regions()


@pytest.mark.parametrize("code", [None, "InvalidClientTokenId"])
def test_sts_of_a_region_that_is_not_enabled_does_not_know_the_credentials(code: str | None) -> None:
    sts = stubs.client("sts")
    with Stubber(sts) as stub:
        if code:
            stub.add_client_error("get_caller_identity", code, "The security token is invalid", 403)
        else:
            stub.add_response("get_caller_identity", {"Account": "123456789012"})
        assert answers(cast("Any", SimpleNamespace(sts=sts))) == (code is None)
