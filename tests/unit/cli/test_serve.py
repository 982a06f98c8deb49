"""`metering serve` from outside: a link with a working token, answers equal to the reports, and no writes."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from functools import partial
from threading import Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from typer.testing import CliRunner, Result

from metering.api.serving import LocalServer
from metering.cli.app import app
from tests.cli.lively import Lively
from tests.support import command_line
from tests.support.command_line import AWAY, TwoRegions
from tests.support.lake_world import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RUN = LocalServer.run
run = partial(command_line.run, "serve")


@pytest.fixture(autouse=True)
def stage() -> Iterator[dict[str, Lively]]:
    """Two regions with usage of the same account."""
    made = TwoRegions()
    for number, name in enumerate(made.regions, start=1):
        made.send(name, record(10**number))
    with made.typed():
        yield made.regions


def served(work: Callable[[str], None], *line: str) -> Result:
    """The command's output; `work` runs with its address while it serves, then Ctrl-C is pressed."""
    troubles: list[BaseException] = []

    def interrupted(server: LocalServer) -> None:
        def worked() -> None:
            try:
                work(server.url)
            except BaseException as error:  # noqa: BLE001 - raised below
                troubles.append(error)
            finally:
                server.stop()

        thread = Thread(target=worked)
        thread.start()
        _RUN(server)
        thread.join(10)
        raise KeyboardInterrupt

    with patch.object(LocalServer, "run", interrupted):
        result = run("--port", "0", *line)
    if troubles:
        raise troubles[0]
    return result


def status_of(url: str, token: str = "") -> int:
    try:
        return read(url, token)[0]
    except urllib.error.HTTPError as error:
        return error.code


def read(url: str, token: str) -> tuple[int, Any]:
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})  # noqa: S310 - ours
    with urllib.request.urlopen(asked, timeout=10) as answer:  # noqa: S310 - as above
        return answer.status, json.loads(answer.read())


def secret_of(printed: str) -> str:
    found = re.fullmatch(r"http://127\.0\.0\.1:\d+/#token=(mtr_[0-9a-f]{16}_[0-9a-f]{64})\n", printed)
    assert found is not None, printed
    return found[1]


def test_it_prints_one_link_with_a_fresh_token_and_ends_well() -> None:
    results = [served(lambda _url: None) for _ in range(2)]
    assert [each.exit_code for each in results] == [0, 0]
    assert len({secret_of(each.stdout) for each in results}) == 2
    assert "Ctrl-C stops it." in results[0].stderr
    assert secret_of(results[0].stdout) not in results[0].stderr


def test_what_it_answers_is_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    known = "mtr_" + "00" * 8 + "_" + "11" * 32
    sizes = {8: "00" * 8, 32: "11" * 32}
    monkeypatch.setattr("metering.cli.commands.analyst.query.secrets", SimpleNamespace(token_hex=sizes.__getitem__))
    path = "v1/usage?group_by=account_id,usage_type"
    answers: dict[str, Any] = {}

    def work(url: str) -> None:
        assert status_of(url + path) == 401
        assert status_of(url + path, known[:-1] + "2") == 401
        assert status_of(f"{url}{path}&token={known}") == 401
        answers["api"] = read(url + path, known)[1]

    for line in ((), ("--region", AWAY), ("--region", "all")):
        assert secret_of(served(work, *line).stdout) == known
        reported = ["--endpoint", "http://127.0.0.1:9", "report", "usage", "--group-by", "account_id,usage_type", *line]
        result = CliRunner().invoke(app, [*reported, "--format", "json"])
        assert answers["api"]["rows"] == json.loads(result.stdout)["rows"]
    assert [row["bytes"] for row in answers["api"]["rows"]] == ["110"]


def test_a_port_that_is_taken_is_said_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--port", str(port))
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"Port {port} of this machine cannot be had" in result.stderr
    assert "--port" in result.stderr


def test_without_its_packages_it_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metering.cli.commands.analyst.query.importlib.util.find_spec", lambda _name: None)
    result = run()
    assert (result.exit_code, result.stdout) == (2, "")
    told = " ".join(result.stderr.split())
    assert "needs fastapi and uvicorn" in told
    assert "pip install 'transfer-metering[cli,serve]'" in told


def test_its_regions_are_over_clients_that_only_read(stage: dict[str, Lively]) -> None:
    asked: list[str] = []
    read_only = Lively.read_only

    def noted(region: Lively) -> Lively:
        asked.append(region.region)
        return read_only(region)

    with patch.object(Lively, "read_only", noted):
        served(lambda _url: None, "--region", "all")
    assert sorted(asked) == sorted(stage)
