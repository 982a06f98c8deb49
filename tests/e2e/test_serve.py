"""`metering serve` as a process under a reading role; its HTTP responses match the OpenAPI document."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from metering.hours import rfc3339
from metering.units import DAY_S
from tests import ROOT
from tests.api_fuzz.fuzzing import over_http
from tests.e2e.conftest import Service, plain_environment, stack_outputs_of, wait_for
from tests.e2e.test_api import front_of
from tests.e2e.test_main_job import account, message, record

# These tests complement the in-process tests; they are slow, because each test starts commands and waits for them.
pytestmark = pytest.mark.drill

_START_S = 60
_EXAMPLES = 10
# Each token may send five requests a second; the document has a dozen operations.
_AT_THE_GATEWAY, _RATE = 2, "4/s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that runs."""

    url: str
    token: str
    process: subprocess.Popen[str]

    def get(self, path: str, token: str | None = None, *, host: str = "") -> httpx.Response:
        """Send a request with the server's token, or with `token`."""
        sent = self.token if token is None else token
        headers = {"Authorization": f"Bearer {sent}"} if sent else {}
        return httpx.get(f"{self.url}{path}", headers=headers | ({"Host": host} if host else {}), timeout=_START_S)


@contextmanager
def served(service: Service, role: str, *arguments: str) -> Iterator[Served]:
    """Start the command as a person would, and stop it with Ctrl-C."""
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("metering")), "serve", "--port", "0", "--stage", service.stage, *arguments],
        cwd=ROOT,
        env={**plain_environment(), **service.roles[role]},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        link = process.stdout.readline().strip()
        assert "#token=mtr_" in link, process.communicate(timeout=_START_S)
        url, _, token = link.partition("/#token=")
        yield Served(url=url, token=token, process=process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=_START_S)


@pytest.fixture(scope="module")
def who(service: Service) -> str:
    """An account with usage."""
    found = account()
    service.send(message(f"served-{found}", [record(found, size=2**63 - 1), record(found, size=1)]))
    service.wait_for_rest()
    return found


def test_it_answers_as_the_report_to_its_own_token_and_host_alone_and_ends_at_ctrl_c(
    service: Service, who: str
) -> None:
    today_s = int(time.time()) // DAY_S * DAY_S
    day = rfc3339(today_s)[:10], rfc3339(today_s + DAY_S)[:10]
    path = f"/v1/usage?account={who}&from={day[0]}&to={day[1]}&group_by=usage_type"
    with served(service, "reader") as server:
        answer: Any = server.get(path)
        asked = ("--account", who, "--from", day[0], "--to", day[1], "--group-by", "usage_type")
        assert answer.json()["rows"] == service.ask("reader", "report", "usage", *asked)["rows"]
        assert {row["bytes"] for row in answer.json()["rows"]} == {str(2**63)}
        made = service.ask("operator", "token", "create", "--role", "operator")["token"]
        for other in ("", "garbage", server.token[:-1], made):
            assert server.get(path, other).status_code == 401
        for place in (path, "/", "/openapi.json", "/v1/health"):
            assert server.get(place, host="evil.example").status_code == 421
        assert httpx.get(f"{server.url}/").status_code == 200
        with pytest.raises(ConnectionRefusedError):
            _connect_from_elsewhere(urlsplit(server.url).port or 0)
        server.process.send_signal(signal.SIGINT)
        out, told = server.process.communicate(timeout=_START_S)
    assert (server.process.returncode, out) == (0, ""), told
    assert "Stopped." in told
    assert server.token not in told


def _connect_from_elsewhere(port: int) -> None:
    """Connect to another loopback address, which should refuse connections."""
    with socket.create_connection(("127.0.0.2", port), timeout=5):
        pass


def test_what_it_serves_is_as_its_document_says(service: Service, who: str) -> None:
    assert who
    with served(service, "reader") as server:
        found = over_http(server.url, token=server.token, examples=_EXAMPLES, phases=("examples", "fuzzing"))
    assert not found.issues, "\n".join(map(str, found.issues.values()))
    assert found.answered("GET /v1/usage") + found.answered("GET /v1/freshness") > 0


def test_what_the_gateway_answers_is_as_its_document_says(service: Service, who: str) -> None:
    front = front_of(service, stack_outputs_of(service.clients, service.stage, "api")["ApiUrl"])
    if front.host:
        pytest.skip("LocalStack takes the API's host in a header, and the tool sends the one of its URL")
    token = service.ask("operator", "token", "create", "--role", "analyst")["token"]
    wait_for("the API", lambda: front.get("/v1/health").status_code == 200)
    found = over_http(
        front.base,
        token=token,
        examples=_AT_THE_GATEWAY,
        phases=("fuzzing",),
        rate=_RATE,
        ca_bundle=service.environ.get("AWS_CA_BUNDLE", ""),
    )
    assert who
    assert not found.issues, "\n".join(map(str, found.issues.values()))
    assert found.requests
