"""Endpoints of emulators: of a stage, of its HTTP API, and whether an emulator answers there."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from metering.adapters.emulator.state import running_endpoint
from metering.errors import OperationFailedError, UnavailableError
from metering.fleet.settings.bases import runs_on_emulator

if TYPE_CHECKING:
    from collections.abc import Mapping


# AWS's own hosts are never probed. Source: https://docs.aws.amazon.com/general/latest/gr/rande.html
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".amazonwebservices.com.cn", ".aws")
_PATHS = ("_ministack/health", "_localstack/health")
# A busy LocalStack took seconds to answer.
_PATIENCE_S = 10


def is_emulator(endpoint: str, *, ca_bundle: str | None = None) -> bool:
    """Whether MiniStack or LocalStack answers at a URL. Whatever else answers counts as AWS.

    Raises:
        UnavailableError: Nothing answers there.
    """
    host = urlsplit(endpoint).hostname or ""
    if f".{host}".endswith(_AWS_DOMAINS):
        return False
    return any(_is_health(f"{endpoint.rstrip('/')}/{path}", ca_bundle) for path in _PATHS)


def _is_health(url: str, ca_bundle: str | None) -> bool:
    context = ssl.create_default_context(cafile=ca_bundle) if url.startswith("https:") else None
    try:
        with urllib.request.urlopen(url, timeout=_PATIENCE_S, context=context) as reply:  # noqa: S310  # http or https
            answer = json.loads(reply.read())
    except (urllib.error.HTTPError, ValueError, http.client.HTTPException):
        return False
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):
            # A server answers, but without certificate verification its identity is unknown.
            return False
        told = reason.strerror if isinstance(reason, OSError) and reason.strerror else f"{reason}"
        raise UnavailableError("Endpoint.Health", told) from error
    return isinstance(answer, dict) and "services" in answer


def endpoint_for(stage: str, endpoint: str | None, environ: Mapping[str, str]) -> str | None:
    """The endpoint to ask for a stage; None for AWS itself.

    Without an endpoint it is `AWS_ENDPOINT_URL` and, for a stage of emulators, the one of `metering local up`.

    Raises:
        OperationFailedError: The stage is for emulators only, and none is there.
        UnavailableError: Nothing answers at the endpoint.
    """
    endpoint = endpoint or environ.get("AWS_ENDPOINT_URL") or None
    if not runs_on_emulator(stage):
        return endpoint
    endpoint = endpoint or running_endpoint()
    if endpoint is None or not is_emulator(endpoint, ca_bundle=environ.get("AWS_CA_BUNDLE") or None):
        where = "none runs here" if endpoint is None else f"{endpoint} is none"
        raise OperationFailedError(
            f"Stage {stage} runs on an emulator, and {where}.",
            "Start one with `metering local up`, or name another stage or endpoint.",
        )
    return endpoint


# Resolves the address of a region's HTTP API on an emulator, because the host name in its stack's output is in no DNS.
#
# Both emulators route to an API by its host name. MiniStack also accepts a path, which every program and browser can
# call. LocalStack accepts only the host name: browsers resolve every name below `localhost` to this machine, and other
# programs send the name in `Host`.


# MiniStack serves an HTTP API at `<id>.execute-api.localhost:<port>`.
_HTTP_API = re.compile(r"(?P<id>[a-z0-9-]+)\.execute-api\..+")
# A function URL is `<id>.lambda-url.<region>.<host>`; MiniStack outputs AWS's host, and LocalStack its own.
_FUNCTION_URL = re.compile(r"(?P<id>[a-z0-9-]+)\.lambda-url\.(?P<region>[a-z0-9-]+)\.(?P<host>.+)")
_AWS_HOST = "on.aws"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiAddress:
    """Where an API answers.

    Attributes:
        url: For a browser; a slash is at its end.
        base: For a program: URL without a slash at its end.
        host: What a program sends as `Host` with it; empty if `base` says it all.
    """

    url: str
    base: str
    host: str = ""


def api_address(put_out: str, endpoint: str) -> ApiAddress:
    """Where an API answers that its stack put out as `ApiUrl`, on the emulator at `endpoint`."""
    there = urlsplit(put_out)
    host, base = there.netloc, endpoint.rstrip("/")
    if found := _HTTP_API.fullmatch(host):
        return _by_path(f"{base}/_aws/execute-api/{found['id']}")
    found = _FUNCTION_URL.fullmatch(host)
    if found is None:
        # The output is another host name, such as a custom domain, and is used as it is.
        return _by_path(put_out.rstrip("/"))
    if found["host"] == _AWS_HOST:
        return _by_path(f"{base}/_aws/lambda-url/{found['id']}")
    port = urlsplit(endpoint).port
    name = f"{found['id']}.lambda-url.{found['region']}.localhost" + (f":{port}" if port else "")
    return ApiAddress(url=f"{urlsplit(endpoint).scheme}://{name}/", base=base, host=host)


def _by_path(base: str) -> ApiAddress:
    return ApiAddress(url=f"{base}/", base=base)
