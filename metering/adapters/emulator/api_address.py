"""Where the HTTP API of a region on an emulator answers: what its stack puts out is a name that nobody resolves.

Both emulators tell APIs apart by their host. MiniStack also takes a path of its own, which every program and browser
can call. LocalStack takes the host alone: a browser finds every name below `localhost` on this machine, and a program
that does not sends the name in `Host`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

# An HTTP API of MiniStack is at `<id>.execute-api.localhost:<port>`.
_HTTP_API = re.compile(r"(?P<id>[a-z0-9-]+)\.execute-api\..+")
# A function's URL is at `<id>.lambda-url.<region>.<host>`; MiniStack puts out the host of AWS, LocalStack its own.
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
    """Where an API answers.

    Args:
        put_out: `ApiUrl`, as its stack puts it out.
        endpoint: URL of the emulator.
    """
    there = urlsplit(put_out)
    host, base = there.netloc, endpoint.rstrip("/")
    if found := _HTTP_API.fullmatch(host):
        return _by_path(f"{base}/_aws/execute-api/{found['id']}")
    found = _FUNCTION_URL.fullmatch(host)
    if found is None:
        # It has a name that means something, such as one of its own.
        return _by_path(put_out.rstrip("/"))
    if found["host"] == _AWS_HOST:
        return _by_path(f"{base}/_aws/lambda-url/{found['id']}")
    port = urlsplit(endpoint).port
    name = f"{found['id']}.lambda-url.{found['region']}.localhost" + (f":{port}" if port else "")
    return ApiAddress(url=f"{urlsplit(endpoint).scheme}://{name}/", base=base, host=host)


def _by_path(base: str) -> ApiAddress:
    return ApiAddress(url=f"{base}/", base=base)
