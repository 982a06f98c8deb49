"""All of stage prod on an emulator beside `metering local up`; redeployments keep settings."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from metering.adapters.aws.session import Access, Clients
from metering.adapters.emulator.ministack import client_environment
from tests import ROOT
from tests.e2e.conftest import plain_environment, ran
from tests.integration.test_ci import commands

pytestmark = [pytest.mark.emulator, pytest.mark.drill]

HOME = "us-east-1"
PAGER = json.dumps([{"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}])
PROD = ("--stage", "prod")


class Machine:
    """The machine of a user who runs `metering local up`."""

    def __init__(self, folder: Path) -> None:
        self.env = {"METERING_LOCAL_DIR": str(folder)}
        self.cwd, self.endpoint = ROOT, ""

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        place = ("--endpoint", self.endpoint) if self.endpoint and arguments[0] != "local" else ()
        done = ran([*arguments, *place], self.env, cwd=self.cwd)
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def ask(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--format", "json", code=code).stdout)

    def clients(self) -> Clients:
        return Clients(Access(region=HOME, endpoint_url=self.endpoint, access_key=("test", "test")))

    def cdk(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `cdk` in `infra`, as in README and operator guide."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("cdk")), *arguments],
            cwd=ROOT / "infra",
            env={**plain_environment(), **self.env, **client_environment(self.endpoint, None, region=HOME)},
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


# As runbooks have it.
RUNBOOK = ("region", "add", "us-east-1", "--redeploy", "--no-pager")


class Laptop(Machine):
    """Run `metering local` in its own folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "local")
        self.cwd = folder

    def settings(self) -> dict[str, tuple[str, str]]:
        """Value and source of each deployed setting."""
        rows = csv.DictReader(io.StringIO(self.run("settings", "show", "--all", "--format", "csv").stdout))
        return {row["setting"]: (row["value"], row["by"]) for row in rows}

    def concurrency(self) -> tuple[str, str]:
        return self.settings()["max_concurrency"]

    def file(self, text: str) -> None:
        (self.cwd / "metering.toml").write_text(text)


@pytest.fixture
def laptop(tmp_path: Path) -> Iterator[Laptop]:
    made = Laptop(tmp_path)
    yield made
    made.run("local", "down")


def test_settings_and_the_pager_outlive_redeployments_until_they_are_taken_back(laptop: Laptop) -> None:
    laptop.run("local", "up", "--set", f"subscriptions={PAGER}", "--set", "max_concurrency=8")
    assert laptop.concurrency() == ("8", "set")

    refused = laptop.run("local", "up", "--set", "max_concurrency=16", code=1)
    assert "with other settings: max_concurrency 8 -> 16" in refused.stderr
    laptop.run("local", "up", "--set", "max_concurrency=8")
    assert "Nothing differs" in laptop.run("settings", "diff", "--format", "table").stdout

    done = laptop.run(*RUNBOOK)
    assert "us-east-1: settings: nothing changes" in done.stderr
    assert laptop.concurrency() == ("8", "set")
    assert "oncall@example.com" in laptop.run("alerts", "test", "--format", "csv").stdout

    # The region is ready by now: no setting would change without a deployment.
    assert "Add --redeploy" in laptop.run("region", "add", "us-east-1", "--set", "batch_size=5", code=2).stderr

    # The file takes precedence for the settings that it names; other settings are kept.
    laptop.file("[stage.local]\nmax_concurrency = 6\n")
    assert "us-east-1,max_concurrency,8,6,file" in laptop.run("settings", "diff", "--format", "csv").stdout
    laptop.run("settings", "diff", "--check", code=1)
    done = laptop.run(*RUNBOOK, "--unset", "subscriptions")
    assert "max_concurrency 8 -> 6; 1 subscription removed (page email oncall@example.com)" in done.stderr
    assert "alarms page no one" in done.stderr
    found = laptop.settings()
    assert found["max_concurrency"] == ("6", "file")
    assert found["subscriptions"] == ("[]", "default")
    laptop.run("alerts", "test", code=1)


def test_a_reset_keeps_the_settings_it_was_started_with(laptop: Laptop) -> None:
    laptop.run("local", "up", "--set", "max_concurrency=8")
    laptop.run("local", "reset")
    assert laptop.concurrency() == ("8", "set")
    assert laptop.run("settings", "show", "--as-set").stdout == "--set max_concurrency=8\n"
    laptop.file(laptop.run("settings", "show", "--toml").stdout)
    assert "local,local,1" in laptop.run("settings", "validate", "--format", "csv").stdout


def test_a_new_region_of_a_stage_has_the_settings_of_its_home_region(laptop: Laptop) -> None:
    laptop.run("local", "up", "--set", "max_concurrency=8", "--set", f"subscriptions={PAGER}")
    laptop.run("region", "add", "eu-west-1")
    rows = laptop.run("settings", "show", "--region", "all", "--format", "csv").stdout.splitlines()
    assert "eu-west-1,max_concurrency,8,set" in rows
    assert "us-east-1,max_concurrency,8,set" in rows


def test_the_workflow_of_the_documentation_deploys_and_notices_what_was_changed_by_hand(tmp_path: Path) -> None:
    laptop = Laptop(tmp_path)
    (tmp_path / "metering.toml").write_text(
        '[stage.prod.rollout]\nallow = ["us-east-1"]\n\n[[stage.prod.subscriptions]]\nseverity = "page"\n'
        'protocol = "email"\nendpoint = "oncall@example.com"\n'
    )
    laptop.endpoint = laptop.ask("local", "up")["endpoint"]
    laptop.env["METERING_STAGE"] = "prod"
    try:
        for event in ("pull_request", "push", "schedule"):
            for line in commands(event):
                laptop.run(*line.split()[1:])
        laptop.run("deploy", "--yes", "--set", "max_concurrency=9")
        night, *_ = commands("schedule")
        assert "max_concurrency" in laptop.run(*night.split()[1:], "--unset", "max_concurrency", code=1).stdout
    finally:
        laptop.run("local", "down")
