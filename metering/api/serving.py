"""An application on a local port, for clients that have the token, but not for web pages of other sites."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import uvicorn

from metering.api.parameters import ProblemError, problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


# Requests for another host are refused, whatever their path.
#
# A page of another site may resolve its own host name to 127.0.0.1 (DNS rebinding); the browser on this machine then
# sends the page's requests here. The `Host` of those requests is the foreign name.


LOOPBACK = "127.0.0.1"
_NAMES = (LOOPBACK, "localhost")
_HTTP_PORT = 80


class HostCheck:
    """Refuses requests whose `Host` header is not this host at `port`."""

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
    return problem(
        "other-host", f"This server answers for {LOOPBACK} and localhost only. Open the address that it printed."
    )


# Grace period for requests in progress when the server stops.
_LAST_S = 3


@dataclass(kw_only=True)
class LocalServer:
    """Serves an application on 127.0.0.1; if `port` is 0, at any free port. Mutable: it runs once."""

    app: ASGIApp
    port: int
    _socket: socket.socket = field(init=False, repr=False)
    _server: uvicorn.Server = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Take the port.

        Raises:
            OSError: The port is in use, or this user may not bind it.
        """
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # A port that was just released can be bound at once; a port in use cannot.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((LOOPBACK, self.port))
            # From now on, the kernel queues a browser's early connection, and does not refuse it.
            self._socket.listen()
        except OSError:
            self._socket.close()
            raise
        self.port = self._socket.getsockname()[1]
        self._server = _server(HostCheck(self.app, port=self.port))

    @property
    def url(self) -> str:
        """The server's URL, with a trailing slash."""
        return f"http://{LOOPBACK}:{self.port}/"

    def run(self) -> None:
        """Serve until `stop`, or until Ctrl-C.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed; running requests have ended.
        """
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """Stop serving; callable from another thread."""
        self._server.should_exit = True


def _server(app: ASGIApp) -> uvicorn.Server:
    # There is no access log: it would record people's queries, and nobody reads it here.
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_LAST_S,
        )
    )
