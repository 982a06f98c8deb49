"""The one mapping of botocore's errors: what is known to be transient becomes `UnavailableError`.

All else (wrong credentials, missing permissions, validation, certificates) passes through as it is. What a single
operation means by an error code of its own (a failed condition, a missing object) is its adapter's business.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from botocore.exceptions import (
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    ConnectionError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    InvalidRegionError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSLError,
    SSOTokenLoadError,
    UnauthorizedSSOTokenError,
)

from metering.errors import OperationFailedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Refused before anything was done. From botocore's retry data (standard mode) and the services' API references.
_REFUSED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "TransactionConflictException",
        "ConditionalRequestConflict",
    }
)
# The service does not know, or does not say, whether it was done.
_UNKNOWN = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "TransactionInProgressException",
        "500",
        "502",
        "503",
        "504",
    }
)
_SERVER_ERROR = 500
# The caller may not do this, or is nobody: for people to change.
_NOT_ALLOWED = frozenset(
    {
        "403",
        "AccessDenied",
        "AccessDeniedException",
        "AuthorizationError",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
_NOBODY = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOTokenLoadError,
    UnauthorizedSSOTokenError,
)
# Settings of the SDK that lead nowhere.
_WRONG_PLACE = (ConfigNotFound, ConfigParseError, InvalidRegionError, SSLError)


def error_code(error: ClientError) -> str:
    """The service's code, such as `ThrottlingException`; the HTTP status where the answer had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def http_status(error: ClientError) -> int:
    """The HTTP status, 0 if there was none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def unavailable(operation: str, error: ClientError) -> UnavailableError | None:
    """The transient error that `error` stands for, or None if it is none.

    A throttle is an answer to the last attempt only. If the SDK had tried before, an earlier attempt may have been
    applied and its reply lost, so only a throttle on the first attempt is sure to have changed nothing.
    """
    code = error_code(error)
    refused = code in _REFUSED
    if not refused and code not in _UNKNOWN and http_status(error) < _SERVER_ERROR:
        return None
    metadata = cast("Mapping[str, object]", error.response.get("ResponseMetadata", {}))
    first_attempt = not metadata.get("RetryAttempts")
    return UnavailableError(operation, f"{code}: {error}", may_have_applied=not (refused and first_attempt))


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Raise `UnavailableError` for what is transient in the call inside; `operation` is `service.Operation`."""
    try:
        yield
    except ClientError as error:
        transient = unavailable(operation, error)
        if transient is None:
            raise
        raise transient from error
    except SSLError:
        # A certificate that does not fit is wrong for good, and the SDK has already retried the rest.
        raise
    except (ConnectionError, HTTPClientError, IncompleteReadError, FlexibleChecksumError) as error:
        raise UnavailableError(operation, f"{type(error).__name__}: {error}") from error


@contextmanager
def refusals_explained() -> Iterator[None]:
    """For people's commands: say as an `OperationFailedError` what AWS does not let the caller do."""
    try:
        yield
    except _NOBODY as error:
        raise OperationFailedError(
            f"AWS does not know who is asking: {error}.",
            "Set AWS_PROFILE or AWS_ACCESS_KEY_ID; or `metering local up` starts an emulator, --endpoint names one.",
        ) from error
    except _WRONG_PLACE as error:
        raise OperationFailedError(f"AWS cannot be asked like this: {error}") from error
    except ClientError as error:
        if error_code(error) not in _NOT_ALLOWED:
            raise
        raise OperationFailedError(
            f"{error.operation_name} was refused: {error.response['Error'].get('Message', error_code(error))}",
            "Use credentials that may do it; the stacks have a producer, a reader and an operator role.",
        ) from error
