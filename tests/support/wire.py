"""Fault injection between SDK and service: calls are lost, delayed or refused, and processes are killed.

The wire uses the SDK's event hooks, between retries and network, so adapters and SDK run unchanged. The wire also
records every call, so that a matrix covers all operations in use.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectionClosedError
from botocore.httpsession import URLLib3Session

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.client import BaseClient
    from botocore.model import OperationModel


class Killed(BaseException):
    """The process is gone. Not an `Exception`, so that code does not catch it."""


class Trouble(Enum):
    REPLY_LOST_ONCE = "applied, the reply is lost, the SDK tries again"
    REPLIES_LOST = "applied at each attempt, every reply is lost, until the SDK gives up"
    REQUESTS_LOST = "never applied, until the SDK gives up"
    APPLIED_LATE = "no reply, until the SDK gives up; applied when the wire is told to"
    THROTTLED = "refused as too much, until the SDK gives up"
    CONFLICTED = "refused because another transaction is at one of its items"
    KILLED_BEFORE = "the process dies before the request leaves"
    KILLED_AFTER = "applied, and the process dies before it reads the reply"


@dataclass(slots=True)
class Wire:
    """Records the calls of clients, numbered from 0, and injects one fault."""

    calls: list[str] = field(default_factory=list)
    trouble: tuple[int, Trouble] | None = None
    happened: bool = False
    late: list[AWSPreparedRequest] = field(default_factory=list)
    _session: URLLib3Session = field(default_factory=lambda: URLLib3Session(timeout=10))
    # Each thread works on a call of its own.
    _at: threading.local = field(default_factory=threading.local)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def attach(self, *clients: BaseClient) -> None:
        for client in clients:
            events = client.meta.events
            events.register("before-call", self._begin)
            events.register("before-send", self._send)  # type: ignore[arg-type]  # the SDK takes an answer

    def begin_again(self, trouble: tuple[int, Trouble] | None = None) -> None:
        """Restart the numbering at 0, with another fault or without a fault."""
        self.calls.clear()
        self.trouble = trouble
        self.happened = False

    def deliver_late(self) -> None:
        """Send the delayed requests now."""
        while self.late:
            self._session.send(self.late.pop(0))

    def _begin(self, *, model: OperationModel, **_: Any) -> None:
        with self._lock:
            self._at.number = len(self.calls)
            self.calls.append(f"{model.service_model.service_name}.{model.name}")
        self._at.attempts = 0

    def _send(self, *, request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        """A response in place of the service's response; if None, the SDK sends the request."""
        self._at.attempts += 1
        if self.trouble is None or self.trouble[0] != self._at.number:
            return None
        trouble = self.trouble[1]
        if trouble is Trouble.REPLY_LOST_ONCE and self._at.attempts > 1:
            return None
        self.happened = True
        if trouble in (Trouble.THROTTLED, Trouble.CONFLICTED):
            return refusal(request, self.calls[self._at.number], trouble)
        self._suffer(trouble, request)
        raise ConnectionClosedError(endpoint_url=request.url)

    def _suffer(self, trouble: Trouble, request: AWSPreparedRequest) -> None:
        if trouble is Trouble.KILLED_BEFORE:
            raise Killed
        if trouble is Trouble.APPLIED_LATE:
            # The call is made only once, because the SDK's retry with the same token would be the same request.
            if self._at.attempts == 1:
                self.late.append(request)
        elif trouble is not Trouble.REQUESTS_LOST:
            self._session.send(request)
        if trouble is Trouble.KILLED_AFTER:
            raise Killed


class _Raw:
    """A response body in the form that the SDK reads."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, *_: Any, **__: Any) -> list[bytes]:
        return [self._content]


def refusal(request: AWSPreparedRequest, call: str, trouble: Trouble) -> AWSResponse:
    """An error response that no emulator returns; the call is not applied."""
    if call.startswith("s3."):
        body = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
        return AWSResponse(request.url, 503, HTTPHeaders.from_dict({"content-type": "application/xml"}), _Raw(body))
    answer: dict[str, Any] = {"message": "injected"}
    if trouble is Trouble.THROTTLED:
        answer["__type"] = "com.amazonaws.dynamodb.v20120810#ThrottlingException"
    elif call == "dynamodb.TransactWriteItems":
        answer["__type"] = "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"
        assert isinstance(request.body, str | bytes)
        actions = json.loads(request.body)["TransactItems"]
        answer["CancellationReasons"] = [{"Code": "TransactionConflict"}, *({"Code": "None"} for _ in actions[1:])]
    else:
        answer["__type"] = "com.amazonaws.dynamodb.v20120810#TransactionConflictException"
    headers = HTTPHeaders.from_dict({"content-type": "application/x-amz-json-1.0"})
    return AWSResponse(request.url, 400, headers, _Raw(json.dumps(answer).encode()))
