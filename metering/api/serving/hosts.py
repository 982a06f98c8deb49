"""Requests that were meant for another host are refused, whatever their path.

A page of another site may point a name of its own at 127.0.0.1 (DNS rebinding), and its requests then come from the
browser here. They carry that name in `Host`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metering.api.problems import ProblemError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = "127.0.0.1"
_NAMES = (LOOPBACK, "localhost")
_HTTP_PORT = 80
_MISDIRECTED = 421


class HostCheck:
    """Refuses requests that were meant for another host.

    Args:
        app: The application behind it.
        port: Port that it is served at.
    """

    def __init__(self, app: ASGIApp, *, port: int) -> None:
        self._app = app
        names = [f"{name}:{port}" for name in _NAMES] + (list(_NAMES) if port == _HTTP_PORT else [])
        self._own = frozenset(name.encode() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI application."""
        if scope["type"] == "http":
            hosts = [value.lower() for name, value in scope["headers"] if name == b"host"]
            if len(hosts) != 1 or hosts[0] not in self._own:
                await _misdirected().response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _misdirected() -> ProblemError:
    return ProblemError(
        kind="other-host",
        status=_MISDIRECTED,
        title="Meant for another host",
        detail=f"This server answers for {LOOPBACK} and localhost only. Open the address that it printed.",
    )
