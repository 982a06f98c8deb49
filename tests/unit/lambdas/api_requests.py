"""Input of functions: dependencies, a context, and events of an HTTP API or a function URL (payload format 2.0)."""

import base64
import gzip
import io
from typing import Any, TypeVar

from aws_lambda_powertools import Logger

from lambdas.emf import EmfMetrics
from lambdas.start import Started

W = TypeVar("W")


class Context:
    """Context of an invocation, with a given remaining time."""

    def __init__(self, left_ms: int = 50_000) -> None:
        self._left_ms = left_ms

    def get_remaining_time_in_millis(self) -> int:
        return self._left_ms


def started(work: W, service: str) -> Started[W]:
    """A function's dependencies, with a separate log."""
    logger = Logger(service=f"test-{service}", stream=io.StringIO())
    return Started(work=work, metrics=EmfMetrics(service=service, stage="local"), logger=logger)


def request(path: str, query: str = "", *, method: str = "GET", front: str = "http", **headers: str) -> dict[str, Any]:
    """A request; underscores in header names become dashes.

    Args:
        path: Path, decoded.
        query: Raw query string.
        method: HTTP method.
        front: `http` for an HTTP API, `url` for a function URL.
        headers: Further headers.
    """
    host = "abc.execute-api.eu-west-1.example" if front == "http" else "abc.lambda-url.eu-west-1.example"
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}},
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abc",
            "domainName": host,
            "http": {
                "method": method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": "test",
            },
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "24/Nov/2026:13:30:00 +0000",
            "timeEpoch": 1_795_527_000_000,
        },
        "isBase64Encoded": False,
    }


def body_of(answer: dict[str, Any]) -> bytes:
    """The body of a response, as a client reads it."""
    body = base64.b64decode(answer["body"]) if answer["isBase64Encoded"] else str(answer["body"]).encode()
    packed = {name.lower(): value for name, value in answer["headers"].items()}.get("content-encoding") == "gzip"
    return gzip.decompress(body) if packed else body
