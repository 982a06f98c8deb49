"""Which of the SDK's errors are transient, and which of those may have been applied."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    FlexibleChecksumError,
    IncompleteReadError,
    InvalidRetryModeError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
)
from botocore.parsers import ResponseParserError

from metering.adapters.aws.errors import refusals_explained, translated
from metering.adapters.aws.items import DynamoDbItemStore
from metering.errors import OperationFailedError, UnavailableError
from metering.stores.writes import Key, Put, Table
from tests.unit.adapters.aws.stubs import client

if TYPE_CHECKING:
    from collections.abc import Iterator

URL = "https://dynamodb.us-east-1.amazonaws.com"


def failure(code: str, status: int, *, retries: int = 0) -> ClientError:
    answer: Any = {
        "Error": {"Code": code, "Message": "why"},
        "ResponseMetadata": {"HTTPStatusCode": status, "RetryAttempts": retries},
    }
    return ClientError(answer, "TransactWriteItems")


def translation(error: Exception) -> UnavailableError:
    with pytest.raises(UnavailableError) as caught, translated("dynamodb.TransactWriteItems"):
        raise error
    assert caught.value.operation == "dynamodb.TransactWriteItems"
    assert caught.value.__cause__ is error
    return caught.value


@pytest.mark.parametrize(
    "code",
    [
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "SlowDown",
        "TransactionConflictException",
    ],
)
def test_a_throttle_at_the_first_attempt_is_sure_to_have_changed_nothing(code: str) -> None:
    assert translation(failure(code, 400)).may_have_applied is False


def test_a_throttle_after_a_retry_says_nothing_of_the_attempt_before() -> None:
    assert translation(failure("ThrottlingException", 400, retries=1)).may_have_applied is True


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("InternalServerError", 500),
        ("InternalError", 500),
        ("ServiceUnavailable", 503),
        ("RequestTimeout", 400),
        ("TransactionInProgressException", 400),
        ("SomethingNew", 502),
    ],
)
def test_the_outcome_of_a_server_error_is_unknown(code: str, status: int) -> None:
    assert translation(failure(code, status)).may_have_applied is True


@pytest.mark.parametrize(
    "error",
    [
        ReadTimeoutError(endpoint_url=URL),
        ConnectTimeoutError(endpoint_url=URL),
        ConnectionClosedError(endpoint_url=URL),
        EndpointConnectionError(endpoint_url=URL),
        ResponseStreamingError(error="reset"),
        IncompleteReadError(actual_bytes=1, expected_bytes=2),
        FlexibleChecksumError(error_msg="differs"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_outcome_of_a_broken_connection_is_unknown(error: Exception) -> None:
    assert translation(error).may_have_applied is True


@pytest.mark.parametrize(
    "error",
    [
        failure("ValidationException", 400),
        failure("AccessDeniedException", 400),
        failure("ResourceNotFoundException", 400),
        failure("ExpiredTokenException", 400),
        SSLError(endpoint_url=URL, error=OSError("certificate verify failed")),
        NoCredentialsError(),
        ParamValidationError(report="wrong"),
        KeyError("a bug"),
    ],
    ids=str,
)
def test_what_is_not_known_to_be_transient_passes_through_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, translated("dynamodb.PutItem"):
        raise error
    assert caught.value is error


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        # Bound and not listening: nobody else gets it, and it refuses.
        yield holder.getsockname()[1]


def test_a_refused_connection_is_unavailable(closed_port: int) -> None:
    del closed_port
    store = DynamoDbItemStore(client("dynamodb"), {Table.LEDGER: "l", Table.USAGE: "u"})
    with pytest.raises(UnavailableError):
        store.get(Table.LEDGER, Key("a", "b"))
    with pytest.raises(UnavailableError):
        store.put(Put(table=Table.LEDGER, item={"pk": "a", "sk": "b"}))


@pytest.mark.parametrize("error", [failure("AccessDeniedException", 400), failure("403", 403), NoCredentialsError()])
def test_what_the_caller_may_not_do_is_said_to_people_in_a_sentence(error: Exception) -> None:
    with pytest.raises(OperationFailedError, match=r"was refused|does not know") as raised, refusals_explained():
        raise error
    assert raised.value.advice


def test_any_other_answer_of_aws_is_told_by_its_code_and_is_no_refusal() -> None:
    with pytest.raises(OperationFailedError, match="failed: ValidationException: ") as raised, refusals_explained():
        raise failure("ValidationException", 400)
    assert "refused" not in str(raised.value)
    assert raised.value.advice


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException"])
def test_credentials_that_have_expired_are_told_as_such(code: str) -> None:
    with pytest.raises(OperationFailedError, match="credentials have expired") as raised, refusals_explained():
        raise failure(code, 403)
    assert "Sign in again" in raised.value.advice


def test_any_other_setting_of_the_sdk_that_is_wrong_is_one_line() -> None:
    with pytest.raises(OperationFailedError, match=r"asked like this: .*often") as raised, refusals_explained():
        raise InvalidRetryModeError(provided_retry_mode="often", valid_modes=["standard"])
    assert "\n" not in str(raised.value)


def test_an_answer_of_something_that_is_not_aws_is_a_sentence_that_names_the_endpoint() -> None:
    with pytest.raises(OperationFailedError, match="not of the form that AWS gives") as raised, refusals_explained():
        raise ResponseParserError("Unable to parse response, invalid XML received:\nb'<html>'")
    assert "--endpoint" in raised.value.advice
    assert "html" not in str(raised.value)
