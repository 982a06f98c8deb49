"""Regions on MiniStack: built side by side, killed and resumed, reported and verified as one.

METERING_REGION_KILLS sets how often a build is killed at a random moment: 3 in `make drills`, unless it says more.
"""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from metering.adapters.aws.session import Access, Clients
from metering.adapters.emulator import ministack as emulator

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.emulator, pytest.mark.regions]

ROOT = Path(__file__).resolve().parents[2]
HOME = "us-east-1"
ALLOWED = (HOME, "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1", "sa-east-1")
INVENTED = "ap-southeast-9"
KILLS = int(os.environ.get("METERING_REGION_KILLS", "3"))
# A build takes about this long on a quiet machine of 2 cores; later kills would find nothing to interrupt.
BUILD_S = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A MiniStack of its own over plain http."""

    endpoint: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("metering")), *arguments, "--endpoint", self.endpoint],
            cwd=ROOT,
            env={n: v for n, v in os.environ.items() if not n.startswith(("AWS_", "METERING_", "LOCALST"))},
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
    running = emulator.start(emulator.free_port(4660), region=HOME)
    try:
        yield World(endpoint=running.endpoint)
    finally:
        emulator.stop(running.pid)


def is_busy() -> bool:
    """Whether the machine has more to do than this test: then seconds say nothing of the service."""
    return os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


@pytest.fixture(scope="module")
def built(world: World) -> World:
    """The six regions that the local stage allows, built by one command."""
    busy = is_busy()
    began = time.monotonic()
    answer = world.ask("region", "reconcile")
    assert busy or time.monotonic() - began < 180
    assert {row["region"]: row["state"] for row in answer["rows"]} == dict.fromkeys(ALLOWED, "ready")
    return world


def inventory(world: World, region: str) -> Counter[str]:
    """What there is of each kind in a region, by name without its random part."""
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


def changed_files() -> str:
    done = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_reconcile_builds_what_is_allowed_and_a_second_run_does_nothing_in_seconds(built: World) -> None:
    busy = is_busy()
    began = time.monotonic()
    done = built.run("region", "reconcile", "--format", "json")
    assert done.returncode == 0
    assert "No region is missing" in done.stderr
    assert busy or time.monotonic() - began < 10
    plan = built.ask("region", "plan")["rows"]
    assert {row["region"] for row in plan if row["plan"] == "ready"} == set(ALLOWED)
    assert not [row for row in plan if row["plan"] == "build"]


@pytest.mark.drill
def test_a_region_that_does_not_exist_is_ready_after_kills_at_random_moments_without_doubles(built: World) -> None:
    random_moment = random.Random(20261124)
    before = changed_files()
    killed = 0
    for attempt in range(KILLS):
        # Each drill has a region of its own; the first is the one that people know from the documentation.
        region = INVENTED if attempt == 0 else f"{INVENTED}{attempt}"
        process = built.start("region", "add", region)
        try:
            process.communicate(timeout=random_moment.uniform(1.0, BUILD_S))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
        [row] = built.ask("region", "add", region)["rows"]
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
        built.ask(
            "replay", "--scenario", "mixed", "--batches", "30", "--records-per-batch", "5", "--seed", str(number + 1),
            "--manifest", manifest, "--region", region,
        )  # fmt: skip
        manifests += ["--manifest", manifest]
    result = built.ask("verify", "--region", "all", *manifests, "--wait", "3m")
    assert result["passed"]
    assert not result["lost"]
    assert not result["doubled"]
    parts = [built.ask("report", "usage", "--region", region) for region in ALLOWED]
    whole = built.ask("report", "usage", "--region", "all")
    assert set(ALLOWED) <= set(whole["regions"])
    assert sum(int(row["bytes"]) for row in whole["rows"]) == sum(
        int(row["bytes"]) for part in parts for row in part["rows"]
    )


@pytest.mark.drill
def test_a_batch_that_was_sent_to_two_regions_is_named(built: World) -> None:
    record = {
        "account_id": "123456789012", "service": "AmazonEC2", "resource_id": "i-0", "direction": "out",
        "from": "us-east-1", "to": "internet", "bytes": 1, "start": int(time.time()), "end": int(time.time()),
    }  # fmt: skip
    body = {"schema": "metering.batch/1", "batch_id": "sent-twice", "record_count": 1, "records": [record]}
    for region in ALLOWED[:2]:
        clients = built.clients(region)
        [url] = [u for u in clients.sqs.list_queues()["QueueUrls"] if "IngestQueue" in u]
        clients.sqs.send_message(QueueUrl=url, MessageBody=json.dumps(body))
    done = built.run("verify", "--region", "all", "--wait", "2m", "--format", "json")
    assert done.returncode == 1
    [problem] = json.loads(done.stdout)["unexpected"]
    assert problem["batch"] == "sent-twice"
    assert ALLOWED[0] in problem["problem"]
    assert ALLOWED[1] in problem["problem"]


@pytest.mark.drill
def test_the_commands_of_all_runbooks_run(built: World) -> None:
    folder = ROOT / "docs" / "runbooks"
    lines = {line for path in folder.glob("*.md") for line in re.findall(r"^\$ metering (.+)$", path.read_text(), re.M)}
    for line in sorted(lines):
        done = built.run(*shlex.split(line))
        # 1 is an answer (something is wrong there), 2 is a command that does not exist, and a traceback is a bug.
        answers = {0} if line.startswith("region add") else {0, 1}
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
