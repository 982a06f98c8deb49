"""The server on this machine: 127.0.0.1 only, no other host's requests, and a port that is taken is said so."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing, contextmanager
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from metering.api.serving import HostCheck, LocalServer
from tests.api.world import ApiWorld

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Message, Receive, Scope, Send

PATHS = ("/v1/health", "/v1/usage", "/openapi.json", "/", "/nothing")


@contextmanager
def serving() -> Iterator[LocalServer]:
    server = LocalServer(app=ApiWorld().app, port=0)
    thread = Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(10)
    assert not thread.is_alive()


def get(server: LocalServer, path: str, host: str | None, who: str = "analyst") -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.putrequest("GET", path, skip_host=True)
        for name, value in (("Host", host), ("Authorization", f"Bearer {who}")):
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_it_answers_its_own_hosts_and_refuses_others_at_every_path() -> None:
    with serving() as server:
        port = server.port
        for own in (f"127.0.0.1:{port}", f"localhost:{port}", f"LOCALHOST:{port}"):
            assert get(server, "/v1/health", own)[0] == 200
            assert get(server, "/v1/usage", own)[0] == 200
        strange = [
            f"evil.example:{port}", "evil.example", "127.0.0.1", f"127.0.0.1:{port + 1}", "",
            f"127.0.0.1.evil.example:{port}",
            f"localhost:{port}.evil.example", f"0.0.0.0:{port}", f"[::1]:{port}", f"localhost.:{port}",
        ]  # fmt: skip
        for host in strange:
            assert {get(server, path, host)[0] for path in PATHS} == {421}, host
        status, body = get(server, "/v1/usage", "evil.example", who="nobody")
        assert status == 421
        assert b"evil" not in body


def test_a_request_without_a_host_or_with_two_is_refused() -> None:
    with serving() as server:
        for lines in (b"GET /v1/health HTTP/1.0", b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(lines + b"\r\nConnection: close\r\n\r\n")
                assert connection.recv(64).split()[1] in {b"400", b"421"}


def test_it_listens_at_the_loopback_address_only() -> None:
    with serving() as server:
        assert server.url == f"http://127.0.0.1:{server.port}/"
        assert server._socket.getsockname() == ("127.0.0.1", server.port)


def test_a_port_that_is_taken_is_refused_at_once() -> None:
    with serving() as server, pytest.raises(OSError, match="in use"):
        LocalServer(app=ApiWorld().app, port=server.port)


@pytest.mark.parametrize(
    ("port", "host", "let_in"),
    [
        (80, b"localhost", True),
        (80, b"127.0.0.1:80", True),
        (8080, b"localhost", False),
        (8080, b"localhost:80", False),
    ],
)
def test_only_the_port_of_http_may_be_left_out(port: int, host: bytes, let_in: bool) -> None:
    reached: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        reached.append(scope["type"])

    async def send(message: Message) -> None:
        del message

    scope: Scope = {"type": "http", "headers": [(b"host", host)]}
    with pytest.raises(StopIteration):
        HostCheck(app, port=port)(scope, _nothing, send).__await__().__next__()
    assert reached == (["http"] if let_in else [])


async def _nothing() -> Message:
    return {}
