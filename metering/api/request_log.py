"""What one request came to, for the log: never the token, the query or the content of an answer.

It stands before the application, so that it also sees what the framework answers by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import HTTPConnection
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from metering.stores.clock import Clock

_KEY = "metering.figures"
NO_ROUTE = "none"
"""Route of a request that no route takes: its path may be anything, also a pasted secret."""

_FAILED = 500


@dataclass(slots=True, kw_only=True)
class RequestFigures:
    """Figures of one request, which the parts that answer it fill in. Mutable.

    Attributes:
        method: HTTP method.
        route: Route as it is declared, such as `/v1/hours/{hour}`; `none` if there is none.
        status: HTTP status of the answer; 500 if none was begun.
        ms: Milliseconds from its first byte to the end of the answer.
        token_id: Public part of a token that is known; empty for any other.
        partitions: Partitions of the usage table that were read.
        hours: Hours of the lake that were read.
        rows: Rows of the answer.
    """

    method: str = ""
    route: str = NO_ROUTE
    status: int = _FAILED
    ms: int = 0
    token_id: str = ""
    partitions: int = 0
    hours: int = 0
    rows: int = 0

    def fields(self) -> dict[str, str | int]:
        """The figures as fields of a log line."""
        return {
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "ms": self.ms,
            "token_id": self.token_id,
            "partitions": self.partitions,
            "hours": self.hours,
            "rows": self.rows,
        }


def figures_of(request: HTTPConnection) -> RequestFigures:
    """The figures of a request, to be filled in; ones that nobody reads if the application has no log before it."""
    found = request.scope.get(_KEY)
    return found if isinstance(found, RequestFigures) else RequestFigures()


class RequestLog:
    """Tells what each request came to, once, when its answer has ended or it has failed.

    Args:
        app: The application behind it.
        tell: Takes the figures.
        clock: The time now.
    """

    def __init__(self, app: ASGIApp, *, tell: Callable[[RequestFigures], None], clock: Clock) -> None:
        self._app = app
        self._tell = tell
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_ms = self._clock.now_ms()
        figures = RequestFigures(method=scope["method"])
        scope[_KEY] = figures

        async def heard(message: Message) -> None:
            if message["type"] == "http.response.start":
                figures.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, heard)
        finally:
            figures.route = _route(scope)
            figures.ms = max(self._clock.now_ms() - began_ms, 0)
            self._tell(figures)


def _route(scope: Mapping[str, object]) -> str:
    return str(getattr(scope.get("route"), "path", NO_ROUTE))
