"""The one mapping of AWS's errors to those of the doctor: what the caller may not ask, and what is not there to ask."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from metering.adapters.aws.errors import error_code, is_denied, is_unknown_call, unavailable
from metering.errors import OperationFailedError
from metering.operations.doctor.bench import CannotAskError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

# A status stands for the code where an answer had no words. AWS has words for every refusal but that of a HEAD.
_NO_SUCH_PLACE = frozenset({"404", "UnknownService"})


@contextmanager
def asking() -> Iterator[None]:
    """Translate an error of the SDK inside.

    Raises:
        CannotAskError: The caller may not make the call, the endpoint has none, or it cannot answer.
        RefusedError: AWS refused the call for another reason.
        UnavailableError: It gave no answer.
    """
    try:
        yield
    except ClientError as error:
        raise _translated(error) from error
    except EndpointConnectionError as error:
        raise CannotAskError(f"this service has no endpoint here: {error}") from error
    except BotoCoreError as error:
        raise CannotAskError(f"the SDK cannot ask: {' '.join(str(error).split())}") from error
    except OperationFailedError as error:
        raise CannotAskError(str(error)) from error


def _translated(error: ClientError) -> Exception:
    call, code = error.operation_name, error_code(error)
    if code in _NO_SUCH_PLACE or is_unknown_call(error):
        return CannotAskError(f"this endpoint has no {call}")
    if code.isdecimal():
        return unavailable(call, error) or CannotAskError(f"this endpoint answers {call} with {code} and no words")
    if is_denied(error):
        return CannotAskError(f"the caller may not call {call}", f"Run it with credentials that may call {call}.")
    return unavailable(call, error) or RefusedError(f"{call} was refused: {_message(error)}")


def _message(error: ClientError) -> str:
    return " ".join((error.response.get("Error", {}).get("Message") or error_code(error)).split())
