"""An application at a port of this machine, for whoever has the token, and for no page of another site."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import uvicorn

from metering.api.serving.hosts import LOOPBACK, HostCheck

if TYPE_CHECKING:
    from starlette.types import ASGIApp

# Requests under way when it is stopped may end.
_LAST_S = 3


@dataclass(kw_only=True)
class LocalServer:
    """Serves an application on 127.0.0.1. Mutable: it runs once.

    Attributes:
        app: The application.
        port: Port to listen at; 0 for any that is free.
    """

    app: ASGIApp
    port: int
    _socket: socket.socket = field(init=False, repr=False)
    _server: uvicorn.Server = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Take the port.

        Raises:
            OSError: It is taken, or this user may not have it.
        """
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # A port that was just left can be taken at once; one that is in use cannot.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((LOOPBACK, self.port))
            # From now on a browser that is quicker than the server waits, and is not refused.
            self._socket.listen()
        except OSError:
            self._socket.close()
            raise
        self.port = self._socket.getsockname()[1]
        self._server = _server(HostCheck(self.app, port=self.port))

    @property
    def url(self) -> str:
        """Where it is, with a slash at the end."""
        return f"http://{LOOPBACK}:{self.port}/"

    def run(self) -> None:
        """Serve until `stop`, or until Ctrl-C.

        Raises:
            KeyboardInterrupt: Ctrl-C; what was under way has ended.
        """
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """End it, from another thread."""
        self._server.should_exit = True


def _server(app: ASGIApp) -> uvicorn.Server:
    # No access log: its lines would hold what people ask for, and nobody reads them here.
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
