"""A call that an emulator lacks counts as absent, never as a failure, and one place decides which answers say so."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from botocore.exceptions import ClientError

from metering.adapters.aws.cloudformation import CloudFormationStacks
from metering.adapters.aws.cloudwatch import CloudWatchFunctionLogs
from metering.adapters.aws.errors import is_unknown_call, refusals_explained, translated
from metering.adapters.aws.probe import AwsAccount
from metering.adapters.aws.queues import SqsQueue
from metering.errors import MeteringError, OperationFailedError, UnavailableError
from tests.unit.adapters.aws.stubs import stubbed
from tests.unit.adapters.aws.test_region_life import StubbedClients, described

if TYPE_CHECKING:
    from collections.abc import Callable

    from metering.adapters.aws.session import Clients

ADAPTERS = Path(__file__).parents[4] / "metering" / "adapters"
# What LocalStack 2026.3 answers for what it does not have: the code of AWS's own failures, with a status of its own.
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
    return CloudFormationStacks(lambda _: cast("Clients", StubbedClients(cloudformation=client)))


@LACKING
def test_a_region_of_an_emulator_without_the_account_api_is_opted_in(answer: Answer) -> None:
    found = answered(
        "account",
        "get_region_opt_status",
        answer,
        lambda client: AwsAccount(client, custom_endpoint=True).opt_status("us-east-1"),
    )

    assert found == "ENABLED"


@LACKING
def test_regions_that_an_emulator_cannot_list_are_named_by_people(answer: Answer) -> None:
    found = answered(
        "account", "list_regions", answer, lambda client: AwsAccount(client, custom_endpoint=True).regions()
    )

    assert "This endpoint has no account API, so its regions cannot be listed." in str(found)


@LACKING
def test_drift_that_an_emulator_cannot_detect_is_unknown(answer: Answer) -> None:
    found = answered(
        "cloudformation", "detect_stack_drift", answer, lambda client: stacks(client).detect_drift("us-east-1", "s")
    )

    assert found == "UNKNOWN"


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


@LACKING
def test_logs_that_cannot_be_searched_are_a_sentence_and_no_outage(answer: Answer) -> None:
    found = answered(
        "logs",
        "start_query",
        answer,
        lambda client: CloudWatchFunctionLogs(client, {"a": "/a"}).errors(["a"], from_s=0, to_s=1, limit=1),
    )

    assert "This endpoint cannot search logs" in str(found)


@LACKING
def test_a_redrive_that_the_endpoint_lacks_is_left_to_the_command(answer: Answer) -> None:
    arn = {"Attributes": {"QueueArn": "arn:aws:sqs:us-east-1:1:dead"}}
    found = answered(
        "sqs",
        "start_message_move_task",
        answer,
        lambda client: SqsQueue(client, "http://127.0.0.1:9/1/dead").start_redrive(),
        ("get_queue_attributes", arn),
    )

    assert found is None


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


@LACKING
def test_an_emulator_without_http_apis_says_so(answer: Answer) -> None:
    from metering.adapters.aws.probe import has_http_apis

    def ask(client: Any) -> bool:
        return has_http_apis(cast("Clients", SimpleNamespace(client=lambda _service: client)))

    assert answered("apigatewayv2", "get_apis", answer, ask) is False
