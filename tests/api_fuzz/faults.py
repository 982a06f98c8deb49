"""Faults that the fuzzer must find: wrappers that corrupt the application's requests or answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

from metering.api.parameters import MEDIA_TYPE
from metering.api.resources.usage import USAGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

KNOWN = "analyst"
_PARAMETERS = frozenset(each.name for each in USAGE.parameters)
_BYTES = re.compile(rb'"bytes": "(-?[0-9]+)"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        name: What is wrong.
        spoils: Wraps an application in the fault.
        kind: The check that must fail; failures of other checks would be coincidence.
    """

    name: str
    spoils: Callable[[ASGIApp], ASGIApp]
    kind: str


def _on_requests(change: Callable[[Scope], Scope]) -> Callable[[ASGIApp], ASGIApp]:
    def spoil(app: ASGIApp) -> ASGIApp:
        async def spoilt(scope: Scope, receive: Receive, send: Send) -> None:
            # The API document stays unchanged, because requests are generated from it.
            await app(change(scope) if scope["path"].startswith("/v1/") else scope, receive, send)

        return spoilt

    return spoil


def _on_answers(change: Callable[[Message, bytes], tuple[Message, bytes]]) -> Callable[[ASGIApp], ASGIApp]:
    def spoil(app: ASGIApp) -> ASGIApp:
        async def spoilt(scope: Scope, receive: Receive, send: Send) -> None:
            await app(_without(scope, b"accept-encoding"), receive, _gathered(change, send))

        return spoilt

    return spoil


def _gathered(
    change: Callable[[Message, bytes], tuple[Message, bytes]], send: Send
) -> Callable[[Message], Awaitable[None]]:
    start: list[Message] = []
    body = bytearray()

    async def gather(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.append(message)
            return
        body.extend(message.get("body", b""))
        if not message.get("more_body"):
            changed, content = change(start[0], bytes(body))
            headers = [(name, value) for name, value in changed["headers"] if name.lower() != b"content-length"]
            length = str(len(content)).encode()
            await send({**changed, "headers": [*headers, (b"content-length", length)]})
            await send({"type": "http.response.body", "body": content})

    return gather


def _without(scope: Scope, *names: bytes) -> Scope:
    return {**scope, "headers": [each for each in scope["headers"] if each[0].lower() not in names]}


def _with_token(scope: Scope) -> Scope:
    without = _without(scope, b"authorization")
    return {**without, "headers": [*without["headers"], (b"authorization", f"Bearer {KNOWN}".encode())]}


def _any_token(scope: Scope) -> Scope:
    sent = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    return _with_token(scope) if sent else scope


def _unknown_ignored(scope: Scope) -> Scope:
    kept = [part for part in scope["query_string"].split(b"&") if part.partition(b"=")[0].decode() in _PARAMETERS]
    return {**scope, "query_string": b"&".join(kept)}


def _crashes(app: ASGIApp) -> ASGIApp:
    async def spoilt(scope: Scope, receive: Receive, send: Send) -> None:
        # `strftime` once failed in this way for years with fewer than four digits.
        if re.search(r"(?:^|&)(?:from|to)=0", unquote_plus(scope["query_string"].decode("latin-1"))):
            start: Message = {
                "type": "http.response.start",
                "status": 500,
                "headers": [(b"content-type", b"text/plain")],
            }
            await send(start)
            await send({"type": "http.response.body", "body": b"ValueError"})
            return
        await app(scope, receive, send)

    return spoilt


def _plain_json(start: Message, body: bytes) -> tuple[Message, bytes]:
    changed = [
        (name, b"application/json" if value == MEDIA_TYPE.encode() else value) for name, value in start["headers"]
    ]
    return {**start, "headers": changed}, body


def _inexact(start: Message, body: bytes) -> tuple[Message, bytes]:
    return start, _BYTES.sub(rb'"bytes": \1', body)


FAULTS = (
    Fault(
        name="unknown parameters are ignored",
        spoils=_on_requests(_unknown_ignored),
        kind="unknown_parameters_are_refused",
    ),
    Fault(name="no token is needed", spoils=_on_requests(_with_token), kind="ignored_auth"),
    Fault(name="any token is good", spoils=_on_requests(_any_token), kind="ignored_auth"),
    Fault(name="some dates crash it", spoils=_crashes, kind="not_a_server_error"),
    Fault(name="problems are sent as plain JSON", spoils=_on_answers(_plain_json), kind="content_type_conformance"),
    Fault(name="byte totals are JSON numbers", spoils=_on_answers(_inexact), kind="response_schema_conformance"),
)
