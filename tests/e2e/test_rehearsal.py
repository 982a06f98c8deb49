"""Stage prod on an emulator, beside the stage of `metering local up`, from bootstrap to uninstall."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from metering.adapters.aws.session import Access, Clients
from metering.adapters.emulator.ministack import client_environment
from tests import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.emulator, pytest.mark.drill]

HOME = "us-east-1"
PAGER = json.dumps([{"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}])
PROD = ("--stage", "prod")


class Machine:
    """A user's machine on which `metering local up` runs."""

    def __init__(self, folder: Path) -> None:
        plain = {n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "METERING_", "LOCALST"))}
        self.env = {**plain, "METERING_LOCAL_DIR": str(folder)}
        self.endpoint = ""

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        place = ("--endpoint", self.endpoint) if self.endpoint and arguments[0] != "local" else ()
        done = subprocess.run(
            [str(Path(sys.executable).with_name("metering")), *arguments, *place],
            cwd=ROOT, env=self.env, text=True, capture_output=True, timeout=400, check=False,
        )  # fmt: skip
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def ask(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--format", "json", code=code).stdout)

    def clients(self) -> Clients:
        return Clients(Access(region=HOME, endpoint_url=self.endpoint, access_key=("test", "test")))

    def cdk(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """As in README and the operator guide: in the folder `infra`."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("cdk")), *arguments],
            cwd=ROOT / "infra",
            env={**self.env, **client_environment(self.endpoint, None, region=HOME)},
            text=True,
            capture_output=True,
            timeout=200,
            check=False,
        )


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("local"))
    try:
        machine.endpoint = machine.ask("local", "up")["endpoint"]
        yield machine
    finally:
        machine.run("local", "down")


def total(machine: Machine) -> int:
    return sum(int(row["bytes"]) for row in machine.ask("report", "usage", "--last", "3m", *PROD)["rows"])


def test_prod_goes_from_bootstrap_to_uninstall_beside_a_running_local_stage(machine: Machine, tmp_path: Path) -> None:
    done = machine.cdk("bootstrap", "-c", "stage=local")
    assert done.returncode == 0, done.stdout + done.stderr

    done = machine.run("deploy", *PROD, code=1)
    assert "the page topic has no confirmed subscription" in done.stderr
    done = machine.run("deploy", *PROD, "--set", f"subscriptions={PAGER}")
    assert done.stderr.startswith("Rehearsal of stage prod, version ")
    assert "continues a deployment that did not end" in done.stderr
    [row] = machine.ask("region", "status", *PROD)["rows"]
    assert (row["state"], row["pagers"], row["rehearsal"]) == ("ready", 1, True)

    manifest = tmp_path / "sent.ndjson"
    sent = ("--scenario", "mixed", "--batches", "100", "--records-per-batch", "5", "--manifest", str(manifest))
    machine.run("replay", *sent, *PROD)
    assert machine.ask("verify", "--manifest", str(manifest), "--wait", "3m", *PROD)["passed"]
    machine.run("compact", *PROD)
    assert machine.ask("reconcile", "--deep", *PROD)["different"] == 0
    counted = total(machine)
    assert counted
    # The other stage is unaffected.
    assert machine.ask("verify", "--stage", "local", "--wait", "1m")["passed"]

    left = machine.ask("uninstall", *PROD)["rows"]
    assert {row["kind"] for row in left if not row["orphaned"]} == {"bucket", "table", "key", "queue", "topic"}
    assert {row["kind"] for row in left if row["orphaned"]} == {"log"}
    assert total(machine) == counted
    # The data stack keeps its settings; without them nobody would be paged.
    machine.run("deploy", *PROD)
    assert total(machine) == counted

    left = machine.ask("uninstall", "--delete-data", *PROD)["rows"]
    assert {row["kind"] for row in left} == {"bucket", "table", "key", "queue", "log"}
    assert all(row["delete_with"].startswith(f"aws --endpoint-url {machine.endpoint} ") for row in left)
    tables = machine.clients().dynamodb.list_tables()["TableNames"]
    assert {row["name"] for row in left if row["kind"] == "table"} <= set(tables)
    assert machine.ask("region", "status", "--stage", "local")["rows"][0]["stacks"].count("COMPLETE") == 4


def test_a_failed_deployment_says_one_sentence_and_the_next_run_goes_on_and_nothing_remains(machine: Machine) -> None:
    clients = machine.clients()
    glue = clients.client("glue")
    glue.create_database(DatabaseInput={"Name": "metering_dev"})  # type: ignore[attr-defined]  # a client by name

    done = machine.run("deploy", "--stage", "dev", code=1)

    assert done.stderr.count("CatalogDatabase") == 1
    [sentence] = [line for line in done.stderr.splitlines() if "CatalogDatabase" in line]
    assert "metering-dev-data is ROLLBACK_COMPLETE: CatalogDatabase" in sentence
    assert "already exists" in sentence
    assert len(sentence) < 400
    for noise in ("index.js", "Unknown option", "Traceback"):
        assert noise not in done.stderr

    glue.delete_database(Name="metering_dev")  # type: ignore[attr-defined]  # as above
    machine.run("deploy", "--stage", "dev")
    assert machine.ask("uninstall", "--stage", "dev", "--delete-data")["rows"] == []
    stacks = clients.cloudformation.list_stacks(StackStatusFilter=["CREATE_COMPLETE", "UPDATE_COMPLETE"])
    assert not [each for each in stacks["StackSummaries"] if "-dev-" in each["StackName"]]
