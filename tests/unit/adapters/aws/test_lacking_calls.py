"""A call that an emulator lacks counts as absent, never as a failure, and one place decides which answers say so."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from metering.adapters.aws.cloudformation import CloudFormationStacks
from metering.adapters.aws.cloudwatch import CloudWatchFunctionLogs
from metering.adapters.aws.errors import is_unknown_call, refusals_explained, translated
from metering.adapters.aws.probe import AwsAccount, has_http_apis
from metering.adapters.aws.queues import SqsQueue
from metering.errors import MeteringError, OperationFailedError, UnavailableError
from tests.unit.adapters.aws.stubs import stubbed
from tests.unit.adapters.aws.test_region_life import clients_of, described

ADAPTERS = Path(__file__).parents[4] / "metering" / "adapters"
# LocalStack 2026.3 answers like this for calls that it lacks: AWS's code for internal failures, with another status.
LOCALSTACK = ("InternalFailure", "The API for service account has not yet been emulated by LocalStack.", 501)
MINISTACK = ("InvalidAction", "Unknown action", 400)
LACKING = pytest.mark.parametrize("answer", [LOCALSTACK, MINISTACK], ids=["LocalStack", "MiniStack"])
Answer = tuple[str, str, int]


def answered(service: str, operation: str, answer: Answer, ask: Callable[[Any], object], *before: Any) -> object:
    """What comes of a call that is answered like this; a failure in its own words."""
    client, stubber = next(stubbed(service))
    with stubber:
        for name, given in before:
            stubber.add_response(name, given)
        stubber.add_client_error(operation, *answer)
        try:
            return ask(client)
        except MeteringError as error:
            return f"{type(error).__name__}: {error}"


def stacks(client: Any) -> CloudFormationStacks:
    return CloudFormationStacks(lambda _: clients_of(cloudformation=client))


# Call -> what the adapter is asked, and its result.
LACKED: dict[tuple[str, str], tuple[Callable[[Any], object], str]] = {
    ("account", "get_region_opt_status"): (
        lambda client: AwsAccount(client, custom_endpoint=True).opt_status("us-east-1"), "ENABLED",
    ),
    ("account", "list_regions"): (
        lambda client: AwsAccount(client, custom_endpoint=True).regions(),
        "OperationFailedError: This endpoint has no account API, so its regions cannot be listed.",
    ),
    ("cloudformation", "detect_stack_drift"): (
        lambda client: stacks(client).detect_drift("us-east-1", "s"), "UNKNOWN",
    ),
    ("logs", "start_query"): (
        lambda client: CloudWatchFunctionLogs(client, {"a": "/a"}).errors(["a"], from_s=0, to_s=1, limit=1),
        "OperationFailedError: This endpoint cannot search logs: it has no CloudWatch Logs Insights.",
    ),
    ("sqs", "start_message_move_task"): (
        lambda client: SqsQueue(client, "http://127.0.0.1:9/1/dead").start_redrive(), "None",
    ),
    ("apigatewayv2", "get_apis"): (
        lambda client: has_http_apis(clients_of(client=lambda _service: client)), "False",
    ),
}  # fmt: skip
BEFORE = {"sqs": [("get_queue_attributes", {"Attributes": {"QueueArn": "arn:aws:sqs:us-east-1:1:dead"}})]}


@LACKING
@pytest.mark.parametrize(("service", "operation"), LACKED)
def test_what_needs_a_call_that_an_emulator_lacks_is_absent_or_said_in_words(
    service: str, operation: str, answer: Answer
) -> None:
    ask, expected = LACKED[service, operation]
    assert str(answered(service, operation, answer, ask, *BEFORE.get(service, []))) == expected


@LACKING
def test_an_emulator_that_protects_no_stack_deletes_one_all_the_same(answer: Answer) -> None:
    client, stubber = next(stubbed("cloudformation"))
    with stubber:
        stubber.add_response("describe_stacks", described("CREATE_COMPLETE"))
        stubber.add_client_error("update_termination_protection", *answer)
        stubber.add_response("delete_stack", {})
        try:
            stacks(client).delete("us-east-1", "s")
            failed = ""
        except MeteringError as error:
            failed = str(error)

    assert failed == ""


def failure(code: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "why"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutCompositeAlarm")


def test_a_failure_of_aws_itself_is_an_outage_and_no_missing_call() -> None:
    failed = failure("InternalFailure", 500)

    assert not is_unknown_call(failed)
    with pytest.raises(UnavailableError), translated("cloudwatch.PutCompositeAlarm"):
        raise failed


def test_a_missing_call_that_nobody_expected_is_told_by_its_name() -> None:
    with (
        pytest.raises(OperationFailedError, match=r"^This endpoint has no PutCompositeAlarm\."),
        refusals_explained(),
        translated("cloudwatch.PutCompositeAlarm"),
    ):
        raise failure("InternalFailure", 501)


def test_no_other_module_knows_the_codes_of_a_missing_call() -> None:
    codes = re.compile(r'"(InvalidAction|NotImplemented|UnknownOperation(Exception)?|InternalFailure|501)"')
    found = [path.name for path in sorted(ADAPTERS.rglob("*.py")) if codes.search(path.read_text())]

    assert found == ["errors.py"]
