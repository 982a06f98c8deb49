"""`metering local`: whether the stacks exist, a client's settings, and messages about ports and shutdown."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from metering.adapters.emulator import ministack
from metering.adapters.emulator.state import process_began
from metering.cli.app import app
from metering.cli.commands.developer import local as local_commands
from metering.errors import SettingsError
from metering.fleet.ports import RegionStacks
from tests.support.answering import remember_emulator

if TYPE_CHECKING:
    from metering.adapters.aws.session import Clients

ENDPOINT = "http://127.0.0.1:4567"
DATA, PIPELINE, OBSERVABILITY = RegionStacks.of("local").everywhere
OUTPUTS = {
    DATA: {
        "IngestQueueUrl": f"{ENDPOINT}/000000000000/in gest",
        "DataBucketName": "bucket",
        "LedgerTableName": "ledger",
        "UsageTableName": "usage",
        "ExportsOutputRefX": "only for CloudFormation",
    },
    PIPELINE: {"WatchFunctionName": "watch"},
    OBSERVABILITY: {},
}


@pytest.fixture(autouse=True)
def stacks(nobody: None, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, str]]:
    """The stacks of a test's emulator, which is this process."""
    present = {name: dict(outputs) for name, outputs in OUTPUTS.items()}

    def read(clients: Clients, name: str) -> dict[str, str]:
        # The machine has no credentials, and the emulator is called all the same.
        assert clients.access.access_key is not None
        assert clients.access.endpoint_url == ENDPOINT
        if name not in present:
            raise SettingsError([f"stack {name} is not deployed in us-east-1"])
        return present[name]

    monkeypatch.setattr("metering.adapters.aws.stacks.read_outputs", read)
    monkeypatch.setattr(local_commands, "_has_pager", lambda _state: True)
    monkeypatch.setattr(local_commands, "page_link", lambda _state: None)
    return present


def test_a_shell_can_read_the_environment_and_the_endpoint_is_in_it() -> None:
    remember_emulator(ENDPOINT)
    result = CliRunner().invoke(app, ["local", "env"])
    assert result.exit_code == 0, result.stderr
    show = 'echo "$AWS_ENDPOINT_URL|$AWS_ACCESS_KEY_ID|$INGEST_QUEUE_URL|$USAGE_TABLE"'
    shown = subprocess.run(
        ["/bin/sh", "-c", f"{result.stdout}\n{show}"],
        text=True, capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert shown == f"{ENDPOINT}|test|{ENDPOINT}/000000000000/in gest|usage\n"


def test_the_environment_is_data_if_a_format_is_named() -> None:
    remember_emulator(ENDPOINT)
    result = CliRunner().invoke(app, ["local", "env", "--format", "json"])
    values = json.loads(result.stdout)
    assert (values["AWS_REGION"], values["DATA_BUCKET"], values["LEDGER_TABLE"]) == ("us-east-1", "bucket", "ledger")


def test_outputs_are_those_of_all_stacks_but_for_exports() -> None:
    remember_emulator(ENDPOINT)
    result = CliRunner().invoke(app, ["local", "outputs", "--format", "json"])
    names = json.loads(result.stdout)
    assert set(names) == {"IngestQueueUrl", "DataBucketName", "LedgerTableName", "UsageTableName", "WatchFunctionName"}


@pytest.mark.parametrize("words", ["env", "outputs"])
def test_without_an_emulator_there_is_nothing_to_print(words: str) -> None:
    result = CliRunner().invoke(app, ["local", words])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "metering local up" in result.stderr


def test_status_asks_the_emulator_whether_the_stacks_stand(stacks: dict[str, dict[str, str]]) -> None:
    remember_emulator(ENDPOINT)
    assert json.loads(CliRunner().invoke(app, ["local", "status", "--format", "json"]).stdout)["deployed"] is True
    del stacks[PIPELINE]
    result = CliRunner().invoke(app, ["local", "status", "--format", "json"])
    told = json.loads(result.stdout)
    assert (result.exit_code, told["running"], told["deployed"]) == (0, True, False)
    assert "To deploy them: metering local up" in result.stderr


def test_status_tells_of_an_emulator_that_was_killed() -> None:
    remember_emulator(ENDPOINT, began="long ago")
    result = CliRunner().invoke(app, ["local", "status", "--format", "json"])
    assert result.exit_code == 1
    assert f"(pid {os.getpid()}) is gone, and so is all that it held" in result.stderr


def test_up_deploys_again_after_the_stacks_were_deleted(
    stacks: dict[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    remember_emulator(ENDPOINT)
    stacks.clear()
    deployed: list[str] = []
    monkeypatch.setattr(local_commands, "run_deployment", lambda **given: deployed.append(given["endpoint"]))
    result = CliRunner().invoke(app, ["local", "up", "--format", "json"])
    assert result.exit_code == 0, result.stderr
    assert deployed == [ENDPOINT]
    assert "deployed again" in result.stderr
    assert json.loads(result.stdout)["deployed"] is True
    assert "Next: metering replay --scenario" in result.stderr, "also without a terminal"


def test_up_says_that_the_usual_port_is_taken_and_which_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(port: int, **_options: object) -> ministack.Emulator:
        from pathlib import Path

        return ministack.Emulator(
            endpoint=f"http://127.0.0.1:{port}", pid=os.getpid(), began=process_began(os.getpid()) or "",
            ca_bundle=None, log=Path("x"),
        )  # fmt: skip

    monkeypatch.setattr(local_commands, "run_deployment", lambda **_given: None)
    monkeypatch.setattr(ministack, "start", start)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        usual = taken.getsockname()[1]
        monkeypatch.setattr(ministack, "DEFAULT_PORT", usual)
        monkeypatch.setattr(ministack, "free_port", lambda: 40_001)
        result = CliRunner().invoke(app, ["local", "up", "--format", "json"])
    assert result.exit_code == 0, result.stderr
    assert f"Port {usual} is taken: the emulator takes 40001." in result.stderr
    assert all(len(line) <= 60 for line in result.stderr.splitlines() if "40001" in line), "whole in a narrow window"
    assert json.loads(result.stdout)["endpoint"] == "http://127.0.0.1:40001"


def test_down_says_that_all_is_lost_and_help_says_that_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    remember_emulator(ENDPOINT)
    monkeypatch.setattr(ministack, "stop", lambda _pid: None)
    result = CliRunner().invoke(app, ["local", "down"])
    assert result.exit_code == 0
    assert "All that it held is gone." in result.stderr
    page = " ".join(CliRunner().invoke(app, ["local", "down", "--help"]).stdout.split())
    assert "nothing can be kept" in page
