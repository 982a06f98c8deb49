"""Regions on MiniStack: parallel, killed and resumed builds, shared reports and verification; rehearsal of stage prod.

METERING_REGION_KILLS sets how often a build is killed at a random time: 3 in `make drills` by default.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import metering
from metering.adapters.aws.session import Access, Clients
from metering.operations.runbooks import commands_by_part
from metering.version import package_version
from tests import ROOT
from tests.e2e.conftest import plain_environment
from tests.e2e.oncall import UNDRILLED
from tests.support.emulated import running_emulator

pytestmark = [pytest.mark.emulator, pytest.mark.regions]

HOME = "us-east-1"
ALLOWED = (HOME, "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1", "sa-east-1")
# The gate builds these regions one at a time. The drills build the other regions in parallel.
FIRST = (HOME, "eu-west-1")
INVENTED = "ap-southeast-9"
KILLS = int(os.environ.get("METERING_REGION_KILLS", "3"))
PAGER = json.dumps([{"severity": "page", "protocol": "email", "endpoint": "oncall@example.com"}])
# On an idle machine with 2 cores, a build takes about this long; later kills would interrupt nothing.
BUILD_S = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A separate MiniStack for these tests, over plain http."""

    endpoint: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("metering")), *arguments, "--endpoint", self.endpoint],
            cwd=ROOT,
            env=plain_environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, timeout_s: float = 400) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"{' '.join(arguments)} took longer than {timeout_s} s:\n{out}\n{err}")
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def ask(self, *arguments: str, timeout_s: float = 400) -> Any:
        done = self.run(*arguments, "--format", "json", timeout_s=timeout_s)
        assert done.returncode == 0, f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def clients(self, region: str) -> Clients:
        return Clients(Access(region=region, endpoint_url=self.endpoint, access_key=("test", "test")))


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with running_emulator(4660) as running:
        yield World(endpoint=running.endpoint)


def is_busy() -> bool:
    """Whether the machine is under so much other load that durations are meaningless."""
    return os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


@pytest.fixture(scope="module")
def first(world: World) -> World:
    """Two regions, built by one command."""
    given = ("--set", f"rollout={json.dumps({'allow': FIRST})}", "--set", f"subscriptions={PAGER}")
    answer = world.ask("region", "reconcile", *given)
    assert {row["region"]: row["state"] for row in answer["rows"]} == dict.fromkeys(FIRST, "ready")
    return world


@pytest.fixture(scope="module")
def built(first: World) -> World:
    """All six regions of the local stage; one command builds the regions that are missing."""
    busy = is_busy()
    began = time.monotonic()
    # Settings given by --set are kept.
    answer = first.ask("region", "reconcile", "--unset", "rollout.allow")
    assert busy or time.monotonic() - began < 180
    assert {row["region"]: row["state"] for row in answer["rows"]} == dict.fromkeys(ALLOWED, "ready")
    return first


def inventory(world: World, region: str) -> Counter[str]:
    """Numbers of a region's resources, by kind, and by name without random parts."""
    clients = world.clients(region)
    found: Counter[str] = Counter()
    found["queues"] = len(clients.sqs.list_queues().get("QueueUrls", []))
    found["tables"] = len(clients.dynamodb.list_tables()["TableNames"])
    found["functions"] = len(clients.lambda_.list_functions()["Functions"])
    found["topics"] = len(clients.sns.list_topics()["Topics"])
    found["rules"] = len(clients.events.list_rules()["Rules"])
    found["mappings"] = len(clients.lambda_.list_event_source_mappings()["EventSourceMappings"])
    found["alarms"] = len(clients.cloudwatch.describe_alarms()["MetricAlarms"])
    found["stacks"] = len(clients.cloudformation.list_stacks(StackStatusFilter=["CREATE_COMPLETE"])["StackSummaries"])
    return found


def record(size: int) -> dict[str, Any]:
    now_s = int(time.time())
    return {
        "account_id": "123456789012", "service": "AmazonEC2", "resource_id": "i-0", "direction": "out",
        "from": "us-east-1", "to": "internet", "bytes": size, "start": now_s, "end": now_s,
    }  # fmt: skip


def changed_files() -> str:
    done = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.drill
def test_reconcile_builds_what_is_allowed_and_a_second_run_does_nothing_in_seconds(first: World) -> None:
    busy = is_busy()
    began = time.monotonic()
    done = first.run("region", "reconcile", "--format", "json")
    assert done.returncode == 0
    assert "No region is missing" in done.stderr
    assert busy or time.monotonic() - began < 10
    plan = first.ask("region", "plan")["rows"]
    assert {row["region"] for row in plan if row["plan"] == "ready"} == set(FIRST)
    assert not [row for row in plan if row["plan"] == "build"]


@pytest.mark.drill
def test_stage_prod_is_rehearsed_beside_another_stage_and_meters_a_batch(first: World) -> None:
    """B7: stage prod has its own settings and protection, and the other stage's assets bucket exists."""
    [row] = first.ask("deploy", "--stage", "prod", "--set", f"subscriptions={PAGER}")["rows"]
    assert (row["state"], row["reason"]) == ("ready", "")

    [row] = first.ask("region", "status", "--stage", "prod")["rows"]
    assert (row["version"], row["rehearsal"], row["pagers"]) == (package_version(), True, 1)
    clients = first.clients(HOME)
    [stack] = clients.cloudformation.describe_stacks(StackName="metering-prod-data")["Stacks"]
    assert stack["EnableTerminationProtection"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
    assert clients.s3.get_bucket_versioning(Bucket=outputs["DataBucketName"])["Status"] == "Enabled"

    body = {"schema": "metering.batch/1", "batch_id": "rehearsed", "record_count": 1, "records": [record(41_943_040)]}
    clients.sqs.send_message(QueueUrl=outputs["IngestQueueUrl"], MessageBody=json.dumps(body))
    assert first.ask("verify", "--stage", "prod", "--wait", "2m")["passed"]
    [row] = first.ask("report", "usage", "--stage", "prod", "--account", "123456789012")["rows"]
    assert (row["bytes"], row["records"]) == ("41943040", 1)
    check = first.run("upgrade", "--stage", "prod", "--check", "--format", "json")
    assert [(row["way"], row["settings"]) for row in json.loads(check.stdout)["rows"]] == [("same", "same")]


@pytest.mark.drill
def test_settings_and_the_pager_outlive_the_redeployment_of_a_runbook(first: World) -> None:
    """The drill test_kept_settings covers configuration files, --unset and a second start.

    Runs well after the build, because two canaries never run in the same minute.
    """
    done = first.run("region", "add", FIRST[1], "--redeploy", "--no-pager", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert f"{FIRST[1]}: settings: nothing changes" in done.stderr
    shown = first.ask("settings", "show", "--all", "--region", FIRST[1])["rows"]
    assert {row["setting"] for row in shown if row["by"] == "set"} == {"rollout.allow", "subscriptions"}
    told = first.ask("alerts", "test", "--region", FIRST[1])["rows"]
    assert ("page", "oncall@example.com", "sent") in {(r["severity"], r["subscriber"], r["state"]) for r in told}


@pytest.mark.drill
def test_a_region_that_does_not_exist_is_ready_after_kills_at_random_moments_without_doubles(built: World) -> None:
    random_moment = random.Random(20261124)
    before = changed_files()
    killed = 0
    for attempt in range(KILLS):
        # Each drill has its own region; the first region is the region of the documentation.
        region = INVENTED if attempt == 0 else f"{INVENTED}{attempt}"
        # The home region keeps the rules of its first deployment.
        process = built.start("region", "add", region, "--outside-rules")
        try:
            process.communicate(timeout=random_moment.uniform(1.0, BUILD_S))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
        [row] = built.ask("region", "add", region, "--outside-rules")["rows"]
        assert row["state"] == "ready"
        assert row["listed"] is False
        assert inventory(built, region) == inventory(built, ALLOWED[1])
    assert killed
    assert changed_files() == before


@pytest.mark.drill
def test_traffic_in_every_region_is_reported_and_verified_as_one(built: World, tmp_path: Path) -> None:
    manifests: list[str] = []
    for number, region in enumerate(ALLOWED):
        manifest = str(tmp_path / f"{region}.ndjson")
        # The first two regions have the same batches, because ids are unique only within a region.
        built.ask(
            "replay", "--scenario", "mixed", "--batches", "30", "--records-per-batch", "5", "--seed", str(number or 1),
            "--manifest", manifest, "--region", region,
        )  # fmt: skip
        manifests += ["--manifest", manifest]
    result = built.ask("verify", "--region", "all", *manifests, "--wait", "3m")
    assert result["passed"]
    assert not result["lost"]
    assert not result["doubled"]
    # Late usage may belong to last month, so the query below covers all time.
    usage = ("report", "usage", "--last", "3m")
    parts = [built.ask(*usage, "--region", region) for region in ALLOWED]
    whole = built.ask(*usage, "--region", "all")
    assert set(ALLOWED) <= set(whole["regions"])
    assert sum(int(row["bytes"]) for row in whole["rows"]) == sum(
        int(row["bytes"]) for part in parts for row in part["rows"]
    )
    by_region = built.ask(*usage, "--region", "all", "--group-by", "region")["rows"]
    assert {row["region"]: int(row["bytes"]) for row in by_region} == {
        region: sum(int(row["bytes"]) for row in part["rows"]) for region, part in zip(ALLOWED, parts, strict=True)
    }
    sql = "SELECT region, sum(bytes) AS bytes FROM usage GROUP BY region ORDER BY region"
    assert built.ask("query", sql, "--region", "all")["rows"] == by_region_of(by_region)
    assert built.ask("query", sql, "--region", HOME)["rows"] == by_region_of(
        [row for row in by_region if row["region"] == HOME]
    )
    assert_python_reads_the_same(built)


def assert_python_reads_the_same(world: World) -> None:
    """A Python program reads usage and jointly rated costs of all regions."""
    connection = metering.connect(stage="local", region="all", endpoint=world.endpoint)
    for table, command in (
        (connection.usage(group_by=["region", "account_id"]), ("report", "usage")),
        (connection.cost(group_by=["region", "account_id"], prices="sample"), ("cost", "--prices", "sample")),
    ):
        answer = world.ask(*command, "--region", "all", "--group-by", "region,account_id")
        figures = {field.name for field in table.schema if str(field.type).startswith("decimal")}
        assert table.to_pylist() == [
            {name: Decimal(value) if value and name in figures else value for name, value in row.items()}
            for row in answer["rows"]
        ]
        assert connection.about(table)["regions"] == answer["regions"]
    one = metering.connect(stage="local", region=HOME, endpoint=world.endpoint)
    assert one.cost(prices="sample").num_rows == len(world.ask("cost", "--prices", "sample", "--region", HOME)["rows"])


READERS = (
    "sources", "quarantine list", "dlq list", "status", "alerts list", "period list", "period show 2026-10",
    "reconcile", "storage report", "audit", "settings show",
)  # fmt: skip


@pytest.mark.drill
def test_every_reader_merges_the_regions(built: World) -> None:
    for line in READERS:
        done = built.run(*line.split(), "--region", "all", "--format", "json")
        # Exit code 1 is valid, too, because a region may have a problem.
        assert done.returncode in {0, 1}, f"{line}: {done.stderr}"
        rows = json.loads(done.stdout)["rows"]
        # The regions of the drill with kills are outside the rules, and read like all others.
        assert {row["region"] for row in rows if not row["region"].startswith(INVENTED)} <= set(ALLOWED), line


def by_region_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"region": row["region"], "bytes": row["bytes"]} for row in rows]


@pytest.mark.drill
def test_the_commands_of_runbooks_that_no_drill_follows_run(built: World) -> None:
    filled = {"SOURCE": "edge-7f3a"}
    pages = [built.run("runbook", name, "--region", HOME, "--stage", "local").stdout for name in sorted(UNDRILLED)]
    for line in sorted({line for page in pages for _, line in commands_by_part(page)}):
        words = [filled.get(word, word) for word in shlex.split(line)[1:]]
        done = built.run(*words)
        # Exit code 1 is valid (a problem in the region); 2 means an unknown command, and a traceback is a bug.
        answers = {0} if words[:2] == ["region", "add"] else {0, 1}
        assert done.returncode in answers, f"{line}: {done.stderr}"
        assert "Traceback" not in done.stderr, f"{line}: {done.stderr}"


@pytest.mark.drill
def test_a_region_with_batches_in_flight_stays_and_one_at_rest_goes_but_for_its_data(built: World) -> None:
    region = ALLOWED[-1]
    clients = built.clients(region)
    [mapping] = clients.lambda_.list_event_source_mappings()["EventSourceMappings"]
    clients.lambda_.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    [url] = [u for u in clients.sqs.list_queues()["QueueUrls"] if "IngestQueue" in u]
    clients.sqs.send_message(QueueUrl=url, MessageBody="{}")
    refused = built.run("region", "remove", region)
    assert refused.returncode == 1
    assert "in flight" in refused.stderr

    clients.sqs.purge_queue(QueueUrl=url)
    [row] = built.ask("region", "remove", region)["rows"]
    assert row["state"] == "removed"
    assert inventory(built, region)["tables"] == 2
    assert inventory(built, region)["functions"] == 0
    assert region in built.ask("report", "usage", "--region", "all")["regions"]
