"""A local HTTP server with fixed answers, and a state file that names this process as the emulator."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from metering.adapters.emulator.state import LocalState, process_began, save_state

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HEALTH = b'{"services": {"s3": "running"}}'
# An emulator's answer when asked for its name.
MINISTACK = {"/_ministack/health": HEALTH, "/_localstack/health": HEALTH}


def remember_emulator(endpoint: str = "http://127.0.0.1:9", *, stage: str = "local", began: str = "") -> LocalState:
    """Record this process as the emulator of `metering local`; with another start time, it counts as ended."""
    began = began or process_began(os.getpid()) or ""
    state = LocalState(endpoint=endpoint, region="us-east-1", stage=stage, pid=os.getpid(), began=began, deployed=True)
    save_state(state)
    return state


@contextmanager
def serving(answers: Mapping[str, bytes]) -> Iterator[str]:
    """URL of a server with these answers by path; other paths give 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path)
            self.send_response(404 if body is None else 200)
            self.end_headers()
            self.wfile.write(body or b"no such thing")

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
