"""The only code that maps botocore's errors in general: known transient errors become `UnavailableError`.

Other errors (wrong credentials, missing permissions, validation, certificates) are not translated. Each adapter maps
error codes that are specific to its operations, such as a failed condition or a missing object.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from botocore.exceptions import (
    BotoCoreError,
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
from botocore.parsers import ResponseParserError

from metering.errors import OperationFailedError, ThrottledError, UnavailableError

# Throttling: the service rejected the request, which had no effect. Source: botocore's retry data (standard mode) and
# the services' API references.
_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
    }
)
# The request conflicts with another request and had no effect.
_IN_THE_WAY = frozenset({"ConditionalRequestConflict", "PriorRequestNotComplete", "TransactionConflictException"})
# Outcome unknown: the service may have executed the request.
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
# Error codes of an endpoint that does not implement a call. For these calls LocalStack returns `InternalFailure` (in
# AWS: an internal error), but with status 501.
_UNKNOWN_CALL = frozenset(
    {
        "501",
        "AWS.SimpleQueueService.UnsupportedOperation",
        "InvalidAction",
        "NotImplemented",
        "UnknownOperation",
        "UnknownOperationException",
        "UnsupportedOperation",
    }
)
_NOT_IMPLEMENTED = 501
_SERVER_ERROR = 500
# The caller is unknown or lacks the permission. Only a person can correct the credentials or permissions.
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
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_PUT_RIGHT = "Put that setting right: in the environment (AWS_…), in ~/.aws/config, or as an option."
_NO_CALLER = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOTokenLoadError,
    UnauthorizedSSOTokenError,
)
# SDK settings with which every call fails.
_WRONG_SETTINGS = (ConfigNotFound, ConfigParseError, InvalidRegionError, SSLError)


def error_code(error: ClientError) -> str:
    """Error code of the service, such as `ThrottlingException`; the HTTP status if the response had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_denied(error: ClientError) -> bool:
    """Whether AWS denies the call or does not recognise the caller's credentials."""
    return error_code(error) in _NOT_ALLOWED


def is_unknown_call(error: ClientError) -> bool:
    """Whether the endpoint does not implement the call, as with some emulators. It is never transient.

    Only this function decides if a call is unknown. The feature that needs the call counts as absent, not as failed.
    """
    return error_code(error) in _UNKNOWN_CALL or http_status(error) == _NOT_IMPLEMENTED


def http_status(error: ClientError) -> int:
    """HTTP status of the error, or 0 if it has no status."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def unavailable(operation: str, error: ClientError) -> UnavailableError | None:
    """Return `error` as a transient error, or None if it is not transient.

    A throttling error describes only the last attempt. An earlier attempt of the SDK may have been applied and its
    response lost, so only throttling of the first attempt proves that nothing changed.
    """
    if is_unknown_call(error):
        return None
    code = error_code(error)
    refused = code in _THROTTLED or code in _IN_THE_WAY
    if not refused and code not in _UNKNOWN and http_status(error) < _SERVER_ERROR:
        return None
    metadata = cast("Mapping[str, object]", error.response.get("ResponseMetadata", {}))
    first_attempt = not metadata.get("RetryAttempts")
    kind = ThrottledError if code in _THROTTLED else UnavailableError
    return kind(operation, f"{code}: {error}", may_have_applied=not (refused and first_attempt))


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Raise an `UnavailableError` for a transient error in the `with` block; `operation` is `service.Operation`."""
    try:
        yield
    except ClientError as error:
        transient = unavailable(operation, error)
        if transient is None:
            raise
        raise transient from error
    except SSLError:
        # An invalid certificate stays invalid, and the SDK has already retried the other errors.
        raise
    except (ConnectionError, HTTPClientError, IncompleteReadError, FlexibleChecksumError) as error:
        raise UnavailableError(operation, f"{type(error).__name__}: {error}") from error


@contextmanager
def refusals_explained() -> Iterator[None]:
    """Convert a denial by AWS into an `OperationFailedError` with advice for people. For commands."""
    try:
        yield
    except _NO_CALLER as error:
        raise OperationFailedError(
            f"AWS does not know who is asking: {error}.",
            "Set AWS_PROFILE or AWS_ACCESS_KEY_ID; or `metering local up` starts an emulator, --endpoint names one.",
        ) from error
    except _WRONG_SETTINGS as error:
        raise OperationFailedError(f"AWS cannot be asked like this: {error}", _PUT_RIGHT) from error
    except ClientError as error:
        raise _refusal(error) from error
    except ResponseParserError as error:
        # It is no BotoCoreError. Proxies, sign-in pages and other web servers send bodies that the SDK cannot parse.
        raise OperationFailedError(
            "The answer is not of the form that AWS gives.",
            "Look whether --endpoint or AWS_ENDPOINT_URL names AWS or an emulator, or whether a proxy answered.",
        ) from error
    except BotoCoreError as error:
        # This clause comes last, because it catches a base class of the errors above.
        raise OperationFailedError(
            f"AWS cannot be asked like this: {' '.join(str(error).split())}", _PUT_RIGHT
        ) from error


def _refusal(error: ClientError) -> OperationFailedError:
    told = error.response.get("Error", {}).get("Message") or error_code(error)
    if error_code(error) in _EXPIRED:
        return OperationFailedError(
            f"The credentials have expired: {told}", "Sign in again, or set new ones; with a profile: aws sso login."
        )
    if error_code(error) in _NOT_ALLOWED:
        return OperationFailedError(
            f"{error.operation_name} was refused: {told}",
            "Use credentials that may do it; the stacks have a producer, a reader and an operator role.",
        )
    if is_unknown_call(error):
        return OperationFailedError(
            f"This endpoint has no {error.operation_name}.",
            "An emulator lacks some calls of AWS. What needs them works on AWS only.",
        )
    return OperationFailedError(
        f"{error.operation_name} failed: {error_code(error)}: {told}",
        "If the stage was removed or changed while the command ran, run it again.",
    )
