"""A region is restored to a copy of its ledger by two operators whose commands are killed; then from nothing.

`METERING_DRILL_BATCHES` sets the number of batches that are metered before the copy; `make drills BATCHES=20000` sets
it, too.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from metering.adapters.aws.restoring import DynamoDbTables
from metering.adapters.aws.stacks import stack_outputs
from metering.adapters.emulator.ministack import api_address
from metering.fleet.ports import RegionStacks
from metering.hours import rfc3339
from metering.restore.steps import DEPLOY, Step
from metering.stores.objects import LEDGER_PREFIX, restore_key
from metering.units import HOUR_S
from metering.version import package_version
from tests import ROOT
from tests.e2e.conftest import wait_for
from tests.e2e.test_releases import (
    ACCOUNT,
    HOME,
    LAST_MONTH,
    STAGE,
    Checkout,
    batch,
    finished,
    record,
    send,
    send_last_month,
)
from tests.support.emulated import running_emulator

if TYPE_CHECKING:
    import subprocess

    from metering.ledger.markers import Marker

pytestmark = [pytest.mark.emulator, pytest.mark.drill]

BATCHES = int(os.environ.get("METERING_DRILL_BATCHES", "2000"))
# About what the emulator meters on two cores: it searches a long queue for each receive.
RATE = 120
KILLS = 20
# At most so many kills hit one step before the deployment, so that others hit each step.
KILLS_OF_STEP = 4
LIMIT_S = 1_800
COPY = "ledger-of-an-hour-ago"
BUDGET = "drill"
OWN = 5_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Checkout):
    """A stage of this checkout, with the stores behind it."""

    def traffic(self, manifest: Path, batches: int, *, seed: int, rate: int = RATE) -> subprocess.Popen[str]:
        sent = ("--batches", str(batches), "--records-per-batch", "10", "--seed", str(seed), "--rate", str(rate))
        return self.start("replay", "--scenario", "mixed", *sent, "--manifest", str(manifest))

    def metered(self, sent: Sent, batches: int, *, seed: int) -> None:
        """Send traffic, and wait until the queue is empty."""
        with timed(f"{batches} batches"):
            finished(self.traffic(sent.manifest(), batches, seed=seed), limit_s=LIMIT_S)
            wait_for("empty queue", lambda: not self.waiting(), limit_s=LIMIT_S)

    def accounts(self) -> dict[str, int]:
        """Bytes of this month by account, as the biller counts them."""
        return {row["account_id"]: int(row["bytes"]) for row in self.ask("accounts")["rows"]}

    def by_account(self) -> dict[str, int]:
        """Bytes of this month by account, as usage has them."""
        return {
            row["account_id"]: int(row["bytes"])
            for row in self.ask("report", "usage", "--group-by", "account_id")["rows"]
        }

    def step(self, generation: int) -> str:
        """The next step of the restore of a generation."""
        bucket = stack_outputs(self.clients, STAGE).data_bucket
        found = self.clients.s3.list_objects_v2(Bucket=bucket, Prefix=LEDGER_PREFIX).get("Contents", [])
        keys = {each["Key"] for each in found}
        if restore_key(generation) not in keys:
            return "plan"
        return next((step for step in Step if restore_key(generation, step) not in keys), DEPLOY)

    def waiting(self) -> int:
        """Number of messages in the ingest queue."""
        name: Any = "ApproximateNumberOfMessages"
        url = stack_outputs(self.clients, STAGE).ingest_queue_url
        return int(self.clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])

    def answers(self, token: str) -> int:
        """Status of the HTTP API's answer to a request with a token."""
        stack = RegionStacks.of(STAGE).api
        [found] = self.clients.cloudformation.describe_stacks(StackName=stack)["Stacks"]
        [url] = [each["OutputValue"] for each in found["Outputs"] if each["OutputKey"] == "ApiUrl"]
        base, headers = api_address(url, self.endpoint).base, {"Authorization": f"Bearer {token}"}
        params = {"account": ACCOUNT, "last": "2d"}
        return httpx.get(f"{base}/v1/usage", params=params, headers=headers, timeout=60).status_code


@dataclass(slots=True, kw_only=True)
class Sent:
    """Traffic of the stage, and the people around it.

    Attributes:
        month: The closed month; empty if last month cannot be closed today.
        tokens: A valid token, and a revoked one.
        pager: URL of a queue with the messages of the stage's topics.
        heard: Alerts that the pager got, by period and threshold of the budget.
    """

    folder: Path
    manifests: list[Path] = field(default_factory=list)
    month: str = ""
    tokens: tuple[str, str] = ("", "")
    pager: str = ""
    heard: Counter[str] = field(default_factory=Counter)

    def manifest(self) -> Path:
        self.manifests.append(self.folder / f"{len(self.manifests)}.ndjson")
        return self.manifests[-1]


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.0f} s", flush=True)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with running_emulator(4690) as running:
        yield Stage(folder=ROOT, python=Path(sys.executable), endpoint=running.endpoint, version=package_version())


def subscribed(stage: Stage) -> str:
    """URL of a queue that is subscribed to both topics."""
    clients, resources = stage.clients, stack_outputs(stage.clients, STAGE)
    url = clients.sqs.create_queue(QueueName="pager")["QueueUrl"]
    arn = clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    for topic in (resources.page_topic_arn, resources.ticket_topic_arn):
        clients.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    return url


def hear(stage: Stage, sent: Sent) -> None:
    """Take the pager's messages about budgets."""
    sqs = stage.clients.sqs
    while found := sqs.receive_message(QueueUrl=sent.pager, MaxNumberOfMessages=10, WaitTimeSeconds=2).get("Messages"):
        for each in found:
            sqs.delete_message(QueueUrl=sent.pager, ReceiptHandle=each["ReceiptHandle"])
            alert = json.loads(each["Body"])
            if alert.get("budget") == BUDGET:
                sent.heard[f"{alert['period']} {alert['threshold']} of {alert['amount']}"] += 1


@contextmanager
def traffic_goes_on(stage: Stage, sent: Sent) -> Iterator[None]:
    """Send traffic to the queue during the block."""
    ended = threading.Event()

    def send_on() -> None:
        while not ended.is_set():
            finished(stage.traffic(sent.manifest(), 60, seed=100 + len(sent.manifests), rate=3))

    thread = threading.Thread(target=send_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def restore(stage: Stage, *request: str, generation: int) -> None:
    """Two operators give the same command; they are killed at random times and give it again, `KILLS` times in all."""
    began = time.monotonic()
    chance, killed, ends = random.Random(27), Counter[str](), Counter[int | None]()
    operators = [stage.start("restore", *request, "--yes")]
    most = 0
    while killed.total() < KILLS:
        operators += [stage.start("restore", *request, "--yes") for _ in range(2 - len(operators))]
        time.sleep(chance.uniform(2, 12))
        until = time.monotonic() + LIMIT_S
        while (step := stage.step(generation)) != DEPLOY and killed[step] >= KILLS_OF_STEP:
            assert time.monotonic() < until, step
            if all(each.poll() is not None for each in operators):
                # A busy emulator gave them no answer in time.
                break
            time.sleep(0.2)
        most = max(most, stage.waiting())
        for each in chance.sample(operators, 1 + (chance.random() < 1 / 3)):
            if each.poll() is None and killed.total() < KILLS:
                os.killpg(each.pid, signal.SIGKILL)
                killed[step] += 1
            else:
                ends[each.returncode] += 1
            each.communicate()
            operators.remove(each)
    for each in operators:
        each.communicate(timeout=LIMIT_S)
        ends[each.returncode] += 1
    last = stage.start("restore", *request, "--yes")
    out, err = last.communicate(timeout=LIMIT_S)
    assert last.returncode == 0, f"{out}\n{err}"
    assert most or "--from-nothing" in request
    print(
        f"restore {' '.join(request)}: {time.monotonic() - began:.0f} s; killed in {dict(killed)}; other ends by exit "
        f"code: {dict(ends)}; at most {most} in the queue\n{out}",
        flush=True,
    )


def test_a_restored_ledger_has_everything_that_was_accepted(stage: Stage, tmp_path: Path) -> None:
    sent = Sent(folder=tmp_path)
    with timed("deployment"):
        [row] = stage.ask("region", "add", HOME, "--api", "--set", "job_timeout_s=30")["rows"]
    assert row["state"] == "ready"
    sent.pager = subscribed(stage)
    send(stage.endpoint, "IngestQueue", batch("own", [record(OWN, int(time.time()) - HOUR_S)]))
    sent.month = send_last_month(stage.endpoint)
    stage.metered(sent, BATCHES, seed=1)
    stage.proves(*sent.manifests)
    stage.run("budget", "set", BUDGET, "--account", ACCOUNT, "--amount", "100 GB", "--threshold", "actual 100%")
    kept, revoked = (stage.ask("token", "create", "--role", "analyst", "--label", each) for each in ("kept", "revoked"))
    sent.tokens = (kept["token"], revoked["token"])
    assert [stage.answers(token) for token in sent.tokens] == [200, 200]

    resources = stack_outputs(stage.clients, STAGE)
    to = rfc3339(int(time.time()))
    tables = DynamoDbTables(stage.clients, like=resources.ledger_table, retained=False)
    with timed("copy"):
        tables.copy(resources.ledger_table, COPY)

    # What the copy lacks: a seventh of the batches, a closed month with its invoice, a revoked token, an alert.
    stage.metered(sent, BATCHES // 8, seed=2)
    stage.run("compact")
    # These are in staging only.
    stage.metered(sent, BATCHES // 24, seed=3)
    stage.proves(*sent.manifests)
    stage.run("token", "revoke", revoked["token_id"], "--yes")
    stage.run("budget", "set", BUDGET, "--account", ACCOUNT, "--amount", "1 GB", "--threshold", "actual 100%", "--yes")
    if sent.month:
        stage.run("period", "close", sent.month, "--yes")
        stage.run("invoice", "issue", "--month", sent.month, "--prices", "sample", "--payer", ACCOUNT, "--yes")
    stage.run("budget", "update")
    before = people_see(stage)
    hear(stage, sent)
    assert list(sent.heard.values()) == [1]
    accepted, copied = stage.accepted(), stage.accepted(COPY)
    print(f"{len(accepted)} batches accepted, {len(copied)} of them in the copy", flush=True)
    assert len(accepted) - len(copied) >= len(accepted) / 10

    with traffic_goes_on(stage, sent):
        restore(stage, "--to", to, "--from-copy", COPY, generation=2)
    holds(stage, sent, accepted, before)

    # The ledger of the home region is gone, with its restore points.
    accepted = stage.accepted()
    stage.clients.dynamodb.delete_table(TableName=stack_outputs(stage.clients, STAGE).ledger_table)
    restore(stage, "--from-nothing", generation=3)
    holds(stage, sent, accepted, before)
    stage.run("restore", "finish", "--yes")
    assert [name for name in stage.clients.dynamodb.list_tables()["TableNames"] if "ledger" in name.lower()] == [
        COPY,
        f"metering-{STAGE}-ledger-3",
    ]


def people_see(stage: Stage) -> dict[str, object]:
    """An account, and its budget with its state."""
    account = {row["account_id"]: row for row in stage.ask("accounts")["rows"]}[ACCOUNT]
    [budget] = stage.ask("budget", "list")["rows"]
    [check] = stage.ask("budget", "check", BUDGET)["rows"]
    kept = ("budget", "actual", "crossed", "alerts")
    return {"account": account, "budget": budget, "check": {name: check[name] for name in kept}}


def facts(marker: Marker) -> tuple[object, ...]:
    counts = (marker.records, marker.metered, marker.refused, marker.hours)
    return (marker.content_hash, *counts, marker.sender_id, marker.source_id, marker.sequence)


def holds(stage: Stage, sent: Sent, accepted: dict[str, Marker], before: dict[str, object]) -> None:
    """Check that every view has what was sent, and that nothing that people did is undone."""
    with timed("checks"):
        stage.proves(*sent.manifests)
        now = stage.accepted()
        assert {name: facts(now[name]) for name in accepted if name in now} == {
            name: facts(marker) for name, marker in accepted.items()
        }
        stage.run("compact")
        assert stage.ask("reconcile", "--deep")["different"] == 0
        seen = stage.views(sent.manifests, beside=OWN + (LAST_MONTH if sent.month else 0))
        print(f"{len(now)} batches accepted; {seen}", flush=True)
        assert len(set(seen.values())) == 1, seen
        if sent.month:
            stage.run("period", "verify", sent.month)
            stage.run("invoice", "verify", f"{ACCOUNT}-{sent.month}-1")
        stage.run("budget", "update")
        assert people_see(stage) == before
        assert stage.accounts() == stage.by_account()
        hear(stage, sent)
        assert list(sent.heard.values()) == [1]
        assert [stage.answers(token) for token in sent.tokens] == [200, 401]
