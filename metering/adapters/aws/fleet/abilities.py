"""What an emulator can do, found out by asking it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

from botocore.exceptions import ClientError

from metering.adapters.aws.errors import is_unknown_call, translated

if TYPE_CHECKING:
    from metering.adapters.aws.session import Clients


class _HttpApis(Protocol):
    def get_apis(self, *, MaxResults: str) -> object: ...  # noqa: N803 - as the SDK spells it


def has_http_apis(clients: Clients) -> bool:
    """Whether the emulator at the clients' endpoint has HTTP APIs. LocalStack's open source has none.

    Raises:
        UnavailableError: It gives no answer.
    """
    try:
        with translated("apigatewayv2.GetApis"):
            cast("_HttpApis", clients.client("apigatewayv2")).get_apis(MaxResults="1")
    except ClientError as error:
        if is_unknown_call(error):
            return False
        raise
    return True
